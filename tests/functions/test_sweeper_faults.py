"""The Sweeper's faults, and its handler: whatever fails, no event is lost, and the others are in time."""

import json
from datetime import timedelta

import pytest
from punctual_core import lanes, sweeper
from punctual_core.deadline import Deadline
from punctual_core.parking import Parking
from punctual_core.sweeper import DEADLINE_MARGIN_SECONDS

from tests.conftest import LambdaContext, at, event, sweep, take
from tests.functions.conftest import Unexpected, executions, orders, park, started

# --- Starts ---


def test_an_event_that_can_neither_be_started_nor_reported_now_stays(cloud, one_lane):
    """Its report is throttled, so the next sweep tries again, and the others start."""
    park(3)
    cloud.fail("StartExecution", "InvalidExecutionInput", when=lambda start: start["name"].startswith("order-0"))
    cloud.fail("Publish", "Throttled")
    assert sweep(at("10:00")).failed == 1
    assert started(cloud) == ["order-1", "order-2"] and len(cloud.parked()) == 1


def test_an_unexpected_exception_at_one_event_fails_that_event_alone(cloud, one_lane):
    """Whatever it is: the others start, are deleted, and the lease is released. The next sweep starts that event."""
    park(30)

    def fail(name: str) -> None:
        if name == "order-7":
            raise Unexpected

    result = sweep(at("10:00"), executions=executions(fail))
    assert (result.started, result.failed) == (29, 1)
    assert len(cloud.parked()) == 1 and not cloud.leases()
    assert sweep(at("10:00:05")).started == 1
    assert started(cloud) == orders(30) and not cloud.reports()


def test_a_start_that_hangs_holds_up_no_other_event(cloud, one_lane, hang):
    """One of 130 has no answer: the others are started and deleted, and the lane is free."""
    park(130)
    hang(lambda call: getattr(call, "execution", "") == "order-3")
    result = sweep(at("10:00"))
    assert (result.started, result.failed) == (129, 1)
    assert [item["execution"] for item in cloud.parked()] == ["order-3"] and not cloud.leases()


# --- Deletes ---


@pytest.mark.parametrize("fault", ["leave_unprocessed", "lose_answer", "fail"])
def test_deletes_that_were_not_done_or_not_confirmed_are_repeated(cloud, fault):
    """Throttled whole or in part, or with a lost answer: they are followed up within the sweep."""
    park(3)
    operation = () if fault == "leave_unprocessed" else ("BatchWriteItem",)
    getattr(cloud, fault)(*operation, times=4)
    swept = sweep(at("10:00"))
    assert (swept.started, swept.failed, cloud.parked()) == (3, 0, [])


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException"])
def test_events_that_could_not_be_deleted_are_repeated_by_the_next_sweep(cloud, one_lane, code):
    """They are started, counted as failed, and started again: at least once. The lane is held for 7 s more, and then
    released for its other events."""
    park(3)
    cloud.fail("BatchWriteItem", code)
    swept = sweep(at("10:00"))
    assert (swept.started, swept.failed) == (3, 3) and not cloud.leases()
    attempts = len(cloud.asked("BatchWriteItem"))
    assert 14 <= attempts <= 80  # in 7 s, with a pause of 0.25 s on average between them
    cloud.recover()
    assert sweep(at("10:00:05")).started == 3
    assert started(cloud) == sorted(orders(3) * 2) and not cloud.parked()


def test_a_throttled_delete_holds_up_no_start(cloud, one_lane, monkeypatch):
    """Four batches, and a table that deletes nothing at first: everything is started before the first pause, and the
    lease is held until everything is deleted."""
    park(100)
    at_pauses = []
    cloud.leave_unprocessed(times=6)
    monkeypatch.setattr(
        sweeper.random, "random", lambda: at_pauses.append((len(cloud.starts), len(cloud.leases()))) or 0
    )
    result = sweep(at("10:00"))
    assert (result.started, result.failed, cloud.parked(), cloud.leases()) == (100, 0, [], [])
    assert {*at_pauses} == {(100, 1)}


def test_what_cannot_be_deleted_is_not_started_without_end(cloud, one_lane, monkeypatch):
    """A table that deletes nothing: of 200 events a sweep starts those that it may repeat, here 25, and what was in
    flight when it noticed. The next sweep starts these again and no others, so repeats grow with the fault's duration
    and not with the lane."""
    monkeypatch.setattr(sweeper, "MAX_UNDELETED", 25)
    park(200)
    cloud.leave_unprocessed()
    in_flight = 25 * (sweeper.BATCHES_IN_FLIGHT + 1)
    first = sweep(at("10:00"))
    assert 25 < first.started <= 25 + in_flight and first.failed == first.started
    again = sweep(at("10:00:10"))
    assert len({start.name for start in cloud.starts}) <= 25 + in_flight and again.failed == again.started
    cloud.recover()
    sweep(at("10:00:20"))
    assert {*started(cloud)} == {*orders(200)} and not cloud.parked()


def test_a_lane_that_may_repeat_no_more_goes_on_as_soon_as_it_has_deleted(cloud, one_lane, monkeypatch):
    """The table comes back during the sweep: everything is started, nothing is repeated."""
    monkeypatch.setattr(sweeper, "MAX_UNDELETED", 25)
    park(200)
    cloud.leave_unprocessed(times=9)
    result = sweep(at("10:00"))
    assert (result.started, result.failed, cloud.parked()) == (200, 0, [])


def test_a_delete_that_hangs_holds_up_no_start(cloud, one_lane, hang):
    """The first of many has no answer: the others are started and deleted, and the hanging ones counted."""
    park(130)
    hang(lambda call: isinstance(call, list) and any("order-0" in key for key in call))
    result = sweep(at("10:00"))
    assert (result.started, result.failed) == (130, 1)
    assert len(cloud.parked()) == 25 and not cloud.leases()


# --- The time of an invocation ---


def test_lambda_states_milliseconds_and_is_asked_anew_each_time():
    """The deadline is a moment, not a duration that was read once. Nobody waits for a negative time."""
    context = LambdaContext(seconds_left=12.345)
    deadline = Deadline.of_invocation(context, at("10:00"))
    assert (deadline.ends_at, deadline.seconds_left()) == (at("10:00:12.345"), 12.345)
    context._seconds_left = 7
    assert (deadline.ends_at, deadline.seconds_left()) == (at("10:00:12.345"), 7)
    assert (deadline.seconds_until(5), deadline.seconds_until(8)) == (2, 0)


def test_a_sweep_out_of_time_stops_and_the_next_goes_on(cloud, one_lane):
    """With less than the margin left nothing more is started; what was is deleted, in batches of 25, and the lease
    released. Each event starts once."""
    park(126)
    left = lambda: 30.0 if len(cloud.starts) < 25 else DEADLINE_MARGIN_SECONDS - 0.001  # noqa: E731
    first = sweep(at("10:00"), left)
    assert 25 <= first.started < 126 and first.failed == 0
    assert len(cloud.parked()) == 126 - first.started and not cloud.leases()
    assert sweep(at("10:00:10")).started == 126 - first.started
    assert started(cloud) == orders(126) and not cloud.parked()
    assert len(cloud.asked("BatchWriteItem")) == 6


@pytest.mark.parametrize(("left", "count"), [(DEADLINE_MARGIN_SECONDS, 3), (DEADLINE_MARGIN_SECONDS - 0.001, 0)])
def test_nothing_is_started_in_the_last_eight_seconds(cloud, left, count):
    """They are for the answers, the deletes, and the release."""
    park(3)
    assert DEADLINE_MARGIN_SECONDS == 8
    assert sweep(at("10:00"), lambda: left).started == count
    assert len(cloud.parked()) == 3 - count and not cloud.leases()


# --- Lanes ---


def test_a_lane_whose_sweep_hangs_is_counted_and_the_other_lanes_are_swept(cloud, hang):
    """Its query takes longer than the invocation has: the others do not wait for it."""
    park(30)
    in_lane_3 = [item for item in cloud.parked() if item["lane"] == "lane-03"]
    hang(lambda call: call == "lane-03")
    result = sweep(at("10:00"))
    assert in_lane_3 and (result.started, result.failed) == (30 - len(in_lane_3), 1)
    assert cloud.parked() == in_lane_3


@pytest.mark.parametrize("method", ["first_keys", "acquire", "due_before", "delete", "release"])
def test_an_unexpected_exception_in_one_lane_leaves_the_others_alone(cloud, monkeypatch, method):
    """Wherever it is raised: the lane is counted, the others are swept as if nothing had happened, nothing is lost."""
    park(64)
    original, broken = getattr(Parking, method), []

    def fail_once(self, *arguments):
        if not broken:
            broken.append(arguments)
            raise Unexpected
        return original(self, *arguments)

    monkeypatch.setattr(Parking, method, fail_once)
    result = sweep(at("10:00"))
    assert (result.started, result.failed) == (64 - len(cloud.parked()), int(method != "delete"))
    assert len({item["lane"] for item in cloud.parked()}) == (method in ("first_keys", "acquire", "due_before"))
    sweep(at("10:00:10"))
    assert {*started(cloud)} == {*orders(64)} and not cloud.parked()
    assert not cloud.leases() or method == "release"  # then it expires


def test_a_lease_whose_answer_was_lost_is_taken_all_the_same(cloud, one_lane):
    """Else the lane would wait for the lease to expire."""
    park(3)
    cloud.lose_answer("UpdateItem", times=1)
    assert sweep(at("10:00")).started == 3
    assert not cloud.leases()


def test_a_lease_that_was_perhaps_taken_is_released(cloud, one_lane):
    """There is no answer at any attempt: the lease is there, and the lane must not wait for it to expire."""
    park(3)
    cloud.lose_answer("UpdateItem")
    assert sweep(at("10:00")).failed == 1
    assert cloud.calls("UpdateItem") and not cloud.leases()


# --- The handler ---


# Powertools warns of a sweep with nothing to count.
@pytest.mark.filterwarnings("ignore:No application metrics")
def test_the_handler_sweeps_by_the_clock_and_says_what_it_did(cloud, one_lane, capsys):
    """What is zero is neither counted nor logged."""
    take(event("2020-01-01T00:00:00Z"), at("00:00", "2019-12-31"))
    assert sweeper.handler({}, LambdaContext())["started"] == 1
    [line] = map(json.loads, capsys.readouterr().out.splitlines())
    [directive] = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], line["service"], line["SweepStarts"]) == ("Punctual", "punctual", [1.0])
    assert {(each["Name"], each["Unit"]) for each in directive["Metrics"]} == {
        ("SweepStarts", "Count"),
        ("Overdue", "Seconds"),
    }
    assert sweeper.handler({}, LambdaContext()) == {"started": 0, "retried": 0, "failed": 0, "overdue_seconds": 0.0}
    assert not capsys.readouterr().out


def test_retries_and_failures_are_counted_under_the_names_that_alarms_watch(cloud, monkeypatch, capsys):
    monkeypatch.setattr(sweeper.Sweeper, "tick", lambda *_, **__: sweeper.SweepResult(7, 2, 1, 3.5))
    sweeper.handler({}, LambdaContext())
    [line] = map(json.loads, capsys.readouterr().out.splitlines())
    counted = {name: line[name] for name in ("SweepStarts", "Retries", "SweepFailures", "Overdue")}
    assert counted == {"SweepStarts": [7.0], "Retries": [2.0], "SweepFailures": [1.0], "Overdue": [3.5]}


@pytest.mark.filterwarnings("ignore:No application metrics")
@pytest.mark.parametrize(
    ("payload", "swept"),
    [({"lane": "lane-03"}, ["lane-03"]), ({"holder": "tick-7"}, lanes.lanes()), ({}, lanes.lanes())],
)
def test_the_payload_names_the_lane_or_the_holder(cloud, monkeypatch, payload, swept):
    """An invocation of one lane delegates nothing. One without a holder has a new name each time, and not the request
    id, because Lambda may run an asynchronous invocation twice."""
    ticks = []

    def tick(self, lanes, holder, deadline, *, may_delegate):
        ticks.append((list(lanes), holder, deadline.seconds_left(), may_delegate))
        return sweeper.SweepResult()

    monkeypatch.setattr(sweeper.Sweeper, "tick", tick)
    context = LambdaContext(seconds_left=12.5)
    sweeper.handler(payload, context)
    sweeper.handler(payload, context)
    holders = {holder for _, holder, _, _ in ticks}
    assert {(tuple(lanes), left, may) for lanes, _, left, may in ticks} == {(tuple(swept), 12.5, "lane" not in payload)}
    assert holders == {"tick-7"} if "holder" in payload else len({*holders, context.aws_request_id}) == 3


def test_the_handler_fails_if_nothing_was_started_and_something_failed(cloud, monkeypatch):
    """An alarm watches the function's errors; what failed beside others has an alarm of its own."""
    results = iter([sweeper.SweepResult(failed=2), sweeper.SweepResult(started=1, failed=2)])
    monkeypatch.setattr(sweeper.Sweeper, "tick", lambda *_, **__: next(results))
    with pytest.raises(RuntimeError, match="nothing was started, and 2 events or lanes failed"):
        sweeper.handler({}, LambdaContext())
    assert sweeper.handler({}, LambdaContext())["failed"] == 2


def test_the_environment_says_what_is_swept(monkeypatch):
    """The horizon is in seconds; every thread has a connection."""
    monkeypatch.setenv("HORIZON_SECONDS", "9")
    made = sweeper._from_environment()
    assert made.horizon == timedelta(seconds=9) and made.delegate is sweeper._delegate
    assert made.parking._client.meta.config.max_pool_connections >= sweeper.THREADS + lanes.LANES
    assert made.executions._client.meta.config.max_pool_connections >= sweeper.THREADS
