"""Function: receives the messages of the input topic; each one is started, parked, registered, or reported."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from . import register
from .clients import client
from .deadline import Deadline
from .event import Cancel, Event, Refused, Rules, parse
from .executions import Executions, PermanentStartError
from .failures import Failures
from .lanes import lane_of, sort_key
from .parking import Parking
from .register import Register, Superseded

# A failed message becomes visible again after 2, 4, 8 ... seconds instead of the queue's visibility timeout, and after
# at most this many: an event must not be minutes late because one call failed, nor use up its receives in an hour.
MAX_RETRY_DELAY_SECONDS = 600
# When this little of the invocation's time is left, it answers: a batch that Lambda had to end would be retried whole,
# with all that was started in it. The first part of the margin makes unfinished messages visible again soon.
ANSWER_MARGIN_SECONDS, VISIBILITY_MARGIN_SECONDS = 5, 2

logger = Logger()
metrics = Metrics(namespace="Punctual")


@dataclass(frozen=True)
class Notification:
    """One message of the input topic, and when SNS accepted it (UTC). `publication_order` sorts as publications do: by
    that time, then the time at which the queue got the message, then the MessageId, so that no two are equal."""

    text: str
    message_id: str
    accepted_at: datetime
    publication_order: str


@dataclass(frozen=True)
class Ingest:
    """Decides what becomes of a message, and does it."""

    rules: Rules
    horizon: timedelta
    workflow: Executions
    parking: Parking
    register: Register
    failures: Failures

    def take(self, record: dict[str, Any], now: datetime) -> str:
        """Process one record of the input queue. Returns what became of it: Started, Parked, Canceled, Superseded or
        Refused. Raises botocore's errors if it has to be retried."""
        notification = read(record)
        try:
            request = parse(notification.text, notification.message_id, notification.accepted_at, self.rules)
            if isinstance(request, Cancel):
                return self._cancel(request, notification, now)
            return self._schedule(request, notification, now)
        except Superseded:
            return "Superseded"
        except Refused as refused:
            self.failures.report(refused.error, refused.id, refused.event, refused.failure_topic)
            return "Refused"

    def _cancel(self, cancel: Cancel, notification: Notification, now: datetime) -> str:
        former = self.register.claim(cancel.id, cancel.revision, notification.publication_order, now)
        if former:
            self.parking.remove(lane_of(cancel.id), former)
        return "Canceled"

    def _schedule(self, event: Event, notification: Notification, now: datetime) -> str:
        is_near = event.due - now <= self.horizon
        key = None if is_near else sort_key(event.due, event.revision)
        if event.is_named or event.due - now > register.UNREGISTERED_LIMIT:
            # Before the start, not after it: a repeated message whose event was canceled meanwhile must not be started.
            order = notification.publication_order
            former = self.register.claim(event.id, event.revision, order, now, event.due, key)
            if former:
                self.parking.remove(lane_of(event.id), former)
        if not is_near:
            self.parking.park(event)
            return "Parked"
        try:
            self.workflow.start(event.execution_name, event.input)
        except PermanentStartError as refusal:
            message = json.loads(notification.text)
            error = f"Step Functions does not accept this event: {refusal}"
            if event.is_named:
                error += " (an earlier event with this id, if there was one, is not delivered either)"
            raise Refused(error, message, event.id, message.get("failure_topic")) from refusal
        return "Started"


def read(record: dict[str, Any]) -> Notification:
    """The SNS notification in a record of the queue. A body that is not a notification, because somebody wrote to the
    queue itself, is taken as the message, under its SQS message id."""
    sent_at = int(record["attributes"]["SentTimestamp"]) / 1000
    try:
        body = json.loads(record["body"])
        text, message_id = str(body["Message"]), str(body["MessageId"])
        accepted_at = datetime.fromisoformat(body["Timestamp"]).astimezone(UTC)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        text, message_id, accepted_at = record["body"], record["messageId"], datetime.fromtimestamp(sent_at, UTC)
    order = f"{accepted_at.timestamp():018.6f} {sent_at:018.6f} {message_id}"
    return Notification(text, message_id, accepted_at, order)


def _from_environment() -> Ingest:
    env = os.environ
    dynamodb = client("dynamodb")
    return Ingest(
        rules=Rules(
            input_topic=env["INPUT_TOPIC_ARN"],
            allowed_topics=tuple(pattern.strip() for pattern in env["TARGET_TOPIC_ARNS"].split(",")),
            user_required=env["ENFORCE_USER"] == "true",
        ),
        horizon=timedelta(seconds=int(env["HORIZON_SECONDS"])),
        workflow=Executions(client("stepfunctions"), env["DELIVER_ARN"]),
        parking=Parking(dynamodb, env["PARKED_TABLE"]),
        register=Register(dynamodb, env["REGISTER_TABLE"]),
        failures=Failures(client, env["FAILURE_TOPIC_ARN"], env["UNDELIVERED_URL"]),
    )


ingest = _from_environment()


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry. Processes a batch of SQS records; returns the ones that have to be retried."""
    now = datetime.now(UTC)
    deadline, records = Deadline.of_invocation(context, now), event["Records"]
    outcomes = _side_by_side(lambda record: _take(record, now), records, deadline.seconds_until(ANSWER_MARGIN_SECONDS))
    unfinished = [record for record, outcome in zip(records, outcomes, strict=True) if outcome is None]
    if unfinished:
        logger.error("not finished in time, will be retried", extra={"messages": len(unfinished)})
        _side_by_side(_retry_soon, unfinished, deadline.seconds_until(VISIBILITY_MARGIN_SECONDS))
    failed = []
    for record, outcome in zip(records, outcomes, strict=True):
        metrics.add_metric(name=outcome or "Failed", unit=MetricUnit.Count, value=1)
        if outcome in (None, "Failed"):
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def _side_by_side[Item, Outcome](
    act: Callable[[Item], Outcome], items: Sequence[Item], seconds: float
) -> list[Outcome | None]:
    """The outcome of each, or None where it took more than so many seconds. An act that goes on after that is harmless:
    everything that Ingest does may be done twice."""
    # Threads of its own: those of an earlier invocation may still be waiting for an answer. A batch has ten at most.
    pool = ThreadPoolExecutor(max_workers=10)
    acts = [pool.submit(act, item) for item in items]
    ended = wait(acts, timeout=seconds).done
    pool.shutdown(wait=False)
    return [each.result() if each in ended else None for each in acts]


def _take(record: dict[str, Any], now: datetime) -> str:
    try:
        return ingest.take(record, now)
    except Exception:  # One message must not fail the other nine, whatever is wrong with it or with us.
        logger.exception("failed, will be retried", extra={"sqs_message_id": record["messageId"]})
        _retry_soon(record)
        return "Failed"


def _retry_soon(record: dict[str, Any]) -> None:
    receives = int(record["attributes"]["ApproximateReceiveCount"])
    try:
        client("sqs").change_message_visibility(
            QueueUrl=os.environ["INPUT_QUEUE_URL"],
            ReceiptHandle=record["receiptHandle"],
            VisibilityTimeout=min(2 ** min(receives, 10), MAX_RETRY_DELAY_SECONDS),
        )
    except (ClientError, BotoCoreError):
        logger.exception("will be retried after the queue's visibility timeout")
