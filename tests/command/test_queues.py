"""`resend` and `redrive`: a message leaves its queue only when another has it, and what a run leaves is visible."""

import json
import os
import signal
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from tests.command.conftest import Result, ago

EVENT = {"date": "2026-12-24T18:00:00Z", "payload": "ä"}


@pytest.fixture
def stack(stack, tables):
    """The stack called `punctual`, with its register."""
    return stack


def visible(sqs: Any, url: str) -> int:
    """How many messages can be received now."""
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"])


# --- resend -----------------------------------------------------------------------------------------------------------


def test_an_event_is_published_again_under_its_id_and_then_deleted(stack, punctual, calls):
    """Otherwise nobody could cancel it, or recognize its repeat."""
    stack.add_undelivered(EVENT)
    result = punctual("resend")
    assert (result.code, result.error) == (0, "")
    assert result.output == "published again: order-4711 (not delivered: ...)\n1 message published again.\n"
    [sent] = stack.received()
    assert json.loads(sent) == EVENT | {"id": "order-4711"}
    assert stack.left() == 0
    order = [operation for operation, _ in calls if operation in ("Publish", "DeleteMessage")]
    assert order == ["Publish", "DeleteMessage"]


@pytest.mark.parametrize(
    ("event", "published"),
    [
        ({"id": "own", "payload": "ä"}, '{"id":"own","payload":"ä"}'),
        ({"payload": "x", "delay": 60}, '{"payload":"x","delay":0,"id":"order-4711"}'),
        ({"cancel": "a"}, '{"cancel":"a"}'),
        (["x"], '["x"]'),
        ("not JSON", "not JSON"),
    ],
    ids=["named", "delay", "cancel", "array", "text"],
)
def test_an_event_is_published_as_it_was_but_at_once(stack, punctual, event, published):
    """A delay is over: counted anew, it would delay the event again."""
    stack.add_undelivered(event)
    assert punctual("resend").code == 0
    assert stack.received() == [published]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        *((body, "it is not a failure report") for body in ("hello", "[]", '{"id": "x", "event": {}}')),
        ('{"id": null, "error": "e", "event": null}', "it is not a failure report"),
        ('{"id": "x", "error": "e"}', "it is not a failure report"),
        ('{"id": "x", "error": "e", "event": "{", "truncated": true}', "only the beginning of the event is here"),
    ],
)
def test_what_is_not_a_whole_failure_report_stays(stack, punctual, body, why):
    """Somebody has to look at it. The others are published."""
    stack.send_to_undelivered(body)
    stack.add_undelivered(EVENT)
    result = punctual("resend")
    assert result.code == 1 and f"kept, because {why}: " in result.output
    assert (len(stack.received()), stack.left(), visible(stack.sqs, stack.undelivered)) == (1, 1, 1)


@pytest.mark.parametrize(
    "fault",
    [ClientError({"Error": {"Code": "Throttled"}}, "Publish"), ReadTimeoutError(endpoint_url="https://sns")],
)
def test_what_cannot_be_published_stays_and_is_visible_at_once(stack, punctual, fault):
    """Whatever the reason is: it is said for each event, and the next run finds all of them."""
    stack.add_undelivered(EVENT)
    stack.add_undelivered(EVENT)
    stack.errors["Publish"] = fault
    result = punctual("resend")
    assert (result.code, result.error) == (1, "punctual: 2 kept in the queue\n")
    assert result.output.count("kept, because it could not be published (") == 2
    assert visible(stack.sqs, stack.undelivered) == 2


def test_what_was_canceled_is_not_reinstated(stack, punctual, tables):
    """Nor what was replaced since the report; what was published before it is the event itself."""
    tables.cancel("canceled", at=ago(60))
    far = datetime.now(UTC) + timedelta(days=1)
    tables.park(far, id="replaced", at=datetime.now(UTC) + timedelta(seconds=60))
    tables.park(far, id="failed", at=ago(60))
    for id in ("canceled", "replaced", "failed"):
        stack.add_undelivered(EVENT, id=id)
    _, canceled, replaced, _ = sorted(punctual("resend").output.splitlines())
    assert canceled.startswith("kept, because it was canceled by a message ") and ": canceled (" in canceled
    assert replaced.startswith("kept, because it was canceled or replaced by a message") and ": replaced (" in replaced
    assert [json.loads(message)["id"] for message in stack.received()] == ["failed"]


def test_an_event_that_comes_back_is_published_once_in_a_run(stack, punctual):
    """Otherwise a run would not end. No clock decides."""

    def report_again(call, parameters):
        answer = call()
        stack.add_undelivered(EVENT)
        return answer

    stack.answers["Publish"] = report_again
    stack.add_undelivered(EVENT)
    result = punctual("resend")
    assert result.code == 1 and "was published in this run: perhaps it came back" in result.output
    assert len(stack.received()) == 1


def test_what_somebody_else_has_received_is_counted(stack, punctual):
    """A run that was killed hides messages: "no message" would be wrong."""
    stack.add_undelivered(EVENT)
    stack.sqs.receive_message(QueueUrl=stack.undelivered, VisibilityTimeout=900)
    result = punctual("resend")
    assert (result.code, result.output) == (1, "0 messages published again.\n")
    assert result.error.startswith("punctual: 1 of the queue in flight: somebody else has received them")


def test_json_says_of_each_event_whether_it_was_kept(stack, punctual):
    """And an error is JSON, too. An empty queue is a success."""
    assert punctual("resend") == Result(0, "0 messages published again.\n", "")
    assert punctual("--json", "resend").output == "[]\n"
    stack.add_undelivered(EVENT)
    stack.send_to_undelivered("hello")
    result = punctual("--json", "resend")
    published, kept = sorted(json.loads(result.output), key=lambda attempt: attempt["id"] != "order-4711")
    assert published == {"id": "order-4711", "error": "not delivered: ...", "kept_because": None}
    assert (kept["error"], kept["kept_because"]) == (None, "it is not a failure report")
    assert (result.code, json.loads(result.error)) == (1, {"error": "1 kept in the queue"})


# --- redrive ----------------------------------------------------------------------------------------------------------


@dataclass
class Queues:
    """The dead-letter queue and the input queue."""

    sqs: Any
    dead: str
    input: str
    topic: str

    def fill(self, *ids: str, topic: str | None = None) -> list[str]:
        """Put messages into the dead-letter queue as SNS does. Returns their bodies."""
        envelope = {"Type": "Notification", "TopicArn": topic or self.topic}
        bodies = [json.dumps(envelope | {"MessageId": id, "Message": f'{{"id": "e-{id}"}}'}) for id in ids]
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.dead, MessageBody=body)
        return bodies

    def moved(self) -> list[str]:
        """The bodies of the messages that the input queue has got since the last call."""
        messages = self.sqs.receive_message(QueueUrl=self.input, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            self.sqs.delete_message(QueueUrl=self.input, ReceiptHandle=message["ReceiptHandle"])
        return sorted(message["Body"] for message in messages)

    def left(self) -> int:
        """How many messages of the dead-letter queue can be received now."""
        return visible(self.sqs, self.dead)


@pytest.fixture
def two_queues(stack) -> Queues:
    """The queues of the stack called `punctual`."""
    dead, input = (stack.sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("dead", "input"))
    stack.outputs["InputDeadLettersUrl"], stack.physical_ids["InputQueue"] = dead, input
    return Queues(stack.sqs, dead, input, stack.input_topic)


def test_messages_are_moved_unchanged(punctual, two_queues):
    """With the envelope in which Ingest finds their MessageId and the time at which they were published. SQS hands out
    ten at a time."""
    bodies = two_queues.fill(*(str(number) for number in range(24)))
    two_queues.sqs.send_message(QueueUrl=two_queues.dead, MessageBody="written to the queue")
    result = punctual("redrive")
    assert result.code == 0 and result.output.splitlines()[-1] == "25 messages moved."
    moved = [body for _ in range(3) for body in two_queues.moved()]
    assert (sorted(moved), two_queues.left()) == (sorted([*bodies, "written to the queue"]), 0)


def test_a_notification_of_another_topic_stays(punctual, two_queues):
    """It is not ours."""
    two_queues.fill("a", topic="arn:aws:sns:eu-central-1:123456789012:other")
    result = punctual("redrive")
    assert result.code == 1 and result.output.startswith("kept, because it is a notification of arn:aws:sns")
    assert (two_queues.moved(), two_queues.left()) == ([], 1)


@pytest.mark.parametrize("id", ["b", "e-b"])
def test_one_message_is_dealt_with_by_its_id_and_the_others_are_visible(stack, punctual, two_queues, id):
    """Of a dead letter, its own id or the event's."""
    bodies = two_queues.fill("a", "b")
    for event_id in ("a", id):
        stack.add_undelivered(EVENT, id=event_id)
    assert punctual("redrive", "--id", id).output == "moved: e-b\n1 message moved.\n"
    assert (two_queues.moved(), two_queues.left()) == (bodies[1:], 1)
    assert punctual("resend", "--id", id).output.splitlines()[-1] == "1 message published again."
    assert [json.loads(message)["id"] for message in stack.received()] == [id]
    assert visible(stack.sqs, stack.undelivered) == 1


@pytest.mark.parametrize("command", ["resend", "redrive"])
def test_a_dry_run_changes_nothing(stack, punctual, two_queues, command):
    """It says what would be done."""
    stack.add_undelivered(EVENT)
    two_queues.fill("a")
    assert " would be " in punctual(command, "--dry-run").output
    assert (stack.received(), two_queues.moved()) == ([], [])
    assert (two_queues.left(), visible(stack.sqs, stack.undelivered)) == (1, 1)


def test_a_message_that_the_input_queue_refuses_stays(punctual, two_queues, stack):
    """It is deleted only when the input queue has it, and visible for the next run."""
    two_queues.fill("a")
    stack.refuse("SendMessage", "AccessDenied", "not yours")
    result = punctual("redrive")
    assert (result.code, result.error) == (1, "punctual: permission denied: not yours\n")
    assert (two_queues.moved(), two_queues.left()) == ([], 1)


STOPS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, BrokenPipeError: 1}


@pytest.mark.parametrize("stop", STOPS)
def test_an_interrupted_run_gives_back_what_it_has_not_dealt_with(punctual, two_queues, stack, monkeypatch, stop):
    """By Ctrl-C, a signal, or `head` between send and delete: the next run, at once, moves the message again, with the
    MessageId by which Ingest recognizes it."""
    bodies = two_queues.fill("a", "b", "c")

    def interrupt(call, parameters):
        if parameters["QueueUrl"] == two_queues.dead:
            if stop is BrokenPipeError:
                raise BrokenPipeError
            os.kill(os.getpid(), stop)
        return call()

    monkeypatch.setattr("punctual.cli.give_up_stdout", lambda: None)
    stack.answers["DeleteMessage"] = interrupt
    assert punctual("redrive").code == STOPS[stop]
    [sent] = two_queues.moved()
    assert sent in bodies and two_queues.left() == 3
    stack.answers.clear()
    assert punctual("redrive").code == 0
    assert (two_queues.moved(), two_queues.left()) == (bodies, 0)
