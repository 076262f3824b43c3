"""Publish the events in a stack's Undelivered queue again, and take those out that the input topic has accepted.

    .venv/dev/bin/python tools/resend.py --stack punctual

Region and credentials come from the environment (AWS_PROFILE, AWS_DEFAULT_REGION). An event keeps its id; its
date is past by now, so it is delivered at once. Events that come back while this runs are left for the next run.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

# Longer than a run takes with what it has received: a message that stays in the queue is not met twice in one run.
HIDDEN_SECONDS = 900


def resend(sns: Any, sqs: Any, queue_url: str, topic: str) -> int:
    """Publish each event in the queue to `topic`. Prints a line for each; returns how many have stayed in the queue."""
    stayed = 0
    for message in _messages(sqs, queue_url, before=time.time()):
        report = json.loads(message["Body"])
        if report.get("truncated"):
            print(f"stays, because only its beginning is here: {report['id']} ({report['error']})")
            stayed += 1
            continue
        try:
            sns.publish(TopicArn=topic, Message=_as_published(report))
        except (ClientError, BotoCoreError) as error:
            print(f"stays, because it could not be published: {report['id']} ({error})")
            stayed += 1
            continue
        sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        print(f"sent again: {report['id']} ({report['error']})")
    return stayed


def _messages(sqs: Any, queue_url: str, before: float) -> Iterator[dict]:
    """The queue's messages that were sent `before` that time (Unix seconds)."""
    while True:
        batch = sqs.receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=2,  # Asks every server of the queue: an empty answer then means an empty queue.
            VisibilityTimeout=HIDDEN_SECONDS,
            MessageSystemAttributeNames=["SentTimestamp"],
        ).get("Messages", [])
        if not batch:
            return
        yield from (message for message in batch if int(message["Attributes"]["SentTimestamp"]) < before * 1000)


def _as_published(report: dict) -> str:
    """The text of the message that a report is about."""
    event = report["event"]
    if isinstance(event, str):  # It was no JSON.
        return event
    if isinstance(event, dict) and "cancel" not in event:
        # Without a name it would get another id, which neither its publisher nor a consumer's list of repeats knows.
        event = {**event, "id": event.get("id", report["id"])}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))
