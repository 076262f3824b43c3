"""The Sweeper: parked events start in time, once, whatever happens to sweeps."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from punctual_core import lanes, parking, sweeper
from punctual_core.clients import client
from punctual_core.sweeper import DEADLINE_MARGIN_SECONDS

from tests.conftest import (
    HORIZON,
    OWN_FAILURE_TOPIC,
    TEMPLATE,
    Killed,
    LambdaContext,
    at,
    event,
    sweep,
    take,
)


@pytest.fixture
def one_lane(monkeypatch):
    """All events in one lane."""
    monkeypatch.setattr(lanes, "LANES", 1)


def park(count: int, **fields) -> None:
    """Events order-0, order-1, ... that are due at 10:00."""
    for number in range(count):
        take(event(at("10:00"), **fields), at("09:00"), message_id=f"order-{number}")


def started(cloud) -> list[str]:
    return sorted(start.input["id"] for start in cloud.starts)


def orders(count: int) -> list[str]:
    return sorted(f"order-{number}" for number in range(count))


# --- In time ---


def test_an_event_that_no_sweep_found_for_an_hour_is_started_by_the_next(cloud):
    """Automatically: the next sweep finds what the others missed, and says how late it is."""
    take(event(at("10:00")), at("09:00"))
    swept = sweep(at("11:00"))
    assert (swept.started, swept.overdue_seconds) == (1, 3600)
    assert not cloud.parked()


def test_the_longest_overdue_event_comes_first(cloud, one_lane):
    """A lane is swept in the order of due times."""
    for clock in ("10:00:05", "09:50", "10:00:03", "08:00"):
        take(event(at(clock), id=clock.replace(":", "")), at("07:00"))
    sweep(at("10:00"))
    assert cloud.calls("StartExecution")[0]["name"].startswith("0800")


def test_an_idle_sweep_costs_one_query_a_lane_and_no_write(cloud):
    """Sixteen small reads; no lease is taken where nothing is due."""
    take(event(at("12:00")), at("09:00"))
    cloud._calls.clear()
    assert sweep(at("10:00")).started == 0
    assert len(cloud.calls("Query")) == len(cloud._calls) == lanes.LANES
    for query in cloud.asked("Query"):
        assert (query["Limit"], query["ProjectionExpression"], "ConsistentRead" in query) == (500, "sort_key", False)


def test_every_lane_is_swept(cloud):
    """Whatever the lane of an id, it is swept."""
    park(64)
    assert {item["lane"] for item in cloud.parked()} == set(lanes.lanes())
    assert sweep(at("10:00")).started == 64
    assert started(cloud) == orders(64) and not cloud.parked() and not cloud.leases()


def test_a_lane_of_more_than_a_page_is_swept_to_its_end(cloud, one_lane):
    """A query answers with 1 MB at a time; six events of 200 KB are more."""
    park(6, payload="x" * 200_000)
    cloud._calls.clear()
    assert sweep(at("10:00")).started == 6
    assert len(cloud.calls("Query")) > 2
    assert started(cloud) == orders(6) and not cloud.parked()


def test_a_lane_of_more_than_the_threads_can_hold_is_swept_to_its_end(cloud, one_lane, monkeypatch):
    """Batches queue up behind each other; each event starts once."""
    monkeypatch.setattr(sweeper, "THREADS", 1)
    monkeypatch.setattr(sweeper, "BATCH_SIZE", 5)
    park(40)
    assert sweep(at("10:00")).started == 40
    assert started(cloud) == orders(40)


# Powertools warns of a sweep with nothing to count.
@pytest.mark.filterwarnings("ignore:No application metrics")
def test_the_handler_sweeps_by_the_clock_and_reports(cloud, capsys):
    """Lambda's entry: starts what is due now, returns it and counts it in CloudWatch."""
    take(event("2020-01-01T00:00:00Z"), at("00:00", "2019-12-31"))
    assert sweeper.handler({}, LambdaContext())["started"] == 1
    assert '"SweepStarts":[1.0]' in capsys.readouterr().out
    assert sweeper.handler({}, LambdaContext()) == {"started": 0, "retried": 0, "failed": 0, "overdue_seconds": 0.0}


# --- One sweeper per lane ---


def test_two_sweepers_at_the_same_moment_start_each_event_once(cloud, monkeypatch):
    """Two threads sweep the same lanes at once, many times: no event starts twice, none is left."""
    monkeypatch.setattr(lanes, "LANES", 2)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that the two meet between any two steps
    barrier = threading.Barrier(2)

    def run(_: int) -> int:
        barrier.wait()
        return sweep(at("10:00")).started

    try:
        with ThreadPoolExecutor(2) as threads:
            for _ in range(25):
                cloud.forget()
                for _ in range(6):
                    take(event(at("10:00")), at("09:00"))
                assert sum(threads.map(run, range(2))) == 6
                assert len({start.name for start in cloud.starts}) == len(cloud.starts) == 6
                assert not cloud.parked() and not cloud.leases()
    finally:
        sys.setswitchinterval(interval)


def lease(lane: str, holder: str, now) -> bool:
    return sweeper.sweeper.parking.acquire(lane, holder, now, now + timedelta(seconds=35))


def test_a_lane_with_a_lease_is_passed_over(cloud, one_lane):
    """The holder finishes it."""
    park(3)
    assert lease("lane-00", "somebody", at("10:00"))
    assert sweep(at("10:00:10")).started == 0
    sweeper.sweeper.parking.release("lane-00", "somebody")
    assert sweep(at("10:00:20")).started == 3


def test_a_lease_that_was_not_released_expires_after_35_seconds_and_not_before(cloud, one_lane):
    """10:00:00 taken and never released; 10:00:35 still held; a moment later free."""
    park(1)
    assert lease("lane-00", "dead", at("10:00"))
    assert sweep(at("10:00:34.999")).started == 0
    assert sweep(at("10:00:35")).started == 0
    assert sweep(at("10:00:35.001")).started == 1


def test_a_lease_is_released_only_by_its_holder(cloud):
    """A sweep whose lease has expired does not release the lease of the next holder."""
    assert lease("lane-00", "dead", at("10:00"))
    assert lease("lane-00", "alive", at("10:00:36"))
    sweeper.sweeper.parking.release("lane-00", "dead")
    assert not lease("lane-00", "third", at("10:00:40"))


def test_a_lease_ends_after_the_invocation_that_takes_it(cloud, one_lane):
    """At 10:00 a sweep with 30 s takes the lane and dies: its lease ends at 10:00:35, after the invocation has."""
    park(1)
    cloud.kill("StartExecution")
    with pytest.raises(Killed):
        sweep(at("10:00"))
    (lease,) = cloud.leases()
    assert float(lease["expires_at"]) == at("10:00:35").timestamp()
    assert TEMPLATE.properties("Sweeper")["Timeout"] == 30 > DEADLINE_MARGIN_SECONDS


# --- What goes wrong ---


def test_a_sweeper_that_dies_between_start_and_delete_repeats_and_never_loses(cloud, one_lane):
    """10:00 started, dead before deleting; 10:00:30 the lane is still leased; 10:00:40 started again, then gone."""
    park(3)
    cloud.kill("BatchWriteItem")
    cloud.kill("DeleteItem")  # nor does it return its lease
    with pytest.raises(Killed):
        sweep(at("10:00"))
    assert started(cloud) == orders(3) and len(cloud.parked()) == 3
    cloud.recover()
    assert sweep(at("10:00:30")).started == 0
    assert sweep(at("10:00:40")).started == 3
    assert started(cloud) == sorted(orders(3) * 2) and not cloud.parked()
    assert {start.name for start in cloud.starts[:3]} == {start.name for start in cloud.starts[3:]}


def test_a_sweeper_that_dies_before_it_starts_anything_loses_nothing(cloud, one_lane):
    """The next one finds all of it."""
    park(3)
    cloud.kill("StartExecution")
    with pytest.raises(Killed):
        sweep(at("10:00"))
    cloud.recover()
    sweep(at("10:00:40"))
    assert started(cloud) == orders(3) and not cloud.parked()


@pytest.mark.parametrize(("code", "status"), [("ThrottlingException", 400), ("ServiceUnavailable", 503)])
def test_an_event_that_cannot_be_started_now_is_left_for_the_next_sweep(cloud, code, status):
    """One of ten is throttled: nine start, one is counted as failed, stays, and starts ten seconds later."""
    park(10)
    cloud.fail("StartExecution", code, status=status, when=lambda start: start["name"].startswith("order-4"))
    swept = sweep(at("10:00"))
    assert (swept.started, swept.failed, len(cloud.parked())) == (9, 1, 1)
    cloud.recover()
    assert sweep(at("10:00:10")).started == 1
    assert started(cloud) == orders(10) and not cloud.reports()


def test_a_fault_of_the_stack_is_not_reported_as_one_of_the_event(cloud):
    """A missing state machine or permission may be restored: nothing is reported or removed."""
    park(3)
    for code in ("StateMachineDoesNotExist", "AccessDeniedException"):
        cloud.recover()
        cloud.fail("StartExecution", code)
        assert (sweep(at("10:00")).failed, len(cloud.parked()), cloud.reports()) == (3, 3, [])


@pytest.mark.parametrize("code", ["InvalidExecutionInput", "InvalidName", "ValidationException"])
def test_an_event_that_can_never_be_started_is_reported_and_removed(cloud, one_lane, code):
    """It does not block its lane: it is reported with all its fields, the others start."""
    park(3, failure_topic=OWN_FAILURE_TOPIC)
    cloud.fail("StartExecution", code, when=lambda start: start["name"].startswith("order-0"))
    sweep(at("10:00"))
    assert started(cloud) == ["order-1", "order-2"] and not cloud.parked()
    (report,) = cloud.reports(OWN_FAILURE_TOPIC)
    assert report["error"].startswith(f"Step Functions does not accept this event: {code}")
    assert report["event"] == event(at("10:00"), failure_topic=OWN_FAILURE_TOPIC)


def test_an_event_that_can_neither_be_started_nor_reported_now_stays(cloud, one_lane):
    """Its report is throttled, so the next sweep tries again, and the others start."""
    park(3)
    cloud.fail("StartExecution", "InvalidExecutionInput", when=lambda start: start["name"].startswith("order-0"))
    cloud.fail("Publish", "Throttled")
    assert sweep(at("10:00")).failed == 1
    assert started(cloud) == ["order-1", "order-2"] and len(cloud.parked()) == 1


def test_a_lost_answer_of_a_start_repeats_the_event_and_does_not_lose_it(cloud):
    """The call is repeated, and the event deleted once."""
    park(1)
    cloud.lose_answer("StartExecution", times=1)
    assert sweep(at("10:00")).started == 1
    assert started(cloud) == ["order-0", "order-0"] and not cloud.parked()


@pytest.mark.parametrize("fault", ["leave_unprocessed", "lose_answer"])
def test_deletes_that_were_not_done_or_not_confirmed_are_repeated(cloud, fault):
    """UnprocessedItems and a lost answer are followed up within the sweep."""
    park(3)
    operation = () if fault == "leave_unprocessed" else ("BatchWriteItem",)
    getattr(cloud, fault)(*operation, times=2)
    swept = sweep(at("10:00"))
    assert (swept.started, swept.failed, cloud.parked()) == (3, 0, [])


@pytest.mark.parametrize("fault", ["leave_unprocessed", "fail"])
def test_events_that_could_not_be_deleted_are_repeated_by_the_next_sweep(cloud, fault, monkeypatch):
    """Started, counted as failed, started again: at least once."""
    monkeypatch.setattr(parking.time, "sleep", lambda seconds: None)
    park(3)
    operation = () if fault == "leave_unprocessed" else ("BatchWriteItem",)
    getattr(cloud, fault)(*operation)
    assert sweep(at("10:00")).failed == 3
    cloud.recover()
    assert sweep(at("10:00:10")).started == 3
    assert started(cloud) == sorted(orders(3) * 2) and not cloud.parked()


def test_a_sweep_out_of_time_stops_and_the_next_goes_on(cloud, one_lane):
    """Events that were started are deleted and the lease is released; nothing is started twice or lost."""
    park(60)
    asked = iter(range(10**6))
    first = sweep(at("10:00"), lambda: 30.0 if next(asked) < 25 else DEADLINE_MARGIN_SECONDS - 0.001)
    assert 0 < first.started < 60
    assert len(cloud.parked()) == 60 - first.started and not cloud.leases()
    assert sweep(at("10:00:10")).started == 60 - first.started
    assert started(cloud) == orders(60)


def test_a_sweep_without_time_touches_nothing(cloud):
    """It does not even take a lease."""
    park(3)
    assert sweep(at("10:00"), lambda: DEADLINE_MARGIN_SECONDS - 1).started == 0
    assert len(cloud.parked()) == 3 and not cloud.leases()


def test_a_failing_table_fails_every_lane_and_loses_nothing(cloud):
    """Each lane is counted as failed; the handler then fails, which an alarm sees; the next sweep does the work."""
    park(3)
    cloud.fail("Query")
    assert (sweep(at("10:00")).failed, sweep(at("10:00")).started) == (lanes.LANES, 0)
    with pytest.raises(RuntimeError, match="nothing was started, and 16 events or lanes failed"):
        sweeper.handler({}, LambdaContext())
    cloud.recover()
    assert sweep(at("10:00:10")).started == 3


def in_lane(name: str):
    """Chooses the queries of one lane."""
    return lambda query: query["ExpressionAttributeValues"][":lane"]["S"] == name


@pytest.mark.parametrize("consistent", [False, True], ids=["first look", "reading"])
def test_a_lane_whose_query_fails_is_counted_and_the_other_lanes_are_swept(cloud, consistent):
    """One lane is throttled: 15 lanes are swept as if nothing had happened."""
    park(64)
    in_lane_3 = [item for item in cloud.parked() if item["lane"] == "lane-03"]
    chosen = in_lane("lane-03")
    cloud.fail("Query", when=lambda query: chosen(query) and query.get("ConsistentRead", False) is consistent)
    result = sweep(at("10:00"))
    assert (result.started, result.failed) == (64 - len(in_lane_3), 1)
    assert cloud.parked() == in_lane_3
    assert not cloud.leases()
    cloud.recover()
    assert sweep(at("10:00:05")).started == len(in_lane_3)


def test_a_lane_whose_query_hangs_is_counted_and_the_other_lanes_are_swept(cloud):
    """Its query takes longer than the sweep has: the others do not wait for it."""
    park(64)
    in_lane_3 = [item for item in cloud.parked() if item["lane"] == "lane-03"]
    answer_now = threading.Event()

    class Hanging(parking.Parking):
        def first_keys(self, lane, before, limit):
            if lane == "lane-03":
                answer_now.wait(10)
            return super().first_keys(lane, before, limit)

    hanging = Hanging(client("dynamodb"), TEMPLATE.environment("Sweeper")["PARKED_TABLE"])
    result = sweep(at("10:00"), lambda: DEADLINE_MARGIN_SECONDS + 1.0, parking=hanging)
    answer_now.set()
    assert (result.started, result.failed) == (64 - len(in_lane_3), 1)
    assert cloud.parked() == in_lane_3


def test_a_lane_that_fails_and_one_that_hangs_are_both_counted(cloud):
    """The first is counted before the time is up."""
    answer_now = threading.Event()

    class Failing(parking.Parking):
        def first_keys(self, lane, before, limit):
            if lane == "lane-03":
                answer_now.wait(10)
            if lane == "lane-04":
                raise Unexpected
            return super().first_keys(lane, before, limit)

    failing = Failing(client("dynamodb"), TEMPLATE.environment("Sweeper")["PARKED_TABLE"])
    result = sweep(at("10:00"), lambda: DEADLINE_MARGIN_SECONDS + 0.3, parking=failing)
    answer_now.set()
    assert result.failed == 2


def test_each_event_that_fails_in_a_batch_is_counted(cloud, one_lane):
    """Two of three are not started; the third is started, but not deleted."""
    park(3)
    cloud.fail("StartExecution", when=lambda start: not start["name"].startswith("order-1"))
    cloud.fail("BatchWriteItem", "AccessDeniedException")
    result = sweep(at("10:00"))
    assert (result.started, result.failed) == (1, 3)


def test_a_lease_that_was_perhaps_taken_is_released(cloud, one_lane):
    """No answer at any attempt: the lease is there, and the lane must not wait for it to expire."""
    park(3)
    cloud.lose_answer("UpdateItem")
    assert sweep(at("10:00")).failed == 1
    assert cloud.calls("UpdateItem") and not cloud.leases()


class Unexpected(Exception):
    """What no code expects."""


def test_an_unexpected_exception_at_one_event_fails_that_event_alone(cloud, one_lane):
    """A bug, or anything else that is not botocore's: the others start, are deleted, and the lease is released."""
    park(30)

    class Failing(sweeper.Executions):
        def start(self, name, input):
            if name == "order-7":
                raise Unexpected
            super().start(name, input)

    failing = Failing(client("stepfunctions"), TEMPLATE.environment("Sweeper")["DELIVER_ARN"])
    result = sweep(at("10:00"), workflow=failing)
    assert (result.started, result.failed) == (29, 1)
    assert len(cloud.parked()) == 1 and not cloud.leases()
    assert sweep(at("10:00:05")).started == 1
    assert started(cloud) == orders(30)


@pytest.mark.parametrize("method", ["acquire", "due_before", "delete", "delete_throttled", "release"])
def test_an_unexpected_exception_in_one_lane_leaves_the_others_alone(cloud, method):
    """Wherever it is raised, the sweep ends normally, and nothing is lost."""
    park(64)
    if method == "delete_throttled":
        cloud.leave_unprocessed(times=16)
    original = getattr(parking.Parking, method)
    broken = []

    class Failing(parking.Parking):
        pass

    def fail_once(self, *arguments):
        if not broken:
            broken.append(arguments)
            raise Unexpected
        return original(self, *arguments)

    setattr(Failing, method, fail_once)
    failing = Failing(client("dynamodb"), TEMPLATE.environment("Sweeper")["PARKED_TABLE"])
    result = sweep(at("10:00"), parking=failing)
    assert result.started >= 64 - 15 and (result.failed > 0 or method == "release")
    sweep(at("10:00:40"))
    assert {*started(cloud)} == {*orders(64)} and not cloud.parked()
    assert not cloud.leases() or method == "release"  # then it expires


def test_throttled_deletes_are_made_again_after_growing_random_pauses(cloud, monkeypatch):
    """Eleven times unprocessed, then done: nothing is repeated. The pauses grow to at most 2 seconds."""
    pauses = []
    monkeypatch.setattr(parking.time, "sleep", pauses.append)
    monkeypatch.setattr(parking.random, "random", lambda: 1.0)
    park(1)
    cloud.leave_unprocessed(times=11)
    result = sweep(at("10:00"))
    assert (result.started, result.failed, cloud.parked()) == (1, 0, [])
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, *[2.0] * 6]


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "ThrottlingException"])
def test_a_batch_of_deletes_that_is_throttled_whole_is_made_again(cloud, monkeypatch, code):
    """DynamoDB answers so if it can process none of the batch."""
    monkeypatch.setattr(parking.time, "sleep", lambda seconds: None)
    park(3)
    cloud.fail("BatchWriteItem", code, times=5)
    assert (sweep(at("10:00")).failed, cloud.parked()) == (0, [])


def test_a_throttled_delete_holds_up_no_start(cloud, one_lane, monkeypatch):
    """One thread, three batches, a table that deletes nothing at first: everything is started before the first pause,
    and the lease is held until everything is deleted."""
    park(30)
    at_pauses = []
    monkeypatch.setattr(
        parking.time, "sleep", lambda seconds: at_pauses.append((len(started(cloud)), len(cloud.leases())))
    )
    cloud.leave_unprocessed(times=4)
    result = sweep(at("10:00"), threads=ThreadPoolExecutor(1))
    assert (result.started, result.failed, cloud.parked(), cloud.leases()) == (30, 0, [], [])
    assert at_pauses[0] == (30, 1) and {leases for _, leases in at_pauses} == {1}


def test_a_lane_with_many_throttled_deletes_makes_some_before_its_next_starts(cloud, one_lane, monkeypatch):
    """Three batches, one at a time. The third waits for the deletes of the first."""
    monkeypatch.setattr(sweeper, "MAX_THROTTLED", 9)
    monkeypatch.setattr(sweeper, "MAX_BATCHES_IN_FLIGHT", 1)
    park(30)
    at_pauses = []
    monkeypatch.setattr(parking.time, "sleep", lambda seconds: at_pauses.append(len(started(cloud))))
    cloud.leave_unprocessed(times=4)
    result = sweep(at("10:00"), threads=ThreadPoolExecutor(1))
    assert (result.started, result.failed, cloud.parked()) == (30, 0, [])
    assert at_pauses[0] <= 20


def test_a_lane_whose_deletes_all_fail_is_started_all_the_same(cloud, one_lane, monkeypatch):
    """The deletes are waited for once, not before each batch."""
    monkeypatch.setattr(sweeper, "MAX_THROTTLED", 0)
    monkeypatch.setattr(sweeper, "MAX_BATCHES_IN_FLIGHT", 1)
    park(30)
    pauses = []
    monkeypatch.setattr(parking.time, "sleep", pauses.append)
    cloud.leave_unprocessed()
    result = sweep(at("10:00"))
    assert (result.started, result.failed, cloud.leases()) == (30, 30, [])
    assert len(pauses) == 2 * 11  # and before the lease is released


def test_deletes_are_not_made_again_when_the_time_is_up(cloud, monkeypatch):
    """Else Lambda would end the function while it waits."""
    monkeypatch.setattr(parking.time, "sleep", lambda seconds: pytest.fail("slept"))
    park(1)
    cloud.leave_unprocessed()
    monkeypatch.setattr(parking.random, "random", lambda: 1.0)
    assert sweep(at("10:00"), lambda: 0.0 if cloud.calls("BatchWriteItem") else 30.0).failed == 1


def test_a_delivery_that_is_tried_again_is_counted(cloud, one_lane):
    """Deliver has parked it with its attempt: RetriesAlarm watches how many there are."""
    park(2)
    first, _ = cloud.parked()
    item = {name: {"S": value} for name, value in first.items()} | {"attempt": {"N": "1"}}
    client("dynamodb").put_item(TableName=TEMPLATE.environment("Sweeper")["PARKED_TABLE"], Item=item)
    result = sweep(at("10:00"))
    assert (result.started, result.retried) == (2, 1)


def test_a_lease_whose_answer_was_lost_is_taken_all_the_same(cloud, one_lane):
    """Else the lane would wait for the lease to expire."""
    park(3)
    cloud.lose_answer("UpdateItem", times=1)
    assert sweep(at("10:00")).started == 3
    assert not cloud.leases()


def test_a_lane_that_cannot_be_swept_does_not_stop_the_others(cloud):
    """One lane's fault is logged and counted; the next sweep starts its events."""
    park(64)
    cloud.fail("UpdateItem", "AccessDeniedException", times=1)
    swept = sweep(at("10:00"))
    assert swept.failed == 1 and 0 < swept.started < 64
    cloud.recover()
    assert sweep(at("10:00:10")).started == 64 - swept.started and not cloud.parked() and not cloud.leases()


def test_each_lane_that_cannot_be_swept_is_counted(cloud):
    """Whatever it is that fails: two leases, two first looks, or two queries for events."""
    park(64)
    cloud.fail("UpdateItem", "AccessDeniedException", times=2)
    assert sweep(at("10:00")).failed == 2
    for is_first_look in (True, False):
        cloud.forget()
        park(64)
        chosen = in_lane("lane-03"), in_lane("lane-04")
        cloud.fail(
            "Query",
            when=lambda query, chosen=chosen, first=is_first_look: (
                any(fits(query) for fits in chosen) and query.get("ConsistentRead", False) is not first
            ),
        )
        assert sweep(at("10:00")).failed == 2


# --- In a burst ---


def test_a_crowded_lane_is_started_early(cloud, one_lane):
    """241 events due at 10:00 in one lane: nothing at 09:59:40, more than the look-ahead before; all at 09:59:47, 5 s
    before they come within the horizon, because the next sweep would have 3 s for 6 s' work."""
    park(241)
    assert sweep(at("09:59:40")).started == 0
    assert sweep(at("09:59:47")).started == 241
    assert not cloud.parked()


def test_a_lane_that_is_not_crowded_is_started_within_the_horizon(cloud, one_lane):
    """240 events due at 10:00 in one lane: waiting in Express costs, so they start at 09:59:53, within the horizon."""
    park(240)
    for clock in ("09:59:42", "09:59:47"):
        assert sweep(at(clock)).started == 0
    assert sweep(at("09:59:53")).started == 240


@pytest.mark.parametrize(("count", "started"), [(40, 0), (41, 41)])
def test_a_lane_can_be_crowded_by_the_first_events_beyond_the_horizon(cloud, one_lane, count, started):
    """Due exactly at the horizon, when the next sweep is a second's work late."""
    park(count)
    assert sweep(at("10:00") - HORIZON).started == started


def test_an_even_flow_is_not_a_crowd(cloud, one_lane):
    """20 events a second in one lane, which is 320 a second in all: each is started within the horizon."""
    for number in range(400):
        take(event(at("10:00") + timedelta(seconds=number / 20)), at("09:00"), message_id=f"order-{number}")
    sweep(at("10:00"))
    assert len(cloud.starts) == 8 * 20


def test_a_crowd_beyond_the_look_ahead_does_not_start_the_events_before_it(cloud, one_lane):
    """Two are due at 10:00 and a crowd at 10:01: at 09:59:53 the two are started."""
    park(2)
    for number in range(300):
        take(event(at("10:01")), at("09:00"), message_id=f"later-{number}")
    assert sweep(at("09:59:45")).started == 0
    assert sweep(at("09:59:53")).started == 2


def test_a_burst_is_seen_before_the_first_start(cloud, monkeypatch):
    """The lanes' answers show it: helpers are called with the first batch, not after two seconds' work."""
    monkeypatch.setattr(sweeper, "MAX_STARTS_BEFORE_HELPERS", 60)
    park(64)
    called = []
    sweep(at("10:00"), call_helpers=lambda lanes_left: called.append((lanes_left, len(cloud.starts))))
    [(lanes_left, started_before)] = called
    assert lanes_left >= lanes.LANES - 1 and started_before <= parking.BATCH_SIZE


def test_in_a_burst_a_sweep_calls_one_helper_for_each_lane_left(cloud, monkeypatch):
    """Once, and for the lanes that are not swept yet. It sweeps on itself, too."""
    monkeypatch.setattr(sweeper, "MAX_STARTS_BEFORE_HELPERS", 10)
    monkeypatch.setattr(sweeper, "MAX_BATCHES_IN_FLIGHT", 2)
    park(64)
    called = []
    assert sweep(at("10:00"), call_helpers=called.append).started == 64
    [helpers] = called
    assert 1 <= helpers < lanes.LANES


def test_a_helper_calls_no_helpers(cloud, monkeypatch):
    """Else their number would grow without bound."""
    monkeypatch.setattr(sweeper, "MAX_STARTS_BEFORE_HELPERS", 10)
    monkeypatch.setattr(sweeper, "MAX_BATCHES_IN_FLIGHT", 2)
    park(64)
    called = []
    assert sweep(at("10:00"), call_helpers=called.append, is_helper=True).started == 64
    assert not called


def test_a_sweep_with_little_to_do_calls_no_helpers(cloud, monkeypatch):
    """A helper costs an invocation and sixteen reads. Each batch is counted before the next begins."""
    monkeypatch.setattr(sweeper, "MAX_BATCHES_IN_FLIGHT", 1)
    park(64)
    called = []
    sweep(at("10:00"), call_helpers=called.append)
    assert not called
