"""The drills' ledger, faults, and proxy: nothing that went wrong may look well."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from tools.drills.__main__ import COLUMNS, judge
from tools.drills.drills import no_fault
from tools.drills.faults import first, lose_answer, once_in, throttle
from tools.drills.ledger import Entry, Ledger
from tools.drills.proxy import Answer, Call, Fault, FaultProxy
from tools.drills.scenes import mix_of
from tools.local import HOST

DUE = datetime(2026, 12, 24, 18, 0, 0, 250000, tzinfo=UTC)
START = "AWSStepFunctions.StartExecution"


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


# --- The ledger -------------------------------------------------------------------------------------------------------


def entry(*late_seconds: float, **known: object) -> Entry:
    """An event whose deliveries were so late."""
    return Entry("a", "execution-of-a", DUE, deliveries=[DUE + seconds(late) for late in late_seconds], **known)


LATE, UNWANTED = "later than the drill allows", "delivered although canceled or replaced in time"


@pytest.mark.parametrize(
    ("entry", "outcome", "problems"),
    [
        (entry(), "missing", ["missing"]),
        (entry(reports=1), "reported", []),
        (entry(0.5, reports=1), "delivered", []),
        (entry(withdrawn=True), "canceled", []),
        (entry(0, withdrawn=True), "delivered", [UNWANTED]),
        (entry(interrupted=True), "interrupted", []),
        (entry(withdrawn=True, interrupted=True), "canceled", []),
        (entry(0, interrupted=True), "delivered", []),
        # A queue truncates its timestamps to milliseconds, so less than one is no proof that it was early.
        (entry(1, -0.0009), "delivered", []),
        (entry(1, -0.001), "delivered", ["early"]),
        # The first arrival gives the lateness.
        (entry(9, 5), "delivered", []),
        (entry(5.1), "delivered", [LATE]),
        (entry(3, is_concerned=False), "delivered", []),
        (entry(3.1, is_concerned=False), "delivered", [LATE]),
        (entry(1, 2, 3), "delivered", ["repeated more often than they were started"]),
        (entry(1, 2, reports=1), "delivered", ["repeated more often than they were started"]),
    ],
    ids=str,
)
def test_an_event_has_one_outcome_and_each_broken_promise_is_a_problem(entry, outcome, problems):
    """It may have been sent twice, and be 5 s late."""
    assert entry.outcome == outcome
    assert list(entry.broken_promises({"execution-of-a": 2}.get, limit_seconds=5)) == problems


def test_a_single_arrival_needs_no_start_that_was_counted():
    assert list(entry(1).broken_promises(lambda execution: 0, limit_seconds=5)) == []


def test_the_ledger_enters_what_arrives_and_ignores_other_drills():
    ledger = Ledger()
    ledger.expect("a", "execution-of-a", DUE)
    ledger.expect("b", "execution-of-b", DUE)
    assert ledger.outcomes() == {"missing": 2}
    for key, late in ("a", 2), ("b", 4), ("of another drill", 9):
        ledger.arrive(key, DUE + seconds(late))
        ledger.arrive(key, None)
    assert [(len(entry.deliveries), entry.reports) for entry in ledger.values()] == [(1, 1), (1, 1)]
    ledger.concern(["execution-of-a"])
    assert [ledger.latest_seconds(is_concerned=is_so) for is_so in (True, False)] == [2, 4]
    with pytest.raises(ValueError, match="already published"):
        ledger.expect("a", "another execution", DUE)


def test_a_drill_finds_broken_promises_faults_that_never_happened_and_problems_of_its_scene():
    ledger = Ledger()
    for key in "abc":
        ledger.expect(key, f"execution-of-{key}", DUE)
    ledger.arrive("c", DUE + seconds(2))
    scene = SimpleNamespace(ledger=ledger, attempts=None, problems=["too slow"], faults=[Fault(throttle)], notes=[])
    cells, problems = judge(no_fault, 8, scene)
    assert problems == ["2 missing: a, b", "too slow", "a fault never happened"]
    assert cells == ["No fault", "3", "1", "0", "0", "0", "2", "0", "2.0 s", "8 s"]
    assert COLUMNS[2:8] == ("delivered", "reported", "canceled", "interrupted", "missing", "repeated")


# --- Faults and the proxy ---------------------------------------------------------------------------------------------


class Emulator(FaultProxy):
    """Responds to every call with its own body, and refuses the execution called `event-1_again_2`."""

    def forward(self, call: Call) -> Answer:
        self.bodies.append(json.loads(call.body))
        return Answer(400 if b"_again_2" in call.body else 200, {}, call.body)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(None) as emulator:
        emulator.bodies = []
        yield emulator


@pytest.fixture
def proxy(emulator) -> Iterator[FaultProxy]:
    with FaultProxy(SimpleNamespace(port=emulator.server_port, pid=None)) as proxy:
        yield proxy
        proxy.check()


def post(proxy: FaultProxy, target: str = "DynamoDB_20120810.Query", function: str = "Sweeper", **arguments):
    """Make a call as a function does. Returns the status and the response's body."""
    with closing(http.client.HTTPConnection(HOST, proxy.server_port, timeout=10)) as connection:
        connection.request("POST", f"/{function}", json.dumps(arguments), {"X-Amz-Target": target})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_a_fault_happens_to_calls_of_its_operation_function_and_text_within_its_block(proxy, emulator):
    fault = Fault(throttle, {"Query"}, "Sweeper", '"lane-07"')
    with proxy.inject(fault):
        assert post(proxy, lane="lane-07")[1]["__type"] == "ThrottlingException"
        assert post(proxy, lane="lane-08")[0] == 200
        assert post(proxy, function="Ingest", lane="lane-07")[0] == 200
        assert post(proxy, target="DynamoDB_20120810.PutItem", lane="lane-07")[0] == 200
    assert post(proxy, lane="lane-07")[0] == 200
    assert fault.hits == 1
    assert len(emulator.bodies) == 4


def test_a_fault_happens_to_the_first_calls_or_after_some_and_not_again_for_a_time():
    assert [first(2)(number) for number in (1, 2, 3)] == [True, True, False]
    when = once_in(0, at_most=2, after=2)
    assert [number for number in range(1, 20) if when(number)] == [3, 6]
    when = once_in(60, at_most=2)
    assert [number for number in range(1, 20) if when(number)] == [1]


def test_a_lost_answer_closes_the_connection_after_the_call_took_effect(proxy, emulator):
    with proxy.inject(Fault(lose_answer)), pytest.raises(http.client.RemoteDisconnected):
        post(proxy, number=1)
    assert emulator.bodies == [{"number": 1}]


def test_a_call_whose_sender_was_killed_after_its_header_is_no_failure_of_the_proxy(proxy, emulator):
    with socket.create_connection((HOST, proxy.server_port)) as killed:
        killed.sendall(f"POST /Ingest/ HTTP/1.1\r\nX-Amz-Target: {START}\r\nContent-Length: 10\r\n\r\n".encode())
    assert post(proxy)[0] == 200
    proxy.check()
    assert emulator.bodies == [{}]


def test_starts_are_counted_by_event_and_a_second_one_of_the_same_name_gets_another_name(proxy, emulator):
    """AWS would run it again, the emulator would refuse it."""
    for name in ("event-1", "event-1", "event-1-r2", "event-2", "event-1"):
        post(proxy, target=START, name=name)
    with proxy.inject(Fault(throttle)):
        post(proxy, target=START, name="event-1")
    assert [body["name"] for body in emulator.bodies][1] == "event-1_again_1"
    assert proxy.started("event-1") == ["event-1", "event-1_again_1", "event-1-r2"]


def test_a_mix_has_every_kind_of_event_and_time_for_its_cancels_and_replacements():
    events = mix_of("drill", 200, DUE, 8, "target", "target.fifo", "failures")
    due = {event["payload"]: datetime.fromisoformat(event["date"]) for event in events}
    assert len(due) == 200
    assert all("id" in event for event in events[9::10])  # to be replaced, and those before them to be canceled
    assert min(due[event["payload"]] for event in events[8::10] + events[9::10]) >= DUE + seconds(8 + 13)
    for is_parked in (True, False):
        some = [event for event in events if (due[event["payload"]] > DUE + seconds(8)) == is_parked]
        assert {"id" in event for event in some} == {True, False}
        assert {event["target"] for event in some} == {"target", "target.fifo"}
        assert len({due[event["payload"]].microsecond for event in some}) > 2
