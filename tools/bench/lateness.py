"""How late events arrive: through Punctual and, in the same run, through the least that the platform offers.

The baseline is a state machine of one Wait and one SNS publish that is started directly. Its events are due at the same
times as Punctual's, so that both meet the same load, and the difference is what Punctual adds. On AWS, Wait cannot wait
for a fraction of a second, so a second baseline lets the function Hold sleep until the due time.
"""

import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tools.bench.clock_offset import ClockOffset, measure_clock_offset
from tools.local import Arrival, Clients, Consumer

# The first events meet cold functions. They must arrive, but are in no percentile.
WARM_UP_SECONDS = 5
# Events to be parked are sent this long before they come within the horizon, so that no sweep takes them at once.
PARKED_LEAD_SECONDS = 10
# An event that has not arrived this long after the last due time is missing.
ARRIVAL_TIMEOUT_SECONDS = 15
# Duplicates follow the first copy within moments: wait this long for them.
DUPLICATES_SECONDS = 1
SENDERS = 8
# For each poll, the emulator looks for messages every 0.1 s. Of several polls, one finds a message sooner.
POLLERS = 8

PUNCTUAL = "Punctual"
BASELINE = "Bare Wait and Publish"
BASELINE_WITH_HOLD = "Wait, Hold, and Publish"

_SETTINGS_OF_DELIVER = ("roleArn", "type", "loggingConfiguration", "tracingConfiguration")
_PUBLISH = {
    "Type": "Task",
    "Resource": "arn:aws:states:::sns:publish",
    "Arguments": "{% $states.input.publish %}",
    "End": True,
}
_BASELINE_DEFINITION = {
    "QueryLanguage": "JSONata",
    "StartAt": "WaitUntilDue",
    "States": {
        "WaitUntilDue": {"Type": "Wait", "Timestamp": "{% $states.input.due %}", "Next": "Publish"},
        "Publish": _PUBLISH,
    },
}
_BASELINE_WITH_HOLD_DEFINITION = {
    "QueryLanguage": "JSONata",
    "StartAt": "WaitUntilNearlyDue",
    "States": {
        "WaitUntilNearlyDue": {"Type": "Wait", "Timestamp": "{% $states.input.wake_at %}", "Next": "HoldFraction"},
        "HoldFraction": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Arguments": {"FunctionName": "HoldArn", "Payload": {"due_ms": "{% $states.input.due_ms %}"}},
            "Output": "{% $states.input %}",
            "Next": "Publish",
        },
        "Publish": _PUBLISH,
    },
}


# --- The load ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """The events to send: on each path, `rate` events due in each of `duration` seconds.

    `fractions` is the share of dates with a fraction of a second, `parked` the share of events that are parked first
    (both 0 to 1). The others are sent `lead` seconds before they are due. `horizon` is the stack's, in seconds.
    """

    rate: int
    duration: int
    fractions: float
    parked: float
    lead: float
    horizon: int

    @property
    def parked_lead(self) -> float:
        return self.horizon + PARKED_LEAD_SECONDS


@dataclass(frozen=True)
class PlannedEvent:
    """One event of the measurement. Events of different paths with the same number are due at the same time."""

    number: int
    path: str  # PUNCTUAL, BASELINE, or BASELINE_WITH_HOLD
    is_parked: bool
    due: datetime
    send_at: datetime
    is_counted: bool  # False during the warm-up

    @property
    def has_fraction(self) -> bool:
        return self.due.microsecond > 0


def plan(load: Load, start_at: datetime, wait_keeps_fractions: bool, seed: int = 1) -> list[PlannedEvent]:
    """The events of a measurement that begins at `start_at`, in the order in which to send them.

    Each of Punctual's events has a twin in the baseline. A baseline event is started once its due time is within the
    horizon, because an execution cannot wait longer. With `wait_keeps_fractions`, as on the emulator, events with a
    fraction have a twin in both baselines, otherwise only in the one with Hold.
    """
    dice = random.Random(seed)
    first_second = (start_at + timedelta(seconds=load.parked_lead + 2)).replace(microsecond=0)
    seconds = range(WARM_UP_SECONDS + load.duration)
    total = len(seconds) * load.rate
    has_fraction, is_parked = _choose(total, load.fractions, dice), _choose(total, load.parked, dice)
    events = []
    for number in range(total):
        second = seconds[number // load.rate]
        due = first_second + timedelta(seconds=second)
        if has_fraction[number]:
            due += timedelta(milliseconds=dice.randrange(1, 1000))
        lead = load.parked_lead if is_parked[number] else load.lead
        for path in _paths(due, wait_keeps_fractions):
            # Spread over a second, so that sending does not always coincide with the due times of other events.
            before = (lead if path == PUNCTUAL else min(lead, load.horizon)) + dice.random()
            send_at = due - timedelta(seconds=before)
            is_counted = second >= WARM_UP_SECONDS
            events.append(PlannedEvent(number, path, is_parked[number], due, send_at, is_counted))
    return sorted(events, key=lambda event: event.send_at)


def _paths(due: datetime, wait_keeps_fractions: bool) -> list[str]:
    if not due.microsecond:
        return [PUNCTUAL, BASELINE]
    return [PUNCTUAL, BASELINE, BASELINE_WITH_HOLD] if wait_keeps_fractions else [PUNCTUAL, BASELINE_WITH_HOLD]


def _choose(total: int, share: float, dice: random.Random) -> list[bool]:
    """`total` values, of which that share is True, in random order."""
    chosen = [place < round(total * share) for place in range(total)]
    dice.shuffle(chosen)
    return chosen


# --- The measurement --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observation:
    """One event and how it arrived: how long after its due time its queue and its consumer had it, in milliseconds
    (None if it did not arrive), and in how many copies."""

    event: PlannedEvent
    in_queue_ms: float | None
    received_ms: float | None
    copies: int


def measure(
    clients: Clients,
    arns: dict[str, str],
    load: Load,
    wait_keeps_fractions: bool,
    show_progress: Callable[[int, int, int], None],
) -> tuple[list[Observation], ClockOffset]:
    """Send the load through Punctual and through the baselines, and collect what arrives.

    `arns` are those of the stack's InputTopic, Deliver, and Hold. `show_progress` is called now and then with the
    numbers of events that were sent, that arrived, and that are expected.
    """
    run = f"bench-{uuid.uuid4().hex[:8]}"
    clock = measure_clock_offset(clients)
    with (
        Consumer(clients, pollers=POLLERS) as consumer,
        baselines(clients, arns["Deliver"], arns["Hold"], run) as baseline_arns,
    ):
        target = consumer.topic(run)
        sns, states = (clients.client(name, max_pool_connections=SENDERS) for name in ("sns", "stepfunctions"))

        def send(event: PlannedEvent) -> None:
            due = _iso(event.due)
            payload = json.dumps({"number": event.number, "path": event.path, "due": due})
            if event.path == PUNCTUAL:
                message = {"date": due, "target": target, "user": "bench", "payload": payload}
                sns.publish(TopicArn=arns["InputTopic"], Message=json.dumps(message))
            else:
                wake_at = _iso((event.due - timedelta(seconds=0.5)).replace(microsecond=0))
                input = {
                    "due": due,
                    "due_ms": round(event.due.timestamp() * 1000),
                    "wake_at": wake_at,
                    "publish": {"TopicArn": target, "Message": payload},
                }
                states.start_execution(stateMachineArn=baseline_arns[event.path], input=json.dumps(input))

        events = plan(load, datetime.now(UTC), wait_keeps_fractions)
        sent: list[Future[None]] = []
        with ThreadPoolExecutor(SENDERS) as senders:
            for event in events:
                while (pause := (event.send_at - datetime.now(UTC)).total_seconds()) > 0:
                    time.sleep(min(pause, 0.5))
                    show_progress(len(sent), len(consumer.arrivals), len(events))
                sent.append(senders.submit(send, event))
        for sending in sent:
            sending.result()
        give_up_at = max(event.due for event in events) + timedelta(seconds=ARRIVAL_TIMEOUT_SECONDS)
        while datetime.now(UTC) < give_up_at:
            if consumer.wait_until(lambda arrivals: len(_count_copies(arrivals)) == len(events), seconds=0.5):
                break
            show_progress(len(sent), len(consumer.arrivals), len(events))
        time.sleep(DUPLICATES_SECONDS)
        arrivals = consumer.arrivals
        show_progress(len(sent), len(arrivals), len(events))
    return observe(events, arrivals, clock.offset), clock


def observe(events: Sequence[PlannedEvent], arrivals: Sequence[Arrival], offset: timedelta) -> list[Observation]:
    """Match what arrived with what was sent. `offset` is what to add to the consumer's clock to get the queue's."""
    copies = _count_copies(arrivals)
    first: dict[tuple[str, int], Arrival] = {}
    for arrival in arrivals:
        key = _key(arrival)
        if key not in first or arrival.sent_at < first[key].sent_at:
            first[key] = arrival
    observations = []
    for event in events:
        arrived = first.get((event.path, event.number))
        observations.append(
            Observation(
                event,
                in_queue_ms=_milliseconds(arrived.sent_at - event.due) if arrived else None,
                received_ms=_milliseconds(arrived.received_at + offset - event.due) if arrived else None,
                copies=copies[event.path, event.number],
            )
        )
    return observations


def _count_copies(arrivals: Iterable[Arrival]) -> Counter[tuple[str, int]]:
    return Counter(_key(arrival) for arrival in arrivals)


def _key(arrival: Arrival) -> tuple[str, int]:
    payload = json.loads(arrival.message)
    return payload["path"], payload["number"]


def _milliseconds(duration: timedelta) -> float:
    return duration / timedelta(milliseconds=1)


def _iso(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"


@contextmanager
def baselines(clients: Clients, deliver_arn: str, hold_arn: str, run: str) -> Iterator[dict[str, str]]:
    """The ARNs of the baselines' state machines by path. They exist as long as the block lasts, and have Deliver's
    role, logging, and tracing, so that these make no difference."""
    states = clients.client("stepfunctions")
    deliver = states.describe_state_machine(stateMachineArn=deliver_arn)
    settings: dict[str, Any] = {name: deliver[name] for name in _SETTINGS_OF_DELIVER if name in deliver}
    definitions = {
        BASELINE: ("baseline", json.dumps(_BASELINE_DEFINITION)),
        BASELINE_WITH_HOLD: (
            "baseline-with-hold",
            json.dumps(_BASELINE_WITH_HOLD_DEFINITION).replace("HoldArn", hold_arn),
        ),
    }
    arns: dict[str, str] = {}
    try:
        for path, (name, definition) in definitions.items():
            machine = states.create_state_machine(name=f"{run}-{name}", definition=definition, **settings)
            arns[path] = machine["stateMachineArn"]
        yield arns
    finally:
        for arn in arns.values():
            states.delete_state_machine(stateMachineArn=arn)
