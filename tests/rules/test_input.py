"""The input of the execution that an event becomes: complete, and what SNS and Step Functions take."""

import json
import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from punctual_core.event import parse
from punctual_core.limits import INPUT_BYTES, MESSAGE_BYTES

from tests.conftest import FIFO_TARGET, OWN_FAILURE_TOPIC, TARGET, event
from tests.rules.messages import ACCEPTED_AT, MESSAGE_ID, REVISION, RULES, execution_input, read, refusal


@pytest.mark.parametrize("character", ["x", "é", "€", "😀", '"', "\n", "\x7f", "\u2028"], ids=ascii)
def test_the_largest_payload_that_fits_is_accepted_and_one_byte_more_is_not(character):
    """The limit counts the bytes of the whole input: of its envelope and of what JSON escapes, too."""
    envelope = len(read(event(payload="x")).input.encode()) - 1
    size = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    payload = character * ((INPUT_BYTES - envelope) // size)
    payload += "x" * (INPUT_BYTES - envelope - len(payload) * size)
    assert len(read(event(payload=payload)).input.encode()) == INPUT_BYTES == 252 * 1024 < MESSAGE_BYTES
    assert (
        refusal(event(payload=payload + "x")).error
        == f"payload is too large: with its envelope {INPUT_BYTES + 1} bytes, of which {INPUT_BYTES} would fit"
    )


def test_a_fifo_target_gets_the_id_as_group_and_for_deduplication():
    """Without a group each event is a group; SNS discards its repeats."""
    publish = execution_input(event(target=FIFO_TARGET))["publish"]
    assert publish["MessageGroupId"] == publish["MessageDeduplicationId"] == MESSAGE_ID


def test_a_replacement_is_not_a_repeat_to_a_fifo_target():
    """A named event is deduplicated by id and revision, so that SNS does not discard its replacement: at most 101
    characters, of which SNS takes 128."""
    publish = execution_input(event(target=FIFO_TARGET, id="order", message_group_id="orders"))["publish"]
    assert (publish["MessageGroupId"], publish["MessageDeduplicationId"]) == ("orders", f"order-{MESSAGE_ID}")


def test_a_standard_target_takes_a_group_and_no_deduplication():
    """SNS takes a group on a standard topic (it is passed on to fair queues), but no deduplication id."""
    publish = execution_input(event(message_group_id="orders"))["publish"]
    assert publish["MessageGroupId"] == "orders"
    assert "MessageDeduplicationId" not in publish


def test_the_input_is_complete_and_carries_the_payload_once():
    """Deliver reads this and nothing else; the report puts the payload back."""
    assert execution_input(event(id="order", subject="Hello", failure_topic=OWN_FAILURE_TOPIC)) == {
        "id": "order",
        "revision": MESSAGE_ID,
        "lane": "lane-08",
        "due_ms": 1798106400000,
        "cutoff_at": "2026-12-24T09:59:59Z",
        "due_rounded_up_at": "2026-12-24T10:00:00Z",
        "publish": {
            "TopicArn": TARGET,
            "Message": "order-4711",
            "Subject": "Hello",
            "MessageAttributes": {
                "scheduler-id": {"DataType": "String", "StringValue": "order"},
                "scheduler-date": {"DataType": "String", "StringValue": "2026-12-24T10:00:00Z"},
                "scheduler-revision": REVISION,
            },
        },
        "event": {
            "date": "2026-12-24T10:00:00Z",
            "target": TARGET,
            "user": "team@example.com",
            "failure_topic": OWN_FAILURE_TOPIC,
            "id": "order",
            "subject": "Hello",
        },
    }


@pytest.mark.parametrize(
    ("date", "accepted_ms"),
    [
        ("2026-12-24T09:00:00Z", None),
        ("2026-12-24T08:59:59.999999Z", 1798102800000),
        ("0001-01-01T00:00:00Z", 1798102800000),
    ],
)
def test_only_of_a_past_date_the_input_says_when_the_message_was_accepted(date, accepted_ms):
    """From then on it is tried for a day; any other event from when it was due."""
    assert execution_input(event(date)).get("accepted_ms") == accepted_ms


def test_the_time_of_acceptance_is_exact_to_the_millisecond():
    """Whatever a float makes of it."""
    for millisecond in range(1000):
        accepted_at = ACCEPTED_AT.replace(microsecond=1000 * millisecond)
        accepted = parse(json.dumps(event("2000-01-01")), MESSAGE_ID, accepted_at, RULES)
        assert json.loads(accepted.input)["accepted_ms"] == 1798102800000 + millisecond


id_characters = string.ascii_letters + string.digits + "_-"


@given(st.text(id_characters, min_size=1, max_size=64), st.uuids().map(str))
def test_an_executions_name_is_one_that_step_functions_takes(id, message_id):
    """80 characters of those that may be used when CloudWatch Logs are on; it begins with the id."""
    assume(id != message_id)
    named = parse(json.dumps(event(id=id)), message_id, ACCEPTED_AT, RULES)
    assert re.fullmatch(r"[0-9A-Za-z_-]{1,80}", named.execution_name)
    assert named.execution_name.startswith(id)
    assert re.fullmatch(
        r"[0-9A-Za-z_-]{1,80}", parse(json.dumps(event()), message_id, ACCEPTED_AT, RULES).execution_name
    )
