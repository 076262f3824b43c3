"""Where a parked event is stored: its lane (the partition key) and its sort key. Pure."""

import zlib
from datetime import UTC, datetime

# A partition takes 1,000 writes a second, so this many lanes park 16,000 events a second. The number may grow, never
# shrink: nobody sweeps a lane that no longer exists, so the events in it would be lost.
LANES = 16


def lanes() -> list[str]:
    """The partition keys under which events are parked."""
    return [f"lane-{number:02}" for number in range(LANES)]


def lane_of(id: str) -> str:
    """The lane of the event with this id."""
    return f"lane-{zlib.crc32(id.encode()) % LANES:02}"


def sort_key(due: datetime, revision: str) -> str:
    """A lane's order: the due time, then the revision, so that two revisions of one id never overwrite each other."""
    return f"{sortable(due)}#{revision}"


def due_of(key: str) -> datetime:
    """The due time in a sort key."""
    return datetime.fromisoformat(key.split("#")[0]).replace(tzinfo=UTC)


def sortable(moment: datetime) -> str:
    """A time in UTC in a fixed width, so that text sorts as time does."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")
