"""Function: receives the messages of the input topic; each one is started, parked, registered, or reported."""

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from . import register
from .clients import client
from .deadline import Deadline
from .event import Cancel, Event, Refused, Rules, parse
from .executions import Executions, PermanentStartError
from .failures import Failures
from .lanes import lane_of, sort_key
from .limits import ID
from .parking import Parking
from .register import Place, Register, Superseded
from .visibility import RENEWAL_SECONDS, Visibility

# When this little of the invocation's time is left, it answers: a batch that Lambda had to end would be retried whole,
# with all that was started in it. Enough for two requests about visibility that hang, of 2 seconds each.
ANSWER_MARGIN_SECONDS = 5

# SNS and SQS have clocks of their own: SNS may seem to accept a message so much later than the queue gets it.
CLOCK_TOLERANCE = timedelta(seconds=1)

logger = Logger()
metrics = Metrics(namespace="Punctual")


@dataclass(frozen=True)
class Notification:
    """One message of the input topic, and when SNS accepted it (UTC)."""

    text: str
    message_id: str
    accepted_at: datetime

    @property
    def publication_order(self) -> str:
        """Sorts as publications do, by time and then by MessageId. All copies of one message have the same: SNS and SQS
        deliver more than one."""
        return f"{self.accepted_at.timestamp():018.6f} {self.message_id}"


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
                self._claim(notification, now, request.id)
                return "Canceled"
            return self._schedule(request, notification, now)
        except Superseded:
            return "Superseded"
        except Refused as refused:
            logger.info("refused", extra={"id": refused.id, "reason": refused.error})  # The command `show` reads it.
            self.failures.report(refused.error, refused.id, refused.event, refused.failure_topic)
            return "Refused"

    def _schedule(self, event: Event, notification: Notification, now: datetime) -> str:
        is_near = event.due - now <= self.horizon
        if event.is_named or event.due - now > register.UNREGISTERED_LIMIT:
            # Before the start, not after it: a repeated message whose event was canceled meanwhile must not be started.
            place = None if is_near else Place(lane_of(event.id), sort_key(event.due, event.revision))
            self._claim(notification, now, event.id, event.due, place)
        if not is_near:
            self.parking.park(event)
            return "Parked"
        try:
            self.workflow.start(event.execution_name, event.input)
        except PermanentStartError as refusal:
            logger.info("refused", extra={"id": event.id, "reason": str(refusal)})
            self.failures.report_refused_start(refusal, event.input)
            return "Refused"
        return "Started"

    def _claim(
        self,
        notification: Notification,
        now: datetime,
        id: str,
        due: datetime | None = None,
        place: Place | None = None,
    ) -> None:
        """Make a message the valid one for an id, and remove the event that was until now from its lane."""
        order = notification.publication_order
        if former := self.register.claim(id, notification.message_id, order, now, due, place):
            self.parking.remove(former.lane, former.sort_key)


def read(record: dict[str, Any]) -> Notification:
    """The SNS notification in a record of the queue.

    A body that is not a notification, because somebody wrote to the queue itself, is taken as the message, published
    when the queue got it, under its SQS message id (another one after each redrive). A body that imitates a
    notification can't be told from one, but it does not win over what is published later: it is dated no later than the
    queue got it.
    """
    sent_at = datetime.fromtimestamp(int(record["attributes"]["SentTimestamp"]) / 1000, UTC)
    try:
        body = json.loads(record["body"])
        text, message_id = str(body["Message"]), str(body["MessageId"])
        accepted_at = datetime.fromisoformat(body["Timestamp"]).astimezone(UTC)
        if not ID.fullmatch(message_id):
            raise ValueError("not a MessageId of SNS")
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return Notification(record["body"], record["messageId"], sent_at)
    if accepted_at > sent_at + CLOCK_TOLERANCE:
        accepted_at = sent_at
    return Notification(text, message_id, accepted_at)


def _from_environment() -> Ingest:
    env = os.environ
    dynamodb = client("dynamodb")
    return Ingest(
        rules=Rules(
            input_topic=env["INPUT_TOPIC_ARN"],
            allowed_topics=tuple(pattern.strip() for pattern in env["TARGET_TOPIC_ARNS"].split(",")),
            user_required=env["ENFORCE_USER"] == "true",
            failure_topic=env["FAILURE_TOPIC_ARN"],
            alarm_topic=env["ALARM_TOPIC_ARN"],
        ),
        horizon=timedelta(seconds=int(env["HORIZON_SECONDS"])),
        workflow=Executions(client("stepfunctions"), env["DELIVER_ARN"]),
        parking=Parking(dynamodb, env["PARKED_TABLE"]),
        register=Register(dynamodb, env["REGISTER_TABLE"]),
        failures=Failures(client, env["FAILURE_TOPIC_ARN"], env["UNDELIVERED_URL"]),
    )


ingest = _from_environment()
# Made before it is needed: a process that is killed before it has hidden its batch costs the queue's three minutes. One
# attempt, because the next renewal is another.
visibility = Visibility(client("sqs", attempts=1), os.environ["INPUT_QUEUE_URL"])


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry. Processes a batch of SQS records; returns the ones that have to be retried."""
    now = datetime.now(UTC)
    deadline, records = Deadline.of_invocation(context, now), event["Records"]
    outcomes = _side_by_side(records, now, deadline)
    if unfinished := outcomes.count(None):
        logger.error("not finished in time, will be retried", extra={"messages": unfinished})
    for outcome in outcomes:
        metrics.add_metric(name=outcome or "Failed", unit=MetricUnit.Count, value=1)
    failed = [record for record, outcome in zip(records, outcomes, strict=True) if outcome in (None, "Failed")]
    visibility.retry_soon(failed)
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in failed]}


def _side_by_side(records: Sequence[dict[str, Any]], now: datetime, deadline: Deadline) -> list[str | None]:
    """What became of each record, or None if that is not known in time. Hides the batch meanwhile.

    A thread that goes on after that may repeat an event (it ends in a later invocation, when the message has perhaps
    been retried); it loses none.
    """
    # Threads of its own: those of an earlier invocation may still be waiting for an answer. A batch has ten at most.
    pool = ThreadPoolExecutor(max_workers=10)
    acts = [pool.submit(_take, record, now) for record in records]
    pool.shutdown(wait=False)
    pending = set(acts)
    answer_at = time.monotonic() + deadline.seconds_until(ANSWER_MARGIN_SECONDS)
    while pending and (hidden_at := time.monotonic()) < answer_at:
        visibility.hide(records)  # All of them: what is done is deleted only after the answer.
        wait_until = min(hidden_at + RENEWAL_SECONDS, answer_at)
        pending = wait(pending, timeout=max(wait_until - time.monotonic(), 0)).not_done
    return [None if act in pending else act.result() for act in acts]


def _take(record: dict[str, Any], now: datetime) -> str:
    try:
        return ingest.take(record, now)
    except Exception:  # One message must not fail the other nine, whatever is wrong with it or with us.
        logger.exception("failed, will be retried", extra={"sqs_message_id": record["messageId"]})
        return "Failed"
