"""The two engines that run the shipped state machines, and where they differ from AWS.

`Emulator` is MiniStack. It keeps a fraction of a second in Wait, and it runs functions in processes of their own. It
drops the MessageAttributes of a workflow's publish, reports every error of SNS as `SNS.PublishFailed`, retries without
jitter and MaxDelaySeconds, lets `States.ALL` match every error, ignores a Choice state's own Output, and can fail a
state only at all of its attempts.

`Moto` has LocalStack's engine. It keeps the attributes and names errors as AWS does. Its Wait ends up to a second
early, and it has no JSONata of its own.
"""

import importlib.util
import io
import json
import threading
import time
import urllib.request
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws
from moto.awslambda.exceptions import UnknownFunctionException
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.sns.models import Subscription
from moto.stepfunctions.parser.api import EvaluationFailedEventDetails, HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent, FailureEventException
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
from moto.stepfunctions.parser.asl.component.common.string.string_expression import StringJSONata
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.seconds import SecondsJSONata
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

from tests.workflows.expressions import QueryEvaluationError, evaluate
from tools.local import LocalStack

ENGINES = ("emulator", "moto")
REGION = "eu-central-1"
# One execution of Sweep takes up to four minutes. This much of each of its seconds is enough to tell its ticks apart.
SWEEP_SCALE = 0.1

# An error that a state fails with: its name, and its cause.
Error = tuple[str, str]


class Emulator:
    """MiniStack: one for Deliver, and one for Sweep whose seconds are shorter."""

    account = "000000000000"

    def __init__(self, seconds_scale: float = 1):
        self._stack = LocalStack(region=REGION)
        self._seconds_scale = seconds_scale
        self._mocks: dict[str, Any] = {"StateMachines": {}, "MockedResponses": {}}
        self._clients: dict[str, Any] = {}

    def start(self) -> None:
        self._stack.start()
        self._configure(_SFN_WAIT_SCALE=self._seconds_scale)

    def stop(self) -> None:
        self._stack.stop()

    def client(self, service: str) -> Any:
        return self._clients.setdefault(service, self._clients.get(service) or self._stack.client(service))

    def function(self, name: str, module: Path, **environment: str) -> str:
        """Deploy a file as a function; return its ARN."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.write(module, module.name)
        return self.client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.13",
            Handler=f"{module.stem}.handler",
            Role=f"arn:aws:iam::{self.account}:role/none",
            Timeout=30,
            Code={"ZipFile": archive.getvalue()},
            Environment={"Variables": environment},
        )["FunctionArn"]

    def fail(self, machine: str, state: str, errors: list[Error], always: bool) -> str:
        """Let a state of a machine fail at every attempt. Returns what to add to the machine's ARN for that."""
        assert always, "the emulator can't fail a single attempt"
        [(error, cause)] = errors
        mock = f"{machine}-{state}"
        cases = self._mocks["StateMachines"].setdefault(machine, {"TestCases": {"faults": {}}})
        cases["TestCases"]["faults"][state] = mock
        self._mocks["MockedResponses"][mock] = {"0": {"Throw": {"Error": error, "Cause": cause}}}
        self._configure(_sfn_mock_config=self._mocks)
        return "#faults"

    def recover(self, machine: str) -> None:
        """No state of a machine fails any more: here the machine's ARN alone says so."""

    def _configure(self, **settings: Any) -> None:
        body = json.dumps({f"stepfunctions.{name}": value for name, value in settings.items()}).encode()
        urllib.request.urlopen(f"{self._stack.endpoint}/_ministack/config", body).close()


class Moto:
    """moto in this process, with what its engine lacks."""

    account = "123456789012"

    def __init__(self):
        self._patch = pytest.MonkeyPatch()
        self._mock = mock_aws(
            config={"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}
        )
        self._boto3_client, self._clients, self._lock = boto3.client, {}, threading.Lock()
        self._faults: dict[tuple[str, str], tuple[list[Error], bool]] = {}
        self._functions: dict[str, ModuleType] = {}

    def start(self) -> None:
        self._patch.setenv("TZ", "UTC")  # It takes local time for UTC.
        time.tzset()
        self._patch.setattr(StringJSONata, "_eval_body", _evaluate)  # Its own is a stub.
        # Only Sweep waits for seconds: Deliver waits for times.
        self._patch.setattr(SecondsJSONata, "_wait_interval", lambda *_, wait_seconds, **__: _sleep(wait_seconds))
        # It makes a client for each task in a thread of its own, which boto3 does neither safely nor fast.
        self._patch.setattr(boto3, "client", lambda service_name, **_: self.client(service_name))
        self._patch.setattr(LambdaSimpleBackend, "invoke", self._invoke)
        # It makes an RSA key for each subscription, which takes up to seconds.
        key = Subscription.private_key(None)
        self._patch.setattr(Subscription, "private_key", lambda _: key)
        begin_attempt = StateTaskService._before_eval_execution

        def begin_attempt_or_fail(task: StateTaskService, env: Any, **rest: Any) -> None:
            begin_attempt(task, env=env, **rest)
            machine = env.states.context_object.context_object_data["StateMachine"]["Name"]
            if fault := self._next_fault(machine, task.name):
                raise _failure(env, HistoryEventType.TaskFailed, *fault)

        self._patch.setattr(StateTaskService, "_before_eval_execution", begin_attempt_or_fail)
        self._mock.start()

    def stop(self) -> None:
        self._mock.stop()
        self._patch.undo()
        time.tzset()

    def client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                # Without retries, as the engine wants it: those are the state machine's business.
                config = Config(retries={"total_max_attempts": 1}, parameter_validation=False, max_pool_connections=50)
                self._clients[service] = self._boto3_client(service, region_name=REGION, config=config)
            return self._clients[service]

    def function(self, name: str, module: Path, **environment: str) -> str:
        """Let a file's handler, in this process, answer for a function; return that one's ARN."""
        for variable, value in environment.items():
            self._patch.setenv(variable, value)
        spec = importlib.util.spec_from_file_location(module.stem, module)
        arn = f"arn:aws:lambda:{REGION}:{self.account}:function:{name}"
        self._functions[arn] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._functions[arn])
        return arn

    def fail(self, machine: str, state: str, errors: list[Error], always: bool) -> str:
        """Let a state of a machine fail: at every attempt with the one error, or at an attempt each with these errors
        and then no more. Returns what to add to the machine's ARN for that."""
        self._faults[machine, state] = ([*errors], always)
        return ""

    def recover(self, machine: str) -> None:
        """No state of a machine fails any more."""
        for name, state in [*self._faults]:
            if name == machine:
                del self._faults[name, state]

    def _next_fault(self, machine: str, state: str) -> Error | None:
        errors, always = self._faults.get((machine, state), ([], True))
        if not errors:
            return None
        return errors[0] if always else errors.pop(0)

    def _invoke(self, name: str, qualifier: str | None, body: Any, headers: Any, response_headers: dict) -> bytes:
        if name not in self._functions:
            raise UnknownFunctionException(name)
        try:
            result = self._functions[name].handler(json.loads(body), SimpleNamespace(function_name=name))
        except Exception as error:  # As Lambda does.
            response_headers["x-amz-function-error"] = "Unhandled"
            result = {"errorType": type(error).__name__, "errorMessage": str(error)}
        return json.dumps(result).encode()


def _sleep(seconds: float) -> None:
    time.sleep(seconds * SWEEP_SCALE)


def _evaluate(expression: StringJSONata, env: Any) -> None:
    """Evaluate a state's expression with `$states` and the workflow's variables, as AWS does."""
    store = env.variable_store
    try:
        variables = store._outer_scope | store._inner_scope | {"states": env.states._states_data}
        env.stack.append(evaluate(expression.expression, variables))
    except QueryEvaluationError as error:
        name = StatesErrorNameType.StatesQueryEvaluationError.to_name()
        raise _failure(env, HistoryEventType.EvaluationFailed, name, str(error)) from error


def _failure(env: Any, event_type: HistoryEventType, name: str, cause: str) -> FailureEventException:
    error = StatesErrorName.from_name(name) if name.startswith("States.") else CustomErrorName(name)
    if event_type == HistoryEventType.EvaluationFailed:
        details = EventDetails(evaluationFailedEventDetails=EvaluationFailedEventDetails(error=name, cause=cause))
    else:
        details = EventDetails(taskFailedEventDetails=TaskFailedEventDetails(error=name, cause=cause))
    return FailureEventException(FailureEvent(env, error, event_type, details))
