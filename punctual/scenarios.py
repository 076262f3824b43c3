"""One event of each kind, how each must end, and whether it did: for `punctual check`, the demo, and the stack tests.

A `Run` publishes scenarios to a deployed stack and judges them by what arrives on the topics that the events name.
That is all that can be seen of Express executions on AWS without their logs.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from punctual_core.limits import DATE_ATTRIBUTE, ID_ATTRIBUTE

from .consumer import Arrival, Consumer, Deployed

ABSENT: Any = ...  # as a field's value: the message does not have the field
MISSING_TOPIC = "no-such-topic"  # a topic that is not created
FAILURE_TOPIC = "failed"

# The promise for an event that is due in the future.
MAX_LATENESS = timedelta(seconds=1)
# An event whose date has passed is delivered at once, after a cold start of Ingest.
MAX_LATENESS_OF_PAST_DATE = timedelta(seconds=15)
# A delay counts from when SNS accepted the message. This is how far that may be from when Publish was called.
MAX_DIFFERENCE_OF_DELAY = timedelta(seconds=3)
# How long to watch after the last event is due, for deliveries that should not happen.
WATCH_AFTER_LAST_DUE = timedelta(seconds=2)
# How much longer to watch for what has not arrived, to tell an event that is late from one that is lost.
PATIENCE = timedelta(seconds=15)
WATCH_INTERVAL_SECONDS = 0.3


@dataclass(frozen=True)
class Scenario:
    """One message to publish, and how it must end. The run creates the topics with the names given."""

    name: str  # unique, because it is also the payload
    due: float  # seconds after the start of the run
    expected: str = "delivered"  # or "canceled", "replaced", "reported" (accepted, but not delivered), or "refused"
    target: str = "orders"
    failure_topic: str | None = FAILURE_TOPIC  # None if the message names none, so that the stack's own is used
    is_delay: bool = False  # whether the message has a delay instead of a date
    timezone: str | None = None  # the IANA zone in which the date is local time
    fields: dict[str, Any] = field(default_factory=dict)  # to add or override; the run begins an id with its prefix
    text: str | None = None  # a message that is not an event, published as it is
    cancel_after: float | None = None  # seconds after the start of the run at which to cancel the event
    error: str = ""  # what the failure report must contain

    @property
    def is_reported(self) -> bool:
        """Whether a failure report must arrive."""
        return self.expected in ("reported", "refused")

    @property
    def is_stopped(self) -> bool:
        """Whether nothing may arrive."""
        return self.expected in ("canceled", "replaced")


def scenarios(horizon_seconds: float = 8, batching_seconds: float = 0) -> list[Scenario]:
    """An event of each kind. An event that is due beyond the horizon is parked first. `batching_seconds` is for how
    long Lambda may collect messages before it invokes Ingest. The defaults are those of the template."""
    near, far = 5 + batching_seconds, 7 + batching_seconds + horizon_seconds
    return [
        Scenario("on a whole second", near),
        Scenario("at .25 of a second", near + 0.25),
        Scenario("at .75 of a second", near + 1.75),
        Scenario("due later: parked first", far),
        Scenario("later, with a fraction", far + 0.5),
        Scenario("due an hour ago", -3600),
        Scenario("after a delay", near + 2, is_delay=True),
        Scenario("local time of a zone", near + 2, timezone="Asia/Kolkata"),
        Scenario("with an id", near + 1, fields={"id": "order-4712"}),
        Scenario("to a FIFO topic", near + 2, target="orders.fifo"),
        Scenario("to a missing topic", near - 1, "reported", MISSING_TOPIC, error="not delivered: "),
        Scenario("no date", 0, "refused", fields={"date": ABSENT}, error="date is required"),
        Scenario("canceled in execution", near + 2, "canceled", cancel_after=2),
        Scenario("canceled while parked", far + 1, "canceled", cancel_after=2),
        Scenario("replaced", near + 1, "replaced", fields={"id": "order-4711"}),
        Scenario("its replacement", near + 2, fields={"id": "order-4711"}),
    ]


@dataclass
class Outcome:
    """What is known so far about a published message. Times are UTC, by the clock of SNS."""

    scenario: Scenario
    id: str
    message: str
    message_id: str
    published_at: datetime
    due: datetime
    deliveries: list[Arrival] = field(default_factory=list)
    reports: list[Arrival] = field(default_factory=list)

    @property
    def payload(self) -> str:
        """The payload that must be delivered."""
        return str(self.scenario.fields.get("payload", self.scenario.name))

    @property
    def has_date(self) -> bool:
        """Whether the message says when it is due."""
        return '"date"' in self.message or '"delay"' in self.message

    @property
    def is_due_later(self) -> bool:
        """Whether the event was due after it was published."""
        return self.due > self.published_at

    @property
    def error(self) -> str | None:
        """The error in its failure report."""
        return str(json.loads(self.reports[0].message)["error"]) if self.reports else None

    def late(self, moment: datetime) -> timedelta:
        """How late that is: after its due time or, if that had passed, after its publication."""
        return moment - max(self.due, self.published_at)

    @property
    def late_ms(self) -> list[int]:
        """How late the first delivery was, by the clock of SNS and by that of SQS; empty without a delivery."""
        moments = [moment for first in self.deliveries[:1] for moment in (first.published_at, first.sent_at)]
        return [round(self.late(moment) / timedelta(milliseconds=1)) for moment in moments]


class Run:
    """Scenarios on a deployed stack: publish(), then watch(), then problems_of() each outcome.

    prefix: begins the names of the topics and the ids of the events.
    batching: how long Lambda may collect messages before it invokes Ingest.
    clock_offset: what to add to this machine's clock to get that of SNS; to be set before publish().
    """

    def __init__(
        self,
        stack: Deployed,
        consumer: Consumer,
        scenarios: Sequence[Scenario],
        *,
        prefix: str = "",
        max_lateness: timedelta = MAX_LATENESS,
        batching: timedelta = timedelta(),
    ) -> None:
        self._sns, self._prefix, self._batching = stack.client("sns"), prefix, batching
        self.consumer, self.scenarios, self.max_lateness = consumer, scenarios, max_lateness
        self.input_topic, self.failure_topic = stack.output("InputTopicArn"), stack.output("FailureTopicArn")
        self.clock_offset = timedelta()
        self.outcomes: list[Outcome] = []
        names = {topic for s in scenarios for topic in (s.target, s.failure_topic) if topic} - {MISSING_TOPIC}
        self.topics = {
            name: consumer.topic(prefix + name.removesuffix(".fifo"), name.endswith(".fifo")) for name in sorted(names)
        }
        self.topics[MISSING_TOPIC] = f"{self.input_topic.rpartition(':')[0]}:{prefix}{MISSING_TOPIC}"
        self.started_at = self.now()

    def publish(self, duration: timedelta = timedelta()) -> None:
        """Publish the messages, in order. watch() publishes the cancels when it is time for them.

        duration: how long publishing one message takes. The start of the run is when all have been published.
        """
        # A whole second, so that the fractions in the scenarios are fractions of a second of the clock.
        all_published_at = self.now() + duration * len(self.scenarios)
        self.started_at = all_published_at.replace(microsecond=0) + timedelta(seconds=1)
        for scenario in self.scenarios:
            message, published_at = self._message(scenario), self.now()
            message_id, event = self._publish(message), _as_received(message)
            id = event.get("id", message_id) if isinstance(event, dict) else message_id
            self.outcomes.append(Outcome(scenario, id, message, message_id, published_at, self._at(scenario.due)))

    def watch(self) -> Iterator[None]:
        """Update the outcomes until the end of the run, a few times a second."""
        cancels = sorted(
            (self._at(outcome.scenario.cancel_after), outcome.id)
            for outcome in self.outcomes
            if outcome.scenario.cancel_after is not None
        )
        while not self._is_over():
            while cancels and self.now() >= cancels[0][0]:
                self.cancel(cancels.pop(0)[1])
            self.observe()
            yield
            time.sleep(WATCH_INTERVAL_SECONDS)
        self.observe()
        yield

    def observe(self) -> None:
        """Update the outcomes from the arrivals."""
        arrivals = self.consumer.arrivals
        failure_topics = {self.failure_topic} | {
            self.topics[s.failure_topic] for s in self.scenarios if s.failure_topic
        }
        reports = [(json.loads(a.message)["id"], a) for a in arrivals if a.topic in failure_topics]
        for outcome in self.outcomes:
            outcome.deliveries = [a for a in arrivals if a.topic not in failure_topics and a.message == outcome.payload]
            outcome.reports = [report for id, report in reports if id in (outcome.id, outcome.message_id)]
            if outcome.scenario.is_delay and outcome.deliveries:
                # Only SNS knows when it accepted the message. problems_of() compares this with the due time expected.
                outcome.due = _date_of(outcome.deliveries[0]) or outcome.due

    def state(self, outcome: Outcome) -> str:
        """What is happening to an event, or has become of it, in a few words."""
        if outcome.reports:
            return outcome.scenario.expected if outcome.scenario.is_reported else "reported"
        if outcome.deliveries:
            return "delivered"
        if self.now() < max(outcome.due, outcome.published_at):
            return "waiting"
        if outcome.scenario.is_stopped:
            return outcome.scenario.expected
        return "missing" if self.now() > self.ends_at else "published"

    def is_incomplete(self, outcome: Outcome) -> bool:
        """Whether something is expected that has not happened yet."""
        expected = outcome.reports if outcome.scenario.is_reported else outcome.deliveries
        return not expected and not outcome.scenario.is_stopped

    def problems_of(self, outcome: Outcome) -> Iterator[str]:
        """What went wrong with one message, one sentence each. Call it after watch() has ended."""
        scenario = outcome.scenario
        count, expected = len(outcome.deliveries), int(scenario.expected == "delivered")
        if count != expected and not (count > 1 and self._may_repeat(scenario)):
            yield f"delivered {count} times instead of {expected}"
        count, expected = len(outcome.reports), int(scenario.is_reported)
        if count != expected:
            yield f"reported {count} times instead of {expected}{': ' if count else ''}{outcome.error or ''}"
        for delivery in outcome.deliveries:
            yield from self._problems_of_delivery(outcome, delivery)
        for report in outcome.reports if expected else ():
            yield from self._problems_of_report(outcome, report)

    def cancel(self, id: str) -> None:
        """Publish a cancel."""
        self._publish(json.dumps({"cancel": id}))

    def now(self) -> datetime:
        """The time (UTC) by the clock of SNS, as far as it is known."""
        return datetime.now(UTC) + self.clock_offset

    @property
    def ends_at(self) -> datetime:
        """When the run ends if everything has arrived that must."""
        return self._at(max(scenario.due for scenario in self.scenarios)) + WATCH_AFTER_LAST_DUE

    def _is_over(self) -> bool:
        is_incomplete = any(map(self.is_incomplete, self.outcomes))
        return self.now() >= self.ends_at + (max(PATIENCE, self.max_lateness) if is_incomplete else timedelta())

    def _problems_of_delivery(self, outcome: Outcome, delivery: Arrival) -> Iterator[str]:
        if delivery.topic != self.topics[outcome.scenario.target]:
            yield f"delivered to {delivery.topic}"
        if (id := delivery.attributes.get(ID_ATTRIBUTE)) != outcome.id:
            yield f"its attribute {ID_ATTRIBUTE} is {id} instead of {outcome.id}"
        allowed = MAX_DIFFERENCE_OF_DELAY if outcome.scenario.is_delay else timedelta()
        due, date = self._at(outcome.scenario.due), _date_of(delivery)
        if date is None or abs(date - due) > allowed:
            yield f"its attribute {DATE_ATTRIBUTE} is {date} instead of {due}"
        earliest, latest = self._bounds(delivery)
        if early := max(outcome.due - earliest, timedelta()):
            yield f"{early / timedelta(milliseconds=1):.0f} ms early"
        lateness = outcome.late(latest)
        if lateness > (self.max_lateness if outcome.is_due_later else MAX_LATENESS_OF_PAST_DATE + self._batching):
            yield f"{lateness.total_seconds():.3f} s late"

    def _may_repeat(self, scenario: Scenario) -> bool:
        """Whether a second delivery is within the promise: at least once, and to a FIFO topic once."""
        return scenario.expected == "delivered" and not scenario.target.endswith(".fifo")

    def _bounds(self, delivery: Arrival) -> tuple[datetime, datetime]:
        """The times that say whether a delivery is early and whether it is late.

        Step Functions decides when to publish. The clocks of SNS and SQS may differ from its own, so it takes both to
        call a delivery early.
        """
        return max(delivery.published_at, delivery.sent_at), delivery.published_at

    def _problems_of_report(self, outcome: Outcome, arrival: Arrival) -> Iterator[str]:
        report, named = json.loads(arrival.message), outcome.scenario.failure_topic
        if arrival.topic != (self.topics[named] if named and named != MISSING_TOPIC else self.failure_topic):
            yield f"reported to {arrival.topic}"
        if outcome.scenario.error not in report["error"]:
            yield f"reported as '{report['error']}'"
        if report["event"] != _as_received(outcome.message):
            yield f"reported with another event: {json.dumps(report['event'])[:200]}"

    def _at(self, seconds: float) -> datetime:
        return self.started_at + timedelta(seconds=seconds)

    def _message(self, scenario: Scenario) -> str:
        if scenario.text is not None:
            return scenario.text
        due = self._at(scenario.due)
        message: dict[str, Any] = {"target": self.topics[scenario.target], "user": "punctual check"}
        message["payload"] = scenario.name
        if scenario.is_delay:
            message["delay"] = round((due - self.now()).total_seconds(), 3)
        elif scenario.timezone:
            local = due.astimezone(ZoneInfo(scenario.timezone)).replace(tzinfo=None)
            message |= {"date": local.isoformat(), "timezone": scenario.timezone}
        else:
            message["date"] = due.isoformat()
        if scenario.failure_topic:
            message["failure_topic"] = self.topics[scenario.failure_topic]
        message |= scenario.fields
        if "id" in message:
            message["id"] = self._prefix + message["id"]
        return json.dumps({name: value for name, value in message.items() if value is not ABSENT})

    def _publish(self, message: str) -> str:
        return str(self._sns.publish(TopicArn=self.input_topic, Message=message)["MessageId"])


def _date_of(delivery: Arrival) -> datetime | None:
    """The due time that a delivery states."""
    try:
        return datetime.fromisoformat(delivery.attributes[DATE_ATTRIBUTE])
    except (KeyError, ValueError):
        return None


def _as_received(message: str) -> Any:
    try:
        return json.loads(message)
    except ValueError:
        return message
