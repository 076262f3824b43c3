"""`resend` and `redrive`: a message leaves its queue only when another has it, and what a run leaves is visible."""

import json
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.command.conftest import FakeStack, Result, ago, refusal

pytestmark = pytest.mark.usefixtures("tables")  # `resend` asks the register.
EVENT = {"date": "2026-12-24T18:00:00Z", "payload": "ä"}


# --- resend -----------------------------------------------------------------------------------------------------------


def test_an_event_is_published_again_under_its_id_and_then_deleted(stack, punctual):
    """Otherwise nobody could cancel it, or recognize its repeat. An empty queue is a success."""
    stack.add_undelivered(EVENT)
    told = "published again: order-4711 (not delivered: ...)\n1 message published again.\n"
    assert punctual("resend") == Result(0, told, "")
    assert [json.loads(sent) for sent in stack.received()] == [EVENT | {"id": "order-4711"}]
    assert stack.left() == 0
    order = [operation for operation, _ in stack.calls if operation in ("Publish", "DeleteMessage")]
    assert order == ["Publish", "DeleteMessage"]
    assert punctual("resend") == Result(0, "0 messages published again.\n", "")


@pytest.mark.parametrize(
    ("event", "published"),
    [
        ({"id": "own", "payload": "ä"}, '{"id":"own","payload":"ä"}'),
        ({"payload": "x", "delay": 60}, '{"payload":"x","delay":0,"id":"order-4711"}'),
        ({"cancel": "a"}, '{"cancel":"a"}'),
        (["x"], '["x"]'),
        ("not JSON", "not JSON"),
    ],
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
def test_what_is_not_a_whole_failure_report_stays_and_the_others_are_published(stack, punctual, body, why):
    """Of each it is said, as JSON, too, why it was kept; so is the error."""
    stack.send_to_undelivered(body)
    stack.add_undelivered(EVENT)
    result = punctual("--json", "resend")
    published, kept = sorted(json.loads(result.output), key=lambda attempt: attempt["id"] != "order-4711")
    assert published == {"id": "order-4711", "error": "not delivered: ...", "kept_because": None}
    assert kept["kept_because"] == why and f"kept, because {why}: {kept['id']}" in punctual("resend").output
    assert (result.code, json.loads(result.error)) == (1, {"error": "1 kept in the queue"})
    assert (len(stack.received()), stack.left()) == (1, 1)


@pytest.mark.parametrize("fault", [refusal("Publish", "Throttled"), ReadTimeoutError(endpoint_url="https://sns")])
def test_what_cannot_be_published_stays_and_is_visible_at_once(stack, punctual, fault):
    """Whatever the reason is: it is said for each event, and the next run finds all of them."""
    stack.add_undelivered(EVENT)
    stack.add_undelivered(EVENT)
    stack.errors["Publish"] = fault
    result = punctual("resend")
    assert (result.code, result.error) == (1, "punctual: 2 kept in the queue\n")
    assert result.output.count("kept, because it could not be published (") == 2
    assert stack.left() == 2


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
    assert replaced.startswith("kept, because it was replaced by a message") and ": replaced (" in replaced
    assert [json.loads(message)["id"] for message in stack.received()] == ["failed"]


def test_an_event_that_comes_back_is_published_once_in_a_run(stack, punctual):
    """Otherwise a run would not end. No clock decides."""

    def report_again(call, _):
        assert [operation for operation, _ in stack.calls].count("Publish") == 1
        stack.add_undelivered(EVENT)
        return call()

    stack.answers["Publish"] = report_again
    stack.add_undelivered(EVENT)
    result = punctual("resend")
    assert result.code == 1 and "was published in this run: perhaps it came back" in result.output
    assert len(stack.received()) == 1


def test_what_somebody_else_has_received_is_counted(stack, punctual):
    """A run that was killed hides messages: "no message" would be wrong."""
    stack.add_undelivered(EVENT)
    stack.sqs.receive_message(QueueUrl=stack.undelivered, VisibilityTimeout=900)
    result = punctual("--json", "resend")
    assert (result.code, result.output) == (1, "[]\n")
    sentence = "1 of the queue in flight: somebody else has received them, and they are visible again within 15 minutes"
    assert json.loads(result.error) == {"error": sentence}


# --- redrive ----------------------------------------------------------------------------------------------------------


def fill(stack: FakeStack, *ids: str, topic: str = "") -> list[str]:
    """Put messages into the dead-letter queue as SNS does. Returns their bodies."""
    envelope = {"Type": "Notification", "TopicArn": topic or stack.input_topic}
    bodies = [json.dumps(envelope | {"MessageId": id, "Message": f'{{"id": "e-{id}"}}'}) for id in ids]
    for body in bodies:
        stack.sqs.send_message(QueueUrl=stack.dead, MessageBody=body)
    return bodies


def test_messages_are_moved_unchanged(stack, punctual):
    """With the envelope in which Ingest finds their MessageId and the time at which they were published. SQS hands out
    ten at a time."""
    bodies = fill(stack, *(str(number) for number in range(24)))
    stack.sqs.send_message(QueueUrl=stack.dead, MessageBody="written to the queue")
    result = punctual("redrive")
    assert result.code == 0 and result.output.splitlines()[-1] == "25 messages moved."
    moved = [body for _ in range(3) for body in stack.received(stack.input)]
    assert (sorted(moved), stack.left(stack.dead)) == (sorted([*bodies, "written to the queue"]), 0)


def test_a_notification_of_another_topic_stays(stack, punctual):
    fill(stack, "a", topic="arn:aws:sns:eu-central-1:123456789012:other")
    result = punctual("redrive")
    assert result.code == 1 and result.output.startswith("kept, because it is a notification of arn:aws:sns")
    assert (stack.received(stack.input), stack.left(stack.dead)) == ([], 1)


@pytest.mark.parametrize("id", ["b", "e-b"])
def test_one_message_is_dealt_with_by_its_id_and_the_others_are_visible(stack, punctual, id):
    """Of a dead letter, its own id or the event's. A dry run says what would be done."""
    bodies = fill(stack, "a", "b")
    for event_id in ("a", id):
        stack.add_undelivered(EVENT, id=event_id)
    assert punctual("redrive", "--id", id, "--dry-run").output == "would be moved: e-b\n1 message would be moved.\n"
    assert punctual("resend", "--dry-run").output.splitlines()[-1] == "2 messages would be published again."
    assert (stack.received(), stack.left(), stack.received(stack.input), stack.left(stack.dead)) == ([], 2, [], 2)
    assert punctual("redrive", "--id", id).output == "moved: e-b\n1 message moved.\n"
    assert (stack.received(stack.input), stack.left(stack.dead)) == (bodies[1:], 1)
    assert punctual("resend", "--id", id).output.splitlines()[-1] == "1 message published again."
    assert [json.loads(message)["id"] for message in stack.received()] == [id]
    assert stack.left() == 1


def test_a_message_that_the_input_queue_refuses_stays(stack, punctual):
    """It is deleted only when the input queue has it, and visible for the next run."""
    fill(stack, "a")
    stack.refuse("SendMessage", "AccessDenied", "not yours")
    assert punctual("redrive") == Result(1, "", "punctual: permission denied: not yours\n")
    assert (stack.received(stack.input), stack.left(stack.dead)) == ([], 1)


STOPS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, BrokenPipeError: 1}


@pytest.mark.parametrize("stop", STOPS)
def test_an_interrupted_run_gives_back_what_it_has_not_dealt_with(stack, punctual, monkeypatch, stop):
    """By Ctrl-C, a signal, or `head` between send and delete, and once more while it gives back: the next run, at once,
    moves the message again, with the MessageId by which Ingest recognizes it."""
    bodies = fill(stack, "a", "b", "c")

    def interrupt(call, _):
        if stop is BrokenPipeError:
            raise BrokenPipeError
        os.kill(os.getpid(), stop)
        return call()

    def interrupt_again(call, _):
        if stop is not BrokenPipeError:
            os.kill(os.getpid(), stop)
        return call()

    monkeypatch.setattr("punctual.cli.give_up_stdout", lambda: None)
    stack.answers |= {"DeleteMessage": interrupt, "ChangeMessageVisibilityBatch": interrupt_again}
    assert punctual("redrive").code == STOPS[stop]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    [sent] = stack.received(stack.input)
    assert sent in bodies and stack.left(stack.dead) == 3
    stack.answers.clear()
    assert punctual("redrive").code == 0
    assert (sorted(stack.received(stack.input)), stack.left(stack.dead)) == (bodies, 0)
