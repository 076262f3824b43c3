"""Failure reports: to the event's own failure topic, else the stack's, else into the Undelivered queue."""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from scheduler.event import MESSAGE_BYTES, as_json

# Of an event that is too large to be reported whole; a character takes 6 bytes at the most.
EXCERPT_CHARACTERS = 32 * 1024


class Failures:
    def __init__(self, client: Callable[[str], Any], topic: str, undelivered_url: str):
        """`client` makes a client of a service: when there is a failure, and not in every cold start."""
        self._client, self._topic, self._undelivered_url = client, topic, undelivered_url

    def report(self, error: str, id: str, event: Any, failure_topic: str | None) -> None:
        """Tell the publisher, or else the operator, that an event will not be delivered, and why.

        Raises botocore's errors if nobody could be told for a reason that may pass.
        """
        body = as_json({"error": error, "id": id, "event": event})
        if len(body.encode()) > MESSAGE_BYTES:
            excerpt = (event if isinstance(event, str) else as_json(event))[:EXCERPT_CHARACTERS]
            body = as_json({"error": error, "id": id, "event": excerpt, "truncated": True})
        for topic in filter(None, (failure_topic, self._topic)):
            try:
                self._client("sns").publish(TopicArn=topic, Message=body)
                return
            except ClientError as refusal:
                if _is_transient(refusal):
                    raise
        self._client("sqs").send_message(QueueUrl=self._undelivered_url, MessageBody=body)


def _is_transient(error: ClientError) -> bool:
    """Throttling and faults of SNS; not what it says of a topic that is gone or closed to us."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    return status >= 500 or status == 429 or "Throttl" in error.response["Error"]["Code"]
