"""The account of a drill: every event that was published, and everything that arrived because of it."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

# A queue's timestamps are truncated to milliseconds: an arrival less than this before the due time is not early.
CLOCK_STEP = timedelta(milliseconds=1)


@dataclass
class Entry:
    """One published message: what was asked for, and what arrived.

    `key` is the event's payload, `execution` the name of its Deliver execution. `due` is None for a message that is not
    an event.
    """

    key: str
    execution: str
    due: datetime | None
    withdrawn: bool = False  # canceled or replaced in time
    interrupted: bool = False  # its execution was running when the emulator stopped
    may_be_late: bool = True  # the drill sets no limit for it
    deliveries: list[datetime] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)  # the places where failure reports arrived

    @property
    def arrivals(self) -> int:
        return len(self.deliveries) + len(self.reports)

    @property
    def lateness(self) -> timedelta:
        """From the due time to the first delivery; zero if either is missing."""
        if self.due is None or not self.deliveries:
            return timedelta()
        return min(self.deliveries) - self.due


@dataclass(frozen=True)
class Account:
    """What became of a drill's events.

    `events` is the sum of `delivered`, `reported`, `canceled`, `interrupted` and `missing`. The other counts are parts
    of these: `repeated` arrived more than once, `unexplained` more often than they were sent, `unwanted` were delivered
    although withdrawn in time, `late` exceeded the limit that the drill sets for them.
    """

    events: int
    delivered: int
    repeated: int
    reported: int
    canceled: int
    interrupted: int
    missing: int
    early: int
    late: int
    unwanted: int
    unexplained: int
    latest_seconds: float

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.missing or self.early or self.late or self.unwanted or self.unexplained)


class Ledger:
    """The entries of one drill, by payload. What belongs to other drills is ignored."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._lateness_limit = timedelta.max

    def expect(self, key: str, execution: str, due: datetime | None) -> None:
        """Enter a published message. Raises ValueError if its payload is already in use."""
        if key in self._entries:
            raise ValueError(f"An event with the payload {key} was already published")
        self._entries[key] = Entry(key, execution, due)

    def withdraw(self, key: str) -> None:
        """Enter that an event was canceled or replaced in time."""
        self._entries[key].withdrawn = True

    def deliver(self, key: str, at: datetime) -> None:
        """Enter an arrival on the target topic."""
        if entry := self._entries.get(key):
            entry.deliveries.append(at)

    def report(self, key: str, place: str) -> None:
        """Enter the arrival of a failure report."""
        if entry := self._entries.get(key):
            entry.reports.append(place)

    def interrupt(self, executions: Collection[str]) -> None:
        """Enter that the emulator stopped while the executions with these names were running."""
        for entry in self._entries.values():
            entry.interrupted = entry.execution in executions

    def limit_lateness(self, limit: timedelta, except_for: Collection[str]) -> None:
        """Count deliveries later than the limit as a failure, except for the executions with these names."""
        self._lateness_limit = limit
        for entry in self._entries.values():
            entry.may_be_late = entry.execution in except_for

    @property
    def last_due(self) -> datetime:
        due = (entry.due for entry in self._entries.values() if entry.due)
        return max(due, default=datetime.min.replace(tzinfo=UTC))

    @property
    def executions(self) -> list[str]:
        """The execution names of all events."""
        return [entry.execution for entry in self._entries.values()]

    @property
    def open(self) -> list[str]:
        """The payloads of the events of which something should have arrived and nothing has."""
        return [
            entry.key
            for entry in self._entries.values()
            if not (entry.arrivals or entry.withdrawn or entry.interrupted)
        ]

    @property
    def repeated(self) -> list[str]:
        """The execution names of the events of which more than one thing arrived."""
        return [entry.execution for entry in self._entries.values() if entry.arrivals > 1]

    @property
    def report_places(self) -> Counter[str]:
        """The number of failure reports by the place where they arrived."""
        return Counter(place for entry in self._entries.values() for place in entry.reports)

    @property
    def latest_limited(self) -> timedelta:
        """The longest lateness among the events that have a limit."""
        return max((entry.lateness for entry in self._entries.values() if not entry.may_be_late), default=timedelta())

    def account(self, attempts: Callable[[str], int]) -> Account:
        """Sum up. `attempts` tells, for an execution name, how often its event may have been sent: a repeat is
        explained if no more than that arrived."""
        entries = self._entries.values()
        delivered = [entry for entry in entries if entry.deliveries]
        silent = [entry for entry in entries if not entry.arrivals]
        repeated = [entry for entry in entries if entry.arrivals > 1]
        return Account(
            events=len(entries),
            delivered=len(delivered),
            repeated=len(repeated),
            reported=sum(not entry.deliveries and bool(entry.reports) for entry in entries),
            canceled=sum(entry.withdrawn for entry in silent),
            interrupted=sum(entry.interrupted and not entry.withdrawn for entry in silent),
            missing=sum(not entry.withdrawn and not entry.interrupted for entry in silent),
            early=sum(entry.lateness <= -CLOCK_STEP for entry in delivered),
            late=sum(not entry.may_be_late and entry.lateness > self._lateness_limit for entry in delivered),
            unwanted=sum(entry.withdrawn for entry in delivered),
            unexplained=sum(entry.arrivals > attempts(entry.execution) for entry in repeated),
            latest_seconds=max((entry.lateness.total_seconds() for entry in delivered), default=0.0),
        )
