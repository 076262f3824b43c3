"""Break the stack on the emulator in every way that AWS can, and account for every event.

.venv/dev/bin/python -m tools.drill                    all drills; ends with 1 if anything is missing or early
.venv/dev/bin/python -m tools.drill --only restart --events 50
.venv/dev/bin/python -m tools.drill --write            and put the table into docs/reliability.md
"""

import argparse
import itertools
import json
import math
import os
import platform
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from tools.drills.faults import (
    Fault,
    FaultProxy,
    delay,
    every,
    fail,
    first,
    kill,
    leave_unprocessed,
    lose_answer,
    throttle,
)
from tools.local import Consumer, LocalStack, LocalStackError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/reliability.md"
MARKERS = "<!-- drills: begin -->", "<!-- drills: end -->"

SWEEP_SECONDS = 5
HORIZON_SECONDS = 10  # that goes with it, in template.yaml
# A queue's timestamps are cut to the millisecond: what arrives within that of its due time is not early.
CLOCK_STEP = timedelta(milliseconds=1)
# A withdrawal counts if Ingest has it before the event's cutoff. When a fault holds Ingest up, that takes this long.
WITHDRAWAL_SECONDS = 14
# What is not accounted for this long after the last event was due and everything was mended, is missing.
PATIENCE_SECONDS = 150
BURST_PATIENCE_SECONDS = 900
BURST = 5000
WARM_UP = 50  # events


# --- The ledger -----------------------------------------------------------------------------------------------------


@dataclass
class Entry:
    """One event: what was asked, and what came of it. `key` is its payload, `execution` the name of its workflow, `due`
    None for a message that is no event."""

    key: str
    execution: str
    due: datetime | None
    withdrawn: bool = False  # canceled or replaced in time
    inside: bool = False  # its workflow ended with the emulator
    deliveries: list[datetime] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)  # where they were


@dataclass(frozen=True)
class Account:
    """What became of a drill's events: `events` is the sum of `delivered`, `reported`, `canceled`, `inside` and
    `missing`. `repeated` ones are among the delivered or reported. `unwanted` are delivered though withdrawn,
    `unexplained` repeated without a reason that could be found."""

    events: int
    delivered: int
    repeated: int
    reported: int
    canceled: int
    inside: int
    missing: int
    early: int
    unwanted: int
    unexplained: int
    latest_seconds: float

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.early or self.unwanted or self.unexplained)


class Ledger:
    """Every event of a drill, by its payload, and what was heard of it."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def expect(self, key: str, execution: str, due: datetime | None) -> None:
        """An event was published; each has a payload of its own."""
        if key in self._entries:
            raise ValueError(f"{key} was published already")
        self._entries[key] = Entry(key, execution, due)

    def withdraw(self, key: str) -> None:
        """Its publisher canceled or replaced it, in time."""
        self._entries[key].withdrawn = True

    def deliver(self, key: str, at: datetime) -> None:
        """It arrived at its target. Events of other drills are ignored."""
        if entry := self._entries.get(key):
            entry.deliveries.append(at)

    def report(self, key: str, place: str) -> None:
        """It arrived on a failure topic, or in the queue of what could not even be reported."""
        if entry := self._entries.get(key):
            entry.reports.append(place)

    def lose_inside(self, executions: Iterable[str]) -> None:
        """The emulator ended with the workflows of these names under way."""
        names = set(executions)
        for entry in self._entries.values():
            entry.inside = entry.execution in names

    @property
    def last_due(self) -> datetime:
        return max(
            (entry.due for entry in self._entries.values() if entry.due), default=datetime.min.replace(tzinfo=UTC)
        )

    @property
    def open(self) -> list[str]:
        """The payloads of the events of which something should have been heard, and nothing was."""
        return [
            entry.key
            for entry in self._entries.values()
            if not (entry.deliveries or entry.reports or entry.withdrawn or entry.inside)
        ]

    @property
    def repeated(self) -> list[str]:
        """The executions' names of the events of which something was heard more than once."""
        return [entry.execution for entry in self._entries.values() if len(entry.deliveries) + len(entry.reports) > 1]

    def places(self) -> Counter:
        """How many reports were where."""
        return Counter(place for entry in self._entries.values() for place in entry.reports)

    def account(self, attempts: Callable[[str], int]) -> Account:
        """What became of all of them. `attempts` says how often the event of an execution's name can have been sent: a
        repeat is explained if that is as often as it was."""
        entries = self._entries.values()
        heard = {entry.key: len(entry.deliveries) + len(entry.reports) for entry in entries}
        delivered = [entry for entry in entries if entry.deliveries]
        silent = [entry for entry in entries if not heard[entry.key]]
        repeated = [entry for entry in entries if heard[entry.key] > 1]
        late = [(min(entry.deliveries) - entry.due).total_seconds() for entry in delivered]
        return Account(
            events=len(entries),
            delivered=len(delivered),
            repeated=len(repeated),
            reported=sum(not entry.deliveries and bool(entry.reports) for entry in entries),
            canceled=sum(entry.withdrawn for entry in silent),
            inside=sum(entry.inside and not entry.withdrawn for entry in silent),
            missing=sum(not entry.withdrawn and not entry.inside for entry in silent),
            early=sum(any(at + CLOCK_STEP <= entry.due for at in entry.deliveries) for entry in delivered),
            unwanted=sum(entry.withdrawn for entry in delivered),
            unexplained=sum(heard[entry.key] > attempts(entry.execution) for entry in repeated),
            latest_seconds=max(late, default=0.0),
        )


# --- A drill's scene ------------------------------------------------------------------------------------------------


class Scene:
    """What one drill works with: a deployed stack, topics of its own, its ledger, and the proxy that injects faults."""

    def __init__(self, name: str, stack: LocalStack, stack_name: str, proxy: FaultProxy, events: int) -> None:
        self.name, self.stack, self.stack_name, self.proxy, self.events = name, stack, stack_name, proxy, events
        self.outputs = stack.outputs_of(stack_name)
        self.ingest, self.sweeper = f"{stack_name}-Ingest", f"{stack_name}-Sweeper"  # how their full names begin
        self.sns, self.sqs = stack.client("sns", max_pool_connections=20), stack.client("sqs")
        self.steps, self.dynamodb = stack.client("stepfunctions"), stack.client("dynamodb")
        self.lambdas = stack.client("lambda")
        self.input_queue = self.sqs.get_queue_url(QueueName=self.physical_id("InputQueue").rsplit("/", 1)[-1])[
            "QueueUrl"
        ]
        self.ledger = Ledger()
        self.notes: list[str] = []
        self.faults: list[Fault] = []

    def __enter__(self) -> Self:
        self.consumer = Consumer(self.stack)
        prefix = f"{self.name}-{uuid.uuid4().hex[:6]}"
        self.target = self.consumer.topic(f"{prefix}-target")
        self.fifo_target = self.consumer.topic(f"{prefix}-target", fifo=True)
        self.failure_topic = self.consumer.topic(f"{prefix}-failed")
        self.consumer.subscribe(self.outputs["FailureTopicArn"])
        self._heard = 0
        return self

    def __exit__(self, *_: object) -> None:
        self.consumer.close()

    # Publishing

    def publish_all(self) -> None:
        """Publish the drill's events: near and far, whole seconds and fractions, without a name and with one, to a
        standard topic and to a FIFO one; and some that are canceled or replaced afterwards."""
        now = datetime.now(UTC).replace(microsecond=0)
        events, withdrawals, replacements = [], [], []
        for number in range(self.events):
            key = f"{self.name}-{number:04}"
            near = {"date": (now + timedelta(seconds=5 + number % 4)).isoformat()}
            far = {"date": (now + timedelta(seconds=HORIZON_SECONDS + 6 + number % 8)).isoformat()}
            later = {"date": (now + timedelta(seconds=HORIZON_SECONDS + WITHDRAWAL_SECONDS + number % 8)).isoformat()}
            fraction = {"microsecond": 1000 * (50 + 37 * number % 900)}
            event = {"payload": key, "target": self.target, "user": "drill"}
            if number % 2:
                event["failure_topic"] = self.failure_topic
            match number % 10:
                case 0:
                    event |= near
                case 1:
                    event |= {"date": _at(near["date"], **fraction)}
                case 2:
                    event |= near | {"id": key}
                case 3:
                    event |= near | {"target": self.fifo_target}
                case 4 | 5:
                    event |= far
                case 6:
                    event |= {"date": _at(far["date"], **fraction)}
                case 7:
                    event |= far | {"target": self.fifo_target, "id": key}
                case 8:
                    event |= later
                    withdrawals.append(key)
                case 9:
                    event |= later | {"id": key}
                    replacements.append(event | {"payload": f"{key}-replaced"})
            events.append(event)
        ids = self.publish(events)
        self._send(json.dumps({"cancel": ids[key]}) for key in withdrawals)
        self.publish(replacements)
        for key in [*withdrawals, *(event["id"] for event in replacements)]:
            self.ledger.withdraw(key)

    def publish(self, events: Sequence[dict]) -> dict[str, str]:
        """Publish events, and expect each. Returns their MessageIds by payload."""
        ids = {}
        for event, message_id in zip(events, self._send(map(json.dumps, events)), strict=True):
            execution = f"{event['id']}-{message_id[:8]}" if "id" in event else message_id
            self.ledger.expect(event["payload"], execution, datetime.fromisoformat(event["date"]))
            ids[event["payload"]] = message_id
        return ids

    def publish_garbage(self, texts: Sequence[str]) -> None:
        """Publish what is no event, and expect it to be reported."""
        for text, message_id in zip(texts, self._send(texts), strict=True):
            self.ledger.expect(text, message_id, None)

    def _send(self, messages: Iterable[str]) -> list[str]:
        """Publish to the input topic, in batches side by side. Returns the MessageIds, in order."""

        def send(batch: Sequence[str]) -> list[str]:
            entries = [{"Id": str(number), "Message": message} for number, message in enumerate(batch)]
            answer = self.sns.publish_batch(TopicArn=self.outputs["InputTopicArn"], PublishBatchRequestEntries=entries)
            if answer["Failed"]:
                raise LocalStackError(f"PublishBatch: {answer['Failed']}")
            taken = {entry["Id"]: entry["MessageId"] for entry in answer["Successful"]}
            return [taken[entry["Id"]] for entry in entries]

        with ThreadPoolExecutor(4) as threads:
            return [
                message_id
                for ids in threads.map(send, itertools.batched(messages, 10, strict=False))
                for message_id in ids
            ]

    # Breaking

    @contextmanager
    def broken(self, *faults: Fault) -> Iterator[Fault]:
        """Inject faults within the block, into the calls of this stack's functions, and see that each has happened."""
        for fault in faults:
            fault.function = fault.function or f"{self.stack_name}-"
        self.faults += faults
        with self.proxy.inject(*faults) as fault:
            yield fault

    @contextmanager
    def ingest_stopped(self) -> Iterator[None]:
        """Let messages heap up in the input queue, so that Ingest gets them in full batches."""
        [mapping] = self.lambdas.list_event_source_mappings(FunctionName=self.physical_id("Ingest"))[
            "EventSourceMappings"
        ]
        self.lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        try:
            yield
        finally:
            self.lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    @contextmanager
    def visibility_timeout(self, seconds: int) -> Iterator[None]:
        """Messages that nobody has deleted come back sooner than the template's three minutes."""
        name = "VisibilityTimeout"
        before = self.sqs.get_queue_attributes(QueueUrl=self.input_queue, AttributeNames=[name])["Attributes"][name]
        self.sqs.set_queue_attributes(QueueUrl=self.input_queue, Attributes={name: str(seconds)})
        try:
            yield
        finally:
            self.sqs.set_queue_attributes(QueueUrl=self.input_queue, Attributes={name: before})

    def sweep_by_hand(self) -> None:
        """Wind the clock at once, instead of at the next whole minute."""
        self.steps.start_execution(stateMachineArn=self.outputs["SweepArn"])

    def physical_id(self, logical_id: str) -> str:
        """The name of a function of the stack, the URL of a queue."""
        answer = self.stack.client("cloudformation").describe_stack_resource(
            StackName=self.stack_name, LogicalResourceId=logical_id
        )
        return answer["StackResourceDetail"]["PhysicalResourceId"]

    # Accounting

    def settle(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until everything is heard of and nothing is under way any more, or patience ends."""
        give_up_at = max(datetime.now(UTC), self.ledger.last_due) + timedelta(seconds=patience_seconds)
        while datetime.now(UTC) < give_up_at:
            self.proxy.check()
            self._listen()
            if not self.ledger.open and datetime.now(UTC) > self.ledger.last_due and self._is_idle():
                break
            time.sleep(0.5)
        time.sleep(2)  # for what the last workflows sent
        self._listen()

    def _listen(self) -> None:
        """Enter what has arrived since the last time."""
        arrivals = self.consumer.arrivals
        for arrival in arrivals[self._heard :]:
            if arrival.topic in (self.target, self.fifo_target):
                self.ledger.deliver(arrival.message, arrival.sent_at)
            else:
                own = arrival.topic == self.failure_topic
                self.ledger.report(
                    _key_of(arrival.message), "own failure topic" if own else "the stack's failure topic"
                )
        self._heard = len(arrivals)

    def take_undelivered(self) -> None:
        """Enter what lies in the queue of the events that could not even be reported, and remove it."""
        queue = self.outputs["UndeliveredUrl"]
        while messages := self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.ledger.report(_key_of(message["Body"]), "the queue Undelivered")
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    def attempts(self, execution: str) -> int:
        """How often an event can have been sent: once by each execution that functions started for it, and once more
        for each of their tasks that timed out, because what it asked for may have happened all the same."""
        prefix = self.outputs["DeliverArn"].replace(":stateMachine:", ":execution:")
        attempts = 0
        for name in self.proxy.started(execution):
            history = self.steps.get_execution_history(executionArn=f"{prefix}:{name}")["events"]
            failures = [event.get("taskFailedEventDetails", {}).get("error") for event in history]
            attempts += 1 + failures.count("States.Timeout")
        return attempts

    def _is_idle(self) -> bool:
        """Nothing in the input queue, nothing parked, no workflow under way."""
        counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        waiting = self.sqs.get_queue_attributes(QueueUrl=self.input_queue, AttributeNames=counts)["Attributes"]
        if any(int(waiting[name]) for name in counts):
            return False
        if self.dynamodb.scan(
            TableName=self.outputs["ParkedTableName"],
            FilterExpression="attribute_exists(execution)",
            Select="COUNT",
        )["Count"]:
            return False
        return not self.steps.list_executions(
            stateMachineArn=self.outputs["DeliverArn"], statusFilter="RUNNING", maxResults=1
        )["executions"]


def _at(date: str, microsecond: int) -> str:
    return datetime.fromisoformat(date).replace(microsecond=microsecond).isoformat()


def _key_of(report: str) -> str:
    """The payload of the event that a failure report is about; the whole text of what is no event."""
    event = json.loads(report)["event"]
    return event["payload"] if isinstance(event, dict) else event


# --- The drills -----------------------------------------------------------------------------------------------------
# Each breaks something, publishes, mends, and leaves the accounting to its caller. Its docstring goes into the table.


def nothing(scene: Scene) -> None:
    """Nothing is broken"""
    scene.publish_all()
    scene.settle()


def start_throttled_at_first(scene: Scene) -> None:
    """StartExecution throttles the first 60 calls"""
    with scene.broken(Fault(throttle, {"StartExecution"}, when=first(60))):
        scene.publish_all()
        scene.settle()


def start_throttled_by_half(scene: Scene) -> None:
    """StartExecution throttles every second call"""
    with scene.broken(Fault(throttle, {"StartExecution"}, when=every(2))):
        scene.publish_all()
        scene.settle()


def dynamodb_throttled(scene: Scene) -> None:
    """DynamoDB throttles every second call, and leaves the first ten batches of deletes undone"""
    operations = {"PutItem", "UpdateItem", "DeleteItem", "Query"}
    batches = Fault(leave_unprocessed, {"BatchWriteItem"}, when=first(10))
    with scene.broken(Fault(throttle, operations, when=every(2)), batches):
        scene.publish_all()
        scene.settle()


def answers_lost(scene: Scene) -> None:
    """The answer of every third call is lost after it took effect"""
    with scene.broken(Fault(lose_answer, when=every(3))):
        scene.publish_all()
        scene.settle()


def ingest_killed(scene: Scene) -> None:
    """Ingest is killed thrice, in the middle of a batch"""
    with (
        scene.visibility_timeout(10),
        scene.broken(Fault(kill, {"StartExecution"}, scene.ingest, when=every(7, at_most=3))),
    ):
        with scene.ingest_stopped():
            scene.publish_all()
        scene.settle()


def poisoned(scene: Scene) -> None:
    """In each ten messages one that Ingest can't finish, or that is no event"""
    poison = f'"{scene.name}-poison'
    with scene.broken(Fault(fail, {"StartExecution", "PutItem"}, scene.ingest, text=poison.replace('"', ""))):
        with scene.ingest_stopped():
            scene.publish_all()
            date = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
            event = {"date": date, "target": scene.target, "user": "drill"}
            scene.publish(
                [event | {"payload": f"{scene.name}-poison-{number}"} for number in range(math.ceil(scene.events / 20))]
            )
            scene.publish_garbage([f"{scene.name} no event {number}" for number in range(math.ceil(scene.events / 20))])
        time.sleep(20)
    scene.settle()


def message_twice(scene: Scene) -> None:
    """SQS hands messages out again while Ingest still works on them"""
    slow = Fault(delay(2.5), {"StartExecution", "PutItem"}, scene.ingest, when=every(15, at_most=6))
    with scene.visibility_timeout(1), scene.broken(slow):
        with scene.ingest_stopped():
            scene.publish_all()
        scene.settle()


def sweeper_killed_before_delete(scene: Scene) -> None:
    """The Sweeper is killed twice, between start and delete"""
    with scene.broken(Fault(kill, {"BatchWriteItem"}, scene.sweeper, when=first(2))):
        scene.publish_all()
        scene.settle()


def sweeper_killed_in_lane(scene: Scene) -> None:
    """The Sweeper is killed twice, in the middle of a lane"""
    with scene.broken(Fault(kill, {"StartExecution"}, scene.sweeper, when=every(20, at_most=2))):
        scene.publish_all()
        scene.settle()


def sweeps_race(scene: Scene) -> None:
    """Four generations of sweeps race, while each start takes a fifth of a second"""
    with scene.broken(Fault(delay(0.2), {"StartExecution"}, scene.sweeper)):
        scene.publish_all()
        for _ in range(2):  # beside the clock's own two
            scene.sweep_by_hand()
        scene.settle()


def sweeps_skipped(scene: Scene) -> None:
    """No sweep for three minutes"""
    function = scene.physical_id("Sweeper")
    scene.lambdas.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    with scene.proxy.inject(Fault(lambda proxy, call: proxy.forward(call), function=scene.sweeper)) as any_call:
        scene.publish_all()
        time.sleep(180)
    if any_call.hits:
        raise LocalStackError(f"The Sweeper ran: {any_call.hits} calls")
    scene.lambdas.delete_function_concurrency(FunctionName=function)
    scene.settle()


def target_deleted(scene: Scene) -> None:
    """The target topics are deleted before the events are due"""
    scene.publish_all()
    _delete_topics(scene, scene.target, scene.fifo_target)
    scene.settle()


def target_and_failure_topic_deleted(scene: Scene) -> None:
    """Targets and failure topic are deleted"""
    scene.publish_all()
    _delete_topics(scene, scene.target, scene.fifo_target, scene.failure_topic)
    scene.settle()


def every_topic_deleted(scene: Scene) -> None:
    """Targets, failure topic and the stack's failure topic are deleted"""
    stacks_own = scene.outputs["FailureTopicArn"]
    scene.publish_all()
    _delete_topics(scene, scene.target, scene.fifo_target, scene.failure_topic, stacks_own)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while scene.ledger.open and time.monotonic() < give_up_at:
        scene.take_undelivered()
        time.sleep(1)
    scene.settle()
    scene.take_undelivered()
    scene.sns.create_topic(Name=stacks_own.rsplit(":", 1)[-1])  # for the next drill; its ARN is the same


def emulator_restarted(scene: Scene) -> None:
    """The emulator is stopped and started again, with its state"""
    scene.publish_all()
    time.sleep(1)
    scene.stack.restart()
    scene.sweep_by_hand()
    failed = [
        execution["name"]
        for execution in scene.stack.executions(scene.outputs["DeliverArn"])
        if execution["status"] == "FAILED"
        and scene.steps.describe_execution(executionArn=execution["executionArn"]).get("error")
        == "States.ServiceRestart"
    ]
    scene.ledger.lose_inside(failed)
    scene.notes.append(f"{len(failed)} workflows were under way in the emulator when it ended")
    scene.settle()


def burst(scene: Scene) -> None:
    """5,000 events due in the same second"""
    scene.events = BURST
    started_at = time.monotonic()
    due = (datetime.now(UTC) + timedelta(seconds=90)).replace(microsecond=0)
    scene.publish(
        [
            {"payload": f"burst-{number:05}", "target": scene.target, "user": "drill", "date": due.isoformat()}
            for number in range(BURST)
        ]
    )
    scene.notes.append(f"published in {time.monotonic() - started_at:.0f} s")
    slow_before = scene.proxy.slow
    scene.settle(BURST_PATIENCE_SECONDS)
    slow = scene.proxy.slow - slow_before
    scene.notes.append(f"{slow} calls took the emulator longer than the 3 s after which a function asks again")


def _delete_topics(scene: Scene, *topics: str) -> None:
    for topic in topics:
        scene.sns.delete_topic(TopicArn=topic)


Drill = Callable[[Scene], None]
# Two stacks in one emulator, each with its drills, side by side; then those that need all of the machine.
SIDE_BY_SIDE: dict[str, list[Drill]] = {
    "left": [
        nothing,
        start_throttled_at_first,
        start_throttled_by_half,
        dynamodb_throttled,
        answers_lost,
        ingest_killed,
        message_twice,
        sweeper_killed_before_delete,
        sweeper_killed_in_lane,
        sweeps_race,  # last, because its generations go on for two minutes, or until the emulator ends
    ],
    "right": [
        sweeps_skipped,
        poisoned,
        target_deleted,
        target_and_failure_topic_deleted,
        every_topic_deleted,
    ],
}
ALONE: list[Drill] = [emulator_restarted, burst]


@dataclass(frozen=True)
class Result:
    """One line of the table. `hits` is how often the fault happened, where the proxy injected it."""

    what: str
    account: Account
    hits: int | None
    notes: list[str]
    places: Counter
    seconds: float
    open: list[str]

    @property
    def is_clean(self) -> bool:
        return self.account.is_clean and self.hits != 0


def run(drill: Drill, stack: LocalStack, stack_name: str, proxy: FaultProxy, events: int) -> Result:
    """Run one drill on one of the deployed stacks."""
    started_at = time.monotonic()
    with Scene(_name(drill), stack, stack_name, proxy, events) as scene:
        drill(scene)
        repeated = scene.ledger.repeated
        if repeated:
            again = sum(len(proxy.started(execution)) > 1 for execution in repeated)
            scene.notes.append(f"of {len(repeated)} repeated, {again} were started more than once")
        hits = min((fault.hits for fault in scene.faults), default=None)
        result = Result(
            what=drill.__doc__,
            account=scene.ledger.account(scene.attempts),
            hits=hits and sum(fault.hits for fault in scene.faults),
            notes=scene.notes,
            places=scene.ledger.places(),
            seconds=time.monotonic() - started_at,
            open=scene.ledger.open,
        )
    _print(drill, result)
    return result


def _name(drill: Drill) -> str:
    return drill.__name__.replace("_", "-")


def _print(drill: Drill, result: Result) -> None:
    account = result.account
    print(
        f"{_name(drill):34} {account.events:5} events: {account.delivered} delivered ({account.repeated} repeated), "
        f"{account.reported} reported, {account.canceled} canceled, {account.inside} inside, "
        f"{account.missing} missing, latest {account.latest_seconds:.1f} s  [{result.seconds:.0f} s]",
        flush=True,
    )
    for label, count in (
        ("early", account.early),
        ("delivered though withdrawn", account.unwanted),
        ("repeated without a reason", account.unexplained),
    ):
        if count:
            print(f"    {count} {label}")
    if result.hits is not None:
        print(f"    the fault happened {result.hits} times")
    if result.open:
        print(f"    missing: {', '.join(result.open[:10])}")
    if result.places:
        print(f"    reported: {', '.join(f'{count} on {place}' for place, count in result.places.items())}")
    for note in result.notes:
        print(f"    {note}")


def run_all(only: Sequence[str], events: int) -> list[Result]:
    """Run the drills whose names contain one of `only`, on one emulator."""

    def chosen(drills: Iterable[Drill]) -> list[Drill]:
        return [drill for drill in drills if not only or any(part in _name(drill) for part in only)]

    side_by_side = {stack_name: chosen(drills) for stack_name, drills in SIDE_BY_SIDE.items()}
    side_by_side = {stack_name: drills for stack_name, drills in side_by_side.items() if drills}
    alone = chosen(ALONE)
    if not side_by_side and not alone:
        every_name = map(_name, [*itertools.chain(*SIDE_BY_SIDE.values()), *ALONE])
        sys.exit(f"No drill has that name. There are: {', '.join(every_name)}")
    with ExitStack() as ends:
        stack = ends.enter_context(LocalStack(parameters={"SweepIntervalSeconds": str(SWEEP_SECONDS)}))
        proxy = ends.enter_context(FaultProxy(stack))
        stack.build()
        names = list(side_by_side) or ["left"]
        for name in names:
            stack.deploy(stack_name=name)
            warm_up(stack, name, proxy)

        def run_in_turn(stack_name: str) -> list[Result]:
            return [run(drill, stack, stack_name, proxy, events) for drill in side_by_side[stack_name]]

        with ThreadPoolExecutor() as threads:
            results = list(itertools.chain(*threads.map(run_in_turn, side_by_side)))
        results += [run(drill, stack, names[0], proxy, events) for drill in alone]
    return results


def warm_up(stack: LocalStack, stack_name: str, proxy: FaultProxy) -> None:
    """Put the proxy before the stack's functions, and let them start, so that no lateness is that of cold starts."""
    with Scene("warm-up", stack, stack_name, proxy, WARM_UP) as scene:
        for function in ("Ingest", "Sweeper"):
            proxy.stand_before(scene.physical_id(function))
        scene.sweep_by_hand()
        nothing(scene)


# --- The table ------------------------------------------------------------------------------------------------------

COLUMNS = ("drill", "events", "delivered", "repeated", "reported", "canceled", "missing", "longest lateness")


def table(results: Sequence[Result]) -> str:
    """The results in Markdown."""
    lines = [" | ".join(COLUMNS), " | ".join(["---"] + ["---:"] * (len(COLUMNS) - 1))]
    for result in results:
        account = result.account
        inside = f" + {account.inside} inside Express" if account.inside else ""
        cells = (
            result.what,
            account.events,
            f"{account.delivered}{inside}",
            account.repeated,
            account.reported,
            account.canceled,
            account.missing,
            f"{account.latest_seconds:.1f} s" if account.delivered else "-",
        )
        lines.append(" | ".join(map(str, cells)))
    return "\n".join(f"| {line} |" for line in lines)


def write(results: Sequence[Result], command: str, seconds: float) -> None:
    """Put the results into the document, between its markers."""
    begin, end = MARKERS
    before, _, rest = DOCUMENT.read_text().partition(begin)
    _, _, after = rest.partition(end)
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
    how = f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {machine}, {seconds / 60:.0f} minutes."
    notes = "\n".join(f"- {result.what}: {note}." for result in results for note in result.notes)
    text = f"{begin}\n{how}\n\n{table(results)}\n\n{notes}\n{end}"
    DOCUMENT.write_text(before + text + after)


def main() -> None:
    parser = argparse.ArgumentParser(description="Break Punctual on this machine, and account for every event")
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", default=[], help="the drills whose names contain one of these"
    )
    parser.add_argument("--events", type=int, default=200, help="in each drill but the burst (default: 200)")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without ending the emulator
    started_at = time.monotonic()
    try:
        results = run_all(options.only, options.events)
    except LocalStackError as error:
        sys.exit(f"\n{error}")
    print(f"\n{table(results)}\n\n{time.monotonic() - started_at:.0f} seconds")
    if options.write:
        write(results, "make drill", time.monotonic() - started_at)
    sys.exit(not all(result.is_clean for result in results))


if __name__ == "__main__":
    main()
