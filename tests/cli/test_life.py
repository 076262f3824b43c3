"""`show` and where `cancel` finds an event: from the tables and the executions' log."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.conftest import NOW

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
        ("ExecutionFailed", {"error": "NotDelivered", "cause": "not delivered: gone"}, "failed: not delivered: gone"),
        ("ExecutionTimedOut", {"error": "States.Timeout"}, "timedout: States.Timeout"),
    ],
)
def test_every_outcome_is_a_sentence(punctual, tables, log, type, details, sentence):
    """What became of the event in this execution."""
    log.write("order-4711-00000000", started("order-4711", 6), (ago(1), type, details))
    assert sentence in " ".join(punctual("show", "order-4711").output.split())


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
