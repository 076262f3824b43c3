"""What the demo and the stack tests publish, how each message must end, and whether it did.

`SCENARIOS` are the demo's. A `Run` publishes scenarios to a stack, watches what happens, and lists what went wrong.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from scheduler.lanes import lanes

from tools.local.consumers import Arrival, Consumer
from tools.local.stack import LocalStack

ABSENT: Any = ...  # as a field's value: the message does not have the field
MISSING_TOPIC = "no-such-topic"

# The promise for an event that is due in the future.
MAX_LATENESS = timedelta(seconds=1)
# An event whose date has passed is delivered at once, after a cold start of Ingest.
MAX_LATENESS_OF_PAST_DATE = timedelta(seconds=15)
# How long to watch after the last event is due, for deliveries that should not happen.
WATCH_AFTER_LAST_DUE = timedelta(seconds=2)
WATCH_INTERVAL_SECONDS = 0.3
# The Sweeper releases its leases, and Lambda deletes the last messages, a moment after the last event has ended.
SETTLING_SECONDS = 5

LANES = set(lanes())
CLOCK = "clock"  # the partition of the item in the Parked table that Sweep keeps for itself
FIRST_SWEEP = "first-sweep"  # the name of the execution of Sweep that wake() starts
WAKE_SECONDS = 60


@dataclass(frozen=True)
class Scenario:
    """One message to publish, and how it must end.

    name: unique, because it is also the payload.
    due: seconds after the start of the run.
    expected: "delivered", "canceled", "replaced", "reported" (accepted, but not delivered) or "refused".
    target, failure_topic: names of topics, which the run creates; MISSING_TOPIC is not created.
    fields: fields of the message to add or override.
    text: a message that is not an event, published as it is.
    cancel_after: seconds after the start of the run at which to cancel the event.
    error: what the failure report must contain.
    """

    name: str
    due: float
    expected: str = "delivered"
    target: str = "orders"
    failure_topic: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    cancel_after: float | None = None
    error: str = ""

    @property
    def is_reported(self) -> bool:
        return self.expected in ("reported", "refused")


# With the template's defaults an event due in more than 9 s is parked. A sweep starts it 4 to 9 s before it is due.
SCENARIOS = [
    Scenario("on a whole second", due=5),
    Scenario("at .25 of a second", due=5.25),
    Scenario("at .75 of a second", due=6.75),
    Scenario("due later: parked first", due=16),
    Scenario("due an hour ago", due=-3600),
    Scenario("to a FIFO topic", due=7, target="orders.fifo"),
    Scenario("to a missing topic", 4, "reported", MISSING_TOPIC, "orders-failed", error="not delivered: "),
    Scenario("not JSON", 0, "refused", text="tomorrow at noon, please", error="the message is not JSON"),
    Scenario("no date", 0, "refused", fields={"date": ABSENT}, error="date is required"),
    Scenario("canceled in execution", 7, "canceled", cancel_after=2),
    Scenario("canceled while parked", 17, "canceled", cancel_after=2),
    Scenario("replaced", 6, "replaced", fields={"id": "order-4711"}),
    Scenario("its replacement", 8, fields={"id": "order-4711"}),
]


@dataclass
class Outcome:
    """What is known so far about a published message. Times are UTC."""

    scenario: Scenario
    message: str
    message_id: str
    published_at: datetime
    due: datetime
    was_parked: bool = False
    is_parked: bool = False
    execution: str | None = None
    status: str | None = None
    deliveries: list[Arrival] = field(default_factory=list)
    reports: list[Arrival] = field(default_factory=list)

    @property
    def id(self) -> str:
        id: str = self.scenario.fields.get("id", self.message_id)
        return id

    @property
    def payload(self) -> str:
        payload: str = self.scenario.fields.get("payload", self.scenario.name)
        return payload

    @property
    def has_date(self) -> bool:
        return '"date"' in self.message

    @property
    def is_due_later(self) -> bool:
        """Whether the event was due after it was published."""
        return self.due > self.published_at

    @property
    def is_incomplete(self) -> bool:
        """Whether something that is expected has not happened yet."""
        is_undelivered = self.scenario.expected == "delivered" and not self.deliveries
        is_unreported = self.scenario.is_reported and not self.reports
        return is_undelivered or is_unreported or self.status == "RUNNING"

    @property
    def execution_names(self) -> tuple[str, str]:
        """The possible names of the execution: of an unnamed event, and of one with an id."""
        return self.message_id, f"{self.id}-{self.message_id[:8]}"

    def lateness(self, delivery: Arrival) -> timedelta:
        """How late the consumer received it: after its due time or, if that had passed, after its publication."""
        return delivery.received_at - max(self.due, self.published_at)

    def state(self, now: datetime) -> str:
        """What is happening to the event, in a few words."""
        stopped = self.scenario.expected if self.scenario.expected in ("canceled", "replaced") else None
        if self.reports:
            return self.scenario.expected if self.scenario.is_reported else "reported"
        if self.deliveries:
            return "delivered"
        if self.is_parked:
            return "parked"
        if self.status == "RUNNING":
            return "waiting, started by a sweep" if self.was_parked else "waiting"
        if self.status == "SUCCEEDED":
            return f"{stopped}, while waiting" if stopped else "sent"
        if stopped and self.was_parked:
            return f"{stopped}, while parked"
        if stopped and now > self.due:
            return f"{stopped}, before it started"
        return "published"


class Run:
    """Scenarios on a deployed stack: publish(), then watch(), then problems()."""

    def __init__(
        self,
        stack: LocalStack,
        consumer: Consumer,
        scenarios: Sequence[Scenario],
        max_lateness: timedelta = MAX_LATENESS,
    ) -> None:
        self.stack, self.consumer, self.scenarios, self.max_lateness = stack, consumer, scenarios, max_lateness
        self.outputs = stack.outputs
        self._sns, self._sqs, self._dynamodb = (stack.client(service) for service in ("sns", "sqs", "dynamodb"))
        prefix = self.outputs["InputTopicArn"].rpartition(":")[0]
        names = {topic for s in scenarios for topic in (s.target, s.failure_topic) if topic} - {MISSING_TOPIC}
        self.topics = {name: consumer.topic(name.removesuffix(".fifo"), name.endswith(".fifo")) for name in names}
        self.topics[MISSING_TOPIC] = f"{prefix}:{MISSING_TOPIC}"
        consumer.subscribe(self.outputs["FailureTopicArn"])
        # A whole second, so that the fractions in the scenarios are fractions of a second of the clock.
        self.started_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        self.ends_at = self._at(max(scenario.due for scenario in scenarios)) + WATCH_AFTER_LAST_DUE
        self.outcomes: list[Outcome] = []

    def publish(self) -> None:
        """Publish the messages, in order. watch() publishes the cancels when it is time for them."""
        for scenario in self.scenarios:
            message, published_at = self._message(scenario), datetime.now(UTC)
            message_id = self._publish(message)
            self.outcomes.append(Outcome(scenario, message, message_id, published_at, self._at(scenario.due)))

    def watch(self) -> Iterator[None]:
        """Update the outcomes until the end of the run, a few times a second."""
        cancels = sorted(
            (self._at(outcome.scenario.cancel_after), outcome.id)
            for outcome in self.outcomes
            if outcome.scenario.cancel_after is not None
        )
        while not self._has_ended():
            while cancels and datetime.now(UTC) >= cancels[0][0]:
                self._publish(json.dumps({"cancel": cancels.pop(0)[1]}))
            self._observe()
            yield
            time.sleep(WATCH_INTERVAL_SECONDS)
        self._observe()
        yield

    def problems(self) -> list[str]:
        """Everything that went wrong, one sentence each. Call it after watch() has ended."""
        problems = [f"{o.scenario.name}: {problem}" for o in self.outcomes for problem in self.problems_of(o)]
        settled_by = time.monotonic() + SETTLING_SECONDS
        while (leftovers := list(self._leftovers())) and time.monotonic() < settled_by:
            time.sleep(0.2)
        named = {o.id for o in self.outcomes if "id" in o.scenario.fields and o.scenario.expected != "refused"}
        expected = named | {o.id for o in self.outcomes if o.scenario.cancel_after is not None}
        items = self._dynamodb.scan(TableName=self.outputs["RegisterTableName"])["Items"]
        if (ids := {item["id"]["S"] for item in items}) != expected:
            leftovers.append(f"the register holds {sorted(ids)} instead of {sorted(expected)}")
        return problems + leftovers

    def problems_of(self, outcome: Outcome) -> Iterator[str]:
        """What went wrong with one message."""
        scenario = outcome.scenario
        expected = int(scenario.expected == "delivered")
        if (count := len(outcome.deliveries)) != expected:
            yield f"delivered {count} times instead of {expected}"
        if (count := len(outcome.reports)) != scenario.is_reported:
            yield f"reported {count} times instead of {int(scenario.is_reported)}"
        for delivery in outcome.deliveries:
            yield from self._problems_of_delivery(outcome, delivery)
        for report in outcome.reports:
            yield from self._problems_of_report(outcome, report)
        # An event that was deleted from its lane in time has no execution.
        status = {"reported": "FAILED", "refused": None}.get(scenario.expected, "SUCCEEDED")
        if outcome.status != status and not (scenario.expected in ("canceled", "replaced") and outcome.status is None):
            yield f"its execution is {outcome.status} instead of {status}"

    def _problems_of_delivery(self, outcome: Outcome, delivery: Arrival) -> Iterator[str]:
        if delivery.topic != self.topics[outcome.scenario.target]:
            yield f"delivered to {delivery.topic}"
        # By the queue's clock as well as this process's: an early delivery must not hide in the way through the queue.
        if early := max(outcome.due - delivery.received_at, outcome.due - delivery.sent_at, timedelta()):
            yield f"{early / timedelta(milliseconds=1):.0f} ms early"
        lateness = outcome.lateness(delivery)
        if lateness > (self.max_lateness if outcome.is_due_later else MAX_LATENESS_OF_PAST_DATE):
            yield f"{lateness.total_seconds():.3f} s late"

    def _problems_of_report(self, outcome: Outcome, arrival: Arrival) -> Iterator[str]:
        report, failure_topic = json.loads(arrival.message), outcome.scenario.failure_topic
        topic = self.outputs["FailureTopicArn"]
        if failure_topic is not None and failure_topic != MISSING_TOPIC:
            topic = self.topics[failure_topic]
        if arrival.topic != topic:
            yield f"reported to {arrival.topic}"
        if outcome.scenario.error not in report["error"]:
            yield f"reported as '{report['error']}'"
        if report["event"] != _as_received(outcome.message):
            yield f"reported with another event: {json.dumps(report['event'])[:200]}"

    def _has_ended(self) -> bool:
        is_incomplete = any(outcome.is_incomplete for outcome in self.outcomes)
        return datetime.now(UTC) >= self.ends_at + (self.max_lateness if is_incomplete else timedelta())

    def _at(self, seconds: float) -> datetime:
        return self.started_at + timedelta(seconds=seconds)

    def _message(self, scenario: Scenario) -> str:
        if scenario.text is not None:
            return scenario.text
        message = {
            "date": self._at(scenario.due).isoformat(),
            "target": self.topics[scenario.target],
            "user": "demo@example.com",
            "payload": scenario.name,
        }
        if scenario.failure_topic:
            message["failure_topic"] = self.topics[scenario.failure_topic]
        message |= scenario.fields
        return json.dumps({name: value for name, value in message.items() if value is not ABSENT})

    def _publish(self, message: str) -> str:
        message_id: str = self._sns.publish(TopicArn=self.outputs["InputTopicArn"], Message=message)["MessageId"]
        return message_id

    def _observe(self) -> None:
        """Update the outcomes from the arrivals, the Parked table, and the executions."""
        arrivals = self.consumer.arrivals
        failure_topics = {self.outputs["FailureTopicArn"]} | {
            self.topics[s.failure_topic] for s in self.scenarios if s.failure_topic
        }
        reports = [(json.loads(a.message)["id"], a) for a in arrivals if a.topic in failure_topics]
        items = self._dynamodb.scan(TableName=self.outputs["ParkedTableName"], ConsistentRead=True)["Items"]
        parked = {item["sort_key"]["S"].rpartition("#")[2] for item in items if item["lane"]["S"] in LANES}
        executions = {e["name"]: e["status"] for e in self.stack.executions(self.outputs["DeliverArn"])}
        for outcome in self.outcomes:
            outcome.deliveries = [a for a in arrivals if a.topic not in failure_topics and a.message == outcome.payload]
            outcome.reports = [report for id, report in reports if id in (outcome.id, outcome.message_id)]
            outcome.is_parked = outcome.message_id in parked
            outcome.was_parked |= outcome.is_parked
            for name in outcome.execution_names:
                if name in executions:
                    outcome.execution, outcome.status = name, executions[name]

    def _leftovers(self) -> Iterator[str]:
        items = self._dynamodb.scan(TableName=self.outputs["ParkedTableName"], ConsistentRead=True)["Items"]
        if left := [item for item in items if item["lane"]["S"] != CLOCK]:
            yield f"{len(left)} items are left in the Parked table"
        cloudformation = self.stack.client("cloudformation")
        for queue in ("InputQueue", "InputDeadLetters", "Undelivered"):
            found = cloudformation.describe_stack_resource(StackName=self.stack.stack_name, LogicalResourceId=queue)
            attributes = self._sqs.get_queue_attributes(
                QueueUrl=found["StackResourceDetail"]["PhysicalResourceId"],
                AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
            )["Attributes"]
            if count := sum(map(int, attributes.values())):
                yield f"{count} messages are left in {queue}"


def wake(stack: LocalStack, consumer: Consumer) -> None:
    """Start the first Sweep without waiting for the schedule, and Ingest by a message that it refuses.

    Raises LocalStackError if Ingest does not report the message.
    """
    stack.client("stepfunctions").start_execution(stateMachineArn=stack.outputs["SweepArn"], name=FIRST_SWEEP)
    consumer.subscribe(stack.outputs["FailureTopicArn"])
    stack.client("sns").publish(TopicArn=stack.outputs["InputTopicArn"], Message="wake up")
    if not consumer.wait_until(lambda arrivals: len(arrivals) > 0, WAKE_SECONDS):
        raise stack.failure(f"Ingest did not report a message within {WAKE_SECONDS} s")


def _as_received(message: str) -> Any:
    try:
        return json.loads(message)
    except ValueError:
        return message
