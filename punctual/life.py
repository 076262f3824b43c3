"""The life of one event: `show`. It only reads."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import click
from botocore.exceptions import ClientError
from punctual_core.lanes import lane_of
from punctual_core.limits import ID, ID_RULE
from rich.table import Table

from .moments import shown, to_duration
from .output import Output
from .parked import Parked
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


@dataclass
class Execution:
    """One execution of Deliver. Times are UTC; `states` are the states it entered, in their order."""

    name: str
    started_at: datetime | None = None
    states: list[tuple[datetime, str]] = field(default_factory=list)
    status: str = "RUNNING"
    ended_at: datetime | None = None
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """What became of the event in this execution, as a sentence without a period."""
        match self.status, self.result:
            case "SUCCEEDED", {"message_id": message_id, "late_ms": late}:
                return f"delivered {late:,.0f} ms after its date, as message {message_id}"
            case "SUCCEEDED", {"superseded": True}:
                return "not delivered: canceled or replaced"
            case "SUCCEEDED", {"retry_at": retry_at, "problem": problem}:
                return f"{problem}; parked again until {retry_at}"
            case "RUNNING", _:
                return "waiting, or being delivered"
        ended = self.status.lower().replace("_", " ")
        error, cause = self.result.get("error"), " ".join(self.result.get("cause", "").split())
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


@dataclass(frozen=True)
class Found:
    """Where an event is: parked until `due` (UTC), waiting in its execution, or unknown."""

    state: Literal["parked", "waiting", "unknown"]
    due: datetime | None = None


def locate(stack: Stack, id: str) -> Found:
    """Where the event with this id is now."""
    if parked := find_parked(stack, id, registered(stack, id)):
        return Found("parked", parked[0].due)
    since = datetime.now(UTC) - RUNNING
    if any(execution.status == "RUNNING" for execution in executions_of(stack, id, since)):
        return Found("waiting")
    return Found("unknown")


def registered(stack: Stack, id: str) -> dict[str, Any] | None:
    """The register's item for this id, in DynamoDB's JSON."""
    item: dict[str, Any] | None = (
        stack.client("dynamodb")
        .get_item(TableName=stack.output("RegisterTableName"), Key={"id": {"S": id}}, ConsistentRead=True)
        .get("Item")
    )
    return item


def find_parked(stack: Stack, id: str, item: dict[str, Any] | None) -> list[Parked]:
    """The parked events with this id: one, or for a moment two while it is replaced.

    A named event's item says where it is parked; for any other its lane is read, a sixteenth of the table.
    """
    dynamodb, table, lane = stack.client("dynamodb"), stack.output("ParkedTableName"), lane_of(id)
    if item and (key := item.get("parked", {}).get("S")):
        found = dynamodb.get_item(TableName=table, Key={"lane": {"S": lane}, "sort_key": {"S": key}}).get("Item")
        if found:
            return [Parked.from_item(found)]
    with Output.of_context().progress() as progress:
        progress.add_task(f"Reading {lane}", total=None)
        pages = dynamodb.get_paginator("query").paginate(
            TableName=table,
            KeyConditionExpression="lane = :lane",
            FilterExpression="begins_with(execution, :id)",
            ExpressionAttributeValues={":lane": {"S": lane}, ":id": {"S": id}},
        )
        events = [Parked.from_item(item) for page in pages for item in page["Items"]]
    return [event for event in events if event.id == id]


def executions_of(stack: Stack, id: str, since: datetime) -> list[Execution]:
    """The executions of the event with this id that started since then (UTC), the earliest first.

    AWS shows Express executions only in their logs, which have all of them at log level ALL alone. An emulator that
    lists Express executions is asked for them.
    """
    try:
        found = _from_history(stack, id)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("StateMachineTypeNotSupported", "AccessDeniedException"):
            raise  # On AWS the permission would be of no use, so it need not be given.
        found = _from_logs(stack, id, since)
    recent = [execution for execution in found if execution.started_at is None or execution.started_at >= since]
    return sorted(recent, key=lambda execution: execution.started_at or since)


def _is_of(name: str, id: str) -> bool:
    """Whether an execution's name is that of this id: the id, the start of a revision, the number of an attempt."""
    rest = name.removeprefix(id)
    return name.startswith(id) and (not rest or rest[0] == "-")


def _from_history(stack: Stack, id: str) -> list[Execution]:
    client, found = stack.client("stepfunctions"), []
    pages = client.get_paginator("list_executions").paginate(stateMachineArn=stack.output("DeliverArn"))
    for summary in (summary for page in pages for summary in page["executions"] if _is_of(summary["name"], id)):
        described = client.describe_execution(executionArn=summary["executionArn"])
        if json.loads(described["input"])["id"] != id:
            continue
        execution = Execution(summary["name"], summary["startDate"].astimezone(UTC), status=summary["status"])
        history = client.get_paginator("get_execution_history").paginate(executionArn=summary["executionArn"])
        for event in (event for page in history for event in page["events"]):
            if entered := event.get("stateEnteredEventDetails"):
                execution.states.append((event["timestamp"].astimezone(UTC), entered["name"]))
        if stopped := described.get("stopDate"):
            execution.ended_at = stopped.astimezone(UTC)
        execution.result = _result(described.get("output"), described.get("error"), described.get("cause"))
        found.append(execution)
    return found


def _from_logs(stack: Stack, id: str, since: datetime) -> list[Execution]:
    found: dict[str, Execution] = {}
    other: set[str] = set()
    pages = (
        stack.client("logs")
        .get_paginator("filter_log_events")
        .paginate(
            logGroupName=stack.physical_id("DeliverLog"),
            startTime=max(0, int(since.timestamp() * 1000)),
            filterPattern=f'{{ $.execution_arn = "*:{id}*" }}',
        )
    )
    with Output.of_context().progress() as progress:
        progress.add_task("Reading the executions' log", total=None)
        for line in (event["message"] for page in pages for event in page["events"]):
            entry = json.loads(line)
            arn = entry["execution_arn"]
            name = arn.split(":")[7]  # arn:aws:states:Region:account:express:machine:name:unique
            if not _is_of(name, id) or arn in other:
                continue
            details = entry.get("details", {})
            if entry["type"] == "ExecutionStarted" and _id_in(details.get("input")) not in (id, None):
                other.add(arn)  # Another event, whose id begins with this one and a hyphen.
                found.pop(arn, None)
                continue
            _note(found.setdefault(arn, Execution(name)), entry, details)
    return list(found.values())


def _note(execution: Execution, entry: dict[str, Any], details: dict[str, Any]) -> None:
    """Add an entry of the log, which may come in any order, to its execution."""
    at, type = datetime.fromtimestamp(int(entry["event_timestamp"]) / 1000, UTC), entry["type"]
    if type == "ExecutionStarted":
        execution.started_at = at
    elif type.endswith("StateEntered"):
        execution.states = sorted([*execution.states, (at, details["name"])])
    elif type in STATUSES:
        execution.status = STATUSES[type]
        execution.ended_at = at
        execution.result = _result(details.get("output"), details.get("error"), details.get("cause"))


def _id_in(text: str | None) -> str | None:
    """The id in an execution's input; None if the log has none, or only its beginning."""
    try:
        return str(json.loads(text or "")["id"])
    except (ValueError, KeyError, TypeError):
        return None


def _result(output: str | None, error: str | None, cause: str | None) -> dict[str, Any]:
    if error:  # Beside it, the emulator has an output.
        return {"error": error, "cause": cause} if cause else {"error": error}
    result: dict[str, Any] = json.loads(output) if output else {}
    return result


def _id(context: click.Context, parameter: click.Parameter, id: str) -> str:
    if not ID.fullmatch(id):
        raise click.BadParameter(f"{id!r} {ID_RULE}")
    return id


@click.command("show")
@click.argument("id", callback=_id, metavar="ID")
@click.option(
    "--since",
    callback=to_duration,
    default="1d",
    show_default=True,
    metavar="DURATION",
    help="How far back to read the executions' log, which is billed by what is read.",
)
@click.pass_obj
def show_command(stack: Stack, id: str, since: timedelta) -> None:
    """Show the life of one event: published, parked, its executions with each state's time, and the outcome.

    Executions are read from their log, which has all of them only if the stack's ExecutionLogLevel is ALL.
    """
    output, item = Output.of_context(), registered(stack, id)
    parked = find_parked(stack, id, item)
    executions = executions_of(stack, id, datetime.now(UTC) - since)
    if output.is_json:
        output.json(
            {
                "id": id,
                "registered": _registration(item) if item else None,
                "parked": [event.as_json() | {"superseded": _is_superseded(event, item)} for event in parked],
                "executions": [execution.as_json() for execution in executions],
            }
        )
    elif item or parked or executions:
        output.table(_timeline(id, item, parked, executions))
    if not (item or parked or executions):
        raise click.ClickException(f"{id} is unknown: not registered, not parked, and no execution in the log")


def _is_superseded(event: Parked, item: dict[str, Any] | None) -> bool:
    """Whether a parked event was canceled or replaced since: Ingest leaves an event without a name in its lane, where
    it cannot find it, and Deliver does not deliver it."""
    return item is not None and bool(item["revision"]["S"] != event.input["revision"])


def _registration(item: dict[str, Any]) -> dict[str, Any]:
    published = datetime.fromtimestamp(float(item["publication_order"]["S"].split()[0]), UTC)
    expires = datetime.fromtimestamp(int(item["expires_at"]["N"]), UTC)
    return {
        "revision": item["revision"]["S"],
        "published_at": published.isoformat(),
        "expires_at": expires.isoformat(),
    }


def _timeline(id: str, item: dict[str, Any] | None, parked: list[Parked], executions: list[Execution]) -> Table:
    rows: list[tuple[datetime | None, str]] = []
    if item:
        registration = _registration(item)
        text = f"last message with this id: {registration['revision']}"
        rows.append((datetime.fromisoformat(registration["published_at"]), text))
    for execution in executions:
        rows.append((execution.started_at, f"execution {execution.name} started"))
        rows += [(at, f"  {name}") for at, name in execution.states]
        rows.append((execution.ended_at, f"  {execution.outcome}"))
    for event in parked:
        retry = f" for retry {event.retry}" if event.retry else ""
        fate = "canceled or replaced, so not delivered" if _is_superseded(event, item) else "started shortly before"
        rows.append((event.due, f"parked{retry} in {event.lane}; {fate}"))
    table = Table("time (UTC)", id, box=None, pad_edge=False)
    for at, text in rows:
        table.add_row(shown(at) if at else "", text)
    return table
