"""What the tests of the message format share: the stack's rules, and how a message is read by them."""

import json
from datetime import UTC, datetime

import pytest
from punctual_core.event import Cancel, Event, Refused, Rules, parse

from tests.conftest import TEMPLATE, event

ACCEPTED_AT = datetime(2026, 12, 24, 9, 0, tzinfo=UTC)
MESSAGE_ID = "5fa2c1b0-63a7-5d2e-9e1f-0d8c54c1a7aa"
ENVIRONMENT = TEMPLATE.environment("Ingest")
INPUT_TOPIC, FAILURE_TOPIC, ALARM_TOPIC = (ENVIRONMENT[f"{name}_TOPIC_ARN"] for name in ("INPUT", "FAILURE", "ALARM"))
ALLOWED_TOPICS = tuple(ENVIRONMENT["TARGET_TOPIC_ARNS"].split(","))
RULES = Rules(INPUT_TOPIC, ALLOWED_TOPICS, failure_topic=FAILURE_TOPIC, alarm_topic=ALARM_TOPIC)
# Of an event that is named and came in this message: when SNS accepted it, and its MessageId.
REVISION = {"DataType": "String", "StringValue": f"2026-12-24T09:00:00.000000Z {MESSAGE_ID}"}


def read(message: object, rules: Rules = RULES) -> Event | Cancel:
    """Parse a message: a text, or a value that becomes one."""
    return parse(message if isinstance(message, str) else json.dumps(message), MESSAGE_ID, ACCEPTED_AT, rules)


def execution_input(message: object) -> dict:
    """The input of the execution that an accepted event becomes."""
    return json.loads(read(message).input)


def refusal(message: object, rules: Rules = RULES) -> Refused:
    with pytest.raises(Refused) as caught:
        read(message, rules)
    return caught.value


def without(*fields: str) -> dict:
    return {name: value for name, value in event().items() if name not in fields}
