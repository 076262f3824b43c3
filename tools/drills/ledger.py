"""The account of a drill: every event that was published, and everything that arrived because of it."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime

OUTCOMES = "delivered", "reported", "canceled", "interrupted", "missing"
# A queue's timestamps are truncated to milliseconds: an arrival less than this before the due time is not early.
CLOCK_STEP_SECONDS = 0.001
# How late events may be that the fault does not concern. Promised is no more than without a fault, but an emulator that
# shares a machine with the drill takes a second or two where AWS takes milliseconds.
UNCONCERNED_SECONDS = 3


@dataclass
class Entry:
    """One published event: what was asked for, and what arrived. `key` is its payload, `execution` the name of its
    Deliver execution."""

    key: str
    execution: str
    due: datetime
    withdrawn: bool = False  # canceled or replaced in time
    interrupted: bool = False  # its execution was running when the emulator stopped
    is_concerned: bool = True  # by the fault
    deliveries: list[datetime] = field(default_factory=list)
    reports: int = 0

    @property
    def arrivals(self) -> int:
        return len(self.deliveries) + self.reports

    @property
    def late_seconds(self) -> float:
        """From the due time to the first delivery; minus infinity without one."""
        return min(((at - self.due).total_seconds() for at in self.deliveries), default=-math.inf)

    @property
    def outcome(self) -> str:
        """Which of OUTCOMES the event has had so far."""
        if self.arrivals:
            return "delivered" if self.deliveries else "reported"
        if self.withdrawn:
            return "canceled"
        return "interrupted" if self.interrupted else "missing"

    def broken_promises(self, attempts: Callable[[str], float], limit_seconds: float) -> Iterator[str]:
        """What is wrong with the outcome. `attempts` tells, for an execution name, how often its event may have been
        sent: a repeat is explained if no more than that arrived."""
        if self.outcome == "missing":
            yield "missing"
        if self.deliveries and self.late_seconds <= -CLOCK_STEP_SECONDS:
            yield "early"
        if self.late_seconds > (limit_seconds if self.is_concerned else UNCONCERNED_SECONDS):
            yield "later than the drill allows"
        if self.deliveries and self.withdrawn:
            yield "delivered although canceled or replaced in time"
        if self.arrivals > 1 and self.arrivals > attempts(self.execution):
            yield "repeated more often than they were started"


class Ledger(dict[str, Entry]):
    """The entries of one drill, by payload."""

    def expect(self, key: str, execution: str, due: datetime) -> None:
        """Enter a published event. Raises ValueError if its payload is already in use: two could not be told apart."""
        if key in self:
            raise ValueError(f"An event with the payload {key} was already published")
        self[key] = Entry(key, execution, due)

    def arrive(self, key: str, sent_at: datetime | None) -> None:
        """Enter an arrival on the target topic, or else of a failure report. That of another drill is ignored."""
        if entry := self.get(key):
            entry.reports += sent_at is None
            entry.deliveries += [sent_at] if sent_at else []

    def concern(self, executions: Collection[str]) -> None:
        """Enter that the fault concerns only the events with these execution names."""
        for entry in self.values():
            entry.is_concerned = entry.execution in executions

    def interrupt(self, executions: Collection[str]) -> None:
        """Enter that the emulator stopped while the executions with these names were running."""
        for entry in self.values():
            entry.interrupted = entry.execution in executions

    def outcomes(self) -> Counter[str]:
        """How many events have had each outcome so far."""
        return Counter(entry.outcome for entry in self.values())

    def latest_seconds(self, *, is_concerned: bool) -> float:
        """The longest lateness of the events that the fault does, or does not, concern."""
        delivered = (entry for entry in self.values() if entry.deliveries and entry.is_concerned == is_concerned)
        return max((entry.late_seconds for entry in delivered), default=0.0)
