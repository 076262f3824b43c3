"""The Register table: which revision speaks for an id that was named or canceled.

An item is `id` (key), `revision` (the SNS MessageId of the message that was published last), `version` (when that
was), `parked` (the sort key of its event in its lane, if it was parked) and `expires_at`. Deliver reads it once,
shortly before the event is due: an event whose id has an item with another revision is not sent.
"""

from datetime import datetime, timedelta
from typing import Any

# How long an item outlives the last event it could concern: a message may be 23 days on its way from SNS to the queue,
# 14 in the queue and its dead letters, and 14 again after each of two redrives.
REGISTER_RETENTION = timedelta(days=90)
# A cancel does not know when its event is due. An event without a name that is due later than this enters the register
# by itself, so that a cancel meets it there; any other event is due before a cancel kept for UNREGISTERED_LIMIT and REGISTER_RETENTION is gone.
UNREGISTERED_LIMIT = timedelta(days=365)


class Superseded(Exception):
    """A message published later speaks for this id."""


class Register:
    def __init__(self, client: Any, table: str):
        self._client, self._table = client, table

    def claim(
        self,
        id: str,
        revision: str,
        version: str,
        now: datetime,
        due: datetime | None = None,
        parked: str | None = None,
    ) -> str | None:
        """Let `revision` speak for `id`, from the event's cutoff on.

        `version` orders publications; `due` is None for a cancel; `parked` is the event's sort key if it will be
        parked. Returns the sort key under which the revision that spoke until now may be parked, if it is another one.
        Raises `Superseded` if a later publication has claimed the id. To claim twice is to claim once.
        """
        # In seconds since 1970, which go on after the year 9999 where dates end.
        last_concern = max(due, now).timestamp() if due else now.timestamp() + UNREGISTERED_LIMIT.total_seconds()
        expires_at = int(last_concern + REGISTER_RETENTION.total_seconds())
        update = "SET revision = :revision, version = :version" + (", parked = :parked" if parked else "")
        values = {":revision": {"S": revision}, ":version": {"S": version}}
        if parked:
            values[":parked"] = {"S": parked}
        end = {":end": {"N": str(expires_at)}}
        # An expiry only ever moves away: a parked revision that was replaced by an earlier one still has to find itself
        # replaced when it is due. So there are two conditions to try; the database decides both.
        last = "version <= :version"
        former = self._update(
            id,
            f"{update}, expires_at = :end" + ("" if parked else " REMOVE parked"),
            f"attribute_not_exists(id) OR ({last} AND expires_at <= :end)",
            values | end,
        )
        if former is None:
            former = self._update(id, update + ("" if parked else " REMOVE parked"), last, values)
        if former is None:
            raise Superseded
        if former.get("revision", {}).get("S") == revision:
            return None
        return former.get("parked", {}).get("S")

    def _update(self, id: str, update: str, condition: str, values: dict) -> dict | None:
        """The item as it was before, or None if the condition did not hold."""
        try:
            return self._client.update_item(
                TableName=self._table,
                Key={"id": {"S": id}},
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_OLD",
            ).get("Attributes", {})
        except self._client.exceptions.ConditionalCheckFailedException:
            return None
