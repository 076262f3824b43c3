"""Each script in examples/ does what it says, run as a user runs it against a deployed stack."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.stack.logs import wait_for_lines
from tools.local import ROOT, Arrival, Consumer, LocalStack

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
WITH_USAGE = [name for name in SCRIPTS if name not in ("deduplicating_consumer.py", "restore.py")]

# Seconds from the start of each script to the due time of its (first) event.
SCHEDULE, CANCELED, REPLACED, FIFO = 4, 10, 6, 6
# How many of these events are delivered.
DELIVERED = 5
# On a busy machine an event may be this late. An unwanted delivery gets this long after the last due time to arrive.
MAX_LATENESS, SETTLING = timedelta(seconds=5), timedelta(seconds=2)


class Examples:
    """Runs the examples in the environment that examples/README.md tells the user to export."""

    def __init__(self, stack: LocalStack) -> None:
        users_own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._environment = users_own | stack.environment

    def run(self, name: str, *arguments: str, **environment: str) -> str:
        """What the example printed."""
        result = subprocess.run(
            [sys.executable, str(EXAMPLES / name), *arguments],
            env=self._environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout


@dataclass(frozen=True)
class Scheduled:
    """An event that an example printed."""

    id: str
    due: datetime


def scheduled(printed: str) -> list[Scheduled]:
    found = re.findall(r"^Scheduled event (\S+) .*?for ([^\s,]+)", printed, re.MULTILINE)
    return [Scheduled(id, datetime.fromisoformat(due)) for id, due in found]


def seconds_until(moment: datetime) -> float:
    return max(0, (moment - datetime.now(UTC)).total_seconds())


class Played:
    """The scripts that publish to the input topic, run at the same time, and what arrived."""

    def __init__(self, stack: LocalStack, consumer: Consumer) -> None:
        self.stack, self.consumer = stack, consumer
        self.topics = {name: consumer.topic(name) for name in ("schedule", "cancel", "replace")}
        self.topics["fifo"] = consumer.topic("fifo", fifo=True)
        self._examples, self._input_topic = Examples(stack), stack.outputs["InputTopicArn"]
        with ThreadPoolExecutor() as threads:
            printed = {
                "schedule": threads.submit(self._run, "schedule", SCHEDULE),
                "cancel": threads.submit(self._schedule_and_cancel),
                "replace": threads.submit(self._run, "replace", REPLACED),
                "fifo": threads.submit(self._run, "fifo", FIFO),
            }
        self.printed = {name: output.result() for name, output in printed.items()}
        self.scheduled = {name: scheduled(output) for name, output in self.printed.items()}
        last_due = max(event.due for events in self.scheduled.values() for event in events)
        consumer.wait_until(lambda arrivals: len(arrivals) >= DELIVERED, seconds_until(last_due + MAX_LATENESS))
        time.sleep(seconds_until(last_due + SETTLING))
        self._arrivals = consumer.arrivals

    def schedule(self, target: str) -> str:
        """Schedule an event for another target. Returns what the example printed."""
        return self._examples.run("schedule.py", self._input_topic, target, str(SCHEDULE))

    def _run(self, name: str, seconds: int) -> str:
        return self._examples.run(f"{name}.py", self._input_topic, self.topics[name], str(seconds))

    def _schedule_and_cancel(self) -> str:
        printed = self._examples.run("schedule.py", self._input_topic, self.topics["cancel"], str(CANCELED))
        [event] = scheduled(printed)
        return printed + self._examples.run("cancel.py", self._input_topic, event.id)

    def arrivals(self, name: str) -> list[Arrival]:
        return [arrival for arrival in self._arrivals if arrival.topic == self.topics[name]]

    def published(self, event_id: str) -> dict[str, Any]:
        """The arguments with which Deliver publishes an event."""
        executions = self.stack.executions(self.stack.outputs["DeliverArn"])
        [arn] = [execution["executionArn"] for execution in executions if execution["name"] == event_id]
        description = self.stack.client("stepfunctions").describe_execution(executionArn=arn)
        return json.loads(description["input"])["publish"]


@pytest.fixture(scope="module")
def played(other: LocalStack) -> Iterator[Played]:
    # Not the default stack: test_stack.py expects only its own ids in that one's register.
    with Consumer(other) as consumer:
        yield Played(other, consumer)


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_begins_with_its_path_by_which_documents_quote_it(name: str):
    assert (EXAMPLES / name).read_text().startswith(f'# examples/{name}\n"""')


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_needs_nothing_but_boto3(name: str):
    tree = ast.parse((EXAMPLES / name).read_text())
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imports - sys.stdlib_module_names == {"boto3"}


def test_the_readme_lists_every_example():
    table = re.findall(r"^\| \[`(.+?)`\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(table) == sorted([*SCRIPTS, "publisher.mjs", "cdk/", "receiver/", "terraform/"])


@pytest.mark.parametrize("name", WITH_USAGE)
def test_without_arguments_an_example_prints_its_usage(name: str):
    result = subprocess.run([sys.executable, str(EXAMPLES / name)], capture_output=True, text=True)
    assert result.returncode == 1
    assert f"Usage: python examples/{name} INPUT_TOPIC_ARN" in result.stderr


def test_a_scheduled_event_arrives(played: Played):
    [event], [arrival] = played.scheduled["schedule"], played.arrivals("schedule")
    assert json.loads(arrival.message) == {"order": 4711, "action": "remind"}
    assert event.due <= arrival.sent_at < event.due + MAX_LATENESS


def test_a_scheduled_event_arrives_with_its_attributes(played: Played):
    [event], [arrival] = played.scheduled["schedule"], played.arrivals("schedule")
    date = f"{event.due:%FT%TZ}"
    assert arrival.attributes == {"kind": "reminder", "scheduler-id": event.id, "scheduler-date": date}


def test_a_canceled_event_does_not_arrive(played: Played):
    [event] = played.scheduled["cancel"]
    assert f"Published the cancel of event {event.id} as message " in played.printed["cancel"]
    assert played.arrivals("cancel") == []


def test_only_the_replacement_arrives(played: Played):
    _, replacement = played.scheduled["replace"]
    [arrival] = played.arrivals("replace")
    assert arrival.message == "pay by Monday"
    assert replacement.due <= arrival.sent_at < replacement.due + MAX_LATENESS


def test_events_arrive_on_a_fifo_topic_in_the_order_of_their_dates(played: Played):
    assert [arrival.message for arrival in played.arrivals("fifo")] == ["packed", "shipped", "delivered"]


def test_events_on_a_fifo_topic_have_the_message_group_of_the_example(played: Played):
    groups = [played.published(event.id)["MessageGroupId"] for event in played.scheduled["fifo"]]
    assert groups == ["order-4711"] * 3


def test_a_repeat_on_a_fifo_topic_is_dropped(played: Played):
    repeat = played.published(played.scheduled["fifo"][0].id)
    next_in_the_group = repeat | {"Message": "next", "MessageDeduplicationId": "next"}
    sns = played.stack.client("sns")
    sns.publish(**repeat)
    sns.publish(**next_in_the_group)
    assert played.consumer.wait_until(lambda arrivals: any(a.message == "next" for a in arrivals), seconds=15)
    arrived = [arrival.message for arrival in played.consumer.arrivals if arrival.topic == played.topics["fifo"]]
    assert arrived == [arrival.message for arrival in played.arrivals("fifo")] + ["next"]


class Deployed:
    """The deduplicating consumer as a function with its own role and table, subscribed to a topic."""

    NAME = "deduplicating-consumer"

    def __init__(self, stack: LocalStack) -> None:
        self._sns, self._dynamodb, self.logs = (stack.client(service) for service in ("sns", "dynamodb", "logs"))
        self._create_table()
        self.topic = self._sns.create_topic(Name=self.NAME)["TopicArn"]
        functions = stack.client("lambda")
        function = functions.create_function(
            FunctionName=self.NAME,
            Runtime="python3.13",
            Handler="deduplicating_consumer.handler",
            Role=self._create_role(stack),
            Code={"ZipFile": self._package()},
            Environment={"Variables": {"SEEN_TABLE": self.NAME}},
            Timeout=15,
        )["FunctionArn"]
        functions.add_permission(
            FunctionName=self.NAME,
            StatementId="sns",
            Action="lambda:InvokeFunction",
            Principal="sns.amazonaws.com",
            SourceArn=self.topic,
        )
        self._sns.subscribe(TopicArn=self.topic, Protocol="lambda", Endpoint=function)

    def _create_table(self) -> None:
        self._dynamodb.create_table(
            TableName=self.NAME,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self._dynamodb.get_waiter("table_exists").wait(TableName=self.NAME)

    def _create_role(self, stack: LocalStack) -> str:
        """A role with the permissions that the example names, and with permission to log."""
        iam = stack.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        role = iam.create_role(RoleName=self.NAME, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        table = self._dynamodb.describe_table(TableName=self.NAME)["Table"]["TableArn"]
        permissions = policy(
            {"Effect": "Allow", "Action": ["dynamodb:PutItem", "dynamodb:DeleteItem"], "Resource": table},
            {"Effect": "Allow", "Action": "logs:*", "Resource": "*"},
        )
        iam.put_role_policy(RoleName=self.NAME, PolicyName="consumer", PolicyDocument=permissions)
        return role

    @staticmethod
    def _package() -> bytes:
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.write(EXAMPLES / "deduplicating_consumer.py", "deduplicating_consumer.py")
        return package.getvalue()

    def deliver(self, arguments: dict[str, Any], **other: str) -> None:
        self._sns.publish(**arguments | other | {"TopicArn": self.topic})

    def wait_for(self, text: str, count: int = 1) -> list[str]:
        """The lines of the log with this text, as soon as there are `count`."""
        lines = wait_for_lines(
            self.logs, f"/aws/lambda/{self.NAME}", lambda lines: sum(text in line for line in lines) >= count
        )
        return [line for line in lines if text in line]

    def remembered(self) -> set[str]:
        items = self._dynamodb.scan(TableName=self.NAME, ConsistentRead=True)["Items"]
        return {item["id"]["S"] for item in items}


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture(scope="module")
def deployed(other: LocalStack) -> Deployed:
    return Deployed(other)


def test_the_deduplicating_consumer_ignores_a_repeat(played: Played, deployed: Deployed):
    """Punctual delivers the event; the test publishes the repeat, with the arguments of that delivery."""
    [event] = scheduled(played.schedule(deployed.topic))
    key = f"{event.id} {event.due:%FT%TZ}"
    assert len(deployed.wait_for("Reminded ")) == 1
    deployed.deliver(played.published(event.id))
    assert deployed.wait_for("Ignored a repeat of ") == [f"Ignored a repeat of {key}"]
    assert deployed.wait_for("Reminded ") == ["Reminded the customer of order 4711"]
    assert key in deployed.remembered()


def test_the_deduplicating_consumer_does_not_ignore_the_repeat_of_a_failed_delivery(played: Played, deployed: Deployed):
    before = deployed.remembered()
    arguments = played.published(played.scheduled["fifo"][0].id)
    standard = {name: arguments[name] for name in ("Message", "MessageAttributes")}
    for attempt in (1, 2):
        deployed.deliver(standard, Message="not JSON, so act_on fails")
        assert len(deployed.wait_for("JSONDecodeError: ", count=attempt)) == attempt
    assert deployed.remembered() == before


def test_the_deduplicating_consumer_runs_as_a_script(other: LocalStack, deployed: Deployed):
    printed = Examples(other).run("deduplicating_consumer.py", SEEN_TABLE=Deployed.NAME).splitlines()
    assert printed[0] == "Reminded the customer of order 4711"
    assert printed[1].startswith("Ignored a repeat of ")
    assert len(printed) == 2
