"""The scene of a drill: a deployed stack, topics of its own, faults to inject, and the account of every event."""

import itertools
import json
import math
import os
import signal
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from punctual_core.lanes import lane_of

from tools.drills.faults import Fault
from tools.drills.ledger import Ledger
from tools.drills.proxy import FaultProxy
from tools.local import Consumer, LocalStack, LocalStackError

# A cancel or replacement is in time if Ingest handles it before the event's cutoff. With a fault of Ingest, that can
# take this long.
WITHDRAWAL_SECONDS = 14
# How often a process is looked for that is to be stopped.
FREEZE_INTERVAL_SECONDS = 0.05
# An event is missing if nothing has arrived this long after the last due time and the end of the fault.
PATIENCE_SECONDS = 150
# For what the last executions have just published.
LAST_ARRIVALS_SECONDS = 2

# The table also holds leases and the latest Sweep execution, under partition keys that begin otherwise.
LANE = "lane-"

Event = dict[str, str]


@dataclass(frozen=True)
class Mix:
    """The messages of a drill: events, the payloads of those to cancel, and replacements for others."""

    events: list[Event]
    canceled: list[str]
    replacements: list[Event]

    @property
    def withdrawn(self) -> list[str]:
        """The payloads of the events that are canceled or replaced."""
        return [*self.canceled, *(event["id"] for event in self.replacements)]


def mix_of(
    name: str, count: int, now: datetime, horizon_seconds: int, target: str, fifo_target: str, failure_topic: str
) -> Mix:
    """`count` events of every kind: due soon or beyond the horizon, at a whole second or not, with an id or without, to
    a standard topic or a FIFO topic, every second one with a failure topic. Of ten, one is to be canceled and one
    replaced."""

    def due_in(seconds: int, microsecond: int = 0) -> Event:
        return {"date": (now + timedelta(seconds=seconds)).replace(microsecond=microsecond).isoformat()}

    mix = Mix([], [], [])
    for number in range(count):
        key = f"{name}-{number:04}"
        soon = 5 + number % 4
        later = horizon_seconds + 6 + number % 8
        after_withdrawal = horizon_seconds + WITHDRAWAL_SECONDS + number % 8
        fraction = 1000 * (50 + 37 * number % 900)
        event = {"payload": key, "target": target, "user": "drill"}
        if number % 2:
            event["failure_topic"] = failure_topic
        match number % 10:
            case 0:
                event |= due_in(soon)
            case 1:
                event |= due_in(soon, fraction)
            case 2:
                event |= due_in(soon) | {"id": key}
            case 3:
                event |= due_in(soon) | {"target": fifo_target}
            case 4 | 5:
                event |= due_in(later)
            case 6:
                event |= due_in(later, fraction)
            case 7:
                event |= due_in(later) | {"target": fifo_target, "id": key}
            case 8:
                event |= due_in(after_withdrawal)
                mix.canceled.append(key)
            case 9:
                event |= due_in(after_withdrawal) | {"id": key}
                mix.replacements.append(event | {"payload": f"{key}-replaced"})
        mix.events.append(event)
    return mix


class Scene:
    """What one drill works with. Its topics exist within the `with` block."""

    def __init__(self, name: str, stack: LocalStack, proxy: FaultProxy, events: int) -> None:
        self.name, self.stack, self.proxy, self.events = name, stack, proxy, events
        self.outputs = stack.outputs
        self.ingest, self.sweeper = f"{stack.stack_name}-Ingest", f"{stack.stack_name}-Sweeper"  # their names begin so
        self.sns, self.sqs = stack.client("sns", max_pool_connections=20), stack.client("sqs")
        self.steps, self.dynamodb = stack.client("stepfunctions"), stack.client("dynamodb")
        self.lambdas = stack.client("lambda")
        ingest = self.lambdas.get_function_configuration(FunctionName=stack.physical_id("Ingest"))
        self.horizon_seconds = int(ingest["Environment"]["Variables"]["HORIZON_SECONDS"])
        self.ledger = Ledger()
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.faults: list[Fault] = []
        self.counts_starts = True  # False if functions make their calls without the proxy
        self._mixes = 0

    def __enter__(self) -> Self:
        self.consumer = Consumer(self.stack)
        prefix = f"{self.name}-{uuid.uuid4().hex[:6]}"
        self.target = self.consumer.topic(f"{prefix}-target")
        self.fifo_target = self.consumer.topic(f"{prefix}-target", fifo=True)
        self.failure_topic = self.consumer.topic(f"{prefix}-failed")
        self.consumer.subscribe(self.outputs["FailureTopicArn"])
        self._entered = 0  # arrivals that are in the ledger
        return self

    def __exit__(self, *_: object) -> None:
        self.consumer.close()

    # Publishing

    def publish_all(self, count: int | None = None) -> None:
        """Publish `count` events (default: the drill's), then the cancels and the replacements."""
        now, topics = datetime.now(UTC).replace(microsecond=0), (self.target, self.fifo_target, self.failure_topic)
        mix = mix_of(f"{self.name}-{self._mixes}", count or self.events, now, self.horizon_seconds, *topics)
        self._mixes += 1
        ids = self.publish(mix.events)
        self.cancel(ids[key] for key in mix.canceled)
        self.publish(mix.replacements)
        for key in mix.withdrawn:
            self.ledger.withdraw(key)

    def publish_in_lane(self, lane: str, count: int, due: datetime) -> None:
        """Publish named events that belong to one lane and are due at the same time."""
        names = (f"{self.name}-{lane}-{number}" for number in itertools.count())
        ids = itertools.islice((name for name in names if lane_of(name) == lane), count)
        self.publish([self.event(id, due) | {"id": id} for id in ids])

    def event(self, payload: str, due: datetime) -> Event:
        return {"payload": payload, "target": self.target, "user": "drill", "date": due.isoformat()}

    def publish(self, events: Sequence[Event]) -> dict[str, str]:
        """Publish events and enter them in the ledger. Returns their ids by payload."""
        ids = {}
        for event, message_id in zip(events, self._send(map(json.dumps, events)), strict=True):
            execution = f"{event['id']}-{message_id[:8]}" if "id" in event else message_id
            self.ledger.expect(event["payload"], execution, datetime.fromisoformat(event["date"]))
            ids[event["payload"]] = event.get("id", message_id)
        return ids

    def cancel(self, ids: Iterable[str]) -> None:
        """Publish cancels."""
        self._send(json.dumps({"cancel": id}) for id in ids)

    def _send(self, messages: Iterable[str]) -> list[str]:
        """Publish to the input topic, several batches at a time. Returns the MessageIds in order."""

        def send(batch: Sequence[str]) -> list[str]:
            entries = [{"Id": str(number), "Message": message} for number, message in enumerate(batch)]
            answer = self.sns.publish_batch(TopicArn=self.outputs["InputTopicArn"], PublishBatchRequestEntries=entries)
            if answer["Failed"]:
                raise LocalStackError(f"PublishBatch: {answer['Failed']}")
            ids = {entry["Id"]: entry["MessageId"] for entry in answer["Successful"]}
            return [ids[entry["Id"]] for entry in entries]

        with ThreadPoolExecutor(4) as threads:
            batches = threads.map(send, itertools.batched(messages, 10, strict=False))
            return list(itertools.chain.from_iterable(batches))

    # Breaking

    @contextmanager
    def broken(self, *faults: Fault) -> Iterator[None]:
        """Inject faults into the calls of this stack's functions within the block. The drill fails if one of them never
        happens."""
        self.faults += faults
        with self.proxy.inject(*faults):
            yield

    @contextmanager
    def frozen(self, function: str) -> Iterator[None]:
        """Within the block, every process of a function is stopped as soon as it is seen, so that its calls hang."""
        frozen: set[int] = set()
        is_over = threading.Event()

        def freeze() -> None:
            while not is_over.wait(FREEZE_INTERVAL_SECONDS):
                for process in set(self.proxy.workers(function)) - frozen:
                    os.kill(process, signal.SIGSTOP)
                    frozen.add(process)

        thread = threading.Thread(target=freeze)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            for process in frozen:
                with suppress(ProcessLookupError):  # The emulator has ended it.
                    os.kill(process, signal.SIGKILL)
        if not frozen:
            self.problems.append("no process was stopped")
        self.notes.append(f"{len(frozen)} processes were stopped")

    @contextmanager
    def ingest_stopped(self) -> Iterator[None]:
        """Let messages accumulate in the input queue, so that Ingest receives full batches."""
        [mapping] = self.lambdas.list_event_source_mappings(FunctionName=self.stack.physical_id("Ingest"))[
            "EventSourceMappings"
        ]
        self.lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        try:
            yield
        finally:
            self.lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    # Accounting

    def settle(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Enter arrivals in the ledger until every event is accounted for and the stack is idle, or patience ends."""
        give_up_at = max(datetime.now(UTC), self.ledger.last_due) + timedelta(seconds=patience_seconds)
        while not (is_idle := self._is_settled()) and datetime.now(UTC) < give_up_at:
            time.sleep(0.5)
        if not is_idle:
            self.problems.append("something is left in the input queue or in a lane, or an execution is running")
        time.sleep(LAST_ARRIVALS_SECONDS)
        self._enter_arrivals()

    def _is_settled(self) -> bool:
        self.proxy.check()
        self._enter_arrivals()
        return not self.ledger.open and datetime.now(UTC) > self.ledger.last_due and self._is_idle()

    def wait_for_ingest(self, payloads: Collection[str] = ()) -> None:
        """Return when every message is handled, or when the events with these payloads are parked. Raises
        LocalStackError if that takes very long."""
        wanted = {entry.execution for entry in self.ledger if entry.key in payloads}
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while wanted - set(itertools.chain(*self.parked().values())) if wanted else not self._is_empty("InputQueue"):
            if time.monotonic() > give_up_at:
                raise LocalStackError("Ingest does not handle its messages")
            time.sleep(0.1)

    def parked(self) -> dict[str, list[str]]:
        """The execution names of the parked events, by lane, the earliest first."""
        lanes: dict[str, list[str]] = defaultdict(list)
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.outputs["ParkedTableName"])
        items = [item for page in pages for item in page["Items"] if item["lane"]["S"].startswith(LANE)]
        for item in sorted(items, key=lambda item: str(item["sort_key"]["S"])):
            lanes[item["lane"]["S"]].append(item["execution"]["S"])
        return lanes

    def failed_attempts(self, error: str) -> int:
        """The number of attempts, in all executions for the drill's events, that failed with this error."""
        executions = {name for entry in self.ledger for name in self.proxy.started(entry.execution)}
        return sum(self._errors_of(name).count(error) for name in executions)

    def attempts(self, execution: str) -> float:
        """How often an event may have been sent: once by each execution that functions started for it, and once more
        for each of their tasks that timed out, because a call that timed out may have taken effect."""
        if not self.counts_starts:
            return math.inf
        return sum(1 + self._errors_of(name).count("States.Timeout") for name in self.proxy.started(execution))

    def _errors_of(self, execution: str) -> list[str]:
        """The errors of the task attempts of an execution that have failed."""
        prefix = self.outputs["DeliverArn"].replace(":stateMachine:", ":execution:")
        history = self.steps.get_execution_history(executionArn=f"{prefix}:{execution}")["events"]
        return [event["taskFailedEventDetails"]["error"] for event in history if "taskFailedEventDetails" in event]

    def _enter_arrivals(self) -> None:
        """Enter what has arrived since the last time, also in the Undelivered queue."""
        arrivals = self.consumer.arrivals
        for arrival in arrivals[self._entered :]:
            if arrival.topic in (self.target, self.fifo_target):
                self.ledger.deliver(arrival.message, arrival.sent_at)
            else:
                self.ledger.report(_key_of(arrival.message))
        self._entered = len(arrivals)
        queue = self.outputs["UndeliveredUrl"]
        while messages := self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.ledger.report(_key_of(message["Body"]))
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    def _is_idle(self) -> bool:
        """Nothing in the input queue or its dead-letter queue, no parked event, no Deliver execution running."""
        if not self._is_empty("InputQueue") or not self._is_empty("InputDeadLetters") or self.parked():
            return False
        return not self.steps.list_executions(
            stateMachineArn=self.outputs["DeliverArn"], statusFilter="RUNNING", maxResults=1
        )["executions"]

    def _is_empty(self, queue: str) -> bool:
        counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        url = self.stack.physical_id(queue)
        return not any(
            map(int, self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"].values())
        )


def _key_of(report: str) -> str:
    """The payload of the event in a failure report; the whole text of a message that is not an event."""
    event = json.loads(report)["event"]
    return str(event["payload"] if isinstance(event, dict) else event)
