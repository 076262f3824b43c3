"""The probe of a stack with the parameter Probe: an event each minute, whose lateness is a metric.

By its name this file is the last one, so that the first event is due when its tests begin.
"""

import json

from tests.stack.conftest import MAX_LATENESS
from tests.stack.logs import wait_for_lines
from tools.local import LocalStack

# The schedule begins at the next minute, the delay is 90 s, and an emulator with other tests is slow.
PROBE_SECONDS = 180


def test_the_lateness_of_its_events_is_a_metric_of_the_stack(other: LocalStack):
    """Some are late: test_stack.py keeps sweeps from their lanes."""

    def milliseconds(lines: list[str]) -> list[float]:
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [value for entry in entries if "_aws" in entry for value in entry["Lateness"]]

    def is_any_punctual(lines: list[str]) -> bool:
        return any(0 <= late < MAX_LATENESS.total_seconds() * 1000 for late in milliseconds(lines))

    lines = wait_for_lines(other.client("logs"), other.physical_id("ProbeLog"), is_any_punctual, PROBE_SECONDS)
    assert is_any_punctual(lines), milliseconds(lines)
    assert min(milliseconds(lines)) >= 0
