"""Messages through topic, queue and Ingest, simulated: when is each event started or parked?"""

from collections.abc import Callable

from tools.estimates import template
from tools.estimates.quotas import LATENCY, POLLERS, QUOTA, Bucket, backoff
from tools.estimates.rules import Setup, rules
from tools.estimates.sweeping import Sweeps
from tools.estimates.timeline import Timeline

# Lambda gives a function a whole processor at this memory.
PROCESSOR_MB = 1769


class Ingest:
    """Lambda's pollers, each with one invocation of Ingest at a time, for a number of events that are due then."""

    def __init__(
        self,
        timeline: Timeline,
        setup: Setup,
        starts: Bucket,
        sweeps: Sweeps,
        start: Callable[[float, float, int], None],
        events: int,
        due: float,
    ):
        self.unread = events  # messages that no poller has received for the first time
        self.unfinished = events
        self._setup, self._timeline, self._starts_quota, self._sweeps, self._start = (
            setup,
            timeline,
            starts,
            sweeps,
            start,
        )
        self._events, self._due = events, due
        self._again: list[int] = []  # visible again: how often each was received
        self._published_at = 0.0
        self._pollers = 0
        self._processor = template.properties("Ingest")["MemorySize"] / PROCESSOR_MB

    def publish(self, now: float) -> None:
        """Publish all events from now on, as fast as SNS takes them."""
        self._published_at = now
        self._pollers = POLLERS[0]
        for _ in range(self._pollers):
            self._poll(now)

    def _poll(self, now: float) -> None:
        at_first, more_a_minute, most = POLLERS
        allowed = min(most, QUOTA["Lambda"], at_first + (now - self._published_at) * more_a_minute / 60)
        while self._pollers < allowed:
            self._pollers += 1
            self._timeline.at(now + LATENCY["cold start"], self._poll)
        if not self.unfinished:
            return
        batch, self._again = self._again[: rules().ingest_batch_size], self._again[rules().ingest_batch_size :]
        published = min(self._events, int((now - self._published_at) * self._setup.publishes) + 1)
        fresh = min(rules().ingest_batch_size - len(batch), published - (self._events - self.unread))
        self.unread -= fresh
        batch += [0] * fresh
        if not batch:
            self._timeline.at(now + max(0.01, 1 / self._setup.publishes), self._poll)
            return
        invocation = _Invocation(len(batch))
        for number, receives in enumerate(batch, 1):
            busy = number * (LATENCY["parse"] + LATENCY["start CPU"]) / self._processor
            self._timeline.at(now + LATENCY["SQS"] + busy, self._process, invocation, receives + 1, 1)

    def _process(self, now: float, invocation: "_Invocation", receives: int, attempt: int) -> None:
        """One call for one message: StartExecution, or PutItem if it is due later than the horizon."""
        is_near = self._due - now <= self._setup.horizon_seconds
        latency = LATENCY["start"] if is_near else LATENCY["DynamoDB"]
        if is_near and self._starts_quota.take(now):
            self._start(now + latency / 2, self._due, 0)
            self.unfinished -= 1
        elif not is_near and self._sweeps.park(now, self._due, self._due):
            self.unfinished -= 1
        elif attempt < self._setup.call_attempts:
            self._timeline.at(now + latency + backoff(attempt), self._process, invocation, receives, attempt + 1)
            return
        else:
            self._timeline.at(now + latency + 2 ** min(receives, 10), self._reappear, receives)
        invocation.left -= 1
        if not invocation.left:
            self._timeline.at(now + latency + LATENCY["SQS"], self._poll)

    def _reappear(self, now: float, receives: int) -> None:
        self._again.append(receives)


class _Invocation:
    def __init__(self, messages: int):
        self.left = messages
