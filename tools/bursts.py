"""How late events are if very many are due at once: a model in steps of time under AWS's published quotas. Nothing was
measured on AWS. `make scale` prints its table.

The Sweeper's rules are those of functions/punctual_core/sweeper.py: lanes under leases, invocations of one processor
each, at a tick or for one lane. Times are in seconds; 0 is the moment at which a burst is due.
"""

import itertools
import math
import random
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Setup:
    """Quotas of a new stack in us-east-1 (calls a second, and at once), and what goes wrong."""

    starts: float = 6_000  # StartExecution, Express, in every large Region
    reads: float = 12_000  # of Register: a new on-demand table
    writes: float = 4_000  # of Parked: the same
    partitions: int = 4  # of Parked, which writes imply; which lanes share one is left to chance
    partition_writes: float = 1_000
    publishes: float = 30_000  # https://docs.aws.amazon.com/general/latest/gr/sns.html
    cold_start: float = 1.0
    is_sweep_missed: bool = False  # the one that would find the events


class Quota:
    """So many calls a second, and as many at once. It throttles; it does not queue."""

    def __init__(self, rate: float):
        self.rate = self.tokens = rate
        self.has_throttled = False  # whether it has throttled

    def refill(self) -> None:
        self.tokens = min(self.rate, self.tokens + self.rate * STEP)

    def take(self, wanted: int) -> int:
        """How many of these calls pass at this moment."""
        passed = min(wanted, int(self.tokens))
        self.tokens -= passed
        self.has_throttled |= passed < wanted
        return passed


@dataclass
class Lane:
    """Its events, and the sweep that holds its lease."""

    partition: Quota
    waiting: int
    again: int = 0  # events that were started, and could not be deleted
    undeleted: int = 0  # those of the sweep that holds the lease
    holder: "Invocation | None" = None
    starts_end: float = 0.0
    deletes_end: float | None = None  # once nothing more is started

    @property
    def events(self) -> int:
        """Those that the table has, but for those of the sweep that holds the lease."""
        return self.waiting + self.again


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
    repeated: int = 0  # starts of events that were started before
    unchecked: int = 0  # delivered although the register could not be read
    throttled: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """The lateness that this share of the events has at most."""
        late, events = zip(*sorted(self.lateness.items()), strict=True)
        return float(late[bisect_left([*itertools.accumulate(events)], share * self.lateness.total())])


class Model:
    """One run: so many events, all due at 0. The first tick is at `begin`."""

    def __init__(self, setup: Setup, events: int, begin: float, seed: int = 0):
        self.setup, self.random, self.now, self.begin = setup, random.Random(seed), begin, begin
        self.outcome, self.events = Outcome(), events
        self.quotas = {
            "StartExecution": Quota(setup.starts),
            "register reads": Quota(setup.reads),
            "table writes": Quota(setup.writes),
            "SNS publishes": Quota(setup.publishes),
        }
        self.partitions = [Quota(setup.partition_writes) for _ in range(setup.partitions)]
        self.lanes = [Lane(self.random.choice(self.partitions), 0) for _ in range(LANES)]
        for number, lane in enumerate(self.lanes):
            lane.waiting = self.random.binomialvariate(events, 1 / (LANES - number))
            events -= lane.waiting
        self.running: list[Invocation] = []
        self.most_running = 1
        # Calls of executions by step: whether they read or publish, and the attempt.
        self.calls: defaultdict[int, Counter[tuple[str, int]]] = defaultdict(Counter)

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
            self._deliver(self.calls.pop(step, Counter()))
            is_parked = any(lane.events or lane.undeleted for lane in self.lanes)
            if self.outcome.lateness.total() == self.events and not is_parked:
                break
        self.quotas["table writes"].has_throttled |= any(partition.has_throttled for partition in self.partitions)
        self.outcome.throttled = [name for name, quota in self.quotas.items() if quota.has_throttled]
        return self.outcome

    # The Sweeper

    def _invoke(self, delay: float, lane: Lane | None = None, is_cold: bool = False) -> None:
        is_cold = is_cold or len(self.running) >= self.most_running
        begun = self.now + delay + is_cold * self.setup.cold_start
        looks = [(begun + LOOK, one, begun + STARTS_END) for one in ([lane] if lane else self.lanes)]
        self.running.append(Invocation(begun, lane, looks))
        self.most_running = max(self.most_running, len(self.running))

    def _work(self, invocation: Invocation) -> None:
        looks, invocation.looks = invocation.looks, []
        for look in looks:
            if look[0] > self.now:
                invocation.looks.append(look)
            else:
                self._look(invocation, *look)
        held = [lane for lane in self.lanes if lane.holder is invocation]
        self.random.shuffle(held)
        invocation.budget = min(invocation.budget + STARTS_PER_SECOND * STEP, STARTS_PER_SECOND * STEP * 2)
        for number, lane in enumerate(held):
            self._sweep(invocation, lane, math.ceil(invocation.budget / (len(held) - number)))
        if not invocation.looks and not held:
            self.running.remove(invocation)

    def _look(self, invocation: Invocation, at: float, lane: Lane, starts_end: float) -> None:
        ahead = -self.now - HORIZON  # of the horizon the events are due
        is_crowded = min(lane.events, sweeper.MAX_KEYS) > sweeper.LANE_STARTS_PER_SECOND * (ahead + 1)
        if not lane.events or ahead >= is_crowded * LOOK_AHEAD:
            return
        if lane.events >= sweeper.MANY_STARTS and not invocation.lane and at <= invocation.begun + LOOK:
            self._invoke(QUEUED, lane)
            again_at = self.now + sweeper.INVOCATION_SECONDS
            invocation.looks.append((again_at, lane, again_at + sweeper.PATIENCE_SECONDS))
        elif lane.holder is None:
            lane.holder, lane.starts_end, lane.deletes_end = invocation, starts_end, None

    def _sweep(self, invocation: Invocation, lane: Lane, share: int) -> None:
        """One step of a lane's sweep: starts, and deletes of what was started."""
        room = max(sweeper.MAX_UNDELETED + MAX_DELETES - lane.undeleted, 0)
        has_time = self.now < lane.starts_end
        started = self.quotas["StartExecution"].take(has_time * min(share, room, lane.events, int(invocation.budget)))
        invocation.budget -= started
        repeated = min(started, lane.again)
        self.outcome.repeated += repeated
        lane.again -= repeated
        if first := started - repeated:
            lane.waiting -= first
            self.outcome.last_start = max(self.outcome.last_start, self.now)
            self._call("read", 0, first, max(self.now + TRANSITION, math.floor(-CUTOFF_LEAD.total_seconds())))
        is_over = not has_time or not lane.events
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

    def _call(self, stage: str, attempt: int, count: int, at: float, spread: float = 0) -> None:
        """Have executions make a call then, or at random within `spread` seconds after that."""
        first, parts = round((self.now - self.begin) / STEP) + 1, min(count, 20 if spread else 1)
        for part in range(parts):
            step = round((at + spread * (part + 0.5) / parts - self.begin) / STEP)
            self.calls[max(step, first)][stage, attempt] += count // parts + (part < count % parts)

    def _deliver(self, calls: Counter[tuple[str, int]]) -> None:
        for stage, quota in ("read", "register reads"), ("publish", "SNS publishes"):
            of_stage = {attempt: count for (of, attempt), count in calls.items() if of == stage}
            wanted = sum(of_stage.values())
            passing = self.quotas[quota].take(wanted)
            for attempt, count in of_stage.items():
                passed = round(count * passing / wanted)
                passing, wanted = passing - passed, wanted - count
                self._answer(stage, attempt, passed, count - passed)

    def _answer(self, stage: str, attempt: int, passed: int, failed: int) -> None:
        if stage == "read":
            unchecked = failed * (attempt == 1)
            self.outcome.unchecked += unchecked
            self._call("publish", 0, passed + unchecked, max(self.now + TRANSITION, 0))
            self._call("read", 1, failed - unchecked, self.now + 1)
            return
        self.outcome.lateness[round(max(self.now, TRANSITION) + PUBLISH, 2)] += passed
        if attempt % 4 < 3:
            self._call("publish", attempt + 1, failed, self.now, spread=2.0 ** (attempt % 4))
            return
        parts = min(failed, 20)
        for part in range(parts):  # They are parked for the first of their slots that is 10 s ahead.
            unit = 15 + 15 * (part + 0.5) / parts
            slots = (unit * (2.0**slot - 1 if slot <= 5 else 31 + 30 * (slot - 5)) for slot in itertools.count(1))
            at = next(slot for slot in slots if slot >= self.now + 10)
            self._call("publish", attempt + 1, failed // parts + (part < failed % parts), at)


def burst(events: int, setup: Setup | None = None, chances: int = 4) -> Outcome:
    """Events that were parked long ago and are all due at 0, in the worst case.

    A sweep has just missed them, because they were due just after its horizon or its look-ahead, or because their lanes
    were just not crowded; the next begins with a cold start. `chances` is how many ways to take the worst of, in which
    lanes share partitions. What is repeated or unchecked may be most in another of them than lateness is.
    """
    setup = setup or Setup()
    not_crowded = events / LANES / sweeper.LANE_STARTS_PER_SECOND - 1
    ends = {0.0, LOOK_AHEAD} | {share * not_crowded for share in (0.9, 1, 1.25) if 0 < share * not_crowded < LOOK_AHEAD}
    outcomes = []
    for end, seed in itertools.product(sorted(ends), range(chances)):
        earlier = math.ceil((LOOK_AHEAD - end) / INTERVAL)  # ticks
        begin = -HORIZON - end - INVOKE - LOOK - 3 * STEP - earlier * INTERVAL
        missed = earlier + 1 if setup.is_sweep_missed else None
        model = Model(setup, events, begin, seed)
        outcomes.append(model.run(cold_tick=earlier + 1 + setup.is_sweep_missed, missed_tick=missed))
    worst = max(outcomes, key=lambda outcome: (outcome.quantile(0.99), outcome.last_start))
    worst.repeated = max(outcome.repeated for outcome in outcomes)
    worst.unchecked = max(outcome.unchecked for outcome in outcomes)
    return worst


BURSTS: list[tuple[int, str, Setup]] = [
    (1_000, "-", Setup()),
    (1_000, "the sweep that would find them fails", Setup(is_sweep_missed=True)),
    (10_000, "-", Setup()),
    (13_889, "100 M a month, half of each day in two hours, on whole minutes", Setup()),
    (30_000, "-", Setup()),
    (30_000, "a cold start takes 2 s", Setup(cold_start=2)),
    (30_000, "the sweep that would find them fails", Setup(is_sweep_missed=True)),
    (30_000, "us-west-2, eu-west-1: 9,000 publishes a second", Setup(publishes=9_000)),
    (30_000, "small Regions: 300 publishes a second", Setup(publishes=300)),
    (30_000, "warm throughput for both tables", Setup(writes=16_000, partitions=16, reads=100_000)),
    (69_444, "500 M a month, in the same way", Setup()),
    (100_000, "-", Setup()),
    (1_000_000, "-", Setup()),
]


def table() -> str:
    """The table of docs/evidence.md."""
    rows = []
    for events, text, setup in BURSTS:
        outcome = burst(events, setup)
        lateness = [f"{outcome.quantile(share):.2f}" for share in (0.5, 0.99, 1)]
        counts = [f"{count:,}" for count in (outcome.repeated, outcome.unchecked)]
        rows.append([f"{events:,}", text, *lateness, ", ".join(outcome.throttled) or "nothing", *counts])
    heads = ["events due at once", "what is different", "p50, s", "p99, s", "max, s", "throttled"]
    return markdown_table([*heads, "repeated", "unchecked"], rows)


if __name__ == "__main__":
    print(table())
