"""When the messages of a batch become visible in the input queue again.

The queue hides a message for three minutes. Ingest hides its own batch for a few seconds at a time instead, so that the
messages of a process that was killed are soon processed by another one.
"""

from collections.abc import Sequence
from typing import Any

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

# A batch is hidden anew every RENEWAL_SECONDS. So a killed process's messages are visible 4 to 7 seconds later, and one
# renewal may fail without a repeat.
RENEWAL_SECONDS, HIDE_SECONDS = 3, 7
# How often a message is hidden for so short a time; after that for twice as long each time. A message that kills its
# process at every receive must not reach the dead-letter queue, after 1,000 receives, within two hours: with this limit
# it takes 1,000 times 600 seconds, which is a week, as for a message that fails.
SHORT_RECEIVES = 3
MAX_SECONDS = 600

logger = Logger(child=True)


def hide_seconds(receives: int) -> int:
    """How long a message is hidden while it is processed, by how often it has been received."""
    return min(HIDE_SECONDS << min(max(receives - SHORT_RECEIVES, 0), 10), MAX_SECONDS)


def retry_seconds(receives: int) -> int:
    """When a message that failed is retried: after 2, 4, 8 ... seconds. An event must not be minutes late because one
    call failed, and a message must not use up its 1,000 receives in an hour."""
    return min(1 << min(receives, 10), MAX_SECONDS)


class Visibility:
    """Changes when messages become visible again, in one request for a batch.

    For one thread, which makes its changes one after the other: so no late renewal hides a message whose retry was set.
    A request that fails is logged, and changes nothing: the next renewal, or the queue, decides.
    """

    def __init__(self, client: Any, queue_url: str):
        """`client` should give up before the next renewal."""
        self._client, self._queue_url = client, queue_url

    def hide(self, records: Sequence[dict[str, Any]]) -> None:
        """Hide messages that are being processed."""
        self._change([(record, hide_seconds(_receives(record))) for record in records])

    def retry_soon(self, records: Sequence[dict[str, Any]]) -> None:
        """Set when messages that failed are retried."""
        self._change([(record, retry_seconds(_receives(record))) for record in records])

    def _change(self, timeouts: Sequence[tuple[dict[str, Any], int]]) -> None:
        if not timeouts:
            return
        entries = [
            {"Id": str(number), "ReceiptHandle": record["receiptHandle"], "VisibilityTimeout": seconds}
            for number, (record, seconds) in enumerate(timeouts)
        ]
        try:
            answer = self._client.change_message_visibility_batch(QueueUrl=self._queue_url, Entries=entries)
        except (ClientError, BotoCoreError):
            logger.warning("visibility not changed", extra={"messages": len(entries)}, exc_info=True)
            return
        if failed := answer.get("Failed"):
            logger.warning("visibility not changed", extra={"messages": len(failed), "reason": failed[0]["Code"]})


def _receives(record: dict[str, Any]) -> int:
    return int(record["attributes"]["ApproximateReceiveCount"])
