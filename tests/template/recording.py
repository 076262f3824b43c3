"""What the functions and state machines do on AWS, recorded while they run: API calls, metrics, and items.

The functions' shipped handlers run on moto; every way through them is taken. The shipped definitions run on the
simulated clock; every task is.
"""

import json
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from io import StringIO
from typing import Any
from unittest.mock import patch

from botocore.client import BaseClient
from punctual_core.event import Event, Rules, parse

from tests.conftest import OWN_FAILURE_TOPIC, Cloud, LambdaContext, cloud_of_the_stack, event, record
from tests.workflows.simulation import Clock, Failed, Machine, Run
from tools.cloudformation import Template

TEMPLATE = Template()
# IAM's name for an operation where it is another one.
# (docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html)
IAM_ACTIONS = {"lambda:Invoke": "lambda:InvokeFunction"}


@dataclass(frozen=True)
class Call:
    """One call: the action and resource (ARN) that IAM decides about, and the partition key of a table's item."""

    action: str
    resource: str
    partition_key: str | None = None


@dataclass
class Recording:
    """What one function or state machine did."""

    calls: set[Call] = field(default_factory=set)
    # The arguments of each call of an operation, such as "UpdateItem".
    arguments: dict[str, list[dict]] = field(default_factory=dict)
    # The metrics in the output of a function, in CloudWatch's embedded metric format.
    metrics: list[dict] = field(default_factory=list)
    # A state machine's executions, and the states whose tasks they executed.
    runs: list[Run] = field(default_factory=list)
    tasks: set[str] = field(default_factory=set)

    def add(self, service: str, operation: str, arguments: dict) -> None:
        """Note one call of an operation of a service, by their names in IAM and in botocore's service model."""
        action = IAM_ACTIONS.get(f"{service}:{operation}", f"{service}:{operation}")
        self.calls |= {Call(action, resource, _partition_key(arguments)) for resource in _resources(arguments)}
        self.arguments.setdefault(operation, []).append(arguments)


def _resources(arguments: dict) -> Iterator[str]:
    """The ARNs of what a call is about."""
    tables = [arguments["TableName"]] if "TableName" in arguments else arguments.get("RequestItems", [])
    for name in tables:
        [table] = [id for id in TEMPLATE.deployed("AWS::DynamoDB::Table") if TEMPLATE.resolve({"Ref": id}) == name]
        yield TEMPLATE.arn(table)
    if url := arguments.get("QueueUrl"):
        [queue] = [id for id in TEMPLATE.deployed("AWS::SQS::Queue") if TEMPLATE.resolve({"Ref": id}) == url]
        yield TEMPLATE.arn(queue)
    if name := arguments.get("FunctionName"):
        yield name if name.startswith("arn:") else TEMPLATE.arn(name)
    yield from filter(None, (arguments.get("TopicArn"), arguments.get("stateMachineArn")))


def _partition_key(arguments: dict) -> str | None:
    key = arguments.get("Key") or arguments.get("Item") or {}
    return next((key[name]["S"] for name in ("lane", "id") if name in key), None)


# --- Functions --------------------------------------------------------------------------------------------------------


@cache
def of_functions() -> dict[str, Recording]:
    """What each function did in every situation that it knows."""
    with ExitStack() as stack:
        stack.enter_context(patch("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0))
        stack.enter_context(patch.dict("os.environ", AWS_LAMBDA_FUNCTION_NAME="Sweeper"))
        cloud = stack.enter_context(cloud_of_the_stack())
        return {
            "Ingest": _ingest_in_every_situation(cloud),
            "Sweeper": _sweeper_in_every_situation(cloud),
            "Hold": _hold(),
            "ProbeFunction": _probe(),
        }


def _run(recording: Recording, handler: Callable[[dict, Any], Any], event: dict) -> None:
    """Invoke a handler, and note what it calls and prints."""
    make_call = BaseClient._make_api_call

    def noted(client: Any, operation: str, arguments: dict) -> Any:
        recording.add(client.meta.service_model.signing_name, operation, arguments)
        return make_call(client, operation, arguments)

    output = StringIO()
    with patch.object(BaseClient, "_make_api_call", noted), redirect_stdout(output), suppress(RuntimeError):
        handler(event, LambdaContext())
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    recording.metrics += [line for line in lines if "_aws" in line]


def _ingest_in_every_situation(cloud: Cloud) -> Recording:
    from punctual_core import ingest

    recording, now = Recording(), datetime.now(UTC)
    far = now + timedelta(days=1)

    def take(message: Any, published_at: datetime = now) -> None:
        _run(recording, ingest.handler, {"Records": [record(message, published_at)]})

    take(event(now))
    take(event(far))
    take(event(far, id="order-1"))
    take({"cancel": "order-1"}, now + timedelta(seconds=1))
    take({"cancel": "order-1"}, now - timedelta(seconds=1))  # Superseded.
    take("not an event")
    take(event(far, failure_topic=OWN_FAILURE_TOPIC, payload=""))
    cloud.fail("Publish", "NotFound", status=404)
    take("not an event")
    cloud.recover()
    cloud.fail("StartExecution")
    take(event(now))
    cloud.recover()
    return recording


def _sweeper_in_every_situation(cloud: Cloud) -> Recording:
    from punctual_core import sweeper
    from punctual_core.clients import client
    from punctual_core.lanes import lanes

    recording = Recording()

    def sweep(**fields: str) -> None:
        """Sweep when there are events in some lanes, each tried for the second time."""
        for lane in lanes()[:4]:
            item = {
                "lane": {"S": lane},
                "sort_key": {"S": f"2020-01-01T00:00:00.000000#{uuid.uuid4()}"},
                "execution": {"S": str(uuid.uuid4())},
                "input": {"S": json.dumps({"id": "a", "publish": {"Message": "order"}, "event": fields})},
                "attempt": {"N": "1"},
            }
            client("dynamodb").put_item(TableName=TEMPLATE.resolve({"Ref": "Parked"}), Item=item)
        _run(recording, sweeper.handler, {})

    # As if one event were a burst.
    with patch.multiple("punctual_core.sweeper", MAX_STARTS_BEFORE_HELPERS=1, MAX_BATCHES_IN_FLIGHT=1):
        sweep()
    cloud.fail("StartExecution", "InvalidExecutionInput")
    sweep()
    sweep(failure_topic=OWN_FAILURE_TOPIC)
    cloud.fail("Publish", "NotFound", status=404)
    sweep()
    cloud.recover()
    cloud.fail("StartExecution")
    sweep()
    cloud.recover()
    return recording


def _hold() -> Recording:
    from punctual_core import hold

    recording = Recording()
    _run(recording, hold.handler, {"due_ms": 0})
    return recording


def _probe() -> Recording:
    from punctual_core import probe

    recording, now = Recording(), datetime.now(UTC).isoformat()
    attributes = {"scheduler-date": {"Type": "String", "Value": now}}
    _run(recording, probe.handler, {"Records": [{"Sns": {"Timestamp": now, "MessageAttributes": attributes}}]})
    return recording


# --- State machines ---------------------------------------------------------------------------------------------------


@cache
def of_machines() -> dict[str, Recording]:
    """What each state machine's tasks do, in executions that between them come to every task."""
    return {"Deliver": _deliver_in_every_situation(), "Sweep": _sweep()}


class _Tasks:
    """Answers the tasks of executions of one machine, and notes them."""

    def __init__(self, machine: str):
        self.recording, self._definition = Recording(), TEMPLATE.definition(machine)
        self._states = dict(_states(json.loads(self._definition)))

    def execute(self, input: dict, answer: Callable[[str], dict]) -> None:
        """Run one execution; `answer` gives the result of a state's task, or raises `Failed`."""

        def call(state: str, arguments: dict) -> tuple[dict, float]:
            # As in arn:aws:states:::dynamodb:putItem
            service, operation = self._states[state]["Resource"].split(":::")[1].split(":")
            self.recording.tasks.add(state)
            self.recording.add(service, operation[0].upper() + operation[1:], arguments)
            return answer(state), 0.02

        clock = Clock(0)
        run = Run(f"execution-{len(self.recording.runs)}", 0)
        self.recording.runs.append(run)
        clock.start(Machine(self._definition, clock, call, random.Random(0)).execute(run, input))
        clock.run(float("inf"))

    @property
    def all(self) -> set[str]:
        """The states that have a task."""
        return {name for name, state in self._states.items() if state["Type"] == "Task"}


def _states(machine: dict) -> Iterator[tuple[str, dict]]:
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from _states(state["ItemProcessor"])


def _deliver_in_every_situation() -> Recording:
    tasks = _Tasks("Deliver")
    own_topic = {"failure_topic": OWN_FAILURE_TOPIC}
    everything_fails = dict.fromkeys(tasks.all, "SNS.NotFoundException")
    situations: list[tuple[dict, dict]] = [
        ({}, {}),
        ({}, {"Publish": "SNS.InternalErrorException"}),
        ({}, everything_fails),
        (own_topic, everything_fails),
    ]
    for fields, errors in situations:

        def answer(state: str, errors: dict = errors) -> dict:
            if state in errors:
                raise Failed(errors[state])
            return {"MessageId": "m-1"}

        message = json.dumps(event(datetime.fromtimestamp(0.5, UTC), **fields))
        rules = Rules(TEMPLATE.arn("InputTopic"), ("*",))
        parsed = parse(message, str(uuid.uuid4()), datetime.fromtimestamp(0, UTC), rules)
        assert isinstance(parsed, Event)
        tasks.execute(json.loads(parsed.input), answer)
    assert tasks.recording.tasks == tasks.all
    return tasks.recording


def _sweep() -> Recording:
    tasks = _Tasks("Sweep")
    tasks.execute({}, lambda state: {"Payload": {}})
    assert tasks.recording.tasks == tasks.all
    return tasks.recording
