"""Failure reports: to the event's own failure topic, else to the stack's, else to the Undelivered queue."""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from .executions import PermanentStartError
from .json_text import as_json, from_json
from .limits import MESSAGE_BYTES

# Of an event that is too large to be reported whole: a character takes at most 12 bytes, escaped twice.
EXCERPT_CHARACTERS = 20 * 1024


class Failures:
    """Tells the publisher, or else the operator, that an event will not be delivered."""

    def __init__(self, client: Callable[[str], Any], topic: str, undelivered_url: str):
        """`client` makes a client of a service: when there is a failure, and not in every cold start."""
        self._client, self._topic, self._undelivered_url = client, topic, undelivered_url

    def report_refused_start(self, refusal: PermanentStartError, input: str) -> None:
        """Report an event whose execution Step Functions refuses, by the input that it refuses. Raises as `report`."""
        fields, _ = from_json(input)
        received = fields["event"] | {"payload": fields["publish"]["Message"]}
        error = f"Step Functions does not accept this event: {refusal}"
        if fields["id"] != fields["revision"]:  # It is named, and has been registered before it could be refused.
            error += " (an earlier event with this id, if there was one, is not delivered either)"
        self.report(error, fields["id"], received, received.get("failure_topic"))

    def report(self, error: str, id: str, event: Any, failure_topic: str | None) -> None:
        """Report an event and the reason.

        Raises botocore's errors if no report could be sent for a reason that may pass: the caller retries.
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
                if is_transient(refusal):
                    raise
        self._client("sqs").send_message(QueueUrl=self._undelivered_url, MessageBody=body)


def is_transient(error: ClientError) -> bool:
    """Whether SNS may accept the same message later: throttling and faults, not a topic that is gone or forbidden.
    InvalidSecurity is of status 403 and says nothing of the topic or the message (botocore's service model of SNS)."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    code = error.response["Error"]["Code"]
    return status >= 500 or status == 429 or "Throttl" in code or code == "InvalidSecurity"
