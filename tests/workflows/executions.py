"""Executions of Deliver and Sweep on an engine. Each has resources and a state machine of its own."""

import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from punctual_core.event import Rules, parse
from punctual_core.lanes import lanes
from punctual_core.parking import ParkedEvent, Parking

from tests.workflows.engines import ENGINES, REGION, SWEEP_SCALE, Emulator, Moto
from tools.cloudformation import Template

LONGEST_EXECUTION_SECONDS = 120
SWEEPER_STUB = Path(__file__).with_name("sweeper_stub.py")
# The template takes a while to read, so it is read once; a test's own resources take the place of what is in <>.
TEMPLATE = Template({name: f"<{name}>" for name in ("Register", "Parked", "Hold.Arn", "FailureTopic", "Undelivered")})
DELIVER = TEMPLATE.definition("Deliver")
# A time that every event is due before.
FOREVER = datetime(9999, 12, 31, tzinfo=UTC)


class Execution:
    """One execution on an engine."""

    def __init__(self, engine: Emulator | Moto, machine: str, name: str, input: str):
        self.engine = engine
        self.started_at = datetime.now(UTC)
        self.arn = engine.client("stepfunctions").start_execution(stateMachineArn=machine, name=name, input=input)[
            "executionArn"
        ]

    def wait(self) -> None:
        """Wait until the execution has ended."""
        give_up_at = time.monotonic() + LONGEST_EXECUTION_SECONDS
        while (end := self.engine.client("stepfunctions").describe_execution(executionArn=self.arn))[
            "status"
        ] == "RUNNING":
            assert time.monotonic() < give_up_at, "the execution does not end"
            time.sleep(0.1)
        self.status, self.error, self.cause = end["status"], end.get("error"), end.get("cause")
        self.output = json.loads(end["output"]) if self.status == "SUCCEEDED" else None

    @cached_property
    def path(self) -> list[str]:
        """The states that the execution went through."""
        return [event["stateEnteredEventDetails"]["name"] for event in self._events if _enters_a_state(event)]

    def attempts(self, state: str) -> int:
        """How often a task was attempted."""
        count, entered = 0, ""
        for event in self._events:
            if _enters_a_state(event):
                entered = event["stateEnteredEventDetails"]["name"]
            count += event["type"] == "TaskScheduled" and entered == state
        return count

    @cached_property
    def _events(self) -> list[dict]:
        history = self.engine.client("stepfunctions").get_paginator("get_execution_history")
        return history.paginate(executionArn=self.arn).build_full_result()["events"]


def _enters_a_state(event: dict) -> bool:
    return "stateEnteredEventDetails" in event


# --- Deliver ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """What a subscriber received, and when (UTC, milliseconds)."""

    text: str
    subject: str | None
    attributes: dict[str, str]
    group: str | None
    deduplication_id: str | None
    arrived_at: datetime


class Delivery:
    """An event and its execution of Deliver. Its attributes are those of the execution, and what became of the event.

    `due_in` seconds after a common start the event is due; `waits_end_early` is by how many seconds before that its
    execution is woken. `gone` names resources of the template that the state machine does not find. `fails` says with
    which error a state fails, by the state's name: at every attempt; or with which errors, one attempt each, if it is a
    list. `attempt` is how often the event has been parked again before.
    """

    def __init__(
        self,
        engine: Emulator | Moto,
        hold: str,
        due_in: float,
        waits_end_early: float = 0,
        gone: tuple[str, ...] = (),
        fails: dict[str, str | tuple[str, str] | list[str]] | None = None,
        registered: str | None = None,
        target: str = "there",
        failure_topic: str | None = None,
        attempt: int = 0,
        on: tuple[str, ...] = ENGINES,
        **event: Any,
    ):
        self.engine, self._registered, self._event = engine, registered, event
        self._due_in, self._early, self._attempt = due_in, waits_end_early, attempt
        self.name = f"case-{uuid.uuid4().hex[:8]}"
        self._queues: dict[str, str] = {}
        self.target = self._topic("target.fifo" if target == "fifo" else "target", target != "gone")
        self.own_failure_topic = self._topic("own-failures", failure_topic == "there") if failure_topic else None
        self._tables = {table: f"{self.name}-{table}" for table in ("Register", "Parked")}
        own = self._tables | {
            "Hold.Arn": f"{hold}-gone" if "Hold" in gone else hold,
            "FailureTopic": self._topic("failures", "FailureTopic" not in gone),
            "Undelivered": self._queue("undelivered", "Undelivered" not in gone),
        }
        for table, name in self._tables.items():
            if table not in gone:
                engine.client("dynamodb").create_table(**TEMPLATE.table(table) | {"TableName": name})
        definition = DELIVER
        for name, value in own.items():
            definition = definition.replace(f"<{name}>", value)
        self._machine = engine.client("stepfunctions").create_state_machine(
            name=self.name,
            definition=definition,
            roleArn=f"arn:aws:iam::{engine.account}:role/none",
            type="EXPRESS",
        )["stateMachineArn"]
        self._faults = ""
        for state, errors in (fails or {}).items():
            each = errors if isinstance(errors, list) else [errors]
            named = [error if isinstance(error, tuple) else (error, "by the test") for error in each]
            self._faults = engine.fail(self.name, state, named, always=not isinstance(errors, list))

    def start(self, now: datetime) -> None:
        """Start the execution as Ingest does, for an event that is due `due_in` seconds after `now`."""
        self.due = now + timedelta(seconds=self._due_in)
        message = {
            "date": self.due.isoformat(),
            "target": self.target,
            "user": "team",
            "payload": "order",
            **self._event,
        }
        if self.own_failure_topic:
            message["failure_topic"] = self.own_failure_topic
        topics = f"arn:aws:sns:{REGION}:{self.engine.account}:"
        revision = str(uuid.uuid4())
        self.message = message
        self.event = parse(json.dumps(message), revision, now, Rules(f"{topics}input", (f"{topics}*",)))
        if self._registered:
            other = revision if self._registered == "itself" else str(uuid.uuid4())
            self.engine.client("dynamodb").put_item(
                TableName=self._tables["Register"], Item={"id": {"S": self.event.id}, "revision": {"S": other}}
            )
        self._execution = Execution(
            self.engine, self._machine + self._faults, self.event.execution_name, self._input(self.event.input)
        )

    def _input(self, text: str) -> str:
        if not (self._early or self._attempt):
            return text
        input = json.loads(text)
        self.due += timedelta(seconds=self._early)
        input["due_ms"] += round(1000 * self._early)
        if self._attempt:
            input["attempt"] = self._attempt
        return json.dumps(input, ensure_ascii=False)

    def start_parked(self) -> Execution:
        """Start the event that the execution has parked, as the Sweeper does, now that nothing fails any more. Returns
        that execution when it has ended."""
        [parked] = self.parked
        self.engine.recover(self.name)
        again = Execution(self.engine, self._machine, parked.execution, parked.input)
        again.wait()
        return again

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._execution, name)

    @property
    def delivered(self) -> list[Message]:
        """What arrived at the target."""
        return self._received("target")

    @property
    def reported(self) -> list[Message]:
        """What arrived at the event's own failure topic."""
        return self._received("own-failures")

    @property
    def reported_to_stack_topic(self) -> list[Message]:
        """What arrived at the stack's failure topic."""
        return self._received("failures")

    @property
    def undelivered(self) -> list[str]:
        """What is in the Undelivered queue."""
        return [message["Body"] for message in self._drain("undelivered")]

    @property
    def parked(self) -> list[ParkedEvent]:
        """What is parked, as the Sweeper reads it."""
        client, table = self.engine.client("dynamodb"), self._tables["Parked"]
        found = [event for lane in lanes() for event in Parking(client, table).due_before(lane, FOREVER)]
        # Nothing is where no sweep looks.
        assert len(found) == client.scan(TableName=table)["Count"]
        return found

    @property
    def lateness(self) -> float:
        """When the one delivery arrived, in seconds after it was due."""
        [message] = self.delivered
        return (message.arrived_at - self.due).total_seconds()

    def _topic(self, role: str, exists: bool) -> str:
        """The ARN of a topic, with a queue subscribed to it unless it does not exist."""
        name, sns = f"{self.name}-{role}", self.engine.client("sns")
        if not exists:
            return f"arn:aws:sns:{REGION}:{self.engine.account}:{name}"
        fifo = {"FifoTopic": "true"} if role.endswith(".fifo") else {}
        arn = sns.create_topic(Name=name, Attributes=fifo)["TopicArn"]
        self._queue(role, exists=True)
        sns.subscribe(
            TopicArn=arn, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{self.engine.account}:{self.name}-{role}"
        )
        return arn

    def _queue(self, role: str, exists: bool) -> str:
        fifo, sqs = {"FifoQueue": "true"} if role.endswith(".fifo") else {}, self.engine.client("sqs")
        url = sqs.create_queue(QueueName=f"{self.name}-{role}", Attributes=fifo)["QueueUrl"]
        if exists:
            self._queues[role.removesuffix(".fifo")] = url
        else:
            sqs.delete_queue(QueueUrl=url)
        return url

    def _received(self, role: str) -> list[Message]:
        received = []
        for message in self._drain(role):
            body, attributes = json.loads(message["Body"]), message["Attributes"]
            received.append(
                Message(
                    text=body["Message"],
                    subject=body.get("Subject"),
                    attributes={name: value["Value"] for name, value in body.get("MessageAttributes", {}).items()},
                    group=attributes.get("MessageGroupId"),
                    deduplication_id=attributes.get("MessageDeduplicationId"),
                    arrived_at=datetime.fromtimestamp(int(attributes["SentTimestamp"]) / 1000, UTC),
                )
            )
        return received

    @cached_property
    def _drained(self) -> dict[str, list[dict]]:
        return {}

    def _drain(self, role: str) -> list[dict]:
        """Every message that a queue has held until now. What was received once is kept here."""
        messages = self._drained.setdefault(role, [])
        while role in self._queues and (
            more := self.engine.client("sqs")
            .receive_message(QueueUrl=self._queues[role], MaxNumberOfMessages=10, AttributeNames=["All"])
            .get("Messages")
        ):
            messages += more
        return messages


# --- Sweep ------------------------------------------------------------------------------------------------------------


class SweepRun:
    """One execution of Sweep, with a Sweeper that notes its ticks.

    With `successor` the next execution records its start while this one runs. Without `clock_item` the table for such
    records does not exist. If it is `failing`, the Sweeper fails at the third tick.
    """

    def __init__(
        self,
        engine: Emulator | Moto,
        directory: Path,
        interval: str,
        successor: bool = True,
        clock_item: bool = True,
        failing: bool = False,
    ):
        self.engine, self._successor = engine, successor
        name = f"sweep-{uuid.uuid4().hex[:8]}{'-failing' if failing else ''}"
        self._ticks, self._table = directory / name, f"{name}-parked"
        if clock_item:
            engine.client("dynamodb").create_table(**TEMPLATE.table("Parked") | {"TableName": self._table})
        sweeper = engine.function(name, SWEEPER_STUB, TICKS=str(directory))
        template = Template({"Sweeper.Arn": sweeper, "Parked": self._table}, SweepIntervalSeconds=interval)
        self._machine = engine.client("stepfunctions").create_state_machine(
            name=name,
            definition=template.definition("Sweep"),
            roleArn=f"arn:aws:iam::{engine.account}:role/none",
            type="EXPRESS",
        )["stateMachineArn"]

    def start(self, now: datetime) -> None:
        self._execution = Execution(self.engine, self._machine, str(uuid.uuid4()), "{}")
        if self._successor:
            give_up_at = time.monotonic() + LONGEST_EXECUTION_SECONDS
            while not (item := self.clock_item):
                assert time.monotonic() < give_up_at, "the execution does not record its start"
                time.sleep(0.05)
            item["execution"] = {"S": f"{self.arn}-successor"}
            item["started_ms"] = {"N": str(int(item["started_ms"]["N"]) + 60_000)}
            self.engine.client("dynamodb").put_item(TableName=self._table, Item=item)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._execution, name)

    @property
    def clock_item(self) -> dict | None:
        """The record of the latest execution to start."""
        key = {"lane": {"S": "clock"}, "sort_key": {"S": "latest"}}
        return self.engine.client("dynamodb").get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")

    @property
    def ticks(self) -> list[float]:
        """When the Sweeper was called, in seconds of the workflow after its start."""
        called_at = sorted(map(float, self._ticks.read_text().splitlines()))
        return [(moment - self.started_at.timestamp()) / SWEEP_SCALE for moment in called_at]
