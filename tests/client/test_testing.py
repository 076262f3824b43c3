"""`punctual.testing`: what a publisher's own tests see is what the stack would do."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from punctual_core import lanes

from punctual import InvalidEvent
from punctual.testing import INPUT_TOPIC, Delivery, Scheduler
from tests.conftest import FIFO_TARGET, TARGET, Cloud, at
from tests.functions import test_histories

SECOND = timedelta(seconds=1)


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(user="team", now=at("10:00"))


def test_an_event_is_delivered_when_time_has_come_to_it(scheduler):
    id = scheduler.schedule(
        target=FIFO_TARGET,
        payload="order",
        at=at("11:00"),
        subject="Order",
        attributes={"color": "red"},
        message_group_id="orders",
    )
    assert scheduler.advance(at("10:59:59.999")) == []
    [delivery] = scheduler.advance(SECOND)
    assert delivery.attributes.items() >= {"color": "red", "scheduler-id": id}.items()
    assert delivery.attributes["scheduler-date"] == "2026-12-24T11:00:00Z"
    expected = Delivery(at("11:00"), id, FIFO_TARGET, "order", delivery.attributes, "Order", "orders")
    assert delivery == expected
    assert scheduler.now == at("11:00:00.999")
    assert scheduler.advance(timedelta(days=1)) == []


def test_deliveries_are_in_the_order_of_their_times(scheduler):
    """A delay counts from the present of the test; what is past arrives at once."""
    for payload, due in [("later", 30), ("soon", 20), ("now", 0)]:
        scheduler.schedule(target=TARGET, payload=payload, delay=due)
    scheduler.schedule(target=TARGET, payload="past", at=at("09:00"))
    deliveries = scheduler.advance(SECOND * 30)
    assert [(delivery.payload, delivery.at - at("10:00")) for delivery in deliveries] == [
        ("now", 0 * SECOND),
        ("past", 0 * SECOND),
        ("soon", 20 * SECOND),
        ("later", 30 * SECOND),
    ]


def test_a_cancel_in_the_last_half_second_is_too_late(scheduler):
    """Though no time has passed here since the event was published."""
    id = scheduler.schedule(target=TARGET, payload="x", delay=0.5)
    scheduler.cancel(id)
    assert [delivery.id for delivery in scheduler.advance(SECOND)] == [id]


def test_what_the_stack_would_refuse_is_refused(scheduler):
    """By the rules of the client, for an input topic of its own; and time does not go back."""
    with pytest.raises(InvalidEvent, match="must not be the scheduler's input topic"):
        scheduler.schedule(target=INPUT_TOPIC, payload="x", delay=1)
    with pytest.raises(InvalidEvent, match="user is required"):
        Scheduler().schedule(target=TARGET, payload="x", delay=1)
    with pytest.raises(ValueError, match="time does not go back"):
        scheduler.advance(at("09:59"))


# --- Against the stack ------------------------------------------------------------------------------------------------

IDS = ["one", "two"]
# In quarters of a second, so that times meet each other, and the edges of cutoff and horizon.
quarters = st.integers(0, 60).map(lambda number: number * SECOND / 4)
schedules = st.tuples(st.just("schedule"), st.sampled_from([*IDS, None]), quarters)
unnamed = st.tuples(st.just("unnamed"), st.none(), quarters)
cancels = st.tuples(st.just("cancel"), st.sampled_from(IDS) | st.integers(0, 3), st.none())
histories = st.lists(st.tuples(quarters | st.just(SECOND / 4), schedules | unnamed | cancels), min_size=1, max_size=6)


def play(history: list) -> tuple[list[tuple[datetime, str, str]], list[Delivery]]:
    """Let the scheduler in memory play a history: the messages (when, MessageId, text), and what was delivered."""
    scheduler, messages, ids = Scheduler(user="team", now=at("10:00")), [], []
    publish = scheduler.publish

    def noted(TopicArn: str, Message: str) -> dict:
        answer = publish(TopicArn, Message)
        messages.append((scheduler.now, answer["MessageId"], Message))
        return answer

    scheduler.publish = noted
    delivered = []
    for pause, (kind, id, delay) in history:
        delivered += scheduler.advance(pause)
        if kind == "cancel":
            scheduler.cancel(id if isinstance(id, str) else ids[id] if id < len(ids) else "unknown")
        else:
            fields = {"target": TARGET, "payload": f"message {len(messages)}", "delay": delay}
            ids.append(scheduler.schedule(id=id, unnamed=kind == "unnamed", **fields))
    return messages, delivered + scheduler.advance(SECOND * 60)


def deliveries_of_the_stack(cloud: Cloud, messages: list) -> list[tuple[datetime, str, str]]:
    """What the real Ingest and Sweeper start, and Deliver publishes, of the same messages: when, id, and payload."""
    delivered = []
    for looked_at, start in test_histories.play(cloud, [(now, text, now, id) for now, id, text in messages]):
        due = at("00:00", "1970-01-01") + timedelta(milliseconds=start.input["due_ms"])
        delivered.append((max(due, looked_at), start.input["id"], start.input["publish"]["Message"]))
    return delivered


@pytest.mark.slow
@settings(max_examples=100)
@given(history=histories)
def test_any_history_ends_as_in_the_stack(cloud, monkeypatch, history):
    """Schedule, replace and cancel, at any distance from the moment at which it is decided."""
    monkeypatch.setattr(lanes, "LANES", 1)  # A sweep queries every lane.
    messages, delivered = play(history)
    assert delivered == sorted(delivered, key=lambda delivery: delivery.at)
    here = [(delivery.at, delivery.id, delivery.payload) for delivery in delivered]
    assert sorted(here) == sorted(deliveries_of_the_stack(cloud, messages))
