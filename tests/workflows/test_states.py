"""The states one by one: what each expression gives at its limits, how long each task may take, and what is passed on.

How the states work together is tested by executions, in the other files.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from punctual_core.event import Event, Rules, parse
from punctual_core.lanes import lane_of, sort_key

from tests.workflows.expressions import QueryEvaluationError, fill
from tools.cloudformation import Template

TEMPLATE = Template()
INTERVALS = [int(value) for value in TEMPLATE.text["Parameters"]["SweepIntervalSeconds"]["AllowedValues"]]


def states_of(machine: dict) -> Iterator[tuple[str, dict]]:
    """Every state, those in a Map included."""
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states_of(state["ItemProcessor"])


MACHINES = {name: json.loads(TEMPLATE.definition(name)) for name in ("Deliver", "Sweep")}
STATES = {name: state for machine in MACHINES.values() for name, state in states_of(machine)}

REVISION = "0dbd2ba2-74cb-4ef2-9b3c-2f4b39a2b1a4"
TOPICS = "arn:aws:sns:eu-central-1:123456789012:"
DUE = datetime(2026, 12, 24, 10, 0, 0, 250_000, UTC)
DUE_MS = int(DUE.timestamp() * 1000)


def event(**fields: str) -> Event:
    message = {"date": DUE.isoformat(), "target": f"{TOPICS}orders", "user": "team", "payload": "order", **fields}
    parsed = parse(json.dumps(message), REVISION, DUE - timedelta(days=1), Rules(f"{TOPICS}input", ("*",)))
    assert isinstance(parsed, Event)
    return parsed


UNNAMED, NAMED = event(), event(id="order-4711", failure_topic=f"{TOPICS}failures")


def value(
    template: Any,
    of: Event = UNNAMED,
    attempt: int = 0,
    now_ms: int = DUE_MS,
    chance: float = 0.0,
    variables: dict | None = None,
    **states: Any,
) -> Any:
    """A part of a definition with its expressions evaluated, in an execution for an event."""
    execution_input = json.loads(of.input) | ({"attempt": attempt} if attempt else {})
    context = {"Execution": {"Id": "arn:execution", "Input": execution_input}}
    everything = (variables or {}) | {"states": {"context": context} | states}
    return fill(template, everything, millis=lambda: now_ms, random=lambda: chance)


# --- Tasks ------------------------------------------------------------------------------------------------------------

# Seconds that an attempt of a task may take. The calls take milliseconds; where many attempts follow each other, all of
# them have to end before Express does, at 300 s.
TIMEOUTS = {
    "LookUpRevision": 1,  # It is two seconds before the event is due: if there is no answer, that is late enough.
    "HoldFraction": 5,  # The timeout of the function.
    "Publish": 5,
    "ParkAgain": 5,
    "ReportToPublisher": 5,
    "ReportToStackTopic": 5,
    "SendToUndelivered": 5,
    "ParkUnreported": 5,
    "RecordStart": 2,  # Both are in the time of ticks.
    "LookUpSuccessor": 2,
    "Sweep": 35,  # More than the timeout of the function.
}

CALLS = {
    "LookUpRevision": "dynamodb:getItem",
    "HoldFraction": "lambda:invoke",
    "Publish": "sns:publish",
    "ParkAgain": "dynamodb:putItem",
    "ReportToPublisher": "sns:publish",
    "ReportToStackTopic": "sns:publish",
    "SendToUndelivered": "sqs:sendMessage",
    "ParkUnreported": "dynamodb:putItem",
    "RecordStart": "dynamodb:putItem",
    "LookUpSuccessor": "dynamodb:getItem",
    "Sweep": "lambda:invoke",
}


def test_tasks():
    """What each task calls, and how long an attempt may take."""
    tasks = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
    assert {name: state["TimeoutSeconds"] for name, state in tasks.items()} == TIMEOUTS
    assert {name: state["Resource"] for name, state in tasks.items()} == {
        name: f"arn:aws:states:::{call}" for name, call in CALLS.items()
    }


# --- What is passed on ------------------------------------------------------------------------------------------------

# A state, or what catches its errors -> the names in its output.
OUTPUTS = {
    "LookUpRevision": {"superseded"},
    "LookUpRevision.Catch.0": {"superseded"},
    "Superseded": {"superseded"},
    "Publish": {"message_id", "late_ms"},
    "ParkAgain": {"retry_at", "attempt", "problem"},
    "LookUpSuccessor": {"has_successor"},
    "LookUpSuccessor.Catch.0": {"has_successor"},
    "Sweep.Catch.0": {"missed"},
}
# The input of these is small, and is passed on as it is.
AS_IT_IS = {"WaitForTick", "MissTick", "Done", "WaitForSuccessor"}


def test_nothing_is_passed_on_that_is_not_used():
    """At log level ALL the input and the output of each state are paid for, and an event is in every execution's
    input: states read it there, and pass on what the next one needs."""
    for name, state in STATES.items():
        if state["Type"] == "Fail":
            continue
        # A rule of a Choice passes on the Choice's input, which is small.
        parts = {name: state} | {f"{name}.Catch.{number}": part for number, part in enumerate(state.get("Catch", []))}
        for place, part in parts.items():
            if name in AS_IT_IS:
                assert "Output" not in part
            elif place == "Sweep":
                assert part["Output"] == "{% $states.result.Payload %}"
            else:
                assert part["Output"].keys() == OUTPUTS.get(place, set()), place


# --- Whether an event is still wanted ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "superseded"),
    [
        ({}, False),
        ({"Item": {"revision": {"S": REVISION}}}, False),
        ({"Item": {"revision": {"S": "another"}}}, True),
    ],
)
def test_superseded(result, superseded):
    """An event is superseded if there is an item for its id, with another revision."""
    assert value(STATES["LookUpRevision"]["Output"], result=result) == {"superseded": superseded}


def test_look_up_reads_the_revision():
    """The register is read consistently, because a cancel of the last moment counts; and only what is needed."""
    assert value(STATES["LookUpRevision"]["Arguments"], of=NAMED) == {
        "TableName": TEMPLATE.resolve({"Ref": "Register"}),
        "Key": {"id": {"S": "order-4711"}},
        "ProjectionExpression": "revision",
        "ConsistentRead": True,
    }
    assert STATES["LookUpRevision"]["Catch"][0]["Output"] == {"superseded": False}


def test_way_to_wait():
    """A superseded event is not delivered; one with a fraction of a second waits for that in another way."""
    [superseded, has_fraction] = STATES["IsStillWanted"]["Choices"]
    assert value(superseded["Condition"], input={"superseded": True}) is True
    assert value(superseded["Condition"], input={"superseded": False}) is False
    assert (superseded["Next"], has_fraction["Next"]) == ("Superseded", "WaitUntilNearlyDue")
    whole = parse(
        json.dumps({"date": "2026-12-24T10:00:00Z", "target": f"{TOPICS}orders", "user": "a", "payload": "b"}),
        REVISION,
        DUE,
        Rules(f"{TOPICS}input", ("*",)),
    )
    assert value(has_fraction["Condition"], of=UNNAMED) is True
    assert value(has_fraction["Condition"], of=whole) is False
    assert STATES["IsStillWanted"]["Default"] == "WaitUntilDue"


def test_times_that_are_waited_for():
    """Each Wait waits for the time that it is named for, and Hold for the due time."""
    times = json.loads(UNNAMED.input)
    assert value(STATES["WaitUntilCutoff"]["Timestamp"]) == times["cutoff_at"]
    assert value(STATES["WaitUntilNearlyDue"]["Timestamp"]) == times["wake_at"]
    assert value(STATES["WaitUntilDue"]["Timestamp"]) == times["due_rounded_up_at"]
    assert value(STATES["HoldFraction"]["Arguments"]) == {
        "FunctionName": TEMPLATE.arn("Hold"),
        "Payload": {"due_ms": DUE_MS},
    }


# --- Publish ----------------------------------------------------------------------------------------------------------


def test_publish_is_not_early():
    """One millisecond before the due time there is an error instead of arguments; from then on there are these."""
    arguments = STATES["Publish"]["Arguments"]
    with pytest.raises(QueryEvaluationError, match=r"not due yet$"):
        value(arguments, now_ms=DUE_MS - 1)
    for now_ms in (DUE_MS, DUE_MS + 1):
        assert value(arguments, now_ms=now_ms) == json.loads(UNNAMED.input)["publish"]


def test_lateness():
    """The output says by how many milliseconds the answer of SNS came after the due time."""
    output = value(STATES["Publish"]["Output"], now_ms=DUE_MS + 41, result={"MessageId": "m-1"})
    assert output == {"message_id": "m-1", "late_ms": 41}


@pytest.mark.parametrize("catcher", [1, 2])
def test_problem_of_a_failed_publish(catcher):
    """One line of at most 1,000 printable characters of ASCII, whatever SNS says."""
    expression = STATES["Publish"]["Catch"][catcher]["Assign"]["problem"]
    error = {"Error": "SNS.Fault", "Cause": "topic\r\n\tor é so ~ !"}
    assert value(expression, errorOutput=error) == "not delivered: SNS.Fault: topic or so ~ !"
    assert len(value(expression, errorOutput=error | {"Cause": "x" * 2000})) == 1000


def test_problem_of_a_message_that_is_too_large():
    """Step Functions' own error has a cause that repeats the message: it is left out."""
    expression = STATES["Publish"]["Catch"][0]["Assign"]["problem"]
    error = {"Error": "States.DataLimitExceeded", "Cause": "x" * 2000}
    assert value(expression, errorOutput=error) == "not delivered: States.DataLimitExceeded"


# --- Parking again ----------------------------------------------------------------------------------------------------

DAY_MS = 24 * 3600 * 1000


def test_too_late():
    """An event is retried until 24 hours after it was due, and reported after that."""
    [rule] = STATES["IsTooLate"]["Choices"]
    assert value(rule["Condition"], now_ms=DUE_MS + DAY_MS) is False
    assert value(rule["Condition"], now_ms=DUE_MS + DAY_MS + 1) is True
    assert (rule["Next"], STATES["IsTooLate"]["Default"]) == ("ReportToPublisher", "ParkAgain")


@pytest.mark.parametrize(
    ("attempt", "longest"), [(0, 30), (1, 60), (2, 120), (3, 240), (4, 480), (5, 900), (6, 900), (50, 900), (2000, 900)]
)
def test_pause_before_an_attempt(attempt, longest):
    """Half of the longest pause and a random part of the other half: 30 s, doubled each time, at most 15 minutes."""
    assign = STATES["IsTooLate"]["Assign"]
    for chance, seconds in ((0, longest / 2), (0.5, longest * 0.75), (0.9999, longest)):
        retry_at = value(assign["retry_at"], attempt=attempt, chance=chance)
        at = datetime.fromisoformat(retry_at).replace(tzinfo=UTC)
        assert len(retry_at) == len("2026-12-24T10:00:00.250")
        assert (at - DUE).total_seconds() == pytest.approx(seconds, abs=longest / 1000)
    assert value(assign["attempt"], attempt=attempt) == attempt + 1


def test_pause_has_milliseconds():
    """Events that were turned away at the same moment are not tried again at the same moment."""
    expression = STATES["IsTooLate"]["Assign"]["retry_at"]
    assert value(expression, chance=0.0001).endswith("15.251")
    assert value(expression, chance=0.00019).endswith("15.252")


RETRY_AT = "2026-12-24T10:00:15.250"


@pytest.mark.parametrize("of", [UNNAMED, NAMED], ids=["unnamed", "named"])
@pytest.mark.parametrize("attempt", [0, 2])
def test_parked_item(of, attempt):
    """The item that is parked: Ingest's, with the number of the next attempt in its input and its execution's name."""
    parked = {
        "lane": {"S": lane_of(of.id)},
        "execution": {"S": f"{of.execution_name}-r{attempt + 1}"},
        "attempt": {"N": str(attempt + 1)},
    }
    variables = {"retry_at": RETRY_AT, "attempt": attempt + 1}
    item = value(STATES["ParkAgain"]["Arguments"], of=of, attempt=attempt, variables=variables)["Item"]
    retry_at = datetime.fromisoformat(f"{RETRY_AT}+00:00")
    assert {name: item[name] for name in parked} == parked
    assert item["sort_key"] == {"S": sort_key(retry_at, of.revision)}
    assert json.loads(item["input"]["S"]) == json.loads(of.input) | {"attempt": attempt + 1}
    arguments = value(STATES["ParkUnreported"]["Arguments"], of=of, attempt=attempt)
    unreported = arguments["Item"]
    assert {name: unreported[name] for name in parked} == parked
    assert unreported["sort_key"] == {"S": sort_key(DUE + timedelta(minutes=15), of.revision)}
    assert unreported["input"] == item["input"]
    assert unreported.keys() == item.keys() == {*parked, "sort_key", "input"}


def test_output_of_parking_again():
    """The execution's output says when the next attempt is, which it is, and why."""
    variables = {"retry_at": RETRY_AT, "attempt": 3, "problem": "not delivered: a"}
    assert value(STATES["ParkAgain"]["Output"], variables=variables) == {
        "retry_at": f"{RETRY_AT}Z",
        "attempt": 3,
        "problem": "not delivered: a",
    }


def test_events_are_parked_in_the_table():
    """Both ways to park an event write to the table that is swept."""
    for name in ("ParkAgain", "ParkUnreported"):
        assert STATES[name]["Arguments"]["TableName"] == TEMPLATE.resolve({"Ref": "Parked"})


# --- Reports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [UNNAMED, NAMED], ids=["unnamed", "named"])
def test_report(of):
    """A report has the reason, the id, and the event as it was published: on its own failure topic, on the stack's, or
    in the Undelivered queue."""
    variables = {"problem": "not delivered: a"}
    message = {
        "error": "not delivered: a",
        "id": of.id,
        "event": json.loads(of.input)["event"] | {"payload": "order"},
    }
    stack_topic = TEMPLATE.arn("FailureTopic")
    own_topic = f"{TOPICS}failures" if of is NAMED else stack_topic
    expected = {
        "ReportToPublisher": {"TopicArn": own_topic, "Message": message},
        "ReportToStackTopic": {"TopicArn": stack_topic, "Message": message},
        "SendToUndelivered": {"QueueUrl": TEMPLATE.resolve({"Ref": "Undelivered"}), "MessageBody": message},
    }
    for name, arguments in expected.items():
        assert value(STATES[name]["Arguments"], of=of, variables=variables) == arguments


FAILS = {
    "NotDelivered": "not delivered: a",
    "NotReported": "parked again, because no report could be sent: not delivered: a",
    "NotKept": "neither reported nor parked; the input of this execution is the only copy: not delivered: a",
}


@pytest.mark.parametrize("name", FAILS)
def test_cause_of_a_failed_execution(name):
    """The console and the dashboard show why an execution failed."""
    assert STATES[name]["Error"] == name
    assert value(STATES[name]["Cause"], variables={"problem": "not delivered: a"}) == FAILS[name]


def test_ways_through_deliver():
    """Which state follows which, and on which errors: the happy way, and the way of each failure."""
    following = {name: state.get("Next") for name, state in states_of(MACHINES["Deliver"])}
    assert {name: after for name, after in following.items() if after} == {
        "WaitUntilCutoff": "LookUpRevision",
        "LookUpRevision": "IsStillWanted",
        "WaitUntilNearlyDue": "HoldFraction",
        "HoldFraction": "Publish",
        "WaitUntilDue": "Publish",
        "ReportToPublisher": "NotDelivered",
        "ReportToStackTopic": "NotDelivered",
        "SendToUndelivered": "NotDelivered",
        "ParkUnreported": "NotReported",
    }
    after_errors = {
        name: [rule["Next"] for rule in state["Catch"]]
        for name, state in states_of(MACHINES["Deliver"])
        if "Catch" in state
    }
    assert after_errors == {
        "LookUpRevision": ["IsStillWanted"],
        "HoldFraction": ["WaitUntilDue"],
        # What is too large, what is permanent, and what may pass.
        "Publish": ["ReportToPublisher", "ReportToPublisher", "IsTooLate"],
        "ParkAgain": ["ReportToPublisher", "ReportToPublisher"],
        "ReportToPublisher": ["ReportToStackTopic"],
        "ReportToStackTopic": ["SendToUndelivered"],
        "SendToUndelivered": ["ParkUnreported"],
        "ParkUnreported": ["NotKept", "NotKept"],
    }


# --- Sweep ------------------------------------------------------------------------------------------------------------


def sweep_states(interval: int) -> dict[str, dict]:
    return dict(states_of(json.loads(Template(SweepIntervalSeconds=str(interval)).definition("Sweep"))))


ROUND_END_SECONDS = 62
START_MS = 1_800_000_000_000
FIRST_ROUND = {
    "started_ms": START_MS,
    "first_tick": 0,
    "round_start": 0,
    "round_end": ROUND_END_SECONDS,
    "missed": 0,
    "ticks": 0,
}


def test_start_of_a_sweep():
    """The first round begins at once, whether or not the start could be recorded."""
    state = STATES["RecordStart"]
    for part in (state, state["Catch"][0]):
        assert value(part["Assign"], now_ms=START_MS) == FIRST_ROUND
    assert value(state["Arguments"], now_ms=START_MS) == {
        "TableName": TEMPLATE.resolve({"Ref": "Parked"}),
        "Item": {
            "lane": {"S": "clock"},
            "sort_key": {"S": "latest"},
            "execution": {"S": "arn:execution"},
            "started_ms": {"N": str(START_MS)},
        },
    }


@pytest.mark.parametrize("interval", INTERVALS)
def test_ticks_of_a_round(interval):
    """A round has a tick in each interval; the next round goes on in step, after the last tick of this one."""
    states = sweep_states(interval)
    ticks = value(states["SweepAtEveryTick"]["Items"], variables=FIRST_ROUND)
    assert ticks == [*range(0, ROUND_END_SECONDS + 1, interval)]
    rest = value(states["WaitForSuccessor"]["Seconds"], variables=FIRST_ROUND)
    assert ticks[-1] + rest == ROUND_END_SECONDS
    [another, _] = states["HasSuccessor"]["Choices"]
    assert value(another["Assign"], variables=FIRST_ROUND) == {
        "first_tick": ticks[-1] + interval,
        "round_start": ROUND_END_SECONDS,
        "round_end": ROUND_END_SECONDS + 60,
    }
    later = FIRST_ROUND | value(another["Assign"], variables=FIRST_ROUND)
    assert value(STATES["WaitForTick"]["Seconds"], input=70, variables=later) == 70 - ROUND_END_SECONDS


def test_sweep_calls_the_sweeper():
    """Each tick calls the Sweeper, and not as a helper."""
    assert STATES["Sweep"]["Arguments"] == {"FunctionName": TEMPLATE.arn("Sweeper"), "Payload": {}}
    error = {"Error": "Lambda.Unknown", "Cause": ""}
    assert value(STATES["Sweep"]["Catch"][0]["Output"], errorOutput=error) == {"missed": "Lambda.Unknown"}


def test_ticks_are_counted():
    """Ticks and missed ticks are counted over all rounds."""
    result = [{"started": 1}, {"missed": "a"}, {"missed": "b"}]
    counted = value(STATES["SweepAtEveryTick"]["Assign"], variables={"missed": 1, "ticks": 13}, result=result)
    assert counted == {"missed": 3, "ticks": 16}
    cause = value(STATES["TicksMissed"]["Cause"], variables=counted)
    assert cause == "3 of 16 sweeps failed; the log of Sweeper states why"
    assert STATES["TicksMissed"]["Error"] == "TicksMissed"


OTHER = {"execution": {"S": "arn:other"}, "started_ms": {"N": str(START_MS + 60_000)}}


@pytest.mark.parametrize(
    ("item", "has_successor"),
    [
        (None, False),
        (OTHER, True),
        (OTHER | {"started_ms": {"N": str(START_MS)}}, True),  # Two that start at once: one of them goes on.
        (OTHER | {"started_ms": {"N": str(START_MS - 1)}}, False),  # The predecessor's.
        (OTHER | {"execution": {"S": "arn:execution"}}, False),  # Its own.
    ],
)
def test_successor(item, has_successor):
    """The record of another execution that did not start earlier is the successor's."""
    result = {"Item": item} if item else {}
    found = value(STATES["LookUpSuccessor"]["Output"], result=result, variables=FIRST_ROUND)
    assert found == {"has_successor": has_successor}


def test_look_up_of_the_successor():
    """The record is read consistently: a successor of the last moment counts. Without an answer there is none."""
    state = STATES["LookUpSuccessor"]
    assert state["Arguments"] == {
        "TableName": TEMPLATE.resolve({"Ref": "Parked"}),
        "Key": {"lane": {"S": "clock"}, "sort_key": {"S": "latest"}},
        "ConsistentRead": True,
    }
    assert state["Catch"][0]["Output"] == {"has_successor": False}


@pytest.mark.parametrize(
    ("has_successor", "round_end", "seconds", "goes_on"),
    [
        (False, ROUND_END_SECONDS, 64, True),
        (True, ROUND_END_SECONDS, 64, False),
        (False, ROUND_END_SECONDS + 120, 189.999, True),
        (False, ROUND_END_SECONDS + 120, 190, False),  # It might not end before Express does, at 300 s.
        (False, ROUND_END_SECONDS + 180, 100, False),  # Four rounds are enough.
        (False, 239, 100, True),
        (False, 240, 100, False),
    ],
)
def test_another_round(has_successor, round_end, seconds, goes_on):
    """Without a successor there is another round, up to four, if it can end in time."""
    [another, _] = STATES["HasSuccessor"]["Choices"]
    variables = FIRST_ROUND | {"round_end": round_end}
    now_ms = START_MS + int(seconds * 1000)
    condition = value(another["Condition"], now_ms=now_ms, variables=variables, input={"has_successor": has_successor})
    assert condition is goes_on


def test_end_of_a_sweep():
    """An execution in which a tick failed fails, so that it is seen."""
    [another, has_missed] = STATES["HasSuccessor"]["Choices"]
    for missed in (0, 1, 5):
        assert value(has_missed["Condition"], variables={"missed": missed}) is (missed > 0)
    assert (another["Next"], has_missed["Next"]) == ("SweepAtEveryTick", "TicksMissed")
    assert STATES["HasSuccessor"]["Default"] == "Done"
