"""How fast `punctual list` and `count` are with many parked events, how much they read, and how much memory they take.

Each command runs in a process of its own, as in a shell, against a stack that is nothing but a Parked table: sweeps of
a whole one would use up the emulator, which reads a lane to its end for each.
"""

import json
import os
import resource
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from punctual_core.event import Event, Rules, parse
from punctual_core.parking import BATCH_SIZE, Parking
from rich.box import SIMPLE
from rich.table import Table

from tools.local import LocalStack

type Item = dict[str, Any]  # of DynamoDB

SPREAD = timedelta(days=30)
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
    """Park that many events, and run each command."""
    with _table_stack(stack) as (name, table_name):
        _in_a_process(_park, stack.environment, table_name, stack.outputs["InputTopicArn"], events)
        commands = ([part.format(events=events) for part in command] for command in COMMANDS)
        return [_in_a_process(_run, stack.environment, name, arguments) for arguments in commands]


def _in_a_process[**P, T](work: Callable[P, T], environment: dict[str, str], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a new process. Its memory is its own: on Linux a process begins with the peak of its parent,
    so whatever takes much of it must not be done in that either."""
    processes = ProcessPoolExecutor(1, get_context("spawn"), initializer=_become, initargs=(environment,))
    with processes as process:
        return process.submit(work, *args, **kwargs).result()


def _become(environment: dict[str, str]) -> None:
    os.environ.update(environment)


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


@contextmanager
def _table_stack(stack: LocalStack) -> Iterator[tuple[str, str]]:
    """A stack with a table like Parked, as long as the block lasts. Yields the names of both."""
    parked = stack.client("dynamodb").describe_table(TableName=stack.outputs["ParkedTableName"])["Table"]
    properties = {name: parked[name] for name in ("KeySchema", "AttributeDefinitions")}
    template = {
        "Resources": {
            "Parked": {"Type": "AWS::DynamoDB::Table", "Properties": properties | {"BillingMode": "PAY_PER_REQUEST"}}
        },
        "Outputs": {"ParkedTableName": {"Value": {"Ref": "Parked"}}},
    }
    cloudformation, name = stack.client("cloudformation"), f"bench-{uuid.uuid4().hex[:8]}"
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    try:
        waiter = cloudformation.get_waiter("stack_create_complete")
        waiter.wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        yield name, stack.outputs_of(name)["ParkedTableName"]
    finally:
        cloudformation.delete_stack(StackName=name)


def _park(table_name: str, input_topic: str, events: int) -> None:
    """Write what Ingest writes, made by its own classes."""
    collected: list[Item] = []

    class Collector:
        def put_item(self, TableName: str, Item: Item) -> None:
            collected.append(Item)

    parking, now = Parking(Collector(), table_name), datetime.now(UTC)
    rules, target = Rules(input_topic, ("*",)), f"{input_topic.rpartition(':')[0]}:bench"
    for number in range(events):
        due = now + SPREAD * number / events
        message = {"date": due.isoformat(), "target": target, "user": "bench", "payload": PAYLOAD}
        event = parse(json.dumps(message), str(uuid.uuid4()), now, rules)
        assert isinstance(event, Event)
        parking.park(event)

    dynamodb = boto3.client("dynamodb", config=Config(max_pool_connections=THREADS))

    def write(items: Sequence[Item]) -> None:
        dynamodb.batch_write_item(RequestItems={table_name: [{"PutRequest": {"Item": item}} for item in items]})

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(write, batched(collected, BATCH_SIZE, strict=False)))


def _run(stack_name: str, arguments: list[str]) -> Measured:
    from botocore.client import BaseClient

    from punctual.cli import main

    # Not in the stubs, and the only place that every page passes.
    pages, method = 0, "_make_api_call"
    call = getattr(BaseClient, method)

    def count(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        nonlocal pages
        pages += operation == "Query"
        return call(client, operation, parameters)

    setattr(BaseClient, method, count)
    began_at = time.perf_counter()
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            main(["--stack", stack_name, *arguments])
    except SystemExit as exit:
        if exit.code:
            raise RuntimeError(f"punctual {' '.join(arguments)} ended with {exit.code}") from exit
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    seconds = time.perf_counter() - began_at
    return Measured(f"punctual {' '.join(arguments)}", round(seconds, 1), pages, round(memory))
