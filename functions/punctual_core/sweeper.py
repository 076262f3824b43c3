"""Function: starts parked events that are due within the horizon. Several invocations may run at the same time.

`handler` calls `Sweeper.tick`, which sweeps all lanes side by side. `Sweeper.sweep` looks at one lane, and `LaneSweep`
starts and deletes what is due there, under the lane's lease. A lane with much to start gets an invocation of its own.
"""

import json
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import batched
from time import sleep
from typing import Any
from uuid import uuid4

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from .clients import client
from .deadline import Deadline
from .executions import Executions, PermanentStartError
from .failures import Failures
from .lanes import due_of, lanes
from .parking import LEASE, MAX_DELETES, ParkedEvent, Parking
from .times import EPOCH

# A call is mostly waiting, but its 1.5 ms of CPU are spent under Python's one lock: more threads gain nothing.
THREADS = 32
# A lane with so many events to start, an eighth of what one processor starts in a second, gets one of its own.
MANY_STARTS = 60
# A sweep also looks this much further ahead than its horizon. A lane in which more events a second are due there than
# the next sweep might start in time is crowded, and started at once: `make scale` shows which bursts this lets through.
LOOK_AHEAD = timedelta(seconds=11)
LANE_STARTS_PER_SECOND = 40
# A lane with more events that are started and not deleted starts nothing more: the next sweep would repeat them all.
MAX_UNDELETED = 750
# How long a lane waits for its own invocation, which may be a cold start, or lost.
INVOCATION_SECONDS = 3
# How long to wait for a start or a delete that may never be answered.
PATIENCE_SECONDS = 2
# After a delete in vain, at most; at random, so that many lanes do not try again together.
DELETE_PAUSE_SECONDS = 0.5
# How long a lane is held only to delete what the table throttled. Its other events wait meanwhile.
LAST_DELETES_SECONDS = 7
RELEASE_SECONDS = 1  # A release, or an answer, takes a moment.
RENEW_AFTER = LEASE / 3
# With less time left nothing more is started: what was started has to be deleted.
DEADLINE_MARGIN_SECONDS = LAST_DELETES_SECONDS + RELEASE_SECONDS
# Each thread has a next event while the oldest batch is settled; a lane of any length takes little memory.
BATCHES_IN_FLIGHT = 1 + 2 * THREADS // MAX_DELETES
# So many first keys show whether a lane is crowded.
MAX_KEYS = LANE_STARTS_PER_SECOND * (int(LOOK_AHEAD.total_seconds()) + 1) + 1

logger = Logger()
metrics = Metrics(namespace="Punctual")


@dataclass
class SweepResult:
    """What a sweep did: how many executions it started (`retried` of them not for the first time), how many events or
    lanes failed, and how late the earliest event was when it was found (seconds)."""

    started: int = 0
    retried: int = 0
    failed: int = 0
    overdue_seconds: float = 0.0

    def __add__(self, other: "SweepResult") -> "SweepResult":
        """What two sweeps did together."""
        counts = self.started + other.started, self.retried + other.retried, self.failed + other.failed
        return SweepResult(*counts, max(self.overdue_seconds, other.overdue_seconds))


@dataclass(frozen=True)
class DueLane:
    """A lane with at least `count` events to start, all that are due before that time. `earliest` is due first."""

    lane: str
    before: datetime
    count: int
    earliest: datetime


@dataclass(frozen=True)
class Sweeper:
    """Starts what is due in each lane. `delegate` gives a lane an invocation of its own, and says whether it could.

    `holder` names an invocation on the leases it takes; a lane that another one holds is passed over.
    """

    horizon: timedelta
    parking: Parking
    executions: Executions
    failures: Failures
    delegate: Callable[[str], bool]

    def tick(self, lanes: Sequence[str], holder: str, deadline: Deadline, *, may_delegate: bool) -> SweepResult:
        """Sweep these lanes, each on a thread of its own, so that a slow or failing one affects itself alone."""
        # New threads: those of an earlier invocation may still be waiting for an answer.
        lane_threads, threads = ThreadPoolExecutor(len(lanes)), ThreadPoolExecutor(THREADS)
        sweeps = [lane_threads.submit(self.sweep, lane, holder, deadline, threads, may_delegate) for lane in lanes]
        ended, hanging = wait(sweeps, deadline.seconds_until(RELEASE_SECONDS))
        for pool in (lane_threads, threads):
            pool.shutdown(wait=False, cancel_futures=True)
        if hanging:
            logger.error("not swept in time, the next sweep will try", extra={"lanes": len(hanging)})
        return sum((sweep.result() for sweep in ended), SweepResult(failed=len(hanging)))

    def sweep(self, lane: str, holder: str, deadline: Deadline, threads: Executor, may_delegate: bool) -> SweepResult:
        """Start what a lane has to start, or delegate it if that is much. Whatever fails is counted."""
        result = SweepResult()
        try:
            due = self._look(lane, deadline.now())
            if due and due.count >= MANY_STARTS and may_delegate and self.delegate(lane):
                sleep(INVOCATION_SECONDS)
                # If that invocation was lost, the lease is free. Not for long, so that the next tick's finds it free.
                deadline = deadline.within(PATIENCE_SECONDS + DEADLINE_MARGIN_SECONDS)
                due = self._look(lane, deadline.now())
            if due:
                result.overdue_seconds = max((deadline.now() - due.earliest).total_seconds(), 0.0)
                LaneSweep(self, due, holder, deadline, threads, result).run()
        except Exception:
            result.failed += 1
            logger.exception("lane left before its end, the next sweep goes on", extra={"lane": lane})
        return result

    def _look(self, lane: str, now: datetime) -> DueLane | None:
        """What is due before the horizon, or in a crowded lane all that was looked at; None if that is nothing."""
        before = horizon = now + self.horizon
        dues = [due_of(key) for key in self.parking.first_keys(lane, horizon + LOOK_AHEAD, MAX_KEYS)]
        for count, due in enumerate((due for due in dues if due >= horizon), 1):
            if count > LANE_STARTS_PER_SECOND * ((due - horizon).total_seconds() + 1):
                before = horizon + LOOK_AHEAD
        count = sum(due < before for due in dues)
        return DueLane(lane, before, count, dues[0]) if count else None

    def start(self, event: ParkedEvent) -> bool:
        """Start an event's execution, or report that it can never be started. False if the next sweep has to try."""
        try:
            try:
                self.executions.start(event.execution, event.input)
            except PermanentStartError as refusal:  # It must not block its lane.
                self.failures.report_refused_start(refusal, event.input)
        except Exception:  # One event must not fail the others, whatever is wrong with it or with us.
            logger.exception("not started, the next sweep will try", extra={"execution": event.execution})
            return False
        return True


@dataclass
class LaneSweep:
    """One lane under its lease: batch by batch its events are started, then deleted. A crash in between repeats events;
    it never loses one. `threads` make the calls, so that one that hangs holds up no other event."""

    sweeper: Sweeper
    due: DueLane
    holder: str
    deadline: Deadline
    threads: Executor
    result: SweepResult
    renew_at: datetime = EPOCH  # The lease is taken when the lane has something to start.
    deletes: list[Future[bool]] = field(default_factory=list)
    undeleted: deque[str] = field(default_factory=deque)  # sort keys of events that were started

    def run(self) -> None:
        """Sweep the lane, unless another holds its lease."""
        try:
            if self._holds_lease():
                self._start_and_delete()
        finally:
            self.sweeper.parking.release(self.due.lane, self.holder)

    def _start_and_delete(self) -> None:
        batches: deque[list[tuple[ParkedEvent, Future[bool]]]] = deque()
        events = self.sweeper.parking.due_before(self.due.lane, self.due.before)
        try:
            for batch in batched(events, MAX_DELETES, strict=False):
                if self._is_full():
                    self._delete_patiently(MAX_UNDELETED)
                has_time = not self.deadline.has_passed(DEADLINE_MARGIN_SECONDS)
                if not has_time or self._is_full() or not self._holds_lease():
                    break
                batches.append([(event, self.threads.submit(self.sweeper.start, event)) for event in batch])
                if len(batches) > BATCHES_IN_FLIGHT:
                    self._settle(batches.popleft())
        finally:
            for started in batches:
                self._settle(started)
            self._delete_patiently(0)
            if left := len(self.undeleted) + len(self.deletes):
                self.result.failed += left
                logger.error("not deleted, will be repeated", extra={"lane": self.due.lane, "events": left})

    def _is_full(self) -> bool:
        return len(self.undeleted) + MAX_DELETES * len(self.deletes) > MAX_UNDELETED

    def _settle(self, batch: list[tuple[ParkedEvent, Future[bool]]]) -> None:
        """Wait for the starts of a batch, and have it deleted. A start that hangs is left to the next sweep."""
        wait([start for _, start in batch], PATIENCE_SECONDS)
        started = [event for event, start in batch if start.done() and start.result()]
        self.result.started += len(started)
        self.result.retried += sum(event.retry > 0 for event in started)
        self.result.failed += len(batch) - len(started)
        self.deletes = [delete for delete in self.deletes if not delete.done()]
        if started:
            self.deletes.append(self.threads.submit(self._delete, [event.sort_key for event in started]))

    def _delete(self, keys: list[str]) -> bool:
        """Delete up to MAX_DELETES events in one attempt, and keep what is left. Whether any was deleted."""
        left = keys
        try:
            left = self.sweeper.parking.delete(self.due.lane, keys)
        except Exception:
            logger.exception("not deleted, will be tried again", extra={"lane": self.due.lane, "events": len(keys)})
        self.undeleted.extend(left)
        return len(left) < len(keys)

    def _delete_patiently(self, most_left: int) -> None:
        """Delete what is left until at most so many are, or until other events of the lane would be late."""
        self.deletes = [*wait(self.deletes, PATIENCE_SECONDS).not_done]
        margin = max(self.deadline.seconds_until(LAST_DELETES_SECONDS), RELEASE_SECONDS)
        while len(self.undeleted) > most_left and not self.deadline.has_passed(margin):
            with suppress(ClientError, BotoCoreError):  # A delete needs no lease.
                self._holds_lease()
            if not self._delete([self.undeleted.popleft() for _ in range(min(MAX_DELETES, len(self.undeleted)))]):
                sleep(DELETE_PAUSE_SECONDS * random.random())

    def _holds_lease(self) -> bool:
        """Take the lease, or renew it if it is old. False if somebody else has it."""
        if (now := self.deadline.now()) < self.renew_at:
            return True
        self.renew_at = now + RENEW_AFTER
        return self.sweeper.parking.acquire(self.due.lane, self.holder, now)


def _from_environment() -> Sweeper:
    env = os.environ
    return Sweeper(
        horizon=timedelta(seconds=int(env["HORIZON_SECONDS"])),
        parking=Parking(client("dynamodb", THREADS + len(lanes())), env["PARKED_TABLE"]),
        executions=Executions(client("stepfunctions", THREADS), env["DELIVER_ARN"]),
        failures=Failures(client, env["FAILURE_TOPIC_ARN"], env["UNDELIVERED_URL"]),
        delegate=_delegate,
    )


def _delegate(lane: str) -> bool:
    """Invoke this function again, for one lane, without waiting for it. False if that fails."""
    try:
        name, payload = os.environ["AWS_LAMBDA_FUNCTION_NAME"], json.dumps({"lane": lane})
        client("lambda", len(lanes())).invoke(FunctionName=name, InvocationType="Event", Payload=payload)
    except (ClientError, BotoCoreError):
        logger.exception("no invocation of its own for a lane, it is swept by this one", extra={"lane": lane})
        return False
    return True


sweeper = _from_environment()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry. `event` names a tick's `holder`, or one `lane` to sweep; returns what was done."""
    deadline = Deadline.of_invocation(context, datetime.now(UTC))
    # The retry of a killed tick names its holder, and enters its leases. Lambda may use a request id twice.
    holder, lane = event.get("holder") or str(uuid4()), event.get("lane")
    result = sweeper.tick([lane] if lane else lanes(), holder, deadline, may_delegate=not lane)
    counts = {"SweepStarts": result.started, "Retries": result.retried, "SweepFailures": result.failed}
    for name, value in (counts | {"Overdue": result.overdue_seconds}).items():
        if value:
            metrics.add_metric(name, MetricUnit.Seconds if name == "Overdue" else MetricUnit.Count, value)
    if metrics.metric_set:  # Most sweeps find nothing, and have nothing to log.
        metrics.flush_metrics()
    if result.failed and not result.started:  # An alarm watches the function's errors.
        raise RuntimeError(f"nothing was started, and {result.failed} events or lanes failed: see the log")
    return asdict(result)
