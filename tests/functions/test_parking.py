"""The Parked table: what is written, read and deleted, and the leases on lanes."""

import os

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from punctual_core.clients import client
from punctual_core.event import Event
from punctual_core.lanes import lane_of, sort_key
from punctual_core.parking import ParkedEvent, Parking

from tests.conftest import at

LANE = "lane-00"


@pytest.fixture
def table(cloud) -> Parking:
    return Parking(client("dynamodb"), os.environ["PARKED_TABLE"])


def key(number: int) -> str:
    return f"2026-12-24T10:00:00.000000#r-{number}"


def put(*numbers: int) -> None:
    for number in numbers:
        texts = {"lane": LANE, "sort_key": key(number), "execution": f"order-{number}", "input": "{}"}
        item = {name: {"S": text} for name, text in texts.items()}
        client("dynamodb").put_item(TableName=os.environ["PARKED_TABLE"], Item=item)


def test_a_lane_is_read_consistently(cloud, table):
    """What a former holder of its lease deleted is gone: else it would start again."""
    list(table.due_before(LANE, at("10:00")))
    [query] = cloud.asked("Query")
    assert query["ConsistentRead"] is True and "Limit" not in query


def test_what_is_due_at_that_moment_is_not_due_before_it(cloud, table):
    """10:00:00 is before 10:00:00.000001."""
    put(1)
    assert not list(table.due_before(LANE, at("10:00")))
    assert list(table.due_before(LANE, at("10:00:00.000001"))) == [ParkedEvent(key(1), "order-1", "{}")]


def test_a_look_at_a_lane_is_limited(cloud, table):
    """It gives the first three of five."""
    put(*range(5))
    assert table.first_keys(LANE, at("11:00"), 3) == [key(number) for number in range(3)]


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_delete_returns_what_the_table_left(cloud, left):
    """Some of three are left unprocessed, or the answer names nothing: nothing is tried again here."""

    class Answers:
        def batch_write_item(self, RequestItems):
            [(table, requests)] = RequestItems.items()
            return {"UnprocessedItems": {table: requests[3 - left :]}} if left else {}

    keys = [key(number) for number in range(3)]
    assert Parking(Answers(), os.environ["PARKED_TABLE"]).delete(LANE, keys) == keys[3 - left :]


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"]
)
def test_a_call_that_is_throttled_whole_leaves_everything(cloud, table, code):
    """DynamoDB answers so if it can process none of the batch."""
    cloud.fail("BatchWriteItem", code)
    assert table.delete(LANE, [key(1), key(2)]) == [key(1), key(2)]


def test_a_refused_or_unanswered_delete_is_raised(cloud, table):
    """It is no throttling: the caller logs the reason."""
    cloud.fail("BatchWriteItem", "AccessDeniedException", times=1)
    with pytest.raises(ClientError):
        table.delete(LANE, [key(1)])
    cloud.lose_answer("BatchWriteItem")
    with pytest.raises(BotoCoreError):
        table.delete(LANE, [key(1)])


def test_a_fault_of_the_table_is_not_a_lease_that_another_holds(cloud, table):
    """It is raised: the lane is counted as failed."""
    cloud.fail("UpdateItem", "AccessDeniedException")
    with pytest.raises(ClientError):
        table.acquire(LANE, "me", at("10:00"))
    cloud.fail("DeleteItem", "AccessDeniedException")
    with pytest.raises(ClientError):
        table.release(LANE, "me")


def test_a_lease_lasts_six_seconds_and_is_renewed_by_its_holder(cloud, table):
    """Nobody else gets it before it has expired, and a former holder cannot release it."""
    assert table.acquire(LANE, "me", at("10:00")) and table.acquire(LANE, "me", at("10:00:02"))
    [lease] = cloud.leases()
    assert (lease["holder"], float(lease["expires_at"])) == ("me", at("10:00:08").timestamp())
    assert (lease["lane"], lease["sort_key"]) == ("lease-of-lane-00", "lease")
    assert not table.acquire(LANE, "you", at("10:00:08")) and table.acquire(LANE, "you", at("10:00:08.001"))
    table.release(LANE, "me")
    assert not table.acquire(LANE, "me", at("10:00:09"))
    table.release(LANE, "you")
    assert not cloud.leases()


def test_an_event_is_removed_by_its_key_alone(cloud, table):
    """Another revision in the same lane stays."""
    for revision in ("r-1", "r-2"):
        table.park(Event("order", revision, at("10:00"), "{}"))
    table.remove(lane_of("order"), sort_key(at("10:00"), "r-1"))
    [left] = cloud.parked()
    assert (left["sort_key"], left["execution"]) == ("2026-12-24T10:00:00.000000#r-2", "order-r-2")
