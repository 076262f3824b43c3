"""Faults of AWS: what can happen to a call of a function, and to the SNS calls of a state machine."""

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from punctual_core.clients import READ_SECONDS

from tools.local import LocalStack

CONFIGURE_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Call:
    """One call of a function to AWS. `service` is named as in IAM (sns, dynamodb, states); `port` is the function's end
    of the connection."""

    service: str
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

    def with_arguments(self, **arguments: Any) -> "Call":
        """The same call with some arguments replaced."""
        return replace(self, body=json.dumps(self.arguments | arguments).encode())


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Proxy(Protocol):
    """What a fault needs of the proxy that injects it."""

    def forward(self, call: Call) -> Answer | None:
        """Make the call. Returns None if AWS is not reachable."""

    def worker_of(self, call: Call) -> int:
        """The id of the process that makes this call. Raises LookupError if it has ended."""


# Answers a call; None closes the connection without a response.
Act = Callable[[Proxy, Call], Answer | None]


@dataclass
class Fault:
    """What happens to which calls.

    The calls are those of the given operations (none means all), by functions whose name contains `function`, with
    `text` in the body. `when` picks among these by their number, which starts at 1.
    """

    act: Act
    operations: Collection[str] = ()
    function: str = ""
    text: str = ""
    when: Callable[[int], bool] = lambda number: True
    calls: int = 0
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def matches(self, call: Call) -> bool:
        """Whether the fault happens to this call. Counts it."""
        is_concerned = (
            (not self.operations or call.operation in self.operations)
            and self.function in call.function
            and self.text.encode() in call.body
        )
        if not is_concerned:
            return False
        with self._lock:
            self.calls += 1
            is_hit = self.when(self.calls)
            self.hits += is_hit
        return is_hit


def first(count: int) -> Callable[[int], bool]:
    """The first `count` calls."""
    return lambda number: number <= count


def every(step: int, at_most: int | None = None) -> Callable[[int], bool]:
    """Every call whose number is a multiple of `step`, `at_most` of them."""
    return lambda number: number % step == 0 and (at_most is None or number // step <= at_most)


def forward(proxy: Proxy, call: Call) -> Answer | None:
    """No fault. The call is only counted."""
    return proxy.forward(call)


def throttle(proxy: Proxy, call: Call) -> Answer:
    """The call is refused because of its rate."""
    return _error(call, 400, "ThrottlingException", "Rate exceeded")


def fail(proxy: Proxy, call: Call) -> Answer:
    """The service fails. The call has no effect."""
    return _error(call, 500, "InternalServerError", "Injected")


def hang(proxy: Proxy, call: Call) -> None:
    """The call has no effect, and no response comes before the function stops waiting."""
    time.sleep(READ_SECONDS + 1)


def lose_answer(proxy: Proxy, call: Call) -> None:
    """The call takes effect, but its response is lost."""
    proxy.forward(call)


def kill(proxy: Proxy, call: Call) -> None:
    """The function's process is killed while it makes the call, which has no effect."""
    with suppress(LookupError):  # Another call of the same process was hit a moment ago.
        os.kill(proxy.worker_of(call), signal.SIGKILL)


def delay(seconds: float) -> Act:
    """The call is forwarded late."""

    def act(proxy: Proxy, call: Call) -> Answer | None:
        time.sleep(seconds)
        return proxy.forward(call)

    return act


def leave_unprocessed(proxy: Proxy, call: Call) -> Answer:
    """A BatchWriteItem succeeds without any effect, which is one way in which DynamoDB throttles it."""
    return _json_answer(200, {"UnprocessedItems": call.arguments["RequestItems"]})


class LimitedWrites:
    """An act for BatchWriteItem: DynamoDB processes only so many items a second, and leaves the others unprocessed.

    As documented, a batch of which nothing can be processed fails with ProvisionedThroughputExceededException
    (docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html).
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._allowed = 0.0  # writes
        self._updated_at = time.monotonic()
        self._lock = threading.Lock()
        self.refused = 0  # writes

    def __call__(self, proxy: Proxy, call: Call) -> Answer | None:
        [(table, requests)] = call.arguments["RequestItems"].items()
        allowed = self._take(len(requests))
        if not allowed:
            return _error(call, 400, "ProvisionedThroughputExceededException", "Rate exceeded")
        answer = proxy.forward(call.with_arguments(RequestItems={table: requests[:allowed]}))
        if answer is None or answer.status != 200 or allowed == len(requests):
            return answer
        unprocessed = json.loads(answer.body).get("UnprocessedItems", {}).get(table, [])
        return _json_answer(200, {"UnprocessedItems": {table: [*unprocessed, *requests[allowed:]]}})

    def _take(self, count: int) -> int:
        """How many of `count` writes may be done now. Nothing is saved up for longer than a second."""
        with self._lock:
            now = time.monotonic()
            earned = (now - self._updated_at) * self._per_second
            self._allowed = min(self._allowed + earned, max(self._per_second, 1.0))
            self._updated_at = now
            taken = min(int(self._allowed), count)
            self._allowed -= taken
            self.refused += count - taken
        return taken


def _error(call: Call, status: int, code: str, message: str) -> Answer:
    if call.service == "sns":
        text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        return Answer(status, {"Content-Type": "text/xml"}, text.encode())
    return _json_answer(status, {"__type": code, "message": message})


def _json_answer(status: int, body: dict[str, Any]) -> Answer:
    return Answer(status, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(body).encode())


# What a state machine calls does not pass through the proxy: the emulator calls itself. Its mock configuration does it.
SNS_TASK = "arn:aws:states:::sns:publish"
SNS_ERROR = "SNS.InternalErrorException"  # which SNS declares for Publish: transient
TEST_CASE = "SnsUnavailable"


def run_test_case(proxy: Proxy, call: Call) -> Answer | None:
    """A StartExecution starts the execution with the mocked responses of `sns_unavailable`, while there are any."""
    return proxy.forward(call.with_arguments(stateMachineArn=f"{call.arguments['stateMachineArn']}#{TEST_CASE}"))


@contextmanager
def sns_unavailable(stack: LocalStack, machine_arn: str) -> Iterator[None]:
    """Within the block, every state that publishes to SNS fails with SNS_ERROR, in executions that `run_test_case` has
    started.

    This is the emulator's mock configuration, in the format of Step Functions Local. It is applied when a state is
    entered: a state that was entered within the block fails in its retries too, and one that is entered later succeeds.
    """
    definition = stack.client("stepfunctions").describe_state_machine(stateMachineArn=machine_arn)["definition"]
    states = [name for name, state in json.loads(definition)["States"].items() if state.get("Resource") == SNS_TASK]
    test_cases = {TEST_CASE: dict.fromkeys(states, "unavailable")}
    error = {"Throw": {"Error": SNS_ERROR, "Cause": "Injected"}}
    _configure_mocks(
        stack,
        {
            "StateMachines": {machine_arn.rsplit(":", 1)[-1]: {"TestCases": test_cases}},
            "MockedResponses": {"unavailable": {"0-999": error}},  # however often a state is entered
        },
    )
    try:
        yield
    finally:
        _configure_mocks(stack, {})


def _configure_mocks(stack: LocalStack, mocks: dict[str, Any]) -> None:
    setting = "stepfunctions._sfn_mock_config"
    request = urllib.request.Request(
        f"{stack.endpoint}/_ministack/config", json.dumps({setting: mocks}).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=CONFIGURE_TIMEOUT_SECONDS) as response:
        if json.load(response)["applied"] != {setting: mocks}:
            raise OSError(f"The emulator did not accept {setting}")
