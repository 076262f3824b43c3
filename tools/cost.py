"""What a month costs: tools/counts.py times the prices that AWS publishes. Arithmetic, not a bill."""

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import click
from punctual_core.lanes import LANES

from tools import counts
from tools.cloudformation import ROOT, Template
from tools.documents import markdown_table
from tools.shipped import sweeper

# Believed, not counted.
INGEST_SECONDS = 0.05  # a warm invocation: parse, one call to AWS
EMPTY_SWEEP_SECONDS = 0.06  # a query of each lane, side by side
START_SECONDS = 1 / 500  # of a Sweeper's time for each event
PROBE_SECONDS = 0.02
HOLD_SECONDS = 1.0  # it is invoked 0.5 to 1.5 s before the event is due
DELIVER_SECONDS = 0.15  # Deliver beside its waits: five states, two calls, half of the 100 ms that are rounded up
EXPRESS_GB = 0.0625  # 64 MB, the smallest step: definition and input are a few KB
LOG_COMPRESSION = 0.2  # CloudWatch stores logs compressed
EMPTY_RECEIVES_PER_SECOND = 5 * 3 / 60  # five pollers of Lambda, each with long polls of 20 s
# Data keys of topics, queues, and tables are kept for five minutes, by each of about ten users of one (publishers, SNS,
# Lambda, the functions' roles): https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
KMS_REQUESTS_PER_SECOND = 10 / 300
MAX_BATCH = 10  # messages (BatchSize in template.yaml)
MONTH_SECONDS = 30 * 24 * 3600
MINUTES = MONTH_SECONDS / 60

PARAMETERS = Template().text["Parameters"]
DEFAULTS = {name: str(parameter["Default"]) for name, parameter in PARAMETERS.items()}
PRICES: dict[str, Any] = json.loads((ROOT / "tools/prices.json").read_text())["prices"]
EXPRESS, COMPUTE = "express_gb_hour", f"lambda_gb_second_{DEFAULTS['Architecture']}"


@dataclasses.dataclass(frozen=True)
class Use:
    """How one stack is used, spread evenly over a month. All events are published early enough to be parked. Shares are
    of the events, from 0 to 1."""

    events: float = 1_000_000
    interval: int = int(DEFAULTS["SweepIntervalSeconds"])
    batching: int = int(DEFAULTS["IngestBatchingSeconds"])
    logs: str = DEFAULTS["ExecutionLogLevel"]
    tracing: bool = DEFAULTS["Tracing"] == "true"
    probe: bool = DEFAULTS["Probe"] == "true"
    kms_key: bool = False  # a key of your own
    fraction_share: float = 0.0
    named_share: float = 0.0
    payload_bytes: int = counts.PAYLOAD_BYTES  # of JSON

    @property
    def waiting_seconds(self) -> float:
        """How long an event waits in Express on average: the first sweep that has it within the horizon starts it."""
        stack = Template(SweepIntervalSeconds=str(self.interval))
        return int(stack.environment("Sweeper")["HORIZON_SECONDS"]) - self.interval / 2


# What is paid for, how many units, and the name of their price.
type Lines = Iterator[tuple[str, float, str]]


def price(name: str, units: float) -> float:
    """USD for that many units in one month. A price either has `tiers` (size and USD per unit; the last has no size),
    or `usd` for `per` units, the first `free` of them without charge."""
    entry = PRICES[name]
    if "tiers" not in entry:
        return float(max(0.0, units - entry.get("free", 0)) / entry["per"] * entry["usd"])
    usd = 0.0
    for size, rate in entry["tiers"]:
        part = units if size is None else min(units, size)
        usd, units = usd + part * rate, units - part
    return usd


def bill(use: Use) -> dict[tuple[str, str], float]:
    """USD for a month of one stack, the largest first, by whether they are paid for "events", or also when "idle"."""
    parts = {"events": [*_of_events(use), *_beside_events(use)] if use.events else [], "idle": _when_idle(use)}
    lines = [(paid_for, what, units, name) for paid_for, part in parts.items() for what, units, name in part if units]
    # Where a price falls with the month's total, each line has its share of that total's price.
    totals: defaultdict[str, float] = defaultdict(float)
    for _, _, units, name in lines:
        totals[name] += units
    usd: defaultdict[tuple[str, str], float] = defaultdict(float)
    for paid_for, what, units, name in lines:
        usd[paid_for, what] += price(name, totals[name]) * units / totals[name]
    return dict(sorted(usd.items(), key=lambda line: (line[0][0], -line[1])))


def month(**use: Any) -> float:
    """USD for a month as shipped, but for this use."""
    return sum(bill(Use(**use)).values())


def _of_events(use: Use) -> Lines:
    events, sweeps = use.events, MONTH_SECONDS / use.interval
    more_bytes = use.payload_bytes - counts.PAYLOAD_BYTES
    chunks = math.ceil((counts.MESSAGE_BYTES + use.payload_bytes) / 65536)  # for each of which SNS and SQS bill
    # Messages in an invocation of Ingest: the first, and those that Lambda collects after it. At low rates Lambda may
    # wait for up to 20 s, whatever the window is; that would be cheaper than this.
    batch = min(MAX_BATCH, 1 + events / MONTH_SECONDS * use.batching)
    invocations = events / batch
    sqs_requests = events * chunks * (1 + 2 / batch) + invocations * sum(counts.BATCH_CALLS.values())
    yield "Input: SQS send, receive, delete, and hiding a batch", sqs_requests, "sqs_request"
    one, ten = counts.INGEST_LOG_BYTES.values()
    log_bytes = one + (ten - one) * (batch - 1) / (MAX_BATCH - 1)
    functions = "Ingest and Sweeper: invocations, compute, and logs"
    yield functions, invocations, "lambda_request"
    yield functions, invocations * INGEST_SECONDS * _gigabytes("Ingest"), COMPUTE
    yield functions, invocations * log_bytes / 1e9, "log_ingested"
    parked = "Parked: write, read, delete, and lane leases"
    for kind, share in ("far", 1 - use.named_share), ("far, named", use.named_share):
        calls = counts.INGESTED[kind]
        size = math.ceil((counts.ITEM_BYTES[kind] + counts.ITEM_PER_BYTE * more_bytes) / 1024)
        yield parked, events * share * (calls["PutItem"] + 1) * size, "dynamodb_write"
        yield "Register: write", events * share * calls.get("UpdateItem", 0), "dynamodb_write"
    lanes_with_events = LANES * (1 - math.exp(-events / sweeps / LANES))  # in a sweep, at an even rate
    lease_writes = counts.LANE_CALLS["UpdateItem"] + counts.LANE_CALLS["DeleteItem"]
    yield parked, sweeps * lanes_with_events * lease_writes, "dynamodb_write"
    pages = (counts.ITEM_BYTES["far"] + counts.ITEM_PER_BYTE * more_bytes) / 4096
    yield parked, events * pages + sweeps * lanes_with_events, "dynamodb_read"
    # A query of a lane reads what is due until the end of the look-ahead; its first 4 KB are in the idle lines.
    seen = min(events / MONTH_SECONDS / LANES * (sweeper.LOOK_AHEAD.total_seconds() + use.interval), sweeper.MAX_KEYS)
    yield parked, sweeps * LANES * max(0.0, seen * pages - 1) / 2, "dynamodb_read"
    # A lane with so much to start in each sweep gets an invocation of its own, for which the tick waits.
    is_delegated = events / sweeps / LANES >= sweeper.MANY_STARTS
    yield functions, sweeps * LANES * is_delegated, "lambda_request"
    seconds = events * START_SECONDS + sweeps * sweeper.INVOCATION_SECONDS * is_delegated
    yield functions, seconds * _gigabytes("Sweeper"), COMPUTE
    executions, topics = "Deliver: executions and register reads", "SNS publish: input and delivery"
    yield topics, events * chunks, "sns_publish"
    yield executions, events * counts.EVENT_CALLS["StartExecution"], "express_request"
    for kind, share in ("whole second", 1 - use.fraction_share), ("fraction", use.fraction_share):
        calls = counts.DELIVERED[kind]
        yield executions, events * share * calls["getItem"], "dynamodb_read"
        yield topics, events * share * calls["publish"] * chunks, "sns_publish"
        yield "Hold", events * share * calls.get("invoke", 0), "lambda_request"
        logged = (counts.LOG_BYTES[kind] + counts.LOG_PER_BYTE * more_bytes) / 1e9 * (use.logs == "ALL")
        yield "Execution logs", events * share * logged, "log_ingested"
        yield "Execution logs", events * share * logged * LOG_COMPRESSION, "log_stored"
    yield "Hold", events * use.fraction_share * HOLD_SECONDS * _gigabytes("Hold"), COMPUTE
    seconds = use.waiting_seconds + DELIVER_SECONDS
    yield "Deliver: waiting and running in Express", events * seconds * EXPRESS_GB / 3600, EXPRESS


def _beside_events(use: Use) -> Lines:
    yield "Custom metrics", len(counts.METRICS), "metric"
    if use.tracing:  # X-Ray's default rule: the first trace of each second, and 5 % of the others.
        first = min(use.events, MONTH_SECONDS)
        yield "Traces", first + (use.events - first) / 20, "trace"


def _when_idle(use: Use) -> Lines:
    ticks = MINUTES * (counts.MINUTE_WAIT_SECONDS // use.interval + 1)
    yield "Sweep and Sweeper", MINUTES, "scheduler_invocation"
    yield "Sweep and Sweeper", MINUTES, "express_request"
    yield "Sweep and Sweeper", MINUTES * counts.MINUTE_WAIT_SECONDS * EXPRESS_GB / 3600, EXPRESS
    yield "Sweep and Sweeper", MINUTES * counts.MINUTE_CALLS["putItem"], "dynamodb_write"
    yield "Sweep and Sweeper", MINUTES * counts.MINUTE_CALLS["getItem"], "dynamodb_read"
    yield "Sweep and Sweeper", ticks, "lambda_request"
    yield "Sweep and Sweeper", ticks * EMPTY_SWEEP_SECONDS * _gigabytes("Sweeper"), COMPUTE
    # A query that finds nothing is half a read unit: it is eventually consistent.
    yield "Sweep and Sweeper", ticks * counts.SWEEP_CALLS["Query"] / 2, "dynamodb_read"
    yield "Input queue: empty receives", MONTH_SECONDS * EMPTY_RECEIVES_PER_SECOND, "sqs_request"
    alarms = Template(Probe=str(use.probe).lower()).deployed("AWS::CloudWatch::Alarm")
    yield "Alarms", len(alarms), "alarm"
    if use.kms_key:
        yield "Key of your own", 1, "kms_key"
        yield "Key of your own", MONTH_SECONDS * KMS_REQUESTS_PER_SECOND, "kms_request"
    if use.tracing:
        yield "Traces", MINUTES, "trace"
    if use.probe:  # An event each minute, parked and with a fraction of a second; its function and metric.
        event = dataclasses.replace(use, events=MINUTES, fraction_share=1.0, named_share=0.0)
        yield from (("Probe", units, name) for _, units, name in _of_events(event))
        yield "Probe", MINUTES, "scheduler_invocation"
        yield "Probe", MINUTES, "lambda_request"
        yield "Probe", MINUTES * PROBE_SECONDS * _gigabytes("ProbeFunction"), COMPUTE
        yield "Probe", 1, "metric"


@cache
def _gigabytes(function: str) -> float:
    return float(Template(Probe="true").function(function)["MemorySize"]) / 1024


# The same number of events, with dates in whole seconds, in other ways: from a publisher to an SNS topic. Units of each
# price for one event.
ALTERNATIVES: dict[str, dict[str, float]] = {
    "EventBridge Scheduler (precise to the minute)": {"sns_publish": 1, "scheduler_invocation": 1},
    "Step Functions Standard: Wait, Publish": {"sns_publish": 1, "standard_transition": 2},
    # Invoked at the start and after the wait. What is kept until then is left out, as it is in the bill of a stack.
    "Lambda durable functions: start, wait, step": {
        "sns_publish": 1,
        "durable_operation": 3,
        "durable_written": 1000 / 1e9,  # believed: the message, a wait, a step
        "lambda_request": 2,
        "lambda_gb_second_arm64": 2 * INGEST_SECONDS * 0.125,
    },
    # By its published code: SNS invokes a function; an item in a table with an index is put, updated and deleted (two
    # writes each); two functions work in hundreds; SQS in tens; the last function sleeps half a second for ten events.
    "The predecessor, bahrmichael/aws-scheduler": {
        "sns_publish": 2,
        "lambda_request": 1.1,
        "lambda_gb_second_x86_64": 0.05 + 0.5 / 10,
        "dynamodb_write": 6,
        "dynamodb_read": 1,
        "sqs_request": 0.3,
        "log_ingested": 600 / 1e9,
    },
}
LEAN: dict[str, Any] = {"logs": "ERROR", "batching": 5}
CHANGES: dict[str, dict[str, Any]] = {
    "`ExecutionLogLevel=ERROR`": {"logs": "ERROR"},
    "`IngestBatchingSeconds=5`": {"batching": 5},
    "`Tracing=true`": {"tracing": True},
    "`Probe=true`": {"probe": True},
    "`KmsKeyArn`": {"kms_key": True},
    "every date has a fraction of a second": {"fraction_share": 1.0},
    "every event is named": {"named_share": 1.0},
    "payloads of 4 KB instead of 100 bytes": {"payload_bytes": 4096},
}


def bill_table(use: Use) -> str:
    """One month of one stack."""
    rows = [(paid_for, what, usd) for (paid_for, what), usd in bill(use).items()]
    rows += [(part, "**total**", sum(row[2] for row in rows if row[0] == part)) for part in ("events", "idle")]
    rows.append(("both", "**total**", month(**dataclasses.asdict(use))))
    return markdown_table(["paid for", "what", "USD a month"], [(*row, f"{usd:,.2f}") for *row, usd in rows])


def tables() -> Iterator[str]:
    """The tables of docs/cost.md."""
    months = [0, 1e6, 1e7, 1e8, 5e8]
    ways = {"as shipped": [month(events=events) for events in months]}
    ways["lean: logs ERROR, `IngestBatchingSeconds=5`"] = [month(events=events, **LEAN) for events in months]
    for name, parts in ALTERNATIVES.items():
        ways[name] = [sum(price(what, units * events) for what, units in parts.items()) for events in months]
    heads = ["USD a month at", "no event", "1 M", "10 M", "100 M", "500 M"]
    yield markdown_table(heads, [[name, *map(_rounded, usd)] for name, usd in ways.items()])
    yield bill_table(Use())
    rows = []
    for interval in map(int, PARAMETERS["SweepIntervalSeconds"]["AllowedValues"]):
        costs = [_rounded(month(interval=interval, events=events)) for events in (0, 1e5, 1e6, 1e8)]
        rows.append([f"{interval} s", f"{Use(interval=interval).waiting_seconds} s", *costs])
    heads = ["interval", "average wait in Express", "USD a month, idle", "at 0.1 M", "at 1 M", "at 100 M"]
    yield markdown_table(heads, rows)
    rows = []
    for name, change in CHANGES.items():
        more = [month(events=events, **change) - month(events=events) for events in (1e6, 1e8)]
        rows.append([name, *(f"{usd:+,.2f}" for usd in more)])
    yield markdown_table(["change", "USD a month at 1 M", "at 100 M"], rows)


def _rounded(usd: float) -> str:
    return f"{usd:,.2f}" if usd < 100 else f"{usd:,.0f}"


def _options(command: Any) -> Any:
    """An option for each field of Use: a choice where the template has one."""
    choices = {"interval": "SweepIntervalSeconds", "logs": "ExecutionLogLevel"}
    for field in reversed(dataclasses.fields(Use)):
        option: Any = type(field.default)
        if field.name in choices:
            option = click.Choice([option(value) for value in PARAMETERS[choices[field.name]]["AllowedValues"]])
        name = "--" + field.name.replace("_", "-")
        command = click.option(name, type=option, default=field.default, show_default=True)(command)
    return command


@click.command()
@click.option("--tables", "is_for_document", is_flag=True, help="The tables of docs/cost.md instead.")
@_options
def main(is_for_document: bool, **use: Any) -> None:
    """What a month costs, in USD, us-east-1. Shares are from 0 to 1."""
    click.echo("\n\n".join(tables() if is_for_document else [bill_table(Use(**use))]))


if __name__ == "__main__":
    main(prog_name="python -m tools.cost")
