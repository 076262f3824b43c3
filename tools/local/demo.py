"""The demo: Punctual on this machine, a dozen events, and what became of each. Exits with 0 if that is as it should be.

`SCENARIOS` says what is published and how it must end, `Run` publishes, observes and judges, `View` shows it. The stack
tests use the first two as well.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tools.local.consumers import Arrival, Consumer
from tools.local.stack import LocalStack, LocalStackError

ABSENT: Any = ...  # a field's value: the message goes without it
MISSING_TOPIC = "no-such-topic"

# What the project promises of an event with a date to come. One whose date has passed goes out at once: Ingest may have
# to be started first.
LATEST = timedelta(seconds=1)
AT_ONCE = timedelta(seconds=15)
# How long to go on watching after the last event was due, for what should not come.
AFTERWARDS = timedelta(seconds=2)
# The Sweeper gives back its leases, and Lambda deletes the last messages, a moment after the last event has ended.
SETTLING_SECONDS = 5
FIRST_SWEEP = "the-first"
WAKE_SECONDS = 60

STYLES = {"delivered": "green", "reported": "magenta", "refused": "magenta", "canceled": "cyan", "replaced": "cyan"}


@dataclass(frozen=True)
class Scenario:
    """One published message and the end it must meet. The name is the payload, so it must be unique.

    due: seconds from the start of the run. ends: "delivered", "canceled", "replaced", "reported" (an event that was
    accepted, but could not be delivered) or "refused". target, failure_topic: topics of the run by name; made unless
    MISSING_TOPIC. fields: what the message has instead or besides; text: what is published instead of an event.
    cancel_after: seconds from the start of the run. error: what the report must say.
    """

    name: str
    due: float
    ends: str = "delivered"
    target: str = "orders"
    failure_topic: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    cancel_after: float | None = None
    error: str = ""

    @property
    def has_report(self) -> bool:
        return self.ends in ("reported", "refused")


# A horizon of 20 s and sweeps every 10 s (the template's defaults): what is due after 20 s is parked, and the sweep at
# 10 s takes it.
SCENARIOS = [
    Scenario("on a whole second", due=8),
    Scenario("at a quarter past it", due=8.25),
    Scenario("at three quarters", due=9.75),
    Scenario("far away: parked, swept", due=27),
    Scenario("an hour ago", due=-3600),
    Scenario("to a FIFO topic", due=10, target="orders.fifo"),
    Scenario(
        "to no topic", 7, "reported", target=MISSING_TOPIC, failure_topic="orders-failed", error="not delivered: "
    ),
    Scenario("not JSON", 0, "refused", text="tomorrow at noon, please", error="the message is not JSON"),
    Scenario("no date", 0, "refused", fields={"date": ABSENT}, error="date is required"),
    Scenario("canceled, near", 11, "canceled", cancel_after=3),
    Scenario("canceled, far", 28, "canceled", cancel_after=3),
    Scenario("replaced", 9, "replaced", fields={"id": "order-4711"}),
    Scenario("its replacement", 12, fields={"id": "order-4711"}),
]


@dataclass
class Outcome:
    """What is known of a scenario's message so far. Times are UTC."""

    scenario: Scenario
    message: str
    due: datetime
    message_id: str = ""
    published_at: datetime | None = None
    was_parked: bool = False
    is_parked: bool = False
    execution: str | None = None
    status: str | None = None
    deliveries: list[Arrival] = field(default_factory=list)
    reports: list[Arrival] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.scenario.fields.get("id", self.message_id)

    @property
    def is_dated(self) -> bool:
        return '"date"' in self.message

    @property
    def is_ahead(self) -> bool:
        return self.due > self.published_at

    @property
    def payload(self) -> str:
        return self.scenario.fields.get("payload", self.scenario.name)

    @property
    def execution_names(self) -> tuple[str, str]:
        """By its MessageId; if it has a name, by that and the start of its MessageId."""
        return self.message_id, f"{self.id}-{self.message_id[:8]}"

    @property
    def late(self) -> timedelta | None:
        """How late it came to the consumer. For a date that had passed: since it was published."""
        if not self.deliveries:
            return None
        return self.deliveries[0].received_at - max(self.due, self.published_at)

    def state(self, now: datetime) -> str:
        """What is happening to it, in a few words."""
        stopped = self.scenario.ends if self.scenario.ends in ("canceled", "replaced") else None
        if self.reports:
            return self.scenario.ends if self.scenario.has_report else "reported"
        if self.deliveries:
            return "delivered"
        if self.is_parked:
            return "parked"
        if self.status == "RUNNING":
            return "swept, waiting in Deliver" if self.was_parked else "waiting in Deliver"
        if self.status == "SUCCEEDED":
            return f"{stopped}, stopped in Deliver" if stopped else "sent"
        if stopped and self.was_parked:
            return f"{stopped}, no longer parked"
        if stopped and now > self.due:
            return f"{stopped}, before it was started"
        return "published"


class Run:
    """Scenarios on a deployed stack, from publication to judgement."""

    def __init__(
        self, stack: LocalStack, consumer: Consumer, scenarios: Sequence[Scenario], latest: timedelta = LATEST
    ) -> None:
        self.stack, self.consumer, self.latest = stack, consumer, latest
        self.outputs = stack.outputs
        self._sns, self._sqs, self._dynamodb = (stack.client(service) for service in ("sns", "sqs", "dynamodb"))
        prefix = self.outputs["InputTopicArn"].rpartition(":")[0]
        names = {topic for s in scenarios for topic in (s.target, s.failure_topic) if topic} - {MISSING_TOPIC}
        self.topics = {name: consumer.topic(name.removesuffix(".fifo"), name.endswith(".fifo")) for name in names}
        self.topics[MISSING_TOPIC] = f"{prefix}:{MISSING_TOPIC}"
        consumer.subscribe(self.outputs["FailureTopicArn"])
        # A whole second, so that the scenarios' fractions are fractions of one.
        self.started_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        self.outcomes = [Outcome(scenario, self._message(scenario), self._at(scenario.due)) for scenario in scenarios]
        self.ends_at = max(outcome.due for outcome in self.outcomes) + AFTERWARDS
        self._cancels = sorted(
            (o for o in self.outcomes if o.scenario.cancel_after is not None), key=lambda o: o.scenario.cancel_after
        )

    def publish(self) -> None:
        """Publish every scenario's message, in their order; then, in due time, watch() publishes the cancels."""
        for outcome in self.outcomes:
            outcome.published_at = datetime.now(UTC)
            outcome.message_id = self._publish(outcome.message)

    def watch(self) -> Iterator[None]:
        """Observe until the end, a few times a second."""
        while datetime.now(UTC) < self.ends_at:
            while self._cancels and datetime.now(UTC) >= self._at(self._cancels[0].scenario.cancel_after):
                self._publish(json.dumps({"cancel": self._cancels.pop(0).id}))
            self._observe()
            yield
            time.sleep(0.3)
        self._observe()
        yield

    def problems(self) -> list[str]:
        """Everything that was not as it should be, a sentence each. Ask after watch() has ended."""
        found = [f"{o.scenario.name}: {problem}" for o in self.outcomes for problem in self.problems_of(o)]
        settled_by = time.monotonic() + SETTLING_SECONDS
        while (left := list(self._left_over())) and time.monotonic() < settled_by:
            time.sleep(0.2)
        named = {o.id for o in self.outcomes if "id" in o.scenario.fields and o.scenario.ends != "refused"}
        registered = named | {o.id for o in self.outcomes if o.scenario.cancel_after is not None}
        items = self._dynamodb.scan(TableName=self.outputs["RegisterTableName"])["Items"]
        if (ids := {item["id"]["S"] for item in items}) != registered:
            left.append(f"the register holds {sorted(ids)} instead of {sorted(registered)}")
        return found + left

    def problems_of(self, outcome: Outcome) -> Iterator[str]:
        """What was wrong with one event."""
        scenario = outcome.scenario
        expected = int(scenario.ends == "delivered")
        if (count := len(outcome.deliveries)) != expected:
            yield f"delivered {count} times instead of {expected}"
        if (count := len(outcome.reports)) != scenario.has_report:
            yield f"reported {count} times instead of {int(scenario.has_report)}"
        for delivery in outcome.deliveries:
            if delivery.topic != self.topics[scenario.target]:
                yield f"delivered to {delivery.topic}"
            # The queue's own stamp, too: of both clocks the one that would show it.
            if early := max(outcome.due - delivery.received_at, outcome.due - delivery.sent_at, timedelta()):
                yield f"{early / timedelta(milliseconds=1):.0f} ms early"
            if outcome.late > (self.latest if outcome.is_ahead else AT_ONCE):
                yield f"{outcome.late.total_seconds():.3f} s late"
        for arrival in outcome.reports:
            report = json.loads(arrival.message)
            has_own = scenario.failure_topic not in (None, MISSING_TOPIC)
            topic = self.topics[scenario.failure_topic] if has_own else self.outputs["FailureTopicArn"]
            if arrival.topic != topic:
                yield f"reported to {arrival.topic}"
            if scenario.error not in report["error"]:
                yield f"reported as '{report['error']}'"
            if report["event"] != _as_received(outcome.message):
                yield f"reported with another event: {json.dumps(report['event'])[:200]}"
        # An event taken out of its lane in time has no execution.
        status = {"reported": "FAILED", "refused": None}.get(scenario.ends, "SUCCEEDED")
        if outcome.status != status and not (scenario.ends in ("canceled", "replaced") and outcome.status is None):
            yield f"its execution is {outcome.status} instead of {status}"

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
        return self._sns.publish(TopicArn=self.outputs["InputTopicArn"], Message=message)["MessageId"]

    def _observe(self) -> None:
        """Bring the outcomes up to date: arrivals, the Parked table, executions."""
        arrivals = self.consumer.arrivals
        failure_topics = {self.outputs["FailureTopicArn"]} | {
            self.topics[o.scenario.failure_topic] for o in self.outcomes if o.scenario.failure_topic
        }
        reports = [(json.loads(a.message)["id"], a) for a in arrivals if a.topic in failure_topics]
        parked = {item["due"]["S"].rpartition("#")[2] for item in self._parked()}
        executions = {e["name"]: e["status"] for e in self.stack.executions(self.outputs["DeliverArn"])}
        for outcome in self.outcomes:
            outcome.deliveries = [a for a in arrivals if a.topic not in failure_topics and a.message == outcome.payload]
            outcome.reports = [report for id, report in reports if id in (outcome.id, outcome.message_id)]
            outcome.is_parked = outcome.message_id in parked
            outcome.was_parked |= outcome.is_parked
            for name in outcome.execution_names:
                if name in executions:
                    outcome.execution, outcome.status = name, executions[name]

    def _parked(self) -> list[dict]:
        items = self._dynamodb.scan(TableName=self.outputs["ParkedTableName"], ConsistentRead=True)["Items"]
        return [item for item in items if "execution" in item]  # the others are leases

    def _left_over(self) -> Iterator[str]:
        if items := self._dynamodb.scan(TableName=self.outputs["ParkedTableName"])["Items"]:
            yield f"{len(items)} items are left in the Parked table"
        cloudformation = self.stack.client("cloudformation")
        for queue in ("InputQueue", "InputDeadLetters", "Undelivered"):
            found = cloudformation.describe_stack_resource(StackName=self.stack.stack_name, LogicalResourceId=queue)
            attributes = self._sqs.get_queue_attributes(
                QueueUrl=found["StackResourceDetail"]["PhysicalResourceId"],
                AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
            )["Attributes"]
            if count := sum(map(int, attributes.values())):
                yield f"{count} messages are left in {queue}"


class View:
    """What happens, on the screen: a table that lives where there is a terminal, else a line for each change."""

    def __init__(self, console: Console, run: Run) -> None:
        self._console, self._run = console, run
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def refresh(self) -> None:
        now = datetime.now(UTC)
        if self._live:
            self._live.update(self._progress(now), refresh=True)
            return
        for outcome in self._run.outcomes:
            name, state = outcome.scenario.name, outcome.state(now)
            if self._shown.get(name) != state:
                self._shown[name] = state
                elapsed = (now - self._run.started_at).total_seconds()
                self._console.print(f"  {elapsed:5.1f} s  {name:24} {state}")

    def _progress(self, now: datetime) -> Table:
        table = Table("event", "due", "", "state", box=None, padding=(0, 2))
        for outcome in self._run.outcomes:
            left = (outcome.due - now).total_seconds()
            state = outcome.state(now)
            table.add_row(
                outcome.scenario.name,
                _clock(outcome.due) if outcome.is_dated else "",
                f"in {left:.0f} s" if left > 0 and outcome.is_dated else "",
                f"[{STYLES.get(state.split(',')[0], 'yellow')}]{state}",
            )
        return table

    def result(self) -> None:
        """Print what became of each event."""
        table = Table("event", "due", "arrived", "late (ms)", "outcome", "execution", box=SIMPLE, pad_edge=False)
        table.columns[3].justify = "right"
        for column in (1, 2, 5):
            table.columns[column].no_wrap = True
        for outcome in self._run.outcomes:
            arrival = (outcome.deliveries + outcome.reports or [None])[0]
            state = outcome.state(self._run.ends_at)
            error = json.loads(outcome.reports[0].message)["error"] if outcome.reports else ""
            table.add_row(
                outcome.scenario.name,
                _clock(outcome.due) if outcome.is_dated else "",
                _clock(arrival.received_at) if arrival else "",
                f"{outcome.late / timedelta(milliseconds=1):.0f}" if outcome.late and outcome.is_ahead else "",
                f"{state}: {error[:32]}" if error else state.split(",")[0],
                f"{outcome.execution[:8]}… {outcome.status}" if outcome.execution else "",
            )
        self._console.print(table)


def wake(stack: LocalStack, consumer: Consumer) -> None:
    """Start the first Sweep, before the Clock does, and Ingest, with a message that it refuses. Raises TimeoutError."""
    stack.client("stepfunctions").start_execution(stateMachineArn=stack.outputs["SweepArn"], name=FIRST_SWEEP)
    consumer.subscribe(stack.outputs["FailureTopicArn"])
    stack.client("sns").publish(TopicArn=stack.outputs["InputTopicArn"], Message="Are you awake?")
    if not consumer.wait_until(lambda arrivals: len(arrivals) > 0, WAKE_SECONDS):
        raise TimeoutError(f"Ingest has reported nothing for {WAKE_SECONDS} seconds")


def main() -> int:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    # As on Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stack = LocalStack()
    try:
        for name, act in (
            ("Start the emulator", stack.start),
            ("sam build", stack.build),
            ("sam deploy", stack.deploy),
        ):
            started_at = time.monotonic()
            with console.status(name):
                act()
            console.print(f"  {name:20} {time.monotonic() - started_at:4.1f} s")
        with Consumer(stack) as consumer:
            return demonstrate(console, stack, consumer)
    except (LocalStackError, TimeoutError) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        stack.stop()


def demonstrate(console: Console, stack: LocalStack, consumer: Consumer) -> int:
    """Run the scenarios and show them. Returns the exit code."""
    console.print("\nThe Clock of a new stack begins with the next minute: the demo starts the first Sweep itself.")
    with console.status("A first message wakes Ingest"):
        wake(stack, consumer)
    run = Run(stack, consumer, SCENARIOS)
    console.print(f"{len(SCENARIOS)} messages go to {run.outputs['InputTopicArn']}\n")
    run.publish()
    with View(console, run) as view:
        for _ in run.watch():
            view.refresh()
    view.result()
    problems = run.problems()
    for problem in problems:
        console.print(f"WRONG  {problem}", style="red", markup=False)
    if problems:
        return 1
    console.print(
        f"All {len(SCENARIOS)} met their ends: none early, none twice, nothing left in a table or a queue."
        "\nLate is what the consumer sees: here with up to 100 ms in which the emulator does not look into its queue.",
        style="green",
    )
    return 0


def _clock(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03}"


def _as_received(message: str) -> Any:
    try:
        return json.loads(message)
    except ValueError:
        return message


if __name__ == "__main__":
    sys.exit(main())
