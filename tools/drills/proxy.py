"""An HTTP proxy on 127.0.0.1 that is the functions' AWS endpoint, and injects faults into their calls.

It forwards every call to the emulator, unless a fault is injected that says otherwise:

    with FaultProxy(stack) as proxy:
        proxy.intercept("punctual-Ingest-...")
        with proxy.inject(Fault(throttle, {"StartExecution"}, when=first(60))) as fault:
            ...
        print(fault.hits)

The calls of the state machines (SNS Publish, reading the register) do not pass through it: the emulator makes them
internally.
"""

import os
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs

from punctual_core.clients import READ_SECONDS

from tools.drills.faults import Answer, Call, Fault
from tools.local import HOST, LocalStack

UPSTREAM_TIMEOUT_SECONDS = 60  # longer than any function runs
PROC = Path("/proc")
SERVICES = {"DynamoDB_20120810": "dynamodb", "AWSStepFunctions": "states", "AmazonSQS": "sqs"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # the threads of a Sweeper connect at the same moment
    failure: BaseException | None = None

    def handle_error(self, *_: object) -> None:
        """Keep the exception for `FaultProxy.check`: a bug in the proxy must not look like a fault of AWS."""
        self.failure = sys.exception()


class FaultProxy:
    """Forwards the functions' calls to the emulator, injects faults, and counts the executions that are started."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._server = _Server((HOST, 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.slow_calls = 0  # the emulator took longer to respond than the functions wait
        self._requested: Counter[str] = Counter()  # forwarded StartExecution calls by the name they ask for
        self._started: defaultdict[str, list[str]] = defaultdict(list)  # names of the executions, by the same

    def __enter__(self) -> Self:
        if not PROC.exists():
            raise OSError("The drills need Linux: they find the process that makes a call in /proc")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_port

    def check(self) -> None:
        """Raise the exception, if any, that a bug in the proxy has caused."""
        if self._server.failure:
            raise self._server.failure

    def intercept(self, function: str) -> None:
        """Make this proxy a deployed function's AWS endpoint. The URL contains the function's name to tell callers
        apart."""
        lambdas = self._stack.client("lambda")
        variables = lambdas.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        endpoint = f"http://{HOST}:{self.port}/{function}"
        lambdas.update_function_configuration(
            FunctionName=function, Environment={"Variables": variables | {"AWS_ENDPOINT_URL": endpoint}}
        )

    @contextmanager
    def inject(self, *faults: Fault) -> Iterator[Fault]:
        """Inject faults within the block. The first that matches a call decides. Yields the first."""
        with self._lock:
            self._faults += faults
        try:
            yield faults[0]
        finally:
            with self._lock:
                self._faults = [fault for fault in self._faults if not any(fault is ours for ours in faults)]

    def started(self, execution: str) -> list[str]:
        """The names of the executions that functions started for an event: under this name, or under this name with a
        suffix, which later attempts have."""
        with self._lock:
            return [name for asked, names in self._started.items() if asked.startswith(execution) for name in names]

    def answer(self, call: Call) -> Answer | None:
        """The response to a call; None if the connection is to be closed without one."""
        with self._lock:
            faults = list(self._faults)
        for fault in faults:
            if fault.matches(call):
                return fault.act(self, call)
        return self.forward(call)

    def worker_of(self, call: Call) -> int:
        """The id of the process that makes this call."""
        socket = f"socket:[{_inode_of(call.port, self.port)}]"
        for process in self._processes(
            lambda path: any(str(link.readlink()) == socket for link in path.iterdir()), "fd"
        ):
            return process
        raise LookupError(f"No process of the emulator uses port {call.port}")

    def workers(self, function: str) -> list[int]:
        """The ids of the processes that run a function."""
        name = f"AWS_LAMBDA_FUNCTION_NAME={function}".encode()
        return list(self._processes(lambda path: name in path.read_bytes().split(b"\0"), "environ"))

    def _processes(self, is_wanted: Callable[[Path], bool], file: str) -> Iterator[int]:
        """The ids of the processes of this emulator that are wanted, by this file in their folders in /proc."""
        for process in PROC.iterdir():
            with suppress(ValueError, FileNotFoundError, ProcessLookupError):  # no process, or one that has just ended
                if os.getpgid(int(process.name)) == self._stack.pid and is_wanted(process / file):
                    yield int(process.name)

    def forward(self, call: Call) -> Answer | None:
        """Forward a call to the emulator. Returns None if the emulator is not reachable."""
        requested = started = call.arguments["name"] if call.operation == "StartExecution" else None
        if requested:
            # AWS runs an Express execution as often as it is asked to, under the same name. The emulator refuses the
            # second request, which would hide a repeat: so the second one gets another name.
            with self._lock:
                number = self._requested[requested]
                self._requested[requested] += 1
            if number:
                started = f"{requested[:70]}_again_{number}"
                call = call.with_arguments(name=started)
        sent_at = time.monotonic()
        connection = HTTPConnection(HOST, self._stack.port, timeout=UPSTREAM_TIMEOUT_SECONDS)
        try:
            headers = call.headers | {"Content-Length": str(len(call.body))}
            connection.request("POST", call.path, call.body, headers)
            response = connection.getresponse()
            answer = Answer(response.status, dict(response.getheaders()), response.read())
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()
        with self._lock:
            self.slow_calls += time.monotonic() - sent_at > READ_SECONDS
            if requested and started and answer.status == 200:
                self._started[requested].append(started)
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
        """One connection of a function, which carries many calls."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) < length:  # The function was killed while it sent this call.
                self.close_connection = True
                return
            # A changed body gets a Content-Length of its own, whatever the case of the header was.
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("connection", "content-length")
            }
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
                self.close_connection = True  # The function stopped waiting, or was killed.

        def log_message(self, *_: object) -> None:
            """Print nothing; the default is a line for each call."""

    return Handler


def _name_of(path: str, headers: dict[str, str], body: bytes) -> tuple[str, str]:
    """The service and the operation that a request calls."""
    if path.endswith("/invocations"):
        return "lambda", "Invoke"
    target = next((value for name, value in headers.items() if name.lower() == "x-amz-target"), None)
    if target:
        prefix, _, operation = target.partition(".")
        return SERVICES.get(prefix, prefix), operation
    return "sns", parse_qs(body.decode()).get("Action", [""])[0]
