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
DURABLE_BYTES = 1000  # written by an execution of a durable function: the message, a wait, a step
EMPTY_RECEIVES_PER_SECOND = 5 * 3 / 60  # five pollers of Lambda, each with long polls of 20 s
# Data keys of topics, queues, and tables are kept for five minutes, by each of about ten users of one (publishers, SNS,
# Lambda, the functions' roles): https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
KMS_REQUESTS_PER_SECOND = 10 / 300
MAX_BATCH = 10  # messages (BatchSize in template.yaml)
CHUNK_BYTES = 65536  # SNS and SQS bill a message for each 64 KB
MONTH_SECONDS = 30 * 24 * 3600
MINUTES = MONTH_SECONDS / 60

PARAMETERS = Template().text["Parameters"]


def _default(parameter: str) -> str:
    return str(PARAMETERS[parameter]["Default"])


@dataclasses.dataclass(frozen=True)
class Use:
    """How one stack is used, spread evenly over a month. Shares are of the events, from 0 to 1."""

    events: float = 1_000_000
    interval: int = int(_default("SweepIntervalSeconds"))
    batching: int = int(_default("IngestBatchingSeconds"))
    logs: str = _default("ExecutionLogLevel")
    tracing: bool = _default("Tracing") == "true"
    probe: bool = _default("Probe") == "true"
    kms_key: bool = False  # a key of your own
    far_share: float = 1.0  # published earlier than the horizon, so parked
    fraction_share: float = 0.0
    named_share: float = 0.0
    failed_share: float = 0.0
    payload_bytes: int = counts.PAYLOAD_BYTES  # of JSON

    @property
    def batch(self) -> float:
        """Messages in an invocation of Ingest: the first, and those that Lambda collects after it. At low rates Lambda
        may wait for up to 20 s, whatever the window is; that would be cheaper than this."""
        return min(MAX_BATCH, 1 + self.events / MONTH_SECONDS * self.batching)

    @property
    def chunks(self) -> int:
        """What SNS and SQS bill a message as."""
        return math.ceil((counts.MESSAGE_BYTES + self.payload_bytes) / CHUNK_BYTES)

    def size(self, of_payload: int, per_byte: float) -> float:
        """Bytes with this use's payload, of what has so many with counts.PAYLOAD_BYTES."""
        return of_payload + per_byte * (self.payload_bytes - counts.PAYLOAD_BYTES)


LEAN: dict[str, Any] = {"logs": "ERROR", "batching": 5}


def waiting_seconds(use: Use) -> float:
    """How long an event waits in Express on average.

    A near event is published at any moment within the horizon. A parked one is started by the first sweep that has it
    within the horizon, or within the look-ahead if its lane is crowded then, as all are beyond 640 events a second.
    """
    horizon = int(Template(SweepIntervalSeconds=str(use.interval)).environment("Sweeper")["HORIZON_SECONDS"])
    is_crowded = use.events / MONTH_SECONDS * use.far_share / LANES > sweeper.LANE_STARTS_PER_SECOND
    ahead = horizon + is_crowded * sweeper.LOOK_AHEAD.total_seconds()
    return use.far_share * (ahead - use.interval / 2) + (1 - use.far_share) * horizon / 2


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a bill. `is_idle` says that it is paid without any event, too."""

    is_idle: bool
    what: str
    units: float
    price: str
    usd: float


type _Units = Iterator[tuple[str, float, str]]  # what, units, price

# What a counted call is on the bill, and its price.
_CALLS = {
    "PutItem": ("Parked: write", "dynamodb_write"),
    "UpdateItem": ("Register: write", "dynamodb_write"),
    "StartExecution": ("Deliver: executions", "express_request"),
    "getItem": ("Deliver: register read", "dynamodb_read"),
    "invoke": ("Hold: invocations", "lambda_request"),
    "publish": ("Deliver: SNS publish", "sns_publish"),
}


@cache
def prices() -> dict[str, Any]:
    """prices.json: each price either has `tiers` (size and USD per unit; the last has no size), or `usd` for `per`
    units, the first `free` of them without charge."""
    found: dict[str, Any] = json.loads((ROOT / "tools/prices.json").read_text())["prices"]
    return found


def price(name: str, units: float) -> float:
    """USD for that many units in one month."""
    entry = prices()[name]
    if "tiers" not in entry:
        return float(max(0.0, units - entry.get("free", 0)) / entry["per"] * entry["usd"])
    usd = 0.0
    for size, rate in entry["tiers"]:
        part = units if size is None else min(units, size)
        usd, units = usd + part * rate, units - part
    return usd


def bill(use: Use) -> list[Line]:
    """A month of one stack, line by line, the largest first."""
    units: defaultdict[tuple[bool, str, str], float] = defaultdict(float)
    for is_idle, part in (False, _of_events(use)), (True, _when_idle(use)):
        for what, amount, name in part:
            units[is_idle, what, name] += amount
    # Where the price falls with the month's total, each line has its share of that total's price.
    totals: defaultdict[str, float] = defaultdict(float)
    for (_, _, name), amount in units.items():
        totals[name] += amount
    lines = [
        Line(is_idle, what, amount, name, price(name, totals[name]) * amount / totals[name])
        for (is_idle, what, name), amount in units.items()
        if amount
    ]
    return sorted(lines, key=lambda line: (line.is_idle, -line.usd))


def total(lines: list[Line], is_idle: bool | None = None) -> float:
    """USD of all lines, or only of those that are paid without any event, or only of the others."""
    return sum(line.usd for line in lines if is_idle in (None, line.is_idle))


def month(**use: Any) -> float:
    """USD for a month as shipped, but for this use."""
    return total(bill(Use(**use)))


def _of_events(use: Use) -> _Units:
    if use.events:
        yield from _input(use)
        yield from _parking(use)
        yield from _deliver(use)
        yield "Custom metrics", len(counts.METRICS), "metric"
        if use.tracing:  # X-Ray's default rule: the first trace of each second, and 5 % of the others.
            first = min(use.events, MONTH_SECONDS)
            yield "Traces", first + (use.events - first) / 20, "trace"


def _input(use: Use) -> _Units:
    messages, invocations = use.events * use.chunks, use.events / use.batch
    yield "Input: SNS publish", messages, "sns_publish"
    yield "Input: SQS send, receive, delete", messages * (1 + 2 / use.batch), "sqs_request"
    yield "Ingest: hides its batch", invocations * sum(counts.INGEST_CALLS.values()), "sqs_request"
    yield "Ingest: invocations", invocations, "lambda_request"
    yield "Ingest: compute", invocations * INGEST_SECONDS * _gigabytes("Ingest"), _COMPUTE
    one, ten = counts.INGEST_LOG_BYTES.values()
    log_bytes = one + (ten - one) * (use.batch - 1) / (MAX_BATCH - 1)
    yield "Ingest: logs", invocations * log_bytes / 1e9, "log_ingested"
    for kind, share in ("near", 1 - use.far_share), ("far", use.far_share):
        for name, named in (kind, 1 - use.named_share), (f"{kind}, named", use.named_share):
            counted = counts.INGESTED[name]
            for call, times in counted.calls.items():
                what, price_name = _CALLS[call]
                size = _write_units(use) if call == "PutItem" else 1
                yield what, use.events * share * named * times * size, price_name


def _parking(use: Use) -> _Units:
    """What a far event costs beside the write of its item: it is read, started and deleted by a sweep."""
    far, sweeps = use.events * use.far_share, MONTH_SECONDS / use.interval
    lanes_with_events = LANES * (1 - math.exp(-far / sweeps / LANES))  # in a sweep, at an even rate
    item_bytes = use.size(counts.INGESTED["far"].item_bytes, counts.INGESTED["far"].item_per_byte)
    yield "Deliver: executions", far * counts.EVENT_CALLS["StartExecution"], "express_request"
    yield "Parked: delete", far * _write_units(use), "dynamodb_write"
    lease_writes = counts.LANE_CALLS["UpdateItem"] + counts.LANE_CALLS["DeleteItem"]
    yield "Parked: lane leases", sweeps * lanes_with_events * lease_writes, "dynamodb_write"
    yield "Parked: read", far * item_bytes / 4096 + sweeps * lanes_with_events, "dynamodb_read"
    # A query of a lane reads what is due until the end of the look-ahead; its first 4 KB are in the idle lines.
    seen = min(far / MONTH_SECONDS / LANES * (sweeper.LOOK_AHEAD.total_seconds() + use.interval), sweeper.MAX_KEYS)
    yield "Parked: look-ahead", sweeps * LANES * max(0.0, seen * item_bytes / 4096 - 1) / 2, "dynamodb_read"
    # A lane with so much to start in each sweep gets an invocation of its own, for which the tick waits.
    is_delegated = far / sweeps / LANES >= sweeper.MANY_STARTS
    yield "Sweeper: invocations for a lane", sweeps * LANES * is_delegated, "lambda_request"
    seconds = far * START_SECONDS + sweeps * sweeper.INVOCATION_SECONDS * is_delegated
    yield "Sweeper: compute", seconds * _gigabytes("Sweeper"), _COMPUTE


def _deliver(use: Use) -> _Units:
    """The execution, which is the same for a near and a far event."""
    held, failed = use.events * use.fraction_share, use.events * use.failed_share
    for kind, times in ("whole second", use.events - held - failed), ("fraction", held), ("not delivered", failed):
        counted = counts.DELIVERED[kind]
        for call, calls in counted.calls.items():
            what, price_name = _CALLS[call]
            yield what, times * calls * use.chunks, price_name
        at_all = use.size(counted.log_bytes, counted.log_per_byte)
        logged = times / 1e9 * {"ALL": at_all, "OFF": 0}.get(use.logs, counted.error_log_bytes)
        yield "Execution logs: ingested", logged, "log_ingested"
        yield "Execution logs: stored", logged * LOG_COMPRESSION, "log_stored"
    yield (
        "Deliver: waiting and running",
        use.events * (waiting_seconds(use) + DELIVER_SECONDS) * EXPRESS_GB / 3600,
        _EXPRESS,
    )
    yield "Hold: compute", held * HOLD_SECONDS * _gigabytes("Hold"), _COMPUTE


def _when_idle(use: Use) -> _Units:
    sweeps = MINUTES * (counts.MINUTE_WAIT_SECONDS // use.interval + 1)
    yield "Clock: invocations", MINUTES, "scheduler_invocation"
    yield "Sweep: executions", MINUTES, "express_request"
    yield "Sweep: waiting", MINUTES * counts.MINUTE_WAIT_SECONDS * EXPRESS_GB / 3600, _EXPRESS
    yield "Sweep: record of the latest", MINUTES * counts.MINUTE_CALLS["putItem"], "dynamodb_write"
    yield "Sweep: look-up of the latest", MINUTES * counts.MINUTE_CALLS["getItem"], "dynamodb_read"
    yield "Sweeper: invocations", sweeps, "lambda_request"
    yield "Sweeper: compute", sweeps * EMPTY_SWEEP_SECONDS * _gigabytes("Sweeper"), _COMPUTE
    # A query that finds nothing is half a read unit: it is eventually consistent.
    yield "Sweeper: lane queries", sweeps * counts.SWEEP_CALLS["Query"] / 2, "dynamodb_read"
    yield "Input queue: empty receives", MONTH_SECONDS * EMPTY_RECEIVES_PER_SECOND, "sqs_request"
    stack = Template(Probe=str(use.probe).lower(), Dashboard=_default("Dashboard"))
    yield "Alarms", len(stack.deployed("AWS::CloudWatch::Alarm")), "alarm"
    yield "Dashboard", len(stack.deployed("AWS::CloudWatch::Dashboard")), "dashboard"
    if use.kms_key:
        yield "KMS: key", 1, "kms_key"
        yield "KMS: requests", MONTH_SECONDS * KMS_REQUESTS_PER_SECOND, "kms_request"
    if use.tracing:
        yield "Sweep: traces", MINUTES, "trace"
    if use.probe:  # An event each minute, parked and with a fraction of a second; its function and metric.
        event = dataclasses.replace(use, events=MINUTES, far_share=1.0, fraction_share=1.0, named_share=0.0)
        for part in _input, _parking, _deliver:
            yield from (("Probe", units, name) for _, units, name in part(event))
        yield "Probe", MINUTES, "scheduler_invocation"
        yield "Probe", MINUTES, "lambda_request"
        yield "Probe", MINUTES * PROBE_SECONDS * _gigabytes("ProbeFunction", "true"), _COMPUTE
        yield "Probe", 1, "metric"


_EXPRESS, _COMPUTE = "express_gb_hour", f"lambda_gb_second_{_default('Architecture')}"


@cache
def _gigabytes(function: str, probe: str = "false") -> float:
    return float(Template(Probe=probe).function(function)["MemorySize"]) / 1024


def _write_units(use: Use) -> int:
    """Write units of an item in Parked: one for each KB."""
    return math.ceil(use.size(counts.INGESTED["far"].item_bytes, counts.INGESTED["far"].item_per_byte) / 1024)


# The same number of events, with dates in whole seconds, in other ways: from a publisher to an SNS topic. Units of each
# price for one event.
ALTERNATIVES: dict[str, dict[str, float]] = {
    "EventBridge Scheduler (precise to the minute)": {"sns_publish": 1, "scheduler_invocation": 1},
    "Step Functions Standard: Wait, Publish": {"sns_publish": 1, "standard_transition": 2},
    # Invoked at the start and after the wait. What is kept until then is left out, as it is in the bill of a stack.
    "Lambda durable functions: start, wait, step": {
        "sns_publish": 1,
        "durable_operation": 3,
        "durable_written": DURABLE_BYTES / 1e9,
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


def alternatives(events: float) -> dict[str, float]:
    """USD a month for the same number of events in other ways."""
    return {
        name: sum(price(what, units * events) for what, units in parts.items()) for name, parts in ALTERNATIVES.items()
    }


LEVERS: dict[str, dict[str, Any]] = {
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
    """One month of one stack, line by line, and what the alternatives cost."""
    lines = bill(use)
    rows = [
        ["idle" if line.is_idle else "events", line.what, f"{line.units:,.2f}", line.price, f"{line.usd:,.2f}"]
        for line in lines
        if line.usd >= 0.005
    ]
    sums = {"events": total(lines, False), "idle": total(lines, True), "all": total(lines)}
    rows += [[paid_for, "total", "", "", f"{usd:,.2f}"] for paid_for, usd in sums.items()]
    rows += [["instead", name, "", "", f"{usd:,.2f}"] for name, usd in alternatives(use.events).items()]
    return markdown_table(["paid for", "what", "units", "price (`tools/prices.json`)", "USD a month"], rows)


def month_table() -> str:
    """A month at several volumes, as shipped, lean, and in other ways."""
    volumes = (0, 1e6, 1e7, 1e8, 5e8)
    rows = {
        "as shipped": [month(events=events) for events in volumes],
        "lean: logs ERROR, `IngestBatchingSeconds=5`": [month(events=events, **LEAN) for events in volumes],
    }
    rows |= {name: [alternatives(events)[name] for events in volumes] for name in alternatives(0)}
    heads = ["USD a month at", *(f"{events / 1e6:,.0f} M" if events else "no event" for events in volumes)]
    return markdown_table(heads, [[name, *map(_rounded, costs)] for name, costs in rows.items()])


def interval_table() -> str:
    """A month at each sweep interval."""
    rows = [
        [
            f"{interval} s",
            f"{waiting_seconds(Use(interval=interval)):.1f} s",
            *(_rounded(month(interval=interval, events=events)) for events in (0, 1e5, 1e6, 1e8)),
        ]
        for interval in map(int, PARAMETERS["SweepIntervalSeconds"]["AllowedValues"])
    ]
    heads = ["interval", "average wait in Express", "USD a month, idle", "at 0.1 M", "at 1 M", "at 100 M"]
    return markdown_table(heads, rows)


def lever_table() -> str:
    """What each setting changes alone."""
    rows = [
        [name, *(f"{month(events=events, **change) - month(events=events):+,.2f}" for events in (1e6, 1e8))]
        for name, change in LEVERS.items()
    ]
    return markdown_table(["change", "USD a month at 1 M", "at 100 M"], rows)


def _rounded(usd: float) -> str:
    return f"{usd:,.2f}" if usd < 100 else f"{usd:,.0f}"


def _options(command: Any) -> Any:
    """An option for each field of Use: a choice where the template has one."""
    choices = {"interval": "SweepIntervalSeconds", "logs": "ExecutionLogLevel"}
    for field in reversed(dataclasses.fields(Use)):
        option: Any = click.FloatRange(0, 1) if field.name.endswith("_share") else type(field.default)
        if field.name in choices:
            option = click.Choice([option(value) for value in PARAMETERS[choices[field.name]]["AllowedValues"]])
        name = "--" + field.name.replace("_", "-")
        command = click.option(name, type=option, default=field.default, show_default=True)(command)
    return command


@click.command()
@click.option("--tables", is_flag=True, help="The tables of docs/cost.md instead.")
@_options
def main(tables: bool, **use: Any) -> None:
    """What a month costs, in USD, us-east-1. Shares are from 0 to 1."""
    made = [month_table, interval_table, lever_table] if tables else [lambda: bill_table(Use(**use))]
    click.echo("\n\n".join(table() for table in made))


if __name__ == "__main__":
    main(prog_name="python -m tools.cost")
