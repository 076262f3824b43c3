"""The fields of a message: every rule, with the sentence that refuses a message that breaks it."""

from dataclasses import replace

import pytest
from punctual_core.event import Cancel, Event, Rules

from tests.conftest import FIFO_TARGET, OWN_FAILURE_TOPIC, TARGET, event
from tests.rules.messages import (
    ALARM_TOPIC,
    ALLOWED_TOPICS,
    FAILURE_TOPIC,
    INPUT_TOPIC,
    MESSAGE_ID,
    RULES,
    execution_input,
    read,
    refusal,
    without,
)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (without("date"), "date is required"),
        (without("payload"), "payload is required"),
        (without("target"), "target is required"),
        (event(payload={"order": 4711}), "payload must be a string"),
        (without("user"), "user is required"),
    ],
)
def test_the_predecessors_five_refusals_keep_their_wording(message, error):
    """Users of the predecessor may match on these five sentences."""
    assert refusal(message).error == error


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({}, "date is required"),
        (without("date", "payload", "target", "user"), "date is required"),
        (without("payload", "target", "user"), "payload is required"),
        (without("target", "user"), "target is required"),
        ({**without("target"), "payload": 5, "date": None}, "target is required"),
        ({**without("user"), "payload": 5}, "payload must be a string"),
        ({**without("user"), "date": 5, "payload": 5}, "date must be a string"),
        ({**event(payload=5), "dtae": "x"}, "payload must be a string"),
        ({**without("user"), "usr": "x"}, "unknown field: usr"),
    ],
)
def test_one_problem_is_reported_first_what_is_missing_then_what_is_wrong_then_what_is_unknown(message, error):
    """Of several problems one is reported: first what is missing, then what is wrong, then what is unknown."""
    assert refusal(message).error == error


_NO_TOPIC = "must be the ARN of an SNS topic"
_NO_ID = "must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -"
_NO_SUBJECT = "subject must be less than 100 printable ASCII characters, and not begin with a space"
_ELSEWHERE = "must be a topic of this Region (eu-central-1): SNS does not publish across Regions"
_NO_GROUP = "message_group_id must be 1 to 128 letters, digits and punctuation marks of ASCII"


@pytest.mark.parametrize(
    "field", ["date", "timezone", "payload", "target", "user", "failure_topic", "id", "subject", "message_group_id"]
)
@pytest.mark.parametrize("value", [None, 5, 1.5, True, [], {}, ["x"]], ids=repr)
def test_every_text_field_refuses_every_other_type(field, value):
    """null, numbers, lists and objects are not strings, and null is not the same as absent."""
    assert refusal(event() | {field: value}).error == f"{field} must be a string"


@pytest.mark.parametrize(
    ("topic", "problem"),
    [
        ("orders", _NO_TOPIC),
        ("", _NO_TOPIC),
        (f"{TARGET}\n", _NO_TOPIC),
        (f" {TARGET}", _NO_TOPIC),
        (f"{TARGET}:5fa2c1b0-63a7-5d2e-9e1f-0d8c54c1a7aa", _NO_TOPIC),  # a subscription
        (TARGET.replace("sns", "sqs"), _NO_TOPIC),
        (TARGET.replace("123456789012", "12345678901"), _NO_TOPIC),
        (TARGET.replace("123456789012", "١٢٣٤٥٦٧٨٩٠١٢"), _NO_TOPIC),  # digits, but not ASCII's
        ("arn:aws:sns:eu-central-1:123456789012:" + "x" * 257, _NO_TOPIC),
        (TARGET.replace("eu-central-1", "eu-west-1"), _ELSEWHERE),
        (TARGET.replace("aws:", "aws-cn:"), _ELSEWHERE),
        (INPUT_TOPIC, "must not be the scheduler's input topic"),
        (ALARM_TOPIC, "must not be the scheduler's alarm topic"),
        (TARGET.replace("12345", "99999"), "is not a topic that this scheduler may publish to (TargetTopicArns)"),
    ],
)
@pytest.mark.parametrize("field", ["target", "failure_topic"])
def test_topics_that_cannot_be_published_to_are_refused(field, topic, problem):
    """A topic must be an ARN, of this Region and partition, allowed, and not the input topic: a loop."""
    refused = refusal(event(**{field: topic}))
    assert refused.error == f"{field} {problem}"
    assert refused.failure_topic is None  # Else the report would be lost.


def test_the_stacks_failure_topic_takes_reports_and_no_payloads():
    """A publisher could forge reports with it; as a failure topic it is what the stack uses anyway."""
    assert refusal(event(target=FAILURE_TOPIC)).error == "target must not be the scheduler's failure topic"
    assert read(event(failure_topic=FAILURE_TOPIC))
    assert refusal(event(failure_topic=FAILURE_TOPIC, payload="")).failure_topic == FAILURE_TOPIC


def test_a_publisher_need_not_know_the_stacks_topics_for_failures_and_alarms():
    """Then only the stack refuses them."""
    rules = Rules(INPUT_TOPIC, ALLOWED_TOPICS)
    assert all(rules.objection_to(topic) is None for topic in (FAILURE_TOPIC, ALARM_TOPIC))


def test_a_failure_topic_must_not_be_fifo():
    """A FIFO topic would need a group that a report does not have."""
    refused = refusal(event(failure_topic=FIFO_TARGET))
    assert (refused.error, refused.failure_topic) == ("failure_topic must be a standard topic", None)


@pytest.mark.parametrize(
    ("patterns", "topic", "allowed"),
    [
        (["arn:aws:sns:eu-central-1:123456789012:orders"], "orders", True),
        (["arn:aws:sns:eu-central-1:123456789012:orders"], "orders-2", False),
        (["arn:aws:sns:eu-central-1:123456789012:order?"], "orders", True),
        (["arn:aws:sns:eu-central-1:123456789012:order?"], "order", False),
        (["arn:aws:sns:*:123456789012:o*s"], "orders", True),
        (["arn:aws:sns:eu-central-1:123456789012:a*", "arn:aws:sns:eu-central-1:*:orders"], "orders", True),
        (["arn:aws:sns:eu-central-1:123456789012:[o]rders"], "orders", False),
        (["arn:aws:sns:eu.central.1:123456789012:orders"], "orders", False),
    ],
)
def test_target_topic_arns_are_patterns_as_in_iam(patterns, topic, allowed):
    """`*` is any text, `?` one character, everything else itself; one match is enough."""
    rules = replace(RULES, allowed_topics=tuple(patterns))
    arn = f"arn:aws:sns:eu-central-1:123456789012:{topic}"
    assert (rules.objection_to(arn) is None) == allowed


def test_a_user_is_not_required_if_the_stack_does_not_enforce_it():
    """EnforceUser=false accepts an event without a user, and still refuses one that is not a string."""
    rules = replace(RULES, user_required=False)
    assert isinstance(read(without("user"), rules), Event)
    assert isinstance(read(event(user=""), rules), Event)
    assert refusal(event(user=None), rules).error == "user must be a string"


@pytest.mark.parametrize("id", ["a", "A-z_0-9", "x" * 64])
def test_ids_that_fit(id):
    """An id of 1 to 64 letters, digits, hyphens and underscores names the event."""
    accepted = read(event(id=id))
    assert (accepted.id, accepted.revision, accepted.is_named) == (id, MESSAGE_ID, True)


@pytest.mark.parametrize("id", ["", "x" * 65, "a b", "a.b", "ä", "a\n", "a/b", "٣"])
def test_ids_that_do_not_fit(id):
    """Any other id is refused, and the refusal is reported under the MessageId."""
    refused = refusal(event(id=id))
    assert (refused.error, refused.id) == (f"id {_NO_ID}", MESSAGE_ID)


def test_without_an_id_the_message_id_is_the_id():
    """The publisher knows it: Publish returned it."""
    accepted = read(event())
    assert (accepted.id, accepted.is_named, accepted.execution_name) == (MESSAGE_ID, False, MESSAGE_ID)


def test_a_refused_event_is_reported_under_its_own_id_on_its_own_failure_topic():
    """Fields of a refused event that are valid are used for its report."""
    refused = refusal(event(id="order-4711", failure_topic=OWN_FAILURE_TOPIC, payload=5))
    assert (refused.id, refused.failure_topic) == ("order-4711", OWN_FAILURE_TOPIC)
    assert refused.event["payload"] == 5


@pytest.mark.parametrize("subject", ["x", "Order 4711!", "x" * 99, "~", "a "])
def test_subjects_that_fit(subject):
    """A subject of printable ASCII, less than 100 characters, is passed on."""
    assert execution_input(event(subject=subject))["publish"]["Subject"] == subject


@pytest.mark.parametrize(
    ("field", "error", "values"),
    [
        ("subject", _NO_SUBJECT, ["", " x", "x" * 100, "Größe", "a\nb", "a\x7f"]),
        ("message_group_id", _NO_GROUP, ["", "x" * 129, "a b", "ä", "a\n"]),
        ("payload", "payload must not be empty", [""]),
        ("user", "user is required", [""]),
    ],
)
def test_values_that_do_not_fit(field, error, values):
    """SNS would refuse these when the event is due. An empty user does not say whom to contact."""
    assert {refusal(event(**{field: value})).error for value in values} == {error}


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        ({"dtae": "x"}, "unknown field: dtae"),
        ({"b": 1, "a": 2}, "unknown field: b, a"),
        (dict.fromkeys("abcde", 1), "unknown field: a, b, c, d, e"),
        (dict.fromkeys("abcdef", 1), "unknown field: a, b, c, d, e, ..."),
        ({"": 1}, "unknown field: "),
        ({"a\nb": 1}, "unknown field: a\\nb"),
        ({"x" * 100: 1}, "unknown field: " + "x" * 64),
        ({"Date": "x"}, "unknown field: Date"),
    ],
)
def test_unknown_fields_are_refused_by_name(extra, error):
    """A typo is not silently ignored."""
    assert refusal(event(**extra)).error == error


REFUSED_BY_SQS = ["\0", "\x01", "\x08", "\x0b", "\x1f", "\ud800", "\udfff", "\ufffe", "\uffff"]


@pytest.mark.parametrize("field", ["date", "payload", "target", "user", "id", "subject", "unknown"])
@pytest.mark.parametrize("character", REFUSED_BY_SQS, ids=ascii)
def test_a_character_that_sqs_refuses_is_refused_in_any_field(field, character):
    """SNS would accept it, and whoever is subscribed with a queue would silently get nothing."""
    refused = refusal(event(**{field: f"a{character}"}))
    assert refused.error == f"{field} contains U+{ord(character):04X}, a character that SQS does not accept"


def test_a_character_that_sqs_refuses_is_refused_in_the_name_of_a_field():
    """The refusal itself is printable."""
    error = refusal(event(**{"\ud800": "x"})).error
    assert error == "\\ud800 contains U+D800, a character that SQS does not accept"


@pytest.mark.parametrize(
    "character", ["\t", "\n", "\r", " ", "\x7f", "\u2028", "\ud7ff", "\ue000", "\ufffd", "😀", "\U0010ffff"], ids=ascii
)
def test_every_character_that_sqs_accepts_is_accepted_in_a_payload(character):
    """The payload arrives unchanged."""
    assert execution_input(event(payload=character))["publish"]["Message"] == character


@pytest.mark.parametrize("id", ["a", "x" * 64, MESSAGE_ID])
def test_cancel_names_an_id(id):
    """`{"cancel": id}` cancels."""
    assert read({"cancel": id}) == Cancel(id, MESSAGE_ID)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"cancel": "x", "date": "2026-12-24T10:00:00Z"}, "cancel must stand alone, without date"),
        ({"cancel": "x", "user": "me", "id": "y"}, "cancel must stand alone, without user, id"),
        ({"cancel": "x" * 65}, f"cancel {_NO_ID}"),
        ({"cancel": ""}, f"cancel {_NO_ID}"),
        ({"cancel": "a b"}, f"cancel {_NO_ID}"),
        ({"cancel": None}, "cancel must be a string"),
        ({"cancel": 5}, "cancel must be a string"),
        ({"cancel": ["x"]}, "cancel must be a string"),
        ({"cancel": "\ud800"}, "cancel contains U+D800, a character that SQS does not accept"),
    ],
)
def test_cancels_that_are_refused(message, error):
    """A cancel is one id and nothing else: it can't be mistaken for an event."""
    assert refusal(message).error == error
