"""How late events are if very many are due at once: a model in steps of time under AWS's published quotas. Nothing was
measured on AWS. `make scale` prints its tables.

The Sweeper's rules are those of functions/punctual_core/sweeper.py: lanes under leases, invocations of one processor
each, at a tick or for one lane. Times are in seconds; 0 is the moment at which a burst is due.
"""

import itertools
import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import click
from punctual_core.lanes import LANES
from punctual_core.parking import MAX_DELETES
from punctual_core.times import CUTOFF_LEAD

from tools.cloudformation import Template
from tools.documents import markdown_table
from tools.shipped import sweeper

STEP = 0.05
TEMPLATE = Template()
INTERVAL = int(TEMPLATE.environment("Sweeper")["HORIZON_SECONDS"]) - 3
HORIZON, LOOK_AHEAD = INTERVAL + 3, sweeper.LOOK_AHEAD.total_seconds()
# From the begin of an invocation: until when it starts events, and until when it deletes them.
STARTS_END = TEMPLATE.function("Sweeper")["Timeout"] - sweeper.DEADLINE_MARGIN_SECONDS
DELETES_END = TEMPLATE.function("Sweeper")["Timeout"] - sweeper.RELEASE_SECONDS

# Believed: how long things take.
INVOKE, QUEUED = 0.1, 0.15  # until a tick's invocation runs, until one that was called asynchronously does
LOOK = 0.05  # the queries of a lane, and its lease
TRANSITION, PUBLISH = 0.01, 0.03
STARTS_PER_SECOND = 500  # of one processor: 1.5 ms in botocore, and its share of reading and deleting
PATIENT_DELETES = 750  # a second, of one lane: one call of 25 and its pause

# SNS: publishes a second, by Region. (https://docs.aws.amazon.com/general/latest/gr/sns.html)
PUBLISHES = {"us-east-1": 30_000, "us-west-2, eu-west-1": 9_000, "large others": 1_500, "small others": 300}


@dataclass(frozen=True)
class Setup:
    """Quotas of a new stack in us-east-1 (calls a second, and at once), and what goes wrong."""

    starts: float = 6_000  # StartExecution, Express, in every large Region
    reads: float = 12_000  # of Register: a new on-demand table
    writes: float = 4_000  # of Parked: the same
    partitions: int = 4  # of Parked, which writes imply; which lanes share one is left to chance
    partition_writes: float = 1_000
    publishes: float = PUBLISHES["us-east-1"]
    cold_start: float = 1.0
    is_sweep_missed: bool = False  # the one that would find the events
    lost: int = 0  # invocations of a lane's own


class Quota:
    """So many calls a second, and as many at once. It throttles; it does not queue."""

    def __init__(self, rate: float):
        self.rate = self.tokens = rate
        self.throttled = 0.0

    def refill(self) -> None:
        self.tokens = min(self.rate, self.tokens + self.rate * STEP)

    def take(self, wanted: int) -> int:
        """How many of these calls pass at this moment."""
        passed = min(wanted, int(self.tokens))
        self.tokens -= passed
        self.throttled += wanted - passed
        return passed


@dataclass
class Lane:
    """Its events by their due times, the earliest first, and the sweep that holds its lease."""

    partition: Quota
    waiting: deque[tuple[float, int]] = field(default_factory=deque)
    again: int = 0  # events that were started, and could not be deleted
    undeleted: int = 0  # those of the sweep that holds the lease
    holder: "Invocation | None" = None
    before: float = 0.0
    starts_end: float = 0.0
    deletes_end: float | None = None  # once nothing more is started

    def due(self, before: float) -> int:
        return self.again + sum(count for due, count in self.waiting if due < before)

    def take(self, wanted: int, before: float) -> list[tuple[float, int]]:
        """The next events to start."""
        taken = []
        while wanted and self.waiting and self.waiting[0][0] < before:
            due, count = self.waiting.popleft()
            number = min(count, wanted)
            wanted -= number
            taken.append((due, number))
            if number < count:
                self.waiting.appendleft((due, count - number))
        return taken


@dataclass(eq=False)
class Invocation:
    """One processor of the Sweeper, for all lanes or for one."""

    begun: float
    lane: Lane | None
    # Lanes to look at, when, and until when to start their events.
    looks: list[tuple[float, Lane, float]] = field(default_factory=list)
    budget: float = 0.0


@dataclass
class Outcome:
    """The result of a run. Lateness by how many events have it."""

    lateness: Counter[float] = field(default_factory=Counter)
    last_start: float = -math.inf  # seconds after its due time
    sweepers: int = 0  # at the same time, at most
    retried: int = 0  # parked again at least once, because SNS throttled
    repeated: int = 0  # starts of events that were started before
    unchecked: int = 0  # delivered although the register could not be read
    limits: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """The lateness that this share of the events has at most."""
        left = share * self.lateness.total()
        for late, events in sorted(self.lateness.items()):
            left -= events
            if left <= 0:
                return late
        return math.nan


class Model:
    """One run. `dues` are events by their due times; the first tick is at `begin`."""

    def __init__(self, setup: Setup, dues: Counter[float], begin: float, seed: int = 0):
        self.setup, self.random, self.now, self.begin = setup, random.Random(seed), begin, begin
        self.outcome, self.events = Outcome(), dues.total()
        self.quotas = {
            "StartExecution": Quota(setup.starts),
            "table writes": Quota(setup.writes),
            "register reads": Quota(setup.reads),
            "SNS publishes": Quota(setup.publishes),
        }
        self.partitions = [Quota(setup.partition_writes) for _ in range(setup.partitions)]
        self.lanes = [Lane(self.random.choice(self.partitions)) for _ in range(LANES)]
        for due, count in sorted(dues.items()):
            for number, lane in enumerate(self.lanes):
                share = self.random.binomialvariate(count, 1 / (LANES - number))
                count -= share
                if share:
                    lane.waiting.append((due, share))
        self.running: list[Invocation] = []
        self.lost = 0
        # Calls of executions by step: the stage, the attempt, and the due time.
        self.calls: defaultdict[int, Counter[tuple[str, int, float]]] = defaultdict(Counter)

    def run(self, cold_tick: int, missed_tick: int | None = None) -> Outcome:
        """Let time pass until every event is delivered and deleted."""
        for step in itertools.count():
            self.now = self.begin + step * STEP
            for quota in (*self.quotas.values(), *self.partitions):
                quota.refill()
            tick, rest = divmod(step, round(INTERVAL / STEP))
            if not rest and tick != missed_tick:
                self._invoke(INVOKE, is_cold=tick == cold_tick)
            for invocation in self.random.sample(self.running, len(self.running)):
                self._work(invocation)
            self._deliver(self.calls.pop(self._step(self.now), Counter()))
            is_parked = any(lane.waiting or lane.again or lane.undeleted for lane in self.lanes)
            if self.outcome.lateness.total() == self.events and not is_parked:
                break
        limits = [name for name, quota in self.quotas.items() if quota.throttled]
        if sum(partition.throttled for partition in self.partitions) and "table writes" not in limits:
            limits.append("table writes")
        self.outcome.limits = limits or ["Sweeper"] * (self.outcome.last_start > 0)
        return self.outcome

    # The Sweeper

    def _invoke(self, delay: float, lane: Lane | None = None, is_cold: bool = False) -> None:
        is_cold = is_cold or len(self.running) >= max(self.outcome.sweepers, 1)
        invocation = Invocation(self.now + delay + is_cold * self.setup.cold_start, lane)
        looks = [lane] if lane else self.lanes
        invocation.looks = [(invocation.begun + LOOK, one, invocation.begun + STARTS_END) for one in looks]
        self.running.append(invocation)
        self.outcome.sweepers = max(self.outcome.sweepers, len(self.running))

    def _work(self, invocation: Invocation) -> None:
        looks, invocation.looks = invocation.looks, []
        for at, lane, starts_end in looks:
            if at > self.now:
                invocation.looks.append((at, lane, starts_end))
            else:
                self._look(invocation, lane, starts_end, is_first=at <= invocation.begun + LOOK)
        held = [lane for lane in self.lanes if lane.holder is invocation]
        self.random.shuffle(held)
        invocation.budget = min(invocation.budget + STARTS_PER_SECOND * STEP, STARTS_PER_SECOND * STEP * 2)
        for number, lane in enumerate(held):
            self._sweep(invocation, lane, math.ceil(invocation.budget / (len(held) - number)))
        if not invocation.looks and not held:
            self.running.remove(invocation)

    def _look(self, invocation: Invocation, lane: Lane, starts_end: float, is_first: bool) -> None:
        horizon = self.now + HORIZON
        seen, first = lane.due(horizon), lane.due(horizon)
        is_crowded = False
        for due, count in lane.waiting:
            if horizon <= due < horizon + LOOK_AHEAD:
                seen = min(seen + count, sweeper.MAX_KEYS)
                is_crowded |= seen - first > sweeper.LANE_STARTS_PER_SECOND * (due - horizon + 1)
        before = horizon + is_crowded * LOOK_AHEAD
        if not lane.due(before):
            return
        if lane.due(before) >= sweeper.MANY_STARTS and not invocation.lane and is_first:
            self.lost += 1
            if self.lost > self.setup.lost:
                self._invoke(QUEUED, lane)
            again_at = self.now + sweeper.INVOCATION_SECONDS
            invocation.looks.append((again_at, lane, again_at + sweeper.PATIENCE_SECONDS))
        elif lane.holder is None:
            lane.holder, lane.before, lane.starts_end, lane.deletes_end = invocation, before, starts_end, None

    def _sweep(self, invocation: Invocation, lane: Lane, share: int) -> None:
        """One step of a lane's sweep: starts, and deletes of what was started."""
        room = sweeper.MAX_UNDELETED + MAX_DELETES - lane.undeleted
        wanted = min(share, room, lane.due(lane.before), int(invocation.budget)) if self.now < lane.starts_end else 0
        started = self.quotas["StartExecution"].take(max(wanted, 0))
        invocation.budget -= started
        repeated = min(started, lane.again)
        lane.again -= repeated
        self.outcome.repeated += repeated
        for due, count in lane.take(started - repeated, lane.before):
            self.outcome.last_start = max(self.outcome.last_start, self.now - due)
            cutoff = math.floor(due - CUTOFF_LEAD.total_seconds())
            self._call("read", 0, due, count, max(self.now + TRANSITION, cutoff))
        is_over = self.now >= lane.starts_end or not lane.due(lane.before)
        is_patient = is_over or lane.undeleted > sweeper.MAX_UNDELETED
        patient = min(lane.undeleted, round(PATIENT_DELETES * STEP)) * is_patient
        passed = lane.partition.take(started + patient)
        deleted = self.quotas["table writes"].take(passed)
        lane.partition.tokens += passed - deleted
        lane.undeleted += started - deleted
        if is_over:
            last = min(self.now + sweeper.LAST_DELETES_SECONDS, invocation.begun + DELETES_END)
            lane.deletes_end = lane.deletes_end or last
            if not lane.undeleted or self.now >= lane.deletes_end:
                lane.again, lane.undeleted, lane.holder = lane.again + lane.undeleted, 0, None

    # Deliver: a read of the register with one retry, a publish with three, then the slots of parked retries

    def _step(self, at: float) -> int:
        return round((at - self.begin) / STEP)

    def _call(self, stage: str, attempt: int, due: float, count: int, at: float, spread: float = 0) -> None:
        """Have executions make a call then, or at random within `spread` seconds after that."""
        parts = min(count, 20) if spread else min(count, 1)
        for part in range(parts):
            step = max(self._step(at + spread * (part + 0.5) / parts), self._step(self.now) + 1)
            self.calls[step][stage, attempt, due] += count // parts + (part < count % parts)

    def _deliver(self, calls: Counter[tuple[str, int, float]]) -> None:
        wanted = Counter({"read": 0, "publish": 0})
        for (stage, _, _), count in calls.items():
            wanted[stage] += count
        passing = {
            "read": self.quotas["register reads"].take(wanted["read"]),
            "publish": self.quotas["SNS publishes"].take(wanted["publish"]),
        }
        for (stage, attempt, due), count in calls.items():
            passed = round(count * passing[stage] / wanted[stage])
            passing[stage], wanted[stage] = passing[stage] - passed, wanted[stage] - count
            failed = count - passed
            if stage == "read":
                self.outcome.unchecked += failed * (attempt == 1)
                self._call("publish", 0, due, passed + failed * (attempt == 1), max(self.now + TRANSITION, due))
                self._call("read", 1, due, failed * (attempt == 0), self.now + 1)
                continue
            self.outcome.lateness[round(max(self.now - due, TRANSITION) + PUBLISH, 2)] += passed
            if attempt % 4 < 3:
                self._call("publish", attempt + 1, due, failed, self.now, spread=2.0 ** (attempt % 4))
            else:
                self.outcome.retried += failed * (attempt == 3)
                self._retry_later(attempt + 1, due, failed)

    def _retry_later(self, attempt: int, due: float, count: int) -> None:
        """Park events for the first of their slots that is 10 s ahead."""
        parts = min(count, 20)
        for part in range(parts):
            unit = 15 + 15 * (part + 0.5) / parts
            slots = (due + unit * (2.0**slot - 1 if slot <= 5 else 31 + 30 * (slot - 5)) for slot in itertools.count(1))
            at = next(slot for slot in slots if slot >= self.now + 10)
            self._call("publish", attempt, due, count // parts + (part < count % parts), at)


def burst(events: int, setup: Setup | None = None, chances: int = 4) -> Outcome:
    """Events that were parked long ago and are all due at 0, in the worst case.

    A sweep has just missed them, because they were due just after its horizon or its look-ahead, or because their lanes
    were just not crowded; the next begins with a cold start. `chances` is how many ways to take the worst of, in which
    lanes share partitions.
    """
    setup = setup or Setup()
    not_crowded = events / LANES / sweeper.LANE_STARTS_PER_SECOND - 1
    ends = {0.0, LOOK_AHEAD} | {share * not_crowded for share in (0.9, 1, 1.25) if 0 < share * not_crowded < LOOK_AHEAD}
    outcomes = []
    for end, seed in itertools.product(sorted(ends), range(chances)):
        earlier = math.ceil((LOOK_AHEAD - end) / INTERVAL)  # ticks
        begin = -HORIZON - end - INVOKE - LOOK - 3 * STEP - earlier * INTERVAL
        missed = earlier + 1 if setup.is_sweep_missed else None
        model = Model(setup, Counter({0.0: events}), begin, seed)
        outcomes.append(model.run(cold_tick=earlier + 1 + setup.is_sweep_missed, missed_tick=missed))
    return max(outcomes, key=lambda outcome: (outcome.quantile(0.99), outcome.last_start))


def flow(rate: float, at_the_minute: bool, seconds: int = 180) -> Outcome:
    """Parked events at an even rate; or as many, but all due in the first second of their minute."""
    if at_the_minute:
        dues = Counter({60.0 * minute: round(rate * 60) for minute in range(1, seconds // 60 + 1)})
    else:
        dues = Counter(float(int(number / rate)) for number in range(round(rate * seconds)))
    return Model(Setup(), dues, -HORIZON - LOOK_AHEAD).run(cold_tick=0)


# --- Tables -----------------------------------------------------------------------------------------------------------

HEADS = ["p50, s", "p99, s", "max, s", "last start, s", "sweepers", "what limits", "retried", "repeated", "unchecked"]
TROUBLES: dict[str, dict[str, Any]] = {
    "a cold start takes 2 s": {"cold_start": 2.0},
    "the sweep that would find them fails": {"is_sweep_missed": True},
    "one invocation of a lane's own is lost": {"lost": 1},
    "others use half of `StartExecution`": {"starts": 3_000},
}
WARM = {"writes": 16_000, "partitions": 16, "reads": 100_000}
CHANGES: dict[str, dict[str, Any]] = {
    "warm throughput for both tables": WARM,
    "also 15,000 `StartExecution` a second": WARM | {"starts": 15_000},
}


def _row(outcome: Outcome) -> list[str]:
    return [
        *(f"{outcome.quantile(share):.2f}" for share in (0.5, 0.99, 1)),
        f"{outcome.last_start:+.1f}",
        str(outcome.sweepers),
        ", ".join(outcome.limits) or "nothing",
        *(f"{count:,}" for count in (outcome.retried, outcome.repeated, outcome.unchecked)),
    ]


def _table(rows: Sequence[tuple[int, str, Mapping[str, Any]]], name: str) -> str:
    made = [
        [f"{events:,}", text, *_row(burst(events, replace(Setup(), **changes), 4 if events <= 30_000 else 1))]
        for events, text, changes in rows
    ]
    return markdown_table(["events due at once", name, *HEADS], made)


def months_table() -> str:
    """Busy months, evenly and in peaks."""
    rows = []
    for events in (100e6, 500e6):
        for name, rate, at_the_minute in (
            ("even", events / 30 / 86_400, False),
            ("half of a day's events in two hours", events / 30 / 2 / 7_200, False),
            ("the same, on whole minutes", events / 30 / 2 / 7_200, True),
        ):
            rows.append([f"{events / 1e6:.0f} M", name, f"{rate:,.0f}", *_row(flow(rate, at_the_minute))])
    return markdown_table(["events a month", "shape", "a second", *HEADS], rows)


@click.command()
def main() -> None:
    """How late events are in bursts and in busy months, under AWS's published quotas."""
    sizes = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000)
    click.echo(_table([(events, "", {}) for events in sizes], "") + "\n")
    troubles = [(events, name, changes) for events in (1_000, 10_000, 30_000) for name, changes in TROUBLES.items()]
    click.echo(_table(troubles, "trouble") + "\n")
    regions = [(30_000, name, {"publishes": publishes}) for name, publishes in PUBLISHES.items()]
    click.echo(_table(regions, "Region") + "\n")
    changes = [(events, name, change) for events in (30_000, 100_000) for name, change in CHANGES.items()]
    click.echo(_table(changes, "changed") + "\n")
    click.echo(months_table())


if __name__ == "__main__":
    main(prog_name="python -m tools.bursts")
