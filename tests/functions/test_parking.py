"""The Parked table: what is written, read and deleted, and how often it is tried."""

import os
import random

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from scheduler import parking
from scheduler.clients import client
from scheduler.event import Event
from scheduler.lanes import sort_key
from scheduler.parking import DeletesUnprocessed, ParkedEvent, Parking

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


@pytest.mark.parametrize(("answers", "calls"), [(11, 12), (12, 12), (100, 12)])
def test_deletes_are_tried_twelve_times(cloud, table, pauses, answers, calls):
    """Eleven times unprocessed, then done; twelve times, and it is given up."""
    put(table, parked(1), parked(2))
    cloud.leave_unprocessed(times=answers)
    if answers < 12:
        table.delete([parked(1), parked(2)], deadline(at("10:00")))
        assert not cloud.parked()
    else:
        with pytest.raises(DeletesUnprocessed, match=r"^2 of 2 events$"):
            table.delete([parked(1), parked(2)], deadline(at("10:00")))
    assert len(cloud.calls("BatchWriteItem")) == calls and len(pauses) == 11


def test_only_what_was_left_is_deleted_again(cloud, table, pauses):
    """One of two is left unprocessed: the second call is about that one."""
    put(table, parked(1), parked(2))

    class Half:
        """A client whose first answer leaves the last delete."""

        def batch_write_item(self, RequestItems):
            asked.append(RequestItems[os.environ["PARKED_TABLE"]])
            return {"UnprocessedItems": {os.environ["PARKED_TABLE"]: asked[0][1:]}} if len(asked) == 1 else {}

    asked: list = []
    Parking(Half(), os.environ["PARKED_TABLE"]).delete([parked(1), parked(2)], deadline(at("10:00")))
    assert [len(requests) for requests in asked] == [2, 1] and asked[1] == asked[0][1:]


def test_nothing_to_delete_is_no_call(cloud, table):
    """BatchWriteItem refuses an empty list."""
    table.delete([], deadline(at("10:00")))
    assert not cloud.calls("BatchWriteItem")


@pytest.mark.parametrize(
    ("code", "calls"),
    [
        ("ProvisionedThroughputExceededException", 12),
        ("RequestLimitExceeded", 12),
        ("ThrottlingException", 12),
        ("AccessDeniedException", 1),
        ("ResourceNotFoundException", 1),
    ],
)
def test_throttling_is_waited_out_and_a_refusal_is_raised(cloud, table, pauses, code, calls):
    """What is refused would be refused again."""
    cloud.fail("BatchWriteItem", code)
    with pytest.raises(DeletesUnprocessed if calls > 1 else ClientError):
        table.delete([parked(1)], deadline(at("10:00")))
    assert len(cloud.asked("BatchWriteItem")) == calls


def test_a_delete_without_an_answer_is_raised(cloud, table, pauses):
    """botocore has tried three times; a timeout is no ClientError. The next sweep finds what is left."""
    cloud.lose_answer("BatchWriteItem")
    with pytest.raises(BotoCoreError):
        table.delete([parked(1)], deadline(at("10:00")))
    assert not any(pauses)  # Those of 0 seconds are botocore's own.


def test_pauses_are_random_up_to_their_length(cloud, table, monkeypatch):
    """So that many threads do not try again together."""
    pauses: list[float] = []
    monkeypatch.setattr(parking.time, "sleep", pauses.append)
    draws = iter([0.5, 0.25, 0.0, 1.0])
    monkeypatch.setattr(random, "random", lambda: next(draws))
    cloud.leave_unprocessed(times=4)
    table.delete([parked(1)], deadline(at("10:00")))
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
