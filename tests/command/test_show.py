"""`show`: one sentence for whatever became of an event, from the tables and the logs."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pytest
from punctual_core.lanes import lane_of

from punctual import show
from tests.command.conftest import NOW, ago, ended, started

HOUR = timedelta(hours=1)
REVISION, ID = str(uuid.UUID(int=0)), "order-4711"


def told(punctual, *arguments: str, code: int = 0) -> dict:
    result = punctual("--json", "show", *arguments)
    assert result.code == code, result
    return json.loads(result.output)


def delivered(name: str, id: str, log, revision: str = REVISION, seconds: float = 1) -> None:
    entries = started(id, seconds + 5, revision=revision), ended({"message_id": "m-1", "late_ms": 12}, seconds)
    log.write(name, *entries)


# --- The verdicts -----------------------------------------------------------------------------------------------------


def test_a_parked_event_says_until_when(punctual, tables, log):
    """In a sentence, and as JSON with what the register and the table have."""
    tables.park(NOW + HOUR, id=ID)
    sentence = "parked until shortly before it is due at 2026-12-24 10:00:00.000 UTC"
    assert punctual("show", ID).output.endswith(f"\n{ID}: {sentence}.\n")
    shown = told(punctual, ID)
    assert (shown["verdict"], shown["sentence"], shown["missing"]) == ("parked", sentence, [])
    assert shown["registered"] == {
        "revision": REVISION,
        "claimed_by": "event",
        "published_at": "2026-12-24T09:00:00+00:00",
        "expires_at": shown["registered"]["expires_at"],
    }
    assert [event["due"] for event in shown["parked"]] == ["2026-12-24T10:00:00+00:00"]


def test_an_unnamed_parked_event_is_found_in_its_lane(punctual, tables, log):
    """It is not registered, so its lane is read."""
    ids = [tables.park(NOW + number * HOUR + HOUR, number=number) for number in range(20)]
    shown = told(punctual, ids[7])
    assert (shown["registered"], shown["verdict"]) == (None, "parked")
    assert [event["event"]["payload"] for event in shown["parked"]] == ["order-7"]
    tables.cancel(ids[7])  # It stays in its lane until it is due.
    assert told(punctual, ids[7])["sentence"] == f"canceled by the message {CANCEL}, {OF_CANCEL}"


def test_a_named_event_is_read_by_its_key_and_consistently(punctual, tables, log, calls):
    """What was published a second ago is there, and neither a lane nor the log of refusals has to be read."""
    tables.park(NOW + HOUR, id=ID)
    calls.clear()
    told(punctual, ID)
    operations = [operation for operation, _ in calls]
    assert (operations.count("Query"), operations.count("FilterLogEvents")) == (0, 1)
    assert [parameters["ConsistentRead"] for operation, parameters in calls if operation == "GetItem"] == [True, True]


def test_a_delivered_event_is_shown_with_the_time_of_each_state_and_its_lateness(punctual, tables, log):
    """From the log, whose entries may come in any order."""
    at = ago(1)
    log.write(
        REVISION,
        (at, "ExecutionSucceeded", {"output": '{"message_id": "m-1", "late_ms": 12}'}),
        (ago(2), "TaskStateEntered", {"name": "Publish"}),
        (ago(5), "WaitStateEntered", {"name": "WaitUntilCutoff"}),
        started(REVISION, 6),
    )
    shown = told(punctual, REVISION)
    assert shown["verdict"] == "delivered"
    [execution] = shown["executions"]
    assert (execution["status"], execution["message_id"], execution["late_ms"]) == ("SUCCEEDED", "m-1", 12)
    assert [state["name"] for state in execution["states"]] == ["WaitUntilCutoff", "Publish"]
    heading, *rows, sentence = punctual("show", REVISION).output.splitlines()
    assert heading.split() == ["time", "(UTC)", REVISION]
    assert [row[23:].strip() for row in rows[:3]] == [f"execution {REVISION} started", "WaitUntilCutoff", "Publish"]
    assert sentence.endswith(f":{at:%S.%f}"[:-3] + " UTC, 12 ms after its date, as message m-1.")


NAME = f"{ID}-00000000"  # of its execution
CANCEL, OF_CANCEL = str(uuid.UUID(int=99 << 96 | 99)), "published at 2026-12-24 09:00:00.000 UTC"


def retried(tables, log):
    """It is parked again; the problem is in the output of the execution that failed."""
    tables.park(NOW + HOUR, id=ID)
    tables.retry(ID, NOW + 2 * HOUR, 2)
    problem = {"retry_at": "2026-12-24T11:00:00Z", "retry": 2, "problem": "not delivered: Throttled"}
    log.write(NAME, started(ID, 60, revision=REVISION), ended(problem, 50))


def replaced(tables, log):
    """An execution of the first event found itself superseded; the second is in no table and in no log."""
    tables.park(NOW + timedelta(seconds=1), id=ID, number=5)
    log.write(NAME, started(ID, 6, revision=REVISION), ended({"superseded": True}, 1))


def logged_in_part(_, log):
    """The log has 248 KB of the input."""
    log.write(NAME, (ago(6), "ExecutionStarted", {"input": '{"id": "o'}), ended({"superseded": True}, 1))


VERDICTS = {
    "retried": (retried, "not delivered yet (not delivered: Throttled): retry 2 is due at 2026-12-24 11:00"),
    "waiting": (
        lambda _, log: log.write(NAME, started(ID, 3, due_ms=int(NOW.timestamp() * 1000))),
        "waiting in its execution until it is due at 2026-12-24 09:00:00.000 UTC",
    ),
    "canceled": (
        lambda tables, _: (tables.park(NOW + HOUR, id=ID), tables.cancel(ID)),
        f"canceled by the message {CANCEL}, {OF_CANCEL}",
    ),
    "canceled (after its delivery)": (
        lambda tables, log: (tables.cancel(ID, at=ago(1)), delivered(NAME, ID, log, seconds=10)),
        "; an event with this id had been delivered",
    ),
    "delivered (before its cancel)": (
        lambda tables, log: (tables.cancel(ID, at=ago(60)), delivered(NAME, ID, log, seconds=10)),
        "came too late",
    ),
    "replaced": (replaced, f"replaced by the message {uuid.UUID(int=5 << 96 | 5)}, {OF_CANCEL}"),
    "parked (though an earlier one was delivered)": (
        lambda tables, log: (tables.park(NOW + HOUR, id=ID, number=5), delivered(NAME, ID, log)),
        "parked until shortly before",
    ),
    "canceled (with a long input)": (logged_in_part, "canceled or replaced before it was due"),
    "refused": (
        lambda _, log: (log.refuse(ID, "payload is required"), log.refuse("order-4712", "user is required")),
        "refused: payload is required",
    ),
    "unclear": (  # Its execution may have started a moment ago, or it is not logged.
        lambda tables, _: (tables.park(NOW + HOUR, id=ID), tables.unpark()),
        "no longer parked: no execution since",
    ),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_the_verdict_is_a_word_and_a_sentence(punctual, tables, log, case):
    """From the register, the lanes, and the logs, which may contradict each other."""
    arrange, sentence = VERDICTS[case]
    arrange(tables, log)
    shown = told(punctual, ID)
    assert shown["verdict"] == case.partition(" (")[0] and sentence in shown["sentence"], shown


PERHAPS = "not delivered, as far as is known: its execution"


@pytest.mark.parametrize(
    ("end", "details", "verdict", "sentence"),
    [
        ("Succeeded", {"output": '{"superseded": true}'}, "canceled", "canceled or replaced before it was due"),
        ("Failed", {"error": "NotDelivered", "cause": "a: b"}, "not delivered", "a: b; reported to its failure topic"),
        ("Failed", {"error": "NotReported", "cause": "parked"}, "retried", "failed with NotReported: parked"),
        ("TimedOut", {"error": "States.Timeout"}, "not delivered", f"{PERHAPS} timed out with States.Timeout"),
        ("Aborted", {}, "not delivered", f"{PERHAPS} aborted"),
    ],
)
def test_the_end_of_an_execution_is_the_verdict(punctual, tables, log, end, details, verdict, sentence):
    """Of an unnamed event, of which no more is known."""
    log.write(REVISION, started(REVISION, 6), (ago(1), f"Execution{end}", details))
    shown = told(punctual, REVISION)
    assert (shown["verdict"], shown["sentence"]) == (verdict, sentence)


def test_an_event_that_was_never_seen_is_said_to_be(punctual, tables, log):
    """With exit code 1, and since when it was looked for."""
    result = punctual("show", "nothing", "--since", "2h")
    assert result.code == 1
    since = datetime.now(UTC) - 2 * HOUR
    assert f"punctual: nothing: never seen here, or longer ago than {since:%F %H:}" in result.error
    assert told(punctual, "nothing", code=1)["verdict"] == "unknown"


# --- What is missing --------------------------------------------------------------------------------------------------


def test_what_may_not_be_read_is_said_and_the_rest_is_shown(punctual, tables, log, stack):
    """A parked event is known without the logs."""
    tables.park(NOW + HOUR, id=ID)
    stack.refuse("FilterLogEvents", "AccessDeniedException", "no")
    result, sentence = punctual("show", ID), "the log of its executions could not be read: permission denied: no"
    assert result.code == 0 and "parked until" in result.output
    assert (result.error, told(punctual, ID)["missing"]) == (f"Not known: {sentence}.\n", [sentence])


@pytest.mark.parametrize(("level", "what"), [("ERROR", "only failures are"), ("OFF", "no executions are")])
def test_a_log_level_below_all_is_said(punctual, tables, log, stack, level, what):
    """Then an execution that is not in the log may have been."""
    stack.parameters["ExecutionLogLevel"] = level
    tables.park(NOW + HOUR, id="order-4711")
    assert f"{what} in the log" in punctual("show", "order-4711").error


def test_an_event_at_the_end_of_the_calendar_is_shown(punctual, tables, log):
    """Its item of the register expires in a year that Python does not have."""
    tables.park(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), id="never")
    assert "9999-12-" in punctual("show", "never").output
    assert told(punctual, "never")["registered"]["expires_at"] == "after the year 9999"


# --- Reading the log --------------------------------------------------------------------------------------------------


def test_what_is_shown_is_neither_style_nor_folded(punctual, tables, log):
    """A cause is SNS's own sentence, of any length and with any brackets, and its row is one line."""
    cause = f"not delivered: [/x] [red] :smile: {'x' * 5000}"
    log.write(REVISION, started(REVISION, 6), (ago(1), "ExecutionFailed", {"error": "E", "cause": cause}))
    assert punctual("show", REVISION).output.splitlines()[-2].endswith(f"failed with E: {cause}")


def test_an_execution_that_the_api_lists_has_its_error_and_cause(punctual, tables, log, stack):
    """As an emulator that lists Express executions answers, which has an output beside them."""
    summary = {"name": "order-4711-0", "executionArn": "arn", "startDate": ago(1), "status": "FAILED"}
    failure = {"error": "NotDelivered", "cause": "not delivered: gone", "output": '{"Error": "NotDelivered"}'}
    described = {"input": '{"id": "order-4711"}', "stopDate": ago(1), **failure}
    del stack.errors["ListExecutions"]
    too_old = summary | {"startDate": ago(100_000)}
    stack.answers["ListExecutions"] = lambda *_: {"executions": [too_old, summary]}
    stack.answers["DescribeExecution"] = lambda *_: described
    stack.answers["GetExecutionHistory"] = lambda *_: {"events": []}
    shown = told(punctual, "order-4711")
    assert shown["verdict"] == "not delivered"
    assert [execution["cause"] for execution in shown["executions"]] == ["not delivered: gone"]


@pytest.mark.parametrize(("since", "seconds"), [("2h", 7200), ("365000d", None)])
def test_the_log_is_read_as_far_back_as_it_is_told(punctual, tables, log, calls, since, seconds):
    """A time before 1970 is none that CloudWatch Logs takes. The filter is on the id."""
    punctual("show", "order-4711", "--since", since)
    [executions, refusals] = [parameters for operation, parameters in calls if operation == "FilterLogEvents"]
    begin = datetime.now(UTC).timestamp() - seconds if seconds else 0
    assert executions["startTime"] / 1000 == pytest.approx(begin, abs=60)
    assert executions["filterPattern"] == '{ $.execution_arn = "*:order-4711*" }'
    assert refusals["filterPattern"] == '{ $.message = "refused" && $.id = "order-4711" }'


def test_events_whose_ids_begin_alike_are_told_apart(punctual, tables, log):
    """order-47 is not order-4711, nor order-47-b, nor one that is parked in the same lane."""
    same_lane = next(id for number in range(999) if lane_of(id := f"order-47-{number}") == lane_of("order-47"))
    for id in ("order-4711", "order-47-b", same_lane):
        tables.park(NOW + HOUR, id=id)
        delivered(f"{id}-00000000", id, log)
    log.write("order-47-c-00000000", ended({"message_id": "m-2", "late_ms": 1}, 7), started("order-47-c", 6))
    log.write("order-4712-00000000", ended({"message_id": "m-3", "late_ms": 1}, 1))  # Its start is in no log.
    log.write("order-47-00000000", started("order-47", 6), ended({"message_id": "mine", "late_ms": 1}, 1))
    shown = told(punctual, "order-47")
    assert [execution["message_id"] for execution in shown["executions"]] == ["mine"]
    assert shown["parked"] == []


# --- --wait -----------------------------------------------------------------------------------------------------------


def test_wait_follows_an_event_until_it_is_decided(punctual, tables, log, monkeypatch):
    """It is parked, then waiting, then delivered; each is told once on stderr."""
    tables.park(ago(-5), id="order-4711", at=ago(60))
    steps = [lambda: None, lambda: log.write("order-4711-00000000", started("order-4711", 9, revision=REVISION))]
    steps += [lambda: delivered("order-4711-00000000-r1", "order-4711", log, seconds=0)]

    def step(_: float) -> None:
        if len(steps) == 2:
            tables.unpark()
        steps.pop(0)()

    monkeypatch.setattr(show.time, "sleep", step)
    result = punctual("show", "order-4711", "--wait")
    assert result.code == 0 and ": delivered at " in result.output.splitlines()[-1]
    assert [line.split()[1] for line in result.error.splitlines()] == ["parked", "waiting"]


def test_wait_ends_when_no_more_is_to_be_learned(punctual, tables, log, monkeypatch):
    """An event of which there is no trace may be on its way, for a while."""
    pauses, begin = [], datetime.now(UTC)
    monkeypatch.setattr(show.time, "sleep", pauses.append)
    monkeypatch.setattr(show, "datetime", Mock(now=lambda _: begin + timedelta(seconds=sum(pauses))))
    monkeypatch.setattr(show, "PATIENCE", timedelta(seconds=5))
    assert punctual("show", ID, "--wait").code == 1 and pauses == [3, 3]
