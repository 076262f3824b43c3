"""`check` against a stack that is simulated here: what it finds, and that it leaves nothing behind."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from punctual_core.event import Event, Refused, Rules, parse

from punctual import check, scenarios
from punctual.consumer import Consumer
from punctual.stack import Stack
from tests.command.conftest import NOW, actions_for
from tests.template.iam import action_of
from tools.cloudformation import ACCOUNT, REGION, Template

pytestmark = pytest.mark.slow
PATIENT = ("--max-lateness", "3s")


class Simulated:
    """Ingest, Deliver, and the Clock in a few lines, with faults by payload: `delays` in seconds, and `changes` of what
    is published."""

    def __init__(self, stack: Any) -> None:
        self._stack, self._sns, self._rules = stack, boto3.client("sns", REGION), Rules(stack.input_topic, ("*",))
        self._waiting: dict[str, threading.Timer] = {}
        self.delays: dict[str, float] = {}
        self.changes: dict[str, Callable[[dict], list[dict]]] = {}
        self.is_silent, self.clock, self.swept_at = False, "ENABLED", datetime.now(UTC)

    def publish(self, call: Callable, parameters: dict) -> dict:
        """Answer Publish, and take at once what was published to the input topic."""
        answer = call()
        if parameters["TopicArn"] == self._stack.input_topic and not self.is_silent:
            try:
                self._take(parameters["Message"], answer["MessageId"])
            except Refused as refused:
                self._report(refused.failure_topic, refused.error, refused.id, refused.event)
        return answer

    def latest_sweep(self, *_: Any) -> dict:
        return {"Item": {"started_ms": {"N": str(self.swept_at.timestamp() * 1000)}}} if self.swept_at else {}

    def stop(self) -> None:
        for timer in self._waiting.values():
            timer.cancel()

    def _take(self, text: str, message_id: str) -> None:
        now = datetime.now(UTC)
        event = parse(text, message_id, now, self._rules)
        if earlier := self._waiting.get(event.id):
            earlier.cancel()
        if isinstance(event, Event):
            payload = json.loads(text)["payload"]
            seconds = (max(event.due, now) - now).total_seconds() + self.delays.get(payload, 0)
            self._waiting[event.id] = threading.Timer(max(0, seconds), self._deliver, [payload, event, text])
            self._waiting[event.id].start()

    def _deliver(self, payload: str, event: Event, text: str) -> None:
        change = self.changes.get(payload, lambda arguments: [arguments])
        for arguments in change(json.loads(event.input)["publish"]):
            try:
                self._sns.publish(**arguments)
            except self._sns.exceptions.NotFoundException as error:
                message = json.loads(text)
                self._report(message["failure_topic"], f"not delivered: {error}", event.id, message)

    def _report(self, topic: str | None, error: str, id: str, event: Any) -> None:
        report = json.dumps({"error": error, "id": id, "event": event})
        self._sns.publish(TopicArn=topic or self._stack.outputs["FailureTopicArn"], Message=report)


@pytest.fixture
def simulated(stack, monkeypatch):
    """The stack called `punctual`, at work; an event is near if it is due in a second, and far in three."""
    soon = scenarios.scenarios(horizon_seconds=0, batching_seconds=-4)
    monkeypatch.setattr(check, "scenarios", lambda *_: soon)
    monkeypatch.setattr(scenarios, "WATCH_AFTER_LAST_DUE", timedelta(seconds=0.3))
    monkeypatch.setattr(scenarios, "PATIENCE", timedelta())
    monkeypatch.setattr(scenarios, "WATCH_INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr("punctual.consumer.CONNECT_INTERVAL_SECONDS", 0.5)

    failure_topic = stack.sns.create_topic(Name="failures")["TopicArn"]
    stack.outputs |= {"FailureTopicArn": failure_topic, "ParkedTableName": "Parked"}
    stack.physical_ids["Clock"] = "Clock-1"

    def receive(call: Callable, parameters: dict) -> dict:
        time.sleep(0.02)  # moto answers at once.
        return call({**parameters, "WaitTimeSeconds": 0})

    simulated = Simulated(stack)
    stack.answers |= {
        "GetSchedule": lambda *_: {"State": simulated.clock},
        "GetItem": simulated.latest_sweep,
        "ReceiveMessage": receive,
        "Publish": simulated.publish,
    }
    yield simulated
    simulated.stop()


@pytest.fixture
def existing(stack, simulated):
    """The names of all topics, queues, and subscriptions, now; whatever a test does must leave it as it was."""

    def names() -> tuple[list, ...]:
        return (
            [topic["TopicArn"] for topic in stack.sns.list_topics()["Topics"]],
            stack.sqs.list_queues()["QueueUrls"],
            [subscription["SubscriptionArn"] for subscription in stack.sns.list_subscriptions()["Subscriptions"]],
        )

    before = names()
    yield names
    assert names() == before


def wrong(result: Any) -> list[str]:
    return [line.removeprefix("WRONG  ") for line in result.output.splitlines() if line.startswith("WRONG")]


def test_a_stack_that_works_passes(punctual, simulated, existing, calls):
    """The names that it uses are told first, and meet no one else's; progress is told on stderr, a line per change
    where it is no terminal. A second delivery to a standard topic is within the promise: it is shown."""
    simulated.changes = {"on a whole second": lambda arguments: [arguments] * 2}
    result = punctual("check", *PATIENT)
    assert (result.code, wrong(result)) == (0, []), result
    assert "All 16 ended as they should: none early" in result.output and "delivered, 2 times" in result.output
    assert "Creating topics and queues ..." in result.error
    assert " s  due later: parked first  waiting" in result.error and "waiting" not in result.output
    begin = re.match("The names of the check's topics, queues, and ids begin with (punctual-check-.{8})", result.error)
    named = [fields.get("Name") or fields["QueueName"] for call, fields in calls if call.startswith("Create")]
    assert len(named) == 5 and all(name.startswith(begin[1]) for name in named)
    assert any(f'"id": "{begin[1]}-order-4711"' in fields.get("Message", "") for _, fields in calls)


def test_as_json_and_with_what_the_policy_for_operators_allows(punctual, simulated, existing, monkeypatch):
    """Each event's end and lateness are told. This test's own stack acts in other threads, which are not counted."""
    simulated.changes = {"with an id": lambda _: []}
    call, main, asked = BaseClient._make_api_call, threading.get_ident(), set()

    def note(client: BaseClient, operation: str, parameters: dict) -> dict:
        if threading.get_ident() == main or "punctual-check-" in parameters.get("QueueUrl", ""):
            asked.add(action_of(client.meta.service_model.signing_name, operation))
        return call(client, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", note)
    result = punctual("--json", "check", *PATIENT)
    answer = json.loads(result.output)
    assert (result.code, answer["passed"], len(answer["events"])) == (1, False, 16), result.output
    for event in answer["events"]:
        is_lost = event["name"] == "with an id"
        assert event["problems"] == ["delivered 0 times instead of 1"] * is_lost
        assert event["outcome"] == ("missing" if is_lost else event["expected"])
        is_delivered = event["outcome"] == "delivered"
        assert isinstance(event["late_ms_by_sns"], int) is isinstance(event["late_ms_by_sqs"], int) is is_delivered
        assert (event["error"] is None) is (event["outcome"] not in ("reported", "refused"))
    assert asked == actions_for("check")


FAULTS = {
    "due later: parked first": "delivered 0 times instead of 1",
    "with an id": "delivered 0 times instead of 1",
    "on a whole second": r"\d+ ms early",
    "at .25 of a second": r"[3-9]\.... s late",
    "to a FIFO topic": "delivered 2 times instead of 1",
    "canceled while parked": "delivered 1 times instead of 0",
    "at .75 of a second": "reported 1 times instead of 0: not delivered: .*",
}


def test_an_event_that_does_not_end_as_it_should_is_named(punctual, simulated, existing, calls):
    """In one sentence, with exit code 1. What is missing is canceled at the end: without its topics it would be
    reported on the stack's own failure topic some time later."""
    simulated.delays = {"on a whole second": -5, "at .25 of a second": 3.5, "canceled while parked": -5}
    simulated.changes = {
        "due later: parked first": lambda _: [],
        "with an id": lambda _: [],
        "to a FIFO topic": lambda arguments: [arguments, {**arguments, "MessageDeduplicationId": "another"}],
        "at .75 of a second": lambda arguments: [{**arguments, "TopicArn": f"{arguments['TopicArn']}-gone"}],
    }
    result = punctual("check", *PATIENT)
    assert result.code == 1
    assert result.error.endswith("punctual: 7 of 16 events did not end as they should\n")
    found = wrong(result)
    for event, problem in FAULTS.items():
        assert any(re.fullmatch(f"{event}: {problem}", sentence) for sentence in found), (event, found)
    assert {sentence.partition(": ")[0] for sentence in found} == {event.partition(": ")[0] for event in FAULTS}
    canceled = [fields["Message"] for _, fields in calls if '{"cancel": ' in fields.get("Message", "")]
    assert len(canceled) == 5  # two that every check cancels, and three that are not delivered
    assert canceled[-1].endswith('order-4712"}')


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("is_silent", True, "The stack has not answered within 0.5 s"),
        ("clock", "DISABLED", "The stack's schedule Clock (Clock-1) is disabled, so parked events are not delivered"),
        ("swept_at", None, "No sweep has started within 0 s, none ever did"),
        ("swept_at", NOW - timedelta(days=400), "No sweep has started within 0 s, the last one started at 20"),
    ],
)
def test_a_stack_that_is_down_is_sent_no_events(
    punctual, simulated, existing, calls, monkeypatch, name, value, sentence
):
    """The check starts no sweep of its own, which would hide that none starts."""
    monkeypatch.setattr(check, "WAKE_SECONDS", 0.5)
    monkeypatch.setattr(check, "SWEEP_WAIT_SECONDS", 0)
    setattr(simulated, name, value)
    result = punctual("check")
    assert (result.code, result.output) == (1, "") and sentence in result.error.splitlines()[-1]
    assert not any("order-4712" in parameters.get("Message", "") for _, parameters in calls)
    assert ("CreateTopic" in dict(calls)) is (name != "clock")


@pytest.mark.parametrize(("window", "seconds"), [("0", 0), ("1", 20)])
def test_a_batching_window_makes_the_check_patient(stack, window, seconds):
    """Lambda may then collect messages for 20 s, whatever the window."""
    stack.parameters["IngestBatchingSeconds"] = window
    assert check.batching_of(Stack("punctual")) == timedelta(seconds=seconds)
    assert scenarios.scenarios(8, seconds)[0].due == 5 + seconds


def test_topics_that_the_stack_may_not_publish_to_are_not_created(punctual, simulated, existing, stack):
    """The sentence says what to allow; another prefix may be allowed already, if topics can have it."""
    for prefix in ("", "a b", "x" * 41, "orders.fifo"):
        result = punctual("check", "--topic-prefix", prefix)
        assert result.code == 2 and "must be 1 to 40 characters" in result.error
    stack.parameters["TargetTopicArns"] = "arn:aws:sns:eu-central-1:123456789012:orders-*"
    result = punctual("check")
    assert (result.code, result.output) == (2, "")
    assert (
        "allow arn:aws:sns:eu-central-1:123456789012:punctual-check-* in its parameter TargetTopicArns" in result.error
    )
    assert len(result.error.splitlines()) == 1
    simulated.clock = "DISABLED"  # The next thing that it looks at.
    assert "is disabled" in punctual("check", "--topic-prefix", "orders-x").error


@pytest.mark.parametrize("operation", ["CreateQueue", "Subscribe", "GetSchedule", "Publish"])
def test_nothing_is_left_after_an_error(punctual, simulated, existing, stack, operation):
    """Whatever was created before it is removed; the sentence is that of AWS."""
    stack.refuse(operation, "AccessDenied", "not yours")
    result = punctual("check")
    assert (result.code, result.error.splitlines()[-1]) == (1, "punctual: permission denied: not yours")
    stack.errors.clear()


@pytest.mark.parametrize(
    ("operation", "number", "code"),
    [  # DeleteQueue is the first that is removed, after a whole check.
        *((operation, signal.SIGINT, 130) for operation in ("CreateTopic", "CreateQueue", "GetItem", "DeleteQueue")),
        ("CreateTopic", signal.SIGTERM, 143),
        ("CreateTopic", signal.SIGHUP, 129),
    ],
)
def test_nothing_is_left_after_an_interruption(punctual, simulated, existing, stack, operation, number, code):
    """By Ctrl-C, by SIGTERM, which is how a CI job is canceled, or by SIGHUP, when a terminal is closed; also while
    topics are being created or removed."""
    known, interrupted = stack.answers.get(operation, lambda call, _: call()), []

    def interrupt(call: Callable, parameters: dict) -> dict:
        result = known(call, parameters)
        if not interrupted:
            interrupted.append(operation)
            os.kill(os.getpid(), number)
        return result

    stack.answers[operation] = interrupt
    assert punctual("check").code == code


def test_what_can_not_be_removed_is_said_and_the_rest_is_removed(punctual, simulated, stack):
    """With the prefix to look for, and exit code 1 though the stack works."""
    queues = len(stack.sqs.list_queues()["QueueUrls"])
    stack.refuse("DeleteTopic", "AccessDenied", "not yours")
    result = punctual("check", *PATIENT)
    assert result.code == 1
    assert "Remove the topics and queues whose names begin with punctual-check-" in result.error.splitlines()[-1]
    assert len(stack.sqs.list_queues()["QueueUrls"]) == queues


def test_the_clock_of_this_machine_does_not_matter(punctual, simulated, existing, monkeypatch):
    """It is 40 seconds behind that of AWS: the check goes by that of SNS, and says so."""

    class Slow(datetime):
        @classmethod
        def now(cls, zone=None):
            return super().now(zone) - timedelta(seconds=40)

    monkeypatch.setattr(scenarios, "datetime", Slow)
    monkeypatch.setattr("punctual.consumer.datetime", Slow)
    result = punctual("check", *PATIENT)
    assert re.search(r"The clock of SNS is \+(39|40)\.. s from this machine's", result.error)
    assert result.code == 0, result.output


def test_the_events_are_near_and_far_for_the_stacks_interval():
    """The horizon, by which an event is near or far, follows from the interval as in the template."""
    template = Template()
    horizons = template.text["Mappings"]["Horizon"]
    for interval, horizon in horizons.items():
        assert check.LEAD_SECONDS + int(interval) == int(horizon["Seconds"])
        dues = {scenario.name: scenario.due for scenario in scenarios.scenarios(int(horizon["Seconds"]))}
        assert dues["on a whole second"] < int(horizon["Seconds"]) < dues["due later: parked first"]


# --- Its queues, which the demo and the benchmark use, too ------------------------------------------------------------


@pytest.fixture
def consumer(stack):
    """Of the topics whose names begin with `ord`."""
    with Consumer(Stack("punctual"), "ord") as consumer:
        yield consumer


def test_the_queue_is_open_to_its_own_topics_alone(stack, consumer):
    """SNS delivers nothing to a queue whose policy does not let it, and a stranger's topic must not fill it. It
    delivers a FIFO topic in order to a FIFO queue alone."""
    assert consumer.topic("orders", fifo=True).endswith(":orders.fifo")
    url = stack.sqs.get_queue_url(QueueName="ord.fifo")["QueueUrl"]
    attributes = stack.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["FifoQueue"] == "true"
    [statement] = json.loads(attributes["Policy"])["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": f"arn:aws:sqs:{REGION}:{ACCOUNT}:ord.fifo",
        "Condition": {"ArnLike": {"aws:SourceArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:ord*"}},
    }


def test_a_topic_from_which_nothing_arrives_is_named(stack, consumer):
    stack.answers["ReceiveMessage"] = lambda *_: {}
    topic = consumer.topic("orders")
    with pytest.raises(TimeoutError, match=f"nothing that is published to {topic} arrives in the queue ord"):
        consumer.connect(seconds=-1)


def test_a_failed_poll_is_followed_by_another(stack, consumer):
    """After an emulator has restarted, or a call was throttled."""
    stack.refuse("ReceiveMessage", "ThrottlingException")
    stack.sns.publish(TopicArn=consumer.topic("orders"), Message="text")
    while "ReceiveMessage" not in dict(stack.calls):
        time.sleep(0.01)
    stack.errors.clear()
    assert consumer.wait_until(bool, seconds=10)
    assert consumer.arrivals[0].message == "text"
