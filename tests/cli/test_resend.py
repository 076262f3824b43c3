"""What could neither be delivered nor reported is sent again, and leaves the queue only when the input topic has it."""

import json

import boto3
import pytest
from moto import mock_aws

from punctual.resend import resend
from tests.cloudformation import REGION


@pytest.fixture
def stack():
    """An input topic with a queue behind it, and an Undelivered queue: their clients and names."""
    with mock_aws():
        sns, sqs = boto3.client("sns", REGION), boto3.client("sqs", REGION)
        topic = sns.create_topic(Name="input")["TopicArn"]
        undelivered, behind = (sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("undelivered", "behind"))
        arn = sqs.get_queue_attributes(QueueUrl=behind, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
        yield sns, sqs, topic, undelivered, behind


def bury(stack, event, **report) -> None:
    _, sqs, _, undelivered, _ = stack
    body = {"error": "not delivered: ...", "id": "order-4711", "event": event, **report}
    sqs.send_message(QueueUrl=undelivered, MessageBody=json.dumps(body))


def run(stack, topic: str | None = None) -> tuple[int, list[str], int]:
    """How many stayed, what the input topic got, how many are left in the queue, hidden or not."""
    sns, sqs, input_topic, undelivered, behind = stack
    stayed = resend(sns, sqs, undelivered, topic or input_topic)
    got = sqs.receive_message(QueueUrl=behind, MaxNumberOfMessages=10).get("Messages", [])
    counts = sqs.get_queue_attributes(QueueUrl=undelivered, AttributeNames=["All"])["Attributes"]
    left = int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"])
    return stayed, [message["Body"] for message in got], left


def test_an_event_is_published_again_under_the_id_it_had(stack):
    """Or nobody could cancel it, nor tell its repeat."""
    bury(stack, {"date": "2026-12-24T18:00:00Z", "payload": "ä"})
    stayed, [sent], left = run(stack)
    assert json.loads(sent) == {"date": "2026-12-24T18:00:00Z", "payload": "ä", "id": "order-4711"}
    assert (stayed, left) == (0, 0)


def test_a_message_that_is_no_event_is_published_as_it_was(stack):
    for event in ("not JSON", {"cancel": "order-4711", "user": "me"}):
        bury(stack, event)
    _, sent, left = run(stack)
    assert (set(sent), left) == ({"not JSON", '{"cancel":"order-4711","user":"me"}'}, 0)


def test_what_the_topic_does_not_take_stays(stack):
    bury(stack, {"payload": "x"})
    assert run(stack, topic=f"{stack[2]}-gone") == (1, [], 1)


def test_the_beginning_of_an_event_is_no_event(stack):
    """A report that was cut can't be sent again: it stays, for somebody to look at."""
    bury(stack, '{"payload": "xxx', truncated=True)
    assert run(stack) == (1, [], 1)
