"""What takes long to read: the logs of a day, and all that is parked. Each is read once while the page is open."""

import itertools
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import click

from ..executions import Execution, ended_executions, log_entries
from ..parked import Selection, count_events
from ..stack import Stack

WINDOW = timedelta(minutes=10)
# Entries arrive in a log some seconds late: a window is read again, though not at once, until it ended so long ago.
SETTLED, FRESH = timedelta(minutes=2), timedelta(seconds=5)
NEVER = datetime.min.replace(tzinfo=UTC)
# A request reads or waits for so long. The page shows what there is, and asks again each second.
READING_SECONDS, WAIT_SECONDS = 3.0, 0.5
# A count that nobody has asked for so long ends, because DynamoDB bills what it reads, and Ctrl-C waits for it.
PATIENCE_SECONDS = 5.0


class Ended(NamedTuple):
    """What an execution, or a refusal by Ingest, came to: how late it delivered, in milliseconds, or its problem, or
    neither if it was canceled. It takes about 250 bytes of memory."""

    at: datetime
    id: str
    late_ms: int | None
    problem: str


class History:
    """What ended lately. The logs are read backward, in windows of time, each of which is read once."""

    def __init__(self, stack: Stack):
        self._stack, self._lock, self._windows = stack, threading.Lock(), dict[datetime, tuple[list[Ended], datetime]]()

    def since(self, since: datetime) -> tuple[list[Ended], datetime | None]:
        """What ended since then (UTC), the earliest first; and where it begins, if there was no time to read it all."""
        with self._lock:  # What another request is reading need not be read again.
            found, give_up_at, is_late = list[Ended](), time.monotonic() + READING_SECONDS, False
            now = datetime.now(UTC)
            window = floor(now, WINDOW) + WINDOW
            while window > since and not is_late:
                window -= WINDOW
                ended, read_at = self._windows.get(window, ([], NEVER))
                if read_at < min(now - FRESH, window + WINDOW + SETTLED):
                    ended = self._read(window)
                    self._windows[window] = ended, now
                    # After one window at least that need not be read again: each request gets on.
                    is_late = now > window + WINDOW + SETTLED and time.monotonic() > give_up_at
                found += ended
        return sorted((e for e in found if e.at >= since), key=lambda e: e.at), window if window > since else None

    def _read(self, window: datetime) -> list[Ended]:
        ended = [_ended(execution) for execution in ended_executions(self._stack, window, window + WINDOW)]
        entries = log_entries(self._stack, "IngestLog", '{ $.message = "refused" }', window, window + WINDOW)
        for entry in (entry for entry in entries if entry.get("message") == "refused"):
            at, problem = datetime.fromisoformat(entry["timestamp"]), f"refused: {entry['reason']}"
            ended.append(Ended(at, str(entry["id"]), None, problem))
        return ended


def _ended(execution: Execution) -> Ended:
    given, result, late_ms, problem = execution.input, execution.result, None, ""
    if "message_id" in result:
        # After the date, or after the message was accepted if the date was past then.
        late_ms = int(result["late_ms"]) - max(0, int(given.get("accepted_ms", 0)) - int(given.get("due_ms", 0)))
    if execution.status != "SUCCEEDED" or "problem" in result:
        problem = execution.outcome.partition("; parked again until")[0]
    # A name is an id, the beginning of a revision, and the number of a retry.
    id = given.get("id") or re.sub(r"(-[0-9a-f]{8})?(-r\d+)?$", "", execution.name)
    return Ended(execution.ended_at or datetime.now(UTC), id, late_ms, problem)


class Count:
    """The parked events of a selection, counted by minute. `number` says how far it has come."""

    def __init__(self, stack: Stack, selection: Selection):
        self.at, self.number = datetime.now(UTC), 0
        self._asked_at, self._numbers = time.monotonic(), itertools.count(1)
        self._counting = ThreadPoolExecutor(1).submit(count_events, stack, selection, self._minute_of, lambda _: None)

    def minutes(self) -> Counter[datetime] | None:
        """How many are due in each minute; None while they are counted. Raises what counting raised."""
        self._asked_at = time.monotonic()
        return self._counting.result()[0] if wait([self._counting], WAIT_SECONDS).done else None

    def _minute_of(self, due: datetime) -> datetime:
        if time.monotonic() > self._asked_at + PATIENCE_SECONDS:
            raise click.ClickException("the count was stopped, because nobody waited for it")
        self.number = next(self._numbers)  # Of several threads at once.
        return due.replace(second=0, microsecond=0)


def floor(moment: datetime, width: timedelta) -> datetime:
    """The beginning of the period of this width in which a time (UTC) is."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (moment - epoch) // width * width
