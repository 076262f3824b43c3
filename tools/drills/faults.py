"""Faults of AWS, where AWS would have them: between the functions and the services they call.

An HTTP proxy on 127.0.0.1 that functions take for AWS. It hands every call on to the emulator, unless a fault is
injected that says otherwise:

    with LocalStack() as stack, FaultProxy(stack) as proxy:
        stack.deploy()
        proxy.stand_before("punctual-Ingest-...")
        with proxy.inject(Fault(throttle, {"StartExecution"}, when=first(60))) as fault:
            ...
        print(fault.hits)

What the state machines call by themselves (their publishing, their look into the register) does not pass here: the
emulator makes these calls inside itself.
"""

import json
import os
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs

from tools.local import HOST, LocalStack

FUNCTIONS_WAIT_SECONDS = 3  # read_timeout in functions/scheduler/clients.py
UPSTREAM_SECONDS = 60  # longer than any function runs
PROC = Path("/proc")


@dataclass(frozen=True)
class Call:
    """One call of a function to AWS. `service` is as in IAM (sns, dynamodb, states), `port` the function's end
    of the connection."""

    service: str
    operation: str
    function: str
    port: int
    headers: dict[str, str]
    path: str
    body: bytes

    @cached_property
    def arguments(self) -> dict:
        """Of a call in JSON, which SNS's are not."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """`status` is HTTP's."""

    status: int
    headers: dict[str, str]
    body: bytes


# What becomes of a call: the answer, or None for a connection that ends without one.
Act = Callable[["FaultProxy", Call], Answer | None]


@dataclass
class Fault:
    """What happens to which calls: those of these operations (none: all), by the functions whose name contains
    `function`, with `text` in their body, and of these the ones `when` picks by their number, from 1."""

    act: Act
    operations: Collection[str] = ()
    function: str = ""
    text: str = ""
    when: Callable[[int], bool] = lambda number: True
    calls: int = 0
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def meets(self, call: Call) -> bool:
        """Whether it happens to this call, which is counted."""
        concerned = (
            (not self.operations or call.operation in self.operations)
            and self.function in call.function
            and self.text.encode() in call.body
        )
        if not concerned:
            return False
        with self._lock:
            self.calls += 1
            hit = self.when(self.calls)
            self.hits += hit
        return hit


def first(count: int) -> Callable[[int], bool]:
    """The first so many calls."""
    return lambda number: number <= count


def every(step: int, at_most: int | None = None) -> Callable[[int], bool]:
    """Every so-manieth call, and no more than so many of them."""
    return lambda number: number % step == 0 and (at_most is None or number // step <= at_most)


def throttle(proxy: "FaultProxy", call: Call) -> Answer:
    """Refused for its rate, and not handed on."""
    return _error(call, 400, "ThrottlingException", "Rate exceeded")


def fail(proxy: "FaultProxy", call: Call) -> Answer:
    """The service has a fault; the call is not handed on."""
    return _error(call, 500, "InternalServerError", "Injected")


def lose_answer(proxy: "FaultProxy", call: Call) -> None:
    """The call takes effect, its answer never comes."""
    proxy.forward(call)


def kill(proxy: "FaultProxy", call: Call) -> None:
    """The process of the function dies with the call on its lips."""
    with suppress(LookupError):  # Another call of the same process was killed a moment ago.
        os.kill(proxy.worker_of(call), signal.SIGKILL)


def delay(seconds: float) -> Act:
    """The call is handed on late."""

    def act(proxy: FaultProxy, call: Call) -> Answer | None:
        time.sleep(seconds)
        return proxy.forward(call)

    return act


def leave_unprocessed(proxy: "FaultProxy", call: Call) -> Answer:
    """A BatchWriteItem succeeds without doing anything, which is how DynamoDB throttles it."""
    return _json_answer(200, {"UnprocessedItems": call.arguments["RequestItems"]})


def _error(call: Call, status: int, code: str, message: str) -> Answer:
    if call.service == "sns":
        text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        return Answer(status, {"Content-Type": "text/xml"}, text.encode())
    return _json_answer(status, {"__type": code, "message": message})


def _json_answer(status: int, body: dict) -> Answer:
    return Answer(status, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(body).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # a Sweeper connects with all its threads at once
    failure: BaseException | None = None

    def handle_error(self, *_: object) -> None:
        """Keep it for `FaultProxy.check`: a fault of the proxy's own must not look like one of AWS."""
        self.failure = sys.exception()


class FaultProxy:
    """Stands between functions and the emulator, and counts the executions that they start."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._server = _Server((HOST, 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.slow = 0  # calls that the emulator took longer to answer than the functions wait
        self._asked = Counter()  # by the execution's name: calls handed on
        self._started = defaultdict(list)  # by the execution's name: the names of those that were started

    def __enter__(self) -> Self:
        if not PROC.exists():
            raise OSError("Which process makes a call is found in /proc, so this needs Linux")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def check(self) -> None:
        """Raise what went wrong in the proxy itself."""
        if self._server.failure:
            raise self._server.failure

    def stand_before(self, function: str) -> None:
        """Make a deployed function take this proxy for AWS. Its name is in the path, to know its calls by."""
        lambdas = self._stack.client("lambda")
        variables = lambdas.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        endpoint = f"http://{HOST}:{self._server.server_port}/{function}"
        lambdas.update_function_configuration(
            FunctionName=function, Environment={"Variables": variables | {"AWS_ENDPOINT_URL": endpoint}}
        )

    @contextmanager
    def inject(self, *faults: Fault) -> Iterator[Fault]:
        """Let these happen within the block; the first that meets a call decides. Yields the first."""
        with self._lock:
            self._faults += faults
        try:
            yield faults[0]
        finally:
            with self._lock:
                self._faults = [fault for fault in self._faults if not any(fault is ours for ours in faults)]

    def started(self, execution: str) -> list[str]:
        """The names of the executions that functions started by this name."""
        with self._lock:
            return list(self._started[execution])

    def answer(self, call: Call) -> Answer | None:
        """The answer to a call, or None for a connection that ends without one."""
        with self._lock:
            faults = list(self._faults)
        for fault in faults:
            if fault.meets(call):
                return fault.act(self, call)
        return self.forward(call)

    def worker_of(self, call: Call) -> int:
        """The process that makes this call. It is one of this emulator's: nobody else's is ever found."""
        socket = f"socket:[{_inode_of(call.port, self._server.server_port)}]"
        for process in PROC.iterdir():
            try:
                if os.getpgid(int(process.name)) == self._stack.pid and any(
                    str(handle.readlink()) == socket for handle in (process / "fd").iterdir()
                ):
                    return int(process.name)
            except (ValueError, FileNotFoundError, ProcessLookupError):
                continue  # not a process, or one that has just ended
        raise LookupError(f"No process of the emulator has port {call.port}")

    def forward(self, call: Call) -> Answer | None:
        """Hand a call on to the emulator."""
        body = call.body
        name = given = call.arguments["name"] if call.operation == "StartExecution" else None
        if name:
            # On AWS, Express runs the same name as often as it is asked to. The emulator refuses the second time, and
            # that would hide a repeat: so the second has another name.
            with self._lock:
                number = self._asked[name]
                self._asked[name] += 1
            if number:
                given = f"{name[:70]}_again_{number}"
                body = json.dumps(call.arguments | {"name": given}).encode()
        asked_at = time.monotonic()
        connection = HTTPConnection(HOST, self._stack.port, timeout=UPSTREAM_SECONDS)
        try:
            headers = call.headers | {"Content-Length": str(len(body))}
            connection.request("POST", call.path, body, headers)
            response = connection.getresponse()
            answer = Answer(response.status, dict(response.getheaders()), response.read())
        except (OSError, HTTPException):
            return None  # The emulator is away: so is the answer.
        finally:
            connection.close()
        with self._lock:
            self.slow += time.monotonic() - asked_at > FUNCTIONS_WAIT_SECONDS
            if name and answer.status == 200:
                self._started[name].append(given)
        return answer


def _inode_of(port: int, remote_port: int) -> str:
    """The inode of the TCP connection from `port` to `remote_port`, both on 127.0.0.1."""
    for line in (PROC / "net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *rest = line.split()
        if int(local.rsplit(":")[-1], 16) == port and int(remote.rsplit(":")[-1], 16) == remote_port:
            return rest[6]
    raise LookupError(f"No connection from port {port}")


def _handler_of(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One connection of a function, over which many calls come."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            _, function, *rest = self.path.split("/")
            path = "/" + "/".join(rest)
            service, operation = _name_of(path, headers, body)
            answer = proxy.answer(Call(service, operation, function, self.client_address[1], headers, path, body))
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("connection", "content-length", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True  # The function has given up, or is dead.

        def log_message(self, *_: object) -> None:
            """Nothing: every call would be a line."""

    return Handler


SERVICES = {"DynamoDB_20120810": "dynamodb", "AWSStepFunctions": "states", "AmazonSQS": "sqs"}


def _name_of(path: str, headers: dict[str, str], body: bytes) -> tuple[str, str]:
    """The service and the operation that a request calls."""
    if path.endswith("/invocations"):
        return "lambda", "Invoke"
    target = next((value for name, value in headers.items() if name.lower() == "x-amz-target"), None)
    if target:
        prefix, _, operation = target.partition(".")
        return SERVICES.get(prefix, prefix), operation
    return "sns", parse_qs(body.decode()).get("Action", [""])[0]
