"""`schedule`: checked by the rules of Ingest before anything is published."""

import json

import pytest

TARGET = "arn:aws:sns:eu-central-1:123456789012:orders"
LATER = ["--at", "2026-12-24T18:00Z", "--payload", "order-4711", "--user", "team"]


def test_schedule_publishes_the_event_and_prints_its_id(punctual, stack):
    """An id of its own, if it has no other."""
    result = punctual("schedule", "--target", TARGET, *LATER)
    assert result.code == 0, result.error
    id = result.output.strip()
    assert len(id) == 36
    [message] = stack.received()
    assert json.loads(message) == {
        "id": id,
        "date": "2026-12-24T18:00Z",
        "target": TARGET,
        "payload": "order-4711",
        "user": "team",
    }


def test_every_option_becomes_a_field(punctual, stack, tmp_path):
    """A topic may be given by its name in the stack's account and Region."""
    payload = tmp_path / "payload"
    payload.write_text("größer\n", encoding="utf-8")
    result = punctual(
        "--json",
        "schedule",
        *("--target", "orders.fifo", "--at", "2026-12-24T18:00", "--timezone", "Europe/Berlin"),
        *("--payload-file", str(payload), "--user", "team", "--id", "order-4711", "--subject", "Order"),
        *("--attribute", "color=red", "--attribute", "size=a=b", "--group", "orders", "--failure-topic", "failed"),
    )
    assert json.loads(result.output) == {"id": "order-4711"}
    [message] = stack.received()
    assert json.loads(message) == {
        "date": "2026-12-24T18:00",
        "timezone": "Europe/Berlin",
        "target": f"{TARGET}.fifo",
        "payload": "größer\n",
        "user": "team",
        "id": "order-4711",
        "subject": "Order",
        "attributes": {"color": "red", "size": "a=b"},
        "message_group_id": "orders",
        "failure_topic": TARGET.replace("orders", "failed"),
    }


@pytest.mark.parametrize(
    ("duration", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259200), ("1h30m", 5400), ("0.5s", 0.5)]
)
def test_in_is_a_delay_in_seconds(punctual, stack, duration, seconds):
    """Counted by the stack from the time at which SNS accepts the message."""
    punctual("schedule", "--target", TARGET, "--in", duration, "--payload", "x", "--user", "team")
    assert json.loads(stack.received()[0])["delay"] == seconds


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*LATER], "Missing option '--target'"),
        (["--target", TARGET, *LATER, "--in", "5s"], "Exactly one of --at and --in says when to deliver"),
        (["--target", TARGET, "--payload", "x"], "Exactly one of --at and --in says when to deliver"),
        (["--target", TARGET, "--in", "5s"], "Exactly one of --payload and --payload-file says what to deliver"),
        (["--target", TARGET, "--in", "5 minutes", "--payload", "x"], "must be a number and a unit"),
        (["--target", TARGET, "--in", "99999999999d", "--payload", "x"], "is too long"),
        (["--target", TARGET, "--payload-file", "/no/such/file", "--in", "5s"], "No such file"),
        (["--target", TARGET, *LATER, "--attribute", "color"], "'color' must be NAME=VALUE"),
        (["--target", TARGET, *LATER, "--attribute", "color="], "attributes must not be empty, unlike 'color'"),
        (["--target", TARGET, *LATER, "--id", "a b"], "id must be 1 to 64 characters"),
        (["--target", TARGET, "--in", "5s", "--payload", ""], "payload must not be empty"),
        (["--target", TARGET, "--in", "5s", "--payload", "x"], "user is required"),
        (["--target", TARGET, *LATER, "--timezone", "Europe/Berlin"], "must not have an offset beside timezone"),
        (["--target", "arn:aws:sns:us-east-1:123456789012:x", *LATER], "target must be a topic of this Region"),
        (["--target", "arn:aws:sns:eu-central-1:999999999999:x", *LATER], "target is not a topic that this scheduler"),
    ],
)
def test_wrong_events_are_refused_in_one_sentence_and_not_published(punctual, stack, arguments, sentence):
    """With the sentence that Ingest would report, and exit code 2."""
    result = punctual("schedule", *arguments)
    assert result.code == 2 and sentence in result.error, result
    assert len(result.error.splitlines()) == 1
    assert stack.received() == []


def test_the_rules_are_those_of_the_stack(punctual, stack):
    """Its parameters say whether a user is required, and which topics are allowed."""
    stack.parameters |= {"EnforceUser": "false", "TargetTopicArns": "arn:aws:sns:eu-central-1:999999999999:*"}
    arguments = ["--in", "5s", "--payload", "x"]
    other = "arn:aws:sns:eu-central-1:999999999999:x"
    assert punctual("schedule", "--target", other, *arguments).code == 0
    assert "target is not a topic" in punctual("schedule", "--target", TARGET, *arguments).error


def test_a_payload_that_is_not_utf_8_is_refused(punctual, stack, tmp_path):
    """An SNS message is text."""
    file = tmp_path / "payload"
    file.write_bytes(b"\xff")
    result = punctual("schedule", "--target", TARGET, "--in", "5s", "--payload-file", str(file))
    assert result.code == 2 and "is not UTF-8 text" in result.error
