"""The tests' cloud refuses what AWS refuses, so that every other test checks each of its calls."""

import os

import pytest
from punctual_core.clients import client

from tests.aws_limits import KIB, violations

DELETES = [{"DeleteRequest": {"Key": {"lane": {"S": "lane-00"}, "sort_key": {"S": str(n)}}}} for n in range(26)]
START = {"stateMachineArn": "arn", "name": "order", "input": "{}"}
MESSAGE = {"TopicArn": "arn", "Message": "hello"}
QUEUE = {"QueueUrl": "url"}
ENTRIES = [{"Id": str(number), "VisibilityTimeout": 7} for number in range(11)]


@pytest.mark.parametrize(
    ("service", "operation", "allowed", "refused"),
    [
        ("dynamodb", "BatchWriteItem", {"RequestItems": {"t": DELETES[:25]}}, {"RequestItems": {"t": DELETES}}),
        ("dynamodb", "BatchWriteItem", {"RequestItems": {}}, {"RequestItems": {"a": DELETES[:13], "b": DELETES[13:]}}),
        ("dynamodb", "BatchWriteItem", {"RequestItems": {}}, {"RequestItems": {"t": DELETES[:1] * 2}}),
        ("dynamodb", "UpdateItem", {"ReturnValues": "ALL_OLD"}, {"ReturnValues": "OLD"}),
        ("dynamodb", "PutItem", {"Item": {"a": {"S": "x" * 1000}}}, {"Item": {"a": {"S": "x" * 401 * KIB}}}),
        ("dynamodb", "PutItem", {"Item": {"a": {"NULL": True}}}, {"Item": {"a": {"NULL": False}}}),
        ("stepfunctions", "StartExecution", START | {"name": "n" * 80}, START | {"name": "n" * 81}),
        ("stepfunctions", "StartExecution", START, START | {"name": "order 1"}),
        ("stepfunctions", "StartExecution", START | {"input": "x" * 256 * KIB}, START | {"input": "é" * 129 * KIB}),
        ("sns", "Publish", MESSAGE | {"Message": "x" * 256 * KIB}, MESSAGE | {"Message": "x" * (256 * KIB + 1)}),
        ("sns", "Publish", MESSAGE | {"Subject": "s" * 99}, MESSAGE | {"Subject": "s" * 100}),
        ("sns", "Publish", MESSAGE, MESSAGE | {"MessageAttributes": {str(n): {} for n in range(11)}}),
        ("sns", "Publish", MESSAGE, MESSAGE | {"Message": ""}),
        ("sqs", "SendMessage", QUEUE | {"MessageBody": "x"}, QUEUE | {"MessageBody": "x" * (256 * KIB + 1)}),
        ("sqs", "SendMessage", QUEUE | {"MessageBody": "x\t"}, QUEUE | {"MessageBody": "x\x01"}),
        ("sqs", "ReceiveMessage", QUEUE | {"MaxNumberOfMessages": 10}, QUEUE | {"MaxNumberOfMessages": 11}),
        ("sqs", "ReceiveMessage", QUEUE | {"WaitTimeSeconds": 20}, QUEUE | {"WaitTimeSeconds": 21}),
        ("sqs", "ChangeMessageVisibility", {"VisibilityTimeout": 43200}, {"VisibilityTimeout": 43201}),
        ("sqs", "ChangeMessageVisibilityBatch", {"Entries": ENTRIES[:10]}, {"Entries": ENTRIES}),
        ("sqs", "ChangeMessageVisibilityBatch", {"Entries": ENTRIES[:1]}, {"Entries": ENTRIES[:1] * 2}),
        ("lambda", "Invoke", {"InvocationType": "Event"}, {"InvocationType": "Async"}),
        ("lambda", "Invoke", {"Payload": "x"}, {"Payload": "x" * (256 * KIB + 1)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_limit_of_aws_is_checked(service, operation, allowed, refused):
    """Up to the limit, and not above it."""
    model = client(service).meta.service_model.operation_model(operation)
    assert not violations(model, allowed)
    assert violations(model, refused)


def test_a_call_beyond_a_limit_fails_the_test_that_makes_it(cloud):
    """At its end, even if the code catches what moto says."""
    arguments = {"stateMachineArn": os.environ["DELIVER_ARN"], "input": "{}"}
    client("stepfunctions").start_execution(name="a-name", **arguments)
    assert not cloud.refused
    client("stepfunctions").start_execution(name="a.name", **arguments)
    assert cloud.refused == ["StartExecution: name 'a.name'"]
    cloud.refused.clear()
