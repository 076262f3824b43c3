"""Deliver on a simulated clock: every path of an event, whatever fails, and for however long."""

import itertools
import json
from datetime import datetime, timedelta

import pytest
from punctual_core.lanes import due_of
from punctual_core.limits import INPUT_BYTES

from tests.workflows.world import (
    CALL_SECONDS,
    DUE,
    HOUR,
    MINUTE,
    OWN_TOPIC,
    PERMANENT,
    REVISION,
    SNS,
    SQS,
    STACK_TOPIC,
    STATES,
    TRANSIENT,
    UNDELIVERED,
    World,
    event,
    outage,
)

DELIVERED = ["WaitUntilCutoff", "LookUpRevision", "IsStillWanted", "WaitUntilDue", "Publish"]
HELD = [*DELIVERED[:3], "WaitUntilNearlyDue", "HoldFraction", "Publish"]
PARKED_AGAIN = [*DELIVERED, "FindSlots", "ChooseRetry", "IsTooLate", "Park", "IsUnreported", "ParkedAgain"]
# What the states of an execution take, besides the calls that are simulated.
SPARE_SECONDS = 0.2
# docs.aws.amazon.com/step-functions/latest/dg/choosing-workflow-type.html: then an execution ends without a report.
EXPRESS_SECONDS = 300
LONGEST_HORIZON_SECONDS = 63


# --- Delivered --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "path", "past_seconds"),
    [(0, DELIVERED, 0), (0, DELIVERED, HOUR), (1, HELD, 0), (250, HELD, 0), (500, HELD, 0), (999, HELD, 0)],
)
def test_event_is_delivered_when_it_is_due(milliseconds, path, past_seconds):
    """It is published once, not before it is due and at once if that has passed, and its output says how late. At log
    level ALL the input and output of every state are billed: nothing is passed on that is not used."""
    due = DUE + timedelta(milliseconds=milliseconds)
    world = World(event(due, subject="Order", attributes={"kind": "new"}), lead=-past_seconds or 5)
    run = world.run_first()
    [delivered] = world.delivered
    assert past_seconds <= delivered < past_seconds + SPARE_SECONDS
    assert (run.status, run.path) == ("SUCCEEDED", path)
    assert run.output == {"message_id": "m-1", "late_ms": pytest.approx(1000 * (delivered + CALL_SECONDS), abs=2)}
    assert run.outputs[:-1] == [{"superseded": False} if state == "LookUpRevision" else {} for state in path[:-1]]
    assert world.messages == [json.loads(world.event.input)["publish"]]


@pytest.mark.parametrize(
    ("registered", "seconds_ahead", "end"),
    [("another", 5, ["Superseded"]), ("another", 1.1, ["Superseded"]), (REVISION, 5, DELIVERED[3:])],
)
def test_superseded(registered, seconds_ahead, end):
    """An event is published if its id has its own revision, and not if it has another, even one that was written a
    moment ago."""
    world = World(event(id="order-4711"))
    world.clock.run(world.due - seconds_ahead)
    world.registered = registered
    run = world.run_first()
    assert (run.status, run.path, world.reported) == ("SUCCEEDED", [*DELIVERED[:3], *end], [])
    assert (run.output == {"superseded": True}) == (not world.delivered) == (registered != REVISION)


@pytest.mark.parametrize("milliseconds", [0, 1, 499, 500, 999])
def test_register_that_hangs(milliseconds):
    """If the register can't be read in two attempts, the event is delivered, at most 2.5 s late."""
    due = DUE + timedelta(milliseconds=milliseconds)
    world = World(event(due), outage({"LookUpRevision"}, until=HOUR, error="States.Timeout"))
    run = world.run_first()
    assert (run.path[-1], run.attempts.count("LookUpRevision")) == ("Publish", 2)
    assert 0 <= world.delivered[0] < 2.5 + SPARE_SECONDS


@pytest.mark.parametrize("milliseconds", [1, 499, 500, 999])
@pytest.mark.parametrize("error", ["Lambda.Unknown", "States.Timeout"])
def test_hold_that_fails(milliseconds, error):
    """If the function fails or hangs, the event is delivered at most 1.5 s late, and not early."""
    world = World(event(DUE + timedelta(milliseconds=milliseconds)), outage({"HoldFraction"}, HOUR, error))
    assert world.run_first().path == [*HELD[:-1], "WaitUntilDue", "Publish"]
    assert 0 <= world.delivered[0] < 1.5 + SPARE_SECONDS


@pytest.mark.parametrize("early", [0.001, 0.85, 1.7, 2.5])
@pytest.mark.parametrize("microsecond", [0, 1000])
def test_wait_that_ends_early(early, microsecond):
    """However early a Wait ends: the event is published in the second after it is due, in no additional state."""
    due = DUE + timedelta(microseconds=microsecond)
    world = World(event(due), outage({"HoldFraction"}, until=HOUR, error="Lambda.Unknown"), early=early)
    run = world.run_first()
    [delivered] = world.delivered
    assert 0 <= delivered < 1.1
    assert run.path[-1] == "Publish" and run.attempts.count("Publish") == 1


def test_wait_that_ends_far_too_early():
    """If a Wait ends so early that the retries do not bridge it, the event is parked, and not published early."""
    world = World(event(), early=20, lead=30)
    assert world.run_first().path == PARKED_AGAIN
    assert world.delivered == []
    [(_, key)] = world.parked
    assert due_of(key) >= DUE


# --- Retries inside of an execution -----------------------------------------------------------------------------------

# State -> what has to fail for it to be reached, after how many seconds a call is given up, and the longest pauses.
RETRIES = {
    "LookUpRevision": (set(), 1, [1]),
    "HoldFraction": (set(), 2, []),
    "Publish": (set(), 5, [1, 2, 4]),
    "Park": ({"Publish"}, 5, [1, 2, 4]),
    "ReportToPublisher": ({"Publish", "Park"}, 5, [1, 2]),
    "ReportToStackTopic": ({*SNS, "Park"}, 5, [1, 2]),
    "SendToUndelivered": ({*SNS, "Park"}, 5, [1, 2, 4]),
}


@pytest.mark.parametrize("error", ["Fault", "States.Timeout", PERMANENT])
@pytest.mark.parametrize("state", RETRIES)
def test_retries(state, error):
    """Each task is retried so often and with such pauses after any error; Publish not after a permanent one. With
    jitter, so that executions of the same moment do not all retry together."""
    before, timeout, pauses = RETRIES[state]
    attempts: list[float] = []

    def fault(called: str, seconds: float) -> str | None:
        if called == state:
            attempts.append(seconds)
            return error
        return "Fault" if called in before else None

    for seed in (None, 1):
        attempts.clear()
        World(event(DUE + timedelta(milliseconds=250)), fault, seed).run_first()
        taken = timeout if error == "States.Timeout" else 0
        waits = [later - earlier - taken for earlier, later in itertools.pairwise(attempts)]
        expected = [] if (state, error) == ("Publish", PERMANENT) else pauses
        if seed is None:
            assert waits == pytest.approx(expected, abs=0.1)
        else:
            assert len(waits) == len(expected)
            assert len(expected) < 2 or sum(waits) < 0.9 * sum(expected)


# --- Reports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fails", "told"),
    [({"Publish"}, OWN_TOPIC), ({"Publish", "ReportToPublisher"}, STACK_TOPIC), (SNS, UNDELIVERED)],
)
def test_permanent_error_is_reported_at_once(fails, told):
    """A report has the reason, the id, and the event as it was published: on its own failure topic, or else the
    stack's, or else in the Undelivered queue."""
    payload = 'an "order" {% 1 + 1 %} ${FailureTopicArn}\tGrüße 🕰️\n'
    message = {"failure_topic": OWN_TOPIC, "id": "order-4711", "payload": payload}
    world = World(event(**message), outage(fails, until=HOUR, error=PERMANENT))
    run = world.run_first()
    assert (run.status, run.error, run.cause) == ("FAILED", "NotDelivered", f"not delivered: {PERMANENT}: simulated")
    [(where, seconds)] = world.reported
    assert (where, world.parked, world.delivered) == (told, {}, [])
    assert seconds < 8
    [report] = world.messages
    assert report == {
        "error": run.cause,
        "id": "order-4711",
        "event": json.loads(world.event.input)["event"] | {"payload": payload},
    }


@pytest.mark.parametrize("error", [PERMANENT, TRANSIENT])
def test_cause_of_any_length(error):
    """The reason is one line of at most 1,000 printable characters of ASCII, whatever SNS says."""
    world = World(event(), outage({"Publish", "Park"}, until=HOUR, error=error), cause="topic\r\n\tor é so ~ !" * 200)
    world.run_first()
    [report] = world.messages
    assert report["error"].startswith(f"not delivered: {error}: topic or so ~ !topic or")
    assert len(report["error"]) == 1000


def test_event_is_reported_when_that_is_possible_again():
    """A permanent error, while neither SNS nor SQS take a report: it is parked, and reported once they do."""

    def error(state: str, seconds: float) -> str | None:
        is_down = seconds < HOUR and state in SNS | SQS
        return PERMANENT if state == "Publish" else TRANSIENT if is_down else None

    world = World(event(), error)
    world.run()
    [(_, reported)] = world.reported
    assert HOUR <= reported < HOUR + 17 * MINUTE
    assert [run.error for run in world.runs] == ["NotReported"] * (len(world.runs) - 1) + ["NotDelivered"]
    cause = "parked again, because no report could be sent: not delivered: SNS.NotFoundException: simulated"
    assert {run.cause for run in world.runs[:-1]} == {cause}
    assert len(world.runs) < 15


def test_event_is_kept_until_it_can_be_reported():
    """More than a day without SNS and SQS: the event is still there, and then it is delivered or reported."""
    world = World(event(), outage({*SNS, *SQS}, until=26 * HOUR))
    world.run(27 * HOUR)
    assert len(world.reported) + len(world.delivered) == 1
    assert world.parked == {}


@pytest.mark.parametrize(
    ("payload", "parked", "reported"),
    [("a" * (INPUT_BYTES - 1200), 1, 0), ('"' * (INPUT_BYTES // 2 - 600), 0, 1)],
    ids=["letters", "quotation marks"],
)
def test_large_event(payload, parked, reported):
    """The largest event is parked again, unless its text doubles where it is escaped twice: that one is reported."""
    world = World(event(payload=payload), outage({"Publish"}, until=HOUR))
    assert world.run_first().seconds < MINUTE
    assert (len(world.parked), len(world.reported)) == (parked, reported)


OUTCOMES = {state: [None, "States.Timeout"] for state in RETRIES} | {
    "Publish": [None, PERMANENT, TRANSIENT, "States.Timeout", "States.DataLimitExceeded"],
    "Park": [None, "States.Timeout", "States.DataLimitExceeded"],
}


def every_way_to_fail(due: datetime) -> list[World]:
    """An execution for every combination of outcomes of the tasks on its path."""
    ends: list[World] = []
    ahead: list[dict[str, str | None]] = [{}]
    while ahead:
        chosen = ahead.pop()

        def error(state: str, seconds: float, chosen=chosen) -> str | None:
            if state not in chosen:
                first, *others = OUTCOMES[state]
                ahead.extend(chosen | {state: other} for other in others)
                chosen[state] = first
            return chosen[state]

        ends.append(World(event(due), error, chance=None, lead=LONGEST_HORIZON_SECONDS))
        ends[-1].run_first()
    return ends


def test_every_combination_of_failures():
    """Whatever fails, an execution ends with the event delivered, parked or reported, exactly one of them; or, if SNS,
    SQS and DynamoDB all fail, with NotKept. The longest of them ends well before Express does, even of an event that
    was started the longest horizon before it was due."""
    ends = [*every_way_to_fail(DUE), *every_way_to_fail(DUE + timedelta(milliseconds=250))]
    assert len(ends) > 100
    taken = {"Superseded"}
    for world in ends:
        [run] = world.runs
        taken |= {*run.path}
        became = len(world.delivered), len(world.parked), len(world.reported)
        match run.status, run.error:
            case "SUCCEEDED", None:
                assert became in [(1, 0, 0), (0, 1, 0)]
            case "FAILED", "NotDelivered":
                assert became == (0, 0, 1)
            case "FAILED", "NotReported":
                assert became == (0, 1, 0)
            case "FAILED", error:
                assert (error, became) == ("NotKept", (0, 0, 0))
                assert {*SNS, *SQS} <= {*run.attempts}
                assert run.cause.startswith(
                    "neither reported nor parked; the input of this execution is the only copy: not delivered: S"
                )
    assert taken == STATES.keys()
    assert max(run.seconds for world in ends for run in world.runs) < EXPRESS_SECONDS - 30
