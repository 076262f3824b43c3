"""Any history of an id, in simulated time, ends as promised to its publisher.

Ingest and Sweeper are the real ones; Deliver is its register check in Python (`wanted`), which tests/workflows tries on
the shipped definition. A history is compared with the promise in `expected`.
"""

import heapq
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from punctual_core import lanes

from tests.conftest import TEMPLATE, Cloud, Start, at, event, sweep, take, wanted

EXAMPLES = int(os.environ.get("PUNCTUAL_FUZZ_EXAMPLES", "0")) // 20 or 300
START = at("10:00")
SECOND = timedelta(seconds=1)
SWEEP_INTERVAL = int(TEMPLATE.text["Parameters"]["SweepIntervalSeconds"]["Default"]) * SECOND


@dataclass(frozen=True)
class Published:
    """A message for one id: when it was published, when Ingest processed it (more than once if it was redelivered),
    and for when it schedules the event; None if it cancels it."""

    number: int
    published_at: datetime
    taken_at: tuple[datetime, ...]
    due: datetime | None

    @property
    def message_id(self) -> str:
        return f"{self.number:08}-message"


def seconds(most: int) -> st.SearchStrategy[timedelta]:
    """Times in quarters of a second, so that drawn times meet each other, and the edges of cutoff and horizon."""
    return st.integers(0, 4 * most).map(lambda quarters: quarters * SECOND / 4)


@st.composite
def histories(draw: st.DrawFn, named: bool) -> list[Published]:
    """Messages for one id. A named one is scheduled, replaced and canceled; an unnamed one scheduled and canceled."""
    kinds = draw(st.lists(st.sampled_from(["schedule", "schedule", "cancel"]), min_size=1, max_size=4))
    if not named:
        kinds = ["schedule", *(["cancel"] * draw(st.integers(0, 2)))]
    history = []
    for number, kind in enumerate(kinds):
        # Often in the same millisecond, as SNS stamps the messages of one PublishBatch.
        published_at = START + draw(st.sampled_from([timedelta(), SECOND]) | seconds(60))
        taken_at = [published_at + draw(st.sampled_from([SECOND / 4, SECOND]) | seconds(60))]
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
            taken_at.append(taken_at[0] + draw(seconds(60)))
        due = published_at + draw(seconds(40) | seconds(120)) if kind == "schedule" else None
        history.append(Published(number, published_at, tuple(sorted(taken_at)), due))
    return history


def play(cloud: Cloud, taken: list[tuple[datetime, Any, datetime, str]]) -> list[tuple[datetime, Start]]:
    """Play messages (when Ingest takes each, the message, when it was published, its MessageId): sweeps tick until two
    minutes after the last, and each execution looks up its id at its cutoff. Returns those that were still wanted, and
    when they looked."""
    cloud.forget()
    delivered, looks = [], 0
    moments = [(now, "take", number) for number, (now, *_) in enumerate(taken)]
    ticks = (max(moments)[0] + 125 * SECOND - START) // SWEEP_INTERVAL
    moments += [(START + tick * SWEEP_INTERVAL, "sweep", 0) for tick in range(ticks)]
    heapq.heapify(moments)
    while moments:
        now, what, number = heapq.heappop(moments)
        match what:
            case "take":
                _, message, published_at, message_id = taken[number]
                take(message, now, published_at, sent_at=now, message_id=message_id)  # Each copy has its own sent_at.
            case "sweep" if cloud.parked():
                sweep(now)
            case "look" if wanted(cloud, cloud.starts[number]):
                delivered.append((now, cloud.starts[number]))
        for start in cloud.starts[looks:]:
            heapq.heappush(moments, (max(now, cutoff_of(start)), "look", looks))
            looks += 1
    assert not cloud.parked() and not cloud.reports()
    return delivered


def messages_of(history: list[Published], named: bool) -> list[tuple[datetime, Any, datetime, str]]:
    """What `play` takes of a history."""
    id, cancel = ({"id": "order"}, "order") if named else ({}, history[0].message_id)
    return [
        (moment, event(one.due, **id) if one.due else {"cancel": cancel}, one.published_at, one.message_id)
        for one in history
        for moment in one.taken_at
    ]


def cutoff_of(start: Start) -> datetime:
    return datetime.fromisoformat(start.input["cutoff_at"])


def expected(history: list[Published], one: Published) -> tuple[int, int]:
    """How often an event may be delivered, at least and at most, by the promise: a message that was published later
    counts if it was processed two seconds before the event is due, and does not if it was processed after."""
    at_least, at_most = 1, len(one.taken_at)
    for later in history:
        if (later.published_at, later.message_id) > (one.published_at, one.message_id):
            if later.taken_at[0] < max(one.due - 2 * SECOND, one.taken_at[0]):
                return 0, 0
            if later.taken_at[0] <= max(one.due, one.taken_at[0]):
                at_least = 0
    return at_least, at_most


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_any_history_ends_as_promised(cloud, monkeypatch, named, data):
    """Schedule, replace, cancel, redelivered and overtaking each other at any distance from the cutoff."""
    monkeypatch.setattr(lanes, "LANES", 1)  # A sweep queries every lane, and there is only one id here.
    history = data.draw(histories(named))
    if not named:  # An unnamed event cannot be canceled before Publish has returned its id.
        history[1:] = [one for one in history[1:] if one.published_at > history[0].published_at]
        history[1:] = [Published(n, o.published_at, o.taken_at, o.due) for n, o in enumerate(history[1:], 1)]
    delivered = [start.input["revision"] for _, start in play(cloud, messages_of(history, named))]
    for one in history:
        if one.due:
            at_least, at_most = expected(history, one)
            note(f"{at_least} to {at_most} deliveries")
            assert at_least <= delivered.count(one.message_id) <= at_most, (one.number, delivered, history)
