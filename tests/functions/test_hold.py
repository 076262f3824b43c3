"""Hold: the fraction of a second, never early."""

import subprocess
import sys
import time

import pytest
from punctual_core import hold

from tools.cloudformation import ROOT


def due_in(seconds: float) -> dict:
    return {"due_ms": int((time.time() + seconds) * 1000)}


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 10, 30])
def test_it_returns_when_the_event_is_due_and_not_before(milliseconds):
    """Never early, by the clock that says what is due."""
    event = due_in(milliseconds / 1000)
    hold.handler(event, None)
    assert time.time() * 1000 >= event["due_ms"]


def test_it_does_not_trust_sleep(monkeypatch):
    """Sleep follows another clock and may end early: then it sleeps again."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds / 2))
    event = due_in(0.02)
    hold.handler(event, None)
    assert time.time() * 1000 >= event["due_ms"]


@pytest.mark.parametrize("due_ms", [1577836800500, 0])
def test_it_returns_at_once_for_a_past_time(monkeypatch, due_ms):
    """A late event does not wait."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("slept"))
    hold.handler({"due_ms": due_ms}, None)


def test_it_refuses_more_than_a_fraction(monkeypatch):
    """A function is not the place to wait: an execution never asks for more than three seconds."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("slept"))
    with pytest.raises(ValueError, match="not a fraction"):
        hold.handler(due_in(4), None)


class Clock:
    """A clock that only sleep moves; `lags` is the part of each sleep that passes."""

    def __init__(self, lags: float = 1.0):
        self.now, self.slept, self._lags = 1_000.0, [], lags

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds * self._lags


@pytest.mark.parametrize(
    ("due_ms", "slept"),
    [(1_000_000, []), (999_999, []), (1_000_250, [0.25]), (1_003_000, [3.0])],
    ids=["due now", "past", "a quarter", "three seconds"],
)
def test_it_sleeps_until_the_event_is_due_and_no_longer(monkeypatch, due_ms, slept):
    """By a clock that stands at 1,000 s: not at all for what is due, and at most three seconds."""
    clock = Clock()
    monkeypatch.setattr(hold, "time", clock)
    hold.handler({"due_ms": due_ms}, None)
    assert clock.slept == slept


def test_it_sleeps_again_if_the_clock_lags_behind(monkeypatch):
    """Half of each sleep passes: it sleeps for the rest until none is left."""
    clock = Clock(lags=0.5)
    monkeypatch.setattr(hold, "time", clock)
    hold.handler({"due_ms": 1_001_000}, None)
    assert clock.slept[:3] == [1.0, 0.5, 0.25] and clock.now == 1_001.0


def test_it_imports_little():
    """It has half a second to start: neither the AWS SDK nor pydantic is in its way."""
    code = "import punctual_core.hold, sys; print(*(name.split('.')[0] for name in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "functions", capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    assert "punctual_core" in loaded
    assert not loaded & {"boto3", "botocore", "pydantic", "aws_lambda_powertools"}
