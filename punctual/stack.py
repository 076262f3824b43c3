"""A deployed stack, as the commands see it."""

from functools import cached_property
from typing import Any, Literal

import boto3


class NotPunctual(Exception):
    """The stack lacks an output that every stack of Punctual has. The text is a sentence for the user."""


class Stack:
    """The CloudFormation stack called `name`, in the account and Region that the AWS SDK finds in the environment."""

    def __init__(self, name: str):
        self.name = name

    def client(self, service: Literal["cloudformation", "sns", "sqs"]) -> Any:
        """A boto3 client. `Any`: the stubs of single services are not among the requirements."""
        return self._session.client(service)

    def output(self, key: str) -> str:
        """The value of an output of the stack. Raises botocore's errors, or `NotPunctual`."""
        if key not in self._outputs:
            raise NotPunctual(f"the stack {self.name} is not a complete stack of Punctual: it has no output {key}")
        return self._outputs[key]

    # Both wait for the first use: `--help` and wrong usage need neither credentials nor a Region.

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session()

    @cached_property
    def _outputs(self) -> dict[str, str]:
        [found] = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
