"""Hold: the fraction of a second, never early."""

import subprocess
import sys
import time

import pytest
from punctual_core import hold

from tools.cloudformation import ROOT


class Clock:
    """A clock that only sleep moves; `lags` is the part of each sleep that passes."""

    def __init__(self):
        self.now, self.slept, self.lags = 1_000.0, [], 1.0

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds * self.lags


@pytest.fixture
def clock(monkeypatch) -> Clock:
    monkeypatch.setattr(hold, "time", clock := Clock())
    return clock


@pytest.mark.parametrize(
    ("due_ms", "slept"),
    [(1_000_000, []), (999_999, []), (0, []), (1_000_250, [0.25]), (1_001_500, [1.5])],
    ids=["due now", "past", "long past", "a quarter", "the longest"],
)
def test_it_sleeps_until_the_event_is_due_and_no_longer(clock, due_ms, slept):
    """By a clock that stands at 1,000 s: not at all for what is due, and 1.5 s for the longest that is asked for."""
    hold.handler({"due_ms": due_ms}, None)
    assert clock.slept == slept


def test_it_sleeps_again_if_the_clock_lags_behind(clock):
    """Never early: sleep follows another clock, so it sleeps until the one that counts says that the event is due."""
    clock.lags = 0.5
    hold.handler({"due_ms": 1_001_000}, None)
    assert clock.slept[:3] == [1.0, 0.5, 0.25] and clock.now == 1_001.0


def test_it_refuses_what_it_could_not_wait_for(clock):
    """Its timeout is 2 s: it would be ended in the middle, and a function is not the place to wait."""
    with pytest.raises(ValueError, match="not a fraction"):
        hold.handler({"due_ms": 1_002_000}, None)
    assert not clock.slept


def test_it_reads_the_clock_that_says_what_is_due():
    """Never early, by the machine's time of day."""
    due_ms = int((time.time() + 0.03) * 1000)
    hold.handler({"due_ms": due_ms}, None)
    assert time.time() * 1000 >= due_ms


def test_it_imports_little():
    """It has half a second to start: neither the AWS SDK nor pydantic is in its way."""
    code = "import punctual_core.hold, sys; print(*(name.split('.')[0] for name in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "functions", capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    assert "punctual_core" in loaded
    assert not loaded & {"boto3", "botocore", "pydantic", "aws_lambda_powertools"}
