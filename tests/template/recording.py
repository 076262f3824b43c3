"""What the functions and state machines ask of AWS, and the metrics of the functions.

The functions' shipped handlers run on moto, and every way through them is taken. Of the state machines, each task is
read as it is deployed.
"""

import json
import uuid
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from io import StringIO
from typing import Any
from unittest.mock import patch

from punctual_core import ingest, probe, sweeper
from punctual_core.clients import client
from punctual_core.lanes import lanes

from tests.conftest import OWN_FAILURE_TOPIC, Cloud, LambdaContext, cloud_of_the_stack, event, record
from tests.template.iam import action_of
from tools.cloudformation import Template

TEMPLATE = Template()
# The name, URL or ARN by which a call names a resource -> its ARN.
ARNS = {OWN_FAILURE_TOPIC: OWN_FAILURE_TOPIC} | {
    name: TEMPLATE.arn(id)
    for type in ("DynamoDB::Table", "SQS::Queue", "SNS::Topic", "Serverless::Function", "Serverless::StateMachine")
    for id in TEMPLATE.deployed(f"AWS::{type}")
    for name in (TEMPLATE.resolve({"Ref": id}), TEMPLATE.arn(id))
}


@dataclass
class Recording:
    """What one function or state machine did: the actions and resources (ARNs) that IAM decides about, and the metrics
    with their units."""

    calls: set[tuple[str, str]] = field(default_factory=set)
    metrics: dict[str, str] = field(default_factory=dict)

    def add(self, service: str, operation: str, arguments: dict) -> None:
        """Note one call of an operation of a service, by their names in IAM and in botocore's service model."""
        names = (*arguments.values(), *arguments.get("RequestItems", ()))
        resources = {ARNS[name] for name in names if isinstance(name, str) and name in ARNS}
        assert resources, f"{operation} of what? {arguments}"
        self.calls |= {(action_of(service, operation), resource) for resource in resources}

    def run(self, cloud: Cloud, handler: Callable[[dict, Any], Any], event: dict) -> None:
        """Invoke a handler, and note what it calls and the metrics that it prints (CloudWatch's embedded metric
        format)."""
        output = StringIO()
        cloud.requests.clear()
        with redirect_stdout(output), suppress(RuntimeError):
            handler(event, LambdaContext())
        for operation, arguments in cloud.requests:
            self.add(operation.service_model.signing_name, operation.name, arguments)
        for line in map(json.loads, output.getvalue().splitlines()):
            for directive in line["_aws"]["CloudWatchMetrics"] if "_aws" in line else ():
                # What alarms and dashboard expect. The service is the name of the stack.
                assert (directive["Namespace"], directive["Dimensions"]) == ("Punctual", [["service"]])
                self.metrics |= {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}


@cache
def of_functions() -> dict[str, Recording]:
    """What each function did in every situation that it knows."""
    without_pauses = patch("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    named = patch.dict("os.environ", AWS_LAMBDA_FUNCTION_NAME="Sweeper")
    with without_pauses, named, cloud_of_the_stack() as cloud:
        called = {"Ingest": _ingest(cloud), "Sweeper": _sweeper(cloud), "ProbeFunction": _probe(cloud)}
        # Hold calls nothing, and imports nothing that could (tests/functions/test_hold.py).
        return called | {"Hold": Recording()}


def _ingest(cloud: Cloud) -> Recording:
    recording, now = Recording(), datetime.now(UTC)
    far = now + timedelta(days=1)

    def take(message: Any, published_at: datetime = now) -> None:
        recording.run(cloud, ingest.handler, {"Records": [record(message, published_at)]})

    take(event(now))
    take(event(far, id="order-1"))
    take({"cancel": "order-1"}, now + timedelta(seconds=1))
    take({"cancel": "order-1"}, now - timedelta(seconds=1))  # Superseded.
    cloud.fail("Publish", "NotFound", status=404)
    take(event(far, failure_topic=OWN_FAILURE_TOPIC, payload=""))
    cloud.recover()
    cloud.fail("StartExecution")
    take(event(now))
    cloud.recover()
    return recording


def _sweeper(cloud: Cloud) -> Recording:
    recording = Recording()

    def sweep(**fields: str) -> None:
        """Sweep when there are events in some lanes, each retried for the first time."""
        for lane in lanes()[:4]:
            input = {"id": "a", "revision": "a", "publish": {"Message": "order"}, "event": fields}
            texts = {"lane": lane, "sort_key": f"2020-01-01T00:00:00.000000#{uuid.uuid4()}", "execution": "a"}
            item = {name: {"S": text} for name, text in (texts | {"input": json.dumps(input)}).items()}
            client("dynamodb").put_item(TableName="Parked", Item=item | {"retry": {"N": "1"}})
        recording.run(cloud, sweeper.handler, {})

    with patch.object(sweeper, "MANY_STARTS", 1):  # Each lane gets an invocation of its own.
        sweep()
    cloud.fail("Publish", "NotFound", status=404)
    cloud.fail("StartExecution", "InvalidExecutionInput", times=4)
    sweep(failure_topic=OWN_FAILURE_TOPIC)
    cloud.fail("StartExecution")
    sweep()
    cloud.recover()
    return recording


def _probe(cloud: Cloud) -> Recording:
    recording, now = Recording(), datetime.now(UTC).isoformat()
    attributes = {"scheduler-date": {"Type": "String", "Value": now}}
    recording.run(cloud, probe.handler, {"Records": [{"Sns": {"Timestamp": now, "MessageAttributes": attributes}}]})
    return recording


def of_machine(name: str) -> Recording:
    """What the tasks of a state machine ask for, but for Publish: an event names the topic."""
    recording, items = Recording(), []
    json.loads(TEMPLATE.definition(name), object_hook=lambda item: items.append(item) or item)
    for state in items:
        if state.get("Type") == "Task" and not state["Resource"].endswith("sns:publish"):
            # As in arn:aws:states:::dynamodb:putItem
            service, operation = state["Resource"].split(":::")[1].split(":")
            recording.add(service, operation[0].upper() + operation[1:], state["Arguments"])
    return recording
