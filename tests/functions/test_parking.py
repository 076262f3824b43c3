"""The Parked table: what is written, read and deleted, and how often it is tried."""

import os
import random
from collections import deque

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from punctual_core import parking
from punctual_core.clients import client
from punctual_core.event import Event
from punctual_core.lanes import sort_key
from punctual_core.parking import MAX_DELETES, ParkedEvent, Parking

from tests.conftest import at, deadline


@pytest.fixture
def table(cloud) -> Parking:
    return Parking(client("dynamodb"), os.environ["PARKED_TABLE"])


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses that would be made; each as long as it can be."""
    made: list[float] = []
    monkeypatch.setattr(parking.time, "sleep", made.append)
    monkeypatch.setattr(parking.random, "random", lambda: 1.0)
    return made


def parked(number: int, lane: str = "lane-00") -> ParkedEvent:
    return ParkedEvent(lane, f"2026-12-24T10:00:00.000000#r-{number}", f"order-{number}", "{}")


def put(table: Parking, *events: ParkedEvent) -> None:
    for each in events:
        item = {name: {"S": getattr(each, name)} for name in ("lane", "sort_key", "execution", "input")}
        client("dynamodb").put_item(TableName=os.environ["PARKED_TABLE"], Item=item)


def test_a_lane_is_read_consistently(cloud, table):
    """What a former holder of its lease deleted is gone: else it would start again."""
    list(table.due_before("lane-00", at("10:00")))
    [query] = cloud.asked("Query")
    assert query["ConsistentRead"] is True and "Limit" not in query


def test_what_is_due_at_that_moment_is_not_due_before_it(cloud, table):
    """10:00:00 is before 10:00:00.000001."""
    put(table, parked(1))
    assert not list(table.due_before("lane-00", at("10:00")))
    assert list(table.due_before("lane-00", at("10:00:00.000001"))) == [parked(1)]


def test_a_look_at_a_lane_is_limited(cloud, table):
    """The first three of five."""
    put(table, *(parked(number) for number in range(5)))
    assert table.first_keys("lane-00", at("11:00"), 3) == [parked(number).sort_key for number in range(3)]


def test_a_delete_returns_what_the_table_left(cloud, table):
    """One of three is left unprocessed: nothing is tried again here."""
    answers = Answers([1])
    left = Parking(answers, os.environ["PARKED_TABLE"]).delete([parked(1), parked(2), parked(3)])
    assert (left, answers.asked) == ([parked(3)], [["r-1", "r-2", "r-3"]])


class Answers:
    """A client that leaves so many of a call's deletes unprocessed, the last ones, call after call; then none."""

    def __init__(self, left: list[int]):
        self.left, self.asked = iter(left), []

    def batch_write_item(self, RequestItems):
        [(table, requests)] = RequestItems.items()
        keys = [request["DeleteRequest"]["Key"]["sort_key"]["S"] for request in requests]
        self.asked.append([key.split("#")[1] for key in keys])
        left = next(self.left, 0)
        return {"UnprocessedItems": {table: requests[len(requests) - left :]}} if left else {"UnprocessedItems": {}}


def delete_throttled(events: list[ParkedEvent], answers: Answers, most_left: int = 0) -> tuple[bool, list[ParkedEvent]]:
    """Whether it came to its end, and what is left."""
    throttled = deque(events)
    table = Parking(answers, os.environ["PARKED_TABLE"])
    has_ended = table.delete_throttled(throttled, deadline(at("10:00")), 1, most_left)
    return has_ended, list(throttled)


@pytest.mark.parametrize(("answers", "left"), [(10, 0), (11, 2), (100, 2)])
def test_deletes_are_given_up_after_twelve_attempts_in_vain(cloud, pauses, answers, left):
    """The sweep's own is the first; ten more are left unprocessed, then done; after eleven it is given up."""
    client = Answers([2] * answers)
    has_ended, events = delete_throttled([parked(1), parked(2)], client)
    assert (has_ended, len(events)) == (left == 0, left)
    assert len(client.asked) == len(pauses) == 11
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, *[2.0] * 6]


def test_deletes_go_on_as_long_as_the_table_makes_some(cloud, pauses):
    """Forty events, of which the table deletes one at each third attempt: after a delete the pauses begin anew."""

    class Slow(Answers):
        def batch_write_item(self, RequestItems):
            [(table, requests)] = RequestItems.items()
            self.asked.append(len(requests))
            left = len(requests) - (len(self.asked) % 3 == 0)
            return {"UnprocessedItems": {table: requests[len(requests) - left :]} if left else {}}

    slow = Slow([])
    assert delete_throttled([parked(number) for number in range(40)], slow) == (True, [])
    assert len(slow.asked) == 120 and max(slow.asked) == MAX_DELETES == 25
    assert pauses[:7] == [0.1, 0.2, 0.4, 0.05, 0.1, 0.2, 0.05]


def test_only_what_was_left_is_deleted_again(cloud, pauses):
    """One of two is left unprocessed: the second call is about that one."""
    client = Answers([1])
    assert delete_throttled([parked(1), parked(2)], client) == (True, [])
    assert client.asked == [["r-1", "r-2"], ["r-2"]]


def test_what_was_throttled_last_is_tried_again_last(cloud, pauses):
    """Thirty events: the five that no call was about come before those that a call left."""
    client = Answers([25])
    assert delete_throttled([parked(number) for number in range(30)], client) == (True, [])
    assert [len(asked) for asked in client.asked] == [25, 25, 5]
    assert client.asked[1][:6] == ["r-25", "r-26", "r-27", "r-28", "r-29", "r-0"]


def test_a_number_of_deletes_may_be_left(cloud, pauses):
    """Sixty events, of which thirty may wait: two calls."""
    client = Answers([])
    has_ended, left = delete_throttled([parked(number) for number in range(60)], client, most_left=30)
    assert (has_ended, left) == (True, [parked(number) for number in range(50, 60)])
    assert delete_throttled(left, client, most_left=10) == (True, left) and len(client.asked) == 2


def test_nothing_to_delete_is_no_call(cloud, table):
    """BatchWriteItem refuses an empty list."""
    assert table.delete([]) == []
    assert table.delete_throttled(deque(), deadline(at("10:00")), 1)
    assert not cloud.calls("BatchWriteItem")


def test_an_answer_that_names_nothing_has_left_nothing(cloud):
    """UnprocessedItems may be missing from it."""

    class Brief:
        def batch_write_item(self, RequestItems):
            return {}

    assert Parking(Brief(), os.environ["PARKED_TABLE"]).delete([parked(1)]) == []


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"]
)
def test_a_call_that_is_throttled_whole_leaves_everything(cloud, table, code):
    """DynamoDB answers so if it can process none of the batch."""
    cloud.fail("BatchWriteItem", code)
    assert table.delete([parked(1), parked(2)]) == [parked(1), parked(2)]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
def test_a_refusal_is_raised(cloud, table, pauses, code):
    """It would be refused again."""
    cloud.fail("BatchWriteItem", code)
    with pytest.raises(ClientError):
        table.delete([parked(1)])
    events = deque([parked(1)])
    with pytest.raises(ClientError):
        table.delete_throttled(events, deadline(at("10:00")), 1)
    assert len(cloud.asked("BatchWriteItem")) == 2 and len(events) == 1


def test_a_delete_without_an_answer_is_raised(cloud, table):
    """botocore has tried three times; a timeout is no ClientError. The next sweep finds what is left."""
    cloud.lose_answer("BatchWriteItem")
    with pytest.raises(BotoCoreError):
        table.delete([parked(1)])


def test_pauses_are_random_up_to_their_length(cloud, table, monkeypatch):
    """So that many lanes do not try again together."""
    pauses: list[float] = []
    monkeypatch.setattr(parking.time, "sleep", pauses.append)
    draws = iter([0.5, 0.25, 0.0, 1.0])
    monkeypatch.setattr(random, "random", lambda: next(draws))
    delete_throttled([parked(1)], Answers([1] * 3))
    assert pauses == pytest.approx([0.05, 0.05, 0.0, 0.8])


def test_a_fault_of_the_table_is_not_a_lease_that_another_holds(cloud, table):
    """It is raised: the lane is counted as failed."""
    cloud.fail("UpdateItem", "AccessDeniedException")
    with pytest.raises(ClientError):
        table.acquire("lane-00", "me", at("10:00"), at("10:01"))
    cloud.fail("DeleteItem", "AccessDeniedException")
    with pytest.raises(ClientError):
        table.release("lane-00", "me")


def test_a_lease_can_be_taken_again_by_its_holder_and_then_lasts_longer(cloud, table):
    """The answer to the first time may have been lost."""
    for until in ("10:01", "10:02"):
        assert table.acquire("lane-00", "me", at("10:00"), at(until))
    [lease] = cloud.leases()
    assert (lease["holder"], float(lease["expires_at"])) == ("me", at("10:02").timestamp())
    assert (lease["lane"], lease["sort_key"]) == ("lease-of-lane-00", "lease")


def test_an_event_is_removed_by_its_key_alone(cloud, table):
    """Another revision in the same lane stays."""
    events = [Event("order", revision, at("10:00"), "{}") for revision in ("r-1", "r-2")]
    for each in events:
        table.park(each)
    table.remove("order", sort_key(at("10:00"), "r-1"))
    [left] = cloud.parked()
    assert (left["sort_key"], left["execution"]) == ("2026-12-24T10:00:00.000000#r-2", "order-r-2")
