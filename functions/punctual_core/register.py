"""The Register table: which revision is valid for an id that was named or canceled.

An item is `id` (key), `revision` (the SNS MessageId of the message that was published last), `publication_order` (when
that was), `claimed_by` (what it was, "event" or "cancel", for the command), `lane` and `parked` (of its event in the
Parked table: the partition key and the sort key; null if it is not parked) and `expires_at`. Deliver reads it once,
shortly before the event is due: an event whose id has an item with another revision is not delivered.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

# How long an item outlives the last event it could concern: a message may be 23 days on its way from SNS to the queue,
# 14 in the queue and its dead-letter queue, and 14 again after each of two redrives.
REGISTER_RETENTION = timedelta(days=90)
# A cancel, or a replacement, does not know when the event is due that it finds no item of. An unnamed event that is due
# later than this is registered too, so that there is one; any other event is due before an item, kept for this limit
# and the retention, has expired.
UNREGISTERED_LIMIT = timedelta(days=365)

_CLAIM = (
    "SET revision = :revision, publication_order = :order, claimed_by = :claimed_by, lane = :lane, parked = :parked"
)


class Superseded(Exception):
    """A message published later is valid for this id."""


class Place(NamedTuple):
    """Where an event is parked: the key of its item."""

    lane: str
    sort_key: str


class Register:
    """The ids that were named or canceled."""

    def __init__(self, client: Any, table: str):
        self._client, self._table = client, table

    def claim(
        self,
        id: str,
        revision: str,
        publication_order: str,
        now: datetime,
        due: datetime | None = None,
        parked: Place | None = None,
    ) -> Place | None:
        """Make `revision` the valid one for `id`.

        `publication_order` sorts as publications do; `due` is None for a cancel; `parked` is where the event will be
        parked, if it will be. Returns where the revision that was valid until now may be parked, if it is another one.
        Raises `Superseded` if a later publication has claimed the id. Idempotent.
        """
        # In seconds since 1970, which go on after the year 9999 where dates end.
        last_concern = now.timestamp() + UNREGISTERED_LIMIT.total_seconds()
        if due:
            last_concern = max(last_concern, due.timestamp())
        null = {"NULL": True}
        claim = {
            ":revision": {"S": revision},
            ":order": {"S": publication_order},
            ":claimed_by": {"S": "event" if due else "cancel"},
            ":lane": {"S": parked.lane} if parked else null,
            ":parked": {"S": parked.sort_key} if parked else null,
        }
        expiry = {":expires_at": {"N": str(int(last_concern + REGISTER_RETENTION.total_seconds()))}}
        # An expiry only ever moves to a later time: a parked revision that was replaced by one due earlier still has to
        # find itself replaced when it is due. So there are two attempts; the database decides each.
        is_new_or_extended = "attribute_not_exists(id) OR (publication_order <= :order AND expires_at <= :expires_at)"
        former = self._update(id, f"{_CLAIM}, expires_at = :expires_at", is_new_or_extended, claim | expiry)
        if former is None:
            former = self._update(id, _CLAIM, "publication_order <= :order", claim)
        if former is None:
            raise Superseded
        if former.get("revision", {}).get("S") == revision:
            return None
        lane, key = former.get("lane", {}).get("S"), former.get("parked", {}).get("S")
        return Place(lane, key) if lane and key else None

    def _update(self, id: str, update: str, condition: str, values: dict[str, Any]) -> dict[str, Any] | None:
        """The item as it was before, or None if the condition did not hold."""
        try:
            former: dict[str, Any] = self._client.update_item(
                TableName=self._table,
                Key={"id": {"S": id}},
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_OLD",
            ).get("Attributes", {})
        except self._client.exceptions.ConditionalCheckFailedException:
            return None
        return former
