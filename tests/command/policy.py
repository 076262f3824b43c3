"""The IAM policy for operators in examples/. The id of each of its statements names the commands that need it."""

import json
from typing import Any

from botocore.client import BaseClient

from tools.cloudformation import ROOT

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


def action(client: BaseClient, operation: str) -> str:
    """The IAM action of an operation."""
    return f"{client.meta.service_model.signing_name}:{operation.removesuffix('Batch')}"
