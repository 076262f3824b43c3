"""The queues through which `punctual check`, the demo, and the benchmark receive what topics deliver."""

import json

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from moto import mock_aws

from punctual.consumer import Consumer
from tools.cloudformation import ACCOUNT, REGION


class Clients:
    def client(self, service, **_):
        return boto3.client(service, REGION)


@pytest.fixture
def consumer(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws(), Consumer(Clients(), pollers=1, name="queue", topic_prefix="ord") as consumer:
        yield consumer


def attributes(queue: str) -> dict[str, str]:
    sqs = boto3.client("sqs", REGION)
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def test_the_queue_is_open_to_its_own_topics_alone(consumer):
    """SNS delivers nothing to a queue whose policy does not let it, and a stranger's topic must not fill it."""
    consumer.topic("orders")
    [statement] = json.loads(attributes("queue")["Policy"])["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue",
        "Condition": {"ArnLike": {"aws:SourceArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:ord*"}},
    }


def test_a_fifo_topic_has_a_fifo_queue(consumer):
    """SNS delivers a FIFO topic in order to nothing else."""
    assert consumer.topic("orders", fifo=True).endswith(":orders.fifo")
    assert attributes("queue.fifo")["FifoQueue"] == "true"


def test_an_arrival_has_what_was_published(consumer):
    topic = consumer.topic("orders")
    color = {"color": {"DataType": "String", "StringValue": "red"}}
    sns = boto3.client("sns", REGION)
    id = sns.publish(TopicArn=topic, Message="text", Subject="subject", MessageAttributes=color)["MessageId"]
    assert consumer.wait_until(bool, seconds=10)
    [arrival] = consumer.arrivals
    assert (arrival.topic, arrival.message, arrival.subject) == (topic, "text", "subject")
    assert (arrival.attributes, arrival.message_id) == ({"color": "red"}, id)


def test_a_failed_poll_is_followed_by_another(consumer, monkeypatch):
    """An emulator that restarts, or a throttled call."""
    call, failed = BaseClient._make_api_call, []

    def fail_once(client, operation, parameters):
        if operation == "ReceiveMessage" and not failed:
            failed.append(operation)
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, operation)
        return call(client, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", fail_once)
    boto3.client("sns", REGION).publish(TopicArn=consumer.topic("orders"), Message="text")
    assert consumer.wait_until(bool, seconds=10) and failed
