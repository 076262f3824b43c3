"""`show` and where `cancel` finds an event: from the tables and the executions' log."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from botocore.client import BaseClient

from tests.command.conftest import NOW

REVISION = "00000000-0000-0000-0000-000000000000"


def ago(seconds: float) -> datetime:
    """Some seconds before now, in milliseconds, as logs have it."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def started(id: str, seconds: float) -> tuple:
    return ago(seconds), "ExecutionStarted", {"input": json.dumps({"id": id})}


def ended(output: dict, seconds: float) -> tuple:
    return ago(seconds), "ExecutionSucceeded", {"output": json.dumps(output)}


def show(punctual, *arguments: str) -> dict:
    result = punctual("--json", "show", *arguments)
    assert result.code == 0, result.error
    return json.loads(result.output)


def test_a_parked_event_is_shown_with_its_registration(punctual, tables, log):
    """Published at 09:00 under an id, due at 10:00."""
    tables.park(NOW + timedelta(hours=1), id="order-4711")
    shown = show(punctual, "order-4711")
    assert shown["registered"]["revision"] == REVISION
    assert shown["registered"]["published_at"] == "2026-12-24T09:00:00+00:00"
    [parked] = shown["parked"]
    assert (parked["id"], parked["due"]) == ("order-4711", "2026-12-24T10:00:00+00:00")
    assert shown["executions"] == []


def test_an_unnamed_parked_event_is_found_in_its_lane(punctual, tables, log):
    """It is not registered, so its lane is read."""
    for number in range(20):
        tables.park(NOW + timedelta(hours=number), number=number)
    shown = show(punctual, REVISION)
    assert shown["registered"] is None
    assert [event["event"]["payload"] for event in shown["parked"]] == ["order-0"]


def test_a_canceled_event_that_is_still_parked_says_so(punctual, tables, log):
    """Ingest leaves an event without a name in its lane; Deliver finds its id registered for the cancel."""
    tables.park(NOW + timedelta(hours=1))
    assert show(punctual, REVISION)["parked"][0]["superseded"] is False
    tables.register.claim(REVISION, "the-cancel", "1", NOW)
    assert show(punctual, REVISION)["parked"][0]["superseded"] is True
    assert punctual("show", REVISION).output.rstrip().endswith("; canceled or replaced, so not delivered")


def test_a_delivered_event_is_shown_with_the_time_of_each_state_and_its_lateness(punctual, tables, log):
    """From the log, whose entries may come in any order."""
    log.write(
        REVISION,
        ended({"message_id": "m-1", "late_ms": 12}, 1),
        (ago(2), "TaskStateEntered", {"name": "Publish"}),
        (ago(5), "WaitStateEntered", {"name": "WaitUntilCutoff"}),
        started(REVISION, 6),
    )
    [execution] = show(punctual, REVISION)["executions"]
    assert (execution["status"], execution["message_id"], execution["late_ms"]) == ("SUCCEEDED", "m-1", 12)
    assert [state["name"] for state in execution["states"]] == ["WaitUntilCutoff", "Publish"]
    table = punctual("show", REVISION).output
    assert "delivered 12 ms after its date, as message m-1" in table


@pytest.mark.parametrize(
    ("type", "details", "sentence"),
    [
        ("ExecutionSucceeded", {"output": '{"superseded": true}'}, "not delivered: canceled or replaced"),
        (
            "ExecutionSucceeded",
            {"output": '{"retry_at": "2026-12-24T10:00:30Z", "attempt": 1, "problem": "not delivered: Throttled"}'},
            "not delivered: Throttled; parked again until 2026-12-24T10:00:30Z",
        ),
        (
            "ExecutionFailed",
            {"error": "NotDelivered", "cause": "not delivered: gone"},
            "failed with NotDelivered: not delivered: gone",
        ),
        ("ExecutionTimedOut", {"error": "States.Timeout"}, "timed out with States.Timeout"),
    ],
)
def test_every_outcome_is_a_sentence(punctual, tables, log, type, details, sentence):
    """What became of the event in this execution."""
    log.write("order-4711-00000000", started("order-4711", 6), (ago(1), type, details))
    assert punctual("show", "order-4711").output.splitlines()[-1].endswith(f"  {sentence}")


def test_what_is_shown_is_neither_style_nor_folded(punctual, tables, log):
    """A cause is SNS's own sentence, of any length and with any brackets, and its row is one line."""
    cause = f"not delivered: [/x] [red] :smile: {'x' * 5000}"
    log.write(
        "order-4711-00000000", started("order-4711", 6), (ago(1), "ExecutionFailed", {"error": "E", "cause": cause})
    )
    assert punctual("show", "order-4711").output.splitlines()[-1].endswith(f"failed with E: {cause}")


def test_an_execution_that_the_api_lists_has_its_error_and_cause(punctual, tables, monkeypatch, stack):
    """As an emulator that lists Express executions answers, which has an output beside them."""
    arn, at = "arn:execution", ago(1)
    answers = {
        "ListExecutions": {
            "executions": [{"name": "order-4711-0", "executionArn": arn, "startDate": at, "status": "FAILED"}]
        },
        "DescribeExecution": {
            "input": json.dumps({"id": "order-4711"}),
            "output": json.dumps({"Error": "NotDelivered", "Cause": "gone"}),
            "error": "NotDelivered",
            "cause": "gone",
            "stopDate": at,
        },
        "GetExecutionHistory": {"events": []},
    }
    del stack.errors["ListExecutions"]
    call = BaseClient._make_api_call
    monkeypatch.setattr(
        BaseClient,
        "_make_api_call",
        lambda client, operation, parameters: answers.get(operation) or call(client, operation, parameters),
    )
    [execution] = show(punctual, "order-4711")["executions"]
    assert (execution["status"], execution["error"], execution["cause"]) == ("FAILED", "NotDelivered", "gone")
    assert punctual("show", "order-4711").output.splitlines()[-1].endswith("failed with NotDelivered: gone")


@pytest.mark.parametrize("since", ["90000d", "365000d"])
def test_show_reads_from_the_beginning_of_the_log_at_most(punctual, tables, log, since):
    """A time before 1970 is none that CloudWatch Logs takes."""
    log.write("order-4711-00000000", started("order-4711", 6), ended({"superseded": True}, 1))
    assert punctual("show", "order-4711", "--since", since).code == 0


def test_a_duration_beyond_the_calendar_is_wrong_usage(punctual, tables, log):
    """Now minus it would be no time."""
    result = punctual("show", "order-4711", "--since", "999999d")
    assert (result.code, result.error) == (
        2,
        "punctual: Invalid value for '--since': '999999d' is too long (see punctual show --help)\n",
    )


def test_events_whose_ids_begin_alike_are_told_apart(punctual, tables, log):
    """order-47 is not order-4711, nor order-47-b."""
    for id in ("order-4711", "order-47-b"):
        tables.park(NOW + timedelta(hours=1), id=id)
        log.write(f"{id}-00000000", started(id, 6), ended({"message_id": "m", "late_ms": 1}, 1))
    log.write("order-47-00000000", started("order-47", 6), ended({"message_id": "mine", "late_ms": 1}, 1))
    shown = show(punctual, "order-47")
    assert [execution["message_id"] for execution in shown["executions"]] == ["mine"]
    assert shown["parked"] == []


def test_an_unknown_event_is_said_to_be_unknown(punctual, tables, log):
    """With exit code 1."""
    result = punctual("show", "nothing")
    assert result.code == 1
    assert result.error == "punctual: nothing is unknown: not registered, not parked, and no execution in the log\n"


def test_show_reads_only(punctual, tables, log, stack):
    """Nothing is written, published, or deleted."""
    tables.park(NOW + timedelta(hours=1), id="order-4711")
    before = [tables.dynamodb.scan(TableName=table)["Items"] for table in ("Parked", "Register")]
    punctual("show", "order-4711")
    assert before == [tables.dynamodb.scan(TableName=table)["Items"] for table in ("Parked", "Register")]
    assert stack.received() == []


# --- Cancel -----------------------------------------------------------------------------------------------------------


def test_cancel_publishes_and_says_that_the_event_was_parked(punctual, tables, log, stack):
    """With its due time."""
    tables.park(NOW + timedelta(hours=1), id="order-4711")
    result = punctual("cancel", "order-4711")
    assert result.output == "Canceled order-4711. It was parked, due at 2026-12-24 10:00:00.000 UTC.\n"
    assert stack.received() == ['{"cancel": "order-4711"}']


def test_cancel_says_that_the_event_is_waiting_in_its_execution(punctual, tables, log, stack):
    """Its execution has started and not ended."""
    log.write("order-4711-00000000", started("order-4711", 6))
    assert json.loads(punctual("--json", "cancel", "order-4711").output)["found"] == "waiting"
    assert stack.received() == ['{"cancel": "order-4711"}']


def test_cancel_of_an_unknown_event_is_published_all_the_same(punctual, tables, log, stack):
    """The event may be on its way."""
    assert "It is unknown" in punctual("cancel", "order-4711").output
    assert stack.received() == ['{"cancel": "order-4711"}']


def test_cancel_of_what_cannot_be_an_id_is_refused(punctual, tables, log, stack):
    """By the rule of Ingest, with exit code 2; nothing is published."""
    result = punctual("cancel", "order 4711")
    assert (result.code, result.error) == (
        2,
        "punctual: cancel must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -\n",
    )
    assert stack.received() == []
