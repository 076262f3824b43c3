"""One emulator with IAM enforced and two stacks on it, deployed by the shipped `sam build` and `sam deploy`.

The first stack runs the scenarios in the background while the other tests use the second one.
"""

import copy
import json
import os
import signal
import threading
from collections.abc import Iterator
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


class BackgroundRun:
    """A run that a thread watches."""

    def __init__(self, run: LocalRun) -> None:
        self._run = run
        run.publish()
        self._thread = threading.Thread(target=lambda: [None for _ in run.watch()], daemon=True)
        self._thread.start()

    def wait(self) -> LocalRun:
        """Wait until the run has ended. Returns it."""
        self._thread.join()
        return self._run


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
def scenarios(stack: LocalStack) -> Iterator[BackgroundRun]:
    """The demo's scenarios and more, all published at once."""
    with Consumer(stack) as consumer:
        wake(stack, consumer)
        background = BackgroundRun(LocalRun(stack, consumer, SCENARIOS + MORE_SCENARIOS, MAX_LATENESS))
        yield background
        background.wait()


@pytest.fixture(scope="package")
def other(stack: LocalStack, scenarios: BackgroundRun) -> LocalStack:
    """A second stack, with targets in two accounts and the probe, which test_stack_probe.py finds at work."""
    account = stack.outputs["InputTopicArn"].split(":")[4]
    topics = ",".join(f"arn:aws:sns:{stack.region}:{account}:*" for account in (account, OTHER_ACCOUNT))
    stack.deploy({"TargetTopicArns": topics, "Probe": "true"}, stack_name="other")
    other = copy.copy(stack)
    other.stack_name = "other"
    with Consumer(other) as consumer:
        wake(other, consumer)
    return other


class Role:
    """A role of a deployed stack, from which permissions can be taken for a while."""

    def __init__(self, stack: LocalStack, logical_id: str) -> None:
        self._iam, self._name = stack.client("iam"), stack.physical_id(logical_id)

    @contextmanager
    def without(self, sid: str) -> Iterator[None]:
        """Remove one statement until the block ends."""
        names = self._iam.list_role_policies(RoleName=self._name)["PolicyNames"]
        for name in names:
            policy = {"RoleName": self._name, "PolicyName": name}
            shipped = self._iam.get_role_policy(**policy)["PolicyDocument"]
            left = [statement for statement in shipped["Statement"] if statement["Sid"] != sid]
            if len(left) < len(shipped["Statement"]):
                break
        else:
            raise LookupError(f"{self._name} has no statement {sid}")
        if left:
            self._iam.put_role_policy(**policy, PolicyDocument=json.dumps(shipped | {"Statement": left}))
        else:  # IAM rejects a policy without statements.
            self._iam.delete_role_policy(**policy)
        try:
            yield
        finally:
            self._iam.put_role_policy(**policy, PolicyDocument=json.dumps(shipped))
