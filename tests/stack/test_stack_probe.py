"""The probe of a stack with the parameter Probe: an event each minute, whose lateness is a metric.

By its name this file is the last one, so that the first event is due when its tests begin.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.stack.conftest import MAX_LATENESS
from tests.stack.logs import wait_for_lines
from tools.local import LocalStack

# The schedule begins at the next minute, the delay is 90 s, and an emulator with other tests is slow.
PROBE_SECONDS = 180
DELAY = timedelta(seconds=90)
LONGEST_HORIZON = timedelta(seconds=63)


@pytest.fixture(scope="module")
def lateness(other: LocalStack) -> list[float]:
    """The values of the metric in the function's log, in milliseconds."""

    def values(lines: list[str]) -> list[float]:
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [value for entry in entries if "_aws" in entry for value in entry["Lateness"]]

    def is_punctual(milliseconds: float) -> bool:
        return milliseconds < MAX_LATENESS.total_seconds() * 1000

    # Some are late: test_stack.py keeps sweeps from their lanes.
    group = other.physical_id("ProbeLog")
    lines = wait_for_lines(
        other.client("logs"), group, lambda lines: any(map(is_punctual, values(lines))), PROBE_SECONDS
    )
    return values(lines)


@pytest.fixture(scope="module")
def execution(other: LocalStack, lateness: list[float]) -> dict[str, Any]:
    """The first execution of Deliver for an event of the probe."""
    for summary in reversed(other.executions(other.outputs["DeliverArn"])):
        description = other.client("stepfunctions").describe_execution(executionArn=summary["executionArn"])
        if json.loads(description["input"])["publish"]["Message"] == "probe":
            return description
    pytest.fail("no event of the probe was started")


def test_the_schedule_publishes_an_event_each_minute(other: LocalStack):
    schedule = other.client("scheduler").get_schedule(Name=other.physical_id("ProbeSchedule"))
    assert (schedule["ScheduleExpression"], schedule["State"]) == ("cron(* * * * ? *)", "ENABLED")
    assert schedule["Target"]["Arn"] == other.outputs["InputTopicArn"]
    assert json.loads(schedule["Target"]["Input"]) == {
        "delay": DELAY.total_seconds(),
        "target": other.physical_id("ProbeTopic"),
        "user": "other",
        "payload": "probe",
    }


def test_its_event_is_parked_and_started_by_a_sweep(execution: dict[str, Any]):
    """It starts within the longest horizon before it is due, and not when it was published."""
    due = datetime.fromtimestamp(json.loads(execution["input"])["due_ms"] / 1000, UTC)
    assert due - execution["startDate"] < LONGEST_HORIZON < DELAY


def test_its_event_has_a_fraction_of_a_second(execution: dict[str, Any]):
    """From the time at which SNS accepted it, so that Hold delivers it."""
    assert "wake_at" in json.loads(execution["input"])


def test_its_lateness_is_a_metric_of_the_stack(other: LocalStack, lateness: list[float]):
    assert lateness, f"no metric within {PROBE_SECONDS} s"
    assert 0 <= min(lateness) < MAX_LATENESS.total_seconds() * 1000, lateness
