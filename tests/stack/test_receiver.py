"""The example of a receiver works as its template says: in an account of its own, open to this scheduler alone."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.stack.conftest import OTHER_ACCOUNT
from tools.local import ARCHITECTURE, ROOT, LocalStack

TEMPLATE = ROOT / "examples/receiver/template.yaml"
DEPLOY_SECONDS, ARRIVE_SECONDS = 60, 30


class Receiver:
    """The receiver stack in the other account, deployed as CloudFormation takes it: its code is in the template."""

    def __init__(self, scheduler: LocalStack) -> None:
        self._scheduler = scheduler
        outputs = scheduler.outputs
        # The emulator makes a workflow's calls as whoever started the workflow: an event that is due soon is published
        # as Ingest. Where the template says Deliver, Ingest has to stand in for it here.
        roles = {
            "DeliverRoleArn": outputs["IngestRoleArn"],
            "IngestRoleArn": outputs["IngestRoleArn"],
            "SweeperRoleArn": outputs["SweeperRoleArn"],
        }
        cloudformation = self.client("cloudformation")
        cloudformation.create_stack(
            StackName="receiver",
            TemplateBody=TEMPLATE.read_text().replace("[arm64]", f"[{ARCHITECTURE}]"),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in roles.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName="receiver", WaiterConfig={"Delay": 1, "MaxAttempts": DEPLOY_SECONDS}
        )
        [stack] = cloudformation.describe_stacks(StackName="receiver")["Stacks"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def client(self, service: str) -> Any:
        """A client in the receiver's account: the emulator takes an access key of 12 digits for an account."""
        return boto3.client(
            service,
            endpoint_url=self._scheduler.endpoint,
            region_name=self._scheduler.region,
            aws_access_key_id=OTHER_ACCOUNT,
            aws_secret_access_key="test",
            verify=self._scheduler.environment["AWS_CA_BUNDLE"],
        )

    def logged(self, wanted: Callable[[dict], bool]) -> dict | None:
        """The first line of the function's log that is wanted, when it is there."""
        logs, group = self.client("logs"), f"/aws/lambda/{self.outputs['ReceiverName']}"
        give_up_at = time.monotonic() + ARRIVE_SECONDS
        while time.monotonic() < give_up_at:
            try:
                lines = [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]]
            except ClientError:  # Nothing has arrived yet.
                lines = []
            for line in lines:
                if line.startswith("{") and wanted(found := json.loads(line)):
                    return found
            time.sleep(0.5)
        return None


@pytest.fixture(scope="module")
def receiver(other: LocalStack) -> Iterator[Receiver]:
    yield Receiver(other)


def publish(scheduler: LocalStack, **message: str) -> None:
    message = {"user": "test", "date": (datetime.now(UTC) + timedelta(seconds=2)).isoformat()} | message
    scheduler.client("sns").publish(TopicArn=scheduler.outputs["InputTopicArn"], Message=json.dumps(message))


def test_an_event_arrives_in_the_other_account(other: LocalStack, receiver: Receiver):
    topic = receiver.outputs["OutputTopicArn"]
    assert topic.split(":")[4] == OTHER_ACCOUNT
    publish(other, target=topic, payload="across accounts")
    arrived = receiver.logged(lambda line: line["message"] == "across accounts")
    assert arrived and arrived["topic"] == topic


def test_a_refusal_arrives_on_its_failure_topic(other: LocalStack, receiver: Receiver):
    topic = receiver.outputs["FailureTopicArn"]
    publish(other, target=receiver.outputs["OutputTopicArn"], failure_topic=topic)
    arrived = receiver.logged(lambda line: line["topic"] == topic)
    assert arrived and json.loads(arrived["message"])["error"] == "payload is required"


@pytest.mark.parametrize("topic", ["OutputTopicArn", "FailureTopicArn"])
def test_nobody_else_of_the_schedulers_account_may_publish(other: LocalStack, receiver: Receiver, topic: str):
    with pytest.raises(ClientError, match="not authorized"):
        other.client("sns").publish(TopicArn=receiver.outputs[topic], Message="by a stranger")
