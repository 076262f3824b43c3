"""Every permission of the roles is needed: without it an operation fails, and with it the operation works again.

On the emulator only functions act in their roles. `NOT_TESTABLE` lists the other permissions with the reason.
"""

import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from punctual_core.lanes import lanes

from tests.stack.conftest import Role
from tools.local import Consumer, LocalStack

PROBE_ROLES = ("ProbeScheduleRole", "ProbeFunctionRole")
ROLES = ("IngestRole", "SweeperRole", "HoldRole", "SweepRole", "DeliverRole", "ClockRole", *PROBE_ROLES)
BEYOND_HORIZON = "2100-01-01T00:00:00Z"


class Operations:
    """What the stack does with its permissions. Each public method does one thing and returns whether it worked."""

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

    # Ingest, invoked as Lambda's poller invokes it.

    def starts_an_event_within_the_horizon(self) -> bool:
        return self._ingest(self._event())

    def parks_an_event_beyond_the_horizon(self) -> bool:
        return self._ingest(self._event(date=BEYOND_HORIZON))

    def registers_an_id(self) -> bool:
        return self._ingest(self._event(id=str(uuid.uuid4())))

    def deletes_a_canceled_event_from_its_lane(self) -> bool:
        id = str(uuid.uuid4())
        return self._ingest(self._event(date=BEYOND_HORIZON, id=id)) and self._ingest({"cancel": id})

    def reports_a_refusal(self) -> bool:
        """On the failure topic, and not in the Undelivered queue."""
        before = self._undelivered()
        return self._ingest({}) and self._undelivered() == before

    def sends_an_unreportable_refusal_to_undelivered(self) -> bool:
        with self.roles["IngestRole"].without("ReportFailures"):
            return self._ingest({})

    def retries_a_failed_message_soon(self) -> bool:
        payload = str(uuid.uuid4())
        message = json.dumps(self._event(payload=payload))
        with self.roles["IngestRole"].without("StartNearEvents"):
            self._sns.publish(TopicArn=self._outputs["InputTopicArn"], Message=message)
            if self._arrives(payload, seconds=2):
                return False
        return self._arrives(payload, seconds=8)

    # The Sweeper. Each call uses another lane, because a failed sweep leaves its event in its lane.

    def sweeps_a_due_event(self) -> bool:
        """The event is started, and its item and the lease of its lane are deleted."""
        lane, key, answer = self._sweep()
        lease = {"lane": {"S": f"lease-of-{lane}"}, "sort_key": {"S": "lease"}}
        item, held = self._item(lane, key), self._delete(lease)
        return "FunctionError" not in answer and not item and not held

    # The whole path.

    def delivers(self) -> bool:
        """Due on a whole second, with a fraction, and after it was parked."""
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
        """Put a due event into a lane, and sweep. Returns the lane, the sort key and the function's answer."""
        lane, revision = next(self._lanes), str(uuid.uuid4())
        key = f"2020-01-01T00:00:00.000000#{revision}"
        publish = {"TopicArn": self._target, "Message": "swept"}
        times = dict.fromkeys(("cutoff_at", "due_rounded_up_at"), "2020-01-01T00:00:00Z")
        input = {
            "id": revision,
            "revision": revision,
            "lane": lane,
            "due_ms": 0,
            "publish": publish,
            "event": {},
        } | times
        item = {"lane": lane, "sort_key": key, "execution": revision, "input": json.dumps(input)}
        self._dynamodb.put_item(
            TableName=self._outputs["ParkedTableName"], Item={name: {"S": value} for name, value in item.items()}
        )
        return lane, key, self._invoke("Sweeper", {})

    def _item(self, lane: str, sort_key: str) -> dict | None:
        key = {"lane": {"S": lane}, "sort_key": {"S": sort_key}}
        return self._dynamodb.get_item(TableName=self._outputs["ParkedTableName"], Key=key).get("Item")

    def _delete(self, key: dict) -> dict | None:
        """Delete an item, and return it: a lease that is left would keep later events in its lane for 35 s."""
        table = self._outputs["ParkedTableName"]
        return self._dynamodb.delete_item(TableName=table, Key=key, ReturnValues="ALL_OLD").get("Attributes")

    def _undelivered(self) -> int:
        answer = self._sqs.get_queue_attributes(
            QueueUrl=self._outputs["UndeliveredUrl"], AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])


# Role, statement id, action -> the operation that fails without it.
NEEDED_FOR: dict[tuple[str, str, str], Callable[[Operations], bool]] = {
    ("IngestRole", "ReceiveMessages", "sqs:ChangeMessageVisibility"): Operations.retries_a_failed_message_soon,
    ("IngestRole", "StartNearEvents", "states:StartExecution"): Operations.starts_an_event_within_the_horizon,
    ("IngestRole", "ParkFarEvents", "dynamodb:PutItem"): Operations.parks_an_event_beyond_the_horizon,
    ("IngestRole", "ParkFarEvents", "dynamodb:DeleteItem"): Operations.deletes_a_canceled_event_from_its_lane,
    ("IngestRole", "WriteRegister", "dynamodb:UpdateItem"): Operations.registers_an_id,
    ("IngestRole", "ReportFailures", "sns:Publish"): Operations.reports_a_refusal,
    ("IngestRole", "SendToUndelivered", "sqs:SendMessage"): Operations.sends_an_unreportable_refusal_to_undelivered,
    ("SweeperRole", "SweepLanes", "dynamodb:Query"): Operations.sweeps_a_due_event,
    ("SweeperRole", "SweepLanes", "dynamodb:UpdateItem"): Operations.sweeps_a_due_event,
    ("SweeperRole", "SweepLanes", "dynamodb:DeleteItem"): Operations.sweeps_a_due_event,
    ("SweeperRole", "SweepLanes", "dynamodb:BatchWriteItem"): Operations.sweeps_a_due_event,
    ("SweeperRole", "StartDueEvents", "states:StartExecution"): Operations.sweeps_a_due_event,
}

POLLER = "Lambda's poller needs it; the emulator's poller does not check the function's role"
NO_XRAY = "the emulator runs functions without an X-Ray daemon, so nothing is traced"
OWN_LOGS = "the emulator writes the logs of functions and executions itself"
NO_ROLE = "the emulator does not check the role of a workflow or a schedule"
NO_REFUSAL = "the emulator refuses no execution, so the Sweeper has nothing to report"
BURST = "only bursts of hundreds of events need it, and without it the next sweep does the work"
# Role, statement id -> why the emulator can't test it. For a statement in NEEDED_FOR this means its other actions.
NOT_TESTABLE = {
    ("IngestRole", "ReceiveMessages"): POLLER,
    **{(role, "Trace"): NO_XRAY for role in ("IngestRole", "SweeperRole", "HoldRole", "ProbeFunctionRole")},
    **{(role, "Log"): OWN_LOGS for role in ("IngestRole", "SweeperRole", "HoldRole", "ProbeFunctionRole")},
    **{(role, "WriteExecutionLogs"): OWN_LOGS for role in ("SweepRole", "DeliverRole")},
    **{(role, "TraceExecutions"): NO_XRAY for role in ("SweepRole", "DeliverRole")},
    ("SweeperRole", "ReportFailures"): NO_REFUSAL,
    ("SweeperRole", "SendToUndelivered"): NO_REFUSAL,
    ("SweeperRole", "InvokeItself"): BURST,
    ("ClockRole", "StartSweep"): NO_ROLE,
    ("SweepRole", "SweepAtEveryTick"): NO_ROLE,
    ("SweepRole", "FindSuccessor"): NO_ROLE,
    ("DeliverRole", "PublishPayloadsAndReports"): NO_ROLE,
    **{(role, "DenyOwnTopics"): "it denies" for role in ("IngestRole", "SweeperRole", "DeliverRole")},
    ("DeliverRole", "LookUpRevision"): NO_ROLE,
    ("DeliverRole", "ParkAgain"): NO_ROLE,
    ("DeliverRole", "HoldFraction"): NO_ROLE,
    ("DeliverRole", "SendToUndelivered"): NO_ROLE,
    ("DeliverRole", "DeliverProbe"): NO_ROLE,
    ("ProbeScheduleRole", "PublishProbe"): NO_ROLE,
}


@pytest.fixture(scope="module")
def operations(other: LocalStack) -> Iterator[Operations]:
    with Consumer(other) as consumer:
        yield Operations(other, consumer)


@pytest.mark.parametrize("permission", NEEDED_FOR, ids=" ".join)
def test_an_operation_fails_only_without_its_permission(operations: Operations, permission: tuple[str, str, str]):
    role, sid, action = permission
    works = NEEDED_FOR[permission]
    assert works(operations)
    with operations.roles[role].without(sid, action):
        assert not works(operations)
    assert works(operations)


def test_every_permission_is_listed(operations: Operations):
    for name, role in operations.roles.items():
        for statement in (statement for policy in role.policies.values() for statement in policy["Statement"]):
            actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
            unused = [action for action in actions if (name, statement["Sid"], action) not in NEEDED_FOR]
            assert not unused or (name, statement["Sid"]) in NOT_TESTABLE, f"{name} {statement['Sid']}: {unused}"


def test_the_emulator_delivers_without_the_permissions_that_it_cannot_test(operations: Operations):
    """If this fails, the emulator has learned to check one of them: move it to NEEDED_FOR."""
    with without_all(operations, [one for one in NOT_TESTABLE if one != ("IngestRole", "ReceiveMessages")]):
        assert operations.delivers()


@contextmanager
def without_all(operations: Operations, statements: list[tuple[str, str]]) -> Iterator[None]:
    with ExitStack() as stack:
        for role, sid in statements:
            stack.enter_context(operations.roles[role].without(sid))
        yield
