"""What Punctual costs: counted calls times published prices. Arithmetic, not a bill.

    python -m tools.estimates.cost --events 1000000 --interval 10 --logs ALL --far-share 0.9
    python -m tools.estimates.cost count      count again what the shipped code calls, into tools/estimates/calls.json
    python -m tools.estimates.cost document   renew the tables in docs/cost.md

`count` runs the shipped handlers and state machines against moto, in this process, and counts the calls, states and
bytes of one event of each kind. `tools/estimates/prices.json` holds the prices. What neither can tell is in ASSUMED.
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import json
import math
import os
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import yaml

ROOT = Path(__file__).resolve().parents[2]
CALLS, PRICES, DOCUMENT = (
    ROOT / "tools/estimates/calls.json",
    ROOT / "tools/estimates/prices.json",
    ROOT / "docs/cost.md",
)
DEFAULT_INTERVAL = 10
INTERVALS = (5, 10, 20, 30, 60)
MONTH_SECONDS = 30 * 24 * 3600

# What can't be counted here, with the reason for each. Nothing of this was measured on AWS by this project.
ASSUMED = {
    "ingest_seconds": 0.05,  # one batch, warm: parse, one call to AWS
    "probe_seconds": 0.06,  # a sweep that finds nothing: one query to a lane, side by side
    "start_seconds": 0.002,  # of a Sweeper's time to an event: it starts some 500 a second
    "hold_seconds": 1.0,  # 0.5 to 1.5: woken at a whole second, at least half a second before the event is due
    "deliver_seconds": 0.15,  # Deliver beyond its waits: five states, two calls, half of the 100 ms rounded up
    "express_gb": 0.0625,  # 64 MB, the least: definition and input are a few KB
    "sns_answer_bytes": 650,  # the HTTP headers that AWS puts into a task's output and moto does not
    "log_compression": 0.2,  # CloudWatch stores logs compressed
    "poller_requests": 5 * 3 / 60,  # a second: five pollers, long polls of 20 s
    "generations": 2,  # each minute's Sweep ticks for two
}
# Beside each log event CloudWatch counts 26 bytes. Express writes the event under these names.
LOG_OVERHEAD_BYTES = 26
LOG_ENVELOPE = {
    "id": "10",
    "type": "",
    "details": {},
    "previous_event_id": "10",
    "event_timestamp": "1700000000000",
    "execution_arn": "arn:aws:states:us-east-1:123456789012:express:punctual-Deliver-abcdefghijkl:"
    "01234567-89ab-cdef-0123-456789abcdef:01234567-89ab-cdef-0123-456789abcdef",
    "redrive_count": "0",
}
# What Lambda itself logs of each invocation.
REQUEST_ID = "01234567-89ab-cdef-0123-456789abcdef"
PLATFORM_LOG = (
    f"START RequestId: {REQUEST_ID} Version: $LATEST\n",
    f"END RequestId: {REQUEST_ID}\n",
    f"REPORT RequestId: {REQUEST_ID}\tDuration: 41.23 ms\tBilled Duration: 42 ms\tMemory Size: 1024 MB\t"
    "Max Memory Used: 101 MB\tXRAY TraceId: 1-01234567-89abcdef0123456789abcdef\tSegmentId: 0123456789abcdef\t"
    "Sampled: true\n",
)


# --- The template -----------------------------------------------------------------------------------------------------


class _Template(yaml.SafeLoader):
    """YAML in which CloudFormation's tags mean nothing."""


def _untagged(loader: yaml.Loader, _: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else node.value


_Template.add_multi_constructor("!", _untagged)


@cache
def template() -> dict:
    """template.yaml, its tags dropped."""
    return yaml.load((ROOT / "template.yaml").read_text(), _Template)


def horizon_of(interval: int) -> int:
    """Seconds before its due time within which an event is started, for sweeps `interval` seconds apart."""
    return int(template()["Mappings"]["Horizon"][str(interval)]["Seconds"])


# --- Counting: the shipped code, run against moto ---------------------------------------------------------------------

REGION, ACCOUNT = "us-east-1", "123456789012"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:punctual-"
PAYLOAD_BYTES = 100
MANY = 320
HORIZON = timedelta(seconds=20)


def count() -> dict:
    """Calls, states and bytes per event of each kind, and per sweep; from a run of the shipped code."""
    os.environ |= {
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "counted",
        "AWS_SECRET_ACCESS_KEY": "counted",
        "POWERTOOLS_SERVICE_NAME": "punctual",
        "INPUT_TOPIC_ARN": f"{TOPIC}input",
        "INPUT_QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/input",
        "UNDELIVERED_URL": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/undelivered",
        "TARGET_TOPIC_ARNS": f"arn:aws:sns:{REGION}:{ACCOUNT}:*",
        "FAILURE_TOPIC_ARN": f"{TOPIC}failures",
        "ENFORCE_USER": "true",
        "HORIZON_SECONDS": str(int(HORIZON.total_seconds())),
        "DELIVER_ARN": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:Deliver",
        "PARKED_TABLE": "Parked",
        "REGISTER_TABLE": "Register",
    }
    from moto import mock_aws

    settings = {"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}
    with warnings.catch_warnings(), mock_aws(config=settings), _state_machines_run_here() as waited:
        warnings.simplefilter("ignore")  # of a sweep without a metric, and what moto deprecates
        return _Count(waited).all()


@contextlib.contextmanager
def _state_machines_run_here():
    """moto with a JSONata evaluator, which it lacks, and Wait states that end at once; yields the seconds they would
    have waited."""
    import jsonata
    from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
    from moto.stepfunctions.parser.asl.jsonata import jsonata as bridge

    waited: list[float] = []
    former = bridge._eval_jsonata, WaitFunction._wait_interval
    bridge._eval_jsonata = lambda expression: jsonata.Jsonata(expression).evaluate(None)
    WaitFunction._wait_interval = lambda self, env, wait_seconds: waited.append(wait_seconds)
    try:
        yield waited
    finally:
        bridge._eval_jsonata, WaitFunction._wait_interval = former


class _Count:
    """One run. Everything it creates lives in moto."""

    def __init__(self, waited: list[float]):
        import boto3

        self.waited = waited
        self.machines: dict[str, str] = {}
        self.metrics: set[str] = set()
        self.ids = itertools.count()
        self.sns, self.sfn, self.dynamodb = (boto3.client(name) for name in ("sns", "stepfunctions", "dynamodb"))
        for topic in ("input", "orders", "failures"):
            self.sns.create_topic(Name=f"punctual-{topic}")
        for queue in ("input", "undelivered"):
            boto3.client("sqs").create_queue(QueueName=queue)
        resources = template()["Resources"]
        for table in ("Parked", "Register"):
            properties = resources[table]["Properties"]
            given = ("BillingMode", "AttributeDefinitions", "KeySchema")
            self.dynamodb.create_table(TableName=table, **{name: properties[name] for name in given})
        hold, sweeper = self._function("Hold"), self._function("Sweeper")
        self._state_machine("Deliver", "Register", hold)
        self._state_machine("Sweep", "Register", sweeper)

        from scheduler import clients

        self.calls: Counter[str] = Counter()
        self.item_bytes = 0
        clients._session.register("before-call", self._called)
        from scheduler import ingest, sweeper  # Their clients are made here, so in moto and counted.

        self.ingest, self.sweeper = ingest, sweeper

    def all(self) -> dict:
        now = datetime.now(UTC).replace(microsecond=0)
        near, far = (now + timedelta(seconds=12)).isoformat(), (now + timedelta(hours=12)).isoformat()
        fraction = (now + timedelta(seconds=12, milliseconds=250)).isoformat()
        messages = {
            "near": {"date": near},
            "near, fraction": {"date": fraction},
            "near, named": {"date": near, "id": "order-4711"},
            "far": {"date": far},
            "far, named": {"date": far, "id": "order-4712"},
            "not delivered": {"date": near, "target": f"{TOPIC}deleted"},
            "refused": {"date": "soon"},
            "cancel": None,
        }
        counted = {"events": {kind: self._event(message) for kind, message in messages.items()}}
        long = self._event({"date": near}, payload_bytes=PAYLOAD_BYTES + 1000)
        base = counted["events"]["near"]
        counted["deliver_log_bytes_per_payload_byte"] = (long["deliver_log_bytes"] - base["deliver_log_bytes"]) / 1000
        counted["payload_bytes"] = PAYLOAD_BYTES
        counted["function_log_bytes"] = {"batch of 1": self._ingest_log(1), "batch of 10": self._ingest_log(10)}
        counted["sweep"] = self._sweeps()
        counted["sweep_execution"] = self._sweep_execution()
        counted["metrics"] = sorted(self.metrics)
        return counted

    # -- one event of each kind

    def _event(self, fields: dict | None, payload_bytes: int = PAYLOAD_BYTES) -> dict:
        """One message through Ingest, and its execution if one is started."""
        message = {"cancel": "order-4713"} if fields is None else self._message(fields, payload_bytes)
        self._reset()
        started = self._executions()
        self._function_log(self._handle_messages([message]))
        result = {"ingest": dict(self.calls), "item_bytes": self.item_bytes, "message_bytes": len(json.dumps(message))}
        new = self._executions() - started
        if not new and result["item_bytes"]:  # Parked. Its execution is the same as a near one's.
            return result
        if new:
            result |= self._execution(new.pop())
        return result

    def _execution(self, arn: str) -> dict:
        """What an execution called, the states it entered, and the bytes it logs at level ALL and at ERROR."""
        while (state := self.sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
            time.sleep(0.02)
        history = self.sfn.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        tasks = Counter(
            f"{details['resourceType']}:{details['resource']}"
            for event in history
            if (details := event.get("taskScheduledEventDetails"))
        )
        logged = [(event["type"], _log_bytes(event)) for event in history]
        failures = ("ExecutionFailed", "TaskFailed", "ExecutionTimedOut", "ExecutionAborted", "FailStateEntered")
        return {
            "status": state["status"],
            "deliver": dict(tasks),
            "states": [event["stateEnteredEventDetails"]["name"] for event in history if _entered(event)],
            "deliver_log_events": len(logged),
            "deliver_log_bytes": sum(size for _, size in logged),
            "deliver_error_log_bytes": sum(size for type, size in logged if type in failures),
        }

    # -- sweeps

    def _sweeps(self) -> dict:
        """A sweep that finds nothing, one that finds one event, and one that finds many."""
        from scheduler.parking import BATCH_SIZE, LANES

        # The shipped Sweeper, but with nothing behind StartExecution, and told to look further ahead: its clock runs.
        shipped = self.sweeper.sweeper
        workflow = SimpleNamespace(start=lambda name, input: self.calls.update(["stepfunctions:StartExecution"]))
        self.sweeper.sweeper = dataclasses.replace(shipped, horizon=timedelta(minutes=10), workflow=workflow)
        found, logged = {}, {}
        for events in (0, 1, MANY):
            date = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
            self._handle_messages([self._message({"date": date})] * events)
            self._reset()
            written = io.StringIO()
            with contextlib.redirect_stdout(written):
                swept = self.sweeper.handler({}, self._context("Sweeper"))
            assert (swept["started"], swept["failed"]) == (events, 0), swept
            found[str(events)], logged[str(events)] = dict(self.calls), self._function_log(written.getvalue())
        self.sweeper.sweeper = shipped
        return {"lanes": LANES, "batch": BATCH_SIZE, "calls": found, "function_log_bytes": logged}

    def _sweep_execution(self) -> dict:
        """One execution of Sweep at the default interval: its ticks and what it logs."""
        self.waited.clear()
        arn = self.sfn.start_execution(stateMachineArn=self.machines["Sweep"], input="{}")["executionArn"]
        run = self._execution(arn)
        return {
            "interval": DEFAULT_INTERVAL,
            "invocations": run["deliver"].get("lambda:invoke", 0),
            "longest_wait_seconds": max(self.waited),
            "log_bytes": run["deliver_log_bytes"],
        }

    # -- the handlers

    def _ingest_log(self, messages: int) -> int:
        """Bytes that one invocation of Ingest logs."""
        date = (datetime.now(UTC) + timedelta(hours=12)).isoformat()
        return self._function_log(self._handle_messages([self._message({"date": date})] * messages))

    def _function_log(self, written: str) -> int:
        lines = written.splitlines(keepends=True)
        for line in lines:
            namespaces = json.loads(line).get("_aws", {}).get("CloudWatchMetrics", [])
            self.metrics.update(metric["Name"] for namespace in namespaces for metric in namespace["Metrics"])
        return sum(len(line) + LOG_OVERHEAD_BYTES for line in [*PLATFORM_LOG, *lines])

    def _handle_messages(self, messages: list[dict]) -> str:
        """The messages through Ingest's handler, as SQS hands them over. Returns what it wrote."""
        records = [
            {
                "messageId": REQUEST_ID,
                "receiptHandle": "handle",
                "attributes": {"SentTimestamp": f"{time.time() * 1000:.0f}", "ApproximateReceiveCount": "1"},
                "body": json.dumps(
                    {
                        "Message": json.dumps(message),
                        "MessageId": self._next_id(),
                        "Timestamp": datetime.now(UTC).isoformat(),
                    }
                ),
            }
            for message in messages
        ]
        if not records:
            return ""
        with contextlib.redirect_stdout(io.StringIO()) as written:
            answer = self.ingest.handler({"Records": records}, self._context("Ingest"))
        assert answer == {"batchItemFailures": []}, answer
        return written.getvalue()

    @staticmethod
    def _message(fields: dict, payload_bytes: int = PAYLOAD_BYTES) -> dict:
        return {"target": f"{TOPIC}orders", "payload": "x" * payload_bytes, "user": "team@example.com"} | fields

    @staticmethod
    def _context(function: str) -> SimpleNamespace:
        return SimpleNamespace(
            function_name=f"punctual-{function}",
            memory_limit_in_mb=1024,
            invoked_function_arn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:punctual-{function}",
            aws_request_id=REQUEST_ID,
            get_remaining_time_in_millis=lambda: 30000,
        )

    def _next_id(self) -> str:
        # Made of a number, so that the same events fall into the same lanes in every count.
        return str(uuid.uuid5(uuid.NAMESPACE_OID, str(next(self.ids))))

    # -- what runs in moto

    def _function(self, name: str) -> str:
        import boto3

        role = boto3.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        code = {"ZipFile": b"not run: moto answers for it"}
        function = boto3.client("lambda").create_function(
            FunctionName=name, Runtime="python3.13", Role=role, Handler="x.y", Code=code
        )
        return function["FunctionArn"]

    def _state_machine(self, name: str, table: str, function: str) -> None:
        definition = (ROOT / f"statemachines/{name.lower()}.asl.json").read_text()
        substitutions = {
            "RegisterTable": table,
            "HoldArn": function,
            "SweeperArn": function,
            "FailureTopicArn": os.environ["FAILURE_TOPIC_ARN"],
            "UndeliveredUrl": os.environ["UNDELIVERED_URL"],
            "SweepIntervalSeconds": str(DEFAULT_INTERVAL),
        }
        for key, value in substitutions.items():
            definition = definition.replace(f"${{{key}}}", value)
        role = f"arn:aws:iam::{ACCOUNT}:role/punctual-{name}Role"
        machine = self.sfn.create_state_machine(name=name, definition=definition, roleArn=role)
        self.machines[name] = machine["stateMachineArn"]

    def _executions(self) -> set[str]:
        return {
            execution["executionArn"]
            for execution in self.sfn.list_executions(stateMachineArn=self.machines["Deliver"])["executions"]
        }

    def _reset(self) -> None:
        self.calls.clear()
        self.item_bytes = 0

    def _called(self, model: object, params: dict, **_: object) -> None:
        service = model.service_model.service_name
        self.calls[f"{service}:{model.name}"] += 1
        if (service, model.name) == ("dynamodb", "PutItem"):
            item = json.loads(params["body"])["Item"]
            self.item_bytes = sum(len(name) + len(value["S"].encode()) for name, value in item.items())


def _entered(event: dict) -> bool:
    return "stateEnteredEventDetails" in event


def _log_bytes(event: dict) -> int:
    """What Express writes to CloudWatch Logs for one event of a history, as CloudWatch counts it."""
    details = next((value for name, value in event.items() if name.endswith("EventDetails")), {})
    line = LOG_ENVELOPE | {"type": event["type"], "details": details}
    size = len(json.dumps(line, separators=(",", ":")).encode()) + LOG_OVERHEAD_BYTES
    if event["type"] == "TaskSucceeded" and details.get("resourceType") in ("sns", "dynamodb"):
        size += ASSUMED["sns_answer_bytes"]
    return size


# --- Pricing ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Use:
    """A month's use of one stack, spread evenly over the month. Shares are of the events, from 0 to 1."""

    events: float = 1_000_000
    interval: int = DEFAULT_INTERVAL
    logs: str = "ALL"
    far_share: float = 1.0
    fraction_share: float = 0.0
    named_share: float = 0.0
    failed_share: float = 0.0
    payload_bytes: int = PAYLOAD_BYTES
    batch: int = 1  # messages to an invocation of Ingest: 1 at a few events a second, 10 at the most
    retention_days: int = 30
    architecture: str = "arm64"
    traced: bool = True

    @property
    def waited_seconds(self) -> float:
        """Seconds that an event waits in Express on average: from a sweep that may come at any moment between horizon
        and horizon minus interval; a near one is taken to be published anywhere within the horizon."""
        horizon = horizon_of(self.interval)
        return self.far_share * (horizon - self.interval / 2) + (1 - self.far_share) * horizon / 2


# What a counted call is on a bill, and at which price.
BILLED_AS = {
    "dynamodb:PutItem": ("Parked: write", "dynamodb_write"),
    "dynamodb:UpdateItem": ("Register: write", "dynamodb_write"),
    "dynamodb:getItem": ("Deliver: read of the register", "dynamodb_read"),
    "lambda:invoke": ("Hold: invocations", "lambda_request"),
    "sns:Publish": ("Failure reports", "sns_publish"),
    "sns:publish": ("Deliver: SNS publish", "sns_publish"),
    "sqs:sendMessage": ("Undelivered: send", "sqs_request"),
    "stepfunctions:StartExecution": ("Deliver: executions", "express_request"),
}
FUNCTIONS = ("Ingest", "Sweeper", "Hold")
GB_HOUR = "express_gb_hour"


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a bill: what for, whether it is paid without any event, how many units of which price, USD."""

    what: str
    idle: bool
    units: float
    price: str
    usd: float


def bill(use: Use, calls: dict, prices: dict) -> list[Line]:
    """A month of one stack, line by line."""
    units: Counter[tuple[str, bool, str]] = Counter()
    for idle, part in (False, _events_units(use, calls)), (True, _idle_units(use, calls)):
        for what, amount, price in part:
            units[what, idle, price] += amount
    # What falls in price with the month's whole amount is shared out by amount.
    whole: Counter[str] = Counter()
    for (_, _, price), amount in units.items():
        whole[price] += amount
    return [
        Line(what, idle, amount, price, usd(prices, price, whole[price]) * amount / whole[price])
        for (what, idle, price), amount in units.items()
        if amount
    ]


def usd(prices: dict, price: str, units: float) -> float:
    """What so many units a month cost."""
    entry = prices["prices"][price]
    if "tiers" not in entry:
        return max(0.0, units - entry.get("free", 0)) / entry["per"] * entry["usd"]
    total = 0.0
    for size, rate in entry["tiers"]:
        part = units if size is None else min(units, size)
        total, units = total + part * rate, units - part
    return total


def _events_units(use: Use, calls: dict) -> Iterator[tuple[str, float, str]]:
    n, kinds = use.events, calls["events"]
    memory = {name: template()["Resources"][name]["Properties"]["MemorySize"] / 1024 for name in FUNCTIONS}
    compute = f"lambda_gb_second_{use.architecture}"
    chunks = math.ceil((kinds["near"]["message_bytes"] + use.payload_bytes - PAYLOAD_BYTES) / 65536)

    yield "Input: SNS publish", n * chunks, "sns_publish"
    yield "Input: SQS send, receive, delete", n * chunks * (1 + 2 / use.batch), "sqs_request"
    yield "Ingest: invocations", n / use.batch, "lambda_request"
    yield "Ingest: compute", n / use.batch * ASSUMED["ingest_seconds"] * memory["Ingest"], compute
    log = calls["function_log_bytes"]["batch of 1" if use.batch == 1 else "batch of 10"]
    yield "Functions' logs", n / use.batch * log / 1e9, "log_ingested"

    # Ingest's calls, and what a far event adds: an item written, read and deleted, and its share of the sweep.
    for calls_of, share in _shares(use, kinds):
        for operation, times in calls_of["ingest"].items():
            what, price = BILLED_AS[operation]
            yield (
                what,
                n * share * times * (_item_units(calls_of, use) if operation == "dynamodb:PutItem" else 1),
                price,
            )
    far = n * use.far_share
    if far:
        item = kinds["far"]["item_bytes"] + use.payload_bytes - PAYLOAD_BYTES
        ticks = MONTH_SECONDS / use.interval
        lanes = calls["sweep"]["lanes"]
        hit = lanes * (1 - math.exp(-far / ticks / lanes))  # lanes with something due, at an even rate
        found_one, found_none = (Counter(calls["sweep"]["calls"][key]) for key in ("1", "0"))
        lease_writes = sum((found_one - found_none)[f"dynamodb:{call}Item"] for call in ("Update", "Delete"))
        yield "Deliver: executions", far, "express_request"
        yield "Parked: delete", far * _item_units(kinds["far"], use), "dynamodb_write"
        yield "Parked: leases on lanes", ticks * hit * lease_writes, "dynamodb_write"
        yield "Parked: read", far * item / 4096 + ticks * hit, "dynamodb_read"
        yield "Sweeper: compute", far * ASSUMED["start_seconds"] * memory["Sweeper"], compute

    # Deliver: the same for a near and a far event.
    held, failed = n * use.fraction_share, n * use.failed_share
    for name, times in ("near", n - held - failed), ("near, fraction", held), ("not delivered", failed):
        for operation, calls_each in kinds[name]["deliver"].items():
            what, price = BILLED_AS[operation]
            yield what, times * calls_each * chunks, price
        size = kinds[name]["deliver_log_bytes"] if use.logs == "ALL" else kinds[name]["deliver_error_log_bytes"]
        if use.logs == "ALL":
            size += calls["deliver_log_bytes_per_payload_byte"] * (use.payload_bytes - PAYLOAD_BYTES)
        logged = 0 if use.logs == "OFF" else times * size / 1e9
        yield "Executions' logs: taken in", logged, "log_ingested"
        yield "Executions' logs: kept", logged * ASSUMED["log_compression"] * use.retention_days / 30, "log_stored"
    yield "Deliver: waiting and running", n * _gb_hours(use.waited_seconds + ASSUMED["deliver_seconds"]), GB_HOUR
    yield "Hold: compute", held * ASSUMED["hold_seconds"] * memory["Hold"], compute
    if n:
        yield "Custom metrics", len(calls["metrics"]), "metric"
    if use.traced:  # X-Ray's default rule: the first trace of each second, and a twentieth of the others.
        rate = n / MONTH_SECONDS
        yield "Traces", MONTH_SECONDS * (min(rate, 1) + max(0, rate - 1) / 20), "trace"


def _idle_units(use: Use, calls: dict) -> Iterator[tuple[str, float, str]]:
    minutes, generations = MONTH_SECONDS / 60, ASSUMED["generations"]
    sweep = calls["sweep_execution"]
    sweeps = minutes * sweep["invocations"] * sweep["interval"] / use.interval
    compute = f"lambda_gb_second_{use.architecture}"
    sweeper_gb = template()["Resources"]["Sweeper"]["Properties"]["MemorySize"] / 1024
    yield "Clock", minutes, "scheduler_invocation"
    yield "Sweep: executions", minutes, "express_request"
    yield "Sweep: waiting", minutes * _gb_hours(60 * generations - use.interval), GB_HOUR
    if use.logs == "ALL":
        yield "Sweep: logs", minutes * sweep["log_bytes"] * sweep["interval"] / use.interval / 1e9, "log_ingested"
    yield "Sweeper: invocations", sweeps, "lambda_request"
    yield "Sweeper: compute", sweeps * ASSUMED["probe_seconds"] * sweeper_gb, compute
    yield "Sweeper: logs", sweeps * calls["sweep"]["function_log_bytes"]["0"] / 1e9, "log_ingested"
    yield "Sweeper: looks into lanes", sweeps * calls["sweep"]["calls"]["0"]["dynamodb:Query"] / 2, "dynamodb_read"
    yield "Input queue: polls", MONTH_SECONDS * ASSUMED["poller_requests"], "sqs_request"
    if use.traced:
        yield "Sweep: traces", minutes, "trace"
    alarms = sum(resource["Type"] == "AWS::CloudWatch::Alarm" for resource in template()["Resources"].values())
    yield "Alarms", alarms, "alarm"


def _shares(use: Use, kinds: dict) -> Iterator[tuple[dict, float]]:
    """The kinds of events as Ingest sees them, each with its share."""
    for kind, far in ("near", 1 - use.far_share), ("far", use.far_share):
        yield kinds[kind], far * (1 - use.named_share)
        yield kinds[f"{kind}, named"], far * use.named_share


def _item_units(kind: dict, use: Use) -> int:
    return math.ceil((kind["item_bytes"] + use.payload_bytes - PAYLOAD_BYTES) / 1024)


def _gb_hours(seconds: float) -> float:
    return seconds * ASSUMED["express_gb"] / 3600


def total(lines: list[Line], idle: bool | None = None) -> float:
    """USD of all lines, or only of those that are paid without any event, or only of the others."""
    return sum(line.usd for line in lines if idle in (None, line.idle))


# --- Others, on the same work -----------------------------------------------------------------------------------------


def others(events: float, prices: dict) -> dict[str, float]:
    """A month's USD for as many whole-second events elsewhere: from a publisher to an SNS topic."""

    def cost(price: str, units: float) -> float:
        return usd(prices, price, units)

    publish = cost("sns_publish", events)
    return {
        "EventBridge Scheduler (to the minute)": publish + cost("scheduler_invocation", events),
        "Step Functions Standard: Wait, Publish": publish + cost("standard_transition", 2 * events),
        # Its published code: SNS to a function; an item with a global index is put, updated and deleted (two writes
        # each); loader and scheduler work in hundreds; SQS in tens; the emitter sleeps half a second for ten events.
        "The predecessor": 2 * publish
        + cost("lambda_request", 1.1 * events)
        + cost("lambda_gb_second_x86_64", events * (0.05 + 0.5 / 10))
        + cost("dynamodb_write", 6 * events)
        + cost("dynamodb_read", events)
        + cost("sqs_request", 0.3 * events)
        + cost("log_ingested", events * 600 / 1e9),
    }


# --- Tables -----------------------------------------------------------------------------------------------------------


def tables(calls: dict, prices: dict) -> str:
    """Every table of docs/cost.md, as Markdown."""
    sections = [
        ("What a month costs", _by_volume(calls, prices)),
        ("Where the money goes: a million far events", _by_line(calls, prices)),
        ("Counted", _counted(calls)),
        ("The sweep interval", _by_interval(calls, prices)),
        ("The other levers", _by_lever(calls, prices)),
    ]
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in sections)


VOLUMES = (0, 1e6, 1e7, 1e8, 5e8)
LEAN = {"interval": 5, "logs": "ERROR", "traced": False}


def _by_volume(calls: dict, prices: dict) -> str:
    rows: dict[str, list[float]] = {"as shipped": [], "as shipped, near events only": []}
    rows |= {"lean: interval 5 s, logs ERROR, no X-Ray": []} | {name: [] for name in others(1, prices)}
    for events in VOLUMES:
        use = Use(events)
        for row, lines in zip(
            rows,
            (use, dataclasses.replace(use, far_share=0.0), dataclasses.replace(use, **LEAN)),
            strict=False,
        ):
            rows[row].append(total(bill(lines, calls, prices)))
        for name, cost in others(events, prices).items():
            rows[name].append(cost)
    heads = ["USD a month at", *("no event" if not n else f"{n / 1e6:,.0f} M" for n in VOLUMES)]
    return _markdown(
        heads,
        [[row, *(f"{cost:,.2f}" if cost < 100 else f"{cost:,.0f}" for cost in costs)] for row, costs in rows.items()],
    )


def _by_line(calls: dict, prices: dict) -> str:
    lines = sorted(bill(Use(), calls, prices), key=lambda line: (line.idle, -line.usd))
    rows = [
        [
            "idle" if line.idle else "events",
            line.what,
            f"{line.units:,.0f}" if line.units >= 1000 else f"{line.units:,.2f}",
            line.price,
            f"{line.usd:,.2f}",
        ]
        for line in lines
        if line.usd >= 0.005
    ]
    rows += [
        [kind, "**together**", "", "", f"**{total(lines, idle):,.2f}**"]
        for kind, idle in (("events", False), ("idle", True))
    ]
    return _markdown(["paid for", "what", "units", "price (`prices.json`)", "USD"], rows)


def _counted(calls: dict) -> str:
    def shown(counted: dict) -> str:
        return ", ".join(f"{times} {name.split(':')[1]}" for name, times in counted.items()) or "-"

    rows = [
        [
            kind,
            shown(each["ingest"]),
            shown(each.get("deliver", {})),
            str(len(each.get("states", [])) or "-"),
            f"{each['item_bytes'] or '-'}",
            f"{each.get('deliver_log_bytes', '-')}",
            f"{each.get('deliver_error_log_bytes', '-')}",
        ]
        for kind, each in calls["events"].items()
    ]
    for events, counted in calls["sweep"]["calls"].items():
        rows.append([f"a sweep that finds {events}", shown(counted), "", "", "", "", ""])
    heads = [
        "one",
        "calls of the function",
        "calls of Deliver",
        "states",
        "item, bytes",
        "log at ALL, bytes",
        "at ERROR",
    ]
    return _markdown(heads, rows)


def _by_interval(calls: dict, prices: dict) -> str:
    rows, former = [], None
    for interval in INTERVALS:
        use = Use(interval=interval)
        lines = bill(use, calls, prices)
        waiting = sum(line.usd for line in lines if line.what == "Deliver: waiting and running")
        idle = total(bill(dataclasses.replace(use, events=0), calls, prices))
        even = "-" if former is None else f"{(former[1] - idle) / (waiting - former[0]) * 1e6:,.0f}"
        former = waiting, idle
        totals = [total(bill(dataclasses.replace(use, events=n), calls, prices)) for n in (1e5, 1e6, 1e8)]
        rows.append(
            [
                f"{interval} s",
                f"{horizon_of(interval)} s",
                f"{use.waited_seconds:g} s",
                f"{waiting:.2f}",
                f"{idle:.2f}",
                even,
                *(f"{t:,.2f}" for t in totals),
            ]
        )
    heads = [
        "interval",
        "horizon",
        "waited in Express",
        "USD per million for that",
        "USD a month, idle",
        "far events a month below which it is cheaper than the row above",
        "USD at 0.1 M",
        "1 M",
        "100 M",
    ]
    return _markdown(heads, rows)


def _by_lever(calls: dict, prices: dict) -> str:
    levers = {
        "`SweepIntervalSeconds=5`": {"interval": 5},
        "`ExecutionLogLevel=ERROR`": {"logs": "ERROR"},
        "`Tracing=false`": {"traced": False},
        "`LogRetentionDays=1` instead of 30": {"retention_days": 1},
        "`Architecture=x86_64`": {"architecture": "x86_64"},
        "messages in batches of 10": {"batch": 10},
        "dates with a fraction, all": {"fraction_share": 1.0},
        "named events, all": {"named_share": 1.0},
        "payloads of 4 KB instead of 100 bytes": {"payload_bytes": 4096},
        "payloads of 200 KB": {"payload_bytes": 200 * 1024},
    }
    rows = []
    for name, change in levers.items():
        row = [name]
        for events in (1e6, 1e8):
            use = Use(events)
            difference = total(bill(dataclasses.replace(use, **change), calls, prices)) - total(
                bill(use, calls, prices)
            )
            row.append(f"{difference:+,.2f}")
        rows.append(row)
    return _markdown(["lever", "USD a month at 1 M", "at 100 M"], rows)


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows])


def renew(document: Path, text: str) -> None:
    """Put `text` between the two markers of a document."""
    head, rest = document.read_text().split(BEGIN)
    document.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


BEGIN, END = "<!-- made by a tool: begin -->", "<!-- made by a tool: end -->"


def _print(use: Use, calls: dict, prices: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    lines = sorted(bill(use, calls, prices), key=lambda line: (line.idle, -line.usd))
    table = Table(
        title=f"{use.events:,.0f} events a month, {prices['region']}, prices of {prices['date']} (arithmetic)"
    )
    for head in "paid for", "what", "units", "USD a month":
        table.add_column(head, justify="left" if head in ("paid for", "what") else "right")
    for line in lines:
        table.add_row("idle" if line.idle else "events", line.what, f"{line.units:,.1f}", f"{line.usd:,.2f}")
    table.add_section()
    table.add_row("", "together", "", f"{total(lines):,.2f}")
    if use.events:
        table.add_row("", "per million events, idle apart", "", f"{total(lines, False) / use.events * 1e6:,.2f}")
    Console().print(table)
    for name, cost in others(use.events, prices).items():
        print(f"{name}: {cost:,.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=["price", "count", "document"], default="price")
    parser.add_argument("--events", type=float, default=1e6, help="events a month")
    parser.add_argument(
        "--interval", type=int, choices=INTERVALS, default=DEFAULT_INTERVAL, help="SweepIntervalSeconds"
    )
    parser.add_argument("--logs", choices=["ALL", "ERROR", "FATAL", "OFF"], default="ALL", help="ExecutionLogLevel")
    for share in "far", "fraction", "named", "failed":
        parser.add_argument(f"--{share}-share", type=float, default=float(share == "far"), help="of the events, 0 to 1")
    parser.add_argument("--payload-bytes", type=int, default=PAYLOAD_BYTES)
    parser.add_argument("--batch", type=int, default=1, help="messages to an invocation of Ingest, 1 to 10")
    parser.add_argument("--retention-days", type=int, default=30, help="LogRetentionDays")
    parser.add_argument("--architecture", choices=["arm64", "x86_64"], default="arm64", help="Architecture")
    parser.add_argument("--no-traces", dest="traced", action="store_false", help="Tracing=false")
    arguments = vars(parser.parse_args())
    action = arguments.pop("action")
    prices = json.loads(PRICES.read_text())
    if action == "count":
        CALLS.write_text(json.dumps(count(), indent=2) + "\n")
    calls = json.loads(CALLS.read_text())
    if action == "document":
        renew(DOCUMENT, tables(calls, prices))
    elif action == "price":
        _print(Use(**arguments), calls, prices)


if __name__ == "__main__":
    main()
