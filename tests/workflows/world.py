"""One event on the simulated clock: its executions of Deliver, the services that they call, and the sweeps.

A service answers by what it is asked, not by the state that asks: a wrong table, topic or key fails the test.
"""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from punctual_core.event import Event, Rules, parse
from punctual_core.lanes import sortable

from tests.workflows.simulation import Clock, Failed, Machine, Process, Run
from tools.cloudformation import Template

TEMPLATE = Template()
DELIVER = TEMPLATE.definition("Deliver")
STATES = json.loads(DELIVER)["States"]
INTERVAL_SECONDS = int(TEMPLATE.text["Parameters"]["SweepIntervalSeconds"]["Default"])
HORIZON = timedelta(seconds=int(TEMPLATE.environment("Ingest")["HORIZON_SECONDS"]))
REGISTER, PARKED = TEMPLATE.resolve({"Ref": "Register"}), TEMPLATE.resolve({"Ref": "Parked"})
HOLD, STACK_TOPIC = TEMPLATE.arn("Hold"), TEMPLATE.arn("FailureTopic")
UNDELIVERED = TEMPLATE.resolve({"Ref": "Undelivered"})

# Its first digits are 002: its retries are 15 * 1002 ms apart.
REVISION = "0dbd02a2-74cb-4ef2-9b3c-2f4b39a2b1a4"
UNIT_SECONDS = 15.03
TOPICS = "arn:aws:sns:eu-central-1:123456789012:"
TARGET, OWN_TOPIC = f"{TOPICS}orders", f"{TOPICS}own-failures"
DUE = datetime(2026, 12, 24, 10, tzinfo=UTC)
MINUTE, HOUR = 60, 3600
# What an answer takes.
CALL_SECONDS = 0.02

# The states that need each service.
SNS = {"Publish", "ReportToPublisher", "ReportToStackTopic"}
SQS = {"SendToUndelivered"}

TRANSIENT = "SNS.InternalErrorException"
PERMANENT = "SNS.NotFoundException"


def event(due: datetime = DUE, revision: str = REVISION, **fields: Any) -> Event:
    """An event that is published a day before it is due."""
    message = {"date": due.isoformat(), "target": TARGET, "user": "team", "payload": "order", **fields}
    parsed = parse(json.dumps(message), revision, due - timedelta(days=1), Rules(f"{TOPICS}input", ("*",)))
    assert isinstance(parsed, Event)
    return parsed


# The chance with which retries inside of an execution come at once.
NO_PAUSES = SimpleNamespace(random=lambda: 0.0)


class World:
    """One event, whose first execution starts `lead` seconds before it is due.

    `error(state, seconds)` is the error that a state's task gets so many seconds after the event was due, or None;
    "States.Timeout" is a call that hangs. `deletes(seconds)` says whether the Sweeper can delete what it started.
    Without `chance` (or its seed), retries wait as long as they may. `changes` are to the input.
    """

    def __init__(
        self,
        event: Event,
        error: Callable[[str, float], str | None] = lambda state, seconds: None,
        chance: Any = 0,
        early: float = 0,
        lead: float = 5,
        deletes: Callable[[float], bool] = lambda seconds: True,
        cause: str = "simulated",
        **changes: Any,
    ):
        self._error, self._cause, self._deletes = error, cause, deletes
        self.event, self.due = event, event.due.timestamp()
        self.clock = Clock(self.due - lead)
        jitter = random.Random(chance) if isinstance(chance, int) else chance
        self._machine = Machine(DELIVER, self.clock, self._call, jitter, early)
        self.runs: list[Run] = []
        # By lane and sort key, and the keys of all that was ever there.
        self.parked: dict[tuple[str, str], dict] = {}
        self.keys: set[str] = set()
        self.registered: str | None = None
        # What happened to the event, and how many seconds after it was due.
        self.delivered: list[float] = []
        self.reported: list[tuple[str, float]] = []
        self.messages: list[dict] = []
        self._start(event.execution_name, json.loads(event.input) | changes)

    @property
    def seconds(self) -> float:
        return self.clock.now - self.due

    def run(self, seconds: float = 40 * HOUR) -> None:
        """Let time pass until so many seconds after the event was due."""
        self.clock.start(self._sweeps(), max(self.clock.now, self.due - 3))
        self.clock.run(self.due + seconds, self.assert_not_lost)

    def run_first(self) -> Run:
        """Let the first execution end. What it parks is left alone."""
        self.clock.run(self.clock.now + HOUR)
        return self.runs[0]

    def assert_not_lost(self) -> None:
        """The event is parked, running, delivered, reported or superseded."""
        if not (self.parked or self.delivered or self.reported):
            assert any(run.status == "RUNNING" or "Superseded" in run.path for run in self.runs)

    def _start(self, name: str, input: dict) -> None:
        run = Run(name, self.clock.now)
        self.runs.append(run)
        self.clock.start(self._machine.execute(run, input))

    def _sweeps(self) -> Process[None]:
        while True:
            before = sortable(datetime.fromtimestamp(self.clock.now, UTC) + HORIZON)
            for key in [key for key in self.parked if key[1] < before]:
                self._start(self.parked[key]["execution"], json.loads(self.parked[key]["input"]))
                if self._deletes(self.seconds):
                    del self.parked[key]
            yield self.clock.now + INTERVAL_SECONDS

    def _call(self, state: str, arguments: dict) -> tuple[dict, float]:
        if error := self._error(state, self.seconds):
            if error == "States.Timeout":
                return {}, float("inf")
            raise Failed(error, self._cause, after=CALL_SECONDS)
        match STATES[state]["Resource"].split(":::")[1], arguments:
            case "dynamodb:getItem", {"TableName": table, "Key": key}:
                assert (table, key) == (REGISTER, {"id": {"S": self.event.id}})
                # An eventually consistent read may miss the latest write: here it does.
                if not self.registered or not arguments.get("ConsistentRead"):
                    return {}, CALL_SECONDS
                item = {"id": key["id"], "revision": {"S": self.registered}}
                read = arguments.get("ProjectionExpression", "revision").split(", ")
                return {"Item": {name: item[name] for name in read}}, CALL_SECONDS
            case "lambda:invoke", {"FunctionName": function, "Payload": {"due_ms": due_ms}}:
                assert function == HOLD
                return {}, max(0, due_ms / 1000 - self.clock.now)
            case "dynamodb:putItem", {"TableName": table, "Item": item}:
                assert table == PARKED
                texts = dict.fromkeys(("lane", "sort_key", "execution", "input"), ["S"])  # noqa: RUF024
                assert {name: [*value] for name, value in item.items()} == texts | {"retry": ["N"]}
                parked = {name: next(iter(value.values())) for name, value in item.items()}
                self.parked[parked["lane"], parked["sort_key"]] = parked
                self.keys.add(parked["sort_key"])
            case "sns:publish", {"TopicArn": topic, "Message": message} if topic == TARGET:
                self.delivered.append(self.seconds)
                self.messages.append(arguments)
            case "sns:publish", {"TopicArn": topic, "Message": message}:
                assert topic in (OWN_TOPIC, STACK_TOPIC)
                self.reported.append((topic, self.seconds))
                self.messages.append(message)
            case "sqs:sendMessage", {"QueueUrl": queue, "MessageBody": message}:
                assert queue == UNDELIVERED
                self.reported.append((queue, self.seconds))
                self.messages.append(message)
            case call:
                raise AssertionError(f"no service answers {call}")
        return {"MessageId": "m-1"}, CALL_SECONDS


def outage(of: set[str], until: float, error: str = TRANSIENT, since: float = -MINUTE) -> Callable:
    """These states fail from `since` to `until`, in seconds after the event was due, or Sweep was started."""
    return lambda state, seconds: error if state in of and since <= seconds < until else None
