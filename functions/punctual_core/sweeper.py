"""Function: starts parked events that are due within the horizon. Several invocations may run at the same time."""

import json
import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import batched
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
from .parking import BATCH_SIZE, ParkedEvent, Parking

# A call is mostly waiting, but its 1.5 ms of CPU are spent under Python's one lock: more threads gain nothing.
THREADS = 32
# Twice the threads keeps all of them busy, and little in memory, however long a lane is.
MAX_BATCHES_IN_FLIGHT = 2 * THREADS
# When this little of the invocation's time is left, nothing more is started: what is in flight needs it to end well.
DEADLINE_MARGIN_SECONDS = 8
# A lease ends this long after the invocation that took it: whoever holds an expired lease has ended.
LEASE_MARGIN = timedelta(seconds=5)
# A sweep also looks this much further ahead than its horizon. A lane in which so many events are due so soon after the
# horizon that the next sweep might not start them in time is crowded, and started at once. With all 16 lanes crowded,
# each gets 40 starts a second until helpers run. `python -m tools.estimates scale` shows what bursts this lets through.
LOOK_AHEAD = timedelta(seconds=11)
MAX_KEYS_AHEAD = 500
LANE_STARTS_PER_SECOND = 40
# So many starts, at least two seconds' work, are a burst: each other lane gets a sweeper of its own, a helper. Helpers
# call no helpers, so that there are never many more than lanes.
MAX_STARTS_BEFORE_HELPERS = 1000
# With more throttled deletes than that, a lane makes some before its next starts: else a burst of a million would leave
# more than the table can delete after the last start, and all these would be repeated.
MAX_THROTTLED = 500
# After a lane's starts, its throttled deletes may take so long; in a crowded lane longer, until its next events have to
# be started: START_LEAD before they are due, horizon less interval. Then the lease is released, which takes a moment.
LAST_DELETES_SECONDS = 7
START_LEAD = timedelta(seconds=3)
RELEASE_SECONDS = 1
# How long to wait for the answers from all lanes before the first is swept, to see a burst at once.
FIRST_LOOK_SECONDS = 0.5
HELPER = {"helper": True}

NOT_DELETED = "started but not deleted, so the next sweep repeats them"

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

    def add(self, part: "SweepResult") -> None:
        """Add the counts of a part of this sweep."""
        self.started += part.started
        self.retried += part.retried
        self.failed += part.failed


class Pipeline:
    """Tasks that run on a pool, a bounded number at a time, and whose results are added up as they end."""

    def __init__(self, pool: Executor, capacity: int, result: SweepResult):
        self._pool, self._capacity, self._result = pool, capacity, result
        self._in_flight: set[Future[SweepResult]] = set()

    def submit(self, task: Callable[..., SweepResult], *arguments: Any) -> Future[SweepResult]:
        """Run a task as soon as fewer than `capacity` are in flight. Tasks do not raise exceptions."""
        while len(self._in_flight) >= self._capacity:
            self._collect()
        future = self._pool.submit(task, *arguments)
        self._in_flight.add(future)
        return future

    def drain(self) -> None:
        """Wait for every task."""
        while self._in_flight:
            self._collect()

    def _collect(self) -> None:
        ended, self._in_flight = wait(self._in_flight, return_when=FIRST_COMPLETED)
        for future in ended:
            self._result.add(future.result())


@dataclass(frozen=True)
class DueLane:
    """A lane with something to start: what is due before that time. `earliest` is when its first event is due, and
    `lanes_left` how many lanes this sweep has not looked at yet."""

    lane: str
    before: datetime
    earliest: datetime
    lanes_left: int


@dataclass(frozen=True)
class LeasedLane:
    """A lane whose lease this sweep holds, to start what is due before that time: its batches, and the events whose
    deletes the table throttled."""

    lane: str
    before: datetime
    batches: set[Future[SweepResult]] = field(default_factory=set)
    throttled: deque[ParkedEvent] = field(default_factory=deque)


@dataclass(frozen=True)
class Lease:
    """Who a sweep is on the leases it takes, when it began, and until when its leases last (UTC)."""

    holder: str
    now: datetime
    until: datetime


@dataclass(frozen=True)
class Sweeper:
    """Finds the lanes with something due, and starts what is due in each."""

    horizon: timedelta
    parking: Parking
    workflow: Executions
    failures: Failures
    call_helpers: Callable[[int], None]
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS))

    def sweep(self, now: datetime, holder: str, deadline: Deadline, *, is_helper: bool) -> SweepResult:
        """Start whatever is parked and due before `now` plus the horizon, lane by lane; in a crowded lane also what is
        due within LOOK_AHEAD after that.

        `holder` names this sweep on the leases it takes; a lane that another sweep holds is passed over. If there is
        much to do, it calls a helper for each other lane, once, unless it is a helper itself. A lane that fails is
        counted and left to the next sweep; the others are swept.
        """
        result = SweepResult()
        pipeline = Pipeline(self.threads, MAX_BATCHES_IN_FLIGHT, result)
        lease = Lease(holder, now, deadline.ends_at + LEASE_MARGIN)
        queries = self._query_lanes(now)
        expected = self._events_to_start(now, queries)
        may_call_helpers = not is_helper
        try:
            for found in self._lanes_with_events_due(now, queries, deadline, result):
                result.overdue_seconds = max(result.overdue_seconds, (now - found.earliest).total_seconds())
                try:
                    for _ in self._sweep_lane(found, lease, deadline, pipeline):
                        if may_call_helpers and max(expected, result.started) >= MAX_STARTS_BEFORE_HELPERS:
                            may_call_helpers = False
                            self.call_helpers(found.lanes_left)
                except Exception:
                    result.failed += 1
                    logger.exception("lane left before its end, the next sweep goes on", extra={"lane": found.lane})
        finally:
            pipeline.drain()
        return result

    def _query_lanes(self, now: datetime) -> dict[Future[list[str]], str]:
        """The first sort keys of every lane, each as a future, with its lane."""
        order = lanes()
        random.shuffle(order)  # So that sweeps of the same moment begin at different lanes.
        ahead = now + self.horizon + LOOK_AHEAD
        return {self.threads.submit(self.parking.first_keys, lane, ahead, MAX_KEYS_AHEAD): lane for lane in order}

    def _events_to_start(self, now: datetime, queries: Iterable[Future[list[str]]]) -> int:
        """How many events this sweep has to start, by the answers so far; at least, because answers are limited."""
        answered = wait(queries, FIRST_LOOK_SECONDS).done
        found = (query.result() for query in answered if not query.exception())
        return sum(due_of(key) < self._before(now, keys) for keys in found for key in keys)

    def _before(self, now: datetime, keys: Sequence[str]) -> datetime:
        """The time before which events of a lane with these first keys are started: the horizon, or for a crowded lane
        all that was looked at."""
        horizon, count = now + self.horizon, 0
        for due in map(due_of, keys):
            if due >= horizon:
                count += 1
                if count > LANE_STARTS_PER_SECOND * ((due - horizon).total_seconds() + 1):
                    return horizon + LOOK_AHEAD
        return horizon

    def _lanes_with_events_due(
        self, now: datetime, queries: dict[Future[list[str]], str], deadline: Deadline, result: SweepResult
    ) -> Iterator[DueLane]:
        """Each lane with something to start, in the order in which the queries are answered, so that a slow or failing
        one holds up its own lane alone."""
        left = len(queries)
        try:
            for query in as_completed(queries, deadline.seconds_until(DEADLINE_MARGIN_SECONDS)):
                left -= 1
                try:
                    keys = query.result()
                except Exception:
                    result.failed += 1
                    logger.exception("lane not read, the next sweep will try", extra={"lane": queries[query]})
                    continue
                if deadline.has_passed(DEADLINE_MARGIN_SECONDS):
                    return
                before = self._before(now, keys)
                if keys and due_of(keys[0]) < before:
                    yield DueLane(queries[query], before, due_of(keys[0]), left)
        except TimeoutError:
            unanswered = [lane for query, lane in queries.items() if not query.done()]
            result.failed += len(unanswered)
            logger.error("lanes not read in time, the next sweep will try", extra={"lanes": unanswered})

    def _sweep_lane(self, due: DueLane, lease: Lease, deadline: Deadline, pipeline: Pipeline) -> Iterator[None]:
        """Start and delete what is due in a lane, unless another sweep holds its lease. Yields after each batch."""
        with self._leased(due, lease, deadline, pipeline) as leased:
            if leased is None:
                return
            can_delete = True
            for events in batched(self.parking.due_before(due.lane, due.before), BATCH_SIZE, strict=False):
                if can_delete:
                    can_delete = self.parking.delete_throttled(
                        leased.throttled, deadline, DEADLINE_MARGIN_SECONDS, MAX_THROTTLED
                    )
                if deadline.has_passed(DEADLINE_MARGIN_SECONDS):
                    break
                batch = pipeline.submit(self._start_and_delete, events, leased, deadline)
                leased.batches.add(batch)
                batch.add_done_callback(lambda ended: None if ended.exception() else leased.batches.discard(ended))
                yield

    @contextmanager
    def _leased(
        self, due: DueLane, lease: Lease, deadline: Deadline, pipeline: Pipeline
    ) -> Iterator[LeasedLane | None]:
        """Hold a lane's lease; None if another sweep holds it. The lease is released when the batches that were added
        have ended, which is after the block: meanwhile the next lane is swept."""
        leased = LeasedLane(due.lane, due.before)
        is_held = True  # Perhaps: if acquire fails, its effect is not known.
        try:
            is_held = self.parking.acquire(due.lane, lease.holder, lease.now, lease.until)
            yield leased if is_held else None
        finally:
            if is_held:
                pipeline.submit(self._finish, leased, lease, deadline)

    def _finish(self, leased: LeasedLane, lease: Lease, deadline: Deadline) -> SweepResult:
        """Wait for a lane's batches, make its throttled deletes, and release its lease."""
        # These were submitted before, so each has at least begun: waiting for them here can't block the pool.
        for batch in list(leased.batches):
            batch.result()
        # Until the lease is released, the events that this sweep has left wait, the first of them at `before`.
        seconds_at_next_start = (deadline.ends_at - leased.before + START_LEAD).total_seconds()
        margin = min(seconds_at_next_start, deadline.seconds_until(LAST_DELETES_SECONDS))
        try:
            if not self.parking.delete_throttled(leased.throttled, deadline, max(margin, RELEASE_SECONDS)):
                logger.warning(NOT_DELETED, extra={"lane": leased.lane, "events": len(leased.throttled)})
        except Exception:
            logger.exception(NOT_DELETED, extra={"lane": leased.lane, "events": len(leased.throttled)})
        try:
            self.parking.release(leased.lane, lease.holder)
        except Exception:
            logger.exception("lease not released, it will expire", extra={"lane": leased.lane})
        return SweepResult(failed=len(leased.throttled))

    def _start_and_delete(self, events: Sequence[ParkedEvent], leased: LeasedLane, deadline: Deadline) -> SweepResult:
        """Start, then delete: a crash in between repeats an event, it never loses one. A thread that starts events does
        not wait for a throttled table: events that are due would wait with it."""
        result, started = SweepResult(), []
        for event in events:
            if deadline.has_passed(DEADLINE_MARGIN_SECONDS):
                break
            try:
                self._start(event)
                started.append(event)
            except Exception:  # One event must not fail the others, whatever is wrong with it or with us.
                result.failed += 1
                logger.exception("not started, the next sweep will try", extra={"execution": event.execution})
        result.started = len(started)
        result.retried = sum(event.attempt > 0 for event in started)
        try:
            leased.throttled.extend(self.parking.delete(started))
        except Exception:
            result.failed += len(started)
            logger.exception(NOT_DELETED, extra={"lane": leased.lane, "events": len(started)})
        return result

    def _start(self, event: ParkedEvent) -> None:
        try:
            self.workflow.start(event.execution, event.input)
        except PermanentStartError as refusal:  # It must not block its lane.
            input = json.loads(event.input)
            received = input["event"] | {"payload": input["publish"]["Message"]}
            error = f"Step Functions does not accept this event: {refusal}"
            self.failures.report(error, input["id"], received, received.get("failure_topic"))


def _from_environment() -> Sweeper:
    env = os.environ
    return Sweeper(
        horizon=timedelta(seconds=int(env["HORIZON_SECONDS"])),
        parking=Parking(client("dynamodb", THREADS), env["PARKED_TABLE"]),
        workflow=Executions(client("stepfunctions", THREADS), env["DELIVER_ARN"]),
        failures=Failures(client, env["FAILURE_TOPIC_ARN"], env["UNDELIVERED_URL"]),
        call_helpers=_call_helpers,
    )


def _call_helpers(number: int) -> None:
    """Invoke this function again, so many times, without waiting for it. If that fails, the next tick helps."""
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
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry. `event` is HELPER or anything else; returns what the sweep did, for the console."""
    now = datetime.now(UTC)
    result = sweeper.sweep(
        now,
        holder=str(uuid4()),  # Not the request id: Lambda may run an asynchronous invocation twice.
        deadline=Deadline.of_invocation(context, now),
        is_helper=event == HELPER,
    )
    for name, count in (("SweepStarts", result.started), ("Retries", result.retried), ("SweepFailures", result.failed)):
        if count:
            metrics.add_metric(name=name, unit=MetricUnit.Count, value=count)
    if result.overdue_seconds > 0:
        metrics.add_metric(name="Overdue", unit=MetricUnit.Seconds, value=result.overdue_seconds)
    if metrics.metric_set:  # Most sweeps find nothing, and have nothing to log.
        metrics.flush_metrics()
    if result.failed and not result.started:  # An alarm watches the function's errors.
        raise RuntimeError(f"nothing was started, and {result.failed} events or lanes failed: see the log")
    return asdict(result)
