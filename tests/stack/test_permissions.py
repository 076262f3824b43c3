"""The roles hold no permission without a use: take one action away, and something breaks; give it back, and it works.

Of the emulator's callers only functions act in their role. What it cannot tell is listed in `UNTOLD`, with the reason.
"""

import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from scheduler.parking import lanes

from tests.stack.conftest import Role
from tools.local import LocalStack
from tools.local.consumers import Consumer

ROLES = ("IngestRole", "SweeperRole", "HoldRole", "SweepRole", "DeliverRole", "ClockRole")
FAR = "2100-01-01T00:00:00Z"


class Stage:
    """The stack whose permissions are taken, and the scenes played on it. Each returns whether it went well."""

    def __init__(self, stack: LocalStack, consumer: Consumer) -> None:
        self.roles = {role: Role(stack, role) for role in ROLES}
        self._outputs = stack.outputs
        self._lambda, self._sns, self._sqs = (stack.client(service) for service in ("lambda", "sns", "sqs"))
        self._dynamodb = stack.client("dynamodb")
        cloudformation = stack.client("cloudformation")
        resources = cloudformation.describe_stack_resources(StackName=stack.stack_name)["StackResources"]
        self._physical = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}
        self._consumer = consumer
        self._target = consumer.topic("permissions")
        self._lanes = itertools.cycle(lanes())

    # Ingest, called as Lambda calls it.

    def starts_a_near_event(self) -> bool:
        return self._ingest(self._event())

    def parks_a_far_event(self) -> bool:
        return self._ingest(self._event(date=FAR))

    def registers_a_name(self) -> bool:
        return self._ingest(self._event(id=str(uuid.uuid4())))

    def takes_a_cancelled_event_out_of_its_lane(self) -> bool:
        id = str(uuid.uuid4())
        return self._ingest(self._event(date=FAR, id=id)) and self._ingest({"cancel": id})

    def reports_a_refusal(self) -> bool:
        """On the failure topic, and not in the queue for what could not be reported."""
        before = self._undelivered()
        return self._ingest({}) and self._undelivered() == before

    def keeps_a_refusal_it_cannot_report(self) -> bool:
        with self.roles["IngestRole"].without("ReportFailures"):
            return self._ingest({})

    def tries_a_failed_message_again_soon(self) -> bool:
        payload = str(uuid.uuid4())
        message = json.dumps(self._event(payload=payload))
        with self.roles["IngestRole"].without("StartNearEvents"):
            self._sns.publish(TopicArn=self._outputs["InputTopicArn"], Message=message)
            if self._arrives(payload, seconds=2):
                return False
        return self._arrives(payload, seconds=8)

    # The Sweeper, likewise. Each time in another lane: what is broken keeps a lease.

    def sweeps_a_due_event(self) -> bool:
        """It is started, its item and the lease of its lane are gone."""
        lane, key, answer = self._sweep()
        left = [self._item(lane, key), self._item(f"lease-of-{lane}", "lease")]
        return "FunctionError" not in answer and not any(left)

    # All of it.

    def delivers(self) -> bool:
        """On a whole second, with a fraction, and from its lane."""
        now = datetime.now(UTC).replace(microsecond=0)
        payloads = [str(uuid.uuid4()) for _ in range(3)]
        dates = [now + timedelta(seconds=seconds) for seconds in (4, 4.25, 12)]
        for payload, date in zip(payloads, dates, strict=True):
            message = json.dumps(self._event(payload=payload, date=date.isoformat()))
            self._sns.publish(TopicArn=self._outputs["InputTopicArn"], Message=message)
        return all(self._arrives(payload, seconds=30) for payload in payloads)

    def _event(self, **fields: str) -> dict:
        return {"date": "2020-01-01", "target": self._target, "user": "test", "payload": "permissions"} | fields

    def _arrives(self, payload: str, seconds: float) -> bool:
        return self._consumer.wait_until(lambda arrivals: any(a.message == payload for a in arrivals), seconds)

    def _invoke(self, function: str, payload: dict) -> dict:
        answer = self._lambda.invoke(FunctionName=self._physical[function], Payload=json.dumps(payload))
        return answer | {"result": json.loads(answer["Payload"].read())}

    def _ingest(self, message: dict) -> bool:
        now = datetime.now(UTC)
        envelope = {"Message": json.dumps(message), "MessageId": str(uuid.uuid4()), "Timestamp": now.isoformat()}
        record = {
            "messageId": str(uuid.uuid4()),
            "receiptHandle": "none",
            "body": json.dumps(envelope),
            "attributes": {"SentTimestamp": str(int(now.timestamp() * 1000)), "ApproximateReceiveCount": "1"},
        }
        return self._invoke("Ingest", {"Records": [record]})["result"] == {"batchItemFailures": []}

    def _sweep(self) -> tuple[str, str, dict]:
        """Put an event that is due into a lane, and sweep. Returns its key, and the function's answer."""
        lane, revision = next(self._lanes), str(uuid.uuid4())
        key = f"2020-01-01T00:00:00.000000#{revision}"
        publish = {"TopicArn": self._target, "Message": "swept"}
        times = dict.fromkeys(("cutoff_at", "due_rounded_up_at"), "2020-01-01T00:00:00Z")
        input = {"id": revision, "revision": revision, "publish": publish, "event": {}} | times
        item = {"lane": lane, "due": key, "execution": revision, "input": json.dumps(input)}
        self._dynamodb.put_item(
            TableName=self._outputs["ParkedTableName"], Item={name: {"S": value} for name, value in item.items()}
        )
        return lane, key, self._invoke("Sweeper", {})

    def _item(self, lane: str, due: str) -> dict | None:
        key = {"lane": {"S": lane}, "due": {"S": due}}
        return self._dynamodb.get_item(TableName=self._outputs["ParkedTableName"], Key=key).get("Item")

    def _undelivered(self) -> int:
        answer = self._sqs.get_queue_attributes(
            QueueUrl=self._outputs["UndeliveredUrl"], AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])


# Who needs it, for what: role, statement, action -> the scene that breaks without it.
USES: dict[tuple[str, str, str], Callable[[Stage], bool]] = {
    ("IngestRole", "ReceiveMessages", "sqs:ChangeMessageVisibility"): Stage.tries_a_failed_message_again_soon,
    ("IngestRole", "StartNearEvents", "states:StartExecution"): Stage.starts_a_near_event,
    ("IngestRole", "ParkFarEvents", "dynamodb:PutItem"): Stage.parks_a_far_event,
    ("IngestRole", "ParkFarEvents", "dynamodb:DeleteItem"): Stage.takes_a_cancelled_event_out_of_its_lane,
    ("IngestRole", "WriteRegister", "dynamodb:UpdateItem"): Stage.registers_a_name,
    ("IngestRole", "ReportFailures", "sns:Publish"): Stage.reports_a_refusal,
    ("IngestRole", "SendToUndelivered", "sqs:SendMessage"): Stage.keeps_a_refusal_it_cannot_report,
    ("SweeperRole", "SweepLanes", "dynamodb:Query"): Stage.sweeps_a_due_event,
    ("SweeperRole", "SweepLanes", "dynamodb:UpdateItem"): Stage.sweeps_a_due_event,
    ("SweeperRole", "SweepLanes", "dynamodb:DeleteItem"): Stage.sweeps_a_due_event,
    ("SweeperRole", "SweepLanes", "dynamodb:BatchWriteItem"): Stage.sweeps_a_due_event,
    ("SweeperRole", "StartDueEvents", "states:StartExecution"): Stage.sweeps_a_due_event,
}

POLLER = "Lambda's poller needs it; the emulator's takes messages without asking the function's role"
NO_XRAY = "the emulator runs functions without an X-Ray daemon, so nothing is sent"
OWN_LOGS = "the emulator writes the logs of functions and executions itself"
NO_ROLE = "the emulator makes the calls of a workflow or a schedule without asking its role"
NO_REFUSAL = "the emulator refuses no execution, so that the Sweeper has nothing to report"
BURST = "needed in bursts of hundreds of events, and then a help: without it, the next tick does the work"
# Role, statement -> why the emulator can't tell. Of a statement that is listed in USES, the other actions.
UNTOLD = {
    ("IngestRole", "ReceiveMessages"): POLLER,
    **{(role, "Trace"): NO_XRAY for role in ("IngestRole", "SweeperRole", "HoldRole")},
    **{(role, "Log"): OWN_LOGS for role in ("IngestRole", "SweeperRole", "HoldRole")},
    **{(role, "WriteExecutionLogs"): OWN_LOGS for role in ("SweepRole", "DeliverRole")},
    **{(role, "TraceExecutions"): NO_XRAY for role in ("SweepRole", "DeliverRole")},
    ("SweeperRole", "ReportFailures"): NO_REFUSAL,
    ("SweeperRole", "SendToUndelivered"): NO_REFUSAL,
    ("SweeperRole", "InvokeHelpers"): BURST,
    ("ClockRole", "Wind"): NO_ROLE,
    ("SweepRole", "SweepAtEachTick"): NO_ROLE,
    ("DeliverRole", "PublishPayloadsAndReports"): NO_ROLE,
    ("DeliverRole", "DenyInputTopic"): "it forbids; and Ingest refuses such a target before",
    ("DeliverRole", "LookUpRevision"): NO_ROLE,
    ("DeliverRole", "HoldFraction"): NO_ROLE,
    ("DeliverRole", "SendToUndelivered"): NO_ROLE,
}


@pytest.fixture(scope="module")
def stage(other: LocalStack) -> Iterator[Stage]:
    with Consumer(other) as consumer:
        yield Stage(other, consumer)


@pytest.mark.parametrize("use", USES, ids=" ".join)
def test_without_it_something_breaks(stage: Stage, use: tuple[str, str, str]):
    role, sid, action = use
    goes_well = USES[use]
    assert goes_well(stage)
    with stage.roles[role].without(sid, action):
        assert not goes_well(stage)
    assert goes_well(stage)


def test_every_permission_is_accounted_for(stage: Stage):
    for name, role in stage.roles.items():
        for statement in (statement for policy in role.policies.values() for statement in policy["Statement"]):
            actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
            unused = [action for action in actions if (name, statement["Sid"], action) not in USES]
            assert not unused or (name, statement["Sid"]) in UNTOLD, f"{name} {statement['Sid']}: {unused}"


def test_the_emulator_cannot_tell_the_rest(stage: Stage):
    """Should it learn to, this fails, and the statement moves to USES."""
    with _without_all(stage, [use for use in UNTOLD if use != ("IngestRole", "ReceiveMessages")]):
        assert stage.delivers()


@contextmanager
def _without_all(stage: Stage, statements: list[tuple[str, str]]) -> Iterator[None]:
    if not statements:
        yield
        return
    (role, sid), *others = statements
    with stage.roles[role].without(sid), _without_all(stage, others):
        yield
