"""Deliver while services fail, on a simulated clock: no event is lost, whatever fails, and for however long."""

import itertools
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from punctual_core.event import Event, Rules, parse
from punctual_core.lanes import due_of, lane_of, sort_key, sortable
from punctual_core.limits import INPUT_BYTES

from tests.workflows.simulation import Clock, Failed, Machine, Process, Run
from tools.cloudformation import Template

TEMPLATE = Template()
DELIVER = TEMPLATE.definition("Deliver")
INTERVAL_SECONDS = int(TEMPLATE.text["Parameters"]["SweepIntervalSeconds"]["Default"])
HORIZON = timedelta(seconds=int(TEMPLATE.environment("Ingest")["HORIZON_SECONDS"]))

REVISION = "0dbd2ba2-74cb-4ef2-9b3c-2f4b39a2b1a4"
TOPICS = "arn:aws:sns:eu-central-1:123456789012:"
DUE = datetime(2026, 12, 24, 10, tzinfo=UTC)
MINUTE, HOUR = 60, 3600
# What an answer takes.
CALL_SECONDS = 0.02

# The states that need each service.
SNS = {"Publish", "ReportToPublisher", "ReportToStackTopic"}
SQS = {"SendToUndelivered"}
DYNAMODB = {"LookUpRevision", "ParkAgain", "ParkUnreported"}

TRANSIENT = "SNS.InternalErrorException"
PERMANENT = "SNS.NotFoundException"


def event(due: datetime = DUE, **fields: str) -> Event:
    message = {"date": due.isoformat(), "target": f"{TOPICS}orders", "user": "team", "payload": "order", **fields}
    parsed = parse(json.dumps(message), REVISION, due - timedelta(days=1), Rules(f"{TOPICS}input", ("*",)))
    assert isinstance(parsed, Event)
    return parsed


class World:
    """One event, the services that its executions use, and the Sweeper.

    `error(state, seconds)` is the error that a state's task gets so many seconds after the event was due, or None.
    """

    def __init__(
        self,
        event: Event,
        error: Callable[[str, float], str | None] = lambda state, seconds: None,
        seed: int | None = 0,
        attempt: int = 0,
        early: float = 0,
    ):
        self._error, self.due = error, event.due.timestamp()
        self.clock = Clock(self.due - 5)
        chance = None if seed is None else random.Random(seed)
        self._machine = Machine(DELIVER, self.clock, self._call, chance, early)
        self.runs: list[Run] = []
        self.parked: list[dict] = []
        self.registered: str | None = None
        # What happened to the event, and how many seconds after it was due.
        self.delivered: list[float] = []
        self.reported: list[tuple[str, float]] = []
        self._start(event.execution_name, json.loads(event.input) | ({"attempt": attempt} if attempt else {}))

    @property
    def seconds(self) -> float:
        return self.clock.now - self.due

    def run(self, seconds: float = 40 * HOUR) -> None:
        """Let time pass until so many seconds after the event was due."""
        self.clock.start(self._sweeps(), self.due - 3)
        self.clock.run(self.due + seconds, self.assert_not_lost)

    def run_first(self) -> Run:
        """Let the first execution end. What it parks is left alone."""
        self.clock.run(self.due + HOUR)
        return self.runs[0]

    def assert_not_lost(self) -> None:
        """The event is parked, running, delivered, reported or superseded."""
        superseded = any("Superseded" in run.path for run in self.runs)
        is_running = any(run.status == "RUNNING" for run in self.runs)
        assert is_running or self.parked or self.delivered or self.reported or superseded

    def _start(self, name: str, input: dict) -> None:
        # Not in use: MiniStack refuses a name that is.
        assert name not in [run.name for run in self.runs]
        run = Run(name, self.clock.now)
        self.runs.append(run)
        self.clock.start(self._machine.execute(run, input))

    def _sweeps(self) -> Process[None]:
        while True:
            before = sortable(datetime.fromtimestamp(self.clock.now, UTC) + HORIZON)
            for item in [item for item in self.parked if item["sort_key"] < before]:
                self._start(item["execution"], json.loads(item["input"]))
                self.parked.remove(item)
            yield self.clock.now + INTERVAL_SECONDS

    def _call(self, state: str, arguments: dict) -> tuple[dict, float]:
        if error := self._error(state, self.seconds):
            if error == "States.Timeout":
                return {}, float("inf")
            raise Failed(error, after=CALL_SECONDS)
        match state:
            case "LookUpRevision":
                item = {"Item": {"revision": {"S": self.registered}}} if self.registered else {}
                return item, CALL_SECONDS
            case "Publish":
                self.delivered.append(self.seconds)
            case "ParkAgain" | "ParkUnreported":
                self.parked.append({name: next(iter(value.values())) for name, value in arguments["Item"].items()})
            case "ReportToPublisher" | "ReportToStackTopic":
                self.reported.append((arguments["TopicArn"], self.seconds))
            case "SendToUndelivered":
                self.reported.append((arguments["QueueUrl"], self.seconds))
        return {"MessageId": "m-1"}, CALL_SECONDS


def outage(of: set[str], until: float, error: str = TRANSIENT, since: float = -MINUTE) -> Callable:
    """These states fail from `since` to `until`, in seconds after the event was due."""
    return lambda state, seconds: error if state in of and since <= seconds < until else None


# --- An outage --------------------------------------------------------------------------------------------------------

each_outage = pytest.mark.parametrize(
    ("length", "executions"),
    [(1, range(1, 2)), (2 * MINUTE, range(3, 8)), (3 * HOUR, range(15, 31))],
    ids=["1 s", "2 minutes", "3 hours"],
)


@each_outage
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("error", [TRANSIENT, "States.Timeout"])
def test_event_is_delivered_after_an_outage_of_sns(length, executions, seed, error):
    """It is delivered once, at most 15 minutes and one interval after SNS recovers, and never reported. On the way the
    number of its executions is moderate."""
    world = World(event(), outage(SNS, until=length, error=error), seed)
    world.run()
    [delivered] = world.delivered
    assert length <= delivered < length + 15 * MINUTE + INTERVAL_SECONDS + 20
    assert world.reported == world.parked == []
    assert len(world.runs) in executions
    assert world.runs[-1].output["late_ms"] == pytest.approx(1000 * (delivered + CALL_SECONDS), abs=2)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("of", "told"),
    [({"Publish"}, "FailureTopic"), (SNS, "Undelivered")],
    ids=["the target topic fails", "SNS fails"],
)
def test_event_is_reported_after_24_hours(seed, of, told):
    """After 25 hours of failures it has been reported once: between 24 hours and 24 hours and a quarter after it was
    due, where that was possible."""
    world = World(event(), outage(of, until=25 * HOUR), seed)
    world.run()
    [(where, reported)] = world.reported
    assert where.endswith(told)
    assert 24 * HOUR < reported < 24 * HOUR + 16 * MINUTE
    assert world.delivered == world.parked == []
    assert 100 < len(world.runs) < 220
    assert [run.error for run in world.runs] == [None] * (len(world.runs) - 1) + ["NotDelivered"]


def test_retries_wait_longer_each_time():
    """The event is parked for 15 to 30 s, then twice that and so on, at most 15 minutes: never the same twice."""
    waits = set()
    for attempt, chance in itertools.product(range(12), range(20)):
        world = World(event(), outage(SNS, until=HOUR), seed=20 * attempt + chance, attempt=attempt)
        run = world.run_first()
        [item] = world.parked
        wait = (due_of(item["sort_key"]) - datetime.fromtimestamp(run.ended_at, UTC)).total_seconds()
        longest = min(30 * 2**attempt, 900)
        assert longest / 2 - 1 < wait <= longest
        waits.add(wait)
    assert len(waits) == 12 * 20


def test_executions_get_names_of_their_own():
    """Every execution of an event has another name, with the number of its attempt, that StartExecution accepts."""
    longest_id = "a-" * 32
    world = World(event(id=longest_id), outage(SNS, until=3 * HOUR))
    world.run()
    assert [run.name for run in world.runs[1:4]] == [f"{longest_id}-{REVISION[:8]}-r{n}" for n in (1, 2, 3)]
    world = World(event(id=longest_id), outage(SNS, until=HOUR), attempt=998)
    world.run_first()
    assert world.parked[0]["execution"].endswith("-r999")
    assert len(world.parked[0]["execution"]) <= 80


@pytest.mark.parametrize("fails", [SNS, {*SNS, *SQS}], ids=["ParkAgain", "ParkUnreported"])
@pytest.mark.parametrize("fields", [{}, {"id": "order-4711"}], ids=["unnamed", "named"])
def test_parked_item(fails, fields):
    """What is parked has the lane, the sort key and the shape of an item that Ingest parks, and the attempt."""
    first = event(**fields)
    error = outage(fails, until=HOUR, error=TRANSIENT if fails == SNS else PERMANENT)
    world = World(first, error, attempt=2)
    world.run_first()
    [item] = world.parked
    assert item == {
        "lane": lane_of(first.id),
        "sort_key": sort_key(due_of(item["sort_key"]), first.revision),
        "execution": f"{first.execution_name}-r3",
        "input": item["input"],
        "attempt": "3",
    }
    assert json.loads(item["input"]) == json.loads(first.input) | {"attempt": 3}


def test_cancel_holds_during_an_outage():
    """An event that is canceled while it waits for its next attempt is neither delivered nor reported."""
    world = World(event(id="order-4711"), outage(SNS, until=30 * MINUTE))
    world.run(20 * MINUTE)
    world.registered = "another revision"
    world.run()
    assert world.delivered == world.reported == world.parked == []
    assert world.runs[-1].path[-1] == "Superseded"


# --- Several services fail --------------------------------------------------------------------------------------------


def test_event_that_could_not_be_reported_is_reported_later():
    """A permanent error, while neither SNS nor SQS take a report: it is parked, and reported once they do."""

    def error(state: str, seconds: float) -> str | None:
        is_down = seconds < HOUR and state in SNS | SQS
        return PERMANENT if state == "Publish" else TRANSIENT if is_down else None

    world = World(event(), error)
    world.run()
    [(_, reported)] = world.reported
    assert HOUR <= reported < HOUR + 17 * MINUTE
    assert [run.error for run in world.runs] == ["NotReported"] * 4 + ["NotDelivered"]


def test_event_is_parked_until_it_can_be_reported():
    """Two days without SNS and SQS: the event is still there, and then it is reported."""
    world = World(event(), outage({*SNS, *SQS}, until=48 * HOUR))
    world.run(50 * HOUR)
    assert len(world.reported) + len(world.delivered) == 1
    assert world.parked == []


def test_event_that_can_not_be_parked_is_reported():
    """SNS fails for the target alone, and DynamoDB fails: the publisher is told at once."""
    world = World(event(), outage({"Publish", *DYNAMODB}, until=HOUR))
    world.run()
    assert len(world.reported) == 1
    assert world.reported[0][1] < MINUTE


@pytest.mark.parametrize(
    ("payload", "becomes"),
    [("a" * (INPUT_BYTES - 1200), "parked"), ('"' * (INPUT_BYTES // 2 - 600), "reported")],
    ids=["letters", "quotation marks"],
)
def test_large_event(payload, becomes):
    """The largest event is parked again, unless its text doubles where it is escaped twice: that one is reported."""
    world = World(event(payload=payload), outage({"Publish"}, until=HOUR))
    run = world.run_first()
    assert (len(world.parked), len(world.reported)) == ((1, 0) if becomes == "parked" else (0, 1))
    assert run.seconds < MINUTE


OUTCOMES = {
    "LookUpRevision": [None, "States.Timeout"],
    "HoldFraction": [None, "States.Timeout"],
    "Publish": [None, PERMANENT, TRANSIENT, "States.Timeout", "States.DataLimitExceeded"],
    "ParkAgain": [None, "States.Timeout", "States.DataLimitExceeded"],
    "ReportToPublisher": [None, PERMANENT, "States.Timeout"],
    "ReportToStackTopic": [None, PERMANENT, "States.Timeout"],
    "SendToUndelivered": [None, "States.Timeout"],
    "ParkUnreported": [None, "States.Timeout", "States.DataLimitExceeded"],
}


def every_way_to_fail(due: datetime) -> list[World]:
    """An execution for every combination of outcomes of the tasks on its path."""
    ends: list[World] = []
    ahead: list[dict[str, str | None]] = [{}]
    while ahead:
        chosen = ahead.pop()
        undecided: list[str] = []

        def error(state: str, seconds: float, chosen=chosen, undecided=undecided) -> str | None:
            if state not in chosen and state not in undecided:
                undecided.append(state)
            return chosen.get(state)

        world = World(event(due), error, seed=None)
        world.run_first()
        if undecided:
            ahead += [chosen | {undecided[0]: outcome} for outcome in OUTCOMES[undecided[0]]]
        else:
            ends.append(world)
    return ends


def test_every_combination_of_failures():
    """Whatever fails, an execution ends with the event delivered, parked or reported, exactly one of them; or, if SNS,
    SQS and DynamoDB all fail, with NotKept. The longest of them ends well before Express does, at 300 s."""
    ends = every_way_to_fail(DUE + timedelta(milliseconds=250))
    assert len(ends) > 200
    for world in ends:
        [run] = world.runs
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
                assert {*SNS, *SQS, "ParkUnreported"} <= {*run.attempts}
    assert max(run.ended_at - world.due for world in ends for run in world.runs) < 180


# --- A Wait that ends early -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [0.001, 0.3, 0.85, 0.999, 1.7, 2.5])
@pytest.mark.parametrize("microsecond", [0, 1000, 250_000])
def test_publish_waits_for_the_due_time(early, microsecond):
    """However early a Wait ends: the event is published in the second after it is due, in no additional state."""
    due = DUE + timedelta(microseconds=microsecond)
    world = World(event(due), outage({"HoldFraction"}, until=HOUR, error="Lambda.Unknown"), early=early)
    run = world.run_first()
    [delivered] = world.delivered
    assert 0 <= delivered < 1.1
    assert run.path[-1] == "Publish" and run.attempts.count("Publish") == 1
