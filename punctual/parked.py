"""Commands about parked events: `list` and `count`. They only read."""

import heapq
import itertools
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import batched
from typing import Any, Self

import click
from punctual_core.lanes import due_of, lanes, sortable
from rich.table import Table

from .moments import shown, to_moment
from .output import Output, plural
from .stack import Stack

MAX_BARS = 1000
# A longer table is printed in pieces of so many rows.
TABLE_ROWS = 1000


@dataclass(frozen=True)
class Parked:
    """A parked event. `due` (UTC) is when a sweep starts it. `retry` counts its failed deliveries: 0 if it has not been
    tried yet; otherwise `due` is when it is tried again, by an execution whose name ends with `-r` and this number."""

    lane: str
    due: datetime
    execution: str
    retry: int
    input: dict[str, Any]

    @classmethod
    def from_item(cls, item: dict[str, Any]) -> Self:
        """From an item of the table, in DynamoDB's JSON."""
        return cls(
            item["lane"]["S"],
            due_of(item["sort_key"]["S"]),
            item["execution"]["S"],
            int(item.get("attempt", {}).get("N", 0)),
            json.loads(item["input"]["S"]),
        )

    @property
    def id(self) -> str:
        """The event's id."""
        return str(self.input["id"])

    @property
    def event(self) -> dict[str, Any]:
        """The message as it was published."""
        return {**self.input["event"], "payload": self.input["publish"]["Message"]}

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "id": self.id,
            "due": self.due.isoformat(),
            "retry": self.retry,
            "lane": self.lane,
            "execution": self.execution,
            "event": self.event,
        }


def parked_events(
    dynamodb: Any, table: str, after: datetime | None = None, before: datetime | None = None, limit: int | None = None
) -> Iterator[Parked]:
    """Parked events in the order of their due times, at most `limit`, due from `after` on and before `before` (UTC).

    The lanes are read side by side and merged, each no further than is asked for: with a limit that is one page of
    each lane, and without one memory holds a page of each.
    """
    lanes_items = [_items(dynamodb, table, lane, after, before, page_size=limit) for lane in lanes()]
    merged = heapq.merge(*lanes_items, key=lambda item: item["sort_key"]["S"])
    return map(Parked.from_item, itertools.islice(merged, limit))


def due_times(
    dynamodb: Any, table: str, lane: str, after: datetime | None = None, before: datetime | None = None
) -> Iterator[datetime]:
    """The due time (UTC) of each event in a lane."""
    for item in _items(dynamodb, table, lane, after, before, ProjectionExpression="sort_key"):
        yield due_of(item["sort_key"]["S"])


def _items(
    dynamodb: Any,
    table: str,
    lane: str,
    after: datetime | None,
    before: datetime | None,
    page_size: int | None = None,
    **query: Any,
) -> Iterator[dict[str, Any]]:
    pages = dynamodb.get_paginator("query").paginate(
        TableName=table,
        KeyConditionExpression="lane = :lane AND sort_key BETWEEN :after AND :before",
        ExpressionAttributeValues={
            ":lane": {"S": lane},
            # Sort keys begin with a year: after every `/` and before every `:`.
            ":after": {"S": sortable(after) if after else "/"},
            ":before": {"S": sortable(before) if before else ":"},
        },
        PaginationConfig={"PageSize": page_size},
        **query,
    )
    for page in pages:
        yield from page["Items"]


_after = click.option(
    "--after", callback=to_moment, metavar="TIME", help="Only events due at this time (ISO 8601) or later."
)
_before = click.option(
    "--before", callback=to_moment, metavar="TIME", help="Only events due before this time (ISO 8601)."
)


def _check_order(after: datetime | None, before: datetime | None) -> None:
    if after and before and after > before:
        raise click.UsageError(f"--after {shown(after)} is later than --before {shown(before)}")


@click.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="At most so many.")
@_after
@_before
@click.pass_obj
def list_command(stack: Stack, limit: int, after: datetime | None, before: datetime | None) -> None:
    """List parked events, the earliest first.

    An event that is due within seconds is in its execution and no longer parked: `show` finds it. A canceled event that
    was published without an id stays parked until it is due, and is not delivered then.
    """
    _check_order(after, before)
    table_name, output = stack.output("ParkedTableName"), Output.of_context()
    number = 0
    with output.progress(beside_output=True) as progress:
        task = progress.add_task("", total=None)

        def counted(events: Iterable[Parked]) -> Iterator[Parked]:
            nonlocal number
            for number, event in enumerate(events, 1):
                if number % TABLE_ROWS == 0:
                    progress.update(task, description=plural(number, "event"))
                yield event

        events = counted(parked_events(stack.client("dynamodb"), table_name, after, before, limit))
        if output.is_json:
            output.json_list(event.as_json() for event in events)
            return
        # Piece by piece: a table of all that may be parked would not fit in memory.
        for rows in batched(events, TABLE_ROWS, strict=False):
            output.table(_table(rows, is_first=number <= TABLE_ROWS))
    if not number:
        output.line("No events are parked.")
    if number == limit:
        output.note(f"The first {limit}. There may be more: see --limit and --after.")


def _table(events: Iterable[Parked], is_first: bool) -> Table:
    """A table of events, or the continuation of one."""
    table = Table("due (UTC)", "id", "target", "payload", "retry", box=None, pad_edge=False, show_header=is_first)
    for column in table.columns:
        column.overflow = "fold"  # On a narrow terminal nothing is cut.
    # That of the usual id, so that continuations stay in their columns.
    table.columns[1].min_width = len(str(uuid.UUID(int=0)))
    for event in events:
        payload = event.event["payload"]
        table.add_row(
            shown(event.due),
            event.id,
            event.event["target"].rpartition(":")[2],
            payload[:40].encode("unicode_escape").decode() + ("..." if payload[40:] else ""),
            str(event.retry),
        )
    return table


@click.command("count")
@click.option(
    "--by", type=click.Choice(["minute", "hour", "day"]), default="hour", show_default=True, help="The width of a bar."
)
@_after
@_before
@click.pass_obj
def count_command(stack: Stack, by: str, after: datetime | None, before: datetime | None) -> None:
    """Count parked events by their due time, as a bar chart.

    Reads all of them, which DynamoDB bills by their size.
    """
    _check_order(after, before)
    table_name, output = stack.output("ParkedTableName"), Output.of_context()
    counts: Counter[datetime] = Counter()
    with output.progress() as progress:
        task = progress.add_task("", total=len(lanes()))
        for lane in lanes():
            for number, due in enumerate(due_times(stack.client("dynamodb"), table_name, lane, after, before)):
                counts[_start_of(by, due)] += 1
                if number % 1000 == 0:
                    progress.update(task, description=f"{counts.total():,} events")
            progress.advance(task)
    if output.is_json:
        by_time = {start.isoformat(): number for start, number in sorted(counts.items())}
        output.json({"by": by, "total": counts.total(), "counts": by_time})
        return
    if counts:
        output.table(_bar_chart(by, counts))
    output.line(f"{plural(counts.total(), 'event')} {'is' if counts.total() == 1 else 'are'} parked.")


def _start_of(by: str, due: datetime) -> datetime:
    start = due.replace(second=0, microsecond=0)
    if by != "minute":
        start = start.replace(minute=0)
    return start.replace(hour=0) if by == "day" else start


def _bar_chart(by: str, counts: Counter[datetime]) -> Table:
    table = Table(f"{by} (UTC)", "events", "", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    most = max(counts.values())
    for start, number in sorted(counts.items())[:MAX_BARS]:
        label = start.strftime("%Y-%m-%d" if by == "day" else "%Y-%m-%d %H:%M")
        table.add_row(label, f"{number:,}", "█" * max(1, round(40 * number / most)))
    if len(counts) > MAX_BARS:
        table.add_row("...", "", f"{len(counts) - MAX_BARS:,} more bars: choose a wider one with --by")
    return table
