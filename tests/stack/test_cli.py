"""The command `punctual` against the deployed stack, by an operator who has only the policy in examples/."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

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
        users_own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._environment = (
            users_own
            | stack.environment
            | {
                "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
                "AWS_SESSION_TOKEN": session["SessionToken"],
            }
        )

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
    """The name of a topic of the account, from which the consumer gets everything."""
    return consumer.topic("cli").rpartition(":")[2]


def arrived(consumer: Consumer, payload: str) -> list[Arrival]:
    """The deliveries of a payload, after a while."""
    consumer.wait_until(lambda arrivals: any(a.message == payload for a in arrivals), seconds=40)
    return [arrival for arrival in consumer.arrivals if arrival.message == payload]


def has_been_parked(operator: Operator, id: str) -> bool:
    return id in [event["id"] for event in operator.json("list", "--limit", "100")]


def due_of(operator: Operator, id: str) -> datetime:
    """When a parked event is due; the longest ago if it is not parked."""
    dues = [datetime.fromisoformat(event["due"]) for event in operator.json("list") if event["id"] == id]
    return max(dues, default=datetime.min.replace(tzinfo=UTC))


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true: a message takes a moment from the topic to the table, more beside other tests."""
    give_up_at = time.monotonic() + INGEST_SECONDS
    while not (is_true := condition()) and time.monotonic() < give_up_at:
        pass  # The condition runs the command, which takes half a second.
    return is_true


def schedule(operator: Operator, target: str, delay: str, payload: str, *options: str) -> str:
    arguments = ("--target", target, "--in", delay, "--payload", payload, "--user", "test", *options)
    return operator.run("schedule", *arguments).strip()


def test_a_near_event_is_delivered_and_shown(operator: Operator, consumer: Consumer, target: str):
    """Executions can't be shown here: on AWS they are read from their log, which the emulator does not write."""
    id = schedule(operator, target, "3s", "near", "--id", f"near-{uuid.uuid4().hex[:8]}", "--attribute", "color=red")
    [arrival] = arrived(consumer, "near")
    assert (arrival.attributes["scheduler-id"], arrival.attributes["color"]) == (id, "red")
    shown = operator.json("show", id)
    assert (shown["registered"]["revision"] is not None, shown["parked"]) == (True, [])
    assert "permission denied" not in json.dumps(shown["missing"])


def test_a_far_event_is_listed_counted_shown_and_canceled(operator: Operator, target: str):
    """A named one: the item of an unnamed one stays in its lane until it is due, and is not delivered then."""
    id = schedule(operator, target, "2d", "far", "--id", f"far-{uuid.uuid4().hex[:8]}")
    assert eventually(lambda: has_been_parked(operator, id))
    [event] = [event for event in operator.json("list", "--limit", "100") if event["id"] == id]
    due = datetime.fromisoformat(event["due"])
    assert timedelta(days=1.9) < due - datetime.now(UTC) <= timedelta(days=2)
    assert operator.json("count", "--by", "day")["counts"][f"{due:%F}T00:00:00+00:00"] == 1
    assert [parked["event"]["payload"] for parked in operator.json("show", id)["parked"]] == ["far"]
    assert operator.run("reschedule", id, "--in", "3d").strip() == id
    assert eventually(lambda: due + timedelta(days=0.9) < due_of(operator, id))
    [canceled] = operator.json("cancel", id)
    assert canceled["id"] == id and canceled["found"] in ("parked", "canceled")  # Ingest may be as fast.
    assert eventually(lambda: not has_been_parked(operator, id))
    shown = operator.json("show", id)
    assert shown["verdict"] == "canceled" and "permission denied" not in json.dumps(shown["missing"])


def test_redrive_moves_dead_letters_and_ingest_processes_them(
    operator: Operator, consumer: Consumer, other: LocalStack, target: str
):
    """Two messages as SNS writes them to the queue."""
    sqs, queue = other.client("sqs"), other.outputs["InputDeadLettersUrl"]
    for payload in ("dead-1", "dead-2"):
        now = datetime.now(UTC)
        arn = f"{other.outputs['InputTopicArn'].rpartition(':')[0]}:{target}"
        message = {"date": now.isoformat(), "target": arn, "user": "test", "payload": payload}
        envelope = {
            "Type": "Notification",
            "MessageId": str(uuid.uuid4()),
            "TopicArn": other.outputs["InputTopicArn"],
            "Message": json.dumps(message),
            "Timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(envelope))
    assert len(operator.json("redrive")) == 2
    assert [len(arrived(consumer, payload)) for payload in ("dead-1", "dead-2")] == [1, 1]
    assert operator.json("redrive") == []


def test_resend_publishes_an_undelivered_event_under_its_id(
    operator: Operator, consumer: Consumer, other: LocalStack, target: str
):
    arn, id = f"{other.outputs['InputTopicArn'].rpartition(':')[0]}:{target}", f"resent-{uuid.uuid4().hex[:8]}"
    event = {"date": "2026-01-01T00:00:00Z", "target": arn, "user": "test", "payload": "resent"}
    report = json.dumps({"error": "not delivered: gone", "id": id, "event": event})
    other.client("sqs").send_message(QueueUrl=other.outputs["UndeliveredUrl"], MessageBody=report)
    assert operator.run("resend").startswith(f"published again: {id} (not delivered: gone)\n")
    [arrival] = arrived(consumer, "resent")
    assert arrival.attributes["scheduler-id"] == id


def existing(stack: LocalStack) -> tuple[set[str], set[str], set[str]]:
    """All topics, queues, and subscriptions."""
    sns, sqs = stack.client("sns"), stack.client("sqs")
    topics = (topic for page in sns.get_paginator("list_topics").paginate() for topic in page["Topics"])
    pages = sns.get_paginator("list_subscriptions").paginate()
    subscriptions = (subscription for page in pages for subscription in page["Subscriptions"])
    queues = (url for page in sqs.get_paginator("list_queues").paginate() for url in page.get("QueueUrls", []))
    return (
        {topic["TopicArn"] for topic in topics},
        set(queues),
        {subscription["SubscriptionArn"] for subscription in subscriptions},
    )


def test_check_passes_and_leaves_nothing_behind(operator: Operator, other: LocalStack):
    before = existing(other)
    answer = operator.json("check", *PATIENT)
    assert answer["passed"], answer
    assert existing(other) == before
