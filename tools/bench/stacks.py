"""The stack that is measured: deployed to an emulator on this machine, or on AWS."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import boto3
from botocore.config import Config
from rich.console import Console

from tools.local import ROOT, Clients, LocalStack

EMULATOR_PYTHON = ROOT / ".venv/emulator/bin/python"


class Stack(Clients, Protocol):
    """A deployed stack of Punctual, and the clients of the account and Region that it is in."""

    @property
    def stack_name(self) -> str: ...


class AwsStack:
    """A stack on AWS, in the account and Region that the environment names."""

    def __init__(self, stack_name: str) -> None:
        self.stack_name = stack_name
        self._session: Any = boto3.Session()  # Any: the stubs accept only literal names of services

    @property
    def location(self) -> str:
        """The Region, or the endpoint if the environment names one: what answers there need not be AWS."""
        endpoint = str(self.client("stepfunctions").meta.endpoint_url)
        is_aws = endpoint.endswith((".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws"))
        return f"AWS {self._session.region_name}" if is_aws else endpoint

    def client(self, service: str, **config: Any) -> Any:
        return self._session.client(service, config=Config(**config))


@contextmanager
def local_stack(console: Console) -> Iterator[LocalStack]:
    """Punctual, deployed to an emulator that ends with the block."""
    with LocalStack() as stack:
        with console.status("Building and deploying to the emulator"):
            stack.build()
            outputs = stack.deploy()
        # The schedule starts the first execution of Sweep only within the next minute.
        stack.client("stepfunctions").start_execution(stateMachineArn=outputs["SweepArn"])
        yield stack


def location(stack: Stack) -> str:
    """Where the stack runs, as the tables and pictures say it."""
    if isinstance(stack, AwsStack):
        return f"{stack.location}, stack {stack.stack_name}"
    ask = "from importlib.metadata import version; print(version('ministack'))"
    answer = subprocess.run([EMULATOR_PYTHON, "-c", ask], capture_output=True, check=True, text=True)
    return f"the local emulator (MiniStack {answer.stdout.strip()})"


def resource_id(stack: Stack, logical_id: str) -> str:
    """The physical id of one of the stack's resources."""
    answer = stack.client("cloudformation").describe_stack_resource(
        StackName=stack.stack_name, LogicalResourceId=logical_id
    )
    return str(answer["StackResourceDetail"]["PhysicalResourceId"])


def function_configuration(stack: Stack, logical_id: str) -> dict[str, Any]:
    """The configuration of one of the stack's functions, as Lambda returns it."""
    name = resource_id(stack, logical_id)
    configuration: dict[str, Any] = stack.client("lambda").get_function_configuration(FunctionName=name)
    return configuration
