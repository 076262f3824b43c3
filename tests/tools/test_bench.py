"""The benchmark's arithmetic and load, on data whose answer is known."""

from datetime import UTC, datetime, timedelta

import pytest

from tools.bench.lateness import BASELINE, HEADS, PUNCTUAL, Event, figures, percentile, plan

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(("percent", "expected"), [(50, 500), (99, 990), (100, 1000)])
def test_a_percentile_is_the_value_at_its_rank(percent: float, expected: float):
    assert percentile(range(1000, 0, -1), percent) == expected


def test_each_event_has_a_twin_in_the_baseline_that_is_due_at_the_same_time():
    events = plan(NOON, rate=4, seconds=10, horizon=8)
    ours, twins = ({(e.number, e.due) for e in events if e.path == path} for path in (PUNCTUAL, BASELINE))
    assert ours == twins
    assert sum(event.is_parked for event in events) == len(events) / 2
    assert all(e.due - e.send_at > timedelta(seconds=18) for e in events if e.is_parked and e.path == PUNCTUAL)
    assert all(e.due - e.send_at <= timedelta(seconds=8 + 1) for e in events if e.path == BASELINE)


def test_early_missing_and_repeated_events_are_counted_and_the_warm_up_is_in_no_percentile():
    def seen(*late_ms: float, is_counted: bool = True) -> Event:
        copies = [NOON + timedelta(milliseconds=late) for late in late_ms]
        return Event(1, PUNCTUAL, False, NOON, NOON, is_counted, copies)

    row, by_ingest = figures([seen(-1), seen(30, 20), seen(), seen(900, is_counted=False)])
    assert HEADS[1:] == ["events", "early", "missing", "repeated", "p50", "p90", "p99", "max"]
    assert row == ["Punctual, whole second", "4", "1", "1", "1", "-1", "20", "20", "20"]
    assert by_ingest[0] == "- started by Ingest, whole second"
