"""A deployed stack, as the commands see it."""

from functools import cached_property
from typing import Any, Literal

import boto3
from botocore.config import Config
from punctual_core.event import Rules

type Service = Literal["cloudformation", "dynamodb", "logs", "sns", "sqs", "stepfunctions"]


class NotPunctual(Exception):
    """The stack lacks an output that every stack of Punctual has. The text is a sentence for the user."""


class NotConfigured(Exception):
    """The environment has a setting that the AWS SDK cannot use. The text is a sentence for the user."""


class Stack:
    """The CloudFormation stack called `name`, in the account and Region that the AWS SDK finds in the environment."""

    def __init__(self, name: str):
        self.name = name

    def client(self, service: Service, **config: Any) -> Any:
        """A boto3 client. `Any`: the stubs of single services are not among the requirements. `config` goes to
        botocore. Raises `NotConfigured`, or botocore's errors."""
        try:
            return self._session.client(service, config=Config(**config))
        except ValueError as error:  # Of an endpoint that is no URL, or a number of attempts that is none.
            raise NotConfigured(f"a setting of the AWS SDK is wrong: {error}") from error

    def output(self, key: str) -> str:
        """The value of an output of the stack. Raises botocore's errors, or `NotPunctual`."""
        if key not in self._outputs:
            raise NotPunctual(f"the stack {self.name} is not a complete stack of Punctual: it has no output {key}")
        return self._outputs[key]

    def parameter(self, key: str, default: str) -> str:
        """The value of a parameter of the stack; the default if it has none. Raises botocore's errors."""
        return self._description("Parameters", "Parameter").get(key, default)

    def physical_id(self, logical_id: str) -> str:
        """The name, URL or ARN of a resource of the stack. Raises botocore's errors."""
        detail = self.client("cloudformation").describe_stack_resource(
            StackName=self.name, LogicalResourceId=logical_id
        )["StackResourceDetail"]
        return str(detail["PhysicalResourceId"])

    def topic_arn(self, topic: str) -> str:
        """The ARN of a topic: its own if it is one, else that of the topic with this name beside the input topic."""
        return topic if ":" in topic else f"{self.output('InputTopicArn').rpartition(':')[0]}:{topic}"

    def rules(self) -> Rules:
        """What the stack accepts, by its parameters: the rules of Ingest."""
        topics = self.parameter("TargetTopicArns", "")
        return Rules(
            input_topic=self.output("InputTopicArn"),
            allowed_topics=tuple(topics.split(",")) if topics else (self.topic_arn("*"),),
            user_required=self.parameter("EnforceUser", "true") == "true",
        )

    # These wait for the first use: `--help` and wrong usage need neither credentials nor a Region.

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session()

    @cached_property
    def _found(self) -> dict[str, Any]:
        [found] = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return dict(found)

    def _description(self, part: Literal["Outputs", "Parameters"], kind: str) -> dict[str, str]:
        return {entry[f"{kind}Key"]: entry[f"{kind}Value"] for entry in self._found.get(part, [])}

    @cached_property
    def _outputs(self) -> dict[str, str]:
        return self._description("Outputs", "Output")
