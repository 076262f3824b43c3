"""Faults of AWS: what can happen to a call of a function, to a function's process, and to SNS in a state machine."""

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


def first(count: int) -> When:
    """The first `count` calls."""
    return lambda number: number <= count


def every(step: int) -> When:
    """Every call whose number is a multiple of `step`."""
    return lambda number: number % step == 0


def once_in(seconds: float, at_most: int, after: int = 0) -> When:
    """A call at most once in so many seconds, and `after` others before it: one fault ends before the next begins."""
    hits: list[tuple[float, int]] = []

    def is_hit(number: int) -> bool:
        hit_at, hit = hits[-1] if hits else (0, 0)
        if len(hits) == at_most or number - hit <= after or time.monotonic() - hit_at < seconds:
            return False
        hits.append((time.monotonic(), number))
        return True

    return is_hit


def throttle(proxy: Proxy, call: Call) -> Answer:
    """The call is refused because of its rate."""
    code, message = "ThrottlingException", "Rate exceeded"
    if call.service == "sns":
        text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        return Answer(400, {"Content-Type": "text/xml"}, text.encode())
    return _json_answer(400, {"__type": code, "message": message})


def leave_unprocessed(proxy: Proxy, call: Call) -> Answer:
    """A BatchWriteItem succeeds without any effect, which is one way in which DynamoDB throttles it."""
    return _json_answer(200, {"UnprocessedItems": call.arguments["RequestItems"]})


def hang(proxy: Proxy, call: Call) -> None:
    """The call has no effect, and no response comes before the function stops waiting."""
    time.sleep(READ_SECONDS + 1)


def lose_answer(proxy: Proxy, call: Call) -> None:
    """The call takes effect, but its response is lost."""
    proxy.forward(call)


def lose_invocation(proxy: Proxy, call: Call) -> Answer:
    """An asynchronous Invoke is accepted, and the function never runs."""
    return Answer(202, {}, b"")


def kill(proxy: Proxy, call: Call) -> None:
    """The function's process is killed while it makes the call, which has no effect."""
    with suppress(LookupError):  # Another call of the same process was hit a moment ago.
        os.kill(proxy.worker_of(call), signal.SIGKILL)


def kill_later(proxy: Proxy, call: Call) -> None:
    """The function's process is killed half a second later, when its other calls have been answered."""
    time.sleep(0.5)
    kill(proxy, call)


class KillDelegate:
    """Kills the process that a Sweeper has delegated a lane to, in the middle of its starts.

    `watch` is the act for the Sweeper's Invoke, and `kill` for its StartExecution calls: those of the process that
    delegated are forwarded.
    """

    def __init__(self, after: int) -> None:
        self._after, self._delegators, self._starts = after, set[int](), 0
        self.kills = 0

    def watch(self, proxy: Proxy, call: Call) -> Answer | None:
        with suppress(LookupError):  # It has ended.
            self._delegators.add(proxy.worker_of(call))
        return proxy.forward(call)

    def kill(self, proxy: Proxy, call: Call) -> Answer | None:
        if not self._delegators or self.kills:
            return proxy.forward(call)
        try:
            worker = proxy.worker_of(call)
        except LookupError:  # Another call of the same process was hit a moment ago.
            return None
        self._starts += worker not in self._delegators
        if self._starts <= self._after:
            return proxy.forward(call)
        self.kills += 1
        os.kill(worker, signal.SIGKILL)
        return None


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
    configure_mocks(
        stack,
        {
            "StateMachines": {machine_arn.rsplit(":", 1)[-1]: {"TestCases": test_cases}},
            "MockedResponses": {"unavailable": {"0-999": error}},  # however often a state is entered
        },
    )
    try:
        yield
    finally:
        configure_mocks(stack, {})


def hang_publish(stack: LocalStack, topic_arn: str) -> None:
    """The next Publish of a state machine to this topic gets no response (tools/local/ministack.py)."""
    configure_mocks(stack, {"HangingTopics": [topic_arn]})


def configure_mocks(stack: LocalStack, mocks: dict[str, Any]) -> None:
    """Replace the emulator's mock configuration."""
    setting = "stepfunctions._sfn_mock_config"
    request = urllib.request.Request(
        f"{stack.endpoint}/_ministack/config", json.dumps({setting: mocks}).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        if json.load(response)["applied"] != {setting: mocks}:
            raise OSError(f"The emulator did not accept {setting}")
