"""The drills' ledger, faults, and proxy: nothing that went wrong may look well."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from tools.drills.faults import Fault, first, lose_answer, once_in, throttle
from tools.drills.ledger import Account, Ledger
from tools.drills.proxy import FaultProxy
from tools.drills.scenes import WITHDRAWAL_SECONDS, mix_of
from tools.local import HOST

DUE = datetime(2026, 12, 24, 18, 0, 0, 250000, tzinfo=UTC)
START = "AWSStepFunctions.StartExecution"


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


# --- The ledger -------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.expect("a", "execution-of-a", DUE)
    return ledger


def account(ledger: Ledger, attempts: int = 1, limit: float | None = None) -> Account:
    return ledger.account(lambda execution: attempts, limit)


def expected(**counts: float) -> Account:
    return Account(**dict.fromkeys(Account.__dataclass_fields__, 0) | {"events": 1} | counts)


def test_an_event_without_arrivals_is_missing_and_listed(ledger):
    ledger.deliver("b", DUE)  # of another drill
    assert account(ledger) == expected(missing=1)
    assert ledger.open == ["a"]


def test_a_second_arrival_is_a_repeat_and_the_first_one_gives_the_lateness(ledger):
    ledger.deliver("a", DUE + seconds(9))
    ledger.deliver("a", DUE + seconds(1))
    assert account(ledger, attempts=2) == expected(delivered=1, repeated=1, latest_seconds=1.0)
    assert account(ledger, attempts=1).unexplained == 1


def test_any_arrival_a_millisecond_before_the_due_time_is_early(ledger):
    """A queue truncates its timestamps to milliseconds, so less than one is no proof."""
    ledger.deliver("a", DUE + seconds(1))
    ledger.deliver("a", DUE - seconds(0.0009))
    assert account(ledger).early == 0
    ledger.deliver("a", DUE - seconds(0.001))
    assert account(ledger).early == 1


def test_a_report_accounts_for_an_event_and_is_a_repeat_of_its_delivery(ledger):
    ledger.report("a")
    assert account(ledger) == expected(reported=1)
    ledger.deliver("a", DUE)
    assert account(ledger, attempts=2) == expected(delivered=1, repeated=1)


def test_a_canceled_event_may_stay_silent_and_must_not_arrive(ledger):
    ledger.withdraw("a")
    assert account(ledger) == expected(canceled=1)
    ledger.deliver("a", DUE)
    assert account(ledger) == expected(delivered=1, unwanted=1)


def test_an_interrupted_event_is_counted_apart_unless_it_was_delivered_after_all(ledger):
    ledger.interrupt({"execution-of-a", "execution-of-another"})
    assert account(ledger) == expected(interrupted=1)
    ledger.deliver("a", DUE)
    assert account(ledger) == expected(delivered=1)


def test_an_event_is_late_beyond_its_own_limit_or_else_that_of_the_drill(ledger):
    ledger.deliver("a", DUE + seconds(5.1))
    assert account(ledger).late == 0
    assert (account(ledger, limit=5.1).late, account(ledger, limit=5).late) == (0, 1)
    ledger.limit(3)
    assert account(ledger, limit=8).late == 1
    ledger.limit(6, ["execution-of-a"])
    ledger.limit(1, ["execution-of-another"])
    assert account(ledger, limit=5).late == 0


# --- Faults and the proxy ---------------------------------------------------------------------------------------------


@pytest.fixture
def emulator() -> Iterator[SimpleNamespace]:
    """Responds to every call with its own body; `bodies` are what it received."""
    received = SimpleNamespace(bodies=[])

    class Echo(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.bodies.append(json.loads(body))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        received.port = server.server_port
        yield received
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(emulator) -> Iterator[FaultProxy]:
    with FaultProxy(SimpleNamespace(port=emulator.port, pid=None)) as proxy:
        yield proxy
        proxy.check()


def post(proxy: FaultProxy, target: str = "DynamoDB_20120810.Query", function: str = "Sweeper", **arguments):
    """Make a call as a function does. Returns the status and the response's body."""
    connection = http.client.HTTPConnection(HOST, proxy.port, timeout=10)
    try:
        connection.request("POST", f"/{function}/", json.dumps(arguments), {"X-Amz-Target": target})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


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
    with socket.create_connection((HOST, proxy.port)) as killed:
        killed.sendall(f"POST /Ingest/ HTTP/1.1\r\nX-Amz-Target: {START}\r\nContent-Length: 10\r\n\r\n".encode())
    assert post(proxy)[0] == 200
    proxy.check()
    assert emulator.bodies == [{}]


def test_starts_are_counted_by_event_and_a_second_one_of_the_same_name_gets_another_name(proxy, emulator):
    """AWS would run it again, the emulator would refuse it."""
    for name in ("event-1", "event-1", "event-1-r2", "event-2"):
        post(proxy, target=START, name=name)
    with proxy.inject(Fault(throttle)):
        post(proxy, target=START, name="event-1")
    assert [body["name"] for body in emulator.bodies][1] == "event-1_again_1"
    assert proxy.started("event-1") == ["event-1", "event-1_again_1", "event-1-r2"]


def test_a_mix_has_every_kind_of_event_and_time_for_its_cancels_and_replacements():
    mix = mix_of("drill", 200, DUE, 8, "target", "target.fifo", "failures")
    due = {event["payload"]: datetime.fromisoformat(event["date"]) for event in mix.events}
    assert (len(due), len(mix.canceled), len(mix.replacements)) == (200, 20, 20)
    assert min(due[key] for key in mix.withdrawn) >= DUE + seconds(8 + WITHDRAWAL_SECONDS - 1)
    for is_parked in (True, False):
        events = [event for event in mix.events if (due[event["payload"]] > DUE + seconds(8)) == is_parked]
        assert {"id" in event for event in events} == {True, False}
        assert {event["target"] for event in events} == {"target", "target.fifo"}
        assert len({due[event["payload"]].microsecond for event in events}) > 2
