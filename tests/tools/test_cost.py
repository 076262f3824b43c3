"""The cost estimate multiplies what the shipped code calls and logs, and its sums are right."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from punctual_core import ingest as ingest_function

from tests.conftest import LambdaContext, at, event, record, sweep, take
from tests.workflows.engine import Engine
from tests.workflows.simulation import Clock, Machine, Run
from tests.workflows.world import DELIVER, STACK_TOPIC, STATES, TARGET, TEMPLATE
from tests.workflows.world import event as event_of
from tools import cost, counts
from tools.cost import Use, bill, month, price, total
from tools.counts import DELIVERED, INGESTED, PAYLOAD_BYTES

LONGER = 1_000 + PAYLOAD_BYTES
# CloudWatch counts so many bytes beside each log event. (https://aws.amazon.com/cloudwatch/pricing/)
LOG_OVERHEAD_BYTES = 26
# Believed, not counted: HTTP headers that AWS puts into the output of an SNS or DynamoDB task. moto leaves them out.
TASK_HEADER_BYTES = 650
# The fields that Express writes around the details of a log event.
LOG_FIELDS = {
    "id": "10",
    "previous_event_id": "10",
    "event_timestamp": "1700000000000",
    "execution_arn": "arn:aws:states:us-east-1:123456789012:express:punctual-Deliver-abcdefghijkl:"
    "01234567-89ab-cdef-0123-456789abcdef:01234567-89ab-cdef-0123-456789abcdef",
    "redrive_count": "0",
}
LOGGED_AT_ERROR = ("ExecutionFailed", "TaskFailed", "FailStateEntered")


def payload(size: int) -> str:
    """So many bytes of JSON, two of nine of them quotation marks."""
    return json.dumps({f"item-{number:02}": f"ab-{number:02}" for number in range(99)}, separators=(",", ":"))[:size]


def message_of(kind: str, size: int = PAYLOAD_BYTES) -> dict:
    now = datetime.now(UTC).replace(microsecond=0)
    named = {"id": "order-4711"} if "named" in kind else {}
    match kind.split(",")[0]:
        case "refused":
            return event("soon")
        case "cancel":
            return {"cancel": "order-4711"}
        case near_or_far:
            ahead = timedelta(hours=12) if near_or_far == "far" else timedelta(0)
            return event(now + ahead, payload=payload(size), **named)


@pytest.fixture
def ingest(cloud, capsys):
    """Hand a batch to Ingest. Returns its calls, and the bytes that it logged."""

    def ingest(*messages: dict) -> tuple[Mapping[str, int], int]:
        cloud.requests.clear()
        capsys.readouterr()
        records = [record(message, datetime.now(UTC)) for message in messages]
        assert ingest_function.handler({"Records": records}, LambdaContext()) == {"batchItemFailures": []}
        lines = capsys.readouterr().out.splitlines(keepends=True)
        return Counter(name for name, _ in cloud.requests), sum(len(line) + LOG_OVERHEAD_BYTES for line in lines)

    return ingest


@pytest.mark.parametrize("kind", INGESTED)
def test_a_message_calls_what_the_bill_multiplies(kind, ingest, cloud):
    calls, _ = ingest(message_of(kind))
    assert calls == INGESTED[kind].calls | counts.INGEST_CALLS
    item_bytes = sum(len(name) + len(value) for item in cloud.parked() for name, value in item.items())
    assert item_bytes == pytest.approx(INGESTED[kind].item_bytes, rel=0.03)


def test_the_metrics_of_messages_and_sweeps_are_those_that_are_billed(cloud, capsys):
    names = {"SweepStarts"}
    for kind in INGESTED:
        records = [record(message_of(kind), datetime.now(UTC))]
        ingest_function.handler({"Records": records}, LambdaContext())
        for line in capsys.readouterr().out.splitlines():
            names |= {
                metric["Name"] for part in json.loads(line)["_aws"]["CloudWatchMetrics"] for metric in part["Metrics"]
            }
    assert names == counts.METRICS


def test_each_byte_of_payload_adds_to_an_item_what_the_bill_says(ingest, cloud):
    ingest(message_of("far"), message_of("far", LONGER))
    short, long = sorted(len(item["input"]) for item in cloud.parked())
    assert (long - short) / 1_000 == pytest.approx(INGESTED["far"].item_per_byte, abs=0.02)


def test_an_invocation_of_ingest_logs_what_the_bill_says(ingest):
    logged = {size: ingest(*[message_of("far")] * size)[1] for size in counts.INGEST_LOG_BYTES}
    assert logged == pytest.approx(counts.INGEST_LOG_BYTES, rel=0.03)


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
    assert Counter(name for name, _ in cloud.requests) == expected


@pytest.fixture(scope="module")
def engine():
    with Engine() as engine:
        engine.client("dynamodb").create_table(**TEMPLATE.table("Register"))
        for topic in TARGET, STACK_TOPIC:
            engine.client("sns").create_topic(Name=topic.split(":")[-1])
        yield engine


def log_of(engine: Engine, kind: str, size: int = PAYLOAD_BYTES) -> tuple[Counter, list[tuple[str, int]]]:
    """The calls of an execution, and the type and size of each event that it logs, in the form that Express has."""
    changes = {"target": f"{TARGET}-deleted"} if kind == "not delivered" else {}
    scheduled = event_of(due=at("10:00:00.250" if kind == "fraction" else "10:00"), payload=payload(size), **changes)
    engine.now = (at("10:01") if kind == "fraction" else at("09:59")).timestamp()
    register = {"id": {"S": scheduled.id}, "revision": {"S": "canceled" if kind == "canceled" else scheduled.revision}}
    engine.client("dynamodb").put_item(TableName="Register", Item=register)
    run = engine.run(DELIVER, json.loads(scheduled.input))
    history = engine.client("stepfunctions").get_execution_history(executionArn=run.name, maxResults=1000)["events"]
    logged = []
    for entry in history:
        details = next((value for name, value in entry.items() if name.endswith("EventDetails")), {})
        line = LOG_FIELDS | {"type": entry["type"], "details": details}
        length = len(json.dumps(line, separators=(",", ":")).encode()) + LOG_OVERHEAD_BYTES
        has_headers = entry["type"] == "TaskSucceeded" and details["resourceType"] in ("sns", "dynamodb")
        logged.append((entry["type"], length + has_headers * TASK_HEADER_BYTES))
    return Counter(STATES[state]["Resource"].split(":")[-1] for state in run.attempts), logged


@pytest.mark.parametrize("kind", DELIVERED)
def test_an_execution_calls_and_logs_what_the_bill_multiplies(kind, engine):
    calls, logged = log_of(engine, kind)
    assert calls == DELIVERED[kind].calls
    assert sum(size for _, size in logged) == pytest.approx(DELIVERED[kind].log_bytes, rel=0.02)
    at_error = sum(size for type, size in logged if type in LOGGED_AT_ERROR)
    assert at_error == pytest.approx(DELIVERED[kind].error_log_bytes, rel=0.02)


@pytest.mark.parametrize("kind", DELIVERED)
def test_each_byte_of_payload_adds_to_the_log_what_the_bill_says(kind, engine):
    short, long = (sum(bytes for _, bytes in log_of(engine, kind, size)[1]) for size in (PAYLOAD_BYTES, LONGER))
    assert (long - short) / 1_000 == pytest.approx(DELIVERED[kind].log_per_byte, abs=0.03)


@pytest.mark.parametrize("interval", TEMPLATE.text["Parameters"]["SweepIntervalSeconds"]["AllowedValues"])
def test_an_execution_of_sweep_calls_and_waits_as_the_bill_says(interval):
    calls: Counter[str] = Counter()

    def answer(state: str, arguments: dict) -> tuple[dict, float]:
        calls[(arguments.get("FunctionName") and "tick") or state] += 1
        return {"Payload": {}, "Item": {"execution": {"S": "the next one"}, "started_ms": {"N": "9e15"}}}, 0.0

    clock, run = Clock(0.0), Run("this one", 0.0)
    clock.start(
        Machine(cost.Template(SweepIntervalSeconds=str(interval)).definition("Sweep"), clock, answer).execute(run, {})
    )
    clock.run(200)
    assert run.status == "SUCCEEDED"
    assert calls.pop("tick") == counts.MINUTE_WAIT_SECONDS // int(interval) + 1
    assert calls == {"RecordStart": 1, "LookUpSuccessor": 1}
    assert run.seconds == pytest.approx(counts.MINUTE_WAIT_SECONDS, abs=1)


def test_the_price_per_gb_hour_falls_in_tiers_of_the_months_total():
    assert price("express_gb_hour", 1_000) == pytest.approx(60)
    assert price("express_gb_hour", 6_000) == pytest.approx(60 + 120 + 16.42)
    lines = [line for line in bill(Use(events=1e8)) if line.price == "express_gb_hour"]
    assert len(lines) == 2
    assert sum(line.usd for line in lines) == pytest.approx(price("express_gb_hour", sum(line.units for line in lines)))


@pytest.mark.parametrize(
    ("use", "usd"),
    [
        ({"events": 0}, 6.47),
        ({}, 26.78),
        ({"logs": "ERROR", "batching": 5}, 19.75),
        ({"payload_bytes": 4096}, 43.30),
        ({"events": 1e8}, 1442),
        ({"events": 1e8, "logs": "ERROR", "batching": 5}, 687),
    ],
    ids=str,
)
def test_a_month_does_not_cost_more_than_it_did(use, usd):
    """If it does, a change of the code, of the template, or of a price costs money: is it worth that?"""
    assert month(**use) == pytest.approx(usd, rel=0.01)


def test_a_parked_event_waits_for_the_horizon_less_half_an_interval_and_longer_in_a_crowded_lane():
    assert cost.waiting_seconds(Use(interval=10)) == 13 - 5
    assert cost.waiting_seconds(Use(far_share=0)) == 8 / 2
    assert cost.waiting_seconds(Use(events=2e9)) == 8 + 11 - 2.5


def test_every_event_of_a_month_is_paid_for_but_not_in_an_idle_one():
    assert total(bill(Use(events=0)), is_idle=False) == 0
    assert month(events=2e6) - month(events=1e6) > 15


def test_the_command_prints_the_bill_of_the_month_that_it_is_asked_for():
    run = CliRunner().invoke(cost.main, ["--events", "0", "--kms-key", "true", "--probe", "true"])
    assert f"{month(events=0, kms_key=True, probe=True):.2f}" in run.output
    assert CliRunner().invoke(cost.main, ["--interval", "7"]).exit_code == 2


def test_lines_that_lambda_adds_to_logs_are_not_billed_because_they_are_off():
    """If this fails, they have to be counted: START, END and REPORT of each invocation."""
    assert TEMPLATE.function("Ingest")["LoggingConfig"]["SystemLogLevel"] == "WARN"
    assert TEMPLATE.properties("Sweep")["Logging"]["Level"] == "ERROR"
