"""Sweeps of parked events, simulated as punctual_core.sweeper does them: when is each event started?"""

import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable

from tools.estimates.quotas import LATENCY, Bucket, backoff
from tools.estimates.rules import Setup, rules
from tools.estimates.timeline import Timeline


class Sweeps:
    """Lanes under leases, a Sweeper at every tick, its helpers, and its batches on threads that share one processor.

    `start` is called for the first start of each event, with the time, the due time and the attempt.
    """

    def __init__(self, timeline: Timeline, setup: Setup, starts: Bucket, start: Callable[[float, float, int], None]):
        self.setup, self.starts_quota = setup, starts
        self.writes_quota = Bucket(setup.writes)
        self.repeats = 0  # further starts of an event
        self.parked = 0  # events that are not yet deleted
        self.max_running = 0  # Sweepers at the same time
        self.missed_tick: int | None = None  # one whose Sweeper fails
        self.cold_tick: int | None = 0  # one whose Sweeper begins with a cold start
        self._timeline, self._start_event, self._rules = timeline, start, rules()
        self._running = 0
        self._keys: list[
            float
        ] = []  # of each event: its sort key, its due time, its attempt, and whether it was started
        self._dues: list[float] = []
        self._attempts: list[int] = []
        self._is_started = bytearray()
        self._partitions = [Bucket(setup.partition_writes) for _ in range(setup.partitions)]
        self._lanes = [_Lane(self._keys, random.choice(self._partitions)) for _ in range(setup.lanes)]

    @property
    def throttled(self) -> int:
        """Writes that were throttled."""
        return self.writes_quota.throttled + sum(partition.throttled for partition in self._partitions)

    def park(self, now: float, due: float, key: float, attempt: int = 0) -> bool:
        """Write an event into its lane. False if the table throttles."""
        lane = random.choice(self._lanes)
        if not self._write(now, lane, 1):
            return False
        self._add(lane, due, key, attempt)
        return True

    def park_before(self, dues: list[float]) -> None:
        """Events that were parked long ago."""
        for due in sorted(dues):
            self._add(random.choice(self._lanes), due, due, 0)

    def tick(self, now: float, number: int = 0) -> None:
        """A tick of the clock, and all after it."""
        self._timeline.at(now + self.setup.interval, self.tick, number + 1)
        if number != self.missed_tick:
            for _ in range(self.setup.sweeps):
                self._invoke(now, is_helper=False, is_cold=number == self.cold_tick)

    def _add(self, lane: "_Lane", due: float, key: float, attempt: int) -> None:
        event = len(self._keys)
        self._keys.append(key)
        self._dues.append(due)
        self._attempts.append(attempt)
        self._is_started.append(0)
        self.parked += 1
        lane.add(event)

    def _write(self, now: float, lane: "_Lane", wanted: int) -> int:
        """How many of so many writes the quotas of the lane's partition and of the table allow."""
        passed = lane.partition.take(now, wanted)
        written = self.writes_quota.take(now, passed)
        lane.partition.tokens += passed - written
        return written

    # The first step of each sweep

    def _invoke(self, now: float, is_helper: bool, is_cold: bool = False) -> None:
        is_cold = is_cold or self._running >= max(self.max_running, 1)
        self._running += 1
        self.max_running = max(self.max_running, self._running)
        delay = LATENCY["invoke"] + is_cold * self.setup.cold_start + random.random() / 10
        self._timeline.at(now + delay, self._query_lanes, is_helper)

    def _query_lanes(self, now: float, is_helper: bool) -> None:
        horizon = now + self.setup.horizon_seconds
        end = horizon + self.setup.look_ahead
        waiting, found = [], 0
        for lane in self._lanes:
            before = end if self._is_crowded(lane, horizon, end) else horizon
            if due := lane.count(before):
                waiting.append((lane, before))
                found += min(due, self._rules.max_keys)
        random.shuffle(waiting)
        sweep = _Sweep(now + self._rules.sweeper_seconds, waiting, self.setup, not is_helper)
        queried = now + LATENCY["DynamoDB"] + self.setup.lanes / self.setup.sweeper_rate
        if sweep.may_call_helpers and found >= self.setup.helpers_after:
            queried = self._call_helpers(queried, sweep, len(waiting) - 1)
        self._timeline.at(queried, self._feed, sweep)

    def _is_crowded(self, lane: "_Lane", horizon: float, end: float) -> bool:
        """Whether the next sweep might not start all events of the lane in time."""
        seen = lane.keys(horizon, end)[: max(self._rules.max_keys - lane.count(horizon), 0)]
        return any(number > self.setup.lane_rate * (key - horizon + 1) for number, key in enumerate(seen, 1))

    def _call_helpers(self, now: float, sweep: "_Sweep", number: int) -> float:
        """Returns when the calls have been made, one after the other."""
        sweep.may_call_helpers = False
        for place in range(1, number + 1):
            self._timeline.at(now + LATENCY["invoke"] * place + LATENCY["queued"], self._invoke, True)
        return now + LATENCY["invoke"] * number

    # The main thread of a Sweeper

    def _feed(self, now: float, sweep: "_Sweep") -> None:
        """Submit batches until too many are in flight, lane after lane."""
        while True:
            if sweep.in_flight >= self.setup.in_flight:
                if not sweep.ended:
                    sweep.is_blocked = True
                    return
                sweep.collect()
                if sweep.may_call_helpers and sweep.started >= self.setup.helpers_after:
                    self._timeline.at(self._call_helpers(now, sweep, len(sweep.waiting)), self._feed, sweep)
                    return
            if not sweep.lane:
                if not sweep.waiting:
                    sweep.is_draining = True
                    self._end_if_drained(sweep)
                    return
                lane, before = sweep.waiting.pop()
                now += LATENCY["DynamoDB"]
                if lane.holder is None and now < sweep.ends:
                    lane.holder, lane.is_closing = sweep, False
                    lane.before, lane.deletes_end = before, sweep.ends
                    sweep.leases += 1
                    sweep.lane, sweep.can_delete = lane, True
                    self._timeline.at(now + LATENCY["page"], self._feed, sweep)
                    return
                continue
            if sweep.can_delete and len(sweep.lane.throttled) > self._rules.max_throttled:
                self._delete_throttled(now, sweep.lane, 1, self._rules.max_throttled, self._go_on)
                return
            events = [] if now >= sweep.ends else sweep.lane.take(self.setup.batch)
            if events:
                self._submit(now, sweep, _Batch(sweep.lane, events))
            else:
                sweep.lane.is_closing = True
                self._finish_if_ended(now, sweep.lane)
                sweep.lane = None

    def _go_on(self, now: float, lane: "_Lane", has_deleted: bool) -> None:
        assert lane.holder
        lane.holder.can_delete = has_deleted
        self._feed(now, lane.holder)

    def _submit(self, now: float, sweep: "_Sweep", batch: "_Batch") -> None:
        sweep.in_flight += 1
        batch.lane.in_flight += 1
        if sweep.free_threads:
            sweep.free_threads -= 1
            self._timeline.at(now, self._start, sweep, batch, 1)
        else:
            sweep.queue.append(batch)

    def _end_if_drained(self, sweep: "_Sweep") -> None:
        if sweep.is_draining and sweep.in_flight == sweep.ended and not sweep.leases:
            self._running -= 1

    def _finish_if_ended(self, now: float, lane: "_Lane") -> None:
        if lane.is_closing and not lane.in_flight:
            assert lane.holder
            next_start = lane.before - self._rules.start_lead_seconds
            lane.deletes_end = min(
                max(next_start, now + self._rules.last_deletes_seconds),
                lane.holder.ends + self._rules.seconds_for_deletes,
            )
            self._delete_throttled(now, lane, 1, 0, self._finish)

    def _finish(self, now: float, lane: "_Lane", _: bool) -> None:
        self._timeline.at(now + LATENCY["DynamoDB"], self._release, lane)

    def _delete_throttled(self, now: float, lane: "_Lane", in_vain: int, most_left: int, then: "_Then") -> None:
        """Make a lane's throttled deletes, some at a time, until at most so many are left or too many attempts in a row
        were in vain."""
        retry = self._rules.delete_retry
        pause = retry.longest_delay(in_vain) * random.random()
        if len(lane.throttled) <= most_left:
            then(now, lane, True)
        elif in_vain == retry.max_attempts or now + pause >= lane.deletes_end:
            then(now, lane, False)
        else:
            self._timeline.at(now + pause, self._delete_some_throttled, lane, in_vain, most_left, then)

    def _delete_some_throttled(self, now: float, lane: "_Lane", in_vain: int, most_left: int, then: "_Then") -> None:
        batch, rest = lane.throttled[: self._rules.max_deletes], lane.throttled[self._rules.max_deletes :]
        left = self._delete_some(now, lane, batch)
        lane.throttled = rest + left
        in_vain = in_vain + 1 if len(left) == len(batch) else 0
        self._delete_throttled(now + LATENCY["DynamoDB"], lane, in_vain, most_left, then)

    def _release(self, now: float, lane: "_Lane") -> None:
        sweep = lane.holder
        assert sweep
        lane.put_back()
        lane.holder = None
        sweep.leases -= 1
        self._end_if_drained(sweep)

    # A thread of a Sweeper

    def _start(self, now: float, sweep: "_Sweep", batch: "_Batch", attempt: int) -> None:
        """Start the next event of a batch, or delete the batch after its last."""
        if not batch.events or (now >= sweep.ends and attempt == 1):
            batch.lane.returned += batch.events
            self._delete(now, sweep, batch)
            return
        sweep.processor_free = max(sweep.processor_free, now) + 1 / self.setup.sweeper_rate
        called = sweep.processor_free
        if self.starts_quota.take(called):
            event = batch.events.pop()
            batch.started.append(event)
            if self._is_started[event]:
                self.repeats += 1
            else:
                self._is_started[event] = 1
                self._start_event(called + LATENCY["start"] / 2, self._dues[event], self._attempts[event])
            self._timeline.at(called + LATENCY["start"], self._start, sweep, batch, 1)
        elif attempt < self.setup.call_attempts:
            self._timeline.at(called + LATENCY["start"] + backoff(attempt), self._start, sweep, batch, attempt + 1)
        else:
            batch.lane.returned.append(batch.events.pop())
            self._timeline.at(called + LATENCY["start"], self._start, sweep, batch, 1)

    def _delete(self, now: float, sweep: "_Sweep", batch: "_Batch") -> None:
        """Delete those events of a batch that were started, as far as the table does not throttle."""
        batch.lane.throttled += self._delete_some(now, batch.lane, batch.started)
        now += LATENCY["DynamoDB"]
        sweep.ended += 1
        sweep.ended_starts += len(batch.started)
        batch.lane.in_flight -= 1
        self._finish_if_ended(now, batch.lane)
        if sweep.queue:
            self._timeline.at(now, self._start, sweep, sweep.queue.popleft(), 1)
        else:
            sweep.free_threads += 1
        if sweep.is_blocked:
            sweep.is_blocked = False
            self._timeline.at(now, self._feed, sweep)
        self._end_if_drained(sweep)

    def _delete_some(self, now: float, lane: "_Lane", events: list[int]) -> list[int]:
        """Returns those that are left."""
        deleted = self._write(now, lane, len(events))
        self.parked -= deleted
        return events[deleted:]


# Called with the time, the lane, and whether its throttled deletes were made.
_Then = Callable[[float, "_Lane", bool], None]


class _Lane:
    """A lane's events, the earliest first, and who holds its lease."""

    def __init__(self, keys: list[float], partition: Bucket):
        self.partition = partition
        self.holder: _Sweep | None = None
        self.in_flight = 0  # batches
        self.is_closing = False  # after its last batch was submitted
        self.before = self.deletes_end = 0.0  # until when events are due that are started; when deletes are given up
        self.returned: list[int] = []  # that could not be started: left to the next sweep
        self.throttled: list[int] = []  # that were started and could not be deleted yet
        self._events: list[int] = []
        self._next = 0  # what is before it was taken
        self._key_of = keys.__getitem__

    def add(self, event: int) -> None:
        insort(self._events, event, self._next, key=self._key_of)

    def count(self, before: float) -> int:
        return bisect_left(self._events, before, self._next, key=self._key_of) - self._next

    def keys(self, begin: float, end: float) -> list[float]:
        """The sort keys from one time to another."""
        first, last = self._next + self.count(begin), self._next + self.count(end)
        return [self._key_of(event) for event in self._events[first:last]]

    def take(self, number: int) -> list[int]:
        events = self._events[self._next : self._next + min(number, self.count(self.before))]
        self._next += len(events)
        return events

    def put_back(self) -> None:
        left = [*self.returned, *self.throttled, *self._events[self._next :]]
        self._events = sorted(left, key=self._key_of)
        self._next, self.returned, self.throttled = 0, [], []


class _Sweep:
    """One Sweeper's sweep: the lanes that it has found, and its batches."""

    def __init__(self, ends: float, waiting: list[tuple[_Lane, float]], setup: Setup, may_call_helpers: bool):
        self.ends, self.waiting, self.may_call_helpers = ends, waiting, may_call_helpers
        self.free_threads = setup.threads
        self.lane: _Lane | None = None  # of which batches are submitted
        self.can_delete = True  # events of that lane: not all attempts were in vain
        self.queue: deque[_Batch] = deque()  # that no thread has begun
        self.in_flight = 0  # batches that were submitted and whose results were not collected
        self.ended = self.ended_starts = 0  # of these, and what they started
        self.started = 0
        self.leases = 0  # that it holds
        self.is_blocked = self.is_draining = False
        self.processor_free = float("-inf")

    def collect(self) -> None:
        self.in_flight -= self.ended
        self.started += self.ended_starts
        self.ended = self.ended_starts = 0


class _Batch:
    def __init__(self, lane: _Lane, events: list[int]):
        self.lane, self.events = lane, events
        self.started: list[int] = []
