"""Every message that is published to the deployed stack ends as expected."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from punctual.scenarios import Scenario
from tests.stack.conftest import BackgroundRun, Role
from tests.stack.scenarios import MORE_SCENARIOS
from tools.local import Arrival, Consumer, LocalStack
from tools.local.scenarios import FIRST_SWEEP, SCENARIOS

# A minute, the 10 s between two checks of the emulator's schedules, and the load of these tests.
SCHEDULE_SECONDS = 90


@pytest.fixture
def consumer(other: LocalStack) -> Iterator[Consumer]:
    with Consumer(other) as consumer:
        consumer.subscribe(other.outputs["FailureTopicArn"])
        yield consumer


def event(target: str, payload: str, due: datetime) -> str:
    return json.dumps({"date": due.isoformat(), "target": target, "user": "test", "payload": payload})


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def payloads(arrivals: list[Arrival], topic: str) -> list[str]:
    return sorted(arrival.message for arrival in arrivals if arrival.topic == topic)


def test_a_parked_event_is_delivered_late_after_sweeps_have_failed(other: LocalStack, consumer: Consumer):
    topic = consumer.topic("late")
    due = in_seconds(13)  # The horizon is 8 s.
    with Role(other, "SweeperRole").without("SweepLanes"):
        other.client("stepfunctions").start_execution(stateMachineArn=other.outputs["SweepArn"])
        other.client("sns").publish(TopicArn=other.outputs["InputTopicArn"], Message=event(topic, "late", due))
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


def test_an_event_of_one_stack_does_not_run_in_another_stack_of_the_account(
    stack: LocalStack, other: LocalStack, consumer: Consumer
):
    topic = consumer.topic("shared")
    sns = other.client("sns")
    message = event(topic, "of the other", in_seconds(1))
    id = sns.publish(TopicArn=other.outputs["InputTopicArn"], Message=message)["MessageId"]
    assert consumer.wait_until(lambda arrivals: payloads(arrivals, topic) == ["of the other"], seconds=15)
    assert id in [execution["name"] for execution in other.executions(other.outputs["DeliverArn"])]
    assert id not in [execution["name"] for execution in stack.executions(stack.outputs["DeliverArn"])]


def test_a_message_that_failed_is_retried_soon(other: LocalStack, consumer: Consumer):
    """Ingest may change its visibility: otherwise it would be retried after three minutes."""
    topic = consumer.topic("retried")
    with Role(other, "IngestRole").without("StartNearEvents"):
        other.client("sns").publish(
            TopicArn=other.outputs["InputTopicArn"], Message=event(topic, "retried", in_seconds(1))
        )
        assert not consumer.wait_until(lambda arrivals: bool(arrivals), seconds=3)
    assert consumer.wait_until(lambda arrivals: payloads(arrivals, topic) == ["retried"], seconds=15)


def test_a_refusal_that_cannot_be_reported_is_kept_in_undelivered(other: LocalStack):
    sqs, queue = other.client("sqs"), other.outputs["UndeliveredUrl"]
    with Role(other, "IngestRole").without("ReportFailures"):
        other.client("sns").publish(TopicArn=other.outputs["InputTopicArn"], Message="not an event")
        [message] = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20)["Messages"]
    assert json.loads(message["Body"])["event"] == "not an event"
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


@pytest.mark.parametrize("scenario", SCENARIOS + MORE_SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_message_ends_as_expected(scenarios: BackgroundRun, scenario: Scenario):
    run = scenarios.wait()
    [outcome] = [outcome for outcome in run.outcomes if outcome.scenario is scenario]
    assert list(run.problems_of(outcome)) == []


def test_nothing_is_left_in_tables_and_queues(scenarios: BackgroundRun):
    """No item in a lane, no message in a queue, and only the named and canceled ids in the register."""
    assert scenarios.wait().problems() == []


@pytest.mark.parametrize("name", ["canceled by id while parked", "replaced by an earlier one", "second of three"])
def test_a_parked_event_with_an_id_is_never_started_once_canceled_or_replaced(scenarios: BackgroundRun, name: str):
    [outcome] = [o for o in scenarios.wait().outcomes if o.scenario.name == name]
    assert scenarios.wait().inside(outcome).execution is None


def test_the_subject_is_passed_on(scenarios: BackgroundRun):
    [outcome] = [o for o in scenarios.wait().outcomes if o.scenario.name == "with a subject"]
    assert outcome.deliveries[0].subject == "Your order"


def test_the_schedule_starts_sweeps(scenarios: BackgroundRun, stack: LocalStack):
    give_up_at = time.monotonic() + SCHEDULE_SECONDS
    while not (scheduled := [e for e in stack.executions(stack.outputs["SweepArn"]) if e["name"] != FIRST_SWEEP]):
        assert time.monotonic() < give_up_at, "the schedule has started no sweep"
        time.sleep(1)
    assert {execution["status"] for execution in scheduled} <= {"RUNNING", "SUCCEEDED"}
