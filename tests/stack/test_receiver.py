"""The example receiver works in an account of its own, and only Punctual's roles may publish to its topics."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.stack.conftest import OTHER_ACCOUNT, event, in_seconds, publish
from tests.stack.logs import wait_for_entry
from tools.local import ARCHITECTURE, ROOT, LocalStack

TEMPLATE = ROOT / "examples/receiver/template.yaml"
DEPLOY_SECONDS = 60


class Receiver:
    """The receiver stack in the other account. CloudFormation deploys it without sam: its code is in the template."""

    def __init__(self, punctual: LocalStack) -> None:
        self._punctual = punctual
        outputs = punctual.outputs
        # On the emulator a workflow acts in the role of its caller, and Ingest starts an event that is due soon.
        # So Ingest's role takes the place of Deliver's here.
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
        """A client in the receiver's account. To the emulator an access key of 12 digits is an account."""
        return boto3.client(
            service,
            endpoint_url=self._punctual.endpoint,
            region_name=self._punctual.region,
            aws_access_key_id=OTHER_ACCOUNT,
            aws_secret_access_key="test",
            verify=self._punctual.environment["AWS_CA_BUNDLE"],
        )

    def wait_for(self, is_wanted: Callable[[dict], bool]) -> dict | None:
        """The first message in the function's log that is wanted; None if it does not arrive."""
        entries = wait_for_entry(self.client("logs"), f"/aws/lambda/{self.outputs['ReceiverName']}", is_wanted)
        return next(filter(is_wanted, entries), None)


@pytest.fixture(scope="module")
def receiver(other: LocalStack) -> Receiver:
    return Receiver(other)


def test_an_event_is_delivered_to_the_other_account(other: LocalStack, receiver: Receiver):
    topic = receiver.outputs["OutputTopicArn"]
    assert topic.split(":")[4] == OTHER_ACCOUNT
    publish(other, event(topic, "across accounts", in_seconds(2)))
    arrived = receiver.wait_for(lambda line: line["message"] == "across accounts")
    assert arrived and arrived["topic"] == topic


def test_a_refusal_is_reported_to_the_other_account(other: LocalStack, receiver: Receiver):
    topic = receiver.outputs["FailureTopicArn"]
    publish(other, event(receiver.outputs["OutputTopicArn"], "", in_seconds(2), failure_topic=topic))
    arrived = receiver.wait_for(lambda line: line["topic"] == topic)
    assert arrived and json.loads(arrived["message"])["error"] == "payload must not be empty"


@pytest.mark.parametrize("topic", ["OutputTopicArn", "FailureTopicArn"])
def test_nobody_else_in_punctuals_account_may_publish(other: LocalStack, receiver: Receiver, topic: str):
    with pytest.raises(ClientError, match="not authorized"):
        other.client("sns").publish(TopicArn=receiver.outputs[topic], Message="not from Punctual")
