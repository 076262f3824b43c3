"""`list` and `count`: parked events, read no further than needed."""

import json
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from punctual.listing import _bar_chart
from tests.command.conftest import NOW, TARGET

pytestmark = pytest.mark.slow
HOUR = timedelta(hours=1)


def listed(punctual, *options: str) -> list[str]:
    """The payloads of the listed events, of which as many are counted."""
    payloads = [event["event"]["payload"] for event in json.loads(punctual("--json", "list", *options).output)]
    assert json.loads(punctual("--json", "count", *options).output)["total"] == len(payloads)
    return payloads


def park(tables, number: int, step: timedelta = HOUR) -> None:
    for n in range(number):
        tables.park(NOW + HOUR + n * step, number=n)


def test_events_are_listed_over_all_lanes_in_the_order_of_their_due_times(punctual, tables):
    """130 events, parked in another order, in whatever lanes; 50 of them unless more are asked for. (BatchGetItem takes
    a hundred keys, each once.)"""
    for number in sorted(range(130), key=lambda n: n * 37 % 130):
        tables.park(NOW + HOUR + number * HOUR, number=number)
    for limit, options in ((130, ["--limit", "200"]), (50, [])):
        events = json.loads(punctual("--json", "list", *options).output)
        assert [event["event"]["payload"] for event in events] == [f"order-{number}" for number in range(limit)]


def test_a_limit_reads_one_page_of_each_lane_and_says_that_there_is_more(punctual, tables, stack):
    """One event more than is listed, from each of 16 lanes and no other partition; a complete list says nothing."""
    park(tables, 3)
    for form in ([], ["--json"]):
        result = punctual("list", "--limit", "2", *form)
        assert result.error == "The first 2. There are more: see --limit and --after.\n"
    queries = [parameters for operation, parameters in stack.calls if operation == "Query"]
    assert len({query["ExpressionAttributeValues"][":lane"]["S"] for query in queries}) == 16
    assert len(queries) == 32 and {query["Limit"] for query in queries} == {3}
    assert punctual("list", "--limit", "3").error == ""
    stack.calls.clear()
    punctual("list", "--limit", "3", "--user", "team")  # A limit counts what is read, not what passes the filter.
    assert not any("Limit" in parameters for _, parameters in stack.calls)


def test_after_includes_and_before_excludes_its_time(punctual, tables):
    """ISO 8601, UTC unless it has an offset; of a list and of a count."""
    park(tables, 5)
    between = ["--after", "2026-12-24T11:00Z", "--before", "2026-12-24T14:00+01:00"]
    assert listed(punctual, *between) == ["order-1", "order-2"]
    assert listed(punctual, "--before", "2026-12-24T11:00") == ["order-0"]
    assert listed(punctual, "--after", "2026-12-24T14:00") == ["order-4"]


@pytest.mark.parametrize(
    ("options", "payloads"),
    [
        (["--user", "größer"], ["mine"]),
        (["--target", "other"], ["other"]),
        (["--target", f"{TARGET}-2"], ["fifo"]),
        (["--id-prefix", "order-1"], ["other", "fifo"]),
        (["--id-prefix", "order-1", "--target", "other"], ["other"]),
        (["--id-prefix", "order-7-"], []),  # As the name of the execution of order-7 begins.
        (["--user", "x"], []),
    ],
)
def test_events_are_filtered_by_target_user_and_id(punctual, tables, options, payloads):
    """Exactly: a payload or an attribute that says the same does not count."""
    tables.park(NOW + 1 * HOUR, number=1, id="order-7", user="größer", payload="mine")
    tables.park(NOW + 2 * HOUR, number=2, id="order-10", target=f"{TARGET[:-6]}other", payload="other")
    tables.park(NOW + 3 * HOUR, number=3, id="order-1", target=f"{TARGET}-2", payload="fifo")
    tables.park(NOW + 4 * HOUR, number=4, attributes={"user": "x"}, payload=f'{{"user":"x","TopicArn":"{TARGET}-2"}}')
    assert listed(punctual, *options) == payloads


def test_canceled_replaced_and_retried_events_are_marked_and_the_former_not_counted(punctual, tables):
    """An unnamed one stays in its lane until it is due, but it will not be delivered."""
    park(tables, 1)
    tables.retry(tables.park(NOW + 2 * HOUR, number=1), NOW + 3 * HOUR, 2)
    canceled, replaced = (tables.park(NOW + 9 * HOUR, number=number) for number in (7, 8))
    tables.cancel(canceled)
    tables.park(NOW + 10 * HOUR, id=replaced, number=20)
    events = json.loads(punctual("--json", "list").output)
    assert [event["state"] for event in events] == ["parked", "parked", "canceled", "replaced", "parked"]
    assert [event["retry"] for event in events] == [0, 2, 0, 0, 0]
    states = [line.rpartition("  ")[2] for line in punctual("list").output.splitlines()[1:]]
    assert states == ["parked", "retry 2", "canceled", "replaced", "parked"]
    counted = json.loads(punctual("--json", "count").output)
    assert (counted["total"], counted["left_out"]) == (3, {"canceled": 1, "replaced": 1})
    assert sum(counted["counts"].values()) == 3
    assert punctual("count").output.splitlines()[-2:] == [
        "3 events are parked.",
        "Not counted, because they will not be delivered: 1 canceled, 1 replaced.",
    ]


def test_what_the_register_leaves_unanswered_is_asked_again(punctual, tables, stack):
    """A throttled table answers a part of the keys."""
    ids = [tables.park(NOW + HOUR * (number + 1), number=number) for number in range(3)]
    tables.cancel(ids[0])
    tables.cancel(ids[2], number=98)

    def one_at_a_time(call, parameters):
        [(table, request)] = parameters["RequestItems"].items()
        first, *rest = request["Keys"]
        answer = call({"RequestItems": {table: {"Keys": [first]}}})
        return answer | ({"UnprocessedKeys": {table: {"Keys": rest}}} if rest else {})

    stack.answers["BatchGetItem"] = one_at_a_time
    states = [event["state"] for event in json.loads(punctual("--json", "list").output)]
    assert states == ["canceled", "parked", "canceled"]


def test_a_parked_event_as_json(punctual, tables):
    """The message as it was published, and where it is."""
    tables.park(NOW + HOUR, id="order-4711", payload="größer")
    output = punctual("--json", "list").output
    [event] = json.loads(output)
    assert "größer" in output and output == json.dumps([event], indent=2, ensure_ascii=False) + "\n"
    assert event == {
        "id": "order-4711",
        "due": "2026-12-24T10:00:00+00:00",
        "state": "parked",
        "retry": 0,
        "lane": event["lane"],
        "execution": "order-4711-00000000",
        "event": {
            "date": "2026-12-24T10:00:00+00:00",
            "target": TARGET,
            "user": "team",
            "payload": "größer",
            "id": "order-4711",
        },
    }


def test_a_row_is_one_line_where_the_output_is_no_terminal(punctual, tables, monkeypatch):
    """Whatever the width of the terminal, so that grep finds rows. Nothing in a payload is a style or an emoji."""
    monkeypatch.setenv("COLUMNS", "40")
    tables.park(NOW + HOUR, id="i" * 64, payload="[/x] [red]:smile: two\nlines", target=f"{TARGET}{'t' * 200}")
    [heading, line] = punctual("list").output.splitlines()
    assert heading.split() == ["due", "(UTC)", "id", "target", "payload", "state"]
    row = f"2026-12-24 10:00:00.000  {'i' * 64}  orders{'t' * 200}  [/x] [red]:smile: two\\nlines  parked"
    assert line == row


@pytest.mark.parametrize(("columns", "id"), [(60, None), (80, None), (100, None), (100, "i" * 64), (140, "i" * 64)])
def test_on_a_terminal_nothing_is_cut(punctual, tables, monkeypatch, columns, id):
    """A table is folded; where it does not fit, there are lines. An id has to be whole to be copied."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "25")  # Without it, a terminal without escape sequences has 80 columns.
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    id = tables.park(NOW + HOUR, id=id, target=f"{TARGET}-{'x' * 50}", payload="z" * 41)
    output = punctual("list").output
    assert id in output and "2026-12-24 10:00:00.000" in output and "parked" in output
    assert (output.count("x"), output.count("z")) == (50, 40)
    assert ("payload" in output) is (columns - len(id) >= 64)


def test_a_long_list_is_printed_in_pieces(punctual, tables, monkeypatch):
    """As one table, or as one JSON array: with one heading, and the same columns all the way."""
    monkeypatch.setattr("punctual.listing.TABLE_ROWS", 4)
    park(tables, 10)
    heading, *lines = punctual("list").output.splitlines()
    assert [line.split()[-2] for line in lines] == [f"order-{number}" for number in range(10)]
    assert {line.index("orders") for line in lines} == {heading.index("target")}
    assert listed(punctual) == [f"order-{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("by", "counts", "label"),
    [
        ("minute", {"2026-12-24T10:00:00+00:00": 2, "2026-12-24T10:30:00+00:00": 1}, "2026-12-24 10:00"),
        ("hour", {"2026-12-24T10:00:00+00:00": 3}, "2026-12-24 10:00"),
        ("day", {"2026-12-24T00:00:00+00:00": 3}, "2026-12-24"),
    ],
)
def test_events_are_counted_by_minute_hour_or_day(punctual, tables, by, counts, label):
    """By the time at which they are due; a bar is labeled by its width, in UTC."""
    for number, minutes in enumerate((0, 0, 30)):
        tables.park(NOW + HOUR + timedelta(minutes=minutes, seconds=number), number=number)
    result = punctual("--json", "count", "--by", by)
    assert json.loads(result.output) == {"by": by, "total": 3, "counts": counts, "left_out": {}}
    heading, bar, *_ = punctual("count", "--by", by).output.splitlines()
    assert heading.split() == [by, "(UTC)", "events"]
    assert bar.rsplit(maxsplit=2) == [label, str(max(counts.values())), "█" * 40]


def test_the_bar_chart_is_in_proportion():
    """The longest bar has 40 characters, and a short one is seen."""
    _, numbers, bars = _bar_chart("hour", {NOW + HOUR: 500, NOW: 1000, NOW + 2 * HOUR: 1}).columns
    assert [*zip(numbers.cells, bars.cells, strict=True)] == [("1,000", "█" * 40), ("500", "█" * 20), ("1", "█")]


def test_the_first_and_the_last_year_are_counted(punctual, tables):
    """No date breaks a command, and no empty table."""
    assert punctual("list").output == "No events are parked.\n"
    assert punctual("list", "--user", "x").output == "No such events are parked.\n"
    assert punctual("count").output == "0 events are parked.\n"
    tables.park(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert "9999-12-31" in punctual("count", "--by", "day", "--after", "0001-01-01").output
    assert punctual("count").output.splitlines()[-1] == "1 event is parked."
    assert "9999-12-31 23:59:59.000" in punctual("list").output


def test_counting_keeps_a_page_of_each_lane_in_memory_not_the_table(punctual, tables, stack):
    """Each of 16 lanes has 20 pages of 100 keys, which are of 2 KB here."""

    def page(_, query):
        number = int(query.get("ExclusiveStartKey", {"n": {"N": "0"}})["n"]["N"])
        keys = [{"S": f"2027-01-01T00:00:00.{n:06}#{n:02000}"} for n in range(1, 101)]
        items = [{"lane": {"S": "lane-00"}, "sort_key": key, "execution": {"S": "id-1-r"}} for key in keys]
        return {"Items": items} | ({"LastEvaluatedKey": {"n": {"N": str(number + 1)}}} if number < 19 else {})

    stack.answers |= {"Query": page, "BatchGetItem": lambda *_: {"Responses": {"Register": []}}}
    tracemalloc.start()
    assert json.loads(punctual("--json", "count").output)["total"] == 32_000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30_000_000
