"""The Sweeper's time: what it leaves when little is left, and how it gets help in a burst."""

import json
import math
import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures._base import DoneAndNotDoneFutures
from datetime import timedelta

import pytest
from punctual_core import lanes, parking, sweeper
from punctual_core.clients import client
from punctual_core.deadline import Deadline
from punctual_core.lanes import sort_key
from punctual_core.parking import ParkedEvent

from tests.conftest import HORIZON, TEMPLATE, LambdaContext, at, event, sweep, take

MARGIN = 8.0  # Seconds: what is in flight then ends well.


@pytest.fixture
def one_lane(monkeypatch):
    """All events in one lane."""
    monkeypatch.setattr(lanes, "LANES", 1)


def park(count: int, **fields) -> None:
    """Events that are due at 10:00."""
    for number in range(count):
        take(event(at("10:00"), **fields), at("09:00"), message_id=f"order-{number:03}")


def time_ends_after(cloud, starts: int):
    """30 seconds are left until so many executions are started; then a little less than the margin."""
    return lambda: 30.0 if len(cloud.starts) < starts else MARGIN - 0.001


# --- Where the time ends ---


@pytest.mark.parametrize(("left", "started"), [(MARGIN, 3), (MARGIN - 0.001, 0)])
def test_nothing_is_started_in_the_last_8_seconds(cloud, one_lane, left, started):
    """With exactly 8 seconds left a sweep goes on."""
    park(3)
    assert sweep(at("10:00"), after_the_query(left)).started == started
    assert len(cloud.parked()) == 3 - started


def after_the_query(left: float):
    """30 seconds for the first look, and then so many."""
    looks = iter([30.0])
    return lambda: next(looks, left)


def test_the_time_ends_in_the_middle_of_a_batch(cloud, one_lane):
    """Ten events in a batch, time for four: these four are started and deleted, six stay for the next sweep."""
    park(10)
    result = sweep(at("10:00"), time_ends_after(cloud, 4), threads=ThreadPoolExecutor(1))
    assert (result.started, result.failed) == (4, 0)
    assert [item["execution"] for item in cloud.parked()] == [f"order-{number:03}" for number in range(4, 10)]
    assert not cloud.leases()
    assert sweep(at("10:00:10")).started == 6


def test_the_time_ends_in_the_middle_of_a_lane(cloud, one_lane, monkeypatch):
    """Three batches, time for one: the others are not even handed to a thread."""
    monkeypatch.setattr(sweeper, "MAX_BATCHES_IN_FLIGHT", 1)
    park(30)
    handed = []
    monkeypatch.setattr(sweeper.Sweeper, "_start_and_delete", counting(handed))
    result = sweep(at("10:00"), time_ends_after(cloud, 10))
    assert result.started == 10 and len(cloud.parked()) == 20 and not cloud.leases()
    assert handed == [10, 10]  # The second was handed over while the first ran, and starts nothing.


def counting(handed: list):
    """`_start_and_delete`, which also notes the size of each batch."""
    original = sweeper.Sweeper._start_and_delete

    def start_and_delete(self, events, *arguments):
        handed.append(len(events))
        return original(self, events, *arguments)

    return start_and_delete


def test_the_time_ends_in_the_middle_of_a_page(cloud, one_lane, monkeypatch):
    """Twelve events of 200 KB are three pages; time for none of them but the first event: the last is not read."""
    monkeypatch.setattr(sweeper, "MAX_BATCHES_IN_FLIGHT", 1)
    monkeypatch.setattr(sweeper, "BATCH_SIZE", 1)
    park(12, payload="x" * 200_000)
    cloud._calls.clear()
    result = sweep(at("10:00"), time_ends_after(cloud, 1))
    assert result.started == 1 and len(cloud.parked()) == 11
    pages = [query for query in cloud.calls("Query") if query.get("ConsistentRead")]
    assert len(pages) == 1


def test_the_time_ends_between_two_lanes(cloud, monkeypatch):
    """The lanes that are left are not touched: no lease, no query of their events."""
    monkeypatch.setattr(lanes, "LANES", 4)
    monkeypatch.setattr(sweeper, "MAX_BATCHES_IN_FLIGHT", 1)
    park(12)
    lane_sizes = {lane: sum(item["lane"] == lane for item in cloud.parked()) for lane in lanes.lanes()}
    assert all(lane_sizes.values())
    result = sweep(at("10:00"), time_ends_after(cloud, 1))
    assert result.started == 1 and not cloud.leases()
    taken = {call["Key"]["lane"]["S"] for call in cloud.asked("UpdateItem")}
    assert len(taken) <= 2


@pytest.mark.parametrize(("left", "seconds"), [(30, 22), (8.5, 0.5), (5, 0)])
def test_queries_are_waited_for_until_8_seconds_are_left(cloud, monkeypatch, left, seconds):
    """Never a negative time."""
    waits = []
    original = sweeper.as_completed

    def as_completed(queries, timeout):
        waits.append(timeout)
        return original(queries, 10)

    monkeypatch.setattr(sweeper, "as_completed", as_completed)
    sweep(at("10:00"), lambda: left)
    assert waits == [pytest.approx(seconds)]


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_the_handler_gives_a_sweep_the_time_that_lambda_has(monkeypatch):
    """In seconds, from the context."""
    given = []

    class Asked:
        def sweep(self, now, holder, deadline, *, is_helper):
            given.extend([deadline.seconds_left(), (deadline.ends_at - now).total_seconds()])
            return sweeper.SweepResult()

    monkeypatch.setattr(sweeper, "sweeper", Asked())
    sweeper.handler({}, LambdaContext(seconds_left=12.5))
    assert given == [12.5, 12.5]


@pytest.mark.parametrize(("left", "pauses"), [(1.1, 1), (1.0999, 0)])
def test_a_pause_is_made_only_if_it_ends_in_time(cloud, monkeypatch, left, pauses):
    """The first pause is 0.1 s at most, and a second is to be left."""
    slept = []
    monkeypatch.setattr(parking.time, "sleep", slept.append)
    monkeypatch.setattr(parking.random, "random", lambda: 1.0)
    cloud.leave_unprocessed()
    events, looks = deque([ParkedEvent("lane-00", "key", "order", "{}")]), iter([left])
    deadline = Deadline(at("10:00"), lambda: next(looks, 0.0))
    assert not sweeper.sweeper.parking.delete_throttled(events, deadline, margin=1)
    assert (len(events), len(slept)) == (1, pauses)


# --- Leases ---


def test_a_lane_is_leased_while_its_events_are_started(cloud, one_lane):
    """By this sweep, until 5 seconds after the invocation that takes it; afterward it is free."""
    park(3)
    seen = []

    class Watching(sweeper.Executions):
        def start(self, name, input):
            seen.extend(cloud.leases())
            super().start(name, input)

    watching = Watching(client("stepfunctions"), os.environ["DELIVER_ARN"])
    sweep(at("10:00"), workflow=watching)
    assert len(seen) == 3 and len({lease["holder"] for lease in seen}) == 1
    assert {lease["lane"] for lease in seen} == {"lease-of-lane-00"}
    assert {float(lease["expires_at"]) for lease in seen} == {at("10:00:35").timestamp()}
    assert not cloud.leases()


def test_two_sweeps_have_two_names_on_their_leases(cloud, one_lane):
    """Lambda may run one asynchronous invocation twice: the request id would be the same."""
    context = LambdaContext()
    for _ in range(2):
        take(event("2020-01-01T00:00:00Z"), at("00:00", "2019-12-31"))
        sweeper.handler({}, context)
    holders = [call["ExpressionAttributeValues"][":holder"]["S"] for call in cloud.asked("UpdateItem")]
    assert len(holders) == 2 and len({*holders, context.aws_request_id}) == 3


# --- Helpers ---


class Lanes(parking.Parking):
    """A table of so many events in each lane, and in the last so many more, that costs nothing. All are due then."""

    def __init__(self, per_lane: int, more: int = 0, due: str = "10:00"):
        super().__init__(None, "")
        self._key = sort_key(at(due), "r")
        self._events = dict.fromkeys(lanes.lanes(), per_lane) | {lanes.lanes()[-1]: per_lane + more}

    def first_keys(self, lane, before, limit):
        return [self._key] * min(self._events[lane], limit)

    def due_before(self, lane, before):
        return (ParkedEvent(lane, self._key, "order", "{}") for _ in range(self._events[lane]))

    def acquire(self, *_):
        return True

    def delete(self, *_):
        return []

    release = delete


class AtOnce(ThreadPoolExecutor):
    """Threads that have done everything as soon as they are given it."""

    def submit(self, act, *arguments):
        future = Future()
        future.set_result(act(*arguments))
        return future


class NoWorkflow(sweeper.Executions):
    def __init__(self):
        super().__init__(None, "")

    def start(self, name, input):
        pass


def burst(per_lane: int, called, more: int = 0, **changes):
    """A sweep of 16 lanes with so many events each, in which a batch has ended before the next begins."""
    return sweep(
        at("10:00"),
        parking=Lanes(per_lane, more),
        workflow=NoWorkflow(),
        threads=AtOnce(),
        call_helpers=called.append,
        **changes,
    )


@pytest.fixture
def one_at_a_time(monkeypatch):
    """Each batch is counted before the next is begun."""
    monkeypatch.setattr(sweeper, "MAX_BATCHES_IN_FLIGHT", 1)


@pytest.mark.parametrize(("events", "helpers"), [(62, []), (63, [15]), (200, [15])])
def test_a_thousand_starts_call_one_helper_for_each_lane_left(one_at_a_time, events, helpers):
    """Once. 16 lanes of 62 events are 992 starts: no helper. With 63 there are 1,008, which the first look shows."""
    called = []
    assert burst(events, called).started == 16 * events
    assert called == helpers


@pytest.mark.parametrize(("more", "calls"), [(7, 0), (8, 1)])
def test_a_burst_begins_with_the_thousandth_event(one_at_a_time, more, calls):
    """992 and 7 more are no burst yet."""
    called = []
    assert burst(62, called, more).started == 992 + more
    assert len(called) == calls


@pytest.mark.parametrize(("events", "helpers"), [(1000, []), (1010, [0])])
def test_the_thousandth_start_is_the_one_that_counts(one_at_a_time, one_lane, events, helpers):
    """When it is done; of 1,000 in one lane the last ten are not done before the lane is."""
    called = []
    burst(events, called)
    assert called == helpers


def test_a_helper_of_a_burst_calls_none(one_at_a_time):
    """Else their number would grow without bound, and the bill with it."""
    called = []
    assert burst(1010, called, is_helper=True).started == 16 * 1010
    assert called == []


def test_helpers_are_invoked_asynchronously_and_told_that_they_are_helpers(cloud, monkeypatch):
    """This function itself, without waiting for it, with the payload that keeps it from calling others."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "punctual-Sweeper")
    cloud.accept("Invoke", 202)
    sweeper._call_helpers(3)
    calls = cloud.asked("Invoke")
    assert len(calls) == 3
    for call in calls:
        assert (call["FunctionName"], call["InvocationType"]) == ("punctual-Sweeper", "Event")
        assert json.loads(call["Payload"]) == {"helper": True}


@pytest.mark.parametrize("fault", ["fail", "lose_answer"])
def test_a_helper_that_cannot_be_called_ends_nothing(cloud, monkeypatch, fault):
    """Throttled, or no answer: the sweep goes on, and calls no more of them."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "punctual-Sweeper")
    cloud.accept("Invoke", 202, times=1)
    getattr(cloud, fault)("Invoke")
    sweeper._call_helpers(3)
    assert len(cloud.asked("Invoke")) == 2


@pytest.mark.filterwarnings("ignore:No application metrics")
@pytest.mark.parametrize(
    ("payload", "is_helper"), [({"helper": True}, True), ({}, False), ({"helper": False}, False), ([], False)], ids=str
)
def test_the_handler_knows_a_helper_by_its_payload(monkeypatch, payload, is_helper):
    """By what `_call_helpers` sends, and nothing else."""
    asked = []

    class Asked:
        def sweep(self, now, holder, deadline, *, is_helper):
            asked.append(is_helper)
            return sweeper.SweepResult()

    monkeypatch.setattr(sweeper, "sweeper", Asked())
    sweeper.handler(payload, LambdaContext())
    assert asked == [is_helper]


# --- How much at a time ---


def test_a_sweep_looks_for_a_burst_for_half_a_second(one_at_a_time, monkeypatch):
    """A lane that answers later does not hold up the others."""
    waits = []
    original = sweeper.wait

    def wait(futures, timeout=None, **options):
        waits.append(timeout)
        return original(futures, timeout, **options)

    monkeypatch.setattr(sweeper, "wait", wait)
    burst(1, [])
    assert waits[0] == 0.5 and {*waits[1:]} == {None}


def test_a_sweep_looks_11_seconds_beyond_the_horizon(one_at_a_time):
    """For crowds."""
    until = set()

    class Watched(Lanes):
        def first_keys(self, lane, before, limit):
            until.add(before)
            return []

    sweep(at("10:00"), parking=Watched(0), threads=AtOnce())
    assert until == {at("10:00:11") + HORIZON}


def test_a_task_begins_as_soon_as_any_other_has_ended():
    """Two at a time: the third ends what the first waits for."""
    go_on = threading.Event()

    def first() -> sweeper.SweepResult:
        return sweeper.SweepResult(failed=not go_on.wait(2))

    def third() -> sweeper.SweepResult:
        go_on.set()
        return sweeper.SweepResult()

    result = sweeper.SweepResult()
    with ThreadPoolExecutor(2) as pool:
        pipeline = sweeper.Pipeline(pool, 2, result)
        for task in (first, sweeper.SweepResult, third):
            pipeline.submit(task)
        pipeline.drain()
    assert not result.failed


def test_sweeps_begin_at_different_lanes(one_at_a_time, monkeypatch):
    """Else two of the same moment would meet at each lease."""
    looked_at = []

    class Watched(Lanes):
        def first_keys(self, lane, *_):
            looked_at.append(lane)
            return []

    monkeypatch.setattr(sweeper.random, "shuffle", list.reverse)
    sweep(at("10:00"), parking=Watched(0), threads=AtOnce())
    assert looked_at == lanes.lanes()[::-1]


def test_events_at_the_horizon_are_no_burst_yet(one_at_a_time, monkeypatch):
    """One is due, and fifteen are due when the next sweep starts them."""
    monkeypatch.setattr(sweeper, "MAX_STARTS_BEFORE_HELPERS", 2)
    beyond = sort_key(at("10:00") + HORIZON, "r")

    class Waiting(Lanes):
        def first_keys(self, lane, *_):
            return [self._key if lane == "lane-00" else beyond]

    called = []
    result = sweep(at("10:00"), parking=Waiting(1), workflow=NoWorkflow(), threads=AtOnce(), call_helpers=called.append)
    assert (result.started, called) == (1, [])


def test_batches_in_flight_are_twice_the_threads(one_lane, monkeypatch):
    """Each thread has a next one, and a lane of any length takes little memory."""
    in_flight = []

    class Later(AtOnce):
        def submit(self, act, *arguments):
            return Future() if act.__name__ == "_start_and_delete" else super().submit(act, *arguments)

    def wait(futures, timeout=None, **_):
        in_flight.append(len(futures))
        for future in futures:
            if not future.done():
                future.set_result(sweeper.SweepResult())
        return DoneAndNotDoneFutures(set(futures), set())

    monkeypatch.setattr(sweeper, "wait", wait)
    monkeypatch.setattr(sweeper.Sweeper, "_finish", lambda *_: sweeper.SweepResult())
    sweep(at("10:00"), parking=Lanes(2000), workflow=NoWorkflow(), threads=Later(), call_helpers=lambda number: None)
    assert max(in_flight) == 64


def test_a_lane_forgets_the_batches_that_have_ended(one_at_a_time, one_lane, monkeypatch):
    """A lane of a million events has a hundred thousand of them."""
    left = []
    original = sweeper.Sweeper._finish

    def finish(self, leased, *arguments):
        left.append(len(leased.batches))
        return original(self, leased, *arguments)

    monkeypatch.setattr(sweeper.Sweeper, "_finish", finish)
    assert burst(200, []).started == 200
    assert left == [0]


def test_a_lane_lets_500_throttled_deletes_wait_while_it_starts_events(one_at_a_time, one_lane):
    """Until 8 seconds are left, in which none waits."""
    asked = deletes_of_a_lane(30, "10:00")
    assert asked == [(500, 8), (500, 8), (500, 8), (0, 23)]


@pytest.mark.parametrize(
    ("due", "left", "margin"),
    [
        ("10:00", 30.0, 23),  # Until 10:00:07: what is due from 10:00:08 on is started then, in time for the next tick.
        ("10:00:09", 30.0, 14),  # A crowd: everything due before 10:00:19 is started, so until 10:00:16.
        ("10:00:09", 15.0, 8),  # The same, 15 s later: for 7 s.
        ("10:00", 7.5, 1),  # A second is left for the release of the lease.
    ],
)
def test_throttled_deletes_end_in_time_for_the_next_starts(one_at_a_time, one_lane, due, left, margin):
    """A sweep at 10:00 whose function ends at 10:00:30, with so many seconds left after the starts."""
    *_, (_, last) = deletes_of_a_lane(241, due, left)
    assert last == margin


def deletes_of_a_lane(events: int, due: str, left: float = 30.0) -> list[tuple[int, float]]:
    """A sweep at 10:00 with so many seconds left after its starts. How many throttled deletes it lets wait, and until
    how many seconds are left, before each batch and after the last."""
    asked = []

    class Throttled(Lanes):
        def delete_throttled(self, events, deadline, margin, most_left=0):
            asked.append((most_left, margin))
            return True

    def seconds_left() -> float:
        return left if len(asked) == math.ceil(events / sweeper.BATCH_SIZE) else 30.0

    sweep(at("10:00"), seconds_left, parking=Throttled(events, due=due), workflow=NoWorkflow(), threads=AtOnce())
    return asked


def test_the_lead_is_what_the_template_gives():
    """The horizon less the interval."""
    horizons = TEMPLATE.text["Mappings"]["Horizon"]
    leads = {int(values["Seconds"]) - int(interval) for interval, values in horizons.items()}
    assert leads == {sweeper.START_LEAD.total_seconds()}


# --- What it counts ---


def test_the_counts_of_all_batches_are_added():
    """Of each kind."""
    result = sweeper.SweepResult(started=1, retried=2, failed=3, overdue_seconds=4.0)
    for _ in range(2):
        result.add(sweeper.SweepResult(started=10, retried=20, failed=30, overdue_seconds=40.0))
    assert result == sweeper.SweepResult(started=21, retried=42, failed=63, overdue_seconds=4.0)


@pytest.mark.parametrize(
    ("result", "counted"),
    [
        (
            sweeper.SweepResult(started=7, retried=2, failed=1, overdue_seconds=3.5),
            {
                "SweepStarts": ("Count", 7),
                "Retries": ("Count", 2),
                "SweepFailures": ("Count", 1),
                "Overdue": ("Seconds", 3.5),
            },
        ),
        (sweeper.SweepResult(started=1), {"SweepStarts": ("Count", 1)}),
        (sweeper.SweepResult(overdue_seconds=0.5), {"Overdue": ("Seconds", 0.5)}),
        (sweeper.SweepResult(overdue_seconds=-1.0), {}),
        (sweeper.SweepResult(), {}),
    ],
    ids=["all", "starts", "late", "early", "nothing"],
)
def test_a_sweep_counts_what_it_did_and_logs_nothing_else(monkeypatch, capsys, result, counted):
    """In the namespace and under the service that the alarms watch; what is zero is left out."""

    class Done:
        def sweep(self, *_, **__):
            return result

    monkeypatch.setattr(sweeper, "sweeper", Done())
    assert sweeper.handler({}, LambdaContext())["started"] == result.started
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == bool(counted)
    for line in lines:
        [directive] = line["_aws"]["CloudWatchMetrics"]
        assert (directive["Namespace"], line["service"]) == ("Punctual", "punctual")
        assert {each["Name"]: (each["Unit"], line[each["Name"]][0]) for each in directive["Metrics"]} == counted


@pytest.mark.parametrize(("started", "fails"), [(0, True), (1, False)])
def test_the_handler_fails_if_nothing_was_started_and_something_failed(monkeypatch, started, fails):
    """An alarm watches the function's errors; what failed beside others has an alarm of its own."""

    class Done:
        def sweep(self, *_, **__):
            return sweeper.SweepResult(started=started, failed=2)

    monkeypatch.setattr(sweeper, "sweeper", Done())
    if fails:
        with pytest.raises(RuntimeError, match="2 events or lanes failed"):
            sweeper.handler({}, LambdaContext())
    else:
        assert sweeper.handler({}, LambdaContext())["failed"] == 2


def test_the_overdue_time_is_that_of_the_earliest_event(cloud):
    """Of several lanes, and never below zero."""
    for clock in ("09:58", "09:59", "09:59:30"):
        take(event(at(clock)), at("09:00"), message_id=clock.replace(":", "-"))
    assert sweep(at("10:00")).overdue_seconds == 120
    take(event(at("10:00:05")), at("09:00"))
    assert sweep(at("10:00")).overdue_seconds == 0


def test_the_environment_says_what_is_swept(monkeypatch):
    """The horizon in seconds; 32 threads share the connections."""
    monkeypatch.setenv("HORIZON_SECONDS", "9")
    made = sweeper._from_environment()
    assert made.horizon == timedelta(seconds=9)
    assert made.threads._max_workers == 32
    assert made.call_helpers is sweeper._call_helpers
    assert made.parking._client.meta.config.max_pool_connections == 32
    assert made.parking._table == TEMPLATE.environment("Sweeper")["PARKED_TABLE"]
    assert made.workflow._client.meta.config.max_pool_connections == 32
    assert made.workflow._arn == os.environ["DELIVER_ARN"]
    assert (made.failures._topic, made.failures._undelivered_url) == (
        os.environ["FAILURE_TOPIC_ARN"],
        os.environ["UNDELIVERED_URL"],
    )
