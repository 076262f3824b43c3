"""The Deliver state machine: starting its executions."""

from typing import Any

from botocore.exceptions import ClientError

# StartExecution's answers that concern this one input and would be the same at every attempt. Everything else, a
# missing state machine or permission included, is a fault of the stack and not of the event: it is retried.
_PERMANENT = {"InvalidExecutionInput", "InvalidName", "ValidationException"}


class PermanentStartError(Exception):
    """Step Functions refuses this execution at every attempt. The text is its reason."""


class Executions:
    """Deliver, in which each event has an execution."""

    def __init__(self, client: Any, arn: str):
        self._client, self._arn = client, arn

    def start(self, name: str, input: str) -> None:
        """Start one execution. Raises `PermanentStartError`, or botocore's errors for what may pass.

        Not idempotent: Express runs the same name twice if it is asked twice.
        """
        try:
            self._client.start_execution(stateMachineArn=self._arn, name=name, input=input)
        except ClientError as error:
            match error.response["Error"]["Code"]:
                case "ExecutionAlreadyExists":
                    pass  # From Standard workflows and emulators, at a retry whose first answer was lost.
                case code if code in _PERMANENT:
                    raise PermanentStartError(f"{code}: {error.response['Error'].get('Message', '')}") from error
                case _:
                    raise
