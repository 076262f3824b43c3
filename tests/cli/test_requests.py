"""What the commands ask of AWS, call by call, and what they print about it, word by word."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from punctual import cli, life, queues
from punctual.moments import shown, to_duration
from punctual.parked import MAX_BARS, Parked, _bar_chart
from punctual.stack import Stack
from tests.aws_limits import violations
from tests.cli.conftest import NOW


@pytest.fixture
def calls(stack, monkeypatch) -> list[tuple[str, dict]]:
    """Every call of AWS: operation and parameters. What AWS would refuse fails the test."""
    made, refused, call = [], [], BaseClient._make_api_call

    def note(client, operation, parameters):
        made.append((operation, parameters))
        refused.extend(violations(client.meta.service_model.operation_model(operation), parameters))
        return call(client, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", note)
    yield made
    assert not refused


@pytest.fixture
def wide(monkeypatch) -> None:
    """A terminal in which no line is wrapped."""
    monkeypatch.setenv("COLUMNS", "200")


def asked(calls, operation: str) -> list[dict]:
    return [parameters for called, parameters in calls if called == operation]


# --- resend and redrive ---


def test_resend_reads_ten_at_a_time_and_hides_them_for_15_minutes(punctual, stack, calls):
    """Long polling asks every server of the queue, so an empty answer means an empty queue."""
    punctual("resend")
    assert asked(calls, "ReceiveMessage") == [
        {
            "QueueUrl": stack.undelivered,
            "MaxNumberOfMessages": 10,
            "WaitTimeSeconds": 2,
            "VisibilityTimeout": 900,
            "MessageSystemAttributeNames": ["SentTimestamp"],
        }
    ]


def test_resend_publishes_to_the_input_topic_and_then_deletes(punctual, stack, calls):
    """An event that was not accepted is not deleted."""
    stack.add_undelivered({"payload": "x"})
    punctual("resend")
    order = [operation for operation, _ in calls if operation in ("Publish", "DeleteMessage")]
    assert order == ["Publish", "DeleteMessage"]
    [publish] = asked(calls, "Publish")
    assert publish == {"TopicArn": stack.input_topic, "Message": '{"payload":"x","id":"order-4711"}'}


@pytest.mark.parametrize(
    "fault",
    [
        ClientError({"Error": {"Code": "Throttled", "Message": "slow"}}, "Publish"),
        EndpointConnectionError(endpoint_url="https://sns"),
        ReadTimeoutError(endpoint_url="https://sns"),
    ],
    ids=["refused", "no connection", "no answer"],
)
def test_resend_keeps_what_cannot_be_published_and_goes_on(punctual, stack, fault):
    """Whatever the reason is: it is said for each event, and the queue has all of them."""
    stack.add_undelivered({"payload": "x"})
    stack.add_undelivered({"payload": "y"})
    stack.errors["Publish"] = fault
    result = punctual("resend")
    assert (result.code, stack.left()) == (1, 2)
    line = f"kept, because it could not be published ({fault}): order-4711 (not delivered: ...)"
    assert result.output.splitlines() == [line] * 2
    assert "kept in the queue: 2 (" in result.error


def test_resend_goes_on_after_each_kind_of_message_that_stays(punctual, stack):
    """One is no report, one is truncated, and the third is published."""
    stack.send_to_undelivered('{"id": "x"}')
    stack.add_undelivered("{", truncated=True)
    stack.add_undelivered({"payload": "x"})
    result = punctual("resend")
    first, second, third = sorted(result.output.splitlines())
    assert first.startswith("kept, because it is not a failure report: ") and first.endswith(" (unknown)")
    assert second == "kept, because only the beginning of the event is here: order-4711 (not delivered: ...)"
    assert third == "published again: order-4711 (not delivered: ...)"


@pytest.mark.parametrize(
    ("event", "published"),
    [
        ({"id": "own", "payload": "x"}, '{"id":"own","payload":"x"}'),
        ({"payload": "ä"}, '{"payload":"ä","id":"reported"}'),
        ({"payload": "x", "delay": 60}, '{"payload":"x","delay":0,"id":"reported"}'),
        ({"cancel": "a"}, '{"cancel":"a"}'),
        (["x"], '["x"]'),
        ("not JSON", "not JSON"),
    ],
    ids=["named", "unnamed", "delay", "cancel", "array", "text"],
)
def test_an_event_is_published_again_as_it_was_but_under_its_id_and_at_once(event, published):
    """A delay is over: counted anew, it would delay the event again."""
    assert queues._as_published({"id": "reported", "error": "e", "event": event}) == published


@pytest.mark.parametrize(("sent", "is_read"), [(999_999, True), (1_000_000, False), (1_000_001, False)])
def test_what_arrives_after_the_start_is_left_for_the_next_run(sent, is_read):
    """A report that comes back for each event would be read for ever."""

    answers = [{"Messages": [{"Attributes": {"SentTimestamp": str(sent)}}]}, {}]

    class Queue:
        def receive_message(self, **_):
            return answers.pop(0)

    assert bool(list(queues._messages(Queue(), "url", sent_before=1000.0))) is is_read


@pytest.mark.parametrize("command", ["resend", "redrive"])
def test_what_was_in_the_queue_at_the_start_is_what_is_read(punctual, stack, monkeypatch, command):
    """By this machine's clock: with one that is a minute behind, nothing is."""
    stack.outputs["InputDeadLettersUrl"], stack.physical_ids["InputQueue"] = stack.undelivered, stack.behind
    stack.add_undelivered({"payload": "x"})
    began = time.time()
    monkeypatch.setattr(queues.time, "time", lambda: began - 60)
    punctual(command)
    assert (stack.left(), stack.received()) == (1, [])


def test_redrive_as_json(punctual, stack):
    """How many were moved."""
    stack.outputs["InputDeadLettersUrl"], stack.physical_ids["InputQueue"] = stack.undelivered, stack.behind
    for number in range(3):
        stack.send_to_undelivered(f"message {number}")
    assert json.loads(punctual("--json", "redrive").output) == {"moved": 3}
    assert (sorted(stack.received()), stack.left()) == ([f"message {number}" for number in range(3)], 0)


# --- list, count, show ---


def test_list_asks_each_lane_for_what_is_due_in_between(punctual, tables, calls):
    """By its sort keys: from `after` on, and before `before`."""
    punctual("list", "--after", "2026-12-24T10:00Z", "--before", "2026-12-24T11:00Z", "--limit", "7")
    queries = asked(calls, "Query")
    lanes = [query["ExpressionAttributeValues"].pop(":lane")["S"] for query in queries]
    assert lanes == [f"lane-{number:02}" for number in range(16)]
    for query in queries:
        assert query == {
            "TableName": "Parked",
            "KeyConditionExpression": "lane = :lane AND sort_key BETWEEN :after AND :before",
            "ExpressionAttributeValues": {
                ":after": {"S": "2026-12-24T10:00:00.000000"},
                ":before": {"S": "2026-12-24T11:00:00.000000"},
            },
            "Limit": 7,
        }


def test_count_reads_keys_alone(punctual, tables, calls):
    """What an event contains is not sent over the network."""
    punctual("count")
    assert {query["ProjectionExpression"] for query in asked(calls, "Query")} == {"sort_key"}


def test_a_parked_event_as_json(punctual, tables):
    """The message as it was published, and where it is."""
    tables.park(NOW, id="order-4711", payload="größer")
    [event] = json.loads(punctual("--json", "list").output)
    assert event == {
        "id": "order-4711",
        "due": "2026-12-24T09:00:00+00:00",
        "retry": 0,
        "lane": event["lane"],
        "execution": "order-4711-00000000",
        "event": {
            "date": "2026-12-24T09:00:00+00:00",
            "target": "arn:aws:sns:eu-central-1:123456789012:orders",
            "user": "team",
            "payload": "größer",
            "id": "order-4711",
        },
    }
    assert "größer" in punctual("--json", "list").output


def test_a_long_payload_is_cut_after_40_characters(punctual, tables, wide):
    """41 characters are 40 and three dots; 40 are 40."""
    tables.park(NOW, number=1, payload="x" * 40)
    tables.park(NOW + timedelta(seconds=1), number=2, payload="y" * 41)
    lines = punctual("list").output.splitlines()[1:]
    assert ["x" * 40 in lines[0], "..." in lines[0]] == [True, False]
    assert "y" * 40 + "..." in lines[1] and "y" * 41 not in lines[1]


@pytest.mark.parametrize(("events", "is_said"), [(2, True), (1, False)])
def test_a_full_page_says_that_there_may_be_more(punctual, tables, events, is_said):
    """In one sentence on stderr."""
    for number in range(events):
        tables.park(NOW, number=number)
    note = "The first 2. There may be more: see --limit and --after.\n"
    assert punctual("list", "--limit", "2").error == (note if is_said else "")


@pytest.mark.parametrize(
    ("by", "label"), [("day", "2026-12-24"), ("hour", "2026-12-24 09:00"), ("minute", "2026-12-24 09:05")]
)
def test_a_bar_is_labeled_by_its_width(punctual, tables, by, label):
    """In UTC, with a heading that says so."""
    tables.park(NOW + timedelta(minutes=5, seconds=7))
    heading, bar, total = punctual("count", "--by", by).output.splitlines()
    assert heading.split() == [by, "(UTC)", "events"]
    assert bar.rsplit(maxsplit=2) == [label, "1", "█" * 40]
    assert total == "1 event is parked."


def test_a_short_bar_is_seen_and_too_many_are_counted():
    """1 of 1,000 is a bar of one character; of 1,002 bars two are left out."""
    starts = [NOW + timedelta(hours=number) for number in range(MAX_BARS + 2)]
    table = _bar_chart("hour", {start: 1 if number else 1000 for number, start in enumerate(starts)})
    times, numbers, bars = (list(column.cells) for column in table.columns)
    assert (len(times), numbers[:2], bars[:2]) == (1001, ["1,000", "1"], ["█" * 40, "█"])
    assert (times[-1], bars[-1]) == ("...", "2 more bars: choose a wider one with --by")
    assert len(list(_bar_chart("hour", dict.fromkeys(starts[:MAX_BARS], 1)).columns[0].cells)) == 1000


def test_a_retry_is_the_attempt_of_the_item():
    """An event that was not tried yet has none."""
    item = {name: {"S": "{}"} for name in ("lane", "execution", "input")} | {"sort_key": {"S": "2026-12-24T09:00:00#r"}}
    assert Parked.from_item(item).retry == 0
    assert Parked.from_item(item | {"attempt": {"N": "2"}}).retry == 2


def test_show_reads_the_register_and_the_event_by_key(punctual, tables, log, calls):
    """Consistently: what was published a second ago is there. No lane is read for a named event."""
    tables.park(NOW + timedelta(hours=1), id="order-4711")
    calls.clear()
    result = json.loads(punctual("--json", "show", "order-4711").output)
    register, parked = asked(calls, "GetItem")
    assert register == {"TableName": "Register", "Key": {"id": {"S": "order-4711"}}, "ConsistentRead": True}
    assert (parked["TableName"], parked["Key"]["lane"]["S"]) == ("Parked", result["parked"][0]["lane"])
    assert not asked(calls, "Query")
    assert result["registered"]["expires_at"] == "2027-03-24T10:00:00+00:00"


def test_show_reads_the_log_as_far_back_as_it_is_told(punctual, tables, log, calls):
    """A day, unless another duration is given; filtered by the id."""
    for arguments, seconds in ((["--since", "2h"], 7200), ([], 86400)):
        calls.clear()
        punctual("show", "order-4711", *arguments)
        [search] = asked(calls, "FilterLogEvents")
        assert search["startTime"] / 1000 == pytest.approx(time.time() - seconds, abs=60)
        assert search["logGroupName"] == log.GROUP
        assert search["filterPattern"] == '{ $.execution_arn = "*:order-4711*" }'


def test_cancel_looks_six_minutes_back(punctual, tables, log, calls):
    """An execution of Express lasts five at most."""
    punctual("cancel", "order-4711")
    [search] = asked(calls, "FilterLogEvents")
    assert search["startTime"] / 1000 == pytest.approx(time.time() - 360, abs=30)


def test_the_timeline_tells_the_life_in_order(punctual, tables, log, wide):
    """Published, started, each state, the outcome; then where it is parked."""
    tables.park(NOW + timedelta(hours=1), id="order-4711")
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=9)
    log.write(
        "order-4711-00000000",
        (moment, "ExecutionStarted", {"input": '{"id": "order-4711"}'}),
        (moment + timedelta(seconds=1), "TaskStateEntered", {"name": "Publish"}),
        (moment + timedelta(seconds=2), "ExecutionFailed", {"error": "E", "cause": "because"}),
    )
    lines = [line.rstrip() for line in punctual("show", "order-4711").output.splitlines()]
    at = [shown(moment + timedelta(seconds=number)) for number in range(3)]
    assert lines[0].split() == ["time", "(UTC)", "order-4711"]
    assert [line.split("  ", 1) for line in lines[1:]][:1] == [
        [
            "2026-12-24 09:00:00.000",
            "last message with this id: 00000000-0000-0000-0000-000000000000",
        ]
    ]
    assert lines[2:5] == [
        f"{at[0]}  execution order-4711-00000000 started",
        f"{at[1]}    Publish",
        f"{at[2]}    failed with E: because",
    ]
    assert lines[5].startswith("2026-12-24 10:00:00.000  parked in lane-")
    assert lines[5].endswith("; started shortly before")


@pytest.mark.parametrize(
    ("status", "result", "outcome"),
    [
        ("SUCCEEDED", {"message_id": "m", "late_ms": 1234}, "delivered 1,234 ms after its date, as message m"),
        ("RUNNING", {}, "waiting, or being delivered"),
        ("FAILED", {"error": "NotDelivered", "cause": "two\nlines"}, "failed with NotDelivered: two lines"),
        ("TIMED_OUT", {"error": "States.Timeout"}, "timed out with States.Timeout"),
        ("ABORTED", {"cause": "by hand"}, "aborted: by hand"),
        ("ABORTED", {}, "aborted"),
    ],
)
def test_an_outcome_is_said(status, result, outcome):
    """What the log has of it."""
    assert life.Execution("order", status=status, result=result).outcome == outcome


@pytest.mark.parametrize(
    ("name", "is_of"), [("order", True), ("order-1", True), ("orders", False), ("an-order", False), ("orde", False)]
)
def test_an_execution_is_that_of_its_id(name, is_of):
    """The id, or the id and a hyphen."""
    assert life._is_of(name, "order") is is_of


@pytest.mark.parametrize(
    ("output", "error", "cause", "result"),
    [
        ('{"late_ms": 1}', None, None, {"late_ms": 1}),
        (None, "E", "because", {"error": "E", "cause": "because"}),
        (None, "E", None, {"error": "E"}),
        ('{"Error": "E", "Cause": "because"}', "E", "because", {"error": "E", "cause": "because"}),
        (None, None, None, {}),
    ],
)
def test_a_result_is_an_output_or_an_error(output, error, cause, result):
    """With an error it is the error: the emulator has an output beside it."""
    assert life._result(output, error, cause) == result


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", "1"])
def test_an_input_that_the_log_has_not_whole_has_no_id(text):
    """It may be cut; the name of the execution then has to do."""
    assert life._id_in(text) is None


# --- Times, errors, the stack, the publisher ---


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("1m", 60), ("1h", 3600), ("1d", 86400), ("1.5h", 5400), ("1d2h3m4s", 93784)]
)
def test_a_duration_is_a_sum(text, seconds):
    """Of numbers with units."""
    assert to_duration(None, None, text) == timedelta(seconds=seconds)


def test_a_time_is_shown_in_utc_to_the_millisecond():
    """Truncated, as in 10:00:00.999."""
    moment = datetime.fromisoformat("2026-12-24T11:00:00.999999+01:00")
    assert shown(moment) == "2026-12-24 10:00:00.999"


@pytest.mark.parametrize(
    ("code", "message", "operation", "sentence"),
    [
        ("AccessDenied", "no", "Publish", "permission denied: no"),
        ("AuthorizationError", "no.", "Publish", "permission denied: no"),
        ("UnauthorizedOperation", "", "Publish", "permission denied: Publish"),
        ("ValidationError", "bad", "Publish", "Publish failed: ValidationError: bad"),
        ("Throttling", "slow.", "Query", "Query failed: Throttling: slow"),
    ],
)
def test_an_error_of_aws_is_one_sentence(code, message, operation, sentence):
    """Without a period at its end."""
    error = ClientError({"Error": {"Code": code, "Message": message}}, operation)
    assert cli._sentence(error) == sentence


def test_an_error_without_a_code_is_unknown():
    """Not a traceback."""
    assert cli._sentence(ClientError({}, "Query")) == "Query failed: unknown error: "


def test_a_topic_is_an_arn_or_a_name_beside_the_input_topic(stack):
    """In the same account and Region."""
    found = Stack("punctual")
    assert found.topic_arn("orders") == stack.input_topic.replace(":input", ":orders")
    assert found.topic_arn("arn:x") == "arn:x"


def test_by_default_a_stack_allows_its_own_topics_and_requires_a_user(stack):
    """The parameters are absent if they were left out."""
    rules = Stack("punctual").rules()
    assert (rules.input_topic, rules.user_required) == (stack.input_topic, True)
    assert rules.allowed_topics == (stack.input_topic.replace(":input", ":*"),)


def test_a_stack_is_described_once(stack, calls):
    """However many outputs and parameters are asked for."""
    found = Stack("punctual")
    for _ in range(3):
        found.output("InputTopicArn")
        found.rules()
    assert len(asked(calls, "DescribeStacks")) == 1
