"""How late events arrive: through Punctual and, in the same run, through the least that the platform offers.

The baseline is a state machine of one Wait and one SNS publish that is started directly. Its events are due at the same
times as Punctual's, so that both meet the same load, and the difference is what Punctual adds. On AWS, Wait cannot wait
for a fraction of a second, so for such a date the baseline lets the function Hold sleep until the due time.

Lateness is the time from the due time until the consumer's queue had the message, by the clock of SQS.
"""

import itertools
import json
import math
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tools.local import Consumer, Deployed

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
HEADS = ["lateness, ms", "events", "early", "missing", "repeated", *PERCENTILES]

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


# --- The load ---------------------------------------------------------------------------------------------------------


@dataclass
class Event:
    """One event of the measurement. Events of different paths with the same number are due at the same time."""

    number: int
    path: str  # PUNCTUAL or BASELINE
    is_parked: bool
    due: datetime
    send_at: datetime
    is_counted: bool  # False during the warm-up
    copies: list[datetime] = field(default_factory=list)  # when each was in the queue

    @property
    def payload(self) -> str:
        return json.dumps([self.path, self.number])

    @property
    def late_ms(self) -> float | None:
        """How late the first copy was; None if there is none."""
        return (min(self.copies) - self.due) / timedelta(milliseconds=1) if self.copies else None


def plan(start_at: datetime, rate: int, seconds: int, horizon: int, seed: int = 1) -> list[Event]:
    """The events of a measurement that begins at `start_at`, in the order in which to send them: on each path, `rate`
    events due in each of so many seconds. `horizon` is the stack's, in seconds.

    Each of Punctual's events has a twin in the baseline, which is started once its due time is within the horizon,
    because an execution cannot wait longer.
    """
    dice = random.Random(seed)
    parked_lead = horizon + PARKED_LEAD_SECONDS
    first_second = (start_at + timedelta(seconds=parked_lead + 2)).replace(microsecond=0)
    total = (WARM_UP_SECONDS + seconds) * rate
    with_fraction, parked = (set(dice.sample(range(total), total // 2)) for _ in range(2))
    events = []
    for number in range(total):
        second = number // rate
        due = first_second + timedelta(seconds=second)
        if number in with_fraction:
            due += timedelta(milliseconds=dice.randrange(1, 1000))
        lead = parked_lead if number in parked else DIRECT_LEAD_SECONDS
        for path, before in ((PUNCTUAL, lead), (BASELINE, min(lead, horizon))):
            # Spread over a second, so that sending does not always coincide with the due times of other events.
            send_at = due - timedelta(seconds=before + dice.random())
            events.append(Event(number, path, number in parked, due, send_at, second >= WARM_UP_SECONDS))
    return sorted(events, key=lambda event: event.send_at)


# --- The measurement --------------------------------------------------------------------------------------------------


def measure(stack: Deployed, rate: int, seconds: int) -> list[Event]:
    """Send the load through Punctual and through the baseline, and enter in its events what arrives."""
    run = f"bench-{uuid.uuid4().hex[:8]}"
    ingest = stack.client("lambda").get_function_configuration(FunctionName=stack.physical_id("Ingest"))
    horizon = int(ingest["Environment"]["Variables"]["HORIZON_SECONDS"])
    with Consumer(stack) as consumer, _baseline(stack, run) as baseline:
        target, input_topic = consumer.topic(run), stack.physical_id("InputTopic")
        consumer.connect()
        sns, states = (stack.client(name, max_pool_connections=SENDERS) for name in ("sns", "stepfunctions"))

        def send(event: Event) -> None:
            due = _iso(event.due)
            if event.path == PUNCTUAL:
                message = {"date": due, "target": target, "user": "bench", "payload": event.payload}
                sns.publish(TopicArn=input_topic, Message=json.dumps(message))
                return
            input: dict[str, Any] = {"due": due, "publish": {"TopicArn": target, "Message": event.payload}}
            if event.due.microsecond:
                input["due_ms"] = round(event.due.timestamp() * 1000)
                input["wake_at"] = _iso((event.due - timedelta(seconds=0.5)).replace(microsecond=0))
            states.start_execution(stateMachineArn=baseline, input=json.dumps(input))

        events = plan(datetime.now(UTC), rate, seconds, horizon)
        with ThreadPoolExecutor(SENDERS) as senders:
            sending = []
            for event in events:
                time.sleep(max((event.send_at - datetime.now(UTC)).total_seconds(), 0))
                sending.append(senders.submit(send, event))
        for one in sending:
            one.result()
        give_up_at = max(event.due for event in events) + timedelta(seconds=ARRIVAL_TIMEOUT_SECONDS)
        consumer.wait_until(
            lambda arrivals: len({arrival.message for arrival in arrivals}) == len(events),
            (give_up_at - datetime.now(UTC)).total_seconds(),
        )
        time.sleep(DUPLICATES_SECONDS)
    sent = {event.payload: event for event in events}
    for arrival in consumer.arrivals:
        sent[arrival.message].copies.append(arrival.sent_at)
    return events


def _iso(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"


@contextmanager
def _baseline(stack: Deployed, run: str) -> Iterator[str]:
    """The ARN of the baseline's state machine. It exists as long as the block lasts, and has Deliver's role, logging,
    and tracing, so that these make no difference."""
    states, lambdas = stack.client("stepfunctions"), stack.client("lambda")
    deliver = states.describe_state_machine(stateMachineArn=stack.physical_id("Deliver"))
    settings = {name: deliver[name] for name in _SETTINGS_OF_DELIVER if name in deliver}
    hold: str = lambdas.get_function_configuration(FunctionName=stack.physical_id("Hold"))["FunctionArn"]
    partition = hold.split(":")[1]
    definition = json.dumps(_BASELINE_DEFINITION).replace("arn:aws:", f"arn:{partition}:").replace("HoldArn", hold)
    machine = states.create_state_machine(name=run, definition=definition, **settings)["stateMachineArn"]
    try:
        yield machine
    finally:
        states.delete_state_machine(stateMachineArn=machine)


# --- The figures ------------------------------------------------------------------------------------------------------


def figures(events: Sequence[Event]) -> list[list[str]]:
    """The cells of a row for each group that has events: a path, a kind of date and, for Punctual, a route."""
    rows = []
    for date, path, route in itertools.product((WHOLE_SECOND, FRACTION), (BASELINE, PUNCTUAL), (ALL, DIRECT, PARKED)):
        members = [
            event
            for event in events
            if event.path == path
            and (event.due.microsecond > 0) == (date == FRACTION)
            and (route == ALL or event.is_parked == (route == PARKED))
        ]
        if members and (route == ALL or path == PUNCTUAL):
            name = BASELINE_WITH_HOLD if path == BASELINE and date == FRACTION else path
            rows.append([f"{name}, {date}" if route == ALL else f"- {route}, {date}", *_cells(members)])
    return rows


def _cells(events: Sequence[Event]) -> list[str]:
    """Warm-up events are counted, because the promises hold for them, too, but are in no percentile."""
    late = [(event.is_counted, event.late_ms) for event in events if event.late_ms is not None]
    counted = [late_ms for is_counted, late_ms in late if is_counted]
    early, repeated = sum(late_ms < 0 for _, late_ms in late), sum(len(event.copies) > 1 for event in events)
    counts = len(events), early, len(events) - len(late), repeated
    return [*map(str, counts), *(f"{percentile(counted, percent):,.0f}" for percent in PERCENTILES.values())]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that is at least as large as `percent` of them (nearest rank); NaN without any."""
    return sorted(values)[max(math.ceil(percent * len(values) / 100), 1) - 1] if values else math.nan
