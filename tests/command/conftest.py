"""The command `punctual`, run in this process against moto; moto's missing CloudFormation is replaced here."""

import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from moto import mock_aws
from punctual_core.event import Event, Rules, parse
from punctual_core.lanes import sort_key
from punctual_core.parking import Parking
from punctual_core.register import Register

from punctual.cli import main
from tests.aws_limits import violations
from tools.cloudformation import REGION, Template

NOW = datetime(2026, 12, 24, 9, 0, tzinfo=UTC)


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
    parameters: dict[str, str] = field(default_factory=dict)
    physical_ids: dict[str, str] = field(default_factory=dict)
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
        call, refused = BaseClient._make_api_call, []

        def answer(client: BaseClient, operation: str, parameters: dict) -> dict:
            refused.extend(violations(client.meta.service_model.operation_model(operation), parameters))
            if operation in fake.errors:
                raise fake.errors[operation]
            if operation == "DescribeStacks":
                name = parameters["StackName"]
                if name != "punctual":
                    error = {"Code": "ValidationError", "Message": f"Stack with id {name} does not exist"}
                    raise ClientError({"Error": error}, operation)
                outputs = [{"OutputKey": key, "OutputValue": value} for key, value in fake.outputs.items()]
                given = [{"ParameterKey": key, "ParameterValue": value} for key, value in fake.parameters.items()]
                return {"Stacks": [{"StackName": name, "Outputs": outputs, "Parameters": given}]}
            if operation == "DescribeStackResource":
                physical_id = fake.physical_ids[parameters["LogicalResourceId"]]
                return {"StackResourceDetail": {"PhysicalResourceId": physical_id}}
            if operation == "FilterLogEvents":
                parameters = {name: value for name, value in parameters.items() if name != "filterPattern"}
            if operation == "ReceiveMessage":
                parameters = {**parameters, "WaitTimeSeconds": 0}  # moto has one server: nothing to wait for.
            return call(client, operation, parameters)

        monkeypatch.setattr(BaseClient, "_make_api_call", answer)
        yield fake
        assert not refused, "AWS would refuse it"


# --- Parked events, the register, and executions ----------------------------------------------------------------------

TEMPLATE = Template()
TABLES = {"ParkedTableName": "Parked", "RegisterTableName": "Register"}


@dataclass
class Tables:
    """The stack's tables, written by the shipped Ingest's own classes."""

    dynamodb: Any
    parking: Parking
    register: Register

    def park(self, due: datetime, id: str | None = None, number: int = 0, **fields: Any) -> Event:
        """Park an event as Ingest does, published at NOW."""
        topic = "arn:aws:sns:eu-central-1:123456789012:orders"
        message = {"date": due.isoformat(), "target": topic, "user": "team", "payload": f"order-{number}", **fields}
        if id:
            message["id"] = id
        revision = str(uuid.UUID(int=number))
        event = parse(json.dumps(message), revision, NOW, Rules(f"{topic}-in", ("*",)))
        if id:
            order = f"{NOW.timestamp():018.6f} {NOW.timestamp():018.6f} {revision}"
            self.register.claim(id, revision, order, NOW, due, sort_key(due, revision))
        self.parking.park(event)
        return event


@pytest.fixture
def tables(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> Tables:
    """The tables of the stack called `punctual`."""
    dynamodb = boto3.client("dynamodb", REGION)
    for output, table in TABLES.items():
        dynamodb.create_table(**TEMPLATE.table(table))
        stack.outputs[output] = TEMPLATE.table(table)["TableName"]
    stack.outputs["DeliverArn"] = "arn:aws:states:eu-central-1:123456789012:stateMachine:Deliver"
    stack.refuse("ListExecutions", "StateMachineTypeNotSupported")
    names = [stack.outputs[output] for output in TABLES]
    return Tables(dynamodb, Parking(dynamodb, names[0]), Register(dynamodb, names[1]))


class Log:
    """The executions' log, in the form in which Express writes it."""

    GROUP = "/aws/vendedlogs/states/punctual-Deliver"

    def __init__(self, logs: Any):
        self._logs, self._numbers = logs, itertools.count()
        logs.create_log_group(logGroupName=self.GROUP)
        logs.create_log_stream(logGroupName=self.GROUP, logStreamName="deliver")

    def write(self, name: str, *entries: tuple[datetime, str, dict[str, Any]]) -> None:
        """Write the entries of an execution: when, their type, their details."""
        arn = f"arn:aws:states:{REGION}:123456789012:express:Deliver:{name}:{uuid.UUID(int=next(self._numbers))}"
        events = [
            {
                "timestamp": int(at.timestamp() * 1000),
                "message": json.dumps(
                    {
                        "id": str(number),
                        "type": type,
                        "details": details,
                        "event_timestamp": str(int(at.timestamp() * 1000)),
                        "execution_arn": arn,
                    }
                ),
            }
            for number, (at, type, details) in enumerate(entries, 1)
        ]
        for event in events:  # One by one: a request must have them in the order of time.
            self._logs.put_log_events(logGroupName=self.GROUP, logStreamName="deliver", logEvents=[event])


@pytest.fixture
def log(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> Log:
    """The log of Deliver's executions. moto does not know patterns over JSON, so it returns all of it here."""
    stack.physical_ids["DeliverLog"] = Log.GROUP
    return Log(boto3.client("logs", REGION))
