"""How late events arrive: through Punctual and, in the same run, through the least that the platform offers.

The baseline is a state machine of one Wait and one SNS publish that is started directly. Its events are due at the same
times as Punctual's, so that both meet the same load, and the difference is what Punctual adds. On AWS, Wait cannot wait
for a fraction of a second, so for such a date the baseline lets the function Hold sleep until the due time.

Lateness is the time from the due time until the consumer's queue had the message, by the clock of SQS.
"""

import itertools
import json
import math
import operator
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from tools.documents import markdown_table
from tools.local import Arrival, Clients, Consumer

# The first events meet cold functions. They must arrive, but are in no percentile.
WARM_UP_SECONDS = 5
# Events that are not parked are sent this long before their due time.
DIRECT_LEAD_SECONDS = 6
# Events to be parked are sent this long before they come within the horizon, so that no sweep takes them at once.
PARKED_LEAD_SECONDS = 10
# An event that has not arrived this long after the last due time is missing.
ARRIVAL_TIMEOUT_SECONDS = 15
# Duplicates follow the first copy within moments: wait this long for them.
DUPLICATES_SECONDS = 1
SENDERS = 8

PUNCTUAL, BASELINE, BASELINE_WITH_HOLD = "Punctual", "Bare Wait and Publish", "Wait, Hold, and Publish"
ALL, DIRECT, PARKED = "all", "started by Ingest", "parked first"
WHOLE_SECOND, FRACTION = "whole second", "fraction"
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}

_SETTINGS_OF_DELIVER = ("roleArn", "type", "loggingConfiguration", "tracingConfiguration")
_BASELINE_DEFINITION = {
    "QueryLanguage": "JSONata",
    "StartAt": "HasFraction",
    "States": {
        "HasFraction": {
            "Type": "Choice",
            "Choices": [{"Condition": "{% $exists($states.input.wake_at) %}", "Next": "WaitUntilNearlyDue"}],
            "Default": "WaitUntilDue",
        },
        "WaitUntilDue": {"Type": "Wait", "Timestamp": "{% $states.input.due %}", "Next": "Publish"},
        "WaitUntilNearlyDue": {"Type": "Wait", "Timestamp": "{% $states.input.wake_at %}", "Next": "HoldFraction"},
        "HoldFraction": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Arguments": {"FunctionName": "HoldArn", "Payload": {"due_ms": "{% $states.input.due_ms %}"}},
            "Output": "{% $states.input %}",
            "Next": "Publish",
        },
        "Publish": {
            "Type": "Task",
            "Resource": "arn:aws:states:::sns:publish",
            "Arguments": "{% $states.input.publish %}",
            "End": True,
        },
    },
}


class Stack(Clients, Protocol):
    """A deployed stack of Punctual, and the clients of the account and Region that it is in."""

    def physical_id(self, logical_id: str) -> str: ...


# --- The load ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannedEvent:
    """One event of the measurement. Events of different paths with the same number are due at the same time."""

    number: int
    path: str  # PUNCTUAL or BASELINE
    is_parked: bool
    due: datetime
    send_at: datetime
    is_counted: bool  # False during the warm-up


def plan(start_at: datetime, rate: int, seconds: int, horizon: int, seed: int = 1) -> list[PlannedEvent]:
    """The events of a measurement that begins at `start_at`, in the order in which to send them: on each path, `rate`
    events due in each of so many seconds. `horizon` is the stack's, in seconds.

    Each of Punctual's events has a twin in the baseline, which is started once its due time is within the horizon,
    because an execution cannot wait longer.
    """
    dice = random.Random(seed)
    parked_lead = horizon + PARKED_LEAD_SECONDS
    first_second = (start_at + timedelta(seconds=parked_lead + 2)).replace(microsecond=0)
    total = (WARM_UP_SECONDS + seconds) * rate
    has_fraction, is_parked = _half_of(total, dice), _half_of(total, dice)
    events = []
    for number in range(total):
        second = number // rate
        due = first_second + timedelta(seconds=second)
        if has_fraction[number]:
            due += timedelta(milliseconds=dice.randrange(1, 1000))
        lead = parked_lead if is_parked[number] else DIRECT_LEAD_SECONDS
        for path, before in ((PUNCTUAL, lead), (BASELINE, min(lead, horizon))):
            # Spread over a second, so that sending does not always coincide with the due times of other events.
            send_at = due - timedelta(seconds=before + dice.random())
            events.append(PlannedEvent(number, path, is_parked[number], due, send_at, second >= WARM_UP_SECONDS))
    return sorted(events, key=lambda event: event.send_at)


def _half_of(total: int, dice: random.Random) -> list[bool]:
    """`total` values, of which half are True, in random order."""
    chosen = [place < round(total / 2) for place in range(total)]
    dice.shuffle(chosen)
    return chosen


# --- The measurement --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observation:
    """One event, how late its first copy was in the queue (None if there is none), and how many copies arrived."""

    event: PlannedEvent
    late_ms: float | None
    copies: int


def measure(stack: Stack, rate: int, seconds: int) -> list[Observation]:
    """Send the load through Punctual and through the baseline, and collect what arrives."""
    run = f"bench-{uuid.uuid4().hex[:8]}"
    ingest = stack.client("lambda").get_function_configuration(FunctionName=stack.physical_id("Ingest"))
    horizon = int(ingest["Environment"]["Variables"]["HORIZON_SECONDS"])
    with Consumer(stack) as consumer, _baseline(stack, run) as baseline:
        target, input_topic = consumer.topic(run), stack.physical_id("InputTopic")
        consumer.connect()
        sns, states = (stack.client(name, max_pool_connections=SENDERS) for name in ("sns", "stepfunctions"))

        def send(event: PlannedEvent) -> None:
            due, payload = _iso(event.due), json.dumps([event.path, event.number])
            if event.path == PUNCTUAL:
                message = {"date": due, "target": target, "user": "bench", "payload": payload}
                sns.publish(TopicArn=input_topic, Message=json.dumps(message))
                return
            input: dict[str, Any] = {"due": due, "publish": {"TopicArn": target, "Message": payload}}
            if event.due.microsecond:
                input["due_ms"] = round(event.due.timestamp() * 1000)
                input["wake_at"] = _iso((event.due - timedelta(seconds=0.5)).replace(microsecond=0))
            states.start_execution(stateMachineArn=baseline, input=json.dumps(input))

        events = plan(datetime.now(UTC), rate, seconds, horizon)
        with ThreadPoolExecutor(SENDERS) as senders:
            sent = []
            for event in events:
                time.sleep(max((event.send_at - datetime.now(UTC)).total_seconds(), 0))
                sent.append(senders.submit(send, event))
        for sending in sent:
            sending.result()
        give_up_at = max(event.due for event in events) + timedelta(seconds=ARRIVAL_TIMEOUT_SECONDS)
        consumer.wait_until(
            lambda arrivals: len({arrival.message for arrival in arrivals}) == len(events),
            (give_up_at - datetime.now(UTC)).total_seconds(),
        )
        time.sleep(DUPLICATES_SECONDS)
        return observe(events, consumer.arrivals)


def observe(events: Sequence[PlannedEvent], arrivals: Sequence[Arrival]) -> list[Observation]:
    """Match what arrived with what was sent."""
    sent_at: dict[str, list[datetime]] = {}
    for arrival in arrivals:
        sent_at.setdefault(arrival.message, []).append(arrival.sent_at)
    observations = []
    for event in events:
        copies = sent_at.get(json.dumps([event.path, event.number]), [])
        late = (min(copies) - event.due) / timedelta(milliseconds=1) if copies else None
        observations.append(Observation(event, late, len(copies)))
    return observations


def _iso(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"


@contextmanager
def _baseline(stack: Stack, run: str) -> Iterator[str]:
    """The ARN of the baseline's state machine. It exists as long as the block lasts, and has Deliver's role, logging,
    and tracing, so that these make no difference."""
    states, lambdas = stack.client("stepfunctions"), stack.client("lambda")
    deliver = states.describe_state_machine(stateMachineArn=stack.physical_id("Deliver"))
    settings = {name: deliver[name] for name in _SETTINGS_OF_DELIVER if name in deliver}
    hold: str = lambdas.get_function_configuration(FunctionName=stack.physical_id("Hold"))["FunctionArn"]
    definition = json.dumps(_BASELINE_DEFINITION).replace("HoldArn", hold)
    if not hold.startswith("arn:aws:"):
        definition = definition.replace("arn:aws:", f"arn:{hold.split(':')[1]}:")
    machine = states.create_state_machine(name=run, definition=definition, **settings)["stateMachineArn"]
    try:
        yield machine
    finally:
        states.delete_state_machine(stateMachineArn=machine)


# --- The figures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """The figures of a path, a kind of date and, for Punctual, a route. Percentiles are in milliseconds. Warm-up events
    are counted, because the promises hold for them, too, but are in no percentile."""

    label: str
    sent: int
    early: int
    missing: int
    repeated: int
    percentiles: list[float]


def figures(observations: Sequence[Observation]) -> list[Row]:
    """A row for each group that has events."""
    rows = []
    for date, path, route in itertools.product((WHOLE_SECOND, FRACTION), (BASELINE, PUNCTUAL), (ALL, DIRECT, PARKED)):
        members = [
            observation
            for observation in observations
            if observation.event.path == path
            and (observation.event.due.microsecond > 0) == (date == FRACTION)
            and (route == ALL or observation.event.is_parked == (route == PARKED))
        ]
        if members and (route == ALL or path == PUNCTUAL):
            name = BASELINE_WITH_HOLD if path == BASELINE and date == FRACTION else path
            rows.append(_row(f"{name}, {date}" if route == ALL else f"- {route}, {date}", members))
    return rows


def _row(label: str, members: Sequence[Observation]) -> Row:
    late = [(member.event.is_counted, member.late_ms) for member in members if member.late_ms is not None]
    counted = [late_ms for is_counted, late_ms in late if is_counted]
    return Row(
        label,
        sent=len(members),
        early=sum(late_ms < 0 for _, late_ms in late),
        missing=len(members) - len(late),
        repeated=sum(member.copies > 1 for member in members),
        percentiles=[percentile(counted, percent) for percent in PERCENTILES.values()],
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that is at least as large as `percent` of them (nearest rank); NaN without any."""
    return sorted(values)[max(math.ceil(percent * len(values) / 100), 1) - 1] if values else math.nan


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    heads = ["lateness, ms", "events", "early", "missing", "repeated", *PERCENTILES]
    counts = [[row.label, *map(str, (row.sent, row.early, row.missing, row.repeated))] for row in rows]
    late = [[f"{value:,.0f}" for value in row.percentiles] for row in rows]
    return markdown_table(heads, map(operator.add, counts, late))
