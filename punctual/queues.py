"""Commands for the queues that keep what failed: `resend` and `redrive`."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from .output import Output, plural
from .stack import Stack

# Longer than a run takes with the messages it has received: a message that stays is not received twice in one run.
HIDDEN_SECONDS = 900


@dataclass(frozen=True)
class Attempt:
    """What became of one message of the Undelivered queue: published again, unless there is a reason why not."""

    event_id: str
    error: str
    kept_because: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """What `--json` prints."""
        return {"id": self.event_id, "error": self.error, "kept_because": self.kept_because}


@click.command("resend")
@click.pass_obj
def resend_command(stack: Stack) -> None:
    """Publish the events in the Undelivered queue again.

    Each event is published to the input topic under the id that it had, and deleted from the queue once SNS has
    accepted it. A past date is delivered at once.
    """
    output, kept, is_empty = Output.of_context(), 0, True
    queue, topic = stack.output("UndeliveredUrl"), stack.output("InputTopicArn")

    def attempts() -> Iterator[Attempt]:
        nonlocal kept
        for attempt in resend(stack.client("sns"), stack.client("sqs"), queue, topic):
            kept += attempt.kept_because is not None
            yield attempt

    if output.is_json:
        output.json_list(attempt.as_json() for attempt in attempts())
    else:
        for attempt in attempts():
            what = f"kept, because {attempt.kept_because}" if attempt.kept_because else "published again"
            output.line(f"{what}: {attempt.event_id} ({attempt.error})")
            is_empty = False
        if is_empty:
            output.line("No message is visible in the queue.")
    if kept:
        raise click.ClickException(
            f"kept in the queue: {kept} (visible again {HIDDEN_SECONDS // 60} minutes after they were read)"
        )


def resend(sns: Any, sqs: Any, queue_url: str, topic: str) -> Iterator[Attempt]:
    """Publish each failure report's event to `topic`, and delete it from the queue when SNS has accepted it.

    Reads what was in the queue at the start: a report that arrives meanwhile is left for the next run. Raises
    botocore's errors if the queue cannot be read.
    """
    for message in _messages(sqs, queue_url, sent_before=time.time()):
        try:
            report = json.loads(message["Body"])
            event_id, error, text = str(report["id"]), str(report["error"]), _as_published(report)
        except (ValueError, TypeError, KeyError):  # Somebody else wrote to the queue.
            yield Attempt(message["MessageId"], "unknown", "it is not a failure report")
            continue
        if report.get("truncated"):
            yield Attempt(event_id, error, "only the beginning of the event is here")
            continue
        try:
            sns.publish(TopicArn=topic, Message=text)
        except (ClientError, BotoCoreError) as refusal:
            yield Attempt(event_id, error, f"it could not be published ({refusal})")
            continue
        sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        yield Attempt(event_id, error)


def _messages(sqs: Any, queue_url: str, sent_before: float) -> Iterator[dict[str, Any]]:
    """The queue's messages that were sent before that time (Unix seconds)."""
    while True:
        batch = sqs.receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=2,  # Long polling asks every server of the queue, so an empty answer means an empty queue.
            VisibilityTimeout=HIDDEN_SECONDS,
            MessageSystemAttributeNames=["SentTimestamp"],
        ).get("Messages", [])
        if not batch:
            return
        yield from (message for message in batch if int(message["Attributes"]["SentTimestamp"]) < sent_before * 1000)


def _as_published(report: dict[str, Any]) -> str:
    """The text of the message that a failure report is about."""
    event = report["event"]
    if isinstance(event, str):  # It was not JSON.
        return event
    if isinstance(event, dict) and "cancel" not in event:
        # Without a name it would get a new id, which neither its publisher nor a deduplicating consumer knows.
        event = {**event, "id": event.get("id", report["id"])}
        if "delay" in event:  # It is over; counted anew it would delay the event again.
            event["delay"] = 0
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


@click.command("redrive")
@click.pass_obj
def redrive_command(stack: Stack) -> None:
    """Move the messages of the dead-letter queue back to the input queue.

    Safe to interrupt and to run again: a message is deleted once the input queue has it. (SQS's own redrive does not
    support a dead-letter queue that SNS writes to, as it does here.)
    """
    sqs, moved = stack.client("sqs"), 0
    for _ in redrive(sqs, stack.output("InputDeadLettersUrl"), stack.physical_id("InputQueue")):
        moved += 1
    output = Output.of_context()
    sentence = f"Moved {plural(moved, 'message')} to the input queue."
    output.json({"moved": moved}) if output.is_json else output.line(sentence)


def redrive(sqs: Any, dead_letters_url: str, input_queue_url: str) -> Iterator[str]:
    """Send each message that is in the dead-letter queue at the start to the input queue, then delete it. Yields the
    message ids. Raises botocore's errors."""
    for message in _messages(sqs, dead_letters_url, sent_before=time.time()):
        sqs.send_message(QueueUrl=input_queue_url, MessageBody=message["Body"])
        sqs.delete_message(QueueUrl=dead_letters_url, ReceiptHandle=message["ReceiptHandle"])
        yield message["MessageId"]
