"""The account of a drill: every event that was published, and everything that arrived because of it."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

# A queue's timestamps are truncated to milliseconds: an arrival less than this before the due time is not early.
CLOCK_STEP = timedelta(milliseconds=1)


@dataclass
class Entry:
    """One published event: what was asked for, and what arrived. `key` is its payload, `execution` the name of its
    Deliver execution, and `limit` how late the drill allows it to be (None: the limit of the whole drill)."""

    key: str
    execution: str
    due: datetime
    withdrawn: bool = False  # canceled or replaced in time
    interrupted: bool = False  # its execution was running when the emulator stopped
    limit: timedelta | None = None
    deliveries: list[datetime] = field(default_factory=list)
    reports: int = 0

    @property
    def arrivals(self) -> int:
        return len(self.deliveries) + self.reports

    @property
    def lateness(self) -> timedelta:
        """From the due time to the first delivery."""
        return min(self.deliveries) - self.due


@dataclass(frozen=True)
class Account:
    """What became of a drill's events.

    `events` is the sum of `delivered`, `reported`, `canceled`, `interrupted` and `missing`. The other counts are parts
    of these: `repeated` arrived more than once, `unexplained` more often than they were sent, `unwanted` were delivered
    although withdrawn in time, `late` exceeded their limit.
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


class Ledger:
    """The entries of one drill, by payload. What belongs to other drills is ignored."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def expect(self, key: str, execution: str, due: datetime) -> None:
        """Enter a published event. Raises ValueError if its payload is already in use: two could not be told apart."""
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

    def report(self, key: str) -> None:
        """Enter the arrival of a failure report."""
        if entry := self._entries.get(key):
            entry.reports += 1

    def interrupt(self, executions: Collection[str]) -> None:
        """Enter that the emulator stopped while the executions with these names were running."""
        for entry in self:
            entry.interrupted = entry.execution in executions

    def limit(self, seconds: float, executions: Collection[str] | None = None) -> None:
        """Limit the lateness of the events with these execution names (None means all)."""
        for entry in self:
            if executions is None or entry.execution in executions:
                entry.limit = timedelta(seconds=seconds)

    @property
    def last_due(self) -> datetime:
        return max((entry.due for entry in self), default=datetime.min.replace(tzinfo=UTC))

    @property
    def open(self) -> list[str]:
        """The payloads of the events of which something should have arrived and nothing has."""
        return [entry.key for entry in self if not (entry.arrivals or entry.withdrawn or entry.interrupted)]

    def latest_seconds(self, executions: Collection[str]) -> float:
        """The longest lateness of the events with these execution names."""
        late = (entry.lateness for entry in self if entry.deliveries and entry.execution in executions)
        return max(late, default=timedelta()).total_seconds()

    def account(self, attempts: Callable[[str], float], limit_seconds: float | None = None) -> Account:
        """Sum up. `attempts` tells, for an execution name, how often its event may have been sent: a repeat is
        explained if no more than that arrived. `limit_seconds` is for the events without a limit of their own."""
        limit = timedelta.max if limit_seconds is None else timedelta(seconds=limit_seconds)
        delivered = [entry for entry in self if entry.deliveries]
        silent = [entry for entry in self if not entry.arrivals]
        repeated = [entry for entry in self if entry.arrivals > 1]
        return Account(
            events=len(self._entries),
            delivered=len(delivered),
            repeated=len(repeated),
            reported=sum(not entry.deliveries and bool(entry.reports) for entry in self),
            canceled=sum(entry.withdrawn for entry in silent),
            interrupted=sum(entry.interrupted and not entry.withdrawn for entry in silent),
            missing=len(self.open),
            early=sum(entry.lateness <= -CLOCK_STEP for entry in delivered),
            late=sum(entry.lateness > (limit if entry.limit is None else entry.limit) for entry in delivered),
            unwanted=sum(entry.withdrawn for entry in delivered),
            unexplained=sum(entry.arrivals > attempts(entry.execution) for entry in repeated),
            latest_seconds=max((entry.lateness.total_seconds() for entry in delivered), default=0.0),
        )
