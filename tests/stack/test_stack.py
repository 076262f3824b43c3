"""The stack meets every end of the design, driven through its topics alone."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.stack.conftest import Background, Role
from tests.stack.scenarios import MORE_SCENARIOS
from tools.local import LocalStack
from tools.local.consumers import Arrival, Consumer
from tools.local.demo import FIRST_SWEEP, SCENARIOS, Scenario

CLOCK_SECONDS = 90  # a minute, the emulator's look every 10 s at what is scheduled, and its load


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


def test_what_was_parked_while_no_sweep_could_run_goes_out_late_by_itself(other: LocalStack, consumer: Consumer):
    topic = consumer.topic("late")
    due = in_seconds(13)  # beyond the horizon of this stack, 10 s
    with Role(other, "SweeperRole").without("SweepLanes"):
        other.client("stepfunctions").start_execution(stateMachineArn=other.outputs["SweepArn"])
        other.client("sns").publish(TopicArn=other.outputs["InputTopicArn"], Message=event(topic, "late", due))
        time.sleep((due - datetime.now(UTC)).total_seconds() + 3)
        assert payloads(consumer.arrivals, topic) == []
    assert consumer.wait_until(lambda arrivals: payloads(arrivals, topic) == ["late"], seconds=15)


def test_a_poisoned_message_in_a_batch_harms_no_other(other: LocalStack, consumer: Consumer):
    topic, due = consumer.topic("batch"), in_seconds(4)
    messages = [event(topic, str(number), due) for number in range(9)]
    messages.insert(4, "[" * 100_000)
    answer = other.client("sns").publish_batch(
        TopicArn=other.outputs["InputTopicArn"],
        PublishBatchRequestEntries=[{"Id": str(n), "Message": message} for n, message in enumerate(messages)],
    )
    poisoned = answer["Successful"][4]["MessageId"]
    assert consumer.wait_until(lambda arrivals: len(arrivals) == 10, seconds=15)
    assert payloads(consumer.arrivals, topic) == [str(number) for number in range(9)]
    [report] = payloads(consumer.arrivals, other.outputs["FailureTopicArn"])
    assert json.loads(report)["id"] == poisoned


def test_two_stacks_share_an_account(stack: LocalStack, other: LocalStack, consumer: Consumer):
    """The other was deployed while the first was at work; an event of one runs in that one."""
    topic = consumer.topic("shared")
    sns = other.client("sns")
    message = event(topic, "of the other", in_seconds(1))
    id = sns.publish(TopicArn=other.outputs["InputTopicArn"], Message=message)["MessageId"]
    assert consumer.wait_until(lambda arrivals: payloads(arrivals, topic) == ["of the other"], seconds=15)
    assert id in [execution["name"] for execution in other.executions(other.outputs["DeliverArn"])]
    assert id not in [execution["name"] for execution in stack.executions(stack.outputs["DeliverArn"])]


def test_every_log_group_forgets_after_its_retention(stack: LocalStack):
    cloudformation, logs = stack.client("cloudformation"), stack.client("logs")
    resources = cloudformation.describe_stack_resources(StackName=stack.stack_name)["StackResources"]
    groups = [r["PhysicalResourceId"] for r in resources if r["ResourceType"] == "AWS::Logs::LogGroup"]
    assert len(groups) == 5
    for name in groups:
        [group] = [
            group
            for group in logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
            if group["logGroupName"] == name
        ]
        assert group["retentionInDays"] == 30, name
    assert {f"/aws/vendedlogs/states/{stack.stack_name}-{machine}" for machine in ("Deliver", "Sweep")} < set(groups)


@pytest.mark.parametrize("scenario", SCENARIOS + MORE_SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario_meets_its_end(scenarios: Background, scenario: Scenario):
    run = scenarios.ended()
    [outcome] = [outcome for outcome in run.outcomes if outcome.scenario is scenario]
    assert list(run.problems_of(outcome)) == []


def test_nothing_else_is_left(scenarios: Background):
    """No item in a lane, no message in a queue, and in the register the named and canceled ids alone."""
    assert scenarios.ended().problems() == []


def test_what_is_moved_or_cancelled_by_name_leaves_its_lane(scenarios: Background):
    by_name = {outcome.scenario.name: outcome for outcome in scenarios.ended().outcomes}
    for name in ("canceled by name, far", "moved here", "replaced once"):
        assert by_name[name].execution is None, name


def test_the_subject_is_passed_on(scenarios: Background):
    [outcome] = [o for o in scenarios.ended().outcomes if o.scenario.name == "with a subject"]
    assert outcome.deliveries[0].subject == "Your order"


def test_an_execution_is_found_by_the_id_that_publish_returned(scenarios: Background, stack: LocalStack):
    run = scenarios.ended()
    [outcome] = [o for o in run.outcomes if o.scenario.name == "on a whole second"]
    [execution] = [e for e in stack.executions(run.outputs["DeliverArn"]) if e["name"] == outcome.message_id]
    description = stack.client("stepfunctions").describe_execution(executionArn=execution["executionArn"])
    assert json.loads(description["input"])["publish"]["Message"] == "on a whole second"


def test_the_clock_starts_sweeps_by_itself(scenarios: Background, stack: LocalStack):
    sweeps = stack.outputs["SweepArn"]
    give_up_at = time.monotonic() + CLOCK_SECONDS
    while not (by_clock := [e for e in stack.executions(sweeps) if e["name"] != FIRST_SWEEP]):
        assert time.monotonic() < give_up_at, "the Clock has started no sweep"
        time.sleep(1)
    assert {execution["status"] for execution in by_clock} <= {"RUNNING", "SUCCEEDED"}
