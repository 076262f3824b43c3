"""The bill of one month: counted calls times published prices. Arithmetic, not a bill of AWS."""

import dataclasses
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Required, TypedDict

from tools.estimates import template
from tools.estimates.counting import PAYLOAD_BYTES, Counts, EventCount

PRICES = template.ROOT / "tools/estimates/prices.json"
MONTH_SECONDS = 30 * 24 * 3600
FUNCTIONS = ("Ingest", "Sweeper", "Hold")
GB_HOUR = "express_gb_hour"
ALARM = "AWS::CloudWatch::Alarm"

# Believed, not counted. Nothing of this was measured on AWS by this project.
INGEST_SECONDS = 0.05  # a warm invocation: parse, one call to AWS
EMPTY_SWEEP_SECONDS = 0.06  # a sweep that finds nothing: a query of each lane, side by side
START_SECONDS = 1 / 500  # of a Sweeper's time for each event
PROBE_SECONDS = 0.02  # an invocation of the probe's function
HOLD_SECONDS = 1.0  # it is invoked 0.5 to 1.5 s before the event is due
DELIVER_SECONDS = 0.15  # Deliver beside its waits: five states, two calls, half of the 100 ms that are rounded up
EXPRESS_GB = 0.0625  # 64 MB, the smallest step: definition and input are a few KB
LOG_COMPRESSION = 0.2  # CloudWatch stores logs compressed
DURABLE_BYTES = 1000  # written by an execution of a durable function: the message, a wait, a step
EMPTY_RECEIVES_PER_SECOND = 5 * 3 / 60  # five pollers of Lambda, each with long polls of 20 s
MAX_BATCH = 10  # messages (BatchSize in template.yaml)
CHUNK_BYTES = 65536  # SNS and SQS bill a message for each 64 KB


class Price(TypedDict, total=False):
    """One entry of prices.json: either `tiers` (size and USD per unit; the last has no size), or `usd` for `per` units,
    the first `free` of them without charge."""

    usd: float
    per: float
    free: float
    tiers: list[tuple[float | None, float]]
    unit: Required[str]
    source: Required[str]
    seen: Required[str]


class Prices(TypedDict):
    about: str
    region: str
    date: str
    prices: dict[str, Price]


def load_prices() -> Prices:
    prices: Prices = json.loads(PRICES.read_text())
    return prices


@dataclasses.dataclass(frozen=True)
class Use:
    """How one stack is used, spread evenly over a month. Shares are of the events, from 0 to 1. Settings have the
    defaults of template.yaml."""

    events: float = 1_000_000
    interval_seconds: int = int(template.default("SweepIntervalSeconds"))
    batching_seconds: int = int(template.default("IngestBatchingSeconds"))
    logs: str = template.default("ExecutionLogLevel")
    far_share: float = 1.0  # published earlier than the horizon, so parked
    fraction_share: float = 0.0
    named_share: float = 0.0
    failed_share: float = 0.0
    payload_bytes: int = PAYLOAD_BYTES
    retention_days: int = int(template.default("LogRetentionDays"))
    architecture: str = template.default("Architecture")
    is_traced: bool = template.default("Tracing") == "true"
    has_dashboard: bool = template.default("Dashboard") == "true"
    has_probe: bool = template.default("Probe") == "true"

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / MONTH_SECONDS

    @property
    def batch(self) -> float:
        """Messages in an invocation of Ingest: the first, and those that Lambda collects after it."""
        return min(MAX_BATCH, 1 + self.rate * self.batching_seconds)


def waiting_seconds(use: Use, counts: Counts) -> float:
    """How long an event waits in Express on average.

    A near event is published at any moment within the horizon. A parked one is started by the first sweep that has it
    within the horizon, or within the look-ahead if its lane is crowded then.
    """
    horizon, interval, sweep = template.horizon_seconds(use.interval_seconds), use.interval_seconds, counts["sweep"]
    rate = use.rate * use.far_share / sweep["lanes"]  # of one lane
    waited = events = 0.0
    started_until = 0.0  # due times
    for number in range(2_000):
        now = number * interval
        ahead = now + horizon + sweep["look_ahead_seconds"]
        is_crowded = rate > sweep["lane_rate"]
        until = max(ahead if is_crowded else now + horizon, started_until)
        if number >= 100:  # after the beginning, in which nothing is parked
            events += until - started_until
            waited += (until - started_until) * ((until + started_until) / 2 - now)
        started_until = until
    return use.far_share * waited / events + (1 - use.far_share) * horizon / 2


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a bill. `is_idle` says that it is paid without any event, too."""

    what: str
    is_idle: bool
    units: float
    price: str
    usd: float


def bill(use: Use, counts: Counts, prices: Prices) -> list[Line]:
    """A month of one stack, line by line."""
    units: defaultdict[tuple[str, bool, str], float] = defaultdict(float)
    for is_idle, part in (False, _units_of_events(use, counts)), (True, _units_when_idle(use, counts)):
        for what, amount, price in part:
            units[what, is_idle, price] += amount
    # Where the price falls with the month's total, each line has its share of that total's price.
    totals: defaultdict[str, float] = defaultdict(float)
    for (_, _, price), amount in units.items():
        totals[price] += amount
    return [
        Line(what, is_idle, amount, price, usd(prices, price, totals[price]) * amount / totals[price])
        for (what, is_idle, price), amount in units.items()
        if amount
    ]


def usd(prices: Prices, price: str, units: float) -> float:
    """The price of that many units in one month."""
    entry = prices["prices"][price]
    if "tiers" not in entry:
        return max(0.0, units - entry.get("free", 0)) / entry["per"] * entry["usd"]
    total = 0.0
    for size, rate in entry["tiers"]:
        part = units if size is None else min(units, size)
        total, units = total + part * rate, units - part
    return total


def total(lines: list[Line], is_idle: bool | None = None) -> float:
    """USD of all lines, or only of those that are paid without any event, or only of the others."""
    return sum(line.usd for line in lines if is_idle in (None, line.is_idle))


# What a counted call is on the bill, and its price.
_LINES_OF_CALLS = {
    "dynamodb:PutItem": ("Parked: write", "dynamodb_write"),
    "dynamodb:UpdateItem": ("Register: write", "dynamodb_write"),
    "dynamodb:getItem": ("Deliver: register read", "dynamodb_read"),
    "lambda:invoke": ("Hold: invocations", "lambda_request"),
    "sns:Publish": ("Failure reports", "sns_publish"),
    "sns:publish": ("Deliver: SNS publish", "sns_publish"),
    "sqs:sendMessage": ("Undelivered: send", "sqs_request"),
    "stepfunctions:StartExecution": ("Deliver: executions", "express_request"),
}

type _Units = Iterator[tuple[str, float, str]]  # what, units, price


def _units_of_events(use: Use, counts: Counts) -> _Units:
    if use.events:
        yield from _units_of_input(use, counts)
        yield from _units_of_parking(use, counts)
        yield from _units_of_deliver(use, counts)
        yield "Custom metrics", len(counts["metrics"]), "metric"
        if use.is_traced:  # X-Ray's default rule: the first trace of each second, and 5 % of the others.
            yield "Traces", MONTH_SECONDS * (min(use.rate, 1) + max(0, use.rate - 1) / 20), "trace"


def _units_of_input(use: Use, counts: Counts) -> _Units:
    messages = use.events * _chunks(use, counts)
    invocations = use.events / use.batch
    yield "Input: SNS publish", messages, "sns_publish"
    yield "Input: SQS send, receive, delete", messages * (1 + 2 / use.batch), "sqs_request"
    yield "Ingest: invocations", invocations, "lambda_request"
    yield "Ingest: compute", invocations * INGEST_SECONDS * template.memory_gb("Ingest"), _compute(use)
    one, ten = (counts["function_log_bytes"][f"batch of {size}"] for size in (1, MAX_BATCH))
    log_bytes = one + (ten - one) * (use.batch - 1) / (MAX_BATCH - 1)
    yield "Function logs", invocations * log_bytes / 1e9, "log_ingested"
    for kind, far in ("near", 1 - use.far_share), ("far", use.far_share):
        for name, share in (kind, 1 - use.named_share), (f"{kind}, named", use.named_share):
            counted = counts["events"][name]
            for call, times in counted["ingest"].items():
                what, price = _LINES_OF_CALLS[call]
                size = _item_units(counted, use) if call == "dynamodb:PutItem" else 1
                yield what, use.events * far * share * times * size, price


def _units_of_parking(use: Use, counts: Counts) -> _Units:
    """What a far event costs beside the write of its item: it is read, started and deleted by a sweep."""
    far, sweep, counted = use.events * use.far_share, counts["sweep"], counts["events"]["far"]
    sweeps = MONTH_SECONDS / use.interval_seconds
    lanes_with_events = sweep["lanes"] * (1 - math.exp(-far / sweeps / sweep["lanes"]))  # a sweep, at an even rate
    one, none = (Counter(sweep["calls"][found]) for found in ("1", "0"))
    lease_writes = sum((one - none)[f"dynamodb:{call}Item"] for call in ("Update", "Delete"))
    yield "Deliver: executions", far, "express_request"
    yield "Parked: delete", far * _item_units(counted, use), "dynamodb_write"
    yield "Parked: lane leases", sweeps * lanes_with_events * lease_writes, "dynamodb_write"
    yield "Parked: read", far * _item_bytes(counted, use) / 4096 + sweeps * lanes_with_events, "dynamodb_read"
    # A query of a lane reads what is due until the end of the look-ahead; its first 4 KB are in the idle lines.
    width = sweep["look_ahead_seconds"] + use.interval_seconds
    seen = min(far / MONTH_SECONDS / sweep["lanes"] * width, sweep["max_keys"])
    more = max(0.0, seen * _item_bytes(counted, use) / 4096 - 1) / 2
    yield "Parked: look-ahead", sweeps * sweep["lanes"] * more, "dynamodb_read"
    yield "Sweeper: compute", far * START_SECONDS * template.memory_gb("Sweeper"), _compute(use)


def _units_of_deliver(use: Use, counts: Counts) -> _Units:
    """The execution, which is the same for a near and a far event."""
    held, failed = use.events * use.fraction_share, use.events * use.failed_share
    for kind, times in ("near", use.events - held - failed), ("near, fraction", held), ("not delivered", failed):
        counted = counts["events"][kind]
        for call, calls in counted["deliver"].items():
            what, price = _LINES_OF_CALLS[call]
            yield what, times * calls * _chunks(use, counts), price
        logged = times * _execution_log_bytes(counted, use, counts) / 1e9
        yield "Execution logs: ingested", logged, "log_ingested"
        yield "Execution logs: stored", logged * LOG_COMPRESSION * use.retention_days / 30, "log_stored"
    yield (
        "Deliver: waiting and running",
        use.events * _gb_hours(waiting_seconds(use, counts) + DELIVER_SECONDS),
        GB_HOUR,
    )
    yield "Hold: compute", held * HOLD_SECONDS * template.memory_gb("Hold"), _compute(use)


def _units_when_idle(use: Use, counts: Counts) -> _Units:
    minutes = MONTH_SECONDS / 60  # an execution of Sweep in each
    sweep, execution = counts["sweep"], counts["sweep_executions"][str(use.interval_seconds)]
    sweeps = minutes * execution["calls"]["lambda:invoke"]
    yield "Clock: invocations", minutes, "scheduler_invocation"
    yield "Sweep: executions", minutes, "express_request"
    # It logs nothing: its log level is ERROR or lower (template.yaml).
    yield "Sweep: waiting", minutes * _gb_hours(execution["waits_seconds"]), GB_HOUR
    yield "Sweep: record of the latest", minutes * execution["calls"]["dynamodb:putItem"], "dynamodb_write"
    yield "Sweep: look-up of the latest", minutes * execution["calls"]["dynamodb:getItem"], "dynamodb_read"
    yield "Sweeper: invocations", sweeps, "lambda_request"
    yield "Sweeper: compute", sweeps * EMPTY_SWEEP_SECONDS * template.memory_gb("Sweeper"), _compute(use)
    yield "Sweeper: logs", sweeps * sweep["function_log_bytes"]["0"] / 1e9, "log_ingested"
    # A query that finds nothing is half a read unit: it is eventually consistent.
    yield "Sweeper: lane queries", sweeps * sweep["calls"]["0"]["dynamodb:Query"] / 2, "dynamodb_read"
    yield "Input queue: empty receives", MONTH_SECONDS * EMPTY_RECEIVES_PER_SECOND, "sqs_request"
    yield "Alarms", template.count(ALARM), "alarm"
    if use.is_traced:
        yield "Sweep: traces", minutes, "trace"
    if use.has_dashboard:
        yield "Dashboard", template.count("AWS::CloudWatch::Dashboard", "DashboardOn"), "dashboard"
    if use.has_probe:
        yield from _units_of_probe(use, counts)


def _units_of_probe(use: Use, counts: Counts) -> _Units:
    """An event each minute, parked and with a fraction of a second; its function, metric and alarms."""
    minutes = MONTH_SECONDS / 60
    probe = dataclasses.replace(use, events=minutes, far_share=1.0, fraction_share=1.0, named_share=0.0)
    for part in _units_of_input, _units_of_parking, _units_of_deliver:
        for _, units, price in part(probe, counts):
            yield "Probe", units, price
    yield "Probe", minutes, "scheduler_invocation"
    yield "Probe", minutes, "lambda_request"
    yield "Probe", minutes * PROBE_SECONDS * template.memory_gb("ProbeFunction"), _compute(use)
    yield "Probe", 1, "metric"
    yield "Probe", template.count(ALARM, "ProbeOn"), "alarm"


def _execution_log_bytes(counted: EventCount, use: Use, counts: Counts) -> float:
    match use.logs:
        case "ALL":
            longer = counts["deliver_log_bytes_per_payload_byte"] * (use.payload_bytes - PAYLOAD_BYTES)
            return counted["deliver_log_bytes"] + longer
        case "OFF":
            return 0
        case _:
            return counted["deliver_error_log_bytes"]


def _chunks(use: Use, counts: Counts) -> int:
    """What SNS and SQS bill a message as."""
    message_bytes = counts["events"]["near"]["message_bytes"] + use.payload_bytes - PAYLOAD_BYTES
    return math.ceil(message_bytes / CHUNK_BYTES)


def _item_bytes(counted: EventCount, use: Use) -> int:
    return counted["item_bytes"] + use.payload_bytes - PAYLOAD_BYTES


def _item_units(counted: EventCount, use: Use) -> int:
    """Write units of an item in Parked: one for each KB."""
    return math.ceil(_item_bytes(counted, use) / 1024)


def _gb_hours(seconds: float) -> float:
    return seconds * EXPRESS_GB / 3600


def _compute(use: Use) -> str:
    return f"lambda_gb_second_{use.architecture}"


def alternatives(events: float, prices: Prices) -> dict[str, float]:
    """USD a month for the same number of events, with dates in whole seconds, in other ways: from a publisher to an SNS
    topic."""

    def cost(price: str, units: float) -> float:
        return usd(prices, price, units)

    publish = cost("sns_publish", events)
    return {
        "EventBridge Scheduler (precise to the minute)": publish + cost("scheduler_invocation", events),
        "Step Functions Standard: Wait, Publish": publish + cost("standard_transition", 2 * events),
        # The function is invoked at the start and after the wait. What is kept until then is left out, as it is in the
        # bill of a stack.
        "Lambda durable functions: start, wait, step": publish
        + cost("durable_operation", 3 * events)
        + cost("durable_written", events * DURABLE_BYTES / 1e9)
        + cost("lambda_request", 2 * events)
        + cost("lambda_gb_second_arm64", 2 * events * INGEST_SECONDS * 0.125),
        # By its published code: SNS invokes a function; an item in a table with an index is put, updated and deleted
        # (two writes each); two functions work in hundreds; SQS in tens; the last function sleeps half a second for
        # ten events.
        "The predecessor, bahrmichael/aws-scheduler": 2 * publish
        + cost("lambda_request", 1.1 * events)
        + cost("lambda_gb_second_x86_64", events * (0.05 + 0.5 / 10))
        + cost("dynamodb_write", 6 * events)
        + cost("dynamodb_read", events)
        + cost("sqs_request", 0.3 * events)
        + cost("log_ingested", events * 600 / 1e9),
    }
