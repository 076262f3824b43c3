"""Every message that is published to the deployed stack ends as expected."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime

import pytest

from punctual.scenarios import Scenario
from tests.stack.conftest import denied, event, in_seconds, publish
from tests.stack.scenarios import MORE_SCENARIOS
from tools.local import Arrival, Consumer, LocalStack
from tools.local.scenarios import FIRST_SWEEP, SCENARIOS, LocalRun

# A minute, the 10 s between two checks of the emulator's schedules, and the load of these tests.
SCHEDULE_SECONDS = 90


@pytest.fixture
def consumer(other: LocalStack) -> Iterator[Consumer]:
    with Consumer(other) as consumer:
        consumer.subscribe(other.outputs["FailureTopicArn"])
        yield consumer


def payloads(arrivals: list[Arrival], topic: str) -> list[str]:
    return sorted(arrival.message for arrival in arrivals if arrival.topic == topic)


def test_a_parked_event_is_delivered_late_after_sweeps_have_failed(other: LocalStack, consumer: Consumer):
    topic = consumer.topic("late")
    due = in_seconds(13)  # The horizon is 8 s.
    with denied(other, "SweeperRole", "dynamodb:Query"):
        other.client("stepfunctions").start_execution(stateMachineArn=other.outputs["SweepArn"])
        publish(other, event(topic, "late", due))
        time.sleep((due - datetime.now(UTC)).total_seconds() + 3)
        assert payloads(consumer.arrivals, topic) == []
    assert consumer.wait_until(lambda arrivals: payloads(arrivals, topic) == ["late"], seconds=15)


def test_an_unreadable_message_does_not_affect_the_others_in_its_batch(other: LocalStack, consumer: Consumer):
    topic, due = consumer.topic("batch"), in_seconds(4)
    messages = [event(topic, str(number), due) for number in range(9)]
    messages.insert(4, "[" * 100_000)
    answer = other.client("sns").publish_batch(
        TopicArn=other.outputs["InputTopicArn"],
        PublishBatchRequestEntries=[{"Id": str(n), "Message": message} for n, message in enumerate(messages)],
    )
    unreadable = answer["Successful"][4]["MessageId"]
    assert consumer.wait_until(lambda arrivals: len(arrivals) == 10, seconds=15)
    assert payloads(consumer.arrivals, topic) == [str(number) for number in range(9)]
    [report] = payloads(consumer.arrivals, other.outputs["FailureTopicArn"])
    assert json.loads(report)["id"] == unreadable


def test_a_message_that_failed_is_retried_soon(other: LocalStack, consumer: Consumer):
    """Ingest may change its visibility: otherwise it would be retried after three minutes."""
    topic = consumer.topic("retried")
    with denied(other, "IngestRole", "states:StartExecution"):
        publish(other, event(topic, "retried", in_seconds(1)))
        assert not consumer.wait_until(lambda arrivals: bool(arrivals), seconds=3)
    assert consumer.wait_until(lambda arrivals: payloads(arrivals, topic) == ["retried"], seconds=15)


def test_a_refusal_that_cannot_be_reported_is_kept_in_undelivered(other: LocalStack):
    sqs, queue = other.client("sqs"), other.outputs["UndeliveredUrl"]
    with denied(other, "IngestRole", "sns:Publish"):
        publish(other, "not an event")
        [message] = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20)["Messages"]
    assert json.loads(message["Body"])["event"] == "not an event"
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


@pytest.mark.parametrize("scenario", SCENARIOS + MORE_SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_message_ends_as_expected(scenarios: Future[LocalRun], scenario: Scenario):
    run = scenarios.result()
    [outcome] = [outcome for outcome in run.outcomes if outcome.scenario is scenario]
    assert list(run.problems_of(outcome)) == []


def test_nothing_is_left_in_tables_and_queues(scenarios: Future[LocalRun]):
    """No item in a lane, no message in a queue, and only the named and canceled ids in the register."""
    assert scenarios.result().problems() == []


def test_the_schedule_starts_sweeps(scenarios: Future[LocalRun], stack: LocalStack):
    give_up_at = time.monotonic() + SCHEDULE_SECONDS
    while not (scheduled := [e for e in stack.executions(stack.outputs["SweepArn"]) if e["name"] != FIRST_SWEEP]):
        assert time.monotonic() < give_up_at, "the schedule has started no sweep"
        time.sleep(1)
    assert {execution["status"] for execution in scheduled} <= {"RUNNING", "SUCCEEDED"}
