"""The benchmark's arithmetic, load, arguments, and tables, on data whose answer is known."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from rich.console import Console

import tools.bench.__main__ as bench
from tools.bench import cli, report, size
from tools.bench.clock_offset import clock_offset
from tools.bench.figures import figures, percentile
from tools.bench.lateness import (
    BASELINE,
    BASELINE_WITH_HOLD,
    PARKED_LEAD_SECONDS,
    PUNCTUAL,
    WARM_UP_SECONDS,
    Load,
    PlannedEvent,
    observe,
    plan,
)
from tools.bench.stacks import AwsStack, location
from tools.bench.sweep_throughput import VARIANTS
from tools.documents import MarkerError
from tools.local import Arrival

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
A_MILLISECOND = timedelta(milliseconds=1)
NO_OFFSET = timedelta(0)


def after(milliseconds: float) -> datetime:
    return NOON + milliseconds * A_MILLISECOND


def planned(
    number: int = 0, path: str = PUNCTUAL, parked: bool = False, due: datetime = NOON, counted: bool = True
) -> PlannedEvent:
    return PlannedEvent(number, path, parked, due, due - timedelta(seconds=6), counted)


def arrival(of: PlannedEvent, in_queue_ms: float, received_ms: float) -> Arrival:
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


def row_of(rows: list[dict], path: str, route: str = "all", date: str = "whole second") -> dict:
    [row] = [row for row in rows if (row["path"], row["route"], row["date"]) == (path, route, date)]
    return row


# --- Percentiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "expected"), [(0.1, 1), (50, 500), (90, 900), (99, 990), (99.9, 999), (99.91, 1000), (100, 1000)]
)
def test_a_percentile_is_the_value_at_its_rank(percent, expected):
    assert percentile(range(1000, 0, -1), percent) == expected


def test_with_few_values_high_percentiles_are_the_maximum():
    assert [percentile([3, 1, 2], percent) for percent in (50, 90, 99.9)] == [2, 3, 3]
    assert percentile([7], 50) == 7


# --- Lateness ---------------------------------------------------------------------------------------------------------


def test_lateness_counts_from_the_due_time_and_the_consumers_clock_is_corrected():
    event = planned(due=NOON + timedelta(milliseconds=250))
    [seen] = observe([event], [arrival(event, 12, 40)], offset=timedelta(milliseconds=5))
    assert (seen.in_queue_ms, seen.received_ms, seen.copies) == (12, 45, 1)


def test_the_first_copy_of_a_repeated_event_counts():
    event = planned()
    [seen] = observe([event], [arrival(event, 90, 95), arrival(event, 10, 99)], NO_OFFSET)
    assert (seen.in_queue_ms, seen.copies) == (10, 2)


def test_events_with_the_same_number_on_different_paths_are_kept_apart():
    ours, baseline = planned(path=PUNCTUAL), planned(path=BASELINE)
    seen = observe([ours, baseline], [arrival(ours, 20, 20), arrival(baseline, 10, 10)], NO_OFFSET)
    assert [observation.in_queue_ms for observation in seen] == [20, 10]


def test_early_missing_and_repeated_events_are_counted():
    events = [planned(number) for number in range(4)]
    arrivals = [arrival(events[0], -1, 3), arrival(events[1], 0, 3), arrival(events[2], 5, 6), arrival(events[2], 5, 6)]
    row = row_of(figures(observe(events, arrivals, NO_OFFSET)), PUNCTUAL)
    assert {name: row[name] for name in ("sent", "counted", "early", "missing", "repeated")} == {
        "sent": 4,
        "counted": 3,
        "early": 1,
        "missing": 1,
        "repeated": 1,
    }


def test_warm_up_events_are_in_no_percentile_but_must_not_be_early():
    cold, warm = planned(0, counted=False), planned(1)
    row = row_of(figures(observe([cold, warm], [arrival(cold, -5, 900), arrival(warm, 5, 9)], NO_OFFSET)), PUNCTUAL)
    assert (row["early"], row["counted"], row["received_ms"]["max"]) == (1, 1, 9)


HALF_PAST = NOON + timedelta(milliseconds=500)
LATENESS = {
    planned(0): 20,
    planned(1, parked=True): 40,
    planned(2, due=HALF_PAST): 90,
    planned(0, BASELINE): 10,
    planned(2, BASELINE, due=HALF_PAST): 30,
    planned(2, BASELINE_WITH_HOLD, due=HALF_PAST): 60,
}


def figures_of(lateness: dict[PlannedEvent, float]) -> list[dict]:
    arrivals = [arrival(event, late_ms, late_ms + 1) for event, late_ms in lateness.items()]
    return figures(observe(list(lateness), arrivals, NO_OFFSET))


def test_each_route_and_kind_of_date_has_its_own_row_and_ratio_to_the_baseline():
    ratios = {
        (row["path"], row["route"], row["date"]): row["in_queue_ms_ratio"]["p50"]
        for row in figures_of(LATENESS)
        if row["path"] != BASELINE
    }
    assert ratios == {
        (PUNCTUAL, "started by Ingest", "whole second"): 2.0,
        (PUNCTUAL, "parked first", "whole second"): 4.0,
        (PUNCTUAL, "all", "whole second"): 2.0,
        (PUNCTUAL, "started by Ingest", "fraction"): 3.0,
        (PUNCTUAL, "all", "fraction"): 3.0,
        (BASELINE_WITH_HOLD, "all", "fraction"): 2.0,
    }


def test_where_wait_truncates_fractions_their_baseline_is_the_one_with_hold():
    rows = figures_of({planned(due=HALF_PAST): 30, planned(path=BASELINE_WITH_HOLD, due=HALF_PAST): 20})
    assert row_of(rows, PUNCTUAL, date="fraction")["in_queue_ms_ratio"]["p50"] == 1.5


def test_a_baseline_of_zero_milliseconds_has_no_ratio():
    rows = figures_of({planned(): 30, planned(path=BASELINE): 0})
    assert row_of(rows, PUNCTUAL)["in_queue_ms_ratio"]["p50"] is None


# --- The clock --------------------------------------------------------------------------------------------------------


def test_each_sample_narrows_the_clock_offset():
    true_offset = timedelta(milliseconds=730)
    samples = []
    for round_trip_ms, share_before_stamp in ((80, 0.1), (50, 0.9), (60, 0.5)):
        stamped_at = after(share_before_stamp * round_trip_ms) + true_offset
        truncated = stamped_at.replace(microsecond=stamped_at.microsecond // 1000 * 1000)
        samples.append((NOON, after(round_trip_ms), truncated))
    found = clock_offset(samples)
    assert abs(found.offset - true_offset) <= found.error
    assert found.error <= 15 * A_MILLISECOND  # of a single sample: 25 or more


def test_samples_that_contradict_each_other_show_in_the_error():
    found = clock_offset([(NOON, after(2), after(100)), (NOON, after(2), after(140))])
    assert found.offset == timedelta(milliseconds=119.5)
    assert found.error == timedelta(milliseconds=18.5)


# --- The load ---------------------------------------------------------------------------------------------------------

LOAD = Load(rate=4, duration=10, fractions=0.5, parked=0.25, lead=6, horizon=20)


def test_the_plan_has_the_requested_shares_and_a_baseline_twin_for_each_event():
    events = plan(LOAD, NOON, wait_keeps_fractions=True)
    ours = [event for event in events if event.path == PUNCTUAL]
    assert len(ours) == 4 * (WARM_UP_SECONDS + 10)
    assert sum(event.has_fraction for event in ours) == 30
    assert sum(event.is_parked for event in ours) == 15
    assert sum(event.is_counted for event in ours) == 40
    twins = {(event.number, event.due) for event in events if event.path == BASELINE}
    assert twins == {(event.number, event.due) for event in ours}


def test_on_aws_an_event_with_a_fraction_has_only_the_baseline_with_hold():
    events = plan(LOAD, NOON, wait_keeps_fractions=False)
    assert {event.path for event in events if event.has_fraction} == {PUNCTUAL, BASELINE_WITH_HOLD}


def test_events_are_sent_in_order_and_parked_ones_before_their_horizon():
    events = plan(LOAD, NOON, wait_keeps_fractions=True)
    assert all(one.send_at <= next.send_at for one, next in pairwise(events))
    assert events[0].send_at >= NOON
    for event in events:
        lead = (event.due - event.send_at).total_seconds()
        if event.path == PUNCTUAL:
            least = LOAD.horizon + PARKED_LEAD_SECONDS if event.is_parked else LOAD.lead
            assert least <= lead < least + 1
        else:
            assert lead <= LOAD.horizon + 1


# --- The arguments ----------------------------------------------------------------------------------------------------


def test_without_a_part_every_part_is_measured():
    assert bench.parse_arguments([]).command == "all"
    options = bench.parse_arguments(["--write", "--count", "8"])
    assert (options.command, options.write, options.count, options.burst) == ("all", True, 8, 10_000)


def test_a_part_has_only_its_own_options():
    options = bench.parse_arguments(["lateness", "--stack", "punctual"])
    assert (options.stack, options.count) == ("punctual", 240)
    for wrong in (["size", "--count", "8"], ["lateness", "--write"], ["--stack", "punctual"]):
        with pytest.raises(SystemExit):
            bench.parse_arguments(wrong)


@pytest.mark.parametrize("wrong", [["--rate", "0"], ["--parked", "1.1"], ["--count", "8", "--duration", "8"]])
def test_impossible_loads_are_refused(wrong):
    with pytest.raises(SystemExit):
        bench.parse_arguments(["lateness", *wrong])


# --- The command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "pages", "memory", "missed"),
    [
        ("punctual list --limit 20", 16, 200, []),
        ("punctual list --limit 20", 17, 200, ["punctual list --limit 20: 17 pages instead of at most 16"]),
        ("punctual count", 400, 201, ["punctual count: 201 MB instead of at most 200"]),
    ],
)
def test_the_command_misses_a_goal_by_its_memory_or_by_the_pages_of_a_short_list(command, pages, memory, missed):
    row = {"command": command, "seconds": 1.0, "pages": pages, "memory_mb": memory}
    result = {"events": 100_000, "commands": [row]}
    assert cli.misses(result) == missed
    console = Console(width=100, record=True)
    console.print(cli.table(result))
    assert f"{command} 1.0 {pages} {memory}" in " ".join(console.export_text().split())


# --- The results ------------------------------------------------------------------------------------------------------

CONDITIONS = {"machine": "2 cores", "measured_at": "2026-11-23T12:00:00+00:00"}
RESULTS = {
    "lateness": CONDITIONS
    | {"where": "the local emulator", "clock_offset_ms": 0.0, "clock_error_ms": 0.1, "figures": figures_of(LATENESS)},
    "sweep": CONDITIONS
    | {
        "comparison": {
            "events": 2000,
            "seconds": {variant: [4.0, 5.0] for variant in VARIANTS},
            "ms_per_event": dict.fromkeys(VARIANTS, 2.25),
            "starts_per_second": dict.fromkeys(VARIANTS, 444),
            "time_ratio_to_start_and_delete": 1.6,
            "rate_ratio_to_start": 0.9,
        },
        "bursts": [
            {
                "sweepers": 1,
                "events": 10_000,
                "seconds": 21.1,
                "starts_per_second": 475,
                "sweeps": 1,
                "memory_peak_mb": 122,
                "memory_before_mb": 100,
            }
        ],
    },
    "size": CONDITIONS
    | {"zip_mb": {"Hold": 1.0, "Ingest": 5.5}, "import_cpu_seconds": 0.4, "import_cpu_seconds_uncompiled": 0.6},
}


def test_the_goals_say_which_were_met():
    met = {goal: is_met for goal, _, _, is_met in report.goals_table(**RESULTS).rows}
    assert met == {
        "events early or missing": "yes",
        "slowest event, in the queue": "yes",
        "lateness ratio in the queue, whole second, p50": "no",
        "lateness ratio in the queue, whole second, p99": "no",
        "lateness ratio in the queue, fraction, p50": "no",
        "lateness ratio in the queue, fraction, p99": "no",
        "lateness ratio at the consumer, whole second, p50": "no",
        "lateness ratio at the consumer, whole second, p99": "no",
        "lateness ratio at the consumer, fraction, p50": "no",
        "lateness ratio at the consumer, fraction, p99": "no",
        "Sweeper's time, ratio to bare start and delete": "no",
        "Sweeper's rate, ratio to bare start": "yes",
        "Sweeper's memory": "yes",
        "largest package": "no",
        "import of Ingest, compiled": "yes",
    }


def test_the_summary_names_events_milliseconds_and_the_baseline_of_the_same_run():
    assert report.summary(RESULTS["lateness"]) == (
        "- **On a whole second: 20 ms late in the median, 40 ms at most** (2 events). "
        "Bare Wait and Publish in the same run: 10 and 10 ms, a ratio of 2.00 in the median.\n"
        "- **With a fraction of a second: 90 ms late in the median, 90 ms at most** (1 events). "
        "Bare Wait and Publish in the same run: 30 and 30 ms, a ratio of 3.00 in the median. "
        "Wait, Hold, and Publish in the same run: 60 and 60 ms, a ratio of 1.50 in the median."
    )


def test_the_lateness_report_needs_no_other_part():
    text = report.lateness_report(RESULTS["lateness"])
    assert text.startswith(
        "# Lateness\n\nMeasured on 2026-11-23 on the local emulator; 2 cores.\n\n- **On a whole second: 20 ms"
    )
    assert text.count("| --- |") == 3
    assert "The clock of SQS is 0.0 ms ahead of this machine's, give or take 0.1 ms." in text


def test_saved_results_are_read_again_and_shown(tmp_path, monkeypatch):
    for part, result in RESULTS.items():
        bench.save(part, result, tmp_path)
    assert bench.load_results(tmp_path) == json.loads(json.dumps(RESULTS))
    console = Console(record=True, width=200)
    monkeypatch.setattr(bench, "console", console)
    bench.show(RESULTS)
    shown = console.export_text()
    for title in ("Events", "In the consumer's queue", "At the consumer", "10,000 events due within 5 s", "Goals"):
        assert title in shown


def test_a_document_is_written_only_from_the_results_of_every_part(tmp_path):
    with pytest.raises(SystemExit, match="has no results of: sweep, size"):
        bench.write({"lateness": RESULTS["lateness"]}, bench.parse_arguments(["report", "--out", str(tmp_path)]))


# --- The document -----------------------------------------------------------------------------------------------------


def test_the_document_has_a_place_for_each_table_and_pictures_beside_it(tmp_path):
    document, picture = tmp_path / report.DOCUMENT, tmp_path / "lateness-over-time.png"
    document.write_text((report.DOCS / report.DOCUMENT).read_text())
    picture.write_bytes(b"picture")
    report.write_document(tmp_path, [picture], **RESULTS)
    text = document.read_text()
    assert text.count(": begin -->") == len(report.PARTS)
    assert "| Punctual, whole second | 2 | 20 | 40 | 40 | 40 | 40 | 2.00 | 4.00 |" in text
    assert (tmp_path / "pictures/lateness-over-time.png").read_bytes() == b"picture"


def test_a_document_that_lacks_a_marker_is_left_alone(tmp_path):
    document = tmp_path / report.DOCUMENT
    document.write_text("<!-- conditions: begin -->\n<!-- conditions: end -->\n")
    with pytest.raises(MarkerError, match="summary: begin"):
        report.write_document(tmp_path, [], **RESULTS)
    assert document.read_text() == "<!-- conditions: begin -->\n<!-- conditions: end -->\n"


# --- The stack --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (None, "AWS eu-central-1, stack punctual"),
        ("http://127.0.0.1:4566", "http://127.0.0.1:4566, stack punctual"),
    ],
)
def test_only_a_stack_on_aws_is_called_so(monkeypatch, endpoint, expected):
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert location(AwsStack("punctual")) == expected


# --- The size ---------------------------------------------------------------------------------------------------------


def test_the_size_of_a_package_is_that_of_its_compressed_files(tmp_path):
    (tmp_path / "module.py").write_text("x = 1\n" * 10_000)
    assert 100 < size.zipped_bytes(tmp_path) < 1_000
