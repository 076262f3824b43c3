"""The commands `list` and `count`: parked events, as tables. They only read."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import batched
from typing import Any

import click
from rich.table import Table

from .moments import shown, to_moment
from .output import Output, plural
from .parked import Parked, Selection, count_events, parked_events
from .stack import Stack

# A longer table is printed in pieces of so many rows.
TABLE_ROWS = 1000
# Of a time, of the usual id, and of a state, so that continuations of a table stay in their columns.
TIME_WIDTH, ID_WIDTH, STATE_WIDTH = 23, 36, 8
# On a narrower terminal a table would cut its columns.
TABLE_WIDTH = 100

_SELECTION = (
    click.option("--after", type=to_moment, metavar="TIME", help="Only due at this time (ISO 8601) or later."),
    click.option("--before", type=to_moment, metavar="TIME", help="Only due before this time (ISO 8601)."),
    click.option(
        "--target", metavar="TOPIC", help="Only to this topic: ARN, or name in the stack's account and Region."
    ),
    click.option("--user", metavar="TEXT", help="Only of this user, exactly as published."),
    click.option("--id-prefix", metavar="TEXT", help="Only with an id that begins with this."),
)


def selecting[Command: Callable[..., Any]](command: Command) -> Command:
    """Add the options from which `selection_of` makes a `Selection`."""
    for option in reversed(_SELECTION):
        command = option(command)
    return command


def selection_of(stack: Stack, options: dict[str, Any]) -> Selection:
    """What the options select."""
    selection = Selection(**options)
    if selection.after and selection.before and selection.after > selection.before:
        raise click.UsageError(f"--after {shown(selection.after)} is later than --before {shown(selection.before)}")
    return Selection(**options | {"target": stack.topic_arn(selection.target)}) if selection.target else selection


@click.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="At most so many.")
@selecting
@click.pass_obj
def list_command(stack: Stack, /, limit: int, **options: Any) -> None:
    """List parked events, the earliest first.

    An event that is due within seconds is in its execution and no longer parked: `show` finds it. A canceled or
    replaced event that is still parked says so; it is not delivered.

    DynamoDB bills what it reads: at most --limit events of each of the 16 lanes, and the register's item of each that
    is listed. --after and --before read less; --target, --user, and --id-prefix read everything in between.
    """
    output, selection = Output.of_context(), selection_of(stack, options)
    found = parked_events(stack, selection, limit + 1)  # One more shows whether there are more.
    events = itertools.islice(found, limit)
    if output.is_json:
        output.json_list(event.as_json() for event in events)
    else:
        # Piece by piece: a table of all that may be parked would not fit in memory.
        is_first = True
        for rows in batched(events, TABLE_ROWS, strict=False):
            tell(output, rows, is_first)
            is_first = False
        if is_first:
            output.line("No events are parked." if selection == Selection() else "No such events are parked.")
    if next(found, None):
        output.note(f"The first {limit:,}. There are more: see --limit and --after.")


def tell(output: Output, events: Iterable[Parked], is_first: bool = True) -> None:
    """Print a table of events, or the continuation of one; on a narrow terminal lines, which it wraps."""
    rows = [_cells(event) for event in events]
    if output.width < TABLE_WIDTH + max((len(id) - ID_WIDTH for _, id, *_ in rows), default=0):
        for due, id, target, payload, state in rows:
            output.line(f"{due} UTC  {state}\n  {id}\n  {target}: {payload}")
        return
    table = Table("due (UTC)", "id", "target", "payload", "state", box=None, pad_edge=False, show_header=is_first)
    for column, width in zip(table.columns, (TIME_WIDTH, ID_WIDTH, None, None, STATE_WIDTH), strict=True):
        # Nothing is cut: target and payload are folded into what the others leave.
        column.min_width, column.no_wrap, column.overflow = width, width is not None, "fold"
    for row in rows:
        table.add_row(*row)
    output.table(table)


def _cells(event: Parked) -> tuple[str, ...]:
    payload = event.event["payload"]
    return (
        shown(event.due),
        event.id,
        event.event["target"].rpartition(":")[2],
        payload[:40].encode("unicode_escape").decode() + ("..." if payload[40:] else ""),
        f"retry {event.retry}" if event.retry and event.state == "parked" else event.state,
    )


@click.command("count")
@click.option(
    "--by", type=click.Choice(["minute", "hour", "day"]), default="hour", show_default=True, help="The width of a bar."
)
@selecting
@click.pass_obj
def count_command(stack: Stack, /, by: str, **options: Any) -> None:
    """Count parked events by their due time, as a bar chart, without those that were canceled or replaced.

    DynamoDB bills what it reads: all events between --after and --before by their size, whatever the other options
    select, and the register's item of each that is counted.
    """
    output, selection = Output.of_context(), selection_of(stack, options)
    with output.progress() as progress:
        task, read = progress.add_task("", total=16), 0

        def on_lane(number: int) -> None:
            nonlocal read
            read += number
            progress.update(task, advance=1, description=plural(read, "event"))

        counts, states = count_events(stack, selection, lambda due: _start_of(by, due), on_lane)
    total = states.pop("parked", 0)
    if output.is_json:
        by_time = {start.isoformat(): number for start, number in sorted(counts.items())}
        output.json({"by": by, "total": total, "counts": by_time, "left_out": dict(states)})
        return
    if counts:
        output.table(_bar_chart(by, counts))
    output.line(f"{plural(total, 'event')} {'is' if total == 1 else 'are'} parked.")
    if states:
        left_out = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
        output.line(f"Not counted, because they will not be delivered: {left_out}.")


def _start_of(by: str, due: datetime) -> datetime:
    smaller: dict[str, Any] = {"minute": {}, "hour": {"minute": 0}, "day": {"minute": 0, "hour": 0}}[by]
    return due.replace(second=0, microsecond=0, **smaller)


def _bar_chart(by: str, counts: Counter[datetime]) -> Table:
    table = Table(f"{by} (UTC)", "events", "", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    most = max(counts.values())
    for start, number in sorted(counts.items()):
        label = shown(start)[: 10 if by == "day" else 16]
        table.add_row(label, f"{number:,}", "█" * max(1, round(40 * number / most)))
    return table
