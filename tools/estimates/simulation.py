"""How late events are when there are very many of them: a simulation under AWS's quotas, not a measurement.

Times are seconds; 0 is the moment at which a burst is due.
"""

import heapq
import math
import random
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from tools.estimates import template
from tools.estimates.quotas import LATENCY, POLLERS, QUOTA, Bucket, backoff
from tools.estimates.rules import Retry, Setup, rules
from tools.estimates.sweeping import Start, Sweeps

# Executions are simulated by the hundredth of a second: all calls within one share the quota's tokens.
BIN_SECONDS = 0.01
DELIVERED = "delivered"
LOOK_UP, PUBLISH, REPORT_TO_PUBLISHER, REPORT_TO_STACK_TOPIC = range(4)


@dataclass
class Outcome:
    """The result of a run."""

    lateness: list[float]  # of the delivered events, in seconds, the least first
    ends: Counter[str]  # events by how they ended
    unchecked: int  # delivered although the register could not be read
    throttled: dict[str, int]  # calls by quota
    last_start: float  # seconds after its due time; negative: before
    sweepers: int = 0  # at the same time, at most

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
            found.insert(0, "sweepers" if self.sweepers else "pollers")
        return ", ".join(found) or "nothing"


def parked_burst(setup: Setup, events: int) -> Outcome:
    """Parked events that are all due at 0, in the worst case: the sweep before the first that finds them just missed
    them."""
    starts, throttled, sweepers = _sweep_burst(replace(setup, reads=0, publishes=0), events)
    random.seed(events)
    return _Deliveries(setup).run(starts, throttled, sweepers)


@cache
def _sweep_burst(setup: Setup, events: int) -> tuple[list[Start], int, int]:
    # Cached for setups that differ only in quotas that do not concern sweeps.
    random.seed(events)
    sweeps = Sweeps(setup, [0.0] * events, setup.interval - setup.horizon_seconds + 0.01)
    return sweeps.run(), sweeps.quota.throttled, sweeps.max_running


def near_burst(setup: Setup, events: int) -> Outcome:
    """Events due at 0 that are published from the horizon on."""
    random.seed(events)
    starts, quota = _ingest(setup, events, -float(setup.horizon_seconds), 0.0)
    return _Deliveries(setup).run(starts, quota.throttled)


def parked_flow(setup: Setup, rate: float, at_the_minute: bool, seconds: int = 240) -> Outcome:
    """Parked events at an even rate; or the same number, but all due in the first second of their minute."""
    random.seed(int(rate))
    if at_the_minute:
        dues = [60.0 * (number + 1) for number in range(seconds // 60) for _ in range(int(rate * 60))]
    else:
        dues = [float(int(number / rate)) for number in range(int(rate * seconds))]
    sweeps = Sweeps(setup, dues, -setup.horizon_seconds)
    return _Deliveries(setup).run(sweeps.run(), sweeps.quota.throttled, sweeps.max_running)


def _ingest(setup: Setup, events: int, published_at: float, due: float) -> tuple[list[Start], Bucket]:
    """Near events through topic, queue and Ingest, published as fast as SNS takes them."""
    at_first, more_a_minute, most = POLLERS
    quota = Bucket(setup.starts)
    starts: list[Start] = []
    pollers = [published_at] * at_first  # when each is free
    heapq.heapify(pollers)
    added, received = at_first, 0
    retried: list[tuple[float, int]] = []  # failed messages: when they become visible again, and their receives
    processor = template.properties("Ingest")["MemorySize"] / 1769
    while received < events or retried:
        now = heapq.heappop(pollers)
        while added < min(most, QUOTA["Lambda"], at_first + (now - published_at) * more_a_minute / 60):
            heapq.heappush(pollers, now + LATENCY["cold start"])
            added += 1
        arrived = min(events, int((now - published_at) * setup.publishes) + 1)
        batch: list[int] = []
        while retried and retried[0][0] <= now and len(batch) < rules().ingest_batch_size:
            batch.append(heapq.heappop(retried)[1])
        fresh = min(rules().ingest_batch_size - len(batch), arrived - received)
        batch += [0] * fresh
        received += fresh
        if not batch:
            next_at = now + 1 / setup.publishes if received < events else retried[0][0]
            heapq.heappush(pollers, max(next_at, now + 0.001))
            continue
        ends = now
        for number, receives in enumerate(batch):
            called = now + LATENCY["SQS"] + (number + 1) * (LATENCY["parse"] + LATENCY["start CPU"]) / processor
            for attempt in range(1, rules().call_attempts + 1):
                if quota.take(called):
                    starts.append((called + LATENCY["start"] / 2, due))
                    break
                called += LATENCY["start"] + (backoff(attempt) if attempt < rules().call_attempts else 0)
            else:
                heapq.heappush(retried, (called + 2 ** min(receives + 1, 10), receives + 1))
            ends = max(ends, called + LATENCY["start"])
        heapq.heappush(pollers, ends + LATENCY["SQS"])
    return starts, quota


class _Call(NamedTuple):
    """What executions have in common that make their next call at the same moment."""

    stage: int
    attempt: int  # from 0
    due: float


class _Deliveries:
    """Executions from their start to their end: the read of the register, the publish, and the failure reports."""

    def __init__(self, setup: Setup):
        self.register, self.sns = Bucket(setup.reads), Bucket(setup.publishes)
        self.stages = (
            ("looked up", rules().look_up),
            (DELIVERED, rules().publish),
            ("reported to the publisher", rules().report_to_publisher),
            ("reported to the stack's topic", rules().report_to_stack_topic),
        )
        self.lateness: Counter[float] = Counter()
        self.ends: Counter[str] = Counter()
        self.unchecked = 0
        self._bins: dict[int, Counter[_Call]] = {}
        self._order: list[int] = []  # a heap of the keys of the bins

    def run(self, starts: list[Start], throttled_starts: int, sweepers: int = 0) -> Outcome:
        for when, due in starts:
            begun = max(when + LATENCY["transition"], math.floor(due - rules().cutoff_seconds))
            self._at(begun, _Call(LOOK_UP, 0, due), 1)
        while self._order:
            key = heapq.heappop(self._order)
            calls = self._bins.pop(key)
            look_ups = {call: number for call, number in calls.items() if call.stage == LOOK_UP}
            publishes = {call: number for call, number in calls.items() if call.stage != LOOK_UP}
            self._call(key * BIN_SECONDS, self.register, look_ups)
            self._call(key * BIN_SECONDS, self.sns, publishes)
        throttled = {
            "StartExecution": throttled_starts,
            "register reads": self.register.throttled,
            "SNS Publish": self.sns.throttled,
        }
        last_start = max(when - due for when, due in starts)
        return Outcome(sorted(self.lateness.elements()), self.ends, self.unchecked, throttled, last_start, sweepers)

    def _at(self, time: float, call: _Call, number: int) -> None:
        key = int(time / BIN_SECONDS)
        if key not in self._bins:
            self._bins[key] = Counter()
            heapq.heappush(self._order, key)
        self._bins[key][call] += number

    def _call(self, now: float, quota: Bucket, calls: dict[_Call, int]) -> None:
        """Make the calls of one moment. If the quota does not suffice, each kind has its share of it."""
        wanted = sum(calls.values())
        passing = quota.take(now, wanted)
        for call, number in calls.items():
            passed = number if passing >= wanted else min(passing, round(number * passing / wanted))
            passing, wanted = passing - passed, wanted - number
            if passed:
                self._succeed(now, call, passed)
            if number > passed:
                self._fail(now, call, number - passed)

    def _succeed(self, now: float, call: _Call, number: int) -> None:
        if call.stage == LOOK_UP:
            looked_up = now + LATENCY["DynamoDB"] + 3 * LATENCY["transition"]
            self._at(max(looked_up, call.due + LATENCY["transition"]), _Call(PUBLISH, 0, call.due), number)
            return
        self.ends[self.stages[call.stage][0]] += number
        if call.stage == PUBLISH:
            self.lateness[now + LATENCY["SNS"] - call.due] += number

    def _fail(self, now: float, call: _Call, number: int) -> None:
        retry = self.stages[call.stage][1]
        after = now + BIN_SECONDS
        if call.attempt < retry.max_attempts:
            self._retry(after, call, retry, number)
        elif call.stage == LOOK_UP:  # An event whose register entry cannot be read is delivered.
            self.unchecked += number
            self._at(max(after, call.due + LATENCY["transition"]), _Call(PUBLISH, 0, call.due), number)
        elif call.stage < REPORT_TO_STACK_TOPIC:
            self._at(after, _Call(call.stage + 1, 0, call.due), number)
        else:
            self.ends["sent to Undelivered"] += number

    def _retry(self, after: float, call: _Call, retry: Retry, number: int) -> None:
        longest = retry.longest_delay(call.attempt)
        parts = min(number, 500) if retry.is_jittered else 1
        for part in range(parts):
            share = number // parts + (part < number % parts)
            delay = longest * random.random() if retry.is_jittered else longest
            self._at(after + delay, call._replace(attempt=call.attempt + 1), share)
