"""What executions and refusals of the last day came to. Logs are read once, the latest first, and kept in memory."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from ..executions import RUNNING, Execution, as_object, described_as, note
from ..stack import Stack

WINDOW = timedelta(minutes=5)
# Entries arrive in a log some seconds late. A window that ended so long ago is not read again.
SETTLED = timedelta(minutes=2)
# An entry that was read takes about 1 KB of memory.
MOST = 200_000
# How long one request reads. The page asks again until it has everything.
SECONDS = 4.0
ENDS = "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"
EXECUTIONS = " || ".join(
    f'$.type = "Execution{end}"' for end in ("Started", "Succeeded", "Failed", "TimedOut", "Aborted")
)
NAME = re.compile(r"(.+)-[0-9a-f]{8}(-r\d+)?")


class Log:
    """A log group of the stack, read backward in windows of time, each of which is read to its end and only once."""

    def __init__(self, stack: Stack, logical_id: str, pattern: str, take: Callable[[datetime, dict[str, Any]], None]):
        self._stack, self._id, self._pattern, self._take = stack, logical_id, pattern, take
        self._tokens: dict[datetime, str] = {}
        self._settled: set[datetime] = set()

    def read(self, since: datetime, give_up_at: float) -> datetime | None:
        """Read back to that time (UTC). Returns how far it came if there was no time for all of it."""
        now = datetime.now(UTC)
        window = datetime.fromtimestamp(now.timestamp() // WINDOW.total_seconds() * WINDOW.total_seconds(), UTC)
        has_progressed = False  # One step of each request is, however little time it has.
        while window + WINDOW > since:
            if window not in self._settled:
                if has_progressed and time.monotonic() > give_up_at:
                    return window + WINDOW
                has_more, is_settled = self._page(window), now > window + WINDOW + SETTLED
                has_progressed |= has_more or is_settled
                if has_more:
                    continue
                if is_settled:
                    self._settled.add(window)
            window -= WINDOW
        return None

    def _page(self, window: datetime) -> bool:
        """Read a page of a window. Returns whether there are more."""
        start, token = int(window.timestamp() * 1000), self._tokens.pop(window, None)
        page = self._stack.client("logs").filter_log_events(
            logGroupName=self._stack.physical_id(self._id),
            startTime=start,
            endTime=start + int(WINDOW.total_seconds() * 1000) - 1,
            filterPattern=self._pattern,
            **({"nextToken": token} if token else {}),
        )
        for event in page["events"]:
            if entry := as_object(event["message"]):
                self._take(datetime.fromtimestamp(event["timestamp"] / 1000, UTC), entry)
        if "nextToken" in page:
            self._tokens[window] = page["nextToken"]
        return "nextToken" in page


class History:
    """The executions that ended, and the messages that Ingest refused. Threads take turns."""

    def __init__(self, stack: Stack):
        self._stack, self._lock, self._read_at, self._lists = stack, threading.Lock(), 0.0, True
        self._executions: dict[str, Execution] = {}
        self._refusals: dict[tuple[datetime, str], dict[str, Any]] = {}
        self._deliver = Log(stack, "DeliverLog", f"{{ {EXECUTIONS} }}", self._take)
        self._ingest = Log(stack, "IngestLog", '{ $.message = "refused" }', self._refused)

    def executions(self, since: datetime) -> tuple[list[Execution], datetime | None]:
        """Those that ended since then (UTC), and back to when they were read if that is not all."""
        until = self._in_turn(self._read_executions, since)
        ended = [e for e in list(self._executions.values()) if e.status in ENDS and (e.ended_at or since) >= since]
        return sorted(ended, key=lambda execution: execution.ended_at or since), until

    def refusals(self, since: datetime) -> list[tuple[datetime, dict[str, Any]]]:
        """What Ingest refused since then (UTC), as far as there was time to read its log."""
        self._in_turn(self._ingest.read, since)
        return [(at, entry) for (at, _), entry in list(self._refusals.items()) if at >= since]

    def _in_turn(self, read: Callable[[datetime, float], datetime | None], since: datetime) -> datetime | None:
        if not self._lock.acquire(timeout=SECONDS):
            return datetime.now(UTC)  # Another request is reading; what there is has to do for now.
        try:
            return read(since, time.monotonic() + SECONDS)
        finally:
            self._lock.release()

    def _read_executions(self, since: datetime, give_up_at: float) -> datetime | None:
        if self._lists:
            try:
                return self._list(since, give_up_at)
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("StateMachineTypeNotSupported", "AccessDeniedException"):
                    raise
                self._lists = False  # Only an emulator lists Express executions.
        if len(self._executions) > MOST:
            return min(filter(None, (e.ended_at for e in self._executions.values())))
        return self._deliver.read(since, give_up_at)

    def _list(self, since: datetime, give_up_at: float) -> datetime | None:
        for summary in self._summaries():
            if summary["startDate"] < since - RUNNING:
                break
            arn = summary["executionArn"]
            if summary["status"] == "RUNNING" or arn in self._executions:
                continue
            if time.monotonic() > give_up_at:
                return datetime.now(UTC)
            described = self._stack.client("stepfunctions").describe_execution(executionArn=arn)
            self._executions[arn] = _slim(described_as(summary | described))
        return None

    def _summaries(self) -> Iterator[dict[str, Any]]:
        pages = self._stack.client("stepfunctions").get_paginator("list_executions")
        for page in pages.paginate(stateMachineArn=self._stack.output("DeliverArn")):
            yield from sorted(page["executions"], key=lambda summary: summary["startDate"], reverse=True)

    def _take(self, at: datetime, entry: dict[str, Any]) -> None:
        arn = entry.get("execution_arn", "")
        if arn.count(":") >= 7:
            execution = self._executions.setdefault(arn, Execution(arn.split(":")[7]))
            note(execution, entry, entry.get("details", {}))
            _slim(execution)

    def _refused(self, at: datetime, entry: dict[str, Any]) -> None:
        if entry.get("message") == "refused":
            self._refusals[at, str(entry.get("id"))] = entry


def event_id(execution: Execution) -> str:
    """The id of its event: from its input, or out of its name."""
    named = NAME.fullmatch(execution.name)
    return execution.input.get("id") or (named[1] if named else re.sub(r"-r\d+$", "", execution.name))


def late_ms(execution: Execution) -> int | None:
    """How late it delivered, in milliseconds: after the due time, or after the message was accepted if that was later.
    None if it did not deliver."""
    if "message_id" not in execution.result or "late_ms" not in execution.result:
        return None
    input, late = execution.input, int(execution.result["late_ms"])
    return late - (int(input["accepted_ms"]) - int(input["due_ms"])) if input.get("accepted_ms") else late


def _slim(execution: Execution) -> Execution:
    """Without the payload: a day of them would not fit in memory."""
    kept = ("id", "due_ms", "accepted_ms")
    execution.input = {name: execution.input[name] for name in kept if name in execution.input}
    return execution
