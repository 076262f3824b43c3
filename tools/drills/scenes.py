"""The scene of a drill: a deployed stack, topics of its own, faults to inject, and the account of every event."""

import itertools
import json
import math
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from punctual_core.lanes import lane_of

from tools.drills.faults import TIMEOUT
from tools.drills.ledger import Ledger
from tools.drills.proxy import Fault, FaultProxy
from tools.local import Consumer, LocalStack, LocalStackError

# A cancel or replacement is in time if Ingest handles it before the event's cutoff. With a fault of Ingest, that can
# take this long.
WITHDRAWAL_SECONDS = 14
# An event is missing if nothing has arrived this long after the last due time and the end of the fault.
PATIENCE_SECONDS = 150
# For what the last executions have just published.
LAST_ARRIVALS_SECONDS = 2
SENDERS = 16

# The table also holds leases and the latest Sweep execution, under partition keys that begin otherwise.
LANE = "lane-"

Event = dict[str, str]


def mix_of(
    name: str, count: int, now: datetime, horizon_seconds: int, target: str, fifo_target: str, failure_topic: str
) -> list[Event]:
    """`count` events of every kind: due soon or beyond the horizon, at a whole second or not, with an id or without, to
    a standard topic or a FIFO topic, every second one with a failure topic. Of ten, the last two are due so late that
    they can be canceled or replaced."""
    events = []
    for number in range(count):
        key, kind = f"{name}-{number:04}", number % 10
        seconds = 5 + number % 4 if kind < 4 else horizon_seconds + number % 8 + (6 if kind < 8 else WITHDRAWAL_SECONDS)
        fraction_ms = (50 + 37 * number % 900) * (kind in (1, 6))
        due = now + timedelta(seconds=seconds, milliseconds=fraction_ms)
        event = {"payload": key, "target": target, "user": "drill", "date": due.isoformat()}
        event |= {"failure_topic": failure_topic} if number % 2 else {}
        event |= {"target": fifo_target} if kind in (3, 7) else {}
        event |= {"id": key} if kind in (2, 7, 9) else {}
        events.append(event)
    return events


class Scene:
    """What one drill works with. Its topics exist as long as the consumer is open."""

    def __init__(self, name: str, stack: LocalStack, proxy: FaultProxy, consumer: Consumer, events: int) -> None:
        self.name, self.stack, self.proxy, self.consumer, self.events = name, stack, proxy, consumer, events
        self.outputs = stack.outputs
        self.ingest, self.sweeper = f"{stack.stack_name}-Ingest", f"{stack.stack_name}-Sweeper"  # their names begin so
        self.sns, self.dynamodb = stack.client("sns", max_pool_connections=SENDERS), stack.client("dynamodb")
        self.steps, self.lambdas = stack.client("stepfunctions"), stack.client("lambda")
        ingest = self.lambdas.get_function_configuration(FunctionName=stack.physical_id("Ingest"))
        self.horizon_seconds = int(ingest["Environment"]["Variables"]["HORIZON_SECONDS"])
        prefix = f"{name}-{uuid.uuid4().hex[:6]}"
        self.target, self.failure_topic = consumer.topic(f"{prefix}-target"), consumer.topic(f"{prefix}-failed")
        self.fifo_target = consumer.topic(f"{prefix}-target", fifo=True)
        consumer.subscribe(self.outputs["FailureTopicArn"])
        self.ledger = Ledger()
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.faults: list[Fault] = []
        self.counts_starts = True  # False if functions make their calls without the proxy
        self._ids: dict[str, str] = {}  # of the events, by payload
        self._mixes = self._entered = 0  # how many arrivals are in the ledger

    # Publishing

    def publish_all(self, count: int | None = None) -> None:
        """Publish `count` events (default: the drill's), then the cancels and the replacements."""
        now, topics = datetime.now(UTC).replace(microsecond=0), (self.target, self.fifo_target, self.failure_topic)
        events = mix_of(f"{self.name}-{self._mixes}", count or self.events, now, self.horizon_seconds, *topics)
        self._mixes += 1
        self.publish(events)
        self.withdraw(events[8::10], events[9::10])

    def publish_in_lane(self, lane: str, count: int, due: datetime) -> None:
        """Publish named events that belong to one lane and are due at the same time."""
        names = (f"{self.name}-{lane}-{number}" for number in itertools.count())
        ids = itertools.islice((name for name in names if lane_of(name) == lane), count)
        self.publish([self.event(id, due) | {"id": id} for id in ids])

    def event(self, payload: str, due: datetime) -> Event:
        return {"payload": payload, "target": self.target, "user": "drill", "date": due.isoformat()}

    def publish(self, events: Sequence[Event]) -> list[str]:
        """Publish events and enter them in the ledger. Returns the names of their executions."""
        executions = []
        for event, message_id in zip(events, self._send(map(json.dumps, events)), strict=True):
            self._ids[event["payload"]] = event.get("id", message_id)
            executions.append(f"{event['id']}-{message_id[:8]}" if "id" in event else message_id)
            self.ledger.expect(event["payload"], executions[-1], datetime.fromisoformat(event["date"]))
        return executions

    def withdraw(self, canceled: Sequence[Event], replaced: Sequence[Event]) -> None:
        """Publish cancels of the first events, and other payloads for the second, which have ids."""
        self._send(json.dumps({"cancel": self._ids[event["payload"]]}) for event in canceled)
        self.publish([event | {"payload": f"{event['payload']}-replaced"} for event in replaced])
        for event in (*canceled, *replaced):
            self.ledger[event["payload"]].withdrawn = True

    def _send(self, messages: Iterable[str]) -> list[str]:
        """Publish to the input topic, several messages at a time. Returns the MessageIds in order."""
        publish = partial(self.sns.publish, TopicArn=self.outputs["InputTopicArn"])
        with ThreadPoolExecutor(SENDERS) as threads:
            answers = threads.map(lambda message: publish(Message=message), messages)
            return [answer["MessageId"] for answer in answers]

    # Breaking

    @contextmanager
    def broken(self, *faults: Fault) -> Iterator[None]:
        """Inject faults into the calls of this stack's functions within the block. The drill fails if one of them never
        happens."""
        self.faults += faults
        with self.proxy.inject(*faults):
            yield

    @contextmanager
    def ingest_stopped(self) -> Iterator[None]:
        """Let messages accumulate in the input queue, so that Ingest receives full batches."""
        ingest = self.stack.physical_id("Ingest")
        [mapping] = self.lambdas.list_event_source_mappings(FunctionName=ingest)["EventSourceMappings"]
        self.lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        try:
            yield
        finally:
            self.lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    # Accounting

    def settle(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Enter arrivals in the ledger until every event is accounted for and the stack is idle, or patience ends."""
        last_due = max(entry.due for entry in self.ledger.values())
        time.sleep(max((last_due - datetime.now(UTC)).total_seconds(), 0))
        if not self._wait_until(self._is_settled, patience_seconds):
            self.problems.append("something is left in the input queue or in a lane, or an execution is running")
        time.sleep(LAST_ARRIVALS_SECONDS)
        self._enter_arrivals()

    def wait_for_ingest(self, executions: Collection[str] = ()) -> None:
        """Return when every message is handled, or when these executions' events are parked, while others are still
        published. Raises LocalStackError if that takes very long."""

        def is_handled() -> bool:
            if executions:
                return not set(executions) - set(itertools.chain(*self.parked().values()))
            return not self.stack.messages_in("InputQueue")

        if not self._wait_until(is_handled, PATIENCE_SECONDS):
            raise LocalStackError("Ingest does not handle its messages")

    def _wait_until(self, is_so: Callable[[], bool], patience_seconds: float) -> bool:
        """Wait for something, but not longer than that. Returns whether it is so."""
        give_up_at = time.monotonic() + patience_seconds
        while not (result := is_so()) and time.monotonic() < give_up_at:
            time.sleep(0.2)
        return result

    def _is_settled(self) -> bool:
        """Nothing in the input queue or its dead-letter queue, no parked event, no Deliver execution running."""
        self.proxy.check()
        self._enter_arrivals()
        if self.ledger.outcomes()["missing"] or self.parked():
            return False
        if self.stack.messages_in("InputQueue") or self.stack.messages_in("InputDeadLetters"):
            return False
        running = {"stateMachineArn": self.outputs["DeliverArn"], "statusFilter": "RUNNING", "maxResults": 1}
        return not self.steps.list_executions(**running)["executions"]

    def _enter_arrivals(self) -> None:
        """Enter in the ledger what has arrived since the last time."""
        arrivals = self.consumer.arrivals
        for arrival in arrivals[self._entered :]:
            if arrival.topic in (self.target, self.fifo_target):
                self.ledger.arrive(arrival.message, arrival.sent_at)
            else:
                self.ledger.arrive(json.loads(arrival.message)["event"].get("payload"), None)
        self._entered = len(arrivals)

    def parked(self) -> dict[str, list[str]]:
        """The execution names of the parked events, by lane, the earliest first."""
        lanes: dict[str, list[str]] = defaultdict(list)
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.outputs["ParkedTableName"])
        items = [item for page in pages for item in page["Items"] if item["lane"]["S"].startswith(LANE)]
        for item in sorted(items, key=lambda item: str(item["sort_key"]["S"])):
            lanes[item["lane"]["S"]].append(item["execution"]["S"])
        return lanes

    def expect_failures(self, error: str, expected: int | None = None) -> None:
        """A problem unless so many calls (None means any number) of all executions failed with this error."""
        executions = {name for entry in self.ledger.values() for name in self.proxy.started(entry.execution)}
        count = sum(self._errors_of(name).count(error) for name in executions)
        self.notes.append(f"{count} calls of the workflow failed with {error}")
        if not count or count != (expected or count):
            self.problems.append(f"{count} calls failed with {error} instead of {expected or 'some'}")

    def attempts(self, execution: str) -> float:
        """How often an event may have been sent: once by each execution that functions started for it, and once more
        for each of their tasks that timed out, because a call that timed out may have taken effect."""
        if not self.counts_starts:
            return math.inf
        return sum(1 + self._errors_of(name).count(TIMEOUT) for name in self.proxy.started(execution))

    def _errors_of(self, execution: str) -> list[str]:
        """The errors of the task attempts of an execution that have failed."""
        prefix = self.outputs["DeliverArn"].replace(":stateMachine:", ":execution:")
        history = self.steps.get_execution_history(executionArn=f"{prefix}:{execution}")["events"]
        return [event["taskFailedEventDetails"]["error"] for event in history if "taskFailedEventDetails" in event]
