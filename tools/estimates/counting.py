"""What one event of each kind makes the shipped code do: calls to AWS, states, and bytes of logs.

`count()` runs the functions' handlers and both state machines in this process, against moto.
"""

import contextlib
import io
import itertools
import json
import logging
import os
import sys
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any, Required, TypedDict
from unittest.mock import patch

from tools.estimates import template
from tools.estimates.environment import ACCOUNT, ENVIRONMENT, REGION, TOPIC_PREFIX

CALLS = template.ROOT / "tools/estimates/calls.json"
PAYLOAD_BYTES = 100
# So far ahead that events which Ingest parks are due for a sweep at once.
SWEEPER_HORIZON = timedelta(minutes=10)
# The item that an execution of Sweep writes when it starts, of a later one than any here.
SUCCESSOR = {
    "lane": {"S": "clock"},
    "sort_key": {"S": "latest"},
    "execution": {"S": "the next one"},
    "started_ms": {"N": "9999999999999"},
}
MANY = 320  # parked events in the largest sweep that is counted: some for every lane

# Believed, not counted: HTTP headers that AWS puts into the output of an SNS or DynamoDB task. moto leaves them out.
TASK_HEADER_BYTES = 650
# CloudWatch counts so many bytes beside each log event. (https://aws.amazon.com/cloudwatch/pricing/)
LOG_OVERHEAD_BYTES = 26
# The fields that Express writes around the details of a log event.
LOG_FIELDS = {
    "id": "10",
    "type": "",
    "details": {},
    "previous_event_id": "10",
    "event_timestamp": "1700000000000",
    "execution_arn": f"arn:aws:states:{REGION}:{ACCOUNT}:express:punctual-Deliver-abcdefghijkl:"
    "01234567-89ab-cdef-0123-456789abcdef:01234567-89ab-cdef-0123-456789abcdef",
    "redrive_count": "0",
}
# The log events that Express writes at level ERROR.
LOGGED_AT_ERROR = ("ExecutionFailed", "TaskFailed", "ExecutionTimedOut", "ExecutionAborted", "FailStateEntered")
REQUEST_ID = "01234567-89ab-cdef-0123-456789abcdef"


class ExecutionCount(TypedDict, total=False):
    """One execution."""

    status: str
    deliver: dict[str, int]  # calls, by "service:operation"
    states: list[str]
    deliver_log_events: int
    deliver_log_bytes: int  # at level ALL
    deliver_error_log_bytes: int  # at level ERROR


class EventCount(ExecutionCount):
    """One message of a kind. The fields about an execution are absent if Ingest started none."""

    ingest: Required[dict[str, int]]  # calls of Ingest, by "service:Operation"
    item_bytes: Required[int]  # of its item in Parked; 0 if it was not parked
    message_bytes: Required[int]


class SweepCount(TypedDict):
    """Sweeps by the number of events that they found, as text."""

    lanes: int
    look_ahead_seconds: float  # after the horizon
    max_keys: int  # of a lane that a sweep looks at
    lane_rate: int  # events a second beyond which a lane is crowded
    calls: dict[str, dict[str, int]]
    function_log_bytes: dict[str, int]


class SweepExecutionCount(TypedDict):
    """One execution of the state machine Sweep whose successor starts a minute later."""

    calls: dict[str, int]  # by "service:operation"
    waits_seconds: float
    log_bytes: int  # at level ALL


class Counts(TypedDict):
    events: dict[str, EventCount]
    deliver_log_bytes_per_payload_byte: float
    payload_bytes: int
    function_log_bytes: dict[str, int]  # of one invocation of Ingest
    sweep: SweepCount
    sweep_executions: dict[str, SweepExecutionCount]  # by SweepIntervalSeconds
    metrics: list[str]


def load() -> Counts:
    """The counts as they were last written to calls.json."""
    counts: Counts = json.loads(CALLS.read_text())
    return counts


def save(counts: Counts) -> None:
    CALLS.write_text(json.dumps(counts, indent=2) + "\n")


def count() -> Counts:
    """Count again.

    Raises RuntimeError if the functions were imported before: their clients, made on import, would not reach moto.
    """
    if "punctual_core.clients" in sys.modules:
        raise RuntimeError("the functions are imported already: count in a process of its own")
    from moto import mock_aws

    with (
        warnings.catch_warnings(),
        patch.dict(os.environ, ENVIRONMENT),
        mock_aws(config={"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}),
        _state_machines_in_moto() as waits,
    ):
        warnings.simplefilter("ignore")  # Metrics that are flushed empty, and deprecations within moto.
        logging.getLogger("moto").setLevel(logging.CRITICAL)  # It logs each execution that fails, as one is meant to.
        return _Counter(waits).all()


@contextlib.contextmanager
def _state_machines_in_moto() -> Iterator[dict[str, float]]:
    """Gives moto a JSONata evaluator, which it lacks, and makes its Wait states end at once.

    Yields the longest wait of each Wait state, in seconds, by its name. At each wait, the next execution of Sweep has
    started.
    """
    import boto3
    import jsonata  # type: ignore[import-untyped]  # it has no type information
    from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
    from moto.stepfunctions.parser.asl.jsonata import jsonata as bridge

    waits: dict[str, float] = {}

    def wait(self: WaitFunction, env: Any, wait_seconds: float) -> None:
        waits[env.next_state_name] = max(waits.get(env.next_state_name, 0), wait_seconds)
        boto3.client("dynamodb").put_item(TableName=ENVIRONMENT["PARKED_TABLE"], Item=SUCCESSOR)

    with (
        patch.object(bridge, "_eval_jsonata", lambda expression: jsonata.Jsonata(expression).evaluate(None)),
        patch.object(WaitFunction, "_wait_interval", wait),
    ):
        yield waits


class _Counter:
    """One run. All of its resources are in moto."""

    def __init__(self, waits: dict[str, float]):
        import boto3

        self.waits = waits
        self.calls: Counter[str] = Counter()
        self.item_bytes = 0
        self.output = io.StringIO()
        self.are_executions_started = True
        self.metrics: set[str] = set()
        self.ids = itertools.count()
        self.machines: dict[str, str] = {}
        self.stepfunctions = boto3.client("stepfunctions")
        for topic in ("input", "orders", "failures"):
            boto3.client("sns").create_topic(Name=f"punctual-{topic}")
        for queue in ("input", "undelivered"):
            boto3.client("sqs").create_queue(QueueName=queue)
        for table in ("Parked", "Register"):
            given = ("BillingMode", "AttributeDefinitions", "KeySchema")
            properties = {name: template.properties(table)[name] for name in given}
            boto3.client("dynamodb").create_table(TableName=table, **properties)
        self.machines["Deliver"] = self._create_state_machine("Deliver", HoldArn=self._create_function("Hold"))
        sweeper_arn = self._create_function("Sweeper")
        for interval in template.allowed_values("SweepIntervalSeconds"):
            self.machines[interval] = self._create_state_machine(
                "Sweep", SweeperArn=sweeper_arn, SweepIntervalSeconds=interval
            )

        from punctual_core import clients

        # botocore-stubs want a handler of any keywords; this one names those that it reads.
        clients._session.register("before-call", self._on_call)  # type: ignore[arg-type]
        # Imported only now: their clients, made on import, are counted; their logger writes to `output`.
        with contextlib.redirect_stdout(self.output):
            from punctual_core import ingest

            os.environ["HORIZON_SECONDS"] = str(int(SWEEPER_HORIZON.total_seconds()))
            from punctual_core import sweeper
        self.ingest: ModuleType = ingest
        self.sweeper: ModuleType = sweeper

    def all(self) -> Counts:
        now = datetime.now(UTC).replace(microsecond=0)
        # Due already: Wait states end at once here, and Deliver refuses to publish early.
        near, fraction = (now - timedelta(seconds=2)).isoformat(), (now - timedelta(milliseconds=250)).isoformat()
        far = (now + timedelta(hours=12)).isoformat()
        messages = {
            "near": _message(date=near),
            "near, fraction": _message(date=fraction),
            "near, named": _message(date=near, id="order-4711"),
            "far": _message(date=far),
            "far, named": _message(date=far, id="order-4712"),
            "not delivered": _message(date=near, target=f"{TOPIC_PREFIX}deleted"),
            "refused": _message(date="soon"),
            "cancel": {"cancel": "order-4713"},
        }
        events = {kind: self._count_event(message) for kind, message in messages.items()}
        longer = self._count_event(_message(date=near, payload="x" * (PAYLOAD_BYTES + 1000)))
        log_bytes_of_1000 = longer["deliver_log_bytes"] - events["near"]["deliver_log_bytes"]
        return {
            "events": events,
            "deliver_log_bytes_per_payload_byte": log_bytes_of_1000 / 1000,
            "payload_bytes": PAYLOAD_BYTES,
            "function_log_bytes": {f"batch of {size}": self._handle([_message(date=far)] * size) for size in (1, 10)},
            "sweep": self._count_sweeps(),
            "sweep_executions": {
                interval: self._count_sweep_execution(interval)
                for interval in template.allowed_values("SweepIntervalSeconds")
            },
            "metrics": sorted(self.metrics),
        }

    # Events

    def _count_event(self, message: Mapping[str, str]) -> EventCount:
        """One message through Ingest, and its execution if one is started."""
        self._reset()
        before = self._executions()
        self._handle([message])
        result: EventCount = {
            "ingest": dict(self.calls),
            "item_bytes": self.item_bytes,
            "message_bytes": len(json.dumps(message)),
        }
        new = self._executions() - before
        return {**result, **self._count_execution(new.pop())} if new else result

    def _count_execution(self, arn: str) -> ExecutionCount:
        while (state := self.stepfunctions.describe_execution(executionArn=arn))["status"] == "RUNNING":
            time.sleep(0.02)
        history = self.stepfunctions.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        tasks = Counter(
            f"{details['resourceType']}:{details['resource']}"
            for event in history
            if (details := event.get("taskScheduledEventDetails"))
        )
        logged = [(event["type"], _log_bytes(event)) for event in history]
        return {
            "status": state["status"],
            "deliver": dict(tasks),
            "states": [details["name"] for event in history if (details := event.get("stateEnteredEventDetails"))],
            "deliver_log_events": len(logged),
            "deliver_log_bytes": sum(size for _, size in logged),
            "deliver_error_log_bytes": sum(size for type, size in logged if type in LOGGED_AT_ERROR),
        }

    # Sweeps

    def _count_sweeps(self) -> SweepCount:
        """A sweep that finds nothing, one that finds one event, and one that finds many; no execution runs."""
        from punctual_core.lanes import LANES
        from punctual_core.sweeper import LANE_STARTS_PER_SECOND, LOOK_AHEAD, MAX_KEYS_AHEAD

        calls, log_bytes = {}, {}
        self.are_executions_started = False
        for events in (0, 1, MANY):
            date = (datetime.now(UTC) + SWEEPER_HORIZON / 2).isoformat()
            self._handle([_message(date=date)] * events)
            self._reset()
            with contextlib.redirect_stdout(self.output):
                swept = self.sweeper.handler({}, _context("Sweeper"))
            assert (swept["started"], swept["failed"]) == (events, 0), swept
            calls[str(events)] = dict(self.calls)
            log_bytes[str(events)] = self._take_log_bytes()
        self.are_executions_started = True
        return {
            "lanes": LANES,
            "look_ahead_seconds": LOOK_AHEAD.total_seconds(),
            "max_keys": MAX_KEYS_AHEAD,
            "lane_rate": LANE_STARTS_PER_SECOND,
            "calls": calls,
            "function_log_bytes": log_bytes,
        }

    def _count_sweep_execution(self, interval: str) -> SweepExecutionCount:
        self.waits.clear()
        started = self.stepfunctions.start_execution(stateMachineArn=self.machines[interval], input="{}")
        run = self._count_execution(started["executionArn"])
        return {
            "calls": run["deliver"],
            "waits_seconds": sum(self.waits.values()),
            "log_bytes": run["deliver_log_bytes"],
        }

    # Handlers

    def _handle(self, messages: Iterable[Mapping[str, str]]) -> int:
        """Hand the messages to Ingest as SQS does. Returns the bytes that it logged."""
        if records := [self._record(message) for message in messages]:
            with contextlib.redirect_stdout(self.output):
                answer = self.ingest.handler({"Records": records}, _context("Ingest"))
            assert answer == {"batchItemFailures": []}, answer
        return self._take_log_bytes()

    def _record(self, message: Mapping[str, str]) -> dict[str, Any]:
        notification = {
            "Message": json.dumps(message),
            # Derived from a number, so that the same events get into the same lanes in every count.
            "MessageId": str(uuid.uuid5(uuid.NAMESPACE_OID, str(next(self.ids)))),
            "Timestamp": datetime.now(UTC).isoformat(),
        }
        return {
            "messageId": REQUEST_ID,
            "receiptHandle": "handle",
            "attributes": {"SentTimestamp": f"{time.time() * 1000:.0f}", "ApproximateReceiveCount": "1"},
            "body": json.dumps(notification),
        }

    def _take_log_bytes(self) -> int:
        """What an invocation has logged, as CloudWatch counts it. Notes the metrics in it, and empties `output`.

        Lambda's own lines are not in it: SystemLogLevel is WARN (template.yaml).
        """
        lines = self.output.getvalue().splitlines(keepends=True)
        self.output.seek(0)
        self.output.truncate()
        for line in lines:
            namespaces = json.loads(line).get("_aws", {}).get("CloudWatchMetrics", [])
            self.metrics.update(metric["Name"] for namespace in namespaces for metric in namespace["Metrics"])
        return sum(len(line) + LOG_OVERHEAD_BYTES for line in lines)

    def _reset(self) -> None:
        self.calls.clear()
        self.item_bytes = 0

    def _on_call(self, model: Any, params: dict[str, Any], **_: object) -> tuple[Any, dict[str, Any]] | None:
        """Called by botocore before each call of the functions; answers the call if it returns something."""
        call = f"{model.service_model.service_name}:{model.name}"
        self.calls[call] += 1
        if call == "dynamodb:PutItem":
            item = json.loads(params["body"])["Item"]
            self.item_bytes = sum(len(name) + len(value["S"].encode()) for name, value in item.items())
        if call == "stepfunctions:StartExecution" and not self.are_executions_started:
            return SimpleNamespace(status_code=200), {}
        return None

    # Resources in moto

    def _create_function(self, name: str) -> str:
        import boto3

        role = boto3.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        function = boto3.client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=role,
            Handler="not.run",
            Code={"ZipFile": b"moto answers in its place"},
        )
        return str(function["FunctionArn"])

    def _create_state_machine(self, name: str, **substitutions: str) -> str:
        definition = (template.ROOT / f"statemachines/{name.lower()}.asl.json").read_text()
        substitutions |= {
            "RegisterTable": ENVIRONMENT["REGISTER_TABLE"],
            "ParkedTable": ENVIRONMENT["PARKED_TABLE"],
            "FailureTopicArn": ENVIRONMENT["FAILURE_TOPIC_ARN"],
            "UndeliveredUrl": ENVIRONMENT["UNDELIVERED_URL"],
        }
        for key, value in substitutions.items():
            definition = definition.replace(f"${{{key}}}", value)
        machine = self.stepfunctions.create_state_machine(
            name=f"{name}{substitutions.get('SweepIntervalSeconds', '')}",
            definition=definition,
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/punctual-{name}Role",
        )
        return str(machine["stateMachineArn"])

    def _executions(self) -> set[str]:
        listed = self.stepfunctions.list_executions(stateMachineArn=self.machines["Deliver"])["executions"]
        return {execution["executionArn"] for execution in listed}


def _message(**fields: str) -> dict[str, str]:
    return {"target": f"{TOPIC_PREFIX}orders", "payload": "x" * PAYLOAD_BYTES, "user": "team@example.com"} | fields


def _context(function: str) -> SimpleNamespace:
    """What Lambda tells a handler of its invocation."""
    return SimpleNamespace(
        function_name=f"punctual-{function}",
        memory_limit_in_mb=1024,
        invoked_function_arn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:punctual-{function}",
        aws_request_id=REQUEST_ID,
        get_remaining_time_in_millis=lambda: 30000,
    )


def _log_bytes(event: Mapping[str, Any]) -> int:
    """The size of the log event that Express writes for one event of a history, as CloudWatch counts it."""
    details: Mapping[str, Any] = next((value for name, value in event.items() if name.endswith("EventDetails")), {})
    line = LOG_FIELDS | {"type": event["type"], "details": details}
    size = len(json.dumps(line, separators=(",", ":")).encode()) + LOG_OVERHEAD_BYTES
    if event["type"] == "TaskSucceeded" and details.get("resourceType") in ("sns", "dynamodb"):
        size += TASK_HEADER_BYTES
    return size
