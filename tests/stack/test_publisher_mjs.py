"""examples/publisher.mjs schedules an event with AWS's SDK for JavaScript, run as a user runs it."""

import os
import re
import subprocess
from datetime import datetime, timedelta

from tools.local import ROOT, Consumer, LocalStack

MAX_LATENESS = timedelta(seconds=5)


def run(stack: LocalStack, *arguments: str) -> subprocess.CompletedProcess:
    users_own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = (
        users_own | stack.environment | {"AWS_REGION": stack.region, "NODE_EXTRA_CA_CERTS": str(stack.ca_bundle)}
    )
    command = ["node", str(ROOT / "examples" / "publisher.mjs"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_without_arguments_it_prints_its_usage(other: LocalStack):
    done = run(other)
    assert done.returncode == 1 and "Usage: node examples/publisher.mjs INPUT_TOPIC_ARN" in done.stderr


def test_its_event_arrives(other: LocalStack):
    with Consumer(other) as consumer:
        done = run(other, other.outputs["InputTopicArn"], consumer.topic("javascript"), "4")
        assert done.returncode == 0, done.stderr
        id, date = re.fullmatch(r"Scheduled event (\S+) for (\S+)\n", done.stdout).groups()
        assert consumer.wait_until(lambda arrivals: arrivals, seconds=4 + MAX_LATENESS.total_seconds())
        [arrival] = consumer.arrivals
        due = datetime.fromisoformat(date)
        assert arrival.message == '{"order":4711}' and arrival.attributes["scheduler-id"] == id
        assert due <= arrival.sent_at < due + MAX_LATENESS
