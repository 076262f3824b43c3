"""The cost estimate multiplies what the shipped code calls and logs, and its sums are right."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from click.testing import CliRunner
from punctual_core import ingest as ingest_function

from tests.conftest import LambdaContext, at, event, record, sweep, take
from tests.workflows.simulation import Clock, Machine, Run
from tests.workflows.world import DELIVER, STATES, TEMPLATE
from tests.workflows.world import event as event_of
from tools import cost, counts
from tools.cloudformation import ACCOUNT, REGION, ROOT, Template
from tools.cost import month, price
from tools.counts import DELIVERED, INGESTED, PAYLOAD_BYTES

LONGER = 1_000 + PAYLOAD_BYTES
# CloudWatch counts so many bytes beside each log event. (https://aws.amazon.com/cloudwatch/pricing/)
LOG_OVERHEAD_BYTES = 26
# Believed, not counted: HTTP headers that AWS puts into the output of an SNS or DynamoDB task.
TASK_HEADER_BYTES = 650
# The fields that Express writes around the details of a log event.
UUID = ":01234567-89ab-cdef-0123-456789abcdef"
EXECUTION = f"arn:aws:states:us-east-1:123456789012:express:punctual-Deliver-abcdefghijkl{UUID}{UUID}"
LOG_FIELDS = {"id": "10", "previous_event_id": "10", "event_timestamp": "1700000000000", "redrive_count": "0"}


def payload(size: int) -> str:
    """So many bytes of JSON, two of nine of them quotation marks."""
    return json.dumps({f"item-{number:02}": f"ab-{number:02}" for number in range(99)}, separators=(",", ":"))[:size]


def message_of(kind: str, size: int = PAYLOAD_BYTES) -> dict:
    if kind == "cancel":
        return {"cancel": "order-4711"}
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=12 * kind.startswith("far"))
    named = {"id": "order-4711"} if "named" in kind else {}
    return event("soon" if kind == "refused" else due, payload=payload(size), **named)


@pytest.fixture
def ingest(cloud, capsys):
    """Hand a batch to Ingest. Returns its calls, and the lines that it logged."""

    def ingest(*messages: dict) -> tuple[Mapping[str, int], list[str]]:
        cloud.requests.clear()
        capsys.readouterr()
        records = [record(message, datetime.now(UTC)) for message in messages]
        assert ingest_function.handler({"Records": records}, LambdaContext()) == {"batchItemFailures": []}
        calls = Counter(operation.name for operation, _ in cloud.requests)
        return calls, capsys.readouterr().out.splitlines(keepends=True)

    return ingest


@pytest.mark.parametrize("kind", INGESTED)
def test_a_message_calls_what_the_bill_multiplies(kind, ingest):
    assert ingest(message_of(kind))[0] == INGESTED[kind] | counts.BATCH_CALLS


@pytest.mark.parametrize("kind", counts.ITEM_BYTES)
def test_an_item_has_the_bytes_that_the_bill_multiplies(kind, ingest, cloud):
    ingest(message_of(kind), message_of("far", LONGER))
    short, long = sorted(sum(len(name) + len(value) for name, value in item.items()) for item in cloud.parked())
    assert short == pytest.approx(counts.ITEM_BYTES[kind], rel=0.03)
    assert long == pytest.approx(counts.ITEM_BYTES["far"] + 1_000 * counts.ITEM_PER_BYTE, rel=0.03)


def test_the_metrics_of_messages_and_sweeps_are_those_that_are_billed(ingest):
    lines = [json.loads(line) for kind in INGESTED for line in ingest(message_of(kind))[1]]
    parts = [part for line in lines for part in line["_aws"]["CloudWatchMetrics"]]
    assert {metric["Name"] for part in parts for metric in part["Metrics"]} | {"SweepStarts"} == counts.METRICS


def test_an_invocation_of_ingest_logs_what_the_bill_says(ingest):
    for messages, size in counts.INGEST_LOG_BYTES.items():
        _, lines = ingest(*[message_of("far")] * messages)
        assert sum(len(line) + LOG_OVERHEAD_BYTES for line in lines) == pytest.approx(size, rel=0.03)


@pytest.mark.parametrize("events", [0, 1, 20])
def test_a_sweep_calls_what_the_bill_multiplies(events, cloud):
    for number in range(events):
        take(event(at("10:00")), at("09:00"), message_id=f"order-{number}")
    lanes = len({item["lane"] for item in cloud.parked()})
    cloud.requests.clear()
    assert sweep(at("09:59:55")).started == events
    expected = Counter(counts.SWEEP_CALLS)
    for calls, times in (counts.LANE_CALLS, lanes), (counts.EVENT_CALLS, events):
        expected += Counter({name: count * times for name, count in calls.items()})
    assert Counter(operation.name for operation, _ in cloud.requests) == expected


def executed(definition: str, clock: Clock, answer: Callable, input: Any) -> Run:
    """An execution that has succeeded."""
    run = Run("this one", clock.now)
    clock.start(Machine(definition, clock, answer).execute(run, input))
    clock.run(clock.now + 200)
    assert run.status == "SUCCEEDED"
    return run


def log_of(run: Run, input: Any, tasks: dict[str, tuple[Any, Any]]) -> Iterator[tuple[str, dict]]:
    """Type and details of each entry in the log of an execution of Deliver. `tasks` are arguments and results."""

    def data(name: str, value: Any) -> dict:
        return {name: json.dumps(value), f"{name}Details": {"truncated": False}}

    yield "ExecutionStarted", data("input", input) | {"roleArn": f"arn:aws:iam::{ACCOUNT}:role/none"}
    for name, (taken, passed_on) in zip(run.path, pairwise([input, *run.outputs]), strict=True):
        state = STATES[name]
        yield f"{state['Type']}StateEntered", {"name": name} | data("input", taken)
        if name in tasks:
            arguments, result = tasks[name]
            task = dict(zip(("resourceType", "resource"), state["Resource"].split(":")[-2:], strict=True))
            scheduled = {"region": REGION, "parameters": json.dumps(arguments)}
            yield "TaskScheduled", task | scheduled | {"timeoutInSeconds": state["TimeoutSeconds"]}
            yield "TaskStarted", task
            yield "TaskSucceeded", task | data("output", result)
        yield f"{state['Type']}StateExited", {"name": name} | data("output", passed_on)
    yield "ExecutionSucceeded", data("output", run.output)


def run_of(kind: str, size: int) -> tuple[Counter, int]:
    """The calls of an execution, and the bytes that it logs, in the form that Express has."""
    scheduled = event_of(due=at("10:00:00.250" if kind == "fraction" else "10:00"), payload=payload(size))
    results = {
        "getItem": {"Item": {"revision": {"S": scheduled.revision}}},
        "invoke": {"ExecutedVersion": "$LATEST", "Payload": None, "StatusCode": 200},
        "publish": {"MessageId": scheduled.revision},
    }
    tasks, calls = {}, Counter()

    def answer(state: str, arguments: dict) -> tuple[dict, float]:
        operation = STATES[state]["Resource"].split(":")[-1]
        calls[operation] += 1
        tasks[state] = arguments, results[operation]
        return results[operation], 0.0

    input, logged = json.loads(scheduled.input), 0
    for type, details in log_of(executed(DELIVER, Clock(at("10:01").timestamp()), answer, input), input, tasks):
        line = LOG_FIELDS | {"execution_arn": EXECUTION, "type": type, "details": details}
        has_headers = type == "TaskSucceeded" and details["resourceType"] in ("sns", "dynamodb")
        logged += len(json.dumps(line, separators=(",", ":"))) + LOG_OVERHEAD_BYTES + has_headers * TASK_HEADER_BYTES
    return calls, logged


@pytest.mark.parametrize("kind", DELIVERED)
def test_an_execution_calls_and_logs_what_the_bill_multiplies(kind):
    (calls, short), (_, long) = (run_of(kind, size) for size in (PAYLOAD_BYTES, LONGER))
    assert calls == DELIVERED[kind]
    assert short == pytest.approx(counts.LOG_BYTES[kind], rel=0.02)
    assert (long - short) / 1_000 == pytest.approx(counts.LOG_PER_BYTE, abs=0.03)


@pytest.mark.parametrize("interval", TEMPLATE.text["Parameters"]["SweepIntervalSeconds"]["AllowedValues"])
def test_an_execution_of_sweep_calls_and_waits_as_the_bill_says(interval):
    calls: Counter[str] = Counter()

    def answer(state: str, arguments: dict) -> tuple[dict, float]:
        calls[(arguments.get("FunctionName") and "tick") or state] += 1
        return {"Payload": {}, "Item": {"execution": {"S": "the next one"}, "started_ms": {"N": "9e15"}}}, 0.0

    definition = Template(SweepIntervalSeconds=str(interval)).definition("Sweep")
    run = executed(definition, Clock(0.0), answer, {})
    assert calls.pop("tick") == counts.MINUTE_WAIT_SECONDS // int(interval) + 1
    assert calls == {"RecordStart": 1, "LookUpSuccessor": 1}
    assert run.seconds == pytest.approx(counts.MINUTE_WAIT_SECONDS, abs=1)


def test_the_price_per_gb_hour_falls_in_tiers_of_the_months_total():
    assert price("express_gb_hour", 6_000) == pytest.approx(60 + 120 + 16.42)


def test_the_document_has_the_tables_of_today():
    """If it has not, a change of the code, of the template, or of a price costs money: is it worth that?"""
    document = (ROOT / "docs/cost.md").read_text()
    for table in cost.tables():
        assert table in document


def test_the_command_prints_the_bill_of_the_month_that_it_is_asked_for():
    run = CliRunner().invoke(cost.main, ["--events", "2000000", "--kms-key", "true", "--payload-bytes", "4096"])
    assert f"{month(events=2e6, kms_key=True, payload_bytes=4096):.2f}" in run.output
    assert CliRunner().invoke(cost.main, ["--interval", "7"]).exit_code == 2
