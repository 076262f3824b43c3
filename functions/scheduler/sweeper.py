"""Function: parked events that are due within the horizon, started. Several may run at the same moment."""

import json
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import batched
from typing import Any
from uuid import uuid4

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from scheduler.clients import client
from scheduler.deliver import DeliverWorkflow, PermanentStartError
from scheduler.failures import Failures
from scheduler.parking import BATCH_SIZE, DeletesUnprocessed, ParkedEvent, Parking, due_of, lanes

# A call is mostly waiting, but its 1.5 ms of CPU are spent under Python's one lock: more threads gain nothing.
THREADS = 32
# Twice the threads keeps all of them busy and little in memory, however long a lane is.
MAX_BATCHES_IN_FLIGHT = 2 * THREADS
# When this little of the function's time is left, start nothing more: what is under way needs it to end well.
DEADLINE_MARGIN_SECONDS = 8
# So many starts, two seconds' work at the least, show a burst: the lanes left get sweepers of their own. Those call
# nobody, so that there are never many more than lanes.
MAX_STARTS_BEFORE_HELPERS = 1000
HELPER = {"helper": True}

logger = Logger()
metrics = Metrics(namespace="Punctual")


@dataclass
class SweepResult:
    """What a sweep did: how many executions it started, how many events it could not start or delete yet, and how late
    the earliest one was when it was found (seconds)."""

    started: int = 0
    failed: int = 0
    overdue_seconds: float = 0.0

    def add(self, part: "SweepResult") -> None:
        self.started += part.started
        self.failed += part.failed


@dataclass(frozen=True)
class Sweeper:
    horizon: timedelta
    parking: Parking
    workflow: DeliverWorkflow
    failures: Failures
    call_helpers: Callable[[int], None]
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS))

    def sweep(
        self, now: datetime, holder: str, seconds_left: Callable[[], float], *, is_helper: bool = False
    ) -> SweepResult:
        """Start whatever is parked and due before `now` plus the horizon, lane by lane.

        `holder` is this sweep's name on the leases it takes; a lane that another sweep holds is passed over. When there
        turns out to be much to do, it calls a helper for each lane left, once, unless it is a helper itself.
        """
        swept, before = SweepResult(), now + self.horizon
        order = lanes()
        random.shuffle(order)  # so that sweeps of the same moment begin at different ends
        heads = self.threads.map(lambda lane: self.parking.earliest(lane, before), order)
        waiting = deque((lane, earliest) for lane, earliest in zip(order, heads, strict=True) if earliest)
        # What is to be waited for, in its order: batches, and behind a lane's last batch the return of its lease. So
        # short lanes are swept side by side, and a long one alone.
        under_way: deque[Callable[[], SweepResult]] = deque()
        may_call = not is_helper
        try:
            while waiting:
                lane, earliest = waiting.popleft()
                swept.overdue_seconds = max(swept.overdue_seconds, (now - due_of(earliest)).total_seconds())
                if seconds_left() < DEADLINE_MARGIN_SECONDS:
                    break
                is_held = True  # Perhaps: if acquire fails, its effect is not known.
                try:
                    is_held = self.parking.acquire(lane, holder, now)
                    if not is_held:
                        continue
                    for events in batched(self.parking.due(lane, before), BATCH_SIZE, strict=False):
                        if seconds_left() < DEADLINE_MARGIN_SECONDS:
                            break
                        under_way.append(self.threads.submit(self._start_and_delete, events, seconds_left).result)
                        if len(under_way) > MAX_BATCHES_IN_FLIGHT:
                            swept.add(under_way.popleft()())
                        if may_call and swept.started >= MAX_STARTS_BEFORE_HELPERS:
                            may_call = False
                            self.call_helpers(len(waiting))
                except (ClientError, BotoCoreError):
                    swept.failed += 1
                    logger.exception("lane left before its end, the next sweep goes on", extra={"lane": lane})
                finally:
                    if is_held:
                        under_way.append(partial(self._release, lane, holder))
        finally:
            while under_way:
                swept.add(under_way.popleft()())
        return swept

    def _release(self, lane: str, holder: str) -> SweepResult:
        try:
            self.parking.release(lane, holder)
        except (ClientError, BotoCoreError):
            logger.exception("lease not given back, it ends by itself", extra={"lane": lane})
        return SweepResult()

    def _start_and_delete(self, events: Sequence[ParkedEvent], seconds_left: Callable[[], float]) -> SweepResult:
        """Start, then delete: a crash in between repeats an event, it never loses one."""
        swept, done = SweepResult(), []
        for event in events:
            if seconds_left() < DEADLINE_MARGIN_SECONDS:
                break
            try:
                self._start(event)
                done.append(event)
            except (ClientError, BotoCoreError):
                swept.failed += 1
                logger.exception("not started, the next sweep will try", extra={"execution": event.execution})
        swept.started = len(done)
        try:
            self.parking.delete(done)
        except (ClientError, BotoCoreError, DeletesUnprocessed):
            swept.failed += len(done)
            logger.exception("started but not deleted, so the next sweep repeats them", extra={"events": len(done)})
        return swept

    def _start(self, event: ParkedEvent) -> None:
        try:
            self.workflow.start(event.execution, event.input)
        except PermanentStartError as refusal:  # It must not block its lane.
            input = json.loads(event.input)
            received = input["event"] | {"payload": input["publish"]["Message"]}
            error = f"Step Functions does not take this event: {refusal}"
            self.failures.report(error, input["id"], received, received.get("failure_topic"))


def _from_environment() -> Sweeper:
    env = os.environ
    return Sweeper(
        horizon=timedelta(seconds=int(env["HORIZON_SECONDS"])),
        parking=Parking(client("dynamodb", THREADS), env["PARKED_TABLE"]),
        workflow=DeliverWorkflow(client("stepfunctions", THREADS), env["DELIVER_ARN"]),
        failures=Failures(client, env["FAILURE_TOPIC_ARN"], env["UNDELIVERED_URL"]),
        call_helpers=_call_helpers,
    )


def _call_helpers(number: int) -> None:
    """Invoke this function again, so many times, without waiting for it. If that fails, the next tick is the help."""
    try:
        for _ in range(number):
            client("lambda").invoke(
                FunctionName=os.environ["AWS_LAMBDA_FUNCTION_NAME"],
                InvocationType="Event",
                Payload=json.dumps(HELPER),
            )
    except (ClientError, BotoCoreError):
        logger.exception("no helpers")


sweeper = _from_environment()


@logger.inject_lambda_context
def handler(event: dict, context: Any) -> dict:
    """Lambda's entry. `event` is HELPER or anything else; returns what the sweep did, for the console."""
    swept = sweeper.sweep(
        now=datetime.now(UTC),
        holder=str(uuid4()),  # Not the request id: Lambda may run an asynchronous invocation twice.
        seconds_left=lambda: context.get_remaining_time_in_millis() / 1000,
        is_helper=event == HELPER,
    )
    if swept.started:
        metrics.add_metric(name="SweepStarts", unit=MetricUnit.Count, value=swept.started)
    if swept.failed:
        metrics.add_metric(name="SweepFailures", unit=MetricUnit.Count, value=swept.failed)
    if swept.overdue_seconds > 0:
        metrics.add_metric(name="Overdue", unit=MetricUnit.Seconds, value=swept.overdue_seconds)
    if metrics.metric_set:  # Most sweeps find nothing, and have nothing to say.
        metrics.flush_metrics()
    if swept.failed and not swept.started:  # An alarm watches the function's errors.
        raise RuntimeError(f"nothing was started, and {swept.failed} events or lanes failed: the log says why")
    return asdict(swept)
