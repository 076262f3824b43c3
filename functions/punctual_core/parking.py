"""The Parked table: events that are due later than the horizon, in lanes, the earliest first.

An item is `lane` (partition key), `sort_key` (the due time, then the revision), `execution` (the name to give it),
`input` (of its execution) and, for an event whose delivery is tried again, `attempt`. Deliver writes such items, too.
"""

import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from .deadline import Deadline
from .event import Event
from .lanes import lane_of, sort_key, sortable

# Events that one thread starts one after the other, and then deletes at once. BatchWriteItem takes 25; fewer keep more
# threads busy where a lane is short, and cost no more: a delete is billed by the item.
BATCH_SIZE = 10
# Of a BatchWriteItem, by AWS: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
MAX_DELETES = 25
# A throttled table leaves deletes unprocessed, and each event that stays is delivered again. With backoff and jitter
# twelve attempts in a row that delete nothing take 6.6 s on average.
DELETE_ATTEMPTS = 12
DELETE_BACKOFF_SECONDS, MAX_DELETE_BACKOFF_SECONDS = 0.05, 2.0
_THROTTLED = {"ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"}


@dataclass(frozen=True)
class ParkedEvent:
    """An item of the table. `attempt` is 0 for an event that has not been tried yet."""

    lane: str
    sort_key: str
    execution: str
    input: str
    attempt: int = 0


class Parking:
    """The parked events, and the leases on their lanes."""

    def __init__(self, client: Any, table: str):
        self._client, self._table = client, table

    def park(self, event: Event) -> None:
        """Keep an event until a sweep takes it. Parking it again changes nothing."""
        self._client.put_item(
            TableName=self._table,
            Item={
                **_key(lane_of(event.id), sort_key(event.due, event.revision)),
                "execution": {"S": event.execution_name},
                "input": {"S": event.input},
            },
        )

    def remove(self, lane: str, sort_key: str) -> None:
        """Delete an event from its lane, if it is still there."""
        self._client.delete_item(TableName=self._table, Key=_key(lane, sort_key))

    def first_keys(self, lane: str, before: datetime, limit: int) -> list[str]:
        """The sort keys of the lane's first events due before that time, at most `limit`. Eventually consistent, which
        costs half: it may miss the last second's writes, which the next sweep sees."""
        query = self._due_before(lane, before)
        found = self._client.query(**query, Limit=limit, ProjectionExpression="sort_key")["Items"]
        return [item["sort_key"]["S"] for item in found]

    def due_before(self, lane: str, before: datetime) -> Iterator[ParkedEvent]:
        """Every event in the lane due before that time, the earliest first. Reads a page (1 MB) at a time, so a lane of
        any length takes little memory; consistently, so that what a former holder of the lease deleted is gone."""
        query = self._due_before(lane, before)
        for page in self._client.get_paginator("query").paginate(**query, ConsistentRead=True):
            for item in page["Items"]:
                attempt = int(item.get("attempt", {}).get("N", 0))
                yield ParkedEvent(lane, item["sort_key"]["S"], item["execution"]["S"], item["input"]["S"], attempt)

    def delete(self, events: Sequence[ParkedEvent]) -> list[ParkedEvent]:
        """Delete up to MAX_DELETES events, and return those whose deletes the table throttled. Raises botocore's other
        errors."""
        if not events:
            return []
        requests = [{"DeleteRequest": {"Key": _key(event.lane, event.sort_key)}} for event in events]
        try:
            answer = self._client.batch_write_item(RequestItems={self._table: requests})
        except ClientError as error:  # A call of which DynamoDB throttles every item.
            if error.response["Error"]["Code"] not in _THROTTLED:
                raise
            return list(events)
        unprocessed = answer.get("UnprocessedItems", {}).get(self._table, [])
        left = {request["DeleteRequest"]["Key"]["sort_key"]["S"] for request in unprocessed}
        return [event for event in events if event.sort_key in left]

    def delete_throttled(
        self, events: deque[ParkedEvent], deadline: Deadline, margin: float, most_left: int = 0
    ) -> bool:
        """Delete events of one lane whose deletes were throttled, until at most so many are left, and take them out of
        `events`. Goes on as long as the table deletes some of them and more than `margin` seconds are left until the
        deadline. Returns whether it came to its end, and raises as `delete` does. Other threads may add events
        meanwhile."""
        attempts_in_vain = 1  # The first was `delete`.
        while len(events) > most_left:
            longest = min(DELETE_BACKOFF_SECONDS * 2**attempts_in_vain, MAX_DELETE_BACKOFF_SECONDS)
            pause = longest * random.random()
            if attempts_in_vain == DELETE_ATTEMPTS or deadline.has_passed(pause + margin):
                return False
            time.sleep(pause)
            batch = [events.popleft() for _ in range(min(MAX_DELETES, len(events)))]
            left = batch
            try:
                left = self.delete(batch)
            finally:
                events.extend(left)
            attempts_in_vain = attempts_in_vain + 1 if len(left) == len(batch) else 0
        return True

    def acquire(self, lane: str, holder: str, now: datetime, until: datetime) -> bool:
        """Take the lane's lease until then, unless somebody else holds it. True if it was taken."""
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_lease_of(lane),
                UpdateExpression="SET holder = :holder, expires_at = :until",
                # Its own holder may ask again: the answer to the first time may have been lost.
                ConditionExpression="attribute_not_exists(holder) OR holder = :holder OR expires_at < :now",
                ExpressionAttributeValues={
                    ":holder": {"S": holder},
                    ":until": {"N": str(until.timestamp())},
                    ":now": {"N": str(now.timestamp())},
                },
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
