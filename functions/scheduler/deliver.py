"""The Deliver state machine."""

from typing import Any

from botocore.exceptions import ClientError

# What StartExecution says of this one input and would say of it for ever. Everything else, a missing state machine
# or permission included, is the stack's trouble and not the event's: it will be tried again.
_PERMANENT = {"InvalidExecutionInput", "InvalidName", "ValidationException"}


class PermanentStartError(Exception):
    """Step Functions refuses this execution for good. The text is its reason."""


class DeliverWorkflow:
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
                    pass  # Said by Standard workflows and by emulators, after a retry whose first answer was lost.
                case code if code in _PERMANENT:
                    raise PermanentStartError(f"{code}: {error.response['Error'].get('Message', '')}") from error
                case _:
                    raise
