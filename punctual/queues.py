"""Commands for the queues that keep what failed: `resend` and `redrive`."""

from collections import Counter
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import batched
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError
from punctual_core.json_text import as_json, from_json
from punctual_core.limits import ID

from .interruption import uninterrupted
from .moments import from_seconds, shown
from .output import Output, plural
from .parked import registered
from .show import to_id
from .stack import Stack, sentence_of

# For how long a run hides a message from others. What it has not dealt with is visible again when it ends, unless it
# is killed.
HIDDEN_SECONDS = 900
# Of ChangeMessageVisibilityBatch, by AWS.
BATCH = 10


@dataclass(frozen=True)
class Attempt:
    """What became of one message: done, unless there is a reason why it was kept in its queue."""

    id: str
    error: str | None = None
    kept_because: str | None = None


class Queue:
    """A queue that is read from its beginning to its end. What is not deleted is visible again when the block ends,
    whatever ends it."""

    def __init__(self, stack: Stack, url: str):
        self._sqs, self.url = stack.client("sqs"), url
        self._held: dict[str, str] = {}  # receipt handles by SQS message ids

    def __enter__(self) -> "Queue":
        return self

    def __exit__(self, *_: object) -> None:
        with uninterrupted():
            for handles in batched(self._held.values(), BATCH, strict=False):
                numbered = enumerate(handles)
                entries = [{"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": 0} for n, handle in numbered]
                with suppress(ClientError, BotoCoreError):  # Then it is visible again after HIDDEN_SECONDS.
                    self._sqs.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Every message, once, until there is none. A message that arrives meanwhile is read, too."""
        while True:
            batch = self._sqs.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=2,  # Long polling asks every server of the queue: empty means empty.
                VisibilityTimeout=HIDDEN_SECONDS,
                MessageSystemAttributeNames=["SentTimestamp"],
            ).get("Messages", [])
            new = [message for message in batch if message["MessageId"] not in self._held]
            self._held |= {message["MessageId"]: message["ReceiptHandle"] for message in batch}
            if not new:
                return
            yield from new

    def delete(self, message: dict[str, Any]) -> None:
        """Delete a message that has been dealt with."""
        self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        del self._held[message["MessageId"]]

    def in_flight(self) -> int:
        """About how many messages somebody else has received and not deleted, such as a run that was killed."""
        name = "ApproximateNumberOfMessagesNotVisible"
        attributes = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])["Attributes"]
        return max(0, int(attributes[name]) - len(self._held))


def resend(stack: Stack, queue: Queue, ids: Container[str] | None = None, dry_run: bool = False) -> Generator[Attempt]:
    """Publish each failure report's event to the input topic, and delete it from the queue when SNS has accepted it;
    with `ids` only these events, with `dry_run` none. Raises botocore's errors if queue or register cannot be read."""
    sns, topic, resent = stack.client("sns"), stack.output("InputTopicArn"), set[str]()
    for message in queue.messages():
        report = report_in(message)
        if not report:  # Somebody else wrote to the queue.
            if ids is None:
                yield Attempt(message["MessageId"], kept_because="it is not a failure report")
            continue
        event_id, error = report["id"], report["error"]
        if ids is not None and event_id not in ids:
            continue
        if reason := _objection_to(stack, report, message, resent):
            yield Attempt(event_id, error, reason)
            continue
        if not dry_run:
            try:
                sns.publish(TopicArn=topic, Message=_as_published(report))
            except (ClientError, BotoCoreError) as refusal:
                yield Attempt(event_id, error, f"it could not be published ({sentence_of(refusal)})")
                continue
            resent.add(event_id)
            queue.delete(message)
        yield Attempt(event_id, error)


def redrive(stack: Stack, queue: Queue, ids: Container[str] | None = None, dry_run: bool = False) -> Generator[Attempt]:
    """Send each message of the dead-letter queue to the input queue, then delete it; with `ids` only what has
    one of them as its MessageId or is about such an event, with `dry_run` none. Raises botocore's errors."""
    sqs, input_queue, topic = stack.client("sqs"), stack.physical_id("InputQueue"), stack.output("InputTopicArn")
    for message in queue.messages():
        envelope = _json(message["Body"])
        from_topic = envelope.get("TopicArn", topic) if isinstance(envelope, dict) else topic
        message_id, event_id = ids_in(message)
        if ids is not None and message_id not in ids and event_id not in ids:
            continue
        if from_topic != topic:
            yield Attempt(message_id, kept_because=f"it is a notification of {from_topic}")
            continue
        if not dry_run:
            sqs.send_message(QueueUrl=input_queue, MessageBody=message["Body"])
            queue.delete(message)
        yield Attempt(event_id or message_id)


def report_in(message: dict[str, Any]) -> dict[str, Any] | None:
    """The failure report that a message of the Undelivered queue is; None if it is something else."""
    report = _json(message["Body"])
    is_report = isinstance(report, dict) and "event" in report and isinstance(report.get("error"), str)
    return report if is_report and isinstance(report.get("id"), str) else None


def _objection_to(stack: Stack, report: dict[str, Any], message: dict[str, Any], resent: set[str]) -> str | None:
    """Why the event of a report must not be published again."""
    if report.get("truncated"):
        return "only the beginning of the event is here"
    if report["id"] in resent:
        return "an event with this id was published in this run: perhaps it came back"
    item = registered(stack, report["id"]) if ID.fullmatch(report["id"]) else None
    if not item:
        return None
    # Both by the clocks of AWS.
    published = float(item["publication_order"]["S"].split()[0])
    reported = int(message["Attributes"]["SentTimestamp"]) / 1000
    at = shown(from_seconds(published) or datetime.max.replace(tzinfo=UTC))
    if item["claimed_by"]["S"] == "cancel":
        return f"it was canceled by a message published at {at} UTC"
    return f"it was replaced by a message published at {at} UTC" if published > reported else None


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
    return as_json(event)


def ids_in(message: dict[str, Any]) -> tuple[str, str | None]:
    """The MessageId of a notification in a queue, and its event's own id if it has one."""
    envelope = _json(message["Body"])
    if not isinstance(envelope, dict):
        return message["MessageId"], None
    event = _json(envelope.get("Message"))
    id = event.get("id", event.get("cancel")) if isinstance(event, dict) else None
    return str(envelope.get("MessageId", message["MessageId"])), id if isinstance(id, str) else None


def _json(text: Any) -> Any:
    try:
        return from_json(text)[0]  # So that numbers keep their digits.
    except (ValueError, TypeError, RecursionError):
        return None


# --- The commands -----------------------------------------------------------------------------------------------------

_only_id = click.option("--id", type=to_id, metavar="ID", help="Only this event.")
_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@click.command("resend")
@_only_id
@_dry_run
@click.pass_obj
def resend_command(stack: Stack, id: str | None, dry_run: bool) -> None:
    """Publish the events in the Undelivered queue again.

    Each event is published to the input topic under the id that it had, and deleted from the queue once SNS has
    accepted it. A past date is delivered at once. What was canceled or replaced since stays in the queue.
    """
    _run(stack, resend, stack.output("UndeliveredUrl"), id, dry_run, "published again")


@click.command("redrive")
@_only_id
@_dry_run
@click.pass_obj
def redrive_command(stack: Stack, id: str | None, dry_run: bool) -> None:
    """Move the messages of the dead-letter queue back to the input queue.

    Safe to interrupt and to run again: a message is deleted once the input queue has it. (SQS's own redrive does not
    support a dead-letter queue that SNS writes to, as it does here.)
    """
    _run(stack, redrive, stack.output("InputDeadLettersUrl"), id, dry_run, "moved")


def _run(
    stack: Stack, run: Callable[..., Generator[Attempt]], url: str, id: str | None, dry_run: bool, done: str
) -> None:
    """Print each attempt when it is made, and at the end how many there were; fail if any message stays."""
    output, counts = Output.of_context(), Counter[bool]()
    done = f"would be {done}" if dry_run else done

    def counted(attempts: Iterable[Attempt]) -> Iterator[Attempt]:
        for attempt in attempts:
            counts[attempt.kept_because is None] += 1
            yield attempt

    with Queue(stack, url) as queue, closing(run(stack, queue, {id} if id else None, dry_run)) as attempts:
        if output.is_json:
            output.json_list(map(asdict, counted(attempts)))
        else:
            for attempt in counted(attempts):
                what = f"kept, because {attempt.kept_because}" if attempt.kept_because else done
                output.line(f"{what}: {attempt.id}" + (f" ({attempt.error})" if attempt.error else ""))
            output.line(f"{plural(counts[True], 'message')} {done}.")
        in_flight = queue.in_flight()
    problems = [f"{counts[False]} kept in the queue"] if counts[False] else []
    if in_flight:
        problems.append(
            f"{in_flight} of the queue in flight: somebody else has received them, and they are visible again within"
            f" {HIDDEN_SECONDS // 60} minutes"
        )
    if problems:
        raise click.ClickException("; ".join(problems))
