"""The command `punctual`, run in this process against moto; moto's missing CloudFormation is replaced here."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from moto import mock_aws

from punctual.cli import main
from tests.cloudformation import REGION


@dataclass(frozen=True)
class Result:
    code: int
    output: str
    error: str


@pytest.fixture
def punctual(capsys: pytest.CaptureFixture) -> Callable[..., Result]:
    """Runs the command with some arguments."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        output, error = capsys.readouterr()
        return Result(exit.value.code, output, error)

    return run


@dataclass
class FakeStack:
    """What the commands use of a stack: its outputs, the input topic with a queue behind it, the Undelivered queue.
    `errors` are answers of AWS by operation."""

    sns: Any
    sqs: Any
    input_topic: str
    undelivered: str
    behind: str
    outputs: dict[str, str]
    errors: dict[str, ClientError] = field(default_factory=dict)

    def refuse(self, operation: str, code: str, message: str = "") -> None:
        self.errors[operation] = ClientError({"Error": {"Code": code, "Message": message}}, operation)

    def add_undelivered(self, event: Any, **report: Any) -> None:
        self.send_to_undelivered(
            json.dumps({"error": "not delivered: ...", "id": "order-4711", "event": event, **report})
        )

    def send_to_undelivered(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.undelivered, MessageBody=body)

    def received(self) -> list[str]:
        """What the input topic has accepted."""
        messages = self.sqs.receive_message(QueueUrl=self.behind, MaxNumberOfMessages=10).get("Messages", [])
        return [message["Body"] for message in messages]

    def left(self) -> int:
        """How many messages are in the Undelivered queue, visible or not."""
        counts = self.sqs.get_queue_attributes(QueueUrl=self.undelivered, AttributeNames=["All"])["Attributes"]
        return int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"])


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStack]:
    """A stack called `punctual`."""
    with mock_aws():
        sns, sqs = boto3.client("sns", REGION), boto3.client("sqs", REGION)
        topic = sns.create_topic(Name="input")["TopicArn"]
        undelivered, behind = (sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("undelivered", "behind"))
        arn = sqs.get_queue_attributes(QueueUrl=behind, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
        fake = FakeStack(sns, sqs, topic, undelivered, behind, {"InputTopicArn": topic, "UndeliveredUrl": undelivered})
        call = BaseClient._make_api_call

        def answer(client: BaseClient, operation: str, parameters: dict) -> dict:
            if operation in fake.errors:
                raise fake.errors[operation]
            if operation == "DescribeStacks":
                name = parameters["StackName"]
                if name != "punctual":
                    error = {"Code": "ValidationError", "Message": f"Stack with id {name} does not exist"}
                    raise ClientError({"Error": error}, operation)
                outputs = [{"OutputKey": key, "OutputValue": value} for key, value in fake.outputs.items()]
                return {"Stacks": [{"StackName": name, "Outputs": outputs}]}
            if operation == "ReceiveMessage":
                parameters = {**parameters, "WaitTimeSeconds": 0}  # moto has one server: nothing to wait for.
            return call(client, operation, parameters)

        monkeypatch.setattr(BaseClient, "_make_api_call", answer)
        yield fake
