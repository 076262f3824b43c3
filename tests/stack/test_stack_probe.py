"""The probe of a stack with the parameter Probe: an event each minute, whose lateness is a metric.

By its name this file is the last one, so that the first event is due when its tests begin.
"""

from tests.stack.conftest import MAX_LATENESS
from tests.stack.logs import wait_for_entry
from tools.local import LocalStack

# The schedule begins at the next minute, the delay is 90 s, and an emulator with other tests is slow.
PROBE_SECONDS = 180


def test_the_lateness_of_its_events_is_a_metric_of_the_stack(other: LocalStack):
    """Some are late: test_stack.py keeps sweeps from their lanes."""

    def milliseconds(entry: dict) -> list[float]:
        return entry["Lateness"] if "_aws" in entry else []

    def is_punctual(entry: dict) -> bool:
        return any(0 <= late < MAX_LATENESS.total_seconds() * 1000 for late in milliseconds(entry))

    entries = wait_for_entry(other.client("logs"), other.physical_id("ProbeLog"), is_punctual, PROBE_SECONDS)
    assert any(map(is_punctual, entries)), entries
    assert min(late for entry in entries for late in milliseconds(entry)) >= 0
