"""The register: the message published last is valid for an id, in whatever order messages are processed."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from punctual_core import lanes
from punctual_core.register import REGISTER_RETENTION, UNREGISTERED_LIMIT

from tests.conftest import at, event, sweep, take, wanted

# A sweep takes its time for each lane, and the ids here are one.
pytestmark = pytest.mark.usefixtures("one_lane")
NEAR, MINUTES, YEARS = timedelta(seconds=10), timedelta(minutes=30), timedelta(days=800)


def delivered(cloud) -> list[str]:
    """The payloads of started events that Deliver would deliver now."""
    return [start.input["publish"]["Message"] for start in cloud.starts if wanted(cloud, start)]


def take_all(*messages: tuple[str, dict]) -> None:
    """Process messages at 09:00, each with the time at which it was published."""
    for published_at, message in messages:
        take(message, at("09:00"), at(published_at), message_id=f"{published_at.replace(':', '-')}-a-message-id")


# --- The message published last wins ---


@pytest.mark.parametrize("first", [NEAR, MINUTES, YEARS], ids=["near", "far", "very far"])
@pytest.mark.parametrize("second", [NEAR, MINUTES, YEARS], ids=["near", "far", "very far"])
@pytest.mark.parametrize("in_order", [True, False], ids=["in order", "overtaken"])
def test_a_replacement_replaces_wherever_it_moves_the_event(cloud, first, second, in_order):
    """From near to far, from far to near: only the replacement is delivered, in either order of processing."""
    messages = [
        ("08:00", event(at("09:00") + first, id="order", payload="first")),
        ("08:01", event(at("09:00") + second, id="order", payload="second")),
    ]
    take_all(*(messages if in_order else reversed(messages)))
    sweep(at("09:00") + YEARS)
    assert delivered(cloud) == ["second"]


@pytest.mark.parametrize(
    "order", list(permutations(range(3))), ids=lambda order: "".join(str(number + 1) for number in order)
)
@pytest.mark.parametrize("last", ["replace", "cancel", "schedule again"])
def test_three_messages_in_any_order_end_as_the_last_published_says(cloud, order, last):
    """Schedule, replace, cancel and every other history of three, processed in all six orders."""
    one, two, three = (event(at("10:00"), id="order", payload=payload) for payload in ("one", "two", "three"))
    history, expected = {
        "replace": ([one, {"cancel": "order"}, three], ["three"]),
        "cancel": ([one, two, {"cancel": "order"}], []),
        "schedule again": ([{"cancel": "order"}, two, three], ["three"]),
    }[last]
    messages = [(f"08:0{number}", message) for number, message in enumerate(history)]
    take_all(*(messages[number] for number in order))
    sweep(at("10:00"))
    assert delivered(cloud) == expected
    assert not cloud.parked()


@pytest.mark.parametrize("greater", ["schedule", "cancel"])
@pytest.mark.parametrize("order", sorted(set(permutations("aabb"))), ids="".join)
def test_copies_of_messages_of_one_millisecond_end_the_same_in_any_order(cloud, greater, order):
    """SNS's time ties: the MessageId decides. Each message is in the queue twice, and the copy that the queue got later
    is no later publication."""
    later = {"cancel": "order"} if greater == "cancel" else event(at("10:00"), id="order", payload="b")
    messages = {"a": event(at("10:00"), id="order", payload="a"), "b": later}
    for number, id in enumerate(order):
        sent_at = at("08:00") + timedelta(milliseconds=7 * number)
        take(messages[id], at("09:00"), at("08:00"), sent_at=sent_at, message_id=id)
    sweep(at("10:00"))
    assert delivered(cloud) == (["b"] if greater == "schedule" else [])


def test_an_earlier_replacement_whose_start_fails_is_not_lost(cloud):
    """It has claimed the id, whose item expires later than it could: its retry has to pass for itself, and not for an
    older message."""
    take_all(("08:00", event(at("09:00") + YEARS, id="order", payload="first")))
    cloud.fail("StartExecution")
    replacement = ("08:01", event(at("09:00:05"), id="order", payload="second"))
    with pytest.raises(Exception, match="ThrottlingException"):
        take_all(replacement)
    cloud.recover()
    take_all(replacement)
    assert delivered(cloud) == ["second"]


# --- Out of the lane ---


@pytest.mark.parametrize(
    "later", [{"cancel": "order"}, event(at("09:00:05"), id="order"), event(at("11:00"), id="order")]
)
def test_a_replaced_or_canceled_event_is_removed_from_its_lane(cloud, later):
    """It need not be started only to find itself superseded."""
    take_all(("08:00", event(at("10:00"), id="order")), ("08:01", later))
    assert not [item for item in cloud.parked() if "08-00" in item["sort_key"].split("#")[1]]


def test_correctness_does_not_depend_on_the_removal(cloud):
    """If the delete fails, the message is retried; whatever happens then, the event finds itself canceled."""
    take_all(("08:00", event(at("10:00"), id="order")))
    cloud.fail("DeleteItem")
    with pytest.raises(Exception, match="ThrottlingException"):
        take_all(("08:01", {"cancel": "order"}))
    assert len(cloud.parked()) == 1
    cloud.recover()
    sweep(at("10:00"))
    assert len(cloud.starts) == 1 and delivered(cloud) == []


def test_the_register_says_where_an_event_is_parked(cloud, monkeypatch):
    """It is removed from there, even if today's lanes are others; a near event and a cancel are nowhere."""
    monkeypatch.setattr(lanes, "LANES", 16)
    take_all(("08:00", event(at("10:00"), id="order")))
    [parked] = cloud.parked()
    item = cloud.register()["order"]
    assert (item["lane"], item["parked"]) == (parked["lane"], parked["sort_key"])
    monkeypatch.setattr(lanes, "LANES", 3)
    take_all(("08:01", event(at("09:00:05"), id="order")))
    item = cloud.register()["order"]
    assert not cloud.parked() and item["lane"] is item["parked"] is True  # The value of NULL.


# --- A cancel that overtakes its event, and how long it is remembered ---


@pytest.mark.parametrize(
    "ahead", [NEAR, MINUTES, UNREGISTERED_LIMIT - MINUTES, UNREGISTERED_LIMIT + MINUTES, YEARS], ids=str
)
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("cancel_first", [True, False], ids=["cancel first", "event first"])
def test_a_cancel_holds_until_its_event_is_due_even_if_it_comes_first(cloud, ahead, named, cancel_first):
    """However far the event is, the register still has the cancel when it is due, with every item gone that may have
    expired."""
    due, id = at("09:00") + ahead, "order" if named else "a-message-id"
    scheduled = (event(due, **({"id": id} if named else {})), "08:00", "a-message-id")
    canceled = ({"cancel": id}, "08:01", "another")
    for message, published_at, message_id in (canceled, scheduled) if cancel_first else (scheduled, canceled):
        take(message, at("09:00"), at(published_at), message_id=message_id)
    cloud.expire(due)
    sweep(due)
    assert delivered(cloud) == []


def test_a_cancel_outlives_its_event_even_if_that_waits_in_the_queues(cloud):
    """A year of lead, 14 days in the queue, 14 in the dead-letter queue and both again: the cancel is still there."""
    take({"cancel": "a-message-id"}, at("09:00"))
    processed_at = at("09:00") + timedelta(days=56)
    assert (
        take(event(processed_at + UNREGISTERED_LIMIT), processed_at, at("08:00"), message_id="a-message-id") == "Parked"
    )
    cloud.expire(processed_at + UNREGISTERED_LIMIT)
    sweep(processed_at + UNREGISTERED_LIMIT)
    assert delivered(cloud) == []


def test_canceling_an_id_that_never_comes_costs_one_small_item_that_expires(cloud):
    """One write, 455 days, then it expires: a year in which its event may be due, and 90 days."""
    take({"cancel": "nobody"}, at("09:00"))
    assert len(cloud._calls) == 1 and list(cloud.register()) == ["nobody"]
    assert int(cloud.register()["nobody"]["expires_at"]) == (at("09:00") + timedelta(days=455)).timestamp()


@pytest.mark.parametrize("replacement", [NEAR, MINUTES], ids=["near", "far"])
def test_an_unnamed_event_that_was_replaced_under_its_message_id_does_not_come_back(cloud, replacement):
    """It is due in a year, and is not in the register; its replacement's item is kept until then, and longer."""
    due = at("09:00") + UNREGISTERED_LIMIT
    take(event(due, payload="first"), at("09:00"), at("08:00"), message_id="a-message-id")
    second = event(at("09:00") + replacement, id="a-message-id", payload="second")
    take(second, at("09:00"), at("08:01"), message_id="another")
    sweep(at("09:00") + replacement)
    assert delivered(cloud) == ["second"]
    cloud.expire(due)
    sweep(due)
    assert delivered(cloud) == ["second"]


def test_an_expiry_only_moves_to_a_later_time(cloud):
    """A near replacement of a far event is kept until the far one would have been due."""
    take_all(("08:00", event(at("09:00") + YEARS, id="order")))
    end = cloud.register()["order"]["expires_at"]
    assert datetime.fromtimestamp(int(end), UTC) == at("09:00") + YEARS + REGISTER_RETENTION
    take_all(("08:01", event(at("09:00") + MINUTES, id="order")), ("08:02", {"cancel": "order"}))
    assert cloud.register()["order"]["expires_at"] == end


def test_an_unnamed_event_is_registered_only_if_it_outlives_a_cancel(cloud):
    """Due in a year: no write. Later: it is registered, so that a cancel finds it."""
    take(event(at("09:00") + UNREGISTERED_LIMIT), at("09:00"), message_id="in-a-year")
    take(event(at("09:00") + UNREGISTERED_LIMIT + timedelta(seconds=1)), at("09:00"), message_id="later")
    assert list(cloud.register()) == ["later"]


def test_an_event_at_the_end_of_the_calendar_can_be_named_and_kept(cloud):
    """Its item expires after the year 9999, where Python's dates end."""
    assert take(event("9999-12-31T23:59:59Z", id="the-end"), at("09:00")) == "Parked"
    assert float(cloud.register()["the-end"]["expires_at"]) > datetime(9999, 12, 31, tzinfo=UTC).timestamp()
