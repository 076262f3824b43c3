"""How fast the Sweeper starts parked events: the shipped code, against bare loops of the same calls.

All of them run in processes of their own, in the environment of the deployed function, with two differences. The events
are parked in a temporary table, so that the deployed Sweeper does not take them. The executions are of a state machine
that does nothing, so that only their start is measured.
"""

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import batched
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

from tools.bench.stacks import function_configuration
from tools.local import LocalStack

type Item = dict[str, Any]  # of DynamoDB

# All events are due within this time, however many there are: less than the shortest horizon (9 s in template.yaml), so
# that one sweep takes all of them.
DUE_WITHIN_SECONDS = 5
# Executions of one variant may still run when it returns: let them end before the next one begins.
SETTLE_SECONDS = 1
WARM_UP_EVENTS = 200
# All processes of a burst begin at the same time, once each of them has imported the Sweeper.
IMPORT_SECONDS = 3

DO_NOTHING = {"StartAt": "Nothing", "States": {"Nothing": {"Type": "Pass", "End": True}}}


# --- In the benchmark's process ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SweepBenchmark:
    """Runs the Sweeper's code. `environment` is that of the processes that sweep, `timeout_seconds` the function's, and
    `latency_seconds` is added to each of its calls, as by a network."""

    environment: dict[str, str]
    timeout_seconds: int
    latency_seconds: float

    def _processes(self, number: int) -> ProcessPoolExecutor:
        """New processes, in which scheduler.sweeper can be imported as it is in the function."""
        return ProcessPoolExecutor(
            number,
            get_context("spawn"),
            initializer=_become_function,
            initargs=(self.environment, self.latency_seconds),
        )

    def compare(
        self, events: int, repetitions: int, profile: Path | None, show_step: Callable[[str], None]
    ) -> dict[str, Any]:
        """The seconds that each variant takes for the same number of events, several times, in rotating order.

        With `profile`, one more sweep is profiled, and the profile written to that file.
        """
        seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        with self._processes(1) as process:
            for variant in VARIANTS:
                process.submit(run_variant, variant, WARM_UP_EVENTS).result()
            for repetition in range(repetitions):
                order = list(VARIANTS)
                first = repetition % len(order)
                for variant in order[first:] + order[:first]:
                    show_step(f"{variant}, {repetition + 1} of {repetitions}")
                    seconds[variant].append(process.submit(run_variant, variant, events).result())
            if profile:
                show_step("profile")
                profile.write_text(process.submit(profile_sweep, events).result())
        medians = {variant: median(times) for variant, times in seconds.items()}
        return {
            "events": events,
            "seconds": {variant: [round(time, 3) for time in times] for variant, times in seconds.items()},
            "ms_per_event": {variant: round(1000 * middle / events, 3) for variant, middle in medians.items()},
            "starts_per_second": {variant: round(events / middle) for variant, middle in medians.items()},
            "time_ratio_to_start_and_delete": round(medians[SWEEPER] / medians[START_AND_DELETE], 2),
            "rate_ratio_to_start": round(medians[START] / medians[SWEEPER], 2),
        }

    def burst(self, events: int, sweepers: int) -> dict[str, Any]:
        """The time from the first sweep to the last start when many events are due at once, and the memory it takes."""
        with self._processes(1) as process:  # its own, so that its memory does not count
            process.submit(park, events).result()
        with self._processes(sweepers) as processes:
            start_at = time.time() + IMPORT_SECONDS
            running = [processes.submit(sweep_until_empty, start_at, self.timeout_seconds) for _ in range(sweepers)]
            parts = [process.result() for process in running]
        seconds = max(part["ended_at"] for part in parts) - min(part["began_at"] for part in parts)
        return {
            "events": events,
            "sweepers": sweepers,
            "started": sum(part["started"] for part in parts),
            "seconds": round(seconds, 1),
            "starts_per_second": round(events / seconds),
            "sweeps": sum(part["sweeps"] for part in parts),
            "memory_before_mb": round(max(part["memory_before_mb"] for part in parts)),
            "memory_peak_mb": round(max(part["memory_peak_mb"] for part in parts)),
        }


@contextmanager
def sweep_benchmark(stack: LocalStack, latency_seconds: float) -> Iterator[SweepBenchmark]:
    """A benchmark of the deployed Sweeper's code. Its table and state machine exist as long as the block lasts."""
    configuration = function_configuration(stack, "Sweeper")
    dynamodb, states = stack.client("dynamodb"), stack.client("stepfunctions")
    parked = dynamodb.describe_table(TableName=stack.outputs["ParkedTableName"])["Table"]
    name = f"bench-{uuid4().hex[:8]}"
    dynamodb.create_table(
        TableName=name,
        KeySchema=parked["KeySchema"],
        AttributeDefinitions=parked["AttributeDefinitions"],
        BillingMode="PAY_PER_REQUEST",
    )
    machine = states.create_state_machine(
        name=name, definition=json.dumps(DO_NOTHING), roleArn=stack.outputs["DeliverRoleArn"], type="EXPRESS"
    )
    environment = configuration["Environment"]["Variables"] | stack.environment
    environment |= {"PARKED_TABLE": name, "DELIVER_ARN": machine["stateMachineArn"]}
    environment |= {"POWERTOOLS_LOG_LEVEL": "WARNING", "POWERTOOLS_METRICS_DISABLED": "true"}
    try:
        yield SweepBenchmark(environment, configuration["Timeout"], latency_seconds)
    finally:
        states.delete_state_machine(stateMachineArn=machine["stateMachineArn"])
        dynamodb.delete_table(TableName=name)


# --- In the processes that sweep --------------------------------------------------------------------------------------
# scheduler.sweeper makes its clients from the environment when it is imported. So the functions below import it.


def _become_function(environment: dict[str, str], latency_seconds: float) -> None:
    os.environ.update(environment)
    if latency_seconds:
        for service in ("dynamodb", "stepfunctions"):
            _client(service).meta.events.register("before-send.*", lambda **_: time.sleep(latency_seconds))


def _client(service: str) -> Any:
    """The Sweeper's own client: the package keeps one for each service and number of connections."""
    from punctual_core.clients import client
    from punctual_core.sweeper import THREADS

    return client(service, THREADS)


@dataclass(frozen=True)
class Context:
    """The part of Lambda's context that the function uses."""

    end: float  # on the monotonic clock
    aws_request_id: str = field(default_factory=lambda: str(uuid4()))
    function_name: str = "bench"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:000000000000:function:bench"

    def get_remaining_time_in_millis(self) -> int:
        return int(1000 * (self.end - time.monotonic()))


def _sweep(timeout_seconds: float = 3600) -> dict[str, Any]:
    """One run of the function as a helper: it invokes no helpers of its own, which would not sweep this table."""
    from punctual_core.sweeper import HELPER, handler

    return handler(HELPER, Context(time.monotonic() + timeout_seconds))


def _sweep_all(events: int) -> None:
    swept = _sweep()
    if (swept["started"], swept["failed"]) != (events, 0):
        raise RuntimeError(f"The sweep of {events} events ended with {swept}")


def _start_and_delete(events: int) -> None:
    """Only what has to be done: no query, no lease, no handling of failures."""

    def take(batch: Sequence[Item]) -> None:
        for item in batch:
            _start_one(item)
        _delete(batch)

    list(_threads().map(take, _batches(_parked)))


def _start(events: int) -> None:
    list(_threads().map(_start_one, _parked))


def _start_one(item: Item) -> None:
    states = _client("stepfunctions")
    name, input = item["execution"]["S"], item["input"]["S"]
    # Unlike AWS, the emulator refuses the name on a retry after the answer to the first attempt was lost.
    with suppress(states.exceptions.ExecutionAlreadyExists):
        states.start_execution(stateMachineArn=os.environ["DELIVER_ARN"], name=name, input=input)


def _delete(batch: Sequence[Item]) -> None:
    keys = [{"lane": item["lane"], "sort_key": item["sort_key"]} for item in batch]
    requests = [{"DeleteRequest": {"Key": key}} for key in keys]
    _client("dynamodb").batch_write_item(RequestItems={os.environ["PARKED_TABLE"]: requests})


SWEEPER, START_AND_DELETE, START = "Sweeper", "Bare start and delete", "Bare start"
VARIANTS: dict[str, Callable[[int], None]] = {SWEEPER: _sweep_all, START_AND_DELETE: _start_and_delete, START: _start}
_parked: list[Item] = []  # what the bare loops start, read before they are timed
_pool: list[ThreadPoolExecutor] = []


def _threads() -> ThreadPoolExecutor:
    from punctual_core.sweeper import THREADS

    if not _pool:
        _pool.append(ThreadPoolExecutor(THREADS))
    return _pool[0]


def _batches(items: Iterable[Item]) -> Iterator[tuple[Item, ...]]:
    from punctual_core.parking import BATCH_SIZE

    return batched(items, BATCH_SIZE, strict=False)


def run_variant(variant: str, events: int) -> float:
    """Park that many events, start them by one of VARIANTS, and return the seconds that took."""
    park(events)
    pages = _client("dynamodb").get_paginator("scan").paginate(TableName=os.environ["PARKED_TABLE"])
    _parked[:] = [item for page in pages for item in page["Items"] if "execution" in item]  # leases have none
    time.sleep(SETTLE_SECONDS)
    began_at = time.perf_counter()
    VARIANTS[variant](events)
    seconds = time.perf_counter() - began_at
    if variant == START:
        list(_threads().map(_delete, _batches(_parked)))
    return seconds


class _ItemCollector:
    """Stands in for DynamoDB's client, so that Parking makes the items and they can be written in batches."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def put_item(self, TableName: str, Item: Item) -> None:
        self.items.append(Item)


def park(events: int) -> None:
    """Park that many events, due evenly spread over the next DUE_WITHIN_SECONDS."""
    from punctual_core.event import Event, Rules, parse
    from punctual_core.parking import Parking

    table, collector = os.environ["PARKED_TABLE"], _ItemCollector()
    parking = Parking(collector, table)
    rules = Rules("arn:aws:sns:eu-central-1:000000000000:input", ("*",))
    for number in range(events):
        now = datetime.now(UTC)
        due = now + timedelta(seconds=DUE_WITHIN_SECONDS * number / events)
        message = {
            "date": due.isoformat(),
            "target": "arn:aws:sns:eu-central-1:000000000000:bench",
            "user": "bench",
            "payload": "x" * 100,
        }
        event = parse(json.dumps(message), str(uuid4()), now, rules)
        assert isinstance(event, Event)
        parking.park(event)
    write = _client("dynamodb").batch_write_item

    def put(batch: Sequence[Item]) -> None:
        write(RequestItems={table: [{"PutRequest": {"Item": item}} for item in batch]})

    list(_threads().map(put, _batches(collector.items)))


def sweep_until_empty(start_at: float, timeout_seconds: float) -> dict[str, Any]:
    """From `start_at` (Unix time), sweep as the function does, again and again until no event is parked."""
    memory_before = _peak_memory_mb()
    time.sleep(max(start_at - time.time(), 0))
    began_at, ended_at, sweeps, started = time.time(), start_at, 0, 0
    while _is_anything_parked():
        swept = _sweep(timeout_seconds)
        if swept["started"]:
            sweeps, started, ended_at = sweeps + 1, started + swept["started"], time.time()
        else:
            time.sleep(0.1)  # other sweepers hold the leases of the remaining lanes
    return {
        "began_at": began_at,
        "ended_at": ended_at,
        "sweeps": sweeps,
        "started": started,
        "memory_before_mb": memory_before,
        "memory_peak_mb": _peak_memory_mb(),
    }


def _is_anything_parked() -> bool:
    from punctual_core.lanes import lanes

    query, table = _client("dynamodb").query, os.environ["PARKED_TABLE"]
    return any(
        query(
            TableName=table,
            KeyConditionExpression="lane = :lane",
            ExpressionAttributeValues={":lane": {"S": lane}},
            Limit=1,
        )["Items"]
        for lane in lanes()
    )


def _peak_memory_mb() -> float:
    """The most memory that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def profile_sweep(events: int) -> str:
    """Profile one of the Sweeper's threads: pyinstrument sees only the thread that starts it."""
    import punctual_core.sweeper as function
    from pyinstrument import Profiler

    profiler, only_one, this = Profiler(interval=0.0005), threading.Lock(), threading.local()

    class ProfiledThreads(ThreadPoolExecutor):
        def submit[**P, T](self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
            def profiled() -> T:
                if not hasattr(this, "is_profiled"):
                    this.is_profiled = only_one.acquire(blocking=False)
                with profiler if this.is_profiled else nullcontext():
                    return work(*args, **kwargs)

            return super().submit(profiled)

    park(events)
    function.sweeper = replace(function.sweeper, threads=ProfiledThreads(function.THREADS))
    _sweep_all(events)
    return profiler.output_text(unicode=True)
