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
from tools import cost
from tools.cost import DELIVERED, INGESTED, PAYLOAD_BYTES, Use, bill, month, total

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
    assert calls == INGESTED[kind].calls | cost.INGEST_CALLS
    item_bytes = sum(len(name) + len(value) for item in cloud.parked() for name, value in item.items())
    assert item_bytes == pytest.approx(INGESTED[kind].item_bytes, rel=0.03)


def test_each_byte_of_payload_adds_to_an_item_what_the_bill_says(ingest, cloud):
    ingest(message_of("far"), message_of("far", LONGER))
    short, long = sorted(len(item["input"]) for item in cloud.parked())
    assert (long - short) / 1_000 == pytest.approx(INGESTED["far"].item_per_byte, abs=0.02)


def test_an_invocation_of_ingest_logs_what_the_bill_says(ingest):
    logged = {size: ingest(*[message_of("far")] * size)[1] for size in cost.INGEST_LOG_BYTES}
    assert logged == pytest.approx(cost.INGEST_LOG_BYTES, rel=0.03)


@pytest.mark.parametrize("events", [0, 1, 20])
def test_a_sweep_calls_what_the_bill_multiplies(events, cloud):
    for number in range(events):
        take(event(at("10:00")), at("09:00"), message_id=f"order-{number}")
    lanes = len({item["lane"] for item in cloud.parked()})
    cloud.requests.clear()
    assert sweep(at("09:59:55")).started == events
    expected = Counter(cost.SWEEP_CALLS)
    for calls, times in (cost.LANE_CALLS, lanes), (cost.EVENT_CALLS, events):
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
    """The calls of an execution, and the type and size of each event that it logs, in the form in which Express does."""
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
        calls[arguments.get("FunctionName") and "tick" or state] += 1
        return {"Payload": {}, "Item": {"execution": {"S": "the next one"}, "started_ms": {"N": "9e15"}}}, 0.0

    clock, run = Clock(0.0), Run("this one", 0.0)
    clock.start(Machine(cost.Template(SweepIntervalSeconds=str(interval)).definition("Sweep"), clock, answer).execute(run, {}))
    clock.run(200)
    assert run.status == "SUCCEEDED"
    assert calls.pop("tick") == cost.MINUTE_WAIT_SECONDS // int(interval) + 1
    assert calls == {"RecordStart": 1, "LookUpSuccessor": 1}
    assert run.seconds == pytest.approx(cost.MINUTE_WAIT_SECONDS, abs=1)
