"""Faults of AWS: what can happen to a call of a function, to its process, and to a call of a state machine."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from punctual_core.clients import READ_SECONDS

from tools.drills.proxy import Answer, Call, FaultProxy, When
from tools.local import LocalStack

# When


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


# What happens to a call of a function


def throttle(proxy: FaultProxy, call: Call) -> Answer:
    """The call is refused because of its rate."""
    return _json_answer(400, {"__type": "ThrottlingException", "message": "Rate exceeded"})


def leave_unprocessed(proxy: FaultProxy, call: Call) -> Answer:
    """A BatchWriteItem succeeds without any effect, which is one way in which DynamoDB throttles it."""
    return _json_answer(200, {"UnprocessedItems": call.arguments["RequestItems"]})


def hang(proxy: FaultProxy, call: Call) -> None:
    """The call has no effect, and no response comes before the function stops waiting."""
    time.sleep(READ_SECONDS + 1)


def lose_answer(proxy: FaultProxy, call: Call) -> None:
    """The call takes effect, but its response is lost."""
    proxy.forward(call)


def lose_invocation(proxy: FaultProxy, call: Call) -> Answer:
    """An asynchronous Invoke is accepted, and the function never runs."""
    return Answer(202, {}, b"")


def kill(proxy: FaultProxy, call: Call) -> None:
    """The function's process is killed while it makes the call, which has no effect."""
    with suppress(LookupError):  # Another call of the same process was hit a moment ago.
        os.kill(proxy.worker_of(call), signal.SIGKILL)


def kill_later(proxy: FaultProxy, call: Call) -> None:
    """The function's process is killed half a second later, when its other calls have been answered."""
    time.sleep(0.5)
    kill(proxy, call)


def _json_answer(status: int, body: dict[str, Any]) -> Answer:
    return Answer(status, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(body).encode())


# What happens to a call of a state machine, which does not pass through the proxy: the emulator calls itself

SNS_PUBLISH = "arn:aws:states:::sns:publish"
SNS_ERROR = "SNS.InternalErrorException"  # which SNS declares for Publish: transient
TIMEOUT = "States.Timeout"  # of a call that hangs


@contextmanager
def workflows_broken(stack: LocalStack, name: str, error: str | None = None, calls: int = 10**6) -> Iterator[None]:
    """Within the block, so many calls of state machines to this resource, topic, or function (an ARN) fail with an
    error, or else hang (tools/local/ministack.py)."""
    _configure(stack, {"Faults": {name: {"error": error, "calls": calls}}})
    try:
        yield
    finally:
        _configure(stack, {})


def _configure(stack: LocalStack, mocks: dict[str, Any]) -> None:
    """Replace the emulator's mock configuration."""
    settings = {"stepfunctions._sfn_mock_config": mocks}
    request = urllib.request.Request(f"{stack.endpoint}/_ministack/config", json.dumps(settings).encode())
    with urllib.request.urlopen(request, timeout=10) as response:
        if json.load(response)["applied"] != settings:
            raise OSError("The emulator did not accept its mock configuration")
