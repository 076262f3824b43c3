"""An HTTP proxy on 127.0.0.1 that is the functions' AWS endpoint, and injects faults into their calls.

It forwards every call to the emulator, unless a fault is injected that says otherwise.
The calls of the state machines (SNS Publish, reading the register) do not pass through it: the emulator makes them
internally.
"""

import json
import os
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from email.message import Message
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tools.local import HOST, LocalStack

UPSTREAM_TIMEOUT_SECONDS = 60  # longer than any function runs
PROC = Path("/proc")


@dataclass(frozen=True)
class Call:
    """One call of a function to AWS. `operation` is empty for SNS; `port` is the function's end of the connection."""

    operation: str
    function: str
    port: int
    headers: dict[str, str]
    path: str
    body: bytes

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The request. Only for services that use JSON, which SNS does not."""
        arguments: dict[str, Any] = json.loads(self.body)
        return arguments


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes


# Answers a call; None closes the connection without a response.
Act = Callable[["FaultProxy", Call], Answer | None]
# Picks among the calls that a fault concerns, by their number, which starts at 1.
When = Callable[[int], bool]


@dataclass
class Fault:
    """What happens to which calls: those of the given operations (none means all), by functions whose name contains
    `function`, with `text` in the body. `when` picks among these."""

    act: Act
    operations: Collection[str] = ()
    function: str = ""
    text: str = ""
    when: When = lambda number: True
    calls: int = 0
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def matches(self, call: Call) -> bool:
        """Whether the fault happens to this call. Counts it."""
        if (
            (self.operations and call.operation not in self.operations)
            or self.function not in call.function
            or self.text.encode() not in call.body
        ):
            return False
        with self._lock:
            self.calls += 1
            is_hit = self.when(self.calls)
            self.hits += is_hit
        return is_hit


class FaultProxy(ThreadingHTTPServer):
    """Forwards the functions' calls to the emulator, injects faults, and counts the executions that are started."""

    daemon_threads = True
    request_queue_size = 256  # the threads of a Sweeper connect at the same moment

    def __init__(self, stack: LocalStack) -> None:
        if not PROC.exists():
            raise OSError("The drills need Linux: they find the process that makes a call in /proc")
        super().__init__((HOST, 0), _Handler)
        self._stack = stack
        self._faults: list[Fault] = []
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._requested: Counter[str] = Counter()  # forwarded StartExecution calls by the name they ask for
        self._started: defaultdict[str, list[str]] = defaultdict(list)  # names of the executions, by the same

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Keep the exception for `check`: a bug in the proxy must not look like a fault of AWS."""
        self._failure = sys.exception()

    def check(self) -> None:
        """Raise the exception, if any, that a bug in the proxy has caused."""
        if self._failure:
            raise self._failure

    def intercept(self, function: str) -> None:
        """Make this proxy a deployed function's AWS endpoint. The URL contains the function's name to tell callers
        apart."""
        lambdas = self._stack.client("lambda")
        variables = lambdas.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        endpoint = {"AWS_ENDPOINT_URL": f"http://{HOST}:{self.server_port}/{function}"}
        lambdas.update_function_configuration(FunctionName=function, Environment={"Variables": variables | endpoint})

    @contextmanager
    def inject(self, *faults: Fault) -> Iterator[None]:
        """Inject faults within the block. The first that matches a call decides."""
        before, self._faults = self._faults, [*self._faults, *faults]
        try:
            yield
        finally:
            self._faults = before

    def started(self, execution: str) -> list[str]:
        """The names of the executions that functions started for an event: under this name, or under this name with a
        suffix, which later attempts have."""
        with self._lock:
            return [name for asked, names in self._started.items() if asked.startswith(execution) for name in names]

    def answer(self, call: Call) -> Answer | None:
        """The response to a call; None if the connection is to be closed without one."""
        for fault in self._faults:
            if fault.matches(call):
                return fault.act(self, call)
        return self.forward(call)

    def forward(self, call: Call) -> Answer | None:
        """Forward a call to the emulator. Returns None if the emulator is not reachable."""
        requested = started = ""
        if call.operation == "StartExecution":
            # AWS runs an Express execution as often as it is asked to, under the same name. The emulator refuses the
            # second request, which would hide a repeat: so the second one gets another name.
            requested = call.arguments["name"]
            with self._lock:
                number = self._requested[requested]
                self._requested[requested] += 1
            started = f"{requested[:70]}_again_{number}" if number else requested
            call = replace(call, body=json.dumps(call.arguments | {"name": started}).encode())
        try:
            with closing(HTTPConnection(HOST, self._stack.port, timeout=UPSTREAM_TIMEOUT_SECONDS)) as connection:
                connection.request("POST", call.path, call.body, call.headers)
                response = connection.getresponse()
                answer = Answer(response.status, _without_connection(response.headers), response.read())
        except (OSError, HTTPException):
            return None
        if started and answer.status == 200:
            with self._lock:
                self._started[requested].append(started)
        return answer

    def worker_of(self, call: Call) -> int:
        """The id of the emulator's process that makes this call. Raises LookupError if it has ended."""
        socket = f"socket:[{_inode_of(call.port, self.server_port)}]"
        for process in PROC.iterdir():
            with suppress(ValueError, FileNotFoundError, ProcessLookupError):  # no process, or one that has just ended
                is_ours = os.getpgid(int(process.name)) == self._stack.pid
                if is_ours and any(str(link.readlink()) == socket for link in (process / "fd").iterdir()):
                    return int(process.name)
        raise LookupError(f"No process of the emulator uses port {call.port}")


def _inode_of(port: int, remote_port: int) -> str:
    """The inode of the TCP connection from `port` to `remote_port`, both on 127.0.0.1."""
    for line in (PROC / "net/tcp").read_text().splitlines():
        _, local, remote, *rest = line.split()
        if local.endswith(f":{port:04X}") and remote.endswith(f":{remote_port:04X}"):
            return rest[6]
    raise LookupError(f"No connection from port {port}")


class _Handler(BaseHTTPRequestHandler):
    """One connection of a function, which carries many calls."""

    server: FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        answer = None
        if len(body) == length:  # Otherwise the function was killed while it sent this call.
            _, function, *rest = self.path.split("/")
            path = "/" + "/".join(rest)
            target = self.headers.get("X-Amz-Target", "")
            operation = "Invoke" if path.endswith("/invocations") else target.partition(".")[2]
            headers = _without_connection(self.headers)
            answer = self.server.answer(Call(operation, function, self.client_address[1], headers, path, body))
        if answer is None:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in (answer.headers | {"Content-Length": str(len(answer.body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def handle(self) -> None:
        with suppress(ConnectionError):  # The function stopped waiting, or was killed.
            super().handle()

    def log_message(self, *_: object) -> None:
        """Print nothing; the default is a line for each call."""


def _without_connection(headers: Message) -> dict[str, str]:
    """The headers but for those of the connection. A changed body gets a Content-Length of its own."""
    of_connection = ("connection", "content-length", "transfer-encoding")
    return {name: value for name, value in headers.items() if name.lower() not in of_connection}
