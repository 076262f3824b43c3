"""The command `punctual`, run in this process against moto; moto's missing CloudFormation is replaced here."""

import itertools
import json
import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from punctual_core.lanes import sort_key

from punctual.cli import main
from tests.conftest import TARGET, TEMPLATE, Cloud, take
from tools.cloudformation import ACCOUNT, REGION, ROOT

NOW = datetime(2026, 12, 24, 9, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Result:
    code: int
    output: str
    error: str


@pytest.fixture
def punctual(capsys: pytest.CaptureFixture) -> Callable[..., Result]:
    """Runs the command with some arguments, as a shell does: a process in the background ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        output, error = capsys.readouterr()
        return Result(exit.value.code, output, error)

    return run


def refusal(operation: str, code: str, message: str = "") -> ClientError:
    """What AWS says to an operation that it refuses."""
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


class FakeStack:
    """What the commands use of the stack called `punctual`: its outputs, the input topic with the queue `behind` it,
    the Undelivered queue, the `dead` letters, the `input` queue.

    `errors` and `answers` are what AWS says to an operation: an answer gets the function that makes the call, and the
    call's parameters. `calls` are all operations so far, with their parameters."""

    def __init__(self) -> None:
        self.sns, self.sqs = boto3.client("sns", REGION), boto3.client("sqs", REGION)
        self.outputs = TEMPLATE.outputs()
        self.input_topic = self.outputs["InputTopicArn"]
        self.undelivered, self.dead = self.outputs["UndeliveredUrl"], self.outputs["InputDeadLettersUrl"]
        self.input = TEMPLATE.resolve({"Ref": "InputQueue"})
        self.behind = self.sqs.create_queue(QueueName="behind")["QueueUrl"]
        subscriber, raw = f"arn:aws:sqs:{REGION}:{ACCOUNT}:behind", {"RawMessageDelivery": "true"}
        self.sns.subscribe(TopicArn=self.input_topic, Protocol="sqs", Endpoint=subscriber, Attributes=raw)
        self.parameters: dict[str, str] = {}
        self.physical_ids: dict[str, str] = {}
        self.errors: dict[str, Exception] = {}
        self.answers: dict[str, Callable[[Callable[..., dict], dict], dict]] = {}
        self.calls: list[tuple[str, dict]] = []

    def refuse(self, operation: str, code: str, message: str = "") -> None:
        self.errors[operation] = refusal(operation, code, message)

    def add_undelivered(self, event: Any, **report: Any) -> None:
        report = {"error": "not delivered: ...", "id": "order-4711", "event": event, **report}
        self.send_to_undelivered(json.dumps(report))

    def send_to_undelivered(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.undelivered, MessageBody=body)

    def received(self, queue: str = "") -> list[str]:
        """What a queue, by default that behind the input topic, has got since the last call."""
        messages = self.sqs.receive_message(QueueUrl=queue or self.behind, MaxNumberOfMessages=10).get("Messages", [])
        return [message["Body"] for message in messages]

    def left(self, queue: str = "") -> int:
        """How many messages of a queue, by default Undelivered, can be received now."""
        attributes = self.sqs.get_queue_attributes(QueueUrl=queue or self.undelivered, AttributeNames=["All"])
        return int(attributes["Attributes"]["ApproximateNumberOfMessages"])

    def answer(self, operation: str, parameters: dict, call: Callable[..., dict]) -> dict:
        """What AWS says to a call: what a test wants, or else moto, to which CloudFormation is unknown."""
        self.calls.append((operation, parameters))
        if operation in self.errors:
            raise self.errors[operation]
        if found := self.answers.get(operation):
            return found(lambda changed=parameters: call(changed), parameters)
        match operation:
            case "DescribeStacks" if (name := parameters["StackName"]) != "punctual":
                raise refusal(operation, "ValidationError", f"Stack with id {name} does not exist")
            case "DescribeStacks":
                outputs = [{"OutputKey": key, "OutputValue": value} for key, value in self.outputs.items()]
                given = [{"ParameterKey": key, "ParameterValue": value} for key, value in self.parameters.items()]
                return {"Stacks": [{"StackName": "punctual", "Outputs": outputs, "Parameters": given}]}
            case "DescribeStackResource":
                name = parameters["LogicalResourceId"]
                physical_id = self.physical_ids.get(name) or TEMPLATE.resolve({"Ref": name})
                return {"StackResourceDetail": {"PhysicalResourceId": physical_id}}
            case "FilterLogEvents":
                parameters = {name: value for name, value in parameters.items() if name != "filterPattern"}
            case "ReceiveMessage":
                parameters = {**parameters, "WaitTimeSeconds": 0}  # moto has one server: nothing to wait for.
        return call(parameters)


@pytest.fixture
def stack(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> FakeStack:
    """A stack called `punctual`."""
    fake, make_call = FakeStack(), BaseClient._make_api_call

    def answer(client: BaseClient, operation: str, parameters: dict) -> dict:
        cloud.check(client.meta.service_model.operation_model(operation), parameters)
        return fake.answer(operation, parameters, lambda changed: make_call(client, operation, changed))

    monkeypatch.setattr(BaseClient, "_make_api_call", answer)
    return fake


# --- The IAM policy for operators, whose statements' ids name the commands that need them -----------------------------

POLICY = ROOT / "examples/operator-policy.json"
# Only emulators answer it. On AWS the command does without it, so the policy does not have it.
OF_NO_USE_ON_AWS = "states:ListExecutions"


def statements() -> list[dict[str, Any]]:
    """The statements of the policy."""
    return json.loads(POLICY.read_text())["Statement"]


def actions_for(command: str) -> set[str]:
    """The actions that the policy allows for a command."""
    found = [s["Action"] for s in statements() if s["Sid"] == "EveryCommand" or command.capitalize() in s["Sid"]]
    return {name for names in found for name in ([names] if isinstance(names, str) else names)}


# --- Parked events, the register, and executions ----------------------------------------------------------------------


class Tables:
    """The stack's tables, written by the shipped Ingest."""

    def __init__(self) -> None:
        self._dynamodb = boto3.client("dynamodb", REGION)

    def publish(self, message: dict[str, Any], number: int = 0, at: datetime = NOW) -> str:
        """Have Ingest take a message that was published then, with the MessageId of that number, and return that."""
        id = str(uuid.UUID(int=number << 96 | number))  # Numbers differ in the first eight digits.
        take(message, at, message_id=id)
        return id

    def park(self, due: datetime, id: str | None = None, number: int = 0, at: datetime = NOW, **fields: Any) -> str:
        """Publish an event that is due so late that it is parked. Returns its id."""
        message = {"date": due.isoformat(), "target": TARGET, "user": "team", "payload": f"order-{number}", **fields}
        message_id = self.publish(message | ({"id": id} if id else {}), number, at)
        return id or message_id

    def cancel(self, id: str, number: int = 99, at: datetime = NOW) -> str:
        """Publish a cancel. Returns its MessageId."""
        return self.publish({"cancel": id}, number, at)

    def retry(self, id: str, due: datetime, retry: int) -> None:
        """Park an event again, as Deliver does after a failed delivery."""
        [item] = [item for item in self.parked() if json.loads(item["input"]["S"])["id"] == id]
        revision = item["sort_key"]["S"].partition("#")[2]
        changed = {
            "sort_key": {"S": sort_key(due, revision)},
            "execution": {"S": f"{item['execution']['S']}-r{retry}"},
            "retry": {"N": str(retry)},
        }
        self._dynamodb.put_item(TableName="Parked", Item=item | changed)
        self._delete(item)

    def unpark(self) -> None:
        """Delete the only parked event, as Sweeper does when it starts its execution."""
        [item] = self.parked()
        self._delete(item)

    def _delete(self, item: dict[str, Any]) -> None:
        self._dynamodb.delete_item(TableName="Parked", Key={key: item[key] for key in ("lane", "sort_key")})

    def parked(self) -> list[dict[str, Any]]:
        """All items of the table Parked."""
        return self._dynamodb.scan(TableName="Parked")["Items"]


@pytest.fixture
def tables(stack: FakeStack) -> Tables:
    """The tables of the stack called `punctual`."""
    stack.refuse("ListExecutions", "StateMachineTypeNotSupported")
    return Tables()


class Log:
    """The executions' log and Ingest's, in the forms in which Express and Powertools write them."""

    DELIVER, INGEST = (TEMPLATE.resolve({"Ref": f"{name}Log"}) for name in ("Deliver", "Ingest"))

    def __init__(self, logs: Any):
        self._logs, self._numbers = logs, itertools.count()
        for group in (self.DELIVER, self.INGEST):
            logs.create_log_group(logGroupName=group)
            logs.create_log_stream(logGroupName=group, logStreamName="stream")

    def _put(self, group: str, at: datetime, entry: dict[str, Any] | str) -> None:
        message = entry if isinstance(entry, str) else json.dumps(entry)
        event = {"timestamp": int(at.timestamp() * 1000), "message": message}
        self._logs.put_log_events(logGroupName=group, logStreamName="stream", logEvents=[event])

    def write(self, name: str, *entries: tuple[datetime, str, dict[str, Any]]) -> None:
        """Write the entries of an execution: when, their type, their details."""
        arn = f"arn:aws:states:{REGION}:{ACCOUNT}:express:Deliver:{name}:{uuid.UUID(int=next(self._numbers))}"
        for at, type, details in entries:
            ms = str(int(at.timestamp() * 1000))
            self._put(self.DELIVER, at, {"type": type, "details": details, "event_timestamp": ms, "execution_arn": arn})

    def refuse(self, id: str, reason: str) -> None:
        """Write what Ingest does when it refuses a message."""
        now = datetime.now(UTC)
        self._put(self.INGEST, now, f"START RequestId: {id}")
        self._put(self.INGEST, now, {"message": "refused", "id": id, "reason": reason, "timestamp": now.isoformat()})


@pytest.fixture
def log(stack: FakeStack) -> Log:
    """The logs. moto does not know patterns over JSON, so it returns all of a log here."""
    return Log(boto3.client("logs", REGION))


def ago(seconds: float) -> datetime:
    """Some seconds before now, in milliseconds, as logs have it."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def started(id: str, seconds: float, **input: Any) -> tuple:
    """The entry of an execution's start so many seconds ago."""
    return ago(seconds), "ExecutionStarted", {"input": json.dumps({"id": id, **input})}


def ended(output: dict, seconds: float) -> tuple:
    """The entry of an execution's success so many seconds ago."""
    return ago(seconds), "ExecutionSucceeded", {"output": json.dumps(output)}


@pytest.fixture
def calls(stack: FakeStack) -> list[tuple[str, dict]]:
    """Every call of AWS from here on: operation and parameters."""
    stack.calls.clear()
    return stack.calls
