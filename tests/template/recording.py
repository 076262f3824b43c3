"""What the functions and state machines do on AWS, recorded while they run: API calls and metrics.

The functions' shipped handlers run on moto; every way through them is taken. The shipped definitions run on the
simulated clock; every task is executed.
"""

import json
import random
import re
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
from punctual_core.lanes import lanes

from tests.conftest import OWN_FAILURE_TOPIC, Cloud, LambdaContext, cloud_of_the_stack, event, record
from tests.workflows.simulation import Clock, Failed, Machine, Run
from tools.cloudformation import Template

TEMPLATE = Template()
# IAM's name for an operation where it is another one.
# (docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html, list_amazonsqs.html)
IAM_ACTIONS = {
    "lambda:Invoke": "lambda:InvokeFunction",
    **{f"sqs:{name}Batch": f"sqs:{name}" for name in ("ChangeMessageVisibility", "DeleteMessage", "SendMessage")},
}


@dataclass(frozen=True)
class Call:
    """One call: the action and resource (ARN) that IAM decides about, and of a table the partition keys and names of
    attributes, which policies may compare."""

    action: str
    resource: str
    leading_keys: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    @property
    def contexts(self) -> Iterator[dict[str, Any]]:
        """The condition keys of this call in each lane, whichever it was recorded in."""
        common = {"aws:SecureTransport": "true"}
        if not self.leading_keys:
            yield common
        for lane in lanes() if self.leading_keys else ():
            keys = [re.sub(r"lane-\d\d", lane, key) for key in self.leading_keys]
            yield common | {"dynamodb:LeadingKeys": keys, "dynamodb:Attributes": [*self.attributes]}


@dataclass
class Recording:
    """What one function or state machine did."""

    calls: set[Call] = field(default_factory=set)
    # The metrics that a function emitted, with their units.
    metrics: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    tasks: set[str] = field(default_factory=set)  # The states whose tasks were executed.

    def add(self, service: str, operation: str, arguments: dict) -> None:
        """Note one call of an operation of a service, by their names in IAM and in botocore's service model."""
        action = IAM_ACTIONS.get(f"{service}:{operation}", f"{service}:{operation}")
        keys, attributes = (), ()
        if service == "dynamodb":
            keys, attributes = tuple(sorted({*_leading_keys(arguments)})), tuple(sorted(_attributes(arguments)))
            assert keys, f"no partition key in {arguments}"
        self.calls |= {Call(action, resource, keys, attributes) for resource in _resources(arguments)}

    @property
    def topics(self) -> set[str]:
        """The topics that were published to."""
        return {call.resource for call in self.calls if call.action == "sns:Publish"}


def _resources(arguments: dict) -> Iterator[str]:
    """The ARNs of what a call is about."""
    for type, names in (
        ("AWS::DynamoDB::Table", [arguments.get("TableName"), *arguments.get("RequestItems", [])]),
        ("AWS::SQS::Queue", [arguments.get("QueueUrl")]),
        ("AWS::Serverless::Function", [arguments.get("FunctionName")]),
    ):
        for id in TEMPLATE.deployed(type):
            if {TEMPLATE.resolve({"Ref": id}), TEMPLATE.arn(id)} & {*names}:
                yield TEMPLATE.arn(id)
    yield from filter(None, (arguments.get("TopicArn"), arguments.get("stateMachineArn")))


def _leading_keys(arguments: dict) -> Iterator[str]:
    writes = [write for table in arguments.get("RequestItems", {}).values() for write in table]
    found = [arguments.get("Key"), arguments.get("Item"), *(write["DeleteRequest"]["Key"] for write in writes)]
    yield from (item[name]["S"] for item in found if item for name in ("lane", "id") if name in item)
    if match := re.match(r"lane = (:\w+)", arguments.get("KeyConditionExpression", "")):
        yield arguments["ExpressionAttributeValues"][match[1]]["S"]


def _attributes(arguments: dict) -> set[str]:
    expressions = " ".join(text for name, text in arguments.items() if name.endswith("Expression"))
    assert "#" not in expressions
    named = {*re.findall(r"(?<![:\w])[a-z_]+\b(?!\()", expressions)}
    return named | {*arguments.get("Key", {})} | {*arguments.get("Item", {})}


# --- Functions --------------------------------------------------------------------------------------------------------


def emitted(function: str) -> dict[str, str]:
    """The metrics that a function emits, with their units."""
    return of_functions()[function].metrics


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
            "Hold": Recording(),  # It calls nothing, and imports nothing that could (tests/functions/test_hold.py).
            "ProbeFunction": _probe(),
        }


def _run(recording: Recording, handler: Callable[[dict, Any], Any], event: dict) -> None:
    """Invoke a handler, and note what it calls and the metrics that it prints (CloudWatch's embedded metric format)."""
    make_call = BaseClient._make_api_call

    def noted(client: Any, operation: str, arguments: dict) -> Any:
        recording.add(client.meta.service_model.signing_name, operation, arguments)
        return make_call(client, operation, arguments)

    output = StringIO()
    with patch.object(BaseClient, "_make_api_call", noted), redirect_stdout(output), suppress(RuntimeError):
        handler(event, LambdaContext())
    for line in map(json.loads, output.getvalue().splitlines()):
        for directive in line["_aws"]["CloudWatchMetrics"] if "_aws" in line else ():
            # What alarms and dashboard expect. The service is the name of the stack.
            assert (directive["Namespace"], directive["Dimensions"]) == ("Punctual", [["service"]])
            recording.metrics |= {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}


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

    recording = Recording()

    def sweep(**fields: str) -> None:
        """Sweep when there are events in some lanes, each retried for the first time."""
        for lane in lanes()[:4]:
            input = {"id": "a", "revision": "a", "publish": {"Message": "order"}, "event": fields}
            texts = {"lane": lane, "sort_key": f"2020-01-01T00:00:00.000000#{uuid.uuid4()}", "execution": "a"}
            item = {name: {"S": text} for name, text in (texts | {"input": json.dumps(input)}).items()}
            item["retry"] = {"N": "1"}
            client("dynamodb").put_item(TableName=TEMPLATE.resolve({"Ref": "Parked"}), Item=item)
        _run(recording, sweeper.handler, {})

    with patch.object(sweeper, "MANY_STARTS", 1):  # Each lane gets an invocation of its own.
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
    sweep = _Tasks("Sweep")
    sweep.execute({}, set())
    deliver = _Tasks("Deliver")
    for fails in (set(), {"Publish"}, deliver.all):
        for fields in ({}, {"failure_topic": OWN_FAILURE_TOPIC}):
            message = json.dumps(event(datetime.fromtimestamp(0.5, UTC), **fields))
            rules = Rules(TEMPLATE.arn("InputTopic"), ("*",))
            parsed = parse(message, str(uuid.uuid4()), datetime.fromtimestamp(0, UTC), rules)
            assert isinstance(parsed, Event)
            for error in ("SNS.NotFoundException", "SNS.InternalErrorException"):
                deliver.execute(json.loads(parsed.input), fails, error)
    for machine in (sweep, deliver):
        assert machine.recording.tasks == machine.all
    return {"Deliver": deliver.recording, "Sweep": sweep.recording}


class _Tasks:
    """Answers the tasks of executions of one machine, and notes them."""

    def __init__(self, machine: str):
        self.recording, self._definition = Recording(), TEMPLATE.definition(machine)
        self._states = dict(_states(json.loads(self._definition)))
        self.all = {name for name, state in self._states.items() if state["Type"] == "Task"}

    def execute(self, input: dict, fails: set[str], error: str = "") -> None:
        """Run one execution, in which these states' tasks fail with an error."""

        def call(state: str, arguments: dict) -> tuple[dict, float]:
            # As in arn:aws:states:::dynamodb:putItem
            service, operation = self._states[state]["Resource"].split(":::")[1].split(":")
            self.recording.tasks.add(state)
            self.recording.add(service, operation[0].upper() + operation[1:], arguments)
            if state in fails:
                raise Failed(error)
            return {"MessageId": "m-1", "Payload": {}}, 0.02

        clock, run = Clock(0), Run(str(len(self.recording.runs)), 0)
        self.recording.runs.append(run)
        clock.start(Machine(self._definition, clock, call, random.Random(0)).execute(run, input))
        clock.run(float("inf"))


def _states(machine: dict) -> Iterator[tuple[str, dict]]:
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from _states(state["ItemProcessor"])
