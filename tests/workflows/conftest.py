"""The shipped state machines, run on two engines.

`emulator` (MiniStack) waits as AWS does for whole seconds, and runs functions in processes of their own. But it drops
the MessageAttributes of a workflow's publish, calls every error of SNS `SNS.PublishFailed`, and ignores MaxDelaySeconds
and jitter. `moto` keeps the attributes and names errors as AWS does, but its Wait ends up to a second early.

A test says with a mark what to run, and looks at how it ended. Everything that is marked starts together, before the
first test looks: the whole directory takes as long as its longest execution.
"""

import importlib.util
import io
import json
import threading
import time
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import jsonata
import pytest
from botocore.config import Config
from moto import mock_aws
from moto.awslambda.exceptions import UnknownFunctionException
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.sns.exceptions import SNSException
from moto.sns.models import SNSBackend, Subscription
from moto.stepfunctions.parser.api import EvaluationFailedEventDetails, HistoryEventType
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent, FailureEventException
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
from moto.stepfunctions.parser.asl.component.common.string.string_expression import StringJSONata
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.seconds import SecondsJSONata
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from scheduler.event import Rules, parse

from tests.cloudformation import ROOT, Template
from tools.local import LocalStack

ENGINES = ("emulator", "moto")
REGION = "eu-central-1"
# A sweep takes two minutes. This much of each of its seconds is enough to tell its ticks apart.
SWEEP_SCALE = 0.2
# From the moment when the executions are started to the first due date: time for all of them to start.
LEAD_SECONDS = 3
SPREAD_SECONDS = 5
LONGEST_EXECUTION_SECONDS = 120
HOLD = ROOT / "functions/scheduler/hold.py"
# The template takes a while to read, so it is read once; a test's own resources take the place of what is in <>.
TEMPLATE = Template({name: f"<{name}>" for name in ("Register", "Hold.Arn", "FailureTopic", "Undelivered")})
DELIVER, REGISTER = TEMPLATE.definition("Deliver"), TEMPLATE.table("Register")
SWEEPER_STUB = Path(__file__).with_name("sweeper_stub.py")


def pytest_configure(config: pytest.Config) -> None:
    for mark in (
        "deliver: run Deliver; the arguments are those of `Delivery`; the fixture `outcome` is its end",
        "sweep: run Sweep; the arguments are those of `SweepRun`; the fixture `outcome` is its end",
    ):
        config.addinivalue_line("markers", mark)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("deliver")
        metafunc.parametrize("engine", mark.kwargs.get("on", ENGINES) if mark else ENGINES)


# --- Engines ----------------------------------------------------------------------------------------------------------


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

    def fail_publish(self, machine: str, topic: str, errors: list[tuple[str, str]]) -> str:
        """Let the state Publish of a machine fail with an error: a code and a text. Here it fails at each attempt.
        Returns what to add to the machine's ARN."""
        [(code, text)] = errors
        self._mocks["StateMachines"][machine] = {"TestCases": {"fault": {"Publish": machine}}}
        self._mocks["MockedResponses"][machine] = {"0": {"Throw": {"Error": f"SNS.{code}Exception", "Cause": text}}}
        self._configure(_sfn_mock_config=self._mocks)
        return "#fault"

    def _configure(self, **settings: Any) -> None:
        body = json.dumps({f"stepfunctions.{name}": value for name, value in settings.items()}).encode()
        urllib.request.urlopen(f"{self._stack.endpoint}/_ministack/config", body).close()


class Moto:
    """moto, with the engine that it took over from LocalStack and with what that lacks."""

    account = "123456789012"

    def __init__(self):
        self._patch = pytest.MonkeyPatch()
        self._mock = mock_aws(
            config={"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}
        )
        self._boto3_client, self._clients, self._lock = boto3.client, {}, threading.Lock()
        self._faults: dict[str, list[SNSException]] = {}
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
        publish = SNSBackend.publish
        self._patch.setattr(SNSBackend, "publish", lambda *args, **rest: self._publish(publish, *args, **rest))
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

    def fail_publish(self, machine: str, topic: str, errors: list[tuple[str, str]]) -> str:
        """Let publishing to a topic fail with these errors, a code and a text each, one after the other. Returns what
        to add to the machine's ARN."""
        self._faults[topic] = [SNSException(code, text) for code, text in errors]
        return ""

    def _publish(self, publish: Callable, backend: SNSBackend, message: str, arn: str, **rest: Any) -> str:
        if self._faults.get(arn):
            raise self._faults[arn].pop(0)
        return publish(backend, message, arn=arn, **rest)

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


def evaluate(expression: str, **variables: Any) -> Any:
    """The value of a JSONata expression, None if it has none. Of the functions that Step Functions adds to JSONata it
    knows the one that is used here; any other is unknown."""
    evaluator = jsonata.Jsonata.jsonata(expression)
    evaluator.register_lambda("range", lambda first, last, step: [*range(first, last + 1, step)])
    return evaluator.evaluate(None, variables)


def _evaluate(expression: StringJSONata, env: Any) -> None:
    """Evaluate a state's expression with `$states` and the workflow's variables, as AWS does."""
    scopes = env.variable_store._outer_scope, env.variable_store._inner_scope
    value = evaluate(expression.expression, **scopes[0], **scopes[1], states=env.states._states_data)
    if value is None:
        error = StatesErrorName(StatesErrorNameType.StatesQueryEvaluationError)
        details = EvaluationFailedEventDetails(
            error=error.error_name, cause=f"The expression returned nothing (undefined): {expression.expression}"
        )
        raise FailureEventException(
            FailureEvent(
                env, error, HistoryEventType.EvaluationFailed, EventDetails(evaluationFailedEventDetails=details)
            )
        )
    env.stack.append(value)


# --- Executions -------------------------------------------------------------------------------------------------------


class Execution:
    """One execution, on an engine, of a state machine of its own. `start` has set its ARN."""

    engine: Emulator | Moto
    arn: str

    def wait(self) -> None:
        """Wait until the execution has ended."""
        give_up_at = time.monotonic() + LONGEST_EXECUTION_SECONDS
        while (end := self.engine.client("stepfunctions").describe_execution(executionArn=self.arn))[
            "status"
        ] == "RUNNING":
            assert time.monotonic() < give_up_at, "the execution does not end"
            time.sleep(0.1)
        self.status, self.error, self.cause = end["status"], end.get("error"), end.get("cause")

    @cached_property
    def path(self) -> list[str]:
        """The states that the execution went through."""
        history = self.engine.client("stepfunctions").get_paginator("get_execution_history")
        events = history.paginate(executionArn=self.arn).build_full_result()["events"]
        return [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]


@dataclass(frozen=True)
class Message:
    """What a subscriber received, and when (UTC, milliseconds)."""

    text: str
    subject: str | None
    attributes: dict[str, str]
    group: str | None
    deduplication_id: str | None
    arrived_at: datetime


class Delivery(Execution):
    """One execution of Deliver, with topics, queues and a state machine that it shares with nobody.

    `gone` names resources of the template that its state machine does not find.
    """

    def __init__(
        self,
        engine: Emulator | Moto,
        hold: str,
        due_in: float,
        gone: tuple[str, ...] = (),
        registered: str | None = None,
        target: str = "there",
        failure_topic: str | None = None,
        fault: list[tuple[str, str]] | None = None,
        on: tuple[str, ...] = ENGINES,
        **event: Any,
    ):
        self.engine, self._due_in, self._registered, self._event = engine, due_in, registered, event
        self.name = f"case-{uuid.uuid4().hex[:8]}"
        self._queues: dict[str, str] = {}
        self.target = self._topic("target.fifo" if target == "fifo" else "target", target != "gone")
        self.own_failure_topic = self._topic("own-failures", failure_topic == "there") if failure_topic else None
        own = {
            "Register": f"{self.name}-register",
            "Hold.Arn": f"{hold}-gone" if "Hold" in gone else hold,
            "FailureTopic": self._topic("failures", "FailureTopic" not in gone),
            "Undelivered": self._queue("undelivered"),
        }
        if "Register" not in gone:
            engine.client("dynamodb").create_table(**REGISTER | {"TableName": own["Register"]})
        definition = DELIVER
        for name, value in own.items():
            definition = definition.replace(f"<{name}>", value)
        machine = engine.client("stepfunctions").create_state_machine(
            name=self.name,
            definition=definition,
            roleArn=f"arn:aws:iam::{engine.account}:role/none",
            type="EXPRESS",
        )
        self._register = own["Register"]
        self._machine = machine["stateMachineArn"]
        if fault:
            self._machine += engine.fail_publish(self.name, self.target, fault)

    def start(self, now: datetime) -> None:
        """Start the execution as Ingest does, for an event that is due `due_in` seconds after `now`."""
        self.due = now + timedelta(seconds=self._due_in)
        message = {
            "date": self.due.isoformat(),
            "target": self.target,
            "user": "team",
            "payload": "order",
            **self._event,
        }
        if self.own_failure_topic:
            message["failure_topic"] = self.own_failure_topic
        topics = f"arn:aws:sns:{REGION}:{self.engine.account}:"
        revision = str(uuid.uuid4())
        self.message = message
        self.event = parse(json.dumps(message), revision, Rules(f"{topics}input", (f"{topics}*",)))
        if self._registered:
            other = revision if self._registered == "itself" else str(uuid.uuid4())
            self.engine.client("dynamodb").put_item(
                TableName=self._register,
                Item={"id": {"S": self.event.id}, "revision": {"S": other}, "version": {"S": "1"}},
            )
        self.started_at = datetime.now(UTC)
        self.arn = self.engine.client("stepfunctions").start_execution(
            stateMachineArn=self._machine, name=self.event.execution_name, input=self.event.input
        )["executionArn"]

    @cached_property
    def delivered(self) -> list[Message]:
        """What arrived at the target."""
        return self._received("target")

    @cached_property
    def reported(self) -> list[Message]:
        """What arrived at the event's own failure topic."""
        return self._received("own-failures")

    @cached_property
    def reported_to_operator(self) -> list[Message]:
        """What arrived at the stack's failure topic."""
        return self._received("failures")

    @cached_property
    def buried(self) -> list[str]:
        """What lies in the Undelivered queue."""
        return [message["Body"] for message in self._drain("undelivered")]

    @property
    def lateness(self) -> float:
        """When the one delivery arrived, in seconds after it was due."""
        [message] = self.delivered
        return (message.arrived_at - self.due).total_seconds()

    def _topic(self, role: str, exists: bool) -> str:
        """The ARN of a topic, with a queue subscribed to it unless it does not exist."""
        name, sns = f"{self.name}-{role}", self.engine.client("sns")
        if not exists:
            return f"arn:aws:sns:{REGION}:{self.engine.account}:{name}"
        fifo = {"FifoTopic": "true"} if role.endswith(".fifo") else {}
        arn = sns.create_topic(Name=name, Attributes=fifo)["TopicArn"]
        self._queue(role)
        sns.subscribe(
            TopicArn=arn, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{self.engine.account}:{self.name}-{role}"
        )
        return arn

    def _queue(self, role: str) -> str:
        fifo = {"FifoQueue": "true"} if role.endswith(".fifo") else {}
        url = self.engine.client("sqs").create_queue(QueueName=f"{self.name}-{role}", Attributes=fifo)["QueueUrl"]
        self._queues[role.removesuffix(".fifo")] = url
        return url

    def _received(self, role: str) -> list[Message]:
        received = []
        for message in self._drain(role) if role in self._queues else []:
            body, attributes = json.loads(message["Body"]), message["Attributes"]
            received.append(
                Message(
                    text=body["Message"],
                    subject=body.get("Subject"),
                    attributes={name: value["Value"] for name, value in body.get("MessageAttributes", {}).items()},
                    group=attributes.get("MessageGroupId"),
                    deduplication_id=attributes.get("MessageDeduplicationId"),
                    arrived_at=datetime.fromtimestamp(int(attributes["SentTimestamp"]) / 1000, UTC),
                )
            )
        return received

    def _drain(self, role: str) -> list[dict]:
        messages = []
        while (
            more := self.engine.client("sqs")
            .receive_message(QueueUrl=self._queues[role], MaxNumberOfMessages=10, AttributeNames=["All"])
            .get("Messages")
        ):
            messages += more
        return messages


# --- Sweep ------------------------------------------------------------------------------------------------------------


class SweepRun(Execution):
    """One execution of Sweep, with a Sweeper that notes its ticks."""

    def __init__(self, engine: Emulator | Moto, directory: Path, interval: str, failing: bool = False):
        self.engine = engine
        name = f"sweep-{uuid.uuid4().hex[:8]}{'-failing' if failing else ''}"
        self._ticks = directory / name
        sweeper = engine.function(name, SWEEPER_STUB, TICKS=str(directory))
        self._machine = engine.client("stepfunctions").create_state_machine(
            name=name,
            definition=Template({"Sweeper.Arn": sweeper}, SweepIntervalSeconds=interval).definition("Sweep"),
            roleArn=f"arn:aws:iam::{engine.account}:role/none",
            type="EXPRESS",
        )["stateMachineArn"]

    def start(self, now: datetime) -> None:
        self.started_at = datetime.now(UTC)
        self.arn = self.engine.client("stepfunctions").start_execution(
            stateMachineArn=self._machine, name=str(uuid.uuid4()), input="{}"
        )["executionArn"]

    @property
    def ticks(self) -> list[float]:
        """When the Sweeper was called, in seconds of the workflow after its start."""
        called_at = sorted(map(float, self._ticks.read_text().splitlines()))
        return [(moment - self.started_at.timestamp()) / SWEEP_SCALE for moment in called_at]


# --- Fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="package")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Execution]]:
    """Every execution that a selected test is marked with, by the test's node id: all of them under way."""
    deliver = [(item, mark) for item in request.session.items if (mark := item.get_closest_marker("deliver"))]
    sweep = [(item, mark) for item in request.session.items if (mark := item.get_closest_marker("sweep"))]
    deliver_on = {"moto": Moto(), "emulator": Emulator()}
    sweep_on = {"moto": deliver_on["moto"], "emulator": Emulator(seconds_scale=SWEEP_SCALE)}
    engines = [deliver_on["moto"], deliver_on["emulator"], *([sweep_on["emulator"]] if sweep else [])]
    ticks = tmp_path_factory.mktemp("ticks")
    executions: dict[str, Execution] = {}

    def prepare(name: str) -> None:
        hold = deliver_on[name].function("hold", HOLD)
        for item, mark in deliver:
            if item.callspec.params["engine"] == name:
                executions[item.nodeid] = Delivery(deliver_on[name], hold, **mark.kwargs)
        for item, mark in sweep:
            if item.callspec.params["engine"] == name:
                executions[item.nodeid] = SweepRun(sweep_on[name], ticks, **mark.kwargs)

    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        for engine in engines:
            stack.callback(engine.stop)
        list(threads.map(lambda engine: engine.start(), engines))
        list(threads.map(prepare, ENGINES))
        now = (datetime.now(UTC) + timedelta(seconds=LEAD_SECONDS)).replace(microsecond=0)
        # Not all in the same second.
        starts = [now + timedelta(seconds=number % SPREAD_SECONDS) for number in range(len(executions))]
        list(threads.map(lambda execution, start: execution.start(start), executions.values(), starts))
        yield executions
        for execution in executions.values():
            execution.wait()


@pytest.fixture
def outcome(request: pytest.FixtureRequest, running: dict[str, Execution], engine: str) -> Any:
    """The execution that the test is marked with, when it has ended."""
    execution = running[request.node.nodeid]
    execution.wait()
    return execution


@pytest.fixture(name="evaluate")
def evaluator() -> Callable:
    """What evaluates JSONata, for a test that looks at one expression."""
    return evaluate
