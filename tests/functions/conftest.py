"""What the tests of the Sweeper share."""

import threading

import pytest
from punctual_core import lanes

from tests.conftest import Cloud, at, event, take


@pytest.fixture
def one_lane(monkeypatch):
    """All events in one lane."""
    monkeypatch.setattr(lanes, "LANES", 1)


def park(count: int, **fields) -> None:
    """Park events order-0, order-1, ... that are due at 10:00."""
    for number in range(count):
        take(event(at("10:00"), **fields), at("09:00"), message_id=f"order-{number}")


def started(cloud: Cloud) -> list[str]:
    return sorted(start.input["id"] for start in cloud.starts)


def orders(count: int) -> list[str]:
    return sorted(f"order-{number}" for number in range(count))


def join_threads() -> None:
    """Wait for the threads that a sweep has left behind, so that they do nothing in the next test."""
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(10)
