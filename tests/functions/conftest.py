"""What the tests of the functions share."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from punctual_core import ingest, lanes, sweeper
from punctual_core.clients import client
from punctual_core.executions import Executions

from tests.conftest import Cloud, LambdaContext, at, event, record, take

SOON, LATER = timedelta(seconds=5), timedelta(hours=1)


class Unexpected(Exception):
    """What no code expects."""


@pytest.fixture
def one_lane(monkeypatch):
    """All events in one lane."""
    monkeypatch.setattr(lanes, "LANES", 1)


def park(count: int, due: Any = "2026-12-24T10:00:00Z", name: str = "order", **fields: Any) -> None:
    """Park events order-0, order-1, ... that are due at 10:00, as Ingest does, and without the requests."""
    table = Cloud._backend("dynamodb").tables["Parked"]
    with patch.object(client("dynamodb"), "put_item", lambda TableName, Item: table.put_item(Item)):
        for number in range(count):
            take(event(due, **fields), at("09:00"), message_id=f"{name}-{number}")


def started(cloud: Cloud) -> list[str]:
    return sorted(start.input["id"] for start in cloud.starts)


def orders(count: int) -> list[str]:
    return sorted(f"order-{number}" for number in range(count))


def executions(before: Callable[[str], Any] = lambda name: None, after: Callable[[], Any] = lambda: None) -> Executions:
    """The executions of Deliver; something is done before and after each start."""

    class Watched(Executions):
        def start(self, name, input):
            before(name)
            super().start(name, input)
            after()

    return Watched(client("stepfunctions", 32), os.environ["DELIVER_ARN"])


# --- Batches of Ingest ---


def handle(*records: dict) -> list[str]:
    """The SQS message ids of the records that have to be retried."""
    answer = ingest.handler({"Records": list(records)}, LambdaContext())
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def batch(now: datetime, size: int = 10) -> list[dict]:
    """Records of events order-0, order-1, ... that are due soon."""
    return [record(event(now + SOON, id=f"order-{number}"), now) for number in range(size)]


def named(name: str) -> Callable[[dict], bool]:
    """Chooses the StartExecution calls for one event."""
    return lambda parameters: parameters["name"].startswith(name)


# --- Calls of the Sweeper ---


@pytest.fixture
def hang(monkeypatch) -> Iterator[Callable[[Callable[[Any], bool]], None]]:
    """Makes calls of the Sweeper hang whose first argument is such: they have no answer until the test ends. The
    Sweeper waits for all others, however busy the machine, and for these no time at all."""
    end, hanging = threading.Event(), set()

    def make(hangs: Callable[[Any], bool]) -> None:
        class Threads(ThreadPoolExecutor):
            def submit(self, call, first, *rest):
                if not hangs(first):
                    return super().submit(call, first, *rest)
                hanging.add(future := super().submit(end.wait, 30))
                return future

        def wait_for_others(futures: list[Future], timeout: float) -> Any:
            assert 0 < timeout < 30
            done = wait([future for future in futures if future not in hanging]).done
            return type(wait([]))(done, {*futures} - done)

        monkeypatch.setattr(sweeper, "ThreadPoolExecutor", Threads)
        monkeypatch.setattr(sweeper, "wait", wait_for_others)

    yield make
    assert hanging and not any(future.done() for future in hanging)
    end.set()
