"""How fast `punctual list` and `count` are with many parked events, how much they read, and how much memory they take.

Each command runs in a process of its own, as in a shell, against the Parked table of a deployed stack.
"""

import json
import os
import resource
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from scheduler.event import Event, Rules, parse
from scheduler.parking import BATCH_SIZE, Parking

from tools.local import LocalStack

type Item = dict[str, Any]  # of DynamoDB

# The least is an hour from now, so that no sweep takes one; the days are those of a usual schedule.
LEAST_DELAY, SPREAD = timedelta(hours=1), timedelta(days=30)
PAYLOAD = "x" * 500
THREADS = 8

LIMITED = ("list", "--limit", "20")
COMMANDS: tuple[tuple[str, ...], ...] = (LIMITED, ("list", "--limit", "{events}"), ("count",), ("count", "--by", "day"))
# The goals: the memory of each command; and a page of each lane for a short list, whatever is parked.
MAX_MEMORY_MB, MAX_PAGES = 200, 16


@dataclass(frozen=True)
class Measured:
    """One run of a command: its seconds, the pages that it read, and the most memory that its process had."""

    command: str
    seconds: float
    pages: int
    memory_mb: float


def measure(stack: LocalStack, events: int) -> list[Measured]:
    """Park that many events in the stack's table, run each command, and delete the events."""
    items = list(_items(stack, events))
    _write(stack, [{"PutRequest": {"Item": item}} for item in items])
    try:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        measured = []
        for command in COMMANDS:
            arguments = [part.format(events=events) for part in command]
            # A new process for each, so that its memory is its own.
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                measured.append(process.submit(_run, arguments, environment | stack.environment).result())
        return measured
    finally:
        keys = [{"lane": item["lane"], "sort_key": item["sort_key"]} for item in items]
        _write(stack, [{"DeleteRequest": {"Key": key}} for key in keys])


def table(result: dict[str, Any]) -> Table:
    """The result of a measurement, for the console."""
    title = f"The command, with {result['events']:,} parked events"
    found = Table("", "seconds", "pages read", "memory (MB)", title=title, title_justify="left", box=SIMPLE)
    for column in found.columns[1:]:
        column.justify = "right"
    for row in result["commands"]:
        found.add_row(row["command"], f"{row['seconds']:.1f}", f"{row['pages']:,}", f"{row['memory_mb']:.0f}")
    return found


def misses(result: dict[str, Any]) -> list[str]:
    """The goals that were not met, one sentence each."""
    return [
        f"{row['command']}: {row[figure]} {unit} instead of at most {goal}"
        for row in result["commands"]
        for figure, unit, goal in (("memory_mb", "MB", MAX_MEMORY_MB), ("pages", "pages", MAX_PAGES))
        if row[figure] > goal and (figure == "memory_mb" or row["command"].endswith(" ".join(LIMITED)))
    ]


def _items(stack: LocalStack, events: int) -> Iterator[Item]:
    """What Ingest puts into the table, made by its own classes."""
    collected: list[Item] = []

    class Collector:
        def put_item(self, TableName: str, Item: Item) -> None:
            collected.append(Item)

    parking, now = Parking(Collector(), "Parked"), datetime.now(UTC)
    topic = stack.outputs["InputTopicArn"]
    rules, target = Rules(topic, ("*",)), f"{topic.rpartition(':')[0]}:bench"
    for number in range(events):
        due = now + LEAST_DELAY + SPREAD * number / events
        message = {"date": due.isoformat(), "target": target, "user": "bench", "payload": PAYLOAD}
        event = parse(json.dumps(message), str(uuid.uuid4()), now, rules)
        assert isinstance(event, Event)
        parking.park(event)
        yield collected.pop()


def _write(stack: LocalStack, requests: Sequence[dict[str, Any]]) -> None:
    dynamodb, table = stack.client("dynamodb", max_pool_connections=THREADS), stack.outputs["ParkedTableName"]

    def write(batch: Sequence[dict[str, Any]]) -> None:
        dynamodb.batch_write_item(RequestItems={table: list(batch)})

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(write, batched(requests, BATCH_SIZE, strict=False)))


def _run(arguments: list[str], environment: dict[str, str]) -> Measured:
    """In the command's process."""
    os.environ.clear()
    os.environ.update(environment)
    from botocore.client import BaseClient

    from punctual.cli import main

    # Not in the stubs, and the only place that every page passes.
    pages, name = 0, "_make_api_call"
    call = getattr(BaseClient, name)

    def count(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        nonlocal pages
        pages += operation == "Query"
        return call(client, operation, parameters)

    setattr(BaseClient, name, count)
    began_at = time.perf_counter()
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            main(arguments)
    except SystemExit as exit:
        if exit.code:
            raise RuntimeError(f"punctual {' '.join(arguments)} ended with {exit.code}") from exit
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    seconds = time.perf_counter() - began_at
    return Measured(f"punctual {' '.join(arguments)}", round(seconds, 1), pages, round(memory))
