"""Function: messages of the input topic in; each one started, parked, registered, or reported."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from scheduler import register
from scheduler.clients import client
from scheduler.deliver import DeliverWorkflow, PermanentStartError
from scheduler.event import Cancel, Event, Refused, Rules, parse
from scheduler.failures import Failures
from scheduler.parking import Parking, sort_key
from scheduler.register import Register, Superseded

# A failed message comes back after 2, 4, 8 ... seconds instead of the queue's visibility timeout, and at the latest
# after this many: an event must not be minutes late because one call failed, nor use up its receives in an hour.
MAX_RETRY_DELAY_SECONDS = 600

logger = Logger()
metrics = Metrics(namespace="Punctual")


@dataclass(frozen=True)
class Notification:
    """One message of the input topic. `version` orders publications: by the time SNS gave, then the time at which the
    queue took it, then the MessageId, so that no two are equal."""

    text: str
    message_id: str
    version: str


@dataclass(frozen=True)
class Ingest:
    rules: Rules
    horizon: timedelta
    workflow: DeliverWorkflow
    parking: Parking
    register: Register
    failures: Failures

    def take(self, record: dict, now: datetime) -> str:
        """Take one record of the input queue to its end. Returns what became of it: Started, Parked, Canceled,
        Superseded or Refused. Raises botocore's errors if it has to come back."""
        notification = read(record)
        try:
            request = parse(notification.text, notification.message_id, self.rules)
            act = self._cancel if isinstance(request, Cancel) else self._schedule
            return act(request, notification, now)
        except Superseded:
            return "Superseded"
        except Refused as refused:
            logger.info("refused", extra={"event_id": refused.id, "error": refused.error})
            self.failures.report(refused.error, refused.id, refused.event, refused.failure_topic)
            return "Refused"

    def _cancel(self, cancel: Cancel, notification: Notification, now: datetime) -> str:
        former = self.register.claim(cancel.id, cancel.revision, notification.version, now)
        if former:
            self.parking.remove(cancel.id, former)
        return "Canceled"

    def _schedule(self, event: Event, notification: Notification, now: datetime) -> str:
        near = event.due - now <= self.horizon
        key = None if near else sort_key(event.due, event.revision)
        if event.is_named or event.due - now > register.UNREGISTERED_LIMIT:
            former = self.register.claim(event.id, event.revision, notification.version, now, event.due, key)
            if former:
                self.parking.remove(event.id, former)
        if not near:
            self.parking.park(event)
            return "Parked"
        try:
            self.workflow.start(event.execution_name, event.input)
        except PermanentStartError as refusal:
            message = json.loads(notification.text)
            raise Refused(f"Step Functions does not take this event: {refusal}", message, event.id) from refusal
        return "Started"


def read(record: dict) -> Notification:
    """The SNS notification in a record of the queue. What is no notification, because somebody wrote to the queue
    itself, is taken as the message, under its SQS message id."""
    sent_at = int(record["attributes"]["SentTimestamp"]) / 1000
    try:
        body = json.loads(record["body"])
        text, message_id = str(body["Message"]), str(body["MessageId"])
        published_at = datetime.fromisoformat(body["Timestamp"]).timestamp()
    except (ValueError, KeyError, TypeError, RecursionError):
        text, message_id, published_at = record["body"], record["messageId"], sent_at
    return Notification(text, message_id, f"{published_at:018.6f} {sent_at:018.6f} {message_id}")


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
        workflow=DeliverWorkflow(client("stepfunctions"), env["DELIVER_ARN"]),
        parking=Parking(dynamodb, env["PARKED_TABLE"]),
        register=Register(dynamodb, env["REGISTER_TABLE"]),
        failures=Failures(client, env["FAILURE_TOPIC_ARN"], env["UNDELIVERED_URL"]),
    )


ingest = _from_environment()
# A batch has at most ten messages; side by side they take as long as one.
threads = ThreadPoolExecutor(max_workers=10)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict, context: Any) -> dict:
    """Lambda's entry. Takes a batch of SQS records, returns the ones that have to come back."""
    failed = []
    for record, outcome in zip(event["Records"], threads.map(_take, event["Records"]), strict=True):
        metrics.add_metric(name=outcome, unit=MetricUnit.Count, value=1)
        if outcome == "Failed":
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def _take(record: dict) -> str:
    try:
        return ingest.take(record, datetime.now(UTC))
    except Exception:  # One message must not fail the other nine, whatever is wrong with it or with us.
        logger.exception("failed, will be tried again", extra={"sqs_message_id": record["messageId"]})
        _retry_soon(record)
        return "Failed"


def _retry_soon(record: dict) -> None:
    receives = int(record["attributes"]["ApproximateReceiveCount"])
    try:
        client("sqs").change_message_visibility(
            QueueUrl=os.environ["INPUT_QUEUE_URL"],
            ReceiptHandle=record["receiptHandle"],
            VisibilityTimeout=min(2 ** min(receives, 10), MAX_RETRY_DELAY_SECONDS),
        )
    except (ClientError, BotoCoreError):
        logger.exception("will be tried again after the queue's visibility timeout")
