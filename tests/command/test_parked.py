"""`list` and `count`: parked events, read no further than needed."""

import json
import tracemalloc
from datetime import timedelta

import pytest

from tests.command.conftest import NOW

HOUR = timedelta(hours=1)


@pytest.fixture
def queries(stack, monkeypatch):
    """The Query calls that a command makes."""
    from botocore.client import BaseClient

    calls, call = [], BaseClient._make_api_call

    def note(client, operation, parameters):
        if operation == "Query":
            calls.append(parameters)
        return call(client, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", note)
    return calls


def listed(punctual, *options: str) -> list[str]:
    result = punctual("--json", "list", *options)
    assert result.code == 0, result.error
    return [event["event"]["payload"] for event in json.loads(result.output)]


def test_events_are_listed_over_all_lanes_in_the_order_of_their_due_times(punctual, tables):
    """100 events, parked in another order, in whatever lanes."""
    for number in sorted(range(100), key=lambda n: n * 37 % 100):
        tables.park(NOW + number * HOUR, number=number)
    assert listed(punctual, "--limit", "100") == [f"order-{number}" for number in range(100)]


def test_the_limit_is_50_unless_another_is_given_and_20_read_at_most_a_page_of_each_lane(punctual, tables, queries):
    """Whatever is parked: a page of 20 from each of 16 lanes."""
    for number in range(60):
        tables.park(NOW + number * HOUR, number=number)
    assert listed(punctual) == [f"order-{number}" for number in range(50)]
    queries.clear()
    assert listed(punctual, "--limit", "20") == [f"order-{number}" for number in range(20)]
    assert len(queries) <= 16
    assert {query["Limit"] for query in queries} == {20}


def test_after_includes_and_before_excludes_its_time(punctual, tables):
    """ISO 8601, UTC unless it has an offset."""
    for number in range(5):
        tables.park(NOW + number * HOUR, number=number)
    assert listed(punctual, "--after", "2026-12-24T10:00") == ["order-1", "order-2", "order-3", "order-4"]
    assert listed(punctual, "--before", "2026-12-24T10:00") == ["order-0"]
    between = ["--after", "2026-12-24T10:00Z", "--before", "2026-12-24T13:00+01:00"]
    assert listed(punctual, *between) == ["order-1", "order-2"]


def test_leases_and_the_record_of_the_latest_sweep_are_not_listed(punctual, tables):
    """They are in partitions of their own."""
    tables.parking.acquire("lane-00", "somebody", NOW, NOW + HOUR)
    item = {"lane": {"S": "clock"}, "sort_key": {"S": "latest"}, "execution": {"S": "x"}}
    tables.dynamodb.put_item(TableName="Parked", Item=item)
    assert listed(punctual) == []
    assert punctual("list").output == "No events are parked.\n"


def test_the_table_says_when_what_and_where_to(punctual, tables):
    """One line per event, whatever is in its payload."""
    tables.park(NOW + timedelta(milliseconds=250), id="order-4711", payload="two\nlines")
    heading, line = punctual("list").output.splitlines()
    assert heading.split() == ["due", "(UTC)", "id", "target", "payload", "retry"]
    assert line.split() == ["2026-12-24", "09:00:00.250", "order-4711", "orders", "two\\nlines", "0"]


def test_a_row_is_one_line_where_the_output_is_no_terminal(punctual, tables, monkeypatch):
    """Whatever the width of the terminal, so that grep finds rows. Nothing in a payload is a style or an emoji."""
    monkeypatch.setenv("COLUMNS", "40")
    topic = f"arn:aws:sns:eu-central-1:123456789012:{'t' * 256}"
    tables.park(NOW, id="i" * 64, payload="[/x] [red]:smile: and more", target=topic)
    [_, line] = punctual("list").output.splitlines()
    assert line == f"2026-12-24 09:00:00.000  {'i' * 64}  {'t' * 256}  [/x] [red]:smile: and more  0"


def test_on_a_terminal_rows_are_folded_and_nothing_is_cut(punctual, tables, monkeypatch):
    """To the width of the terminal. An id has to be whole to be copied."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")  # without escape sequences
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    topic = f"arn:aws:sns:eu-central-1:123456789012:{'t' * 50}"
    event = tables.park(NOW, target=topic)
    lines = punctual("list").output.splitlines()
    assert max(map(len, lines)) <= 80
    assert event.id in lines[1] and sum(line.count("t") for line in lines[1:]) == 50


def test_an_event_whose_delivery_is_retried_says_which_retry_comes(punctual, tables):
    """Deliver has parked it with its attempt, and named its execution after it. The table and `--json` say the same."""
    event = tables.park(NOW)
    key = {"lane": {"S": json.loads(event.input)["lane"]}, "sort_key": {"S": f"2026-12-24T10:00:00.000000#{event.id}"}}
    item = {**key, "execution": {"S": f"{event.id}-r2"}, "input": {"S": event.input}, "attempt": {"N": "2"}}
    tables.dynamodb.put_item(TableName="Parked", Item=item)
    assert [line.split()[-1] for line in punctual("list").output.splitlines()[1:]] == ["0", "2"]
    assert [event["retry"] for event in json.loads(punctual("--json", "list").output)] == [0, 2]


def test_more_than_the_limit_is_said(punctual, tables):
    """On stderr, beside the result."""
    for number in range(3):
        tables.park(NOW + number * HOUR, number=number)
    result = punctual("list", "--limit", "2")
    assert len(result.output.splitlines()) == 3
    assert "There may be more" in result.error


def test_a_list_of_more_than_a_thousand_is_printed_in_pieces(punctual, tables, monkeypatch):
    """As one table, or as one JSON array: with one heading, and the same columns all the way."""
    monkeypatch.setattr("punctual.parked.TABLE_ROWS", 4)
    for number in range(10):
        tables.park(NOW + number * HOUR, number=number)
    heading, *lines = punctual("list").output.splitlines()
    assert [line.split()[-2] for line in lines] == [f"order-{number}" for number in range(10)]
    assert {line.index("orders") for line in lines} == {heading.index("target")}
    assert listed(punctual) == [f"order-{number}" for number in range(10)]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_json_that_is_printed_in_pieces_looks_like_any_other(punctual, tables, number):
    """Indented by two."""
    for event in range(number):
        tables.park(NOW + event * HOUR, number=event)
    output = punctual("--json", "list").output
    assert output == json.dumps(json.loads(output), indent=2) + "\n"


@pytest.mark.parametrize(
    ("by", "counts"),
    [
        ("minute", {"2026-12-24T09:00:00+00:00": 2, "2026-12-24T09:30:00+00:00": 1, "2026-12-25T09:00:00+00:00": 1}),
        ("hour", {"2026-12-24T09:00:00+00:00": 3, "2026-12-25T09:00:00+00:00": 1}),
        ("day", {"2026-12-24T00:00:00+00:00": 3, "2026-12-25T00:00:00+00:00": 1}),
    ],
)
def test_events_are_counted_by_minute_hour_or_day(punctual, tables, by, counts):
    """By the time at which they are due."""
    for number, minutes in enumerate((0, 0, 30, 24 * 60)):
        tables.park(NOW + timedelta(minutes=minutes, seconds=number), number=number)
    result = punctual("--json", "count", "--by", by)
    assert json.loads(result.output) == {"by": by, "total": 4, "counts": counts}


@pytest.mark.parametrize(
    ("limits", "total"),
    [
        ([], 3),
        (["--after", "2026-12-24T10:00"], 2),
        (["--before", "2026-12-24T10:00"], 1),
        (["--after", "2026-12-24T10:00", "--before", "2026-12-24T11:00"], 1),
    ],
)
def test_only_events_between_two_times_are_counted(punctual, tables, limits, total):
    """Due at 09:00, 10:00, and 11:00: the first time is included, the second is not."""
    for number in range(3):
        tables.park(NOW + number * HOUR, number=number)
    assert json.loads(punctual("--json", "count", *limits).output)["total"] == total


def test_the_bar_chart_has_a_bar_for_each_time(punctual, tables):
    """The longest is 40 characters, the others in proportion."""
    for number in range(6):
        tables.park(NOW + (HOUR if number >= 4 else timedelta()), number=number)
    lines = punctual("count").output.splitlines()
    assert [line.split()[-2:] for line in lines[1:3]] == [["4", "█" * 40], ["2", "█" * 20]]
    assert lines[-1] == "6 events are parked."


def test_nothing_parked_counts_as_nothing(punctual, tables):
    """No chart."""
    assert punctual("count").output == "0 events are parked.\n"


def test_one_event_is_not_one_events(punctual, tables):
    """The sentence has the singular."""
    tables.park(NOW)
    assert punctual("count").output.splitlines()[-1] == "1 event is parked."


def test_counting_keeps_a_page_in_memory_not_the_table(punctual, tables):
    """3,000 events of 4 KB are 12 MB: a page of 1 MB, as Python objects, is what is kept."""
    for number in range(3000):
        tables.park(NOW + timedelta(seconds=number), number=number, payload="x" * 4000)
    tracemalloc.start()
    assert json.loads(punctual("--json", "count").output)["total"] == 3000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100_000_000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["list", "--limit", "0"], "0 is not in the range"),
        (["list", "--after", "soon"], "must be an ISO 8601 date and time"),
        (["count", "--by", "week"], "'week' is not one of"),
        (["count", "--before", "2026-13-01"], "is not a date that exists"),
        (["list", "--after", "2027-01-01", "--before", "2026-01-01"], "--after 2027-01-01 00:00:00.000 is later than"),
        (["count", "--after", "2027-01-01", "--before", "2026-01-01"], "--after 2027-01-01 00:00:00.000 is later than"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(punctual, tables, arguments, sentence):
    """With exit code 2."""
    result = punctual(*arguments)
    assert result.code == 2 and sentence in result.error and len(result.error.splitlines()) == 1
