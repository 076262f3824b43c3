"""What the tests share: the stack's AWS resources in moto, made from template.yaml, and builders of messages.

moto answers the real botocore clients. `Cloud` stands between the two: it counts what reached AWS, injects the faults
that AWS has, makes each call atomic, which DynamoDB's conditions are and moto's are not, and fails the test for a call
that AWS would refuse and moto takes (tests/aws_limits.py).
"""

import copy
import dataclasses
import itertools
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.handlers import BUILTIN_HANDLERS
from botocore.model import OperationModel
from hypothesis import HealthCheck, settings
from moto.backends import get_backend
from moto.core.base_backend import BackendDict
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber
from punctual_core.deadline import Deadline

from tests.aws_limits import violations
from tools.cloudformation import ACCOUNT, REGION, Template

TEMPLATE = Template()
TARGET = TEMPLATE.resolve({"Fn::Sub": "arn:${AWS::Partition}:sns:${AWS::Region}:${AWS::AccountId}:orders"})
FIFO_TARGET = f"{TARGET}.fifo"
OWN_FAILURE_TOPIC = f"{TARGET}-failed"
HORIZON = timedelta(seconds=int(TEMPLATE.environment("Ingest")["HORIZON_SECONDS"]))

# The functions make their clients when they are imported, as in Lambda: so this comes before any test is.
os.environ |= TEMPLATE.environment("Ingest") | TEMPLATE.environment("Sweeper")
os.environ |= {
    "POWERTOOLS_LOG_LEVEL": "ERROR",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
}

# Examples are not timed one by one: a busy machine is no bug. The normal run draws the same ones each time, so that it
# fails for a reason; a long run draws others, and prints how to repeat a failure.
settings.register_profile(
    "punctual",
    deadline=None,
    derandomize="PUNCTUAL_FUZZ_EXAMPLES" not in os.environ,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("punctual")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `pytest -n 2 --dist loadgroup`, one process runs everything that needs an emulator: never two at a time. In
    pytest 9.2 the groups of pytest-xdist 3.8 have no effect."""
    for item in items:
        if "stack" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("emulator"))


# --- AWS --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """One StartExecution that Step Functions took."""

    name: str
    input: dict


class Killed(BaseException):
    """The end of a function's process."""


def _raising(error: BaseException) -> Callable:
    def answer(parameters: dict) -> tuple:
        raise error

    return answer


def _parameters(body: str) -> dict:
    return json.loads(body) if body.startswith("{") else dict(parse_qsl(body, keep_blank_values=True))


class Cloud:
    """The stack's resources in moto: what has been done to them, and what shall go wrong with them."""

    def __init__(self):
        self.starts: list[Start] = []
        self.requests: list[tuple[OperationModel, dict]] = []
        self.refused: list[str] = []
        self._calls: list[tuple[str, str]] = []
        self._faults: list[Callable[[str, str], tuple[Callable, bool] | None]] = []
        self._one_at_a_time = threading.RLock()

    def calls(self, operation: str) -> list[dict]:
        """The parameters of every call of an operation, failed or not, each attempt for itself."""
        return [_parameters(body) for called, body in self._calls if called == operation]

    def asked(self, operation: str) -> list[dict]:
        """The arguments of every call of an operation as the code gave them: one for all attempts."""
        return [arguments for called, arguments in self.requests if called.name == operation]

    def check(self, operation: OperationModel, arguments: dict) -> None:
        """Note a call that is about to be made, and what AWS would refuse in it."""
        self.requests.append((operation, copy.deepcopy(arguments)))
        self.refused += violations(operation, arguments)

    # What goes wrong: for the next `times` calls of an operation (None: all of them) with parameters that fit `when`,
    # an answer (status, headers, body) comes in place of the call, or `after` it.

    def fail(self, operation: str, code: str = "ThrottlingException", *, status: int = 400, **limits: Any) -> None:
        """An operation answers with an error."""
        body = json.dumps({"__type": code, "message": f"{code} by the test"})
        if operation == "Publish":  # SNS speaks XML.
            body = f"<ErrorResponse><Error><Code>{code}</Code><Message>by the test</Message></Error></ErrorResponse>"
        self._go_wrong(operation, lambda _: (status, {"x-amzn-errortype": code}, body), **limits)

    def lose_answer(self, operation: str, **limits: Any) -> None:
        """An operation takes effect, and its answer gets lost on the way."""
        self._go_wrong(operation, _raising(ReadTimeoutError(endpoint_url="aws")), after=True, **limits)

    def kill(self, operation: str, **limits: Any) -> None:
        """The function dies in the moment in which it would call an operation."""
        self._go_wrong(operation, _raising(Killed()), **limits)

    def leave_unprocessed(self, **limits: Any) -> None:
        """BatchWriteItem does nothing of what it is asked, and says so."""

        def nothing_done(parameters: dict) -> tuple:
            return 200, {}, json.dumps({"UnprocessedItems": parameters["RequestItems"]})

        self._go_wrong("BatchWriteItem", nothing_done, **limits)

    def accept(self, operation: str, status: int = 200, **limits: Any) -> None:
        """An operation of a service that is not in moto here answers that all is well, and does nothing."""
        self._go_wrong(operation, lambda _: (status, {}, ""), **limits)

    def recover(self) -> None:
        """Nothing goes wrong any more."""
        self._faults.clear()

    def _go_wrong(self, operation: str, answer: Callable, *, after=False, times=None, when=None) -> None:
        left = itertools.count() if times is None else iter(range(times))

        def chosen(called: str, body: str) -> tuple[Callable, bool] | None:
            concerned = called == operation and (not when or when(_parameters(body)))
            return (answer, after) if concerned and next(left, None) is not None else None

        self._faults.append(chosen)

    def answer(self, operation: str, request: Any) -> AWSResponse:
        """Answer one request of a botocore client."""
        body = request.body.decode() if isinstance(request.body, bytes) else request.body or ""
        with self._one_at_a_time:
            self._calls.append((operation, body))
            faults = (fault for chosen in self._faults if (fault := chosen(operation, body)))
            wrong_answer, takes_effect = next(faults, (None, True))
            if takes_effect:
                act = self._start if operation == "StartExecution" else botocore_stubber.process_request
                status, headers, content = act(request)
            if wrong_answer:
                status, headers, content = wrong_answer(_parameters(body))
        return AWSResponse(request.url, status, headers, MockRawResponse(content))

    def _start(self, request: Any) -> tuple:
        """Not by moto, which runs one name once: Express runs it as often as it is asked."""
        asked = json.loads(request.body)
        assert asked["stateMachineArn"] == TEMPLATE.arn("Deliver")
        self.starts.append(Start(asked["name"], json.loads(asked["input"])))
        return 200, {}, json.dumps({"executionArn": asked["name"], "startDate": 0})

    # What is where.

    def parked(self) -> list[dict[str, str]]:
        """The items of the Parked table, without leases, the earliest first."""
        items = [item for item in self._items("Parked") if not item["lane"].startswith("lease")]
        return sorted(items, key=lambda item: item["sort_key"])

    def leases(self) -> list[dict[str, str]]:
        return [item for item in self._items("Parked") if item["lane"].startswith("lease")]

    def register(self) -> dict[str, dict[str, str]]:
        """The items of the Register table by id."""
        return {item["id"]: item for item in self._items("Register")}

    def _items(self, table: str) -> list[dict[str, str]]:
        rows = self._backend("dynamodb").tables[table].items.values()
        items = (item.attrs for row in rows for item in (row.values() if isinstance(row, dict) else [row]))
        return [{name: value.value for name, value in item.items()} for item in items]

    def reports(self, topic: str = os.environ["FAILURE_TOPIC_ARN"]) -> list[dict]:
        """What was published to a failure topic; to the stack's own, if none is named."""
        return [json.loads(sent[1]) for sent in self._backend("sns").topics[topic].sent_notifications]

    def undelivered(self) -> list[dict]:
        """What lies in the Undelivered queue."""
        return [json.loads(message.body) for message in self._backend("sqs").queues["Undelivered"]._messages]

    def forget(self) -> None:
        """Empty everything, as if the stack were new: for tests that draw thousands of examples."""
        self.recover()
        self.starts.clear()
        self.requests.clear()
        self._calls.clear()
        for table in self._backend("dynamodb").tables.values():
            table.items.clear()
        for topic in self._backend("sns").topics.values():
            topic.sent_notifications.clear()
        self._backend("sqs").queues["Undelivered"]._messages.clear()

    def expire(self, now: datetime) -> None:
        """Delete what DynamoDB's time to live lets go of at that time, at the earliest that it may."""
        items = self._backend("dynamodb").tables["Register"].items
        for id, item in list(items.items()):
            if int(item.attrs["expires_at"].value) < now.timestamp():
                del items[id]

    @staticmethod
    def _backend(service: str) -> Any:
        return get_backend(service)[ACCOUNT][REGION]


_current: Cloud | None = None


def _answer(event_name: str, request: Any, **_: Any) -> AWSResponse | None:
    return _current.answer(event_name.rsplit(".", 1)[-1], request) if _current else None


def _check(params: dict, model: Any, **_: Any) -> None:
    if _current:
        _current.check(model, params)


BUILTIN_HANDLERS.append(("before-send", _answer))
BUILTIN_HANDLERS.append(("before-parameter-build", _check))


@contextmanager
def cloud_of_the_stack() -> Iterator[Cloud]:
    global _current
    from punctual_core.clients import client

    BackendDict.reset()  # Not mock_aws, which takes longer than most tests: `_answer` is what calls moto.
    _current = Cloud()
    try:
        for table in TEMPLATE.resources("AWS::DynamoDB::Table"):
            client("dynamodb").create_table(**TEMPLATE.table(table))
        for queue in TEMPLATE.resources("AWS::SQS::Queue"):
            Cloud._backend("sqs").create_queue(queue)  # Not by a request, which takes long.
        for topic in (*TEMPLATE.resources("AWS::SNS::Topic"), OWN_FAILURE_TOPIC.split(":")[-1]):
            Cloud._backend("sns").create_topic(topic)
        _current.forget()
        yield _current
        assert not _current.refused, "AWS would have refused this"
    finally:
        _current = None


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The stack's resources, new and empty; clients try again without a pause."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    with cloud_of_the_stack() as cloud:
        yield cloud


# --- Messages ---------------------------------------------------------------------------------------------------------


def at(clock: str, day: str = "2026-12-24") -> datetime:
    """A time of one day: "10:00", "10:00:05" or "10:00:05.250", in UTC."""
    return datetime.fromisoformat(f"{day}T{clock}+00:00")


def event(due: datetime | str = "2026-12-24T10:00:00Z", **fields: Any) -> dict:
    """A message that is a valid event, but for the `fields` given."""
    date = due if isinstance(due, str) else due.isoformat()
    return {"date": date, "target": TARGET, "user": "team@example.com", "payload": "order-4711", **fields}


def record(
    message: Any,
    published_at: datetime = datetime(2026, 12, 24, 9, 0, tzinfo=UTC),
    *,
    message_id: str | None = None,
    sent_at: datetime | None = None,
    receives: int = 1,
) -> dict:
    """A record of the input queue as Lambda hands it over: SQS's fields around SNS's around the message, which is a
    text or becomes one."""
    text = message if isinstance(message, str) else json.dumps(message)
    message_id = message_id or str(uuid.uuid4())
    envelope = {
        "Type": "Notification",
        "MessageId": message_id,
        "TopicArn": os.environ["INPUT_TOPIC_ARN"],
        "Message": text,
        "Timestamp": published_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    return {
        "messageId": str(uuid.uuid5(uuid.NAMESPACE_OID, message_id)),
        "receiptHandle": "a-receipt-handle",
        "body": json.dumps(envelope),
        "attributes": {
            "ApproximateReceiveCount": str(receives),
            "SentTimestamp": str(int((sent_at or published_at).timestamp() * 1000)),
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": TEMPLATE.resolve({"Fn::GetAtt": ["InputQueue", "Arn"]}),
        "awsRegion": REGION,
    }


def take(message: Any, now: datetime, published_at: datetime | None = None, **sqs: Any) -> str:
    """Let Ingest take a message at a time, published then or at another; what became of it."""
    from punctual_core.ingest import ingest  # Not before the environment is set, which its clients are made from.

    return ingest.take(record(message, published_at or now, **sqs), now)


def sweep(
    now: datetime,
    seconds_left: Callable[[], float] | None = None,
    *,
    lane: str | None = None,
    holder: str = "",
    delegate: Callable[[str], bool] = lambda lane: False,
    **changes: Any,
) -> Any:
    """Let a Sweeper sweep all lanes, or one, at a time, in an invocation of 30 s; what it did. Only its pauses take
    time, and none of ours. `delegate` gives a lane to another invocation; `changes` are to the shipped Sweeper."""
    from punctual_core import sweeper
    from punctual_core.lanes import lanes

    changed = dataclasses.replace(sweeper.sweeper, delegate=delegate, **changes)
    paused: list[float] = []
    until = Deadline(now + timedelta(seconds=30), seconds_left or (lambda: 30.0 - sum(paused)))
    with patch.object(sweeper, "sleep", paused.append):
        swept = [lane] if lane else lanes()
        return changed.tick(swept, holder or str(uuid.uuid4()), until, may_delegate=lane is None)


def wanted(cloud: Cloud, start: Start) -> bool:
    """What Deliver would find if it looked now: LookUpRevision and IsStillWanted, in Python."""
    item = cloud.register().get(start.input["id"])
    return item is None or item["revision"] == start.input["revision"]


class LambdaContext:
    """What Lambda tells a function about its invocation, as far as ours ask."""

    function_name = "function"
    memory_limit_in_mb = 1024
    invoked_function_arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:function"

    def __init__(self, seconds_left: float = 30):
        self.aws_request_id = str(uuid.uuid4())
        self._seconds_left = seconds_left

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds_left * 1000)
