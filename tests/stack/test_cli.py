"""The command `punctual` against the deployed stack, by an operator who has only the policy in examples/."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import record
from tests.stack.conftest import event, users_environment
from tools.local import ROOT, Arrival, Consumer, LocalStack

POLICY = ROOT / "examples/operator-policy.json"
# This machine is busy with other tests. The demo judges lateness.
PATIENT = ("--max-lateness", "15s")
# Ingest retries a message that failed after 2, 4, and 8 seconds.
INGEST_SECONDS = 30


class Operator:
    """A role with the policy in examples/, filled in as docs/operating.md says, and the command run in it."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack, self._iam, self._name = stack, stack.client("iam"), f"operator-{uuid.uuid4().hex[:8]}"
        account = stack.outputs["InputTopicArn"].split(":")[4]
        trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "sts:AssumeRole"}
        trusted = {"Version": "2012-10-17", "Statement": [trust]}
        role = self._iam.create_role(RoleName=self._name, AssumeRolePolicyDocument=json.dumps(trusted))["Role"]["Arn"]
        text = POLICY.read_text()
        text = text.replace("STACK-IngestLog-*", stack.physical_id("IngestLog"))  # Its name here.
        values = {"PARTITION": "aws", "REGION": stack.region, "ACCOUNT": account, "STACK": stack.stack_name}
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        self._iam.put_role_policy(RoleName=self._name, PolicyName="operator", PolicyDocument=text)
        session = stack.client("sts").assume_role(RoleArn=role, RoleSessionName="operator")["Credentials"]
        self._environment = users_environment(stack) | {
            "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
            "AWS_SESSION_TOKEN": session["SessionToken"],
        }

    def run(self, *arguments: str) -> str:
        """What the command printed."""
        command = [sys.executable, "-m", "punctual", "--stack", self._stack.stack_name, *arguments]
        result = subprocess.run(command, env=self._environment, cwd=ROOT, capture_output=True, text=True, timeout=180)
        assert result.returncode == 0, (result.stdout, result.stderr)
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run("--json", *arguments))


@pytest.fixture(scope="module")
def operator(other: LocalStack) -> Operator:
    # Not the default stack: test_stack.py expects only its own ids in that one's register.
    return Operator(other)


@pytest.fixture(scope="module")
def consumer(other: LocalStack) -> Iterator[Consumer]:
    with Consumer(other) as consumer:
        yield consumer


@pytest.fixture(scope="module")
def target(consumer: Consumer) -> str:
    """A topic of the account, from which the consumer gets everything."""
    return consumer.topic("cli")


def arrived(consumer: Consumer, payload: str) -> list[Arrival]:
    """The deliveries of a payload, after a while."""
    consumer.wait_until(lambda arrivals: any(a.message == payload for a in arrivals), seconds=40)
    return [arrival for arrival in consumer.arrivals if arrival.message == payload]


def due_of(operator: Operator, id: str) -> datetime | None:
    """When a parked event is due; None if it is not parked."""
    parked = operator.json("list", "--limit", "100")
    return max((datetime.fromisoformat(event["due"]) for event in parked if event["id"] == id), default=None)


def eventually(condition: Callable[[], object]) -> bool:
    """Whether a condition comes true: a message takes a moment from the topic to the table, more beside other tests."""
    give_up_at = time.monotonic() + INGEST_SECONDS
    while not (is_true := bool(condition())) and time.monotonic() < give_up_at:
        pass  # The condition runs the command, which takes half a second.
    return is_true


def schedule(operator: Operator, target: str, delay: str, id: str, *options: str) -> None:
    """Schedule an event whose payload is its id, for a target by its name."""
    arguments = ("--target", target.rpartition(":")[2], "--in", delay, "--payload", id, "--id", id, "--user", "test")
    assert operator.run("schedule", *arguments, *options).strip() == id


def test_a_near_event_is_delivered_and_shown(operator: Operator, consumer: Consumer, target: str):
    """Executions can't be shown here: on AWS they are read from their log, which the emulator does not write."""
    schedule(operator, target, "3s", "near", "--attribute", "color=red")
    [arrival] = arrived(consumer, "near")
    assert (arrival.attributes["scheduler-id"], arrival.attributes["color"]) == ("near", "red")
    shown = operator.json("show", "near")
    assert (shown["registered"]["revision"] is not None, shown["parked"]) == (True, [])
    assert "permission denied" not in json.dumps(shown["missing"])


def test_a_far_event_is_listed_counted_shown_and_canceled(operator: Operator, target: str):
    """A named one: the item of an unnamed one stays in its lane until it is due, and is not delivered then."""
    schedule(operator, target, "2d", "far")
    assert eventually(lambda: due_of(operator, "far"))
    due = due_of(operator, "far")
    assert timedelta(days=1.9) < due - datetime.now(UTC) <= timedelta(days=2)
    assert operator.json("count", "--by", "day")["counts"][f"{due:%F}T00:00:00+00:00"] == 1
    assert [parked["event"]["payload"] for parked in operator.json("show", "far")["parked"]] == ["far"]
    assert operator.run("reschedule", "far", "--in", "3d").strip() == "far"
    assert eventually(lambda: due + timedelta(days=0.9) < (due_of(operator, "far") or due))
    [canceled] = operator.json("cancel", "far")
    assert canceled["id"] == "far" and canceled["found"] in ("parked", "canceled")  # Ingest may be as fast.
    assert eventually(lambda: not due_of(operator, "far"))
    shown = operator.json("show", "far")
    assert shown["verdict"] == "canceled" and "permission denied" not in json.dumps(shown["missing"])


def test_redrive_moves_dead_letters_and_ingest_processes_them(
    operator: Operator, consumer: Consumer, other: LocalStack, target: str
):
    """Two messages as SNS writes them to the queue."""
    for payload in ("dead-1", "dead-2"):
        now = datetime.now(UTC)
        envelope = json.loads(record(event(target, payload, now), now)["body"])
        body = json.dumps(envelope | {"TopicArn": other.outputs["InputTopicArn"]})
        other.client("sqs").send_message(QueueUrl=other.outputs["InputDeadLettersUrl"], MessageBody=body)
    assert len(operator.json("redrive")) == 2
    assert [len(arrived(consumer, payload)) for payload in ("dead-1", "dead-2")] == [1, 1]
    assert operator.json("redrive") == []


def test_resend_publishes_an_undelivered_event_under_its_id(
    operator: Operator, consumer: Consumer, other: LocalStack, target: str
):
    undelivered = json.loads(event(target, "resent", datetime(2026, 1, 1, tzinfo=UTC)))
    report = json.dumps({"error": "not delivered: gone", "id": "resent-1", "event": undelivered})
    other.client("sqs").send_message(QueueUrl=other.outputs["UndeliveredUrl"], MessageBody=report)
    assert operator.run("resend").startswith("published again: resent-1 (not delivered: gone)\n")
    [arrival] = arrived(consumer, "resent")
    assert arrival.attributes["scheduler-id"] == "resent-1"


def test_check_passes_and_may_remove_what_it_created(operator: Operator):
    """It would fail if it could not; tests/command says that it removes everything."""
    answer = operator.json("check", *PATIENT)
    assert answer["passed"], answer
