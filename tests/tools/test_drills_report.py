"""The results of drills on the screen and in the document, and what the drills are called."""

import itertools
from collections import Counter

import pytest

from tools.drills.drills import ALONE, SIDE_BY_SIDE, name_of, title_of
from tools.drills.ledger import Account
from tools.drills.report import Result, lines_of, summary, table, write

DRILLS = [*itertools.chain(*SIDE_BY_SIDE.values()), *ALONE]


def account(**counts: float) -> Account:
    zero = dict.fromkeys(Account.__dataclass_fields__, 0)
    return Account(**zero | counts)


def result(hits: int | None = None, **counts: float) -> Result:
    return Result("no-fault", "No fault", account(**counts), seconds=50, hits=hits)


CLEAN = result(events=220, delivered=180, canceled=40, latest_seconds=1.26)
INTERRUPTED = result(events=220, delivered=100, canceled=40, interrupted=80, latest_seconds=8.9)
REPORTED = result(events=220, reported=180, canceled=40)


@pytest.mark.parametrize("drill", DRILLS, ids=name_of)
def test_every_drill_has_a_title_for_the_table(drill):
    title = title_of(drill)
    assert title
    assert "\n" not in title
    assert not title.endswith(".")


def test_names_and_titles_are_unique():
    assert len({name_of(drill) for drill in DRILLS}) == len(DRILLS)
    assert len({title_of(drill) for drill in DRILLS}) == len(DRILLS)


def test_the_table_has_a_row_for_each_drill():
    assert table([CLEAN, INTERRUPTED, REPORTED]).splitlines()[2:] == [
        "| No fault | 220 | 180 | 0 | 0 | 40 | 0 | 0 | 1.3 s |",
        "| No fault | 220 | 100 | 0 | 0 | 40 | 80 | 0 | 8.9 s |",
        "| No fault | 220 | 0 | 0 | 180 | 40 | 0 | 0 | - |",
    ]


def test_the_summary_counts_the_events_that_are_accounted_for():
    assert summary([CLEAN, REPORTED]) == "440 of 440 events accounted for. 0 missing, 0 early."


def test_the_summary_tells_interrupted_events_apart():
    assert summary([CLEAN, INTERRUPTED]) == (
        "360 of 440 events accounted for; 80 were inside the emulator when it was stopped. 0 missing, 0 early."
    )


def test_the_summary_does_not_hide_missing_events():
    assert summary([CLEAN, result(events=1000, missing=3, delivered=997, early=1)]) == (
        "1,217 of 1,220 events accounted for. 3 missing, 1 early."
    )


def test_a_clean_result_has_no_problem():
    assert CLEAN.is_clean
    assert lines_of(CLEAN) == [
        "no-fault                             220 events: 180 delivered (0 repeated), 0 reported, 40 canceled, "
        "0 interrupted, 0 missing, at most 1.3 s late  [50 s]"
    ]


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        ({"early": 1}, "PROBLEM: 1 early"),
        ({"late": 2}, "PROBLEM: 2 later than the drill allows"),
        ({"unwanted": 3}, "PROBLEM: 3 delivered although canceled or replaced in time"),
        ({"unexplained": 4}, "PROBLEM: 4 repeated without an explanation"),
        ({"hits": 0}, "PROBLEM: a fault never happened"),
    ],
)
def test_a_problem_is_named(problem, line):
    assert not result(**problem).is_clean
    assert f"    {line}" in lines_of(result(**problem))


def test_a_problem_that_a_drill_found_itself_is_named():
    failed = Result("a", "A", account(events=1, delivered=1), 1, problems=["no delete was refused"])
    assert not failed.is_clean
    assert lines_of(failed)[1] == "    PROBLEM: no delete was refused"


def test_missing_events_are_listed():
    missing = Result(
        "burst", "Burst", account(events=20, missing=20), 1, open=[f"event-{number}" for number in range(20)]
    )
    assert not missing.is_clean
    listed = ", ".join(f"event-{number}" for number in range(10))
    assert lines_of(missing)[1] == f"    PROBLEM: missing: {listed} and 10 more"


def test_the_number_of_faults_the_places_of_reports_and_the_notes_are_shown():
    places = Counter({"event's failure topic": 90, "stack's failure topic": 90})
    shown = lines_of(Result("a", "A", account(events=1, repeated=9), 1, 60, 8, [], ["a note"], places))
    assert shown[1:] == [
        "    the fault happened 60 times",
        "    started more than once: 8 of the 9 repeated events",
        "    reports by place: event's failure topic: 90, stack's failure topic: 90",
        "    a note",
    ]


def test_the_document_gets_the_command_the_summary_the_table_and_the_notes(tmp_path):
    document = tmp_path / "reliability.md"
    document.write_text("Before\n<!-- drills: begin -->\nold\n<!-- drills: end -->\nAfter\n")
    noted = Result("a", "A", account(events=1, delivered=1, repeated=1), 1, started_again=1, notes=["one", "two"])
    write([CLEAN, noted], "make drill", seconds=90, document=document)
    text = document.read_text()
    assert text.startswith("Before\n<!-- drills: begin -->\n\n`make drill`, ")
    assert "\n\n221 of 221 events accounted for. 0 missing, 0 early.\n\n| drill | events |" in text
    starts = "- All drills, started more than once: 1 of the 1 repeated events."
    assert text.endswith(f"\n\n{starts}\n- A: one.\n- A: two.\n\n<!-- drills: end -->\nAfter\n")
    assert "old" not in text
