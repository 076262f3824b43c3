"""How late events are when there are very many of them: a simulation under AWS's quotas, not a measurement.

Times are seconds; 0 is the moment at which a burst is due.
"""

import math
import random
from collections import Counter
from dataclasses import dataclass

from tools.estimates.delivering import DELIVERED, Deliveries
from tools.estimates.ingesting import Ingest
from tools.estimates.quotas import LATENCY, Bucket
from tools.estimates.rules import Setup
from tools.estimates.sweeping import Sweeps
from tools.estimates.timeline import Timeline


@dataclass
class Outcome:
    """The result of a run."""

    lateness: list[float]  # of the delivered events, in seconds, the least first
    ends: Counter[str]  # events by how they ended
    throttled: dict[str, int]  # calls by quota
    last_start: float  # seconds after its due time; negative: before
    waiting: float  # seconds from the start to the due time, on average
    starter: str  # what starts the events: "sweepers" or "pollers"
    sweepers: int  # at the same time, at most
    unchecked: int  # delivered although the register could not be read
    retried: int  # parked again at least once, because SNS throttled
    repeats: int  # starts of events that were started before, because they could not be deleted

    def quantile(self, share: float) -> float:
        if not self.lateness:
            return float("nan")
        return self.lateness[min(len(self.lateness) - 1, int(share * len(self.lateness)))]

    @property
    def undelivered(self) -> int:
        return self.ends.total() - self.ends[DELIVERED]

    @property
    def saturated(self) -> str:
        """What throttled calls or was too slow, in the order in which an event meets it."""
        found = [name for name, calls in self.throttled.items() if calls]
        if self.last_start > 0 and not self.throttled["StartExecution"]:
            found.insert(0, self.starter)
        return ", ".join(found) or "nothing"


class _Stack:
    """One run of everything."""

    def __init__(self, setup: Setup, seed: int):
        random.seed(seed)
        self.timeline, self.starts = Timeline(), Bucket(setup.starts)
        self.deliveries = Deliveries(self.timeline, setup)
        self.sweeps = Sweeps(self.timeline, setup, self.starts, self.deliveries.start)
        self.deliveries.park_again = self._park_again
        self.setup = setup

    def _park_again(self, now: float, due: float, key: float, execution: int) -> None:
        if not self.sweeps.park(now, due, key, execution):
            # ParkAgain retries; here until it succeeds.
            self.timeline.at(now + 2 * random.random(), self._park_again, due, key, execution)

    def run(self, events: int, starter: str = "sweepers") -> Outcome:
        deliveries, sweeps = self.deliveries, self.sweeps
        self.timeline.run(lambda: not sweeps.parked and deliveries.ends.total() == events)
        throttled = {
            "StartExecution": self.starts.throttled,
            "table writes": sweeps.throttled,
            "register reads": deliveries.register.throttled,
            "SNS publishes": deliveries.sns.throttled,
        }
        return Outcome(
            lateness=sorted(deliveries.lateness.elements()),
            ends=deliveries.ends,
            throttled=throttled,
            last_start=deliveries.last_start,
            waiting=deliveries.waiting / events,
            starter=starter,
            sweepers=sweeps.max_running,
            unchecked=deliveries.unchecked,
            retried=deliveries.retried,
            repeats=sweeps.repeats,
        )


def parked_burst(setup: Setup, events: int, chances: int = 1, is_sweep_missed: bool = False) -> Outcome:
    """Events that were parked long ago and are all due at 0, in the worst case.

    A sweep has just missed them, because they were due just after its horizon or its look-ahead: the worse of the two.
    The next sweep begins with a cold start; if `is_sweep_missed`, it fails, and the one after it begins so. `chances`
    is how many runs to take the worst of: they differ in which lanes share a partition.
    """
    ends = {setup.horizon_seconds, setup.horizon_seconds + setup.look_ahead}
    outcomes = [
        _parked_burst(setup, events, seed, is_sweep_missed, end) for end in sorted(ends) for seed in range(chances)
    ]
    return max(outcomes, key=lambda outcome: (outcome.quantile(0.99), outcome.last_start))


def _parked_burst(setup: Setup, events: int, seed: int, is_sweep_missed: bool, end: float) -> Outcome:
    stack = _Stack(setup, seed)
    stack.sweeps.park_before([0.0] * events)
    too_early = -end - LATENCY["invoke"] - 0.11  # A sweep now looks ahead until just before 0.
    earlier_ticks = math.ceil((setup.horizon_seconds + setup.look_ahead - end) / setup.interval)
    stack.sweeps.missed_tick = earlier_ticks + 1 if is_sweep_missed else None
    stack.sweeps.cold_tick = earlier_ticks + (2 if is_sweep_missed else 1)
    stack.sweeps.tick(too_early - earlier_ticks * setup.interval)
    return stack.run(events)


def published_burst(setup: Setup, events: int, seconds_before: float, seed: int = 0) -> Outcome:
    """Events that are all due at 0 and published as fast as SNS takes them, beginning so many seconds before."""
    stack = _Stack(setup, seed)
    ingest = Ingest(stack.timeline, setup, stack.starts, stack.sweeps, stack.deliveries.start, events, 0.0)
    stack.sweeps.tick(-seconds_before)
    ingest.publish(-seconds_before)
    return stack.run(events, "pollers")


def parked_flow(setup: Setup, rate: float, at_the_minute: bool, seconds: int = 240) -> Outcome:
    """Parked events at an even rate; or the same number, but all due in the first second of their minute."""
    stack = _Stack(setup, int(rate))
    if at_the_minute:
        dues = [60.0 * (number + 1) for number in range(seconds // 60) for _ in range(int(rate * 60))]
    else:
        dues = [float(int(number / rate)) for number in range(int(rate * seconds))]
    stack.sweeps.park_before(dues)
    stack.sweeps.tick(-setup.horizon_seconds - setup.look_ahead)
    return stack.run(len(dues))
