"""Hold: the fraction of a second, never early."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from scheduler import hold

from tests.cloudformation import ROOT


def due_in(seconds: float) -> dict:
    return {"due": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")}


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 10, 30])
def test_it_returns_when_the_event_is_due_and_not_before(milliseconds):
    """Not a microsecond early, by the clock that says what is due."""
    event = due_in(milliseconds / 1000)
    hold.handler(event, None)
    assert datetime.now(UTC) >= datetime.fromisoformat(event["due"])


def test_it_does_not_trust_sleep(monkeypatch):
    """Sleep follows another clock and may end early: then it sleeps again."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds / 2))
    event = due_in(0.02)
    hold.handler(event, None)
    assert datetime.now(UTC) >= datetime.fromisoformat(event["due"])


@pytest.mark.parametrize("due", ["2020-01-01T00:00:00.5Z", "1969-12-31T23:59:59.999999Z"])
def test_what_is_past_returns_at_once(monkeypatch, due):
    """A late event does not wait."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("slept"))
    hold.handler({"due": due}, None)


def test_it_refuses_what_is_not_a_fraction(monkeypatch):
    """A function is not the place to wait: whoever asks for more than three seconds is not the workflow."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("slept"))
    with pytest.raises(ValueError, match="not a fraction"):
        hold.handler(due_in(4), None)


def test_it_imports_next_to_nothing():
    """It has half a second to start: neither the AWS SDK nor pydantic is in its way."""
    code = "import scheduler.hold, sys; print(*(name.split('.')[0] for name in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "functions", capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    assert "scheduler" in loaded
    assert not loaded & {"boto3", "botocore", "pydantic", "aws_lambda_powertools"}
