"""moto runs the shipped definitions, to validate the simulation: another interpreter (LocalStack's), and services that
have queues and tables.

It names errors as AWS does. It has no JSONata of its own, and its clock is ours here: waiting takes no time.
"""

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.stepfunctions.parser.api import EvaluationFailedEventDetails, HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent, FailureEventException
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.common.string.string_expression import StringJSONata
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.timestamp import Timestamp
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

from tests.workflows.expressions import QueryEvaluationError, evaluate
from tests.workflows.simulation import Failed, Run, wait_until
from tools.cloudformation import ACCOUNT, REGION

ROLE = f"arn:aws:iam::{ACCOUNT}:role/none"


class Engine:
    """One execution at a time, on moto. `error(state)` is the error that an attempt of a state's task gets, or None;
    `invoke(function, payload)` answers for Lambda. `now` are seconds since 1970."""

    def __init__(self):
        self.now = 0.0
        self.error: Callable[[str], str | None] = lambda state: None
        self.invoke: Callable[[str, Any], Any] = lambda function, payload: None
        self._patch = pytest.MonkeyPatch()
        self._mock = mock_aws(
            config={"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}
        )
        self._boto3_client, self._clients, self._lock = boto3.client, {}, threading.Lock()
        self._machines = 0

    def __enter__(self) -> "Engine":
        change = self._patch.setattr
        change(StringJSONata, "_eval_body", lambda part, env: self._evaluate(part, env))  # Its own is a stub.
        # Time goes on where an execution waits: for a time, or before a retry. The ticks of a Map do so side by side.
        change(Timestamp, "_get_wait_seconds", lambda part, env: self._wait(part, env))
        change(WaitFunction, "_wait_interval", lambda *_, **__: None)
        change(retrier_decl.time, "sleep", lambda seconds: None)
        # It makes a client for each task in a thread of its own, which boto3 does neither safely nor fast.
        change(boto3, "client", lambda service_name, **_: self.client(service_name))
        change(LambdaSimpleBackend, "invoke", lambda _, name, qualifier, body, *__: self._invoke(name, body))
        begin_attempt = StateTaskService._before_eval_execution

        def begin_attempt_or_fail(task: StateTaskService, env: Any, **rest: Any) -> None:
            begin_attempt(task, env=env, **rest)
            self._run.attempts.append(task.name)
            if error := self.error(task.name):
                raise _failure(env, HistoryEventType.TaskFailed, error, "simulated")

        change(StateTaskService, "_before_eval_execution", begin_attempt_or_fail)
        self._mock.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._mock.stop()
        self._patch.undo()

    def client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                # Without retries, as the engine wants it: those are the state machine's business.
                config = Config(retries={"total_max_attempts": 1}, parameter_validation=False, max_pool_connections=50)
                self._clients[service] = self._boto3_client(service, region_name=REGION, config=config)
            return self._clients[service]

    def run(self, definition: str, input: Any) -> Run:
        """An execution, when it has ended."""
        self._run, client = Run("", self.now), self.client("stepfunctions")
        self._machines += 1
        # Timeouts are in our time, on a machine that may be busy.
        definition = re.sub(r'"TimeoutSeconds": \d+', '"TimeoutSeconds": 60', definition)
        machine = client.create_state_machine(
            name=f"machine-{self._machines}", definition=definition, roleArn=ROLE, type="EXPRESS"
        )["stateMachineArn"]
        arn = client.start_execution(stateMachineArn=machine, name="execution", input=json.dumps(input))["executionArn"]
        give_up_at = time.monotonic() + 60
        while (end := client.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < give_up_at, "the execution does not end"
            threading.Event().wait(0.05)
        run = self._run
        run.name, run.status, run.error, run.cause = arn, end["status"], end.get("error"), end.get("cause")
        run.output = json.loads(end["output"]) if run.status == "SUCCEEDED" else None
        history = client.get_paginator("get_execution_history").paginate(executionArn=arn).build_full_result()
        entered = [event.get("stateEnteredEventDetails") for event in history["events"]]
        run.path = [details["name"] for details in entered if details]
        return run

    def _wait(self, wait: Timestamp, env: Any) -> int:
        wait.string.eval(env=env)
        self.now = max(self.now, wait_until(env.stack.pop()))
        return 0

    def _invoke(self, name: str, body: Any) -> bytes:
        try:
            return json.dumps(self.invoke(name, json.loads(body))).encode()
        except Failed as failure:
            return json.dumps({"errorType": failure.error}).encode()

    def _evaluate(self, expression: StringJSONata, env: Any) -> None:
        """Evaluate a state's expression with `$states` and the workflow's variables, as AWS does."""
        store = env.variable_store
        try:
            variables = store._outer_scope | store._inner_scope | {"states": env.states._states_data}
            env.stack.append(evaluate(expression.expression, variables, millis=lambda: int(1000 * self.now)))
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
