"""The executions of an event, read: from Deliver's log, or from an emulator that lists Express executions."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from .moments import from_seconds, readable, shown
from .stack import Stack

# An execution of Express lasts five minutes at most; logs arrive some seconds later.
RUNNING = timedelta(minutes=6)

# How an execution ends, in its log and as the API says it.
STATUSES = {
    "ExecutionSucceeded": "SUCCEEDED",
    "ExecutionFailed": "FAILED",
    "ExecutionTimedOut": "TIMED_OUT",
    "ExecutionAborted": "ABORTED",
}
STARTS_AND_ENDS = " || ".join(f'$.type = "{type}"' for type in ("ExecutionStarted", *STATUSES))
# An execution that took longer, of a delivery that was retried, is known without its input where only ends are read.
MOST_TAKE = timedelta(minutes=1)


@dataclass
class Execution:
    """One execution of Deliver. Times are UTC; `states` are the states it entered, in their order; `input` is empty if
    the log does not have it whole."""

    name: str
    started_at: datetime | None = None
    states: list[tuple[datetime, str]] = field(default_factory=list)
    status: str = "RUNNING"
    ended_at: datetime | None = None
    input: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def due(self) -> datetime | None:
        """When its event is due (UTC, to the millisecond)."""
        return from_seconds(self.input["due_ms"] / 1000) if "due_ms" in self.input else None

    def is_of(self, revision: str) -> bool:
        """Whether it is that of the message with this MessageId."""
        known = self.input.get("revision")
        return known == revision if known else revision[:8] in self.name

    @property
    def outcome(self) -> str:
        """What became of the event in this execution, as the end of a sentence that begins with it."""
        error, cause = self.result.get("error"), " ".join(self.result.get("cause", "").split())
        match self.status, self.result:
            case "SUCCEEDED", {"message_id": message_id, "late_ms": late}:
                at = f" at {shown(self.ended_at)} UTC" if self.ended_at else ""
                lateness = readable(timedelta(milliseconds=late))
                return f"delivered{at}, {lateness} after its date, as message {message_id}"
            case "SUCCEEDED", {"superseded": True}:
                return "not delivered: canceled or replaced"
            case "SUCCEEDED", {"retry_at": retry_at, "problem": problem}:
                return f"{problem}; parked again until {retry_at}"
            case "RUNNING", _:
                due = f" at {shown(self.due)} UTC" if self.due else ""
                return f"waiting in its execution until it is due{due}, or being delivered"
        ended = self.status.lower().replace("_", " ")
        return ended + (f" with {error}" if error else "") + (f": {cause}" if cause else "")

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "name": self.name,
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "states": [{"entered_at": at.isoformat(), "name": name} for at, name in self.states],
            "status": self.status,
            "ended_at": self.ended_at.isoformat() if self.ended_at else None,
            **self.result,
        }


def executions_of(stack: Stack, id: str, since: datetime) -> list[Execution]:
    """The executions of the event with this id that started since then (UTC), the earliest first."""
    found = _listed_or_logged(lambda: _from_history(stack, id), lambda: _from_logs(stack, id, since))
    recent = [execution for execution in found if execution.started_at is None or execution.started_at >= since]
    return sorted(recent, key=lambda execution: execution.started_at or since)


def ended_executions(stack: Stack, since: datetime, until: datetime) -> list[Execution]:
    """The executions that ended between two times (UTC), without their states."""

    def listed() -> list[Execution]:
        described = _described(stack, lambda it: it["status"] != "RUNNING" and since <= it["stopDate"] < until)
        return [execution for _, execution in described]

    def logged() -> list[Execution]:
        entries = log_entries(stack, "DeliverLog", f"{{ {STARTS_AND_ENDS} }}", since - MOST_TAKE, until)
        return [execution for execution in _noted(entries) if execution.ended_at and execution.ended_at >= since]

    return _listed_or_logged(listed, logged)


def _listed_or_logged(listed: Callable[[], list[Execution]], logged: Callable[[], list[Execution]]) -> list[Execution]:
    """AWS shows Express executions only in their logs, which have all of them at log level ALL alone. An emulator that
    lists Express executions is asked for them."""
    try:
        return listed()
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("StateMachineTypeNotSupported", "AccessDeniedException"):
            raise  # On AWS the permission would be of no use, so it need not be given.
        return logged()


def log_entries(
    stack: Stack, log: str, pattern: str, since: datetime, until: datetime | None = None
) -> Iterator[dict[str, Any]]:
    """What a log group of the stack (by its logical id) has from one time on, and before another, that matches a
    pattern."""
    times = {"startTime": max(0, int(since.timestamp() * 1000))}
    times |= {"endTime": int(until.timestamp() * 1000) - 1} if until else {}
    paginator = stack.client("logs").get_paginator("filter_log_events")
    pages = paginator.paginate(logGroupName=stack.physical_id(log), filterPattern=pattern, **times)
    # Emulators ignore the pattern, and a function's log has lines that are not JSON.
    entries = (_as_object(event["message"]) for page in pages for event in page["events"])
    return filter(None, entries)


def _is_of(name: str, id: str) -> bool:
    """Whether an execution's name is that of this id: the id, the start of a revision, the number of a retry."""
    return name == id or name.startswith(f"{id}-")


def _from_history(stack: Stack, id: str) -> list[Execution]:
    client, found = stack.client("stepfunctions"), []
    for arn, execution in _described(stack, lambda summary: _is_of(summary["name"], id)):
        if execution.input["id"] != id:
            continue
        history = client.get_paginator("get_execution_history").paginate(executionArn=arn)
        for event in (event for page in history for event in page["events"]):
            if entered := event.get("stateEnteredEventDetails"):
                execution.states.append((event["timestamp"].astimezone(UTC), entered["name"]))
        found.append(execution)
    return found


def _described(stack: Stack, is_wanted: Callable[[dict[str, Any]], bool]) -> Iterator[tuple[str, Execution]]:
    """The executions that an emulator lists, without their states, by their ARNs."""
    client = stack.client("stepfunctions")
    pages = client.get_paginator("list_executions").paginate(stateMachineArn=stack.output("DeliverArn"))
    for summary in filter(is_wanted, (summary for page in pages for summary in page["executions"])):
        described = summary | client.describe_execution(executionArn=summary["executionArn"])
        execution = Execution(described["name"], described["startDate"].astimezone(UTC), status=described["status"])
        if stopped := described.get("stopDate"):
            execution.ended_at = stopped.astimezone(UTC)
        execution.input = json.loads(described["input"])
        execution.result = _result(described.get("output"), described.get("error"), described.get("cause"))
        yield summary["executionArn"], execution


def _from_logs(stack: Stack, id: str, since: datetime) -> list[Execution]:
    entries = log_entries(stack, "DeliverLog", f'{{ $.execution_arn = "*:{id}*" }}', since)
    found = _noted(entry for entry in entries if _is_of(_name_in(entry), id))
    # The id of another event may begin with this one and a hyphen.
    return [execution for execution in found if execution.input.get("id", id) == id]


def _noted(entries: Iterable[dict[str, Any]]) -> Collection[Execution]:
    """The executions of entries of the log, which may come in any order."""
    found: dict[str, Execution] = {}
    for entry in entries:
        execution = found.setdefault(entry["execution_arn"], Execution(_name_in(entry)))
        at, type = datetime.fromtimestamp(int(entry["event_timestamp"]) / 1000, UTC), entry["type"]
        details = entry.get("details", {})
        if type == "ExecutionStarted":
            # Empty if the log has no input, or only its beginning.
            execution.started_at, execution.input = at, _as_object(details.get("input", ""))
        elif type.endswith("StateEntered"):
            execution.states = sorted([*execution.states, (at, details["name"])])
        elif type in STATUSES:
            execution.status, execution.ended_at = STATUSES[type], at
            execution.result = _result(details.get("output"), details.get("error"), details.get("cause"))
    return found.values()


def _name_in(entry: dict[str, Any]) -> str:
    """The name in arn:aws:states:Region:account:express:machine:name:unique."""
    return str(entry["execution_arn"]).split(":")[7]


def _as_object(text: str) -> dict[str, Any]:
    """A JSON object; empty if the text is none."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}


def _result(output: str | None, error: str | None, cause: str | None) -> dict[str, Any]:
    if error:  # Beside it, the emulator has an output.
        return {"error": error, "cause": cause} if cause else {"error": error}
    result: dict[str, Any] = json.loads(output) if output else {}
    return result
