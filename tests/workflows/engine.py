"""moto runs a definition for its history, which nothing else writes here: what Express would log, and what it costs.

moto has no JSONata of its own, and its clock is ours here: waiting takes no time.
"""

import json
import re
import threading
import time
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.stepfunctions.parser.asl.component.common.string.string_expression import StringJSONata
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.timestamp import Timestamp
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction

from tests.workflows.expressions import evaluate
from tests.workflows.simulation import Run, wait_until
from tools.cloudformation import ACCOUNT, REGION

ROLE = f"arn:aws:iam::{ACCOUNT}:role/none"


class Engine:
    """One execution at a time, on moto. `now` are seconds since 1970."""

    def __init__(self):
        self.now = 0.0
        self._patch = pytest.MonkeyPatch()
        self._mock = mock_aws(
            config={"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}
        )
        self._boto3_client, self._clients, self._lock = boto3.client, {}, threading.Lock()
        self._machines = 0

    def __enter__(self) -> "Engine":
        change = self._patch.setattr
        change(StringJSONata, "_eval_body", lambda part, env: self._evaluate(part, env))  # Its own is a stub.
        change(Timestamp, "_get_wait_seconds", lambda part, env: self._wait(part, env))
        change(WaitFunction, "_wait_interval", lambda *_, **__: None)
        # It makes a client for each task in a thread of its own, which boto3 does neither safely nor fast.
        change(boto3, "client", lambda service_name, **_: self.client(service_name))
        change(LambdaSimpleBackend, "invoke", lambda *_: b"null")
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
        """An execution, when it has succeeded: its name (the ARN), and the tasks that it has attempted."""
        client = self.client("stepfunctions")
        self._machines += 1
        # Timeouts are in our time, on a machine that may be busy.
        definition = re.sub(r'"TimeoutSeconds": \d+', '"TimeoutSeconds": 60', definition)
        machine = client.create_state_machine(
            name=f"machine-{self._machines}", definition=definition, roleArn=ROLE, type="EXPRESS"
        )["stateMachineArn"]
        arn = client.start_execution(stateMachineArn=machine, name="execution", input=json.dumps(input))["executionArn"]
        give_up_at = time.monotonic() + 60
        while (status := client.describe_execution(executionArn=arn)["status"]) == "RUNNING":
            assert time.monotonic() < give_up_at, "the execution does not end"
            time.sleep(0.05)
        assert status == "SUCCEEDED"
        history = client.get_paginator("get_execution_history").paginate(executionArn=arn).build_full_result()
        tasks = [event for event in history["events"] if event["type"] == "TaskStateEntered"]
        return Run(arn, self.now, attempts=[task["stateEnteredEventDetails"]["name"] for task in tasks])

    def _wait(self, wait: Timestamp, env: Any) -> int:
        wait.string.eval(env=env)
        self.now = max(self.now, wait_until(env.stack.pop()))
        return 0

    def _evaluate(self, expression: StringJSONata, env: Any) -> None:
        """Evaluate a state's expression with `$states` and the workflow's variables, as AWS does."""
        store = env.variable_store
        variables = store._outer_scope | store._inner_scope | {"states": env.states._states_data}
        env.stack.append(evaluate(expression.expression, variables, millis=lambda: int(1000 * self.now)))
