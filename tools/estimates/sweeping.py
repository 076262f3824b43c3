"""Sweeps of parked events, simulated: when is each event started?

Times are seconds; 0 is the moment at which a burst is due.
"""

import heapq
import math
import random
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from tools.estimates.quotas import LATENCY, Bucket, backoff
from tools.estimates.rules import Setup, rules

type Start = tuple[float, float]  # when an event was started, and when it is due


class Sweeps:
    """Sweepers at every tick, as scheduler.sweeper does it: lanes under leases, and batches on threads that share one
    processor. A discrete-event simulation with a heap of (time, number, action, arguments).

    It is pessimistic in one point: a Sweeper here begins a lane when the lane before has ended.
    """

    def __init__(self, setup: Setup, dues: list[float], first_tick: float):
        self.setup = setup
        self.attempts = rules().call_attempts
        self.quota = Bucket(setup.starts)
        self.started: list[Start] = []
        self.remaining = len(dues)
        self.running = self.max_running = 0
        lanes: list[list[float]] = [[] for _ in range(setup.lanes)]
        for due in sorted(dues):
            random.choice(lanes).append(due)
        self.lanes = [_Lane(lane) for lane in lanes]
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._at(first_tick, self._tick)

    def run(self) -> list[Start]:
        while self._heap and self.remaining:
            now, _, action, arguments = heapq.heappop(self._heap)
            action(now, *arguments)
        return self.started

    def _at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heapq.heappush(self._heap, (time, self._number, action, arguments))

    def _tick(self, now: float) -> None:
        self._at(now + self.setup.interval, self._tick)
        for _ in range(self.setup.sweeps):
            self._invoke(now, False)

    def _invoke(self, now: float, is_helper: bool) -> None:
        cold_start = LATENCY["cold start"] if self.running >= self.max_running else 0
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        self._at(now + LATENCY["invoke"] + cold_start + random.random() / 10, self._query_lanes, is_helper)

    def _query_lanes(self, now: float, is_helper: bool) -> None:
        before = now + self.setup.horizon_seconds
        waiting = [lane for lane in self.lanes if lane.count(before)]
        random.shuffle(waiting)
        queried = now + LATENCY["DynamoDB"] + self.setup.lanes * LATENCY["start CPU"]
        self._next_lane(queried, _Sweep(now + rules().sweeper_seconds, before, waiting, not is_helper))

    def _next_lane(self, now: float, sweep: "_Sweep") -> None:
        while sweep.waiting and now < sweep.ends:
            lane = sweep.waiting.pop()
            now += LATENCY["DynamoDB"]
            if lane.holder is None:
                lane.holder = sweep
                sweep.begin(lane, math.ceil(lane.count(sweep.before) / self.setup.batch), self.setup.threads)
                for _ in range(self.setup.threads):
                    self._at(now + LATENCY["page"], self._next_batch, sweep)
                return
        self.running -= 1

    def _next_batch(self, now: float, sweep: "_Sweep") -> None:
        lane = sweep.lane
        size = min(self.setup.batch, lane.count(sweep.before))
        if size and now < sweep.ends:
            events = lane.dues[lane.next : lane.next + size]
            lane.next += size
            self._at(now, self._start, sweep, _Batch(sweep.submitted, events), 1)
            sweep.submitted += 1
            return
        sweep.busy_threads -= 1
        if not sweep.busy_threads:
            lane.put_failed_back()
            lane.holder = None
            self._call_helpers(now, sweep, sweep.submitted)
            self._at(now + LATENCY["DynamoDB"], self._next_lane, sweep)

    def _start(self, now: float, sweep: "_Sweep", batch: "_Batch", attempt: int) -> None:
        """Start the next event of a batch, or delete the batch after its last."""
        if not batch.events or (now >= sweep.ends and attempt == 1):
            sweep.lane.failed += batch.events
            sweep.outcomes[batch.number] = batch.started
            # The Sweeper reads the first batch's outcome when it has submitted twice as many as it has threads.
            self._call_helpers(now, sweep, sweep.batches - 2 * self.setup.threads + 1)
            self._at(now + LATENCY["DynamoDB"], self._next_batch, sweep)
            return
        sweep.processor_free = max(sweep.processor_free, now) + LATENCY["start CPU"]
        called = sweep.processor_free
        if self.quota.take(called):
            self.started.append((called + LATENCY["start"] / 2, batch.events.pop()))
            self.remaining -= 1
            batch.started += 1
            self._at(called + LATENCY["start"], self._start, sweep, batch, 1)
        elif attempt < self.attempts:
            self._at(called + LATENCY["start"] + backoff(attempt), self._start, sweep, batch, attempt + 1)
        else:
            sweep.lane.failed.append(batch.events.pop())
            self._at(called + LATENCY["start"], self._start, sweep, batch, 1)

    def _call_helpers(self, now: float, sweep: "_Sweep", submitted: int) -> None:
        """Call helpers if the outcomes that the Sweeper has read by now show enough starts."""
        while sweep.read in sweep.outcomes and sweep.read < submitted:
            sweep.started += sweep.outcomes.pop(sweep.read)
            sweep.read += 1
        if sweep.may_call_helpers and sweep.started >= self.setup.helpers_after:
            sweep.may_call_helpers = False
            for number in range(1, len(sweep.waiting) + 1):  # one call after the other
                self._at(now + number * LATENCY["invoke"] + LATENCY["queued"], self._invoke, True)


class _Lane:
    """The due times of a lane's events, the earliest first, and who holds its lease."""

    def __init__(self, dues: list[float]):
        self.dues, self.next = dues, 0
        self.failed: list[float] = []
        self.holder: _Sweep | None = None

    def count(self, before: float) -> int:
        return bisect_left(self.dues, before, self.next) - self.next

    def put_failed_back(self) -> None:
        if self.failed:
            self.dues = sorted([*self.failed, *self.dues[self.next :]])
            self.next, self.failed = 0, []


class _Sweep:
    """One Sweeper's sweep: the lanes that it has found, and the batches of the one that it has taken."""

    lane: _Lane
    batches: int  # in the lane
    submitted: int  # of these
    busy_threads: int

    def __init__(self, ends: float, before: float, waiting: list[_Lane], may_call_helpers: bool):
        self.ends, self.before, self.waiting, self.may_call_helpers = ends, before, waiting, may_call_helpers
        self.started, self.processor_free = 0, float("-inf")

    def begin(self, lane: _Lane, batches: int, threads: int) -> None:
        self.lane, self.batches, self.busy_threads = lane, batches, threads
        self.submitted = self.read = 0
        self.outcomes: dict[int, int] = {}  # starts by the batch's number, until the Sweeper reads them


class _Batch:
    def __init__(self, number: int, events: list[float]):
        self.number, self.events, self.started = number, events, 0
