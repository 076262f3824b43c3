"""`punctual redrive` moves messages from the dead-letter queue to the input queue. None is lost, whatever stops it."""

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.client import BaseClient

from punctual import queues


@dataclass
class Queues:
    """The dead-letter queue and the input queue."""

    sqs: Any
    dead: str
    input: str

    def fill(self, *ids: str) -> list[str]:
        """Put messages into the dead-letter queue as SNS does. Returns their bodies."""
        bodies = [json.dumps({"Type": "Notification", "MessageId": id, "Message": f'{{"id": "{id}"}}'}) for id in ids]
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
        """How many messages are in the dead-letter queue, visible or not."""
        counts = self.sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["All"])["Attributes"]
        return int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"])


@pytest.fixture
def two_queues(stack) -> Queues:
    """The queues of the stack called `punctual`."""
    dead, input = (stack.sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("dead", "input"))
    stack.outputs["InputDeadLettersUrl"], stack.physical_ids["InputQueue"] = dead, input
    return Queues(stack.sqs, dead, input)


def test_messages_are_moved_unchanged(punctual, two_queues):
    """With the envelope in which Ingest finds their MessageId and the time at which they were published."""
    bodies = two_queues.fill("a", "b")
    result = punctual("redrive")
    assert (result.code, result.output) == (0, "Moved 2 messages to the input queue.\n")
    assert (two_queues.moved(), two_queues.left()) == (bodies, 0)


def test_one_message_is_not_one_messages(punctual, two_queues):
    """The sentence has the singular."""
    two_queues.fill("a")
    assert punctual("redrive").output == "Moved 1 message to the input queue.\n"


def test_more_than_one_batch_is_moved(punctual, two_queues):
    """SQS hands out ten at a time."""
    two_queues.fill(*(str(number) for number in range(25)))
    assert json.loads(punctual("--json", "redrive").output) == {"moved": 25}
    assert two_queues.left() == 0


def test_an_empty_queue_is_a_success(punctual, two_queues):
    """Nothing to do."""
    assert punctual("redrive").output == "Moved 0 messages to the input queue.\n"


def test_a_message_that_the_input_queue_refuses_stays(punctual, two_queues, stack):
    """It is deleted only when the input queue has it."""
    two_queues.fill("a")
    stack.refuse("SendMessage", "AccessDenied", "not yours")
    result = punctual("redrive")
    assert (result.code, result.error) == (1, "punctual: permission denied: not yours\n")
    assert (two_queues.moved(), two_queues.left()) == ([], 1)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, "AccessDenied"])
def test_a_run_that_stops_between_send_and_delete_repeats_and_loses_nothing(
    punctual, two_queues, stack, monkeypatch, stop
):
    """By Ctrl-C or an error. The message is in both queues; the next run, once it is visible again, moves it again.
    Its MessageId is the same, by which Ingest recognizes the repeat."""
    monkeypatch.setattr(queues, "HIDDEN_SECONDS", 1)
    bodies = two_queues.fill("a", "b")
    with monkeypatch.context() as patch:
        call = BaseClient._make_api_call

        def answer(client: BaseClient, operation: str, parameters: dict) -> dict:
            if operation == "DeleteMessage" and parameters["QueueUrl"] == two_queues.dead:
                if stop is KeyboardInterrupt:
                    raise KeyboardInterrupt
                stack.refuse(operation, stop)
            return call(client, operation, parameters)

        patch.setattr(BaseClient, "_make_api_call", answer)
        result = punctual("redrive")
        stack.errors.clear()
    assert result.code == (130 if stop is KeyboardInterrupt else 1)
    [sent] = two_queues.moved()
    assert sent in bodies and two_queues.left() == 2

    time.sleep(1.1)
    assert punctual("redrive").code == 0
    assert (two_queues.moved(), two_queues.left()) == (bodies, 0)
