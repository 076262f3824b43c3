"""The Sweeper: parked events start in time, once, each lane under its lease."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import pytest
from punctual_core import lanes, sweeper
from punctual_core.clients import client
from punctual_core.parking import Parking

from tests.conftest import HORIZON, TEMPLATE, Killed, at, event, sweep, take
from tests.functions.conftest import executions, orders, park, started

# --- In time ---


def test_an_event_is_started_from_the_horizon_on_and_not_before(cloud):
    """Waiting in Express is what users pay for."""
    take(event(at("10:00")), at("09:00"))
    assert sweep(at("10:00") - HORIZON).started == 0
    swept = sweep(at("10:00:00.001") - HORIZON)
    assert (swept.started, swept.overdue_seconds) == (1, 0)


def test_the_longest_overdue_event_comes_first(cloud, one_lane, monkeypatch):
    """A lane is started in the order of due times, whatever earlier sweeps have missed."""
    monkeypatch.setattr(sweeper, "THREADS", 1)
    for clock in ("10:00:05", "09:50", "10:00:03", "08:00"):
        take(event(at(clock), id=clock.replace(":", "")), at("07:00"))
    swept = sweep(at("10:00"))
    assert (swept.started, swept.overdue_seconds) == (4, 2 * 3600) and not cloud.parked()
    assert cloud.starts[0].name.startswith("0800")


def test_an_idle_sweep_costs_one_query_a_lane_and_no_write(cloud):
    """Sixteen small, eventually consistent reads; no lease is taken where nothing is due."""
    take(event(at("12:00")), at("09:00"))
    cloud._calls.clear()
    assert sweep(at("10:00")).started == 0
    assert len(cloud.calls("Query")) == len(cloud._calls) == lanes.LANES
    for query in cloud.asked("Query"):
        assert query["ProjectionExpression"] == "sort_key" and "ConsistentRead" not in query


def test_every_lane_is_swept(cloud):
    """Whatever the lane of an id, it is swept."""
    park(64)
    assert {item["lane"] for item in cloud.parked()} == set(lanes.lanes())
    assert sweep(at("10:00")).started == 64
    assert started(cloud) == orders(64) and not cloud.parked() and not cloud.leases()


def test_a_lane_of_more_than_a_page_is_swept_to_its_end(cloud, one_lane):
    """A query answers with 1 MB at a time; six events of 200 KB are more."""
    park(6, payload="x" * 200_000)
    assert sweep(at("10:00")).started == 6
    assert len(cloud.calls("Query")) > 2
    assert started(cloud) == orders(6) and not cloud.parked()


def test_a_retry_is_counted(cloud, one_lane):
    """Deliver has parked it with its number: RetriesAlarm watches how many there are."""
    park(2)
    first, _ = cloud.parked()
    item = {name: {"S": value} for name, value in first.items()} | {"retry": {"N": "1"}}
    client("dynamodb").put_item(TableName=TEMPLATE.environment("Sweeper")["PARKED_TABLE"], Item=item)
    result = sweep(at("10:00"))
    assert (result.started, result.retried) == (2, 1)


# --- One sweep per lane ---


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
            for _ in range(12):
                cloud.forget()
                park(6)
                assert sum(threads.map(run, range(2))) == 6
                assert len({start.name for start in cloud.starts}) == len(cloud.starts) == 6
                assert not cloud.parked() and not cloud.leases()
    finally:
        sys.setswitchinterval(interval)


class Slow(Parking):
    """A table that needs so many seconds for each event, by the invocation's clock."""

    def __init__(self, seconds: float):
        super().__init__(client("dynamodb", 50), TEMPLATE.environment("Sweeper")["PARKED_TABLE"])
        self.seconds, self.passed = seconds, 0.0

    def due_before(self, lane, before):
        for each in super().due_before(lane, before):
            self.passed += self.seconds
            yield each

    def seconds_left(self) -> float:
        return 30.0 - self.passed


@pytest.mark.parametrize(("count", "each", "seconds"), [(100, 0.1, (6, 8.5, 11, 13.5, 16)), (75, 0.026, (6,))])
def test_a_sweep_renews_its_lease_every_two_seconds(cloud, one_lane, count, each, seconds):
    """100 events take 10 s: the lease is taken at the first batch of 25, and renewed with the others. 75 take less than
    two seconds, and a renewal costs a write."""
    park(count)
    slow = Slow(each)
    assert sweep(at("10:00"), slow.seconds_left, parking=slow).started == count
    ends = [float(call["ExpressionAttributeValues"][":until"]["N"]) for call in cloud.asked("UpdateItem")]
    assert ends == pytest.approx([at("10:00").timestamp() + second for second in seconds])


def test_a_sweep_that_has_lost_its_lease_starts_nothing_more(cloud, one_lane):
    """It was frozen for 10 s, and another sweep has the lane: what it has started it deletes, and no more."""
    park(60)
    slow = Slow(0)

    def rob() -> None:
        if not slow.passed:
            slow.passed = 10.0
            sweeper.sweeper.parking.acquire("lane-00", "another", at("10:00:09"))

    first = sweep(at("10:00"), slow.seconds_left, parking=slow, executions=executions(after=rob))
    assert 25 <= first.started < 60 and len(cloud.parked()) == 60 - first.started
    assert [lease["holder"] for lease in cloud.leases()] == ["another"]


@pytest.mark.parametrize(("clock", "holder"), [("10:00:01", "tick-7"), ("10:00:06.001", "tick-9")])
def test_a_killed_tick_keeps_its_lanes_for_six_seconds_and_its_retry_enters_them(cloud, one_lane, clock, holder):
    """Sweep retries a failed tick after a second, with the same holder. Any other one passes the lane over."""
    park(3)
    cloud.kill("BatchWriteItem")
    cloud.kill("DeleteItem")  # It does not release its lease.
    with pytest.raises(Killed):
        sweep(at("10:00"), holder="tick-7")
    cloud.recover()
    assert sweep(at("10:00:06"), holder="tick-8").started == 0
    assert [lease["holder"] for lease in cloud.leases()] == ["tick-7"]
    assert sweep(at(clock), holder=holder).started == 3
    assert started(cloud) == sorted(orders(3) * 2) and not cloud.parked() and not cloud.leases()
    assert {start.name for start in cloud.starts[:3]} == {start.name for start in cloud.starts[3:]}


# --- A crowded lane ---

# Where it matters how many are started, and not which.
UNSEEN = SimpleNamespace(start=lambda name, input: None)


@pytest.mark.parametrize(
    ("count", "ahead", "started"),
    [(40, 0, 0), (41, 0, 41), (240, 5, 0), (241, 5, 241), (480, 10.999999, 480), (481, 11, 0)],
)
def test_a_crowded_lane_is_started_early(cloud, one_lane, count, ahead, started):
    """241 events of one lane are due 5 s after the horizon: the next sweep would have 3 s for 6 s' work, so they are
    started now. Of 240, none: waiting in Express costs. The sweep looks 11 s ahead."""
    park(count, at("10:00") + HORIZON + timedelta(seconds=ahead))
    assert sweep(at("10:00"), executions=UNSEEN).started == started
    assert len(cloud.parked()) == count - started


def test_an_even_flow_is_not_a_crowd(cloud, one_lane):
    """20 events a second in one lane, which is 320 a second in all: each is started within the horizon."""
    for number in range(400):
        park(1, at("10:00") + timedelta(seconds=number / 20), f"at-{number}")
    assert sweep(at("10:00"), executions=UNSEEN).started == 8 * 20


# --- An invocation of its own for a lane with much to start ---


class Invocations:
    """Notes the lanes that are given to invocations of their own; `works` says whether these sweep them."""

    def __init__(self, works: bool = True):
        self.works, self.lanes = works, []

    def __call__(self, lane: str) -> bool:
        self.lanes.append(lane)
        if self.works:
            sweep(at("10:00"), lane=lane, holder=f"of {lane}", delegate=self)
        return True


def test_a_lane_with_sixty_events_to_start_gets_an_invocation_of_its_own(cloud, one_lane):
    """With 59 it gets none: an invocation is billed."""
    park(59)
    few = Invocations()
    assert sweep(at("10:00"), delegate=few).started == 59 and few.lanes == []
    cloud.forget()
    park(60)
    many = Invocations()
    assert sweep(at("10:00"), delegate=many).started == 0  # It finds nothing left to do.
    assert many.lanes == ["lane-00"] and started(cloud) == orders(60) and not cloud.parked()


def test_events_beyond_the_horizon_are_not_much_to_start(cloud, one_lane):
    """One is due, and 60 come within the horizon only when the next sweep starts them."""
    park(1)
    park(60, at("10:00:05") + HORIZON, "later")
    invocations = Invocations()
    assert sweep(at("10:00"), delegate=invocations).started == 1 and not invocations.lanes


@pytest.mark.parametrize(("delegate", "second"), [(Invocations(works=False), "03"), (lambda lane: False, "00")])
def test_a_lane_whose_own_invocation_does_not_come_is_swept_by_the_tick(cloud, one_lane, delegate, second):
    """After three seconds if Lambda takes the call and nothing comes of it; at once if it does not take the call."""
    park(60)
    assert sweep(at("10:00"), delegate=delegate).started == 60
    [taken] = cloud.asked("UpdateItem")
    assert float(taken["ExpressionAttributeValues"][":now"]["N"]) == at(f"10:00:{second}").timestamp()


def test_a_rescued_lane_is_free_for_the_next_tick(cloud, one_lane):
    """Its events take 5 s here: after 2 s the tick stops, and the next one asks for an invocation of the lane again."""
    park(100)
    slow = Slow(0.05)
    rescued = sweep(at("10:00"), slow.seconds_left, parking=slow, delegate=Invocations(works=False))
    assert rescued.started == 25 and len(cloud.parked()) == 75 and not cloud.leases()


def test_an_invocation_of_its_own_is_asynchronous(cloud, monkeypatch):
    """It is this function, told its lane; a call that is throttled or has no answer ends nothing."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "punctual-Sweeper")
    cloud.accept("Invoke", 202, times=1)
    assert sweeper._delegate("lane-07")
    [call] = cloud.asked("Invoke")
    assert (call["FunctionName"], call["InvocationType"]) == ("punctual-Sweeper", "Event")
    assert json.loads(call["Payload"]) == {"lane": "lane-07"}
    cloud.fail("Invoke")
    assert not sweeper._delegate("lane-07")
    cloud.recover()
    cloud.lose_answer("Invoke")
    assert not sweeper._delegate("lane-07")
