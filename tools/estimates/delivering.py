"""Executions of Deliver, simulated from their start to their end: the read of the register, the publish, the retries,
and the failure reports."""

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tools.estimates.quotas import LATENCY, Bucket
from tools.estimates.rules import Retry, Setup, rules
from tools.estimates.timeline import Timeline

# Executions are simulated by the hundredth of a second: all calls within one share the quota's tokens.
BIN_SECONDS = 0.01
DELIVERED = "delivered"
LOOK_UP, PUBLISH, REPORT_TO_PUBLISHER, REPORT_TO_STACK_TOPIC = range(4)
ENDS = ("", DELIVERED, "reported to the publisher", "reported to the stack's topic")


class _Call(NamedTuple):
    """What executions have in common that make their next call at the same moment."""

    stage: int
    attempt: int  # from 0, within the execution
    due: float
    execution: int  # from 0: how often the event was parked again before


class Deliveries:
    """`park_again` is called for an event that is retried later, with the time, the due time, the sort key and the
    number of its next execution."""

    def __init__(self, timeline: Timeline, setup: Setup):
        self.register, self.sns = Bucket(setup.reads), Bucket(setup.publishes)
        self.park_again: Callable[[float, float, float, int], None]
        self.lateness: Counter[float] = Counter()
        self.ends: Counter[str] = Counter()
        self.unchecked = 0  # delivered although the register could not be read
        self.retried = 0  # events that were parked again at least once
        self.last_start = float("-inf")  # seconds after its due time, of first executions
        self.waiting = 0.0  # seconds from the first start to the due time, of all events together
        self._timeline, self._rules = timeline, rules()
        self._retries = (
            self._rules.look_up,
            self._rules.publish,
            self._rules.report_to_publisher,
            self._rules.report_to_stack_topic,
        )
        self._bins: dict[int, Counter[_Call]] = {}

    def start(self, now: float, due: float, execution: int) -> None:
        """An execution was started."""
        if not execution:
            self.last_start = max(self.last_start, now - due)
            self.waiting += max(0, due - now)
        begun = max(now + LATENCY["transition"], math.floor(due - self._rules.cutoff_seconds))
        self._at(begun, _Call(LOOK_UP, 0, due, execution), 1)

    def _at(self, time: float, call: _Call, number: int) -> None:
        key = int(time / BIN_SECONDS)
        if key not in self._bins:
            self._bins[key] = Counter()
            self._timeline.at(key * BIN_SECONDS, self._run_bin, key)
        self._bins[key][call] += number

    def _run_bin(self, now: float, key: int) -> None:
        calls = self._bins.pop(key)
        self._call(now, self.register, {call: number for call, number in calls.items() if call.stage == LOOK_UP})
        self._call(now, self.sns, {call: number for call, number in calls.items() if call.stage != LOOK_UP})

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
            self._publish(now + LATENCY["DynamoDB"] + 3 * LATENCY["transition"], call, number)
            return
        self.ends[ENDS[call.stage]] += number
        if call.stage == PUBLISH:
            self.lateness[now + LATENCY["SNS"] - call.due] += number

    def _publish(self, time: float, call: _Call, number: int) -> None:
        self._at(max(time, call.due + LATENCY["transition"]), call._replace(stage=PUBLISH, attempt=0), number)

    def _fail(self, now: float, call: _Call, number: int) -> None:
        retry, after = self._retries[call.stage], now + BIN_SECONDS
        if call.attempt < retry.max_attempts:
            self._retry(after, call, retry, number)
        elif call.stage == LOOK_UP:  # An event whose register entry cannot be read is delivered.
            self.unchecked += number
            self._publish(after, call, number)
        elif call.stage == PUBLISH and now - call.due <= self._rules.give_up_seconds:
            self.retried += 0 if call.execution else number
            longest = self._rules.park_again.longest_delay(call.execution)
            for _ in range(number):
                key = after + longest * (1 + random.random()) / 2
                self.park_again(after, call.due, key, call.execution + 1)
        elif call.stage < REPORT_TO_STACK_TOPIC:
            self._at(after, call._replace(stage=call.stage + 1, attempt=0), number)
        else:
            self.ends["sent to Undelivered"] += number

    def _retry(self, after: float, call: _Call, retry: Retry, number: int) -> None:
        longest = retry.longest_delay(call.attempt)
        parts = min(number, 500) if retry.is_jittered else 1
        for part in range(parts):
            share = number // parts + (part < number % parts)
            delay = longest * random.random() if retry.is_jittered else longest
            self._at(after + delay, call._replace(attempt=call.attempt + 1), share)
