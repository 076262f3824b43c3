"""A deployed stack, as the commands see it."""

import threading
from functools import cached_property
from typing import Any, Literal

import boto3
from botocore import exceptions as sdk
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from punctual_core.event import Rules

type Service = Literal["cloudformation", "cloudwatch", "dynamodb", "logs", "scheduler", "sns", "sqs", "stepfunctions"]

# With the SDK's own (60 s, five attempts) an endpoint that hangs is silent for minutes. No call takes longer: the
# longest is a long poll of two seconds. The page has more connections than the SDK's ten.
SETTINGS: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 10,
    "retries": {"mode": "standard"},
    "max_pool_connections": 20,
}


class NotPunctual(Exception):
    """The stack lacks an output that every stack of Punctual has. The text is a sentence for the user."""


class NotConfigured(Exception):
    """The environment has a setting that the AWS SDK cannot use. The text is a sentence for the user."""


class Stack:
    """The CloudFormation stack called `name`, in the account and Region that the AWS SDK finds in the environment, or
    in another `region`, with the credentials of another `profile`. All three can be set until the first use."""

    def __init__(self, name: str = "punctual", region: str | None = None, profile: str | None = None):
        self.name, self.region, self.profile = name, region, profile
        self._lock, self._clients, self._physical_ids = threading.Lock(), dict[Any, Any](), dict[str, str]()

    def client(self, service: Service, **config: Any) -> Any:
        """A boto3 client, for any number of threads. `Any`: the stubs of single services are not among the
        requirements. `config` goes to botocore. Raises `NotConfigured`, or botocore's errors."""
        made = service, *config.items()
        with self._lock:  # A session makes one client at a time.
            if made not in self._clients:
                try:
                    self._clients[made] = self._session.client(service, config=Config(**(SETTINGS | config)))
                except ValueError as error:  # Of an endpoint that is no URL, or a number of attempts that is none.
                    raise NotConfigured(f"a setting of the AWS SDK is wrong: {error}") from error
            return self._clients[made]

    def output(self, key: str) -> str:
        """The value of an output of the stack. Raises botocore's errors, or `NotPunctual`."""
        if key not in self._outputs:
            raise NotPunctual(f"the stack {self.name} is not a complete stack of Punctual: it has no output {key}")
        return self._outputs[key]

    def parameter(self, key: str, default: str) -> str:
        """The value of a parameter of the stack; the default if it has none. Raises botocore's errors."""
        given = {entry["ParameterKey"]: entry["ParameterValue"] for entry in self._found.get("Parameters", [])}
        return str(given.get(key, default))

    def physical_id(self, logical_id: str) -> str:
        """The name, URL or ARN of a resource of the stack. Raises botocore's errors."""
        if logical_id not in self._physical_ids:
            found = self.client("cloudformation").describe_stack_resource(
                StackName=self.name, LogicalResourceId=logical_id
            )
            self._physical_ids[logical_id] = str(found["StackResourceDetail"]["PhysicalResourceId"])
        return self._physical_ids[logical_id]

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
            failure_topic=self._outputs.get("FailureTopicArn"),
            alarm_topic=self._outputs.get("AlarmTopicArn"),
        )

    # These wait for the first use: `--help` and wrong usage need neither credentials nor a Region.

    @cached_property
    def _session(self) -> boto3.Session:
        session = boto3.Session(profile_name=self.profile, region_name=self.region)
        try:
            if credentials := session.get_credentials():
                credentials.get_frozen_credentials()
        except BotoCoreError:
            raise
        except Exception as error:  # Of a program or a file that provides credentials: whatever it raises.
            raise NotConfigured(f"the AWS credentials could not be loaded: {error}") from error
        return session

    @cached_property
    def _found(self) -> dict[str, Any]:
        [found] = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return dict(found)

    @cached_property
    def _outputs(self) -> dict[str, str]:
        return {entry["OutputKey"]: entry["OutputValue"] for entry in self._found.get("Outputs", [])}


def sentence_of(error: Exception) -> str:
    """What an error, of AWS or its SDK above all, means for the user."""
    match error:
        case sdk.NoRegionError():
            return "no AWS Region is configured: set AWS_DEFAULT_REGION, or choose a profile with one (AWS_PROFILE)"
        case sdk.NoCredentialsError() | sdk.PartialCredentialsError():
            return "no AWS credentials were found: log in, or choose a profile that has some (AWS_PROFILE)"
        case sdk.CredentialRetrievalError() | sdk.TokenRetrievalError() | sdk.UnauthorizedSSOTokenError():
            return f"the AWS credentials could not be loaded: {error}"
        case sdk.ConnectionError() | sdk.HTTPClientError():
            return f"AWS cannot be reached: {error}"
        case ClientError():
            answer = error.response.get("Error", {})
            code, message = answer.get("Code", "unknown error"), answer.get("Message", "").rstrip(".")
            if "AccessDenied" in code or "AuthorizationError" in code or "Unauthorized" in code:
                return f"permission denied: {message or error.operation_name}"
            if code == "ValidationError" and error.operation_name == "DescribeStacks":
                return f"{message} in this account and Region (name another with --stack)"
            return f"{error.operation_name} failed: {code}: {message}"
        case _:
            return str(error)
