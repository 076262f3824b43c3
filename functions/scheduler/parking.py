"""The Parked table: events that are due later than the horizon, in lanes, the earliest first.

An item is `lane` (partition key), `due` (sort key: the due time, then the revision, so that two revisions of one id
never overwrite each other), `execution` (the name to give it) and `input` (the Deliver workflow's input).
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from scheduler.event import Event

# A partition takes 1,000 writes a second, so this many lanes park 16,000 events a second. The number may grow, never
# shrink: events parked in a lane that nobody sweeps any more would be lost.
LANES = 16
# Longer than the Sweeper's timeout (30 s in template.yaml): who holds an expired lease is dead.
LEASE_DURATION = timedelta(seconds=35)
# Events that one thread starts one after the other, and then deletes at once. BatchWriteItem takes 25; fewer keep more
# threads busy where a lane is short, and cost no more: a delete is paid for by the item.
BATCH_SIZE = 10
# For what a BatchWriteItem leaves unprocessed when the table throttles; botocore retries only whole calls.
DELETE_ATTEMPTS = 5


class DeletesUnprocessed(Exception):
    """DynamoDB went on leaving deletes unprocessed."""


@dataclass(frozen=True)
class ParkedEvent:
    lane: str
    due: str
    execution: str
    input: str


class Parking:
    def __init__(self, client: Any, table: str):
        self._client, self._table = client, table

    def park(self, event: Event) -> None:
        """Keep an event until a sweep takes it. Parking it again changes nothing."""
        self._client.put_item(
            TableName=self._table,
            Item={
                "lane": {"S": _lane_of(event.id)},
                "due": {"S": sort_key(event.due, event.revision)},
                "execution": {"S": event.execution_name},
                "input": {"S": event.input},
            },
        )

    def remove(self, id: str, due: str) -> None:
        """Take an event out of its lane, if it is still there. `due` is its sort key."""
        self._client.delete_item(TableName=self._table, Key={"lane": {"S": _lane_of(id)}, "due": {"S": due}})

    def earliest(self, lane: str, before: datetime) -> str | None:
        """The sort key of the lane's first event due before that time. A cheap look: it may miss the last second's
        writes, which the next sweep sees."""
        found = self._client.query(**self._due_in(lane, before), Limit=1, ProjectionExpression="due")["Items"]
        return found[0]["due"]["S"] if found else None

    def due(self, lane: str, before: datetime) -> Iterator[ParkedEvent]:
        """Every event in the lane due before that time, the earliest first. Reads a page (1 MB) at a time, so a lane of
        any length takes little memory; consistently, so that what a former holder of the lease deleted is gone."""
        pages = self._client.get_paginator("query").paginate(**self._due_in(lane, before), ConsistentRead=True)
        for page in pages:
            for item in page["Items"]:
                yield ParkedEvent(lane, item["due"]["S"], item["execution"]["S"], item["input"]["S"])

    def delete(self, events: Sequence[ParkedEvent]) -> None:
        """Delete up to BATCH_SIZE events. Raises botocore's errors or `DeletesUnprocessed`; the next
        sweep finds, and starts, what is left."""
        requests = [{"DeleteRequest": {"Key": {"lane": {"S": e.lane}, "due": {"S": e.due}}}} for e in events]
        for _ in range(DELETE_ATTEMPTS):
            if not requests:
                return
            answer = self._client.batch_write_item(RequestItems={self._table: requests})
            requests = answer.get("UnprocessedItems", {}).get(self._table)
        if requests:
            raise DeletesUnprocessed(f"{len(requests)} of {len(events)} events, after {DELETE_ATTEMPTS} attempts")

    def acquire(self, lane: str, holder: str, now: datetime) -> bool:
        """Take the lane's lease, unless somebody has it. If it is not released it ends LEASE_DURATION after `now`."""
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_lease_of(lane),
                UpdateExpression="SET holder = :holder, expires_at = :end",
                # Its own holder may ask again: the answer to the first time may have been lost.
                ConditionExpression="attribute_not_exists(holder) OR holder = :holder OR expires_at < :now",
                ExpressionAttributeValues={
                    ":holder": {"S": holder},
                    ":end": {"N": str((now + LEASE_DURATION).timestamp())},
                    ":now": {"N": str(now.timestamp())},
                },
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def release(self, lane: str, holder: str) -> None:
        """Give the lane's lease back, if it is still the holder's."""
        with suppress(self._client.exceptions.ConditionalCheckFailedException):
            self._client.delete_item(
                TableName=self._table,
                Key=_lease_of(lane),
                ConditionExpression="holder = :holder",
                ExpressionAttributeValues={":holder": {"S": holder}},
            )

    def _due_in(self, lane: str, before: datetime) -> dict:
        return {
            "TableName": self._table,
            "KeyConditionExpression": "lane = :lane AND due < :before",
            "ExpressionAttributeValues": {":lane": {"S": lane}, ":before": {"S": _sortable(before)}},
        }


def lanes() -> list[str]:
    """The partition keys under which events are parked."""
    return [f"lane-{number:02}" for number in range(LANES)]


def sort_key(due: datetime, revision: str) -> str:
    """Where in its lane a revision of an event stands."""
    return f"{_sortable(due)}#{revision}"


def due_of(key: str) -> datetime:
    """The due time in a sort key."""
    return datetime.fromisoformat(key.split("#")[0]).replace(tzinfo=UTC)


def _sortable(moment: datetime) -> str:
    # Of fixed width, so that text sorts as time does.
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


def _lane_of(id: str) -> str:
    return f"lane-{zlib.crc32(id.encode()) % LANES:02}"


def _lease_of(lane: str) -> dict:
    # A partition of its own: a sweep of the lane does not meet its lease, and a busy lane does not slow it.
    return {"lane": {"S": f"lease-of-{lane}"}, "due": {"S": "lease"}}
