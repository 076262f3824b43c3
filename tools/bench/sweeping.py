"""How fast the Sweeper starts parked events: the shipped code, against a bare loop of the same calls.

Both run in a process of their own that has the environment of the deployed function, except for two things that both
share: the events are parked in a table of the bench's own, so that the deployed Sweeper does not take them, and what is
started is a state machine that does nothing, so that it is the starting that is measured.
"""

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
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

# The events are due within this, as many as there are: all within any horizon.
WITHIN_SECONDS = 10
# What the Sweeper has on AWS (Timeout in template.yaml). A sweep that runs out of it leaves the rest to the next.
TIMEOUT_SECONDS = 30
# Whatever an arm has started still runs when the next one begins: let it end.
SETTLE_SECONDS = 1
WARM_UP_EVENTS = 200

NOTHING = {"StartAt": "Nothing", "States": {"Nothing": {"Type": "Pass", "End": True}}}


# --- In the bench -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """Where to measure: the environment of the processes that sweep, the deployed function's with the bench's own table
    and state machine; and by how many seconds each of their calls is delayed, as by a network."""

    environment: dict[str, str]
    latency: float

    def processes(self, number: int) -> ProcessPoolExecutor:
        """Fresh processes, in which scheduler.sweeper can be imported as it is in the function."""
        return ProcessPoolExecutor(
            number, get_context("spawn"), initializer=_become_function, initargs=(self.environment, self.latency)
        )

    def race(self, events: int, repetitions: int, profile: Path | None, tell: Callable[[str], None]) -> dict[str, Any]:
        """Time of each arm over the same number of events, repeated, in an order that rotates. `tell` is told how far
        it is. With `profile`, one more sweep is profiled and the profile written there."""
        seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
        with self.processes(1) as process:
            for arm in ARMS:
                process.submit(run_arm, arm, WARM_UP_EVENTS).result()
            for repetition in range(repetitions):
                arms = list(ARMS)
                for arm in arms[repetition % len(arms) :] + arms[: repetition % len(arms)]:
                    tell(f"{arm}, {repetition + 1} of {repetitions}")
                    seconds[arm].append(process.submit(run_arm, arm, events).result())
            if profile:
                tell("profile")
                profile.write_text(process.submit(profile_sweep, events).result())
        medians = {arm: median(times) for arm, times in seconds.items()}
        return {
            "events": events,
            "seconds": {arm: [round(time, 3) for time in times] for arm, times in seconds.items()},
            "ms_per_event": {arm: round(1000 * middle / events, 3) for arm, middle in medians.items()},
            "starts_per_second": {arm: round(events / middle) for arm, middle in medians.items()},
            "time_to_start_and_delete": round(medians["Sweeper"] / medians["start and delete"], 2),
            "rate_to_start": round(medians["start"] / medians["Sweeper"], 2),
        }

    def stress(self, events: int, sweepers: int) -> dict[str, Any]:
        """The time from the first sweep to the last start of a crowd of parked events, and the memory it takes."""
        with self.processes(1) as process:  # of its own, so that its memory is not counted
            process.submit(park, events).result()
        with self.processes(sweepers) as processes:
            start_at = time.time() + 3  # when all of them have imported the Sweeper
            drained = [process.result() for process in [processes.submit(drain, start_at) for _ in range(sweepers)]]
        seconds = max(part["ended_at"] for part in drained) - min(part["began_at"] for part in drained)
        return {
            "events": events,
            "sweepers": sweepers,
            "started": sum(part["started"] for part in drained),
            "seconds": round(seconds, 1),
            "starts_per_second": round(events / seconds),
            "sweeps": sum(part["sweeps"] for part in drained),
            "memory_before_mb": round(max(part["memory_before_mb"] for part in drained)),
            "memory_peak_mb": round(max(part["memory_peak_mb"] for part in drained)),
        }


@contextmanager
def bench(stack: Any, function: str, parked_table: str, role: str, latency: float) -> Iterator[Bench]:
    """A place to measure, on the emulator `stack`, for as long as the block lasts: `function` is the name of the
    deployed Sweeper, `parked_table` that of its table, `role` the ARN of a role that a state machine may have;
    `latency` is in seconds."""
    lambda_, dynamodb, states = (stack.client(service) for service in ("lambda", "dynamodb", "stepfunctions"))
    environment = lambda_.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    shape = dynamodb.describe_table(TableName=parked_table)["Table"]
    name = f"bench-{uuid4().hex[:8]}"
    dynamodb.create_table(
        TableName=name,
        KeySchema=shape["KeySchema"],
        AttributeDefinitions=shape["AttributeDefinitions"],
        BillingMode="PAY_PER_REQUEST",
    )
    machine = states.create_state_machine(name=name, definition=json.dumps(NOTHING), roleArn=role, type="EXPRESS")
    own = {"PARKED_TABLE": name, "DELIVER_ARN": machine["stateMachineArn"], "POWERTOOLS_LOG_LEVEL": "WARNING"}
    own |= {"POWERTOOLS_METRICS_DISABLED": "true"}
    try:
        yield Bench(environment | stack.environment | own, latency)
    finally:
        states.delete_state_machine(stateMachineArn=machine["stateMachineArn"])
        dynamodb.delete_table(TableName=name)


# --- In the processes that sweep --------------------------------------------------------------------------------------
# scheduler.sweeper makes its clients when it is imported, from the environment: so it is imported in the functions.


def _become_function(environment: dict[str, str], latency: float) -> None:
    os.environ.update(environment)
    if latency:
        from scheduler.clients import client
        from scheduler.sweeper import THREADS

        for service in ("dynamodb", "stepfunctions"):
            client(service, THREADS).meta.events.register("before-send.*", lambda **_: time.sleep(latency))


@dataclass(frozen=True)
class Context:
    """What the function asks of its Lambda context."""

    end: float  # on the monotonic clock
    aws_request_id: str = field(default_factory=lambda: str(uuid4()))
    function_name: str = "bench"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:000000000000:function:bench"

    def get_remaining_time_in_millis(self) -> int:
        return int(1000 * (self.end - time.monotonic()))


def _sweep(seconds: float = 3600) -> dict[str, Any]:
    """One run of the function. It calls no helpers: those would not sweep our table."""
    from scheduler.sweeper import handler

    return handler({"helper": True}, Context(time.monotonic() + seconds))


def _sweep_all(events: int) -> None:
    swept = _sweep()
    if (swept["started"], swept["failed"]) != (events, 0):
        raise RuntimeError(f"The sweep of {events} events ended with {swept}")


def _start_and_delete(events: int) -> None:
    """What has to be done, and no more: no query, no lease, no care for failures."""
    from scheduler.clients import client
    from scheduler.parking import BATCH_SIZE
    from scheduler.sweeper import THREADS

    table, write = os.environ["PARKED_TABLE"], client("dynamodb", THREADS).batch_write_item

    def take(batch: tuple) -> None:
        for event in batch:
            _start_one(event)
        keys = [{"lane": {"S": event.lane}, "due": {"S": event.due}} for event in batch]
        write(RequestItems={table: [{"DeleteRequest": {"Key": key}} for key in keys]})

    list(_threads().map(take, batched(_parked, BATCH_SIZE, strict=False)))


def _start(events: int) -> None:
    list(_threads().map(_start_one, _parked))


def _start_one(event: Any) -> None:
    from scheduler.clients import client
    from scheduler.sweeper import THREADS

    states = client("stepfunctions", THREADS)
    # The emulator says so, as AWS does not, when the answer to the first attempt was lost.
    with suppress(states.exceptions.ExecutionAlreadyExists):
        states.start_execution(stateMachineArn=os.environ["DELIVER_ARN"], name=event.execution, input=event.input)


ARMS: dict[str, Callable[[int], None]] = {"Sweeper": _sweep_all, "start and delete": _start_and_delete, "start": _start}
_parked: list[Any] = []  # what the bare loops start, read before they are timed
_pool: list[ThreadPoolExecutor] = []


def _threads() -> ThreadPoolExecutor:
    from scheduler.sweeper import THREADS

    if not _pool:
        _pool.append(ThreadPoolExecutor(THREADS))
    return _pool[0]


def run_arm(arm: str, events: int) -> float:
    """Park that many events, have the arm start them, and return the seconds that took."""
    from scheduler.parking import BATCH_SIZE, lanes
    from scheduler.sweeper import sweeper

    park(events)
    later = datetime.now(UTC) + timedelta(days=1)
    _parked[:] = [event for lane in lanes() for event in sweeper.parking.due(lane, later)]
    time.sleep(SETTLE_SECONDS)
    began_at = time.perf_counter()
    ARMS[arm](events)
    seconds = time.perf_counter() - began_at
    if arm == "start":
        for batch in batched(_parked, BATCH_SIZE, strict=False):
            sweeper.parking.delete(batch)
    return seconds


class _Collector:
    """Takes the place of DynamoDB's client, so that park() makes the items and they can be written in batches."""

    def __init__(self) -> None:
        self.items: list[dict] = []

    def put_item(self, TableName: str, Item: dict) -> None:
        self.items.append(Item)


def park(events: int) -> None:
    """Park events that are all due within the next seconds."""
    from scheduler.clients import client
    from scheduler.event import Rules, parse
    from scheduler.parking import BATCH_SIZE, Parking
    from scheduler.sweeper import THREADS

    table, collector = os.environ["PARKED_TABLE"], _Collector()
    parking = Parking(collector, table)
    rules = Rules("arn:aws:sns:eu-central-1:000000000000:input", ("*",))
    for number in range(events):
        due = datetime.now(UTC) + timedelta(seconds=WITHIN_SECONDS * number / events)
        message = {
            "date": due.isoformat(),
            "target": rules.input_topic[:-5] + "bench",
            "user": "bench",
            "payload": "x" * 100,
        }
        parking.park(parse(json.dumps(message), str(uuid4()), rules))
    puts = [{"PutRequest": {"Item": item}} for item in collector.items]
    write = client("dynamodb", THREADS).batch_write_item
    list(
        _threads().map(lambda batch: write(RequestItems={table: list(batch)}), batched(puts, BATCH_SIZE, strict=False))
    )


def drain(start_at: float) -> dict[str, Any]:
    """From `start_at` (seconds since 1970) sweep, as the function does, again and again until nothing is left."""
    from scheduler.parking import lanes
    from scheduler.sweeper import sweeper

    before = _memory_mb()
    time.sleep(max(start_at - time.time(), 0))
    began_at, ended_at, sweeps, started = time.time(), start_at, 0, 0
    later = datetime.now(UTC) + timedelta(days=1)
    while any(sweeper.parking.earliest(lane, later) for lane in lanes()):
        swept = _sweep(TIMEOUT_SECONDS)
        if swept["started"]:
            sweeps, started, ended_at = sweeps + 1, started + swept["started"], time.time()
        else:
            time.sleep(0.1)  # the lanes that are left are others'
    return {
        "began_at": began_at,
        "ended_at": ended_at,
        "sweeps": sweeps,
        "started": started,
        "memory_before_mb": before,
        "memory_peak_mb": _memory_mb(),
    }


def _memory_mb() -> float:
    """The most that this process has held in memory."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024 * 1024 if sys.platform == "darwin" else 1024)


def profile_sweep(events: int) -> str:
    """Where the time goes in the threads of a sweep: a profile of one of them, by pyinstrument, which sees the thread
    that it is started in."""
    import scheduler.sweeper as function
    from pyinstrument import Profiler

    profiler, one, this = Profiler(interval=0.0005), threading.Lock(), threading.local()

    class ProfiledThreads(ThreadPoolExecutor):
        def submit(self, work: Callable, /, *arguments: Any, **named: Any) -> Future:
            def profiled() -> Any:
                if not hasattr(this, "is_chosen"):
                    this.is_chosen = one.acquire(blocking=False)
                with profiler if this.is_chosen else nullcontext():
                    return work(*arguments, **named)

            return super().submit(profiled)

    park(events)
    function.sweeper = replace(function.sweeper, threads=ProfiledThreads(function.THREADS))
    _sweep_all(events)
    return profiler.output_text(unicode=True)
