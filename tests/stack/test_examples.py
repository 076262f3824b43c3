"""Each program in examples/ does what it says, run as a user runs it against a deployed stack."""

import ast
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.stack.conftest import MAX_LATENESS, users_environment
from tools.local import ROOT, Consumer, LocalStack

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
PUBLISHERS = ["cancel.py", "fifo.py", "publisher.mjs", "replace.py", "schedule.py"]

# The example that publishes to each topic, and in how many seconds its (first) event is due.
PLAYED = {
    "schedule": ("schedule.py", 4),
    "publisher": ("publisher.mjs", 4),
    "cancel": ("schedule.py", 10),
    "replace": ("replace.py", 6),
    "fifo": ("fifo.py", 6),
}
# How many of these events are delivered.
DELIVERED = 6
# An unwanted delivery gets this long after the last due time to arrive.
SETTLING = timedelta(seconds=2)


def run(stack: LocalStack, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """An example that a user has run. Node.js has names of its own for the Region and the certificate."""
    program = "node" if name.endswith(".mjs") else sys.executable
    nodes_own = {"AWS_REGION": stack.region, "NODE_EXTRA_CA_CERTS": str(stack.ca_bundle)}
    environment = users_environment(stack) | nodes_own | environment
    command = [program, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def scheduled(printed: str) -> list[tuple[str, datetime]]:
    """The ids and due times of the events that an example has printed."""
    found = re.findall(r"^Scheduled event (\S+) .*?for ([^\s,]+)", printed, re.MULTILINE)
    return [(id, datetime.fromisoformat(due)) for id, due in found]


def seconds_until(moment: datetime) -> float:
    return max(0, (moment - datetime.now(UTC)).total_seconds())


class Played:
    """The examples that publish to the input topic, run at the same time, and what arrived; all by topic."""

    def __init__(self, stack: LocalStack, consumer: Consumer) -> None:
        self._stack, self._topics = stack, {name: consumer.topic(name, fifo=name == "fifo") for name in PLAYED}
        with ThreadPoolExecutor() as threads:
            self.printed = dict(zip(PLAYED, threads.map(self._play, PLAYED), strict=True))
        self.scheduled = {name: scheduled(printed) for name, printed in self.printed.items()}
        last_due = max(due for events in self.scheduled.values() for _, due in events)
        consumer.wait_until(lambda arrivals: len(arrivals) >= DELIVERED, seconds_until(last_due + MAX_LATENESS))
        time.sleep(seconds_until(last_due + SETTLING))
        self.arrivals = {name: [a for a in consumer.arrivals if a.topic == arn] for name, arn in self._topics.items()}

    def _play(self, name: str) -> str:
        script, seconds = PLAYED[name]
        printed = self._run(script, self._topics[name], str(seconds))
        if name == "cancel":
            [(id, _)] = scheduled(printed)
            printed += self._run("cancel.py", id)
        return printed

    def _run(self, script: str, *arguments: str) -> str:
        done = run(self._stack, script, self._stack.outputs["InputTopicArn"], *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def played(other: LocalStack) -> Iterator[Played]:
    # Not the default stack: test_stack.py expects only its own ids in that one's register.
    with Consumer(other) as consumer:
        yield Played(other, consumer)


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_needs_nothing_but_boto3(name: str):
    tree = ast.parse((EXAMPLES / name).read_text())
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imports - sys.stdlib_module_names == {"boto3"}


def test_the_readme_lists_every_example():
    table = re.findall(r"^\| \[`(.+?)`\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(table) == sorted([*SCRIPTS, "publisher.mjs", "cdk/", "receiver/", "terraform/"])


@pytest.mark.parametrize("name", PUBLISHERS)
def test_without_arguments_an_example_prints_its_usage(other: LocalStack, name: str):
    done = run(other, name)
    program = "node" if name.endswith(".mjs") else "python"
    assert done.returncode == 1
    assert f"Usage: {program} examples/{name} INPUT_TOPIC_ARN" in done.stderr


def test_a_scheduled_event_arrives_with_its_attributes(played: Played):
    [(id, due)], [arrival] = played.scheduled["schedule"], played.arrivals["schedule"]
    assert json.loads(arrival.message) == {"order": 4711, "action": "remind"}
    assert due <= arrival.sent_at < due + MAX_LATENESS
    assert arrival.attributes == {"kind": "reminder", "scheduler-id": id, "scheduler-date": f"{due:%FT%TZ}"}


def test_an_event_from_javascript_arrives(played: Played):
    [(id, due)], [arrival] = played.scheduled["publisher"], played.arrivals["publisher"]
    assert arrival.message == '{"order":4711}' and arrival.attributes["scheduler-id"] == id
    assert due <= arrival.sent_at < due + MAX_LATENESS


def test_a_canceled_event_does_not_arrive(played: Played):
    [(id, _)] = played.scheduled["cancel"]
    assert f"Published the cancel of event {id} as message " in played.printed["cancel"]
    assert played.arrivals["cancel"] == []


def test_only_the_replacement_arrives(played: Played):
    [_, (_, due)], [arrival] = played.scheduled["replace"], played.arrivals["replace"]
    assert arrival.message == "pay by Monday"
    assert due <= arrival.sent_at < due + MAX_LATENESS


def test_events_arrive_on_a_fifo_topic_in_the_order_of_their_dates(played: Played):
    assert [arrival.message for arrival in played.arrivals["fifo"]] == ["packed", "shipped", "delivered"]


def test_the_deduplicating_consumer_ignores_a_repeat_but_not_that_of_a_failed_delivery(other: LocalStack):
    dynamodb, program = other.client("dynamodb"), (EXAMPLES / "deduplicating_consumer.py").read_text()
    dynamodb.create_table(
        TableName="seen",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    failing, count = re.subn(r'\{"order": 4711\}', "not JSON, so act_on fails", program)
    assert count
    environment = users_environment(other) | {"SEEN_TABLE": "seen"}
    result = subprocess.run([sys.executable, "-c", failing], env=environment, capture_output=True)
    assert b"JSONDecodeError" in result.stderr
    assert dynamodb.scan(TableName="seen", ConsistentRead=True)["Items"] == []
    printed = run(other, "deduplicating_consumer.py", SEEN_TABLE="seen").stdout.splitlines()
    assert printed[0] == "Reminded the customer of order 4711"
    assert printed[1].startswith("Ignored a repeat of ")
    assert len(printed) == 2
    [seen] = dynamodb.scan(TableName="seen", ConsistentRead=True)["Items"]
    assert "2026-12-24" in seen["id"]["S"]
