"""The benchmark's sums, on data whose answer is known."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

import tools.bench.__main__ as bench
from tools.bench.lateness import (
    FLOOR,
    FLOOR_WITH_HOLD,
    PARKED_SECONDS,
    PUNCTUAL,
    WARM_UP_SECONDS,
    Load,
    Probe,
    clock_offset,
    figures,
    observe,
    percentile,
    plan,
)
from tools.local import Arrival

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
A_MILLISECOND = timedelta(milliseconds=1)
NO_OFFSET = timedelta(0)


def after(milliseconds: float) -> datetime:
    return NOON + milliseconds * A_MILLISECOND


def probe(number: int = 0, path: str = PUNCTUAL, far: bool = False, due: datetime = NOON, warm: bool = True) -> Probe:
    return Probe(number, path, far, due, due - timedelta(seconds=6), warm)


def arrival(of: Probe, in_queue_ms: float, received_ms: float) -> Arrival:
    return Arrival(
        topic="arn:aws:sns:eu-central-1:000000000000:bench",
        message=f'{{"number": {of.number}, "path": "{of.path}"}}',
        subject=None,
        attributes={},
        message_id="m",
        published_at=of.due,
        sent_at=of.due + in_queue_ms * A_MILLISECOND,
        received_at=of.due + received_ms * A_MILLISECOND,
    )


def row_of(rows: list[dict], path: str, distance: str = "all", date: str = "whole second") -> dict:
    [row] = [row for row in rows if (row["path"], row["distance"], row["date"]) == (path, distance, date)]
    return row


# --- Percentiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "expected"), [(0.1, 1), (50, 500), (90, 900), (99, 990), (99.9, 999), (99.91, 1000), (100, 1000)]
)
def test_a_percentile_is_the_value_at_its_rank(percent, expected):
    assert percentile(range(1000, 0, -1), percent) == expected


def test_of_few_values_the_high_percentiles_are_the_largest():
    assert [percentile([3, 1, 2], percent) for percent in (50, 90, 99.9)] == [2, 3, 3]
    assert percentile([7], 50) == 7


# --- Lateness ---------------------------------------------------------------------------------------------------------


def test_lateness_is_counted_from_the_due_time_and_the_consumers_clock_is_corrected():
    event = probe(due=NOON + timedelta(milliseconds=250))
    [seen] = observe([event], [arrival(event, 12, 40)], offset=timedelta(milliseconds=5))
    assert (seen.in_queue_ms, seen.received_ms, seen.times) == (12, 45, 1)


def test_a_repeated_event_counts_when_it_first_came():
    event = probe()
    [seen] = observe([event], [arrival(event, 90, 95), arrival(event, 10, 99)], NO_OFFSET)
    assert (seen.in_queue_ms, seen.times) == (10, 2)


def test_twins_on_two_paths_are_told_apart():
    ours, floor = probe(path=PUNCTUAL), probe(path=FLOOR)
    seen = observe([ours, floor], [arrival(ours, 20, 20), arrival(floor, 10, 10)], NO_OFFSET)
    assert [observation.in_queue_ms for observation in seen] == [20, 10]


def test_early_missing_and_repeated_are_counted():
    events = [probe(number) for number in range(4)]
    arrivals = [arrival(events[0], -1, 3), arrival(events[1], 0, 3), arrival(events[2], 5, 6), arrival(events[2], 5, 6)]
    row = row_of(figures(observe(events, arrivals, NO_OFFSET)), PUNCTUAL)
    assert {name: row[name] for name in ("sent", "counted", "early", "missing", "repeated")} == {
        "sent": 4,
        "counted": 3,
        "early": 1,
        "missing": 1,
        "repeated": 1,
    }


def test_the_warm_up_is_in_no_percentile_but_must_not_be_early():
    cold, warm = probe(0, warm=False), probe(1)
    row = row_of(figures(observe([cold, warm], [arrival(cold, -5, 900), arrival(warm, 5, 9)], NO_OFFSET)), PUNCTUAL)
    assert (row["early"], row["counted"], row["received_ms"]["max"]) == (1, 1, 9)


def test_near_and_far_whole_and_fraction_have_rows_of_their_own_and_a_ratio_to_the_floor_of_their_kind():
    half_past = NOON + timedelta(milliseconds=500)
    lateness = {
        probe(0): 20,
        probe(1, far=True): 40,
        probe(2, due=half_past): 90,
        probe(0, FLOOR): 10,
        probe(2, FLOOR, due=half_past): 30,
        probe(2, FLOOR_WITH_HOLD, due=half_past): 60,
    }
    arrivals = [arrival(event, late, late) for event, late in lateness.items()]
    rows = figures(observe(list(lateness), arrivals, NO_OFFSET))
    ratios = {
        (row["path"], row["distance"], row["date"]): row["received_ms_to_floor"]["p50"]
        for row in rows
        if row["path"] != FLOOR
    }
    assert ratios == {
        (PUNCTUAL, "near", "whole second"): 2.0,
        (PUNCTUAL, "far", "whole second"): 4.0,
        (PUNCTUAL, "all", "whole second"): 2.0,
        (PUNCTUAL, "near", "fraction"): 3.0,
        (PUNCTUAL, "all", "fraction"): 3.0,
        (FLOOR_WITH_HOLD, "all", "fraction"): 2.0,
    }


def test_where_wait_knows_no_fractions_the_floor_of_a_fraction_is_that_with_hold():
    event, floor = (probe(path=path, due=after(500)) for path in (PUNCTUAL, FLOOR_WITH_HOLD))
    rows = figures(observe([event, floor], [arrival(event, 30, 30), arrival(floor, 20, 20)], NO_OFFSET))
    assert row_of(rows, PUNCTUAL, date="fraction")["received_ms_to_floor"]["p50"] == 1.5


# --- Clocks -----------------------------------------------------------------------------------------------------------


def test_each_probe_narrows_down_the_clocks_offset():
    true_offset = timedelta(milliseconds=730)
    probes = []
    for trip_ms, way_there in ((80, 0.1), (50, 0.9), (60, 0.5)):
        stamped_at = after(way_there * trip_ms) + true_offset
        cut = stamped_at.replace(microsecond=stamped_at.microsecond // 1000 * 1000)
        probes.append((NOON, after(trip_ms), cut))
    found = clock_offset(probes)
    assert abs(found.offset - true_offset) <= found.error
    assert found.error <= 15 * A_MILLISECOND  # each by itself: 25 or more


def test_clocks_that_disagree_with_themselves_have_the_error_to_show_for_it():
    found = clock_offset([(NOON, after(2), after(100)), (NOON, after(2), after(140))])
    assert found.offset == timedelta(milliseconds=119.5)
    assert found.error == timedelta(milliseconds=18.5)


# --- The load ---------------------------------------------------------------------------------------------------------

LOAD = Load(rate=4, duration=10, fractions=0.5, parked=0.25, lead=6, horizon=20)


def test_the_plan_has_the_shares_asked_for_and_a_twin_on_the_floor_for_each_event():
    probes = plan(LOAD, NOON, floor_waits_fractions=True)
    ours = [probe for probe in probes if probe.path == PUNCTUAL]
    assert len(ours) == 4 * (WARM_UP_SECONDS + 10)
    assert sum(probe.fractional for probe in ours) == 30
    assert sum(probe.far for probe in ours) == 15
    assert sum(probe.warm for probe in ours) == 40
    twins = {(probe.number, probe.due) for probe in probes if probe.path == FLOOR}
    assert twins == {(probe.number, probe.due) for probe in ours}


def test_on_aws_a_fraction_has_no_floor_without_a_function():
    probes = plan(LOAD, NOON, floor_waits_fractions=False)
    assert {probe.path for probe in probes if probe.fractional} == {PUNCTUAL, FLOOR_WITH_HOLD}


def test_events_are_sent_in_order_and_far_ones_before_their_horizon():
    probes = plan(LOAD, NOON, floor_waits_fractions=True)
    assert all(one.send_at <= next.send_at for one, next in pairwise(probes))
    assert probes[0].send_at >= NOON
    for sent in probes:
        lead = (sent.due - sent.send_at).total_seconds()
        if sent.path == PUNCTUAL:
            least = LOAD.horizon + PARKED_SECONDS if sent.far else LOAD.lead
            assert least <= lead < least + 1
        else:
            assert lead <= LOAD.horizon + 1


# --- The document -----------------------------------------------------------------------------------------------------


def test_a_table_replaces_what_stands_between_its_markers():
    text = "a\n<!-- one -->\nold\n<!-- end -->\nb\n<!-- two -->\n<!-- end -->\n"
    filled = bench.fill(text, {"one": "| 1 |", "two": r"\2"})
    assert filled == "a\n<!-- one -->\n| 1 |\n<!-- end -->\nb\n<!-- two -->\n\\2\n<!-- end -->\n"
    with pytest.raises(ValueError, match="0 places for three"):
        bench.fill(text, {"three": ""})


def test_the_document_has_a_place_for_each_table():
    text = bench.DOCUMENT.read_text()
    assert bench.fill(text, dict.fromkeys(bench.TABLES, "")).count("<!-- end -->") == len(bench.TABLES)
