"""How late events arrive: through Punctual and, beside it, through the least that the platform has.

The floor is a state machine of one Wait and one SNS publish, started directly. Its events are due at the same moments
as Punctual's, so that both meet the same load; what Punctual's take longer is Punctual's own doing. On AWS, Wait can't
wait for a fraction of a second, so there is a second floor that has a function (Hold) sleep it.
"""

import json
import math
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tools.local import Arrival, Clients, Consumer

# The first events meet cold functions. They have to arrive, but are in no figure.
WARM_UP_SECONDS = 5
# Far events are sent this long before they come within the horizon: time enough to be parked, whatever the sweeps do.
PARKED_SECONDS = 10
# What has not arrived this long after the last event was due is missing.
PATIENCE_SECONDS = 15
SENDERS = 8
# The emulator looks every 0.1 s whether there is a message for a poll; of many that are out of step, one finds it
# sooner. On AWS a poll ends when a message comes.
POLLERS = 8
CLOCK_PROBES = 20

SAME_AS_DELIVER = ("roleArn", "type", "loggingConfiguration", "tracingConfiguration")
PUNCTUAL, FLOOR, FLOOR_WITH_HOLD = "Punctual", "floor", "floor with Hold"

_PUBLISH = {
    "Type": "Task",
    "Resource": "arn:aws:states:::sns:publish",
    "Arguments": "{% $states.input.publish %}",
    "End": True,
}
_FLOOR = {
    "QueryLanguage": "JSONata",
    "StartAt": "WaitUntilDue",
    "States": {
        "WaitUntilDue": {"Type": "Wait", "Timestamp": "{% $states.input.due %}", "Next": "Publish"},
        "Publish": _PUBLISH,
    },
}
_FLOOR_WITH_HOLD = {
    "QueryLanguage": "JSONata",
    "StartAt": "WaitUntilNearlyDue",
    "States": {
        "WaitUntilNearlyDue": {"Type": "Wait", "Timestamp": "{% $states.input.wake_at %}", "Next": "HoldFraction"},
        "HoldFraction": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Arguments": {"FunctionName": "HoldArn", "Payload": {"due": "{% $states.input.due %}"}},
            "Output": "{% $states.input %}",
            "Next": "Publish",
        },
        "Publish": _PUBLISH,
    },
}


# --- What is sent, and when -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """What to send: for `duration` seconds, `rate` events due in each, `fractions` of them (0 to 1) with a fraction of
    a second and `parked` of them too far away to be started at once. `lead` is how many seconds before it is due a
    near event is sent; what lies beyond `horizon` seconds is parked."""

    rate: int
    duration: int
    fractions: float
    parked: float
    lead: float
    horizon: int

    @property
    def far_lead(self) -> float:
        return self.horizon + PARKED_SECONDS


@dataclass(frozen=True)
class Probe:
    """One event of the measurement."""

    number: int
    path: str  # PUNCTUAL, FLOOR or FLOOR_WITH_HOLD
    far: bool
    due: datetime
    send_at: datetime
    warm: bool  # whether it counts: sent after the warm-up

    @property
    def fractional(self) -> bool:
        return self.due.microsecond > 0


def plan(load: Load, start_at: datetime, floor_waits_fractions: bool, seed: int = 1) -> list[Probe]:
    """The events of one measurement that begins at `start_at`, in the order in which to send them.

    An event of a floor is a twin of Punctual's: due at the same moment, started when it enters the horizon at
    the latest.
    """
    dice = random.Random(seed)
    first_second = (start_at + timedelta(seconds=load.far_lead + 2)).replace(microsecond=0)
    seconds = range(WARM_UP_SECONDS + load.duration)
    total = len(seconds) * load.rate
    fractional, far = _shares(total, load.fractions, dice), _shares(total, load.parked, dice)
    probes = []
    for number in range(total):
        second = seconds[number // load.rate]
        due = first_second + timedelta(seconds=second)
        if fractional[number]:
            due += timedelta(milliseconds=dice.randrange(1, 1000))
        lead = load.far_lead if far[number] else load.lead
        for path in _paths(due, floor_waits_fractions):
            # Spread over a second: publishers do not all send at the moment at which other events are due.
            before = (lead if path == PUNCTUAL else min(lead, load.horizon)) + dice.random()
            send_at = due - timedelta(seconds=before)
            probes.append(Probe(number, path, far[number], due, send_at, warm=second >= WARM_UP_SECONDS))
    return sorted(probes, key=lambda probe: probe.send_at)


def _paths(due: datetime, floor_waits_fractions: bool) -> list[str]:
    if not due.microsecond:
        return [PUNCTUAL, FLOOR]
    return [PUNCTUAL, FLOOR, FLOOR_WITH_HOLD] if floor_waits_fractions else [PUNCTUAL, FLOOR_WITH_HOLD]


def _shares(total: int, share: float, dice: random.Random) -> list[bool]:
    """As many times True as the share says, in random places."""
    chosen = [place < round(total * share) for place in range(total)]
    dice.shuffle(chosen)
    return chosen


# --- The measurement --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observation:
    """What became of one event: when its queue took it, and when its consumer had it, in milliseconds after it was due
    (None if it did not arrive); and how often it came."""

    probe: Probe
    in_queue_ms: float | None
    received_ms: float | None
    times: int


def measure(
    stack: Clients,
    arns: dict[str, str],
    load: Load,
    floor_waits_fractions: bool,
    progress: Callable[[int, int, int], None],
) -> tuple[list[Observation], "ClockOffset"]:
    """Send the load through Punctual and through the floors, and collect it.

    `arns` are those of the stack's InputTopic, Deliver and Hold. `progress` is told, now and then, how many events are
    sent, have arrived and are expected.
    """
    run = f"bench-{uuid.uuid4().hex[:8]}"
    clock = measure_clock(stack)
    with Consumer(stack, pollers=POLLERS) as consumer, floors(stack, arns["Deliver"], arns["Hold"], run) as floor_arns:
        target = consumer.topic(run)
        sns, states = (stack.client(name, max_pool_connections=SENDERS) for name in ("sns", "stepfunctions"))

        def send(probe: Probe) -> None:
            due = _iso(probe.due)
            payload = json.dumps({"number": probe.number, "path": probe.path, "due": due})
            if probe.path == PUNCTUAL:
                event = {"date": due, "target": target, "user": "bench", "payload": payload}
                sns.publish(TopicArn=arns["InputTopic"], Message=json.dumps(event))
            else:
                wake_at = _iso((probe.due - timedelta(seconds=0.5)).replace(microsecond=0))
                input = {"due": due, "wake_at": wake_at, "publish": {"TopicArn": target, "Message": payload}}
                states.start_execution(stateMachineArn=floor_arns[probe.path], input=json.dumps(input))

        probes = plan(load, datetime.now(UTC), floor_waits_fractions)
        sent: list[Future] = []
        with ThreadPoolExecutor(SENDERS) as senders:
            for probe in probes:
                while (pause := (probe.send_at - datetime.now(UTC)).total_seconds()) > 0:
                    time.sleep(min(pause, 0.5))
                    progress(len(sent), len(consumer.arrivals), len(probes))
                sent.append(senders.submit(send, probe))
        for sending in sent:
            sending.result()
        give_up_at = max(probe.due for probe in probes) + timedelta(seconds=PATIENCE_SECONDS)
        while datetime.now(UTC) < give_up_at:
            if consumer.wait_until(lambda arrivals: len(_key_counts(arrivals)) == len(probes), seconds=0.5):
                break
            progress(len(sent), len(consumer.arrivals), len(probes))
        time.sleep(1)  # what comes twice comes soon
        arrivals = consumer.arrivals
        progress(len(sent), len(arrivals), len(probes))
    return observe(probes, arrivals, clock.offset), clock


def observe(probes: Sequence[Probe], arrivals: Sequence[Arrival], offset: timedelta) -> list[Observation]:
    """Match what arrived with what was sent. `offset` is what to add to the consumer's clock to get the queue's."""
    times, first = _key_counts(arrivals), {}
    for arrival in arrivals:
        key = _key(arrival)
        if key not in first or arrival.sent_at < first[key].sent_at:
            first[key] = arrival
    observations = []
    for probe in probes:
        arrival = first.get((probe.path, probe.number))
        observations.append(
            Observation(
                probe,
                in_queue_ms=_milliseconds(arrival.sent_at - probe.due) if arrival else None,
                received_ms=_milliseconds(arrival.received_at + offset - probe.due) if arrival else None,
                times=times[probe.path, probe.number],
            )
        )
    return observations


def _key_counts(arrivals: Iterable[Arrival]) -> Counter:
    return Counter(_key(arrival) for arrival in arrivals)


def _key(arrival: Arrival) -> tuple[str, int]:
    payload = json.loads(arrival.message)
    return payload["path"], payload["number"]


def _milliseconds(duration: timedelta) -> float:
    return duration / timedelta(milliseconds=1)


def _iso(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"


@contextmanager
def floors(stack: Clients, deliver_arn: str, hold_arn: str, name: str) -> Iterator[dict[str, str]]:
    """The ARNs of the two floors' state machines, by path, for as long as the block lasts. They have the role, logging
    and tracing of Deliver, so that these make no difference."""
    states = stack.client("stepfunctions")
    deliver = states.describe_state_machine(stateMachineArn=deliver_arn)
    same = {field: deliver[field] for field in SAME_AS_DELIVER if field in deliver}
    with_hold = json.dumps(_FLOOR_WITH_HOLD).replace("HoldArn", hold_arn)
    arns = {}
    try:
        for path, definition in ((FLOOR, json.dumps(_FLOOR)), (FLOOR_WITH_HOLD, with_hold)):
            machine = states.create_state_machine(
                name=f"{name}-{path.replace(' ', '-')}", definition=definition, **same
            )
            arns[path] = machine["stateMachineArn"]
        yield arns
    finally:
        for arn in arns.values():
            states.delete_state_machine(stateMachineArn=arn)


# --- Whose clock ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClockOffset:
    """What to add to this machine's clock to get the queue's, and how wrong that may be."""

    offset: timedelta
    error: timedelta


def measure_clock(stack: Clients, probes: int = CLOCK_PROBES) -> ClockOffset:
    """Compare this machine's clock with that of SQS: a message is stamped after it is sent and before the answer."""
    sqs = stack.client("sqs")
    url = sqs.create_queue(QueueName=f"bench-clock-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    try:
        asked, stamped = {}, {}
        for number in range(probes):
            before = datetime.now(UTC)
            sqs.send_message(QueueUrl=url, MessageBody=str(number))
            asked[number] = before, datetime.now(UTC)
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while len(stamped) < probes and time.monotonic() < give_up_at:
            answer = sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, AttributeNames=["SentTimestamp"]
            )
            for message in answer.get("Messages", []):
                stamped[int(message["Body"])] = datetime.fromtimestamp(
                    int(message["Attributes"]["SentTimestamp"]) / 1000, UTC
                )
    finally:
        sqs.delete_queue(QueueUrl=url)
    return clock_offset([(*asked[number], stamp) for number, stamp in stamped.items()])


def clock_offset(probes: Sequence[tuple[datetime, datetime, datetime]]) -> ClockOffset:
    """From calls that each have a time before and after on this machine's clock, and between the two a stamp in whole
    milliseconds on the other's: the offset that agrees with all of them, or, if none does, the mean of the extremes."""
    a_millisecond = timedelta(milliseconds=1)  # the stamp is cut, so the moment is up to this much later
    least = max(stamp - after for before, after, stamp in probes)
    most = min(stamp + a_millisecond - before for before, after, stamp in probes)
    return ClockOffset(offset=(least + most) / 2, error=abs(most - least) / 2)


# --- Figures ----------------------------------------------------------------------------------------------------------

# When the queue had the event (its SentTimestamp, in whole milliseconds), and when the consumer had it.
MEASURES = ("in_queue_ms", "received_ms")
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least `percent` of them do not exceed (nearest rank): one that occurred."""
    ranked = sorted(values)
    # Rounded, because 99.9 / 100 * 1000 is a little more than 999.
    return ranked[max(math.ceil(round(percent / 100 * len(ranked), 9)), 1) - 1]


def figures(observations: Sequence[Observation]) -> list[dict[str, Any]]:
    """A row for each kind of event: counts, percentiles of lateness in milliseconds, and their ratio to the floor's.

    Kinds are near and far, whole and fraction, and the two distances together. The warm-up is left out of lateness, and
    counted in early, missing and repeated: the promise has no warm-up.
    """
    kinds = defaultdict(list)
    for observation in observations:
        probe = observation.probe
        date = "fraction" if probe.fractional else "whole second"
        kinds[probe.path, "all", date].append(observation)
        if probe.path == PUNCTUAL:
            kinds[probe.path, "far" if probe.far else "near", date].append(observation)
    rows = [_row(*kind, members) for kind, members in sorted(kinds.items(), key=_reading_order)]
    floor = {row["date"]: row for row in rows if row["path"] != PUNCTUAL}  # the last: FLOOR_WITH_HOLD only on AWS
    floor |= {row["date"]: row for row in rows if row["path"] == FLOOR}
    for row in rows:
        for measure in MEASURES if row["date"] in floor else ():
            row[f"{measure}_to_floor"] = _ratios(row[measure], floor[row["date"]][measure])
    return rows


def _reading_order(item: tuple) -> tuple:
    (path, distance, date), _ = item
    paths, distances = (FLOOR, FLOOR_WITH_HOLD, PUNCTUAL), ("all", "near", "far")
    return date != "whole second", paths.index(path), distances.index(distance)


def _row(path: str, distance: str, date: str, members: Sequence[Observation]) -> dict[str, Any]:
    arrived = [member for member in members if member.times]
    counted = [member for member in arrived if member.probe.warm]
    return {
        "path": path,
        "distance": distance,
        "date": date,
        "sent": len(members),
        "counted": len(counted),
        "missing": len(members) - len(arrived),
        "early": sum(member.in_queue_ms < 0 for member in arrived),
        "repeated": sum(member.times - 1 for member in arrived),
        "in_queue_ms": _percentiles([member.in_queue_ms for member in counted]),
        "received_ms": _percentiles([member.received_ms for member in counted]),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {name: round(percentile(values, percent), 1) for name, percent in PERCENTILES.items()} if values else {}


def _ratios(row: dict[str, float], floor: dict[str, float]) -> dict[str, float | None]:
    return {name: round(row[name] / floor[name], 2) if floor.get(name) else None for name in row}
