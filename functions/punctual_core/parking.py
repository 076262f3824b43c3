"""The Parked table: events that are due later than the horizon, in lanes, the earliest first; and the leases on lanes.

An item is `lane` (partition key), `sort_key` (the due time, then the revision), `execution` (the name to give it),
`input` (of its execution) and, for an event whose delivery is tried again, `retry`. Deliver writes such items, too.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from .event import Event
from .lanes import lane_of, sort_key, sortable

# A killed sweep keeps its lane for so long: with the interval of 5 s and the lead of 3 s its events are 8 s late.
LEASE = timedelta(seconds=6)
# Of a BatchWriteItem, by AWS: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
MAX_DELETES = 25
_THROTTLED = {"ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"}


@dataclass(frozen=True)
class ParkedEvent:
    """An item of the table. `retry` is 0 for an event that has not been tried yet."""

    sort_key: str
    execution: str
    input: str
    retry: int = 0


class Parking:
    """The parked events, and the leases on their lanes."""

    def __init__(self, client: Any, table: str):
        self._client, self._table = client, table

    def park(self, event: Event) -> None:
        """Keep an event until a sweep takes it. While it is parked, parking it again changes nothing."""
        key = _key(lane_of(event.id), sort_key(event.due, event.revision))
        item = {"execution": {"S": event.execution_name}, "input": {"S": event.input}}
        self._client.put_item(TableName=self._table, Item=key | item)

    def remove(self, lane: str, sort_key: str) -> None:
        """Delete an event from its lane, if it is still there."""
        self._client.delete_item(TableName=self._table, Key=_key(lane, sort_key))

    def first_keys(self, lane: str, before: datetime, limit: int) -> list[str]:
        """The sort keys of the lane's first events due before that time, at most `limit`. Eventually consistent, which
        costs half: it may miss the last second's writes, which the next sweep sees."""
        query = self._due_before(lane, before) | {"Limit": limit, "ProjectionExpression": "sort_key"}
        return [item["sort_key"]["S"] for item in self._client.query(**query)["Items"]]

    def due_before(self, lane: str, before: datetime) -> Iterator[ParkedEvent]:
        """Every event in the lane due before that time, the earliest first. Reads a page (1 MB) at a time, so a lane of
        any length takes little memory; consistently, so that what a former holder of the lease deleted is gone."""
        query = self._due_before(lane, before)
        for page in self._client.get_paginator("query").paginate(**query, ConsistentRead=True):
            for item in page["Items"]:
                retry = int(item.get("retry", {}).get("N", 0))
                yield ParkedEvent(item["sort_key"]["S"], item["execution"]["S"], item["input"]["S"], retry)

    def delete(self, lane: str, sort_keys: Sequence[str]) -> list[str]:
        """Delete up to MAX_DELETES events of a lane, and return the sort keys of those whose deletes the table
        throttled. Raises botocore's other errors."""
        requests = [{"DeleteRequest": {"Key": _key(lane, sort_key)}} for sort_key in sort_keys]
        try:
            answer = self._client.batch_write_item(RequestItems={self._table: requests})
        except ClientError as error:  # A call of which DynamoDB throttles every item.
            if error.response["Error"]["Code"] not in _THROTTLED:
                raise
            return list(sort_keys)
        unprocessed = answer.get("UnprocessedItems", {}).get(self._table, [])
        return [request["DeleteRequest"]["Key"]["sort_key"]["S"] for request in unprocessed]

    def acquire(self, lane: str, holder: str, now: datetime) -> bool:
        """Take or renew the lane's lease, unless somebody else holds it. True if it was taken."""
        until, at = str((now + LEASE).timestamp()), str(now.timestamp())
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_lease_of(lane),
                UpdateExpression="SET holder = :holder, expires_at = :until",
                ConditionExpression="attribute_not_exists(holder) OR holder = :holder OR expires_at < :now",
                ExpressionAttributeValues={":holder": {"S": holder}, ":until": {"N": until}, ":now": {"N": at}},
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def release(self, lane: str, holder: str) -> None:
        """Release the lane's lease, if it is still the holder's."""
        with suppress(self._client.exceptions.ConditionalCheckFailedException):
            self._client.delete_item(
                TableName=self._table,
                Key=_lease_of(lane),
                ConditionExpression="holder = :holder",
                ExpressionAttributeValues={":holder": {"S": holder}},
            )

    def _due_before(self, lane: str, before: datetime) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "KeyConditionExpression": "lane = :lane AND sort_key < :before",
            "ExpressionAttributeValues": {":lane": {"S": lane}, ":before": {"S": sortable(before)}},
        }


def _key(lane: str, sort_key: str) -> dict[str, dict[str, str]]:
    return {"lane": {"S": lane}, "sort_key": {"S": sort_key}}


def _lease_of(lane: str) -> dict[str, dict[str, str]]:
    # A partition of its own: a sweep of the lane does not meet its lease, and a busy lane does not slow it.
    return _key(f"lease-of-{lane}", "lease")
