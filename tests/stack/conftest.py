"""One emulator with IAM enforced and two stacks on it, deployed by the shipped `sam build` and `sam deploy`.

The first stack runs the scenarios in the background while the other tests use the second one.
"""

import copy
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.stack.scenarios import MORE_SCENARIOS
from tools.local import ROOT, Consumer, LocalStack
from tools.local.scenarios import SCENARIOS, LocalRun, wake

OTHER_ACCOUNT = "222222222222"
# Everything runs at once and cold here, beside other tests. The demo and the benchmark judge lateness.
MAX_LATENESS = timedelta(seconds=15)


def users_environment(stack: LocalStack) -> dict[str, str]:
    """The environment in which a user runs a program against a stack, as examples/README.md tells them to export it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | stack.environment


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def event(target: str, payload: str, due: datetime, **fields: str) -> str:
    """A message that is an event."""
    return json.dumps({"date": due.isoformat(), "target": target, "user": "test", "payload": payload, **fields})


def publish(stack: LocalStack, message: str) -> None:
    """Publish a message to a stack."""
    stack.client("sns").publish(TopicArn=stack.outputs["InputTopicArn"], Message=message)


@pytest.fixture(scope="package")
def stack() -> Iterator[LocalStack]:
    """The stack with its default parameters."""
    if not all((ROOT / ".venv" / name).exists() for name in ("emulator/bin/python", "sam/bin/sam")):
        pytest.fail("These tests need the emulator and sam: run `make setup`", pytrace=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Stop the emulator when the tests are terminated.
    with LocalStack(auth=True) as stack:
        stack.build()
        stack.deploy()
        yield stack


@pytest.fixture(scope="package")
def scenarios(stack: LocalStack) -> Iterator[Future[LocalRun]]:
    """A run of the demo's scenarios and more, all published at once; a thread watches it until it has ended."""
    with Consumer(stack) as consumer, ThreadPoolExecutor(1) as thread:
        wake(stack, consumer)
        run = LocalRun(stack, consumer, SCENARIOS + MORE_SCENARIOS, MAX_LATENESS)
        run.publish()

        def watch() -> LocalRun:
            list(run.watch())
            return run

        yield thread.submit(watch)


@pytest.fixture(scope="package")
def other(stack: LocalStack, scenarios: Future[LocalRun]) -> LocalStack:
    """A second stack, with targets in two accounts and the probe, which test_stack_probe.py finds at work."""
    account = stack.outputs["InputTopicArn"].split(":")[4]
    topics = ",".join(f"arn:aws:sns:{stack.region}:{account}:*" for account in (account, OTHER_ACCOUNT))
    stack.deploy({"TargetTopicArns": topics, "Probe": "true"}, stack_name="other")
    other = copy.copy(stack)
    other.stack_name = "other"
    with Consumer(other) as consumer:
        wake(other, consumer)
    return other


@contextmanager
def denied(stack: LocalStack, role: str, action: str) -> Iterator[None]:
    """Deny an action to a role of the stack, by its logical id, until the block ends."""
    iam, policy = stack.client("iam"), {"RoleName": stack.physical_id(role), "PolicyName": "denied"}
    statement = {"Effect": "Deny", "Action": action, "Resource": "*"}
    iam.put_role_policy(**policy, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    try:
        yield
    finally:
        iam.delete_role_policy(**policy)
