"""The drills' proxy between functions and the emulator, with an HTTP server in the emulator's place."""

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from tools.drills.faults import Fault, lose_answer, throttle
from tools.drills.proxy import FaultProxy
from tools.local import HOST

START = "AWSStepFunctions.StartExecution"


@pytest.fixture
def emulator() -> Iterator[SimpleNamespace]:
    """Responds to every call with its own body; `bodies` and `paths` are what it received."""
    received = SimpleNamespace(bodies=[], paths=[])

    class Echo(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.bodies.append(json.loads(body))
            received.paths.append(self.path)
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
    connection = http.client.HTTPConnection(HOST, proxy._server.server_port, timeout=10)
    try:
        connection.request("POST", f"/{function}/path", json.dumps(arguments), {"X-Amz-Target": target})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_a_call_is_forwarded_without_the_functions_name(proxy, emulator):
    assert post(proxy, lane="lane-07") == (200, {"lane": "lane-07"})
    assert emulator.bodies == [{"lane": "lane-07"}]
    assert emulator.paths == ["/path"]


def test_a_fault_happens_within_its_block_only(proxy, emulator):
    with proxy.inject(Fault(throttle, {"Query"}, "Sweeper")) as fault:
        assert post(proxy)[1]["__type"] == "ThrottlingException"
        assert post(proxy, function="Ingest")[0] == 200
        assert post(proxy, target="DynamoDB_20120810.PutItem")[0] == 200
    assert post(proxy)[0] == 200
    assert fault.hits == 1


def test_a_lost_answer_closes_the_connection_after_the_call_took_effect(proxy, emulator):
    with proxy.inject(Fault(lose_answer)), pytest.raises(http.client.RemoteDisconnected):
        post(proxy, number=1)
    assert emulator.bodies == [{"number": 1}]


def test_an_unreachable_emulator_closes_the_connection(emulator):
    with (
        FaultProxy(SimpleNamespace(port=9, pid=None)) as proxy,
        pytest.raises(http.client.RemoteDisconnected),
    ):
        post(proxy)


def test_a_second_start_of_the_same_name_gets_another_name(proxy, emulator):
    """AWS would run it again, the emulator would refuse it."""
    for _ in range(3):
        post(proxy, target=START, name="event-1")
    assert [body["name"] for body in emulator.bodies] == ["event-1", "event-1_again_1", "event-1_again_2"]
    assert proxy.started("event-1") == ["event-1", "event-1_again_1", "event-1_again_2"]


def test_a_later_attempt_with_a_suffix_counts_as_a_start_of_the_event(proxy):
    post(proxy, target=START, name="event-1")
    post(proxy, target=START, name="event-1-2")
    post(proxy, target=START, name="event-2")
    assert proxy.started("event-1") == ["event-1", "event-1-2"]


def test_a_refused_start_is_not_counted(proxy):
    with proxy.inject(Fault(throttle)):
        post(proxy, target=START, name="event-1")
    assert proxy.started("event-1") == []
