"""How late events are when there are very many of them: a simulation, not a measurement.

    python -m tools.estimates.scale                     the tables of docs/scale.md (half a minute)
    python -m tools.estimates.scale --events 100000 --interval 5 --sweeps 12 --lanes 32
    python -m tools.estimates.scale document            renew the tables in docs/scale.md

The rules are the project's own, read from its code, template and state machines. Quotas and latencies of AWS are in
QUOTA and LATENCY. Times are seconds; 0 is the moment at which a burst is due.
"""

import argparse
import dataclasses
import heapq
import json
import math
import os
import random
import re
from bisect import bisect_left
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The functions read their stack's names when they are imported; no name matters here.
_NAMES = ("DELIVER_ARN", "PARKED_TABLE", "FAILURE_TOPIC_ARN", "UNDELIVERED_URL", "AWS_DEFAULT_REGION")
for name in _NAMES:
    os.environ.setdefault(name, "us-east-1")
os.environ.setdefault("HORIZON_SECONDS", "0")

from scheduler import clients, event, parking, sweeper  # noqa: E402

from tools.estimates.cost import horizon_of, renew, template  # noqa: E402

DOCUMENT = ROOT / "docs/scale.md"

# --- What AWS gives: published quotas, all to be raised on request but where it says otherwise ------------------------

QUOTA = {
    "StartExecution": 6_000,  # a second, Express, as large a burst; every large Region
    "register reads": 12_000,  # a second: a new on-demand table has 4 partitions of 3,000
    "parked writes": 4_000,  # a second: a new on-demand table; grows to 1,000 to a lane
    "pollers": (5, 300, 1_250),  # of a queue for Lambda: at first, more a minute, at the most
    "Lambda": 1_000,  # concurrent executions of an account and Region
}
# SNS: publishes a second by Region; the input topic's own count too. (docs.aws.amazon.com/general/latest/gr/sns.html)
PUBLISHES = {"us-east-1": 30_000, "us-west-2, eu-west-1": 9_000, "large others": 1_500, "small others": 300}

# Seconds. The first two measured on AWS by others, the rest believed; `make bench --stack` shows a stack's own.
LATENCY = {
    "transition": 0.010,
    "start CPU": 1 / 500,  # of a Sweeper's one processor: boto3's 1.5 ms, and its share of reading and deleting
    "start": 0.025,  # StartExecution, as its caller waits
    "DynamoDB": 0.008,
    "page": 0.030,  # a megabyte of a lane
    "SNS": 0.030,
    "invoke": 0.05,
    "queued": 0.1,  # an asynchronous invocation, until it runs
    "cold start": 1.0,
    "SQS": 0.02,  # a poller's receive and delete
    "parse": 0.003,  # of Ingest's CPU, a message
}


# --- What the project does: read, not copied --------------------------------------------------------------------------


def _state(machine: str, name: str) -> dict:
    return json.loads((ROOT / f"statemachines/{machine}.asl.json").read_text())["States"][name]


def _retry_of(state: str) -> dict:
    """How a state of Deliver retries what may pass."""
    retry = next(r for r in _state("deliver", state)["Retry"] if r["ErrorEquals"] == ["States.ALL"])
    return {"BackoffRate": 2.0, "MaxDelaySeconds": float("inf"), "JitterStrategy": "NONE"} | retry


def _resource(name: str) -> dict:
    return template()["Resources"][name]["Properties"]


PUBLISH, REPORT, OPERATOR, LOOK_UP = map(
    _retry_of, ("Publish", "ReportToPublisher", "ReportToStackTopic", "LookUpRevision")
)
SWEEPER_SECONDS = _resource("Sweeper")["Timeout"] - sweeper.DEADLINE_MARGIN_SECONDS
SWEEP_SECONDS = int(re.search(r"range\(0, (\d+)", _state("sweep", "SweepAtEveryTick")["Items"])[1]) + 1
GENERATIONS = SWEEP_SECONDS // 60
INGEST_BATCH = _resource("Ingest")["Events"]["Messages"]["Properties"]["BatchSize"]
# Not through the cache of clients: whoever imports this may want theirs to be made later, under moto.
ATTEMPTS = clients.client.__wrapped__("stepfunctions").meta.config.retries["total_max_attempts"]
CUTOFF = event.CUTOFF_LEAD.total_seconds()


@dataclasses.dataclass(frozen=True)
class Setup:
    """A stack in a Region. What is not given is as shipped, under AWS's own quotas."""

    interval: int = 10
    sweeps: int = GENERATIONS  # sweepers at a tick of the clock
    lanes: int = parking.LANES
    threads: int = sweeper.THREADS
    batch: int = parking.BATCH_SIZE
    much: float = sweeper.MAX_STARTS_BEFORE_HELPERS  # starts after which a sweeper calls helpers
    starts: float = QUOTA["StartExecution"]
    reads: float = QUOTA["register reads"]
    publishes: float = PUBLISHES["us-east-1"]
    horizon: int = 0  # 0: the template's, for this interval

    @property
    def seconds(self) -> int:
        return self.horizon or horizon_of(self.interval)


class Bucket:
    """A quota: so many tokens a second, and as many to begin with. It throttles; it does not queue."""

    def __init__(self, rate: float):
        self.rate, self.tokens, self.at, self.throttled = rate, rate, float("-inf"), 0

    def take(self, now: float, wanted: int = 1) -> int:
        """How many of `wanted` pass at this moment."""
        if now > self.at:
            self.tokens = min(self.rate, self.tokens + self.rate * min(now - self.at, 1.0))
            self.at = now
        passed = min(wanted, int(self.tokens))
        self.tokens -= passed
        self.throttled += wanted - passed
        return passed


def _backoff(attempt: int) -> float:
    """botocore's standard mode, before the attempt after this one."""
    return min(random.random() * 2 ** (attempt - 1), 20.0)


# --- Far events: lanes, leases, sweepers ------------------------------------------------------------------------------


class Lane:
    """The due times of a lane's events, in order, and who holds its lease."""

    def __init__(self, dues: list[float]):
        self.dues, self.next, self.failed, self.holder = dues, 0, [], None

    def due(self, before: float) -> int:
        return bisect_left(self.dues, before, self.next) - self.next

    def take_back(self) -> None:
        if self.failed:
            self.dues = sorted([*self.failed, *self.dues[self.next :]])
            self.next, self.failed = 0, []


class Sweeps:
    """Sweepers at every tick, as scheduler.sweeper does it: lanes under their leases, events in batches on threads that
    share one processor. A lane is begun when the one before has ended, which the Sweeper does not wait for: this is on
    the safe side. A discrete-event simulation with a heap of (time, number, action)."""

    def __init__(self, setup: Setup, dues: list[float], first_tick: float):
        self.setup, self.heap, self.number = setup, [], 0
        self.quota = Bucket(setup.starts)
        self.started: list[tuple[float, float]] = []  # (when, due)
        self.left = len(dues)
        lanes: list[list[float]] = [[] for _ in range(setup.lanes)]
        for due in sorted(dues):
            random.choice(lanes).append(due)
        self.lanes = [Lane(lane) for lane in lanes]
        self.running = self.most = 0
        self._at(first_tick, self._tick)

    def run(self) -> list[tuple[float, float]]:
        while self.heap and self.left:
            now, _, action, arguments = heapq.heappop(self.heap)
            action(now, *arguments)
        return self.started

    def _at(self, time: float, action, *arguments) -> None:
        self.number += 1
        heapq.heappush(self.heap, (time, self.number, action, arguments))

    def _tick(self, now: float) -> None:
        self._at(now + self.setup.interval, self._tick)
        for _ in range(self.setup.sweeps):
            self._invoke(now, False)

    def _invoke(self, now: float, is_helper: bool) -> None:
        cold = LATENCY["cold start"] if self.running >= self.most else 0
        self.running += 1
        self.most = max(self.most, self.running)
        self._at(now + LATENCY["invoke"] + cold + random.random() / 10, self._probe, is_helper)

    def _probe(self, now: float, is_helper: bool) -> None:
        before = now + self.setup.seconds
        order = [lane for lane in self.lanes if lane.due(before)]
        random.shuffle(order)
        seen = now + LATENCY["DynamoDB"] + self.setup.lanes * LATENCY["start CPU"]
        self._next_lane(seen, _Sweep(now + SWEEPER_SECONDS, before, order, not is_helper))

    def _next_lane(self, now: float, sweep: "_Sweep") -> None:
        while sweep.order and now < sweep.ends:
            lane = sweep.order.pop()
            now += LATENCY["DynamoDB"]
            if lane.holder is None:
                lane.holder = sweep
                sweep.begin(lane, math.ceil(lane.due(sweep.before) / self.setup.batch), self.setup.threads)
                for _ in range(self.setup.threads):
                    self._at(now + LATENCY["page"], self._next_batch, sweep)
                return
        self.running -= 1

    def _next_batch(self, now: float, sweep: "_Sweep") -> None:
        lane = sweep.lane
        size = min(self.setup.batch, lane.due(sweep.before))
        if size and now < sweep.ends:
            events = lane.dues[lane.next : lane.next + size]
            lane.next += size
            self._at(now, self._start, sweep, _Batch(sweep.submitted, events), 1)
            sweep.submitted += 1
            return
        sweep.busy -= 1
        if not sweep.busy:
            lane.take_back()
            lane.holder = None
            self._call_helpers(now, sweep, sweep.submitted)
            self._at(now + LATENCY["DynamoDB"], self._next_lane, sweep)

    def _call_helpers(self, now: float, sweep: "_Sweep", shown: int) -> None:
        """If there turned out to be much to do in the lane's first batches: as many as the Sweeper has looked at."""
        while sweep.seen in sweep.ready and sweep.seen < shown:
            sweep.started += sweep.ready.pop(sweep.seen)
            sweep.seen += 1
        if sweep.may_call and sweep.started >= self.setup.much:
            sweep.may_call = False
            for number in range(1, len(sweep.order) + 1):  # one call after the other
                self._at(now + number * LATENCY["invoke"] + LATENCY["queued"], self._invoke, True)

    def _start(self, now: float, sweep: "_Sweep", batch: "_Batch", attempt: int) -> None:
        if not batch.events or (now >= sweep.ends and attempt == 1):
            sweep.lane.failed += batch.events
            sweep.ready[batch.number] = batch.started
            # The Sweeper looks at the first batch's outcome when it has submitted twice as many as it has threads.
            self._call_helpers(now, sweep, sweep.batches - 2 * self.setup.threads + 1)
            self._at(now + LATENCY["DynamoDB"], self._next_batch, sweep)  # deleted
            return
        sweep.processor = max(sweep.processor, now) + LATENCY["start CPU"]
        called = sweep.processor
        if self.quota.take(called):
            self.started.append((called + LATENCY["start"] / 2, batch.events.pop()))
            self.left -= 1
            batch.started += 1
            self._at(called + LATENCY["start"], self._start, sweep, batch, 1)
        elif attempt < ATTEMPTS:
            self._at(called + LATENCY["start"] + _backoff(attempt), self._start, sweep, batch, attempt + 1)
        else:
            sweep.lane.failed.append(batch.events.pop())
            self._at(called + LATENCY["start"], self._start, sweep, batch, 1)


class _Sweep:
    """One Sweeper's sweep: the lanes before it, and of the lane in hand its batches, in the order of their number."""

    def __init__(self, ends: float, before: float, order: list[Lane], may_call: bool):
        self.ends, self.before, self.order, self.may_call = ends, before, order, may_call
        self.started, self.processor = 0, float("-inf")

    def begin(self, lane: Lane, batches: int, threads: int) -> None:
        self.lane, self.batches, self.busy = lane, batches, threads
        self.submitted = self.seen = 0
        self.ready: dict[int, int] = {}  # what each batch started


class _Batch:
    def __init__(self, number: int, events: list[float]):
        self.number, self.events, self.started = number, events, 0


# --- Near events: topic, queue, Ingest --------------------------------------------------------------------------------


def ingest(setup: Setup, events: int, published_at: float, due: float) -> tuple[list[tuple[float, float]], Bucket]:
    """Near events, published from that moment on as fast as SNS takes them: when each was started, and the quota."""
    at_first, more_a_minute, most = QUOTA["pollers"]
    quota, started = Bucket(setup.starts), []
    pollers = [published_at] * at_first
    heapq.heapify(pollers)
    added, taken, back = at_first, 0, []
    share = _resource("Ingest")["MemorySize"] / 1769  # of a processor
    while taken < events or back:
        now = heapq.heappop(pollers)
        while added < min(most, QUOTA["Lambda"], at_first + (now - published_at) * more_a_minute / 60):
            heapq.heappush(pollers, now + LATENCY["cold start"])
            added += 1
        arrived = min(events, int((now - published_at) * setup.publishes) + 1)
        batch = []
        while back and back[0][0] <= now and len(batch) < INGEST_BATCH:
            batch.append(heapq.heappop(back)[1])
        fresh = min(INGEST_BATCH - len(batch), arrived - taken)
        batch += [0] * fresh
        taken += fresh
        if not batch:
            next_at = now + 1 / setup.publishes if taken < events else back[0][0]
            heapq.heappush(pollers, max(next_at, now + 0.001))
            continue
        ends = now
        for number, receives in enumerate(batch):
            called = now + LATENCY["SQS"] + (number + 1) * (LATENCY["parse"] + LATENCY["start CPU"]) / share
            for attempt in range(1, ATTEMPTS + 1):
                if quota.take(called):
                    started.append((called + LATENCY["start"] / 2, due))
                    break
                called += LATENCY["start"] + (_backoff(attempt) if attempt < ATTEMPTS else 0)
            else:
                heapq.heappush(back, (called + 2 ** min(receives + 1, 10), receives + 1))
            ends = max(ends, called + LATENCY["start"])
        heapq.heappush(pollers, ends + LATENCY["SQS"])
    return started, quota


# --- Deliver: the register, SNS, and the reports of what was not delivered --------------------------------------------

BIN = 0.01  # Executions by the hundredth of a second: all that happens in one of these shares its tokens fairly.
STAGES = (("looked up", LOOK_UP), ("delivered", PUBLISH), ("reported", REPORT), ("told to the operator", OPERATOR))


@dataclasses.dataclass
class Outcome:
    """What became of the events. Lateness in seconds, of those that were delivered."""

    lateness: list[float]
    ends: Counter  # delivered, reported, told to the operator, buried
    unchecked: int  # delivered without a look at the register, which throttled
    throttled: dict[str, int]
    last_start: float  # against its due time
    sweepers: int = 0  # at once, at the most

    def quantile(self, q: float) -> float:
        ordered = self.lateness
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")

    @property
    def saturated(self) -> str:
        """What ran out, in the order of an event's way."""
        found = [name for name, number in self.throttled.items() if number]
        if self.last_start > 0 and not self.throttled["StartExecution"]:
            found.insert(0, "sweepers" if self.sweepers else "pollers")
        return ", ".join(found) or "nothing"


def deliver(setup: Setup, started: list[tuple[float, float]], throttled_starts: int, sweepers: int = 0) -> Outcome:
    """Every started execution, to its end."""
    register, sns = Bucket(setup.reads), Bucket(setup.publishes)
    bins: dict[int, Counter] = {}
    order: list[int] = []

    def at(time: float, stage: int, attempt: int, due: float, number: int = 1) -> None:
        key = int(time / BIN)
        if key not in bins:
            bins[key] = Counter()
            heapq.heappush(order, key)
        bins[key][stage, attempt, due] += number

    for when, due in started:
        at(max(when + LATENCY["transition"], math.floor(due - CUTOFF)), 0, 0, due)
    lateness: Counter = Counter()
    ends: Counter = Counter()
    unchecked = 0
    while order:
        key = heapq.heappop(order)
        now = key * BIN
        here = bins.pop(key)
        for bucket, stages in ((register, (0,)), (sns, (1, 2, 3))):
            calls = {call: number for call, number in here.items() if call[0] in stages}
            asked = sum(calls.values())
            passing = bucket.take(now, asked)
            for (stage, attempt, due), number in calls.items():
                passed = number if passing >= asked else min(passing, round(number * passing / asked))
                passing, asked = passing - passed, asked - number
                if passed:
                    if stage == 0:
                        looked_up = now + LATENCY["DynamoDB"] + 3 * LATENCY["transition"]
                        at(max(looked_up, due + LATENCY["transition"]), 1, 0, due, passed)
                    else:
                        ends[STAGES[stage][0]] += passed
                        if stage == 1:
                            lateness[now + LATENCY["SNS"] - due] += passed
                rest = number - passed
                if not rest:
                    continue
                retry = STAGES[stage][1]
                if attempt < retry["MaxAttempts"]:
                    longest = min(retry["MaxDelaySeconds"], retry["IntervalSeconds"] * retry["BackoffRate"] ** attempt)
                    pieces = min(rest, 500) if retry["JitterStrategy"] == "FULL" else 1
                    for piece in range(pieces):
                        share = rest // pieces + (piece < rest % pieces)
                        part = random.random() if pieces > 1 or retry["JitterStrategy"] == "FULL" else 1.0
                        at(now + BIN + longest * part, stage, attempt + 1, due, share)
                elif stage == 0:  # The register can't be read: the event is delivered.
                    unchecked += rest
                    at(max(now + BIN, due + LATENCY["transition"]), 1, 0, due, rest)
                elif stage < 3:
                    at(now + BIN, stage + 1, 0, due, rest)
                else:
                    ends["buried"] += rest
    throttled = {
        "StartExecution": throttled_starts,
        "register reads": register.throttled,
        "SNS Publish": sns.throttled,
    }
    ordered = sorted(lateness.elements())
    return Outcome(ordered, ends, unchecked, throttled, max(when - due for when, due in started), sweepers)


# --- Scenarios --------------------------------------------------------------------------------------------------------


def far_burst(setup: Setup, events: int) -> Outcome:
    """Parked events, all due at 0, at the worst moment: the sweep before the first that finds them just missed them."""
    swept = _swept(dataclasses.replace(setup, reads=0, publishes=0), events)  # what sweepers know nothing of
    random.seed(events)
    return deliver(setup, *swept)


@cache
def _swept(setup: Setup, events: int) -> tuple[list[tuple[float, float]], int, int]:
    random.seed(events)
    sweeps = Sweeps(setup, [0.0] * events, setup.interval - setup.seconds + 0.01)
    return sweeps.run(), sweeps.quota.throttled, sweeps.most


def near_burst(setup: Setup, events: int) -> Outcome:
    """Events due at 0, published from the horizon on."""
    random.seed(events)
    started, quota = ingest(setup, events, -float(setup.seconds), 0.0)
    return deliver(setup, started, quota.throttled)


def far_flow(setup: Setup, rate: float, at_the_minute: bool, seconds: int = 240) -> Outcome:
    """Parked events at an even rate; or as many to a minute, all due at its first second."""
    random.seed(int(rate))
    if at_the_minute:
        dues = [60.0 * (number + 1) for number in range(seconds // 60) for _ in range(int(rate * 60))]
    else:
        dues = [float(int(number / rate)) for number in range(int(rate * seconds))]
    sweeps = Sweeps(setup, dues, -setup.seconds)
    return deliver(setup, sweeps.run(), sweeps.quota.throttled, sweeps.most)


HEADS = ["p50, s", "p99, s", "max, s", "last start, s", "sweepers at once", "saturated", "not delivered", "unchecked"]


def _row(outcome: Outcome) -> list[str]:
    failed = sum(outcome.ends.values()) - outcome.ends["delivered"]
    return [
        *(f"{outcome.quantile(q):.2f}" for q in (0.5, 0.99, 1)),
        f"{outcome.last_start:+.1f}",
        str(outcome.sweepers or "-"),
        outcome.saturated,
        f"{failed:,}",
        f"{outcome.unchecked:,}",
    ]


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows])


def tables() -> str:
    """Every table of docs/scale.md, as Markdown."""
    shipped = Setup()
    flows = []
    for a_month in (100e6, 500e6):
        mean, peak = a_month / 30 / 86_400, a_month / 30 / 2 / 7_200
        for name, rate, at_the_minute in (
            ("even", mean, False),
            ("peak: half of a day's events in two hours", peak, False),
            ("peak, all at the first second of a minute", peak, True),
        ):
            flow = far_flow(shipped, rate, at_the_minute, 180)
            flows.append([f"{a_month / 1e6:.0f} M", name, f"{rate:,.0f}", *_row(flow)])
    bursts = [
        [f"{events:,}", kind, *_row(run(shipped, events))]
        for events in (30_000, 100_000, 1_000_000)
        for kind, run in (("parked", far_burst), ("published near", near_burst))
    ]
    regions = [
        [f"{events:,}", region, f"{quota:,}", *_row(far_burst(dataclasses.replace(shipped, publishes=quota), events))]
        for events in (30_000, 100_000)
        for region, quota in PUBLISHES.items()
    ]
    reads, starts = {"reads": 100_000}, {"starts": 15_000}
    knobs = [
        [f"{events:,}", name, *_row(far_burst(Setup(**change), events))]
        for events, name, change in (
            (30_000, "sweepers call no helpers", {"much": math.inf}),
            (30_000, "`SweepIntervalSeconds=5`", {"interval": 5}),
            (30_000, "`SweepIntervalSeconds=60`", {"interval": 60}),
            (30_000, "100,000 reads a second", reads),
            (100_000, "100,000 reads a second", reads),
            (100_000, "the same, `StartExecution` 15,000 a second", reads | starts),
            (100_000, "the same, 64 lanes", reads | starts | {"lanes": 64}),
            (1_000_000, "the same, 64 lanes", reads | starts | {"lanes": 64}),
        )
    ]
    at_once = ["events due at once"]
    return "\n\n".join(
        f"### {title}\n\n{_markdown([*heads, *HEADS], rows)}"
        for title, heads, rows in (
            ("A month's events, parked, as shipped, us-east-1", ["a month", "shape", "events a second"], flows),
            ("One second's events, as shipped, us-east-1", [*at_once, "how"], bursts),
            ("The same, parked, by Region", [*at_once, "Region", "SNS Publish a second"], regions),
            ("What it takes", [*at_once, "changed"], knobs),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=["tables", "document"], default="tables")
    parser.add_argument("--events", type=int, help="parked events due at the same second: only these, as given below")
    for field in dataclasses.fields(Setup):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    arguments = vars(parser.parse_args())
    action, events = arguments.pop("action"), arguments.pop("events")
    if action == "document":
        renew(DOCUMENT, tables())
    elif events:
        print(_markdown(HEADS, [_row(far_burst(Setup(**arguments), events))]))
    else:
        print(tables())


if __name__ == "__main__":
    main()
