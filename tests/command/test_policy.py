"""The IAM policy for operators allows each command what it asks of AWS, and no more."""

import re
import uuid
from datetime import timedelta

import pytest

from punctual.cli import punctual as group
from tests.command.conftest import NOW, OF_NO_USE_ON_AWS, POLICY, actions_for, statements
from tests.template.iam import action_of
from tools.cloudformation import ROOT

PARKED = str(uuid.UUID(int=0))
ORDER = ("--target", "orders", "--in", "1h", "--payload", "x", "--user", "me")


@pytest.mark.parametrize(
    "command",
    [
        ["schedule", *ORDER],
        ["list"],
        ["count"],
        ["cancel", "order-4711"],
        ["show", "order-4711"],
        ["reschedule", PARKED, "--now"],
        ["resend"],
        ["redrive"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_is_allowed_what_it_asks_of_aws_and_no_more(punctual, cloud, stack, tables, log, command):
    """There is something to do for each. `check` has a test of its own in test_check.py."""
    tables.park(NOW + timedelta(hours=1))
    stack.outputs["InputDeadLettersUrl"] = stack.undelivered
    stack.add_undelivered({"payload": "x"})
    stack.send_to_undelivered('{"TopicArn": "of another"}')
    cloud.requests.clear()
    punctual(*command)
    if command[0] == "cancel":
        punctual("cancel", "--user", "team", "--yes")
    asked = {action_of(operation.service_model.signing_name, operation.name) for operation, _ in cloud.requests}
    assert asked - {OF_NO_USE_ON_AWS} == actions_for(command[0])


def test_each_command_is_in_the_policy():
    named = "Schema" + "".join(statement["Sid"] for statement in statements())  # It asks nothing of AWS.
    assert [command for command in group.commands if command.capitalize() not in named] == []


def test_nothing_is_allowed_on_every_resource():
    """Each is the stack's, or of the names that `check` uses, or the alarms: AWS lists all of them or none."""
    for statement in statements():
        resources = statement["Resource"]
        for resource in [resources] if isinstance(resources, str) else resources:
            assert any(name in resource for name in ("STACK", "punctual-check-", ":alarm:*")), statement


def test_operating_md_says_how_to_fill_in_every_placeholder():
    placeholders = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", POLICY.read_text()))
    command = next(line for line in (ROOT / "docs/operating.md").read_text().splitlines() if line.startswith("sed "))
    assert set(re.findall(r"s[/|]([A-Z_]+)[/|]", command)) == placeholders
