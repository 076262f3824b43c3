"""The message format: every rule, with the sentence that refuses a message that breaks it."""

import json
import re
import string
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from punctual_core.event import Cancel, Event, Refused, Rules, parse
from punctual_core.json_text import MAX_NESTING, as_json, from_json, nesting
from punctual_core.limits import INPUT_BYTES, MESSAGE_BYTES, unsendable_character

from tests.conftest import FIFO_TARGET, OWN_FAILURE_TOPIC, TARGET, TEMPLATE, event

ACCEPTED_AT = datetime(2026, 12, 24, 9, 0, tzinfo=UTC)
MESSAGE_ID = "5fa2c1b0-63a7-5d2e-9e1f-0d8c54c1a7aa"
INPUT_TOPIC = TEMPLATE.environment("Ingest")["INPUT_TOPIC_ARN"]
FAILURE_TOPIC = TEMPLATE.environment("Ingest")["FAILURE_TOPIC_ARN"]
ALARM_TOPIC = TEMPLATE.environment("Ingest")["ALARM_TOPIC_ARN"]
ALLOWED_TOPICS = tuple(TEMPLATE.environment("Ingest")["TARGET_TOPIC_ARNS"].split(","))
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


# --- Messages that are not events -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "soon",
        "{",
        "{'date': 1}",
        "NaN",
        '{"date": Infinity}',
        "\x00",
        "\ufeff{}",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_text_that_is_not_json_is_refused_and_kept_as_text(text):
    """A message that is not JSON is refused; the report holds it as it came."""
    refused = refusal(text)
    assert (refused.error, refused.event, refused.id) == ("the message is not JSON", text, MESSAGE_ID)


def nested(levels: int) -> str:
    """A JSON text of objects and arrays inside one another."""
    text = "{}" if levels % 2 else "[]"
    for level in range(levels - 1):
        text = f"[{text}]" if level % 3 else f'{{"a":{text}}}'
    return text


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 50_000, nested(MAX_NESTING + 1), *("[" * n + "]" * n for n in (20_000, 100_000))],
    ids=["open arrays", "open objects", "one level too many", "at a depth that can be read and not written", "deeper"],
)
def test_nesting_that_is_too_deep_is_refused_and_kept_as_text(text):
    """At some depths Python reads a message and can't write it: such a message could not even be reported."""
    refused = refusal(text)
    assert (refused.error, refused.event) == ("the message is nested deeper than 100 levels", text)
    assert json.loads(as_json({"event": refused.event})) == {"event": text}


@pytest.mark.parametrize("levels", [1, 2, 3, 50, MAX_NESTING])
def test_nesting_is_counted(levels):
    """Every object and array is a level; up to 100 are read."""
    assert nesting(json.loads(nested(levels))) == levels
    assert "nested" not in refusal(nested(levels)).error


@pytest.mark.parametrize("value", [None, 1, "text", True])
def test_a_value_without_a_level_is_not_nested(value):
    """Only objects and arrays are levels."""
    assert nesting(value) == 0


@pytest.mark.parametrize("message", [None, True, 1, 1.5, "date", [], [event()]])
def test_json_that_is_not_an_object_is_refused(message):
    """Only a JSON object can be an event."""
    refused = refusal(json.dumps(message))
    assert (refused.error, refused.event) == ("the message is not a JSON object", message)


def test_a_number_that_is_too_large_is_refused_and_kept_as_text():
    """1e999 is JSON, but infinite to Python, which would write it into the report as something that is not JSON."""
    text = '{"date": 1e999}'
    refused = refusal(text)
    assert (refused.error, refused.event) == ("the message contains a number that is too large: 1e999", text)
    json.loads(as_json(refused.event), parse_constant=pytest.fail)


def test_of_a_long_number_the_first_32_characters_are_shown():
    """One line of a log, whatever was sent."""
    assert refusal('{"date": ' + "9" * 40 + "e999}").error.endswith("too large: " + "9" * 32)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"date": "2026-12-24", "payload": "x", "date": "2027-12-24"}', "date"),
        ('{"cancel": "order-1", "cancel": "order-2"}', "cancel"),
        ('{"date": "2026-12-24", "date": "2026-12-24"}', "date"),
        ('{"date": "2026-12-24", "d\\u0061te": "2026-12-25"}', "date"),
        ('{"attributes": {"color": "red", "color": "blue"}}', "color"),
        ('{"a": [[{"b\\n": 1, "b\\n": 1}]]}', "b\\n"),
    ],
)
def test_a_name_that_appears_twice_is_refused_at_any_depth_and_the_text_is_kept(text, name):
    """Readers of JSON differ in which one counts: the event would be due at another date than its publisher thinks."""
    refused = refusal(text)
    assert (refused.error, refused.event) == (f"{name} must not appear twice", text)


def test_a_message_with_a_name_twice_is_reported_where_its_other_fields_say():
    """By its id and to its own failure topic, unless these appear twice."""
    text = json.dumps(event(id="order", failure_topic=OWN_FAILURE_TOPIC))[:-1]
    date_twice, id_twice = refusal(text + ', "date": "2026-12-25"}'), refusal(text + ', "id": "order"}')
    assert (date_twice.id, date_twice.failure_topic) == ("order", OWN_FAILURE_TOPIC)
    assert (id_twice.id, id_twice.failure_topic) == (MESSAGE_ID, OWN_FAILURE_TOPIC)


def test_many_names_that_appear_twice_are_found_quickly():
    """A quarter of a MiB of them: not each is compared with each."""
    text = "{" + ",".join(f'"{number}":1' for number in [*range(20_000), 0]) + "}"
    assert refusal(text).error == "0 must not appear twice"


@pytest.mark.parametrize(
    "number",
    ["1.10", "0.123456789012345678901234567890", "1e5", "1E-7", "-0.0", "123456789012345678901234567890", "90"],
)
def test_a_number_is_reported_with_the_digits_that_were_sent(number):
    """Not as the nearest number that a computer has: whether the message is refused, or is delivered in vain."""
    text = f'{{"price":[{number}],"payload":"{number}"}}'
    assert as_json(refusal(text).event) == text
    delayed = json.dumps(without("date")).replace("{", f'{{"delay": {number}, ', 1)
    if number != "123456789012345678901234567890":
        assert f'"event":{{"delay":{number},' in read(delayed).input


# --- The five refusals of the system this one replaces, which its users may match on ----------------------------------


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


# --- Field by field ---------------------------------------------------------------------------------------------------

_NO_TOPIC = "must be the ARN of an SNS topic"
_NO_ID = "must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -"
_NO_SUBJECT = "subject must be less than 100 printable ASCII characters, and not begin with a space"
_NO_GROUP = "message_group_id must be 1 to 128 letters, digits and punctuation marks of ASCII"


@pytest.mark.parametrize(
    "field", ["date", "timezone", "payload", "target", "user", "failure_topic", "id", "subject", "message_group_id"]
)
@pytest.mark.parametrize("value", [None, 5, 1.5, True, [], {}, ["x"]], ids=repr)
def test_every_text_field_refuses_every_other_type(field, value):
    """null, numbers, lists and objects are not strings, and null is not the same as absent."""
    assert refusal(event() | {field: value}).error == f"{field} must be a string"


@pytest.mark.parametrize("value", [None, 5, "x", [], [["a", "b"]]], ids=repr)
def test_attributes_must_be_an_object(value):
    """Attributes are a map from names to values."""
    assert refusal(event(attributes=value)).error == "attributes must be an object"


@pytest.mark.parametrize("value", [None, True, [], ["a", 1], [["a"]], [None], {"DataType": "String"}], ids=repr)
def test_an_attributes_value_must_be_a_string_a_number_or_an_array_of_strings(value):
    """The refusal names the one that is not."""
    error = "attributes.color must be a string, a number, or an array of at least one string"
    assert refusal(event(attributes={"fine": "x", "color": value})).error == error


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        ('"10"', "String", "10"),
        ("10", "Number", "10"),
        ("-1.10", "Number", "-1.10"),
        ("1.5e3", "Number", "1500"),
        ("0", "Number", "0"),
        ("9" * 38, "Number", "9" * 38),
        ("1e126", "Number", "1" + "0" * 126),
        ("1e-128", "Number", "0." + "0" * 127 + "1"),
        ('["a"]', "String.Array", '["a"]'),
        ('["größer", "a\\"b", ""]', "String.Array", '["größer","a\\"b",""]'),
    ],
)
def test_an_attribute_has_the_type_that_sns_filters_by(value, type, text):
    """A filter policy compares numbers only with a Number, and looks into a String.Array."""
    message = json.dumps(event(attributes={"color": "?"})).replace('"?"', value)
    passed_on = execution_input(message)["publish"]["MessageAttributes"]["color"]
    assert passed_on == {"DataType": type, "StringValue": text}


@pytest.mark.parametrize("number", ["9" * 39, "1e127", "1e-129", "0." + "1" * 39])
def test_a_number_that_sqs_does_not_take_is_refused(number):
    """38 digits, between 1e-128 and 1e126: a queue would not get the delivery."""
    message = json.dumps(event(attributes={"color": "?"})).replace('"?"', number)
    error = "attributes.color must have at most 38 digits, and a size from 1e-128 to 1e126"
    assert refusal(message).error == error


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
        (
            TARGET.replace("eu-central-1", "eu-west-1"),
            "must be a topic of this Region (eu-central-1): SNS does not publish across Regions",
        ),
        (
            TARGET.replace("aws:", "aws-cn:"),
            "must be a topic of this Region (eu-central-1): SNS does not publish across Regions",
        ),
        (INPUT_TOPIC, "must not be the scheduler's input topic"),
        (ALARM_TOPIC, "must not be the scheduler's alarm topic"),
        (
            TARGET.replace("123456789012", "999999999999"),
            "is not a topic that this scheduler may publish to (TargetTopicArns)",
        ),
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


def test_an_empty_user_is_no_user():
    """An empty string does not say whom to contact."""
    assert refusal(event(user="")).error == "user is required"


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


@pytest.mark.parametrize("subject", ["", " x", "x" * 100, "Größe", "a\nb", "a\x7f"])
def test_subjects_that_do_not_fit(subject):
    """SNS would refuse these when the event is due."""
    assert refusal(event(subject=subject)).error == _NO_SUBJECT


@pytest.mark.parametrize("group", ["", "x" * 129, "a b", "ä", "a\n"])
def test_message_groups_that_do_not_fit(group):
    """A message group has SNS's characters and length."""
    assert refusal(event(message_group_id=group)).error == _NO_GROUP


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"": "x"}, "must have names that SNS and SQS accept, unlike ''"),
        ({"a b": "x"}, "must have names that SNS and SQS accept, unlike 'a b'"),
        ({"ä": "x"}, "must have names that SNS and SQS accept, unlike '\\xe4'"),
        ({"a\n": "x"}, "must have names that SNS and SQS accept, unlike 'a\\n'"),
        ({".a": "x"}, "must have names that SNS and SQS accept, unlike '.a'"),
        ({"a.": "x"}, "must have names that SNS and SQS accept, unlike 'a.'"),
        ({"a..b": "x"}, "must have names that SNS and SQS accept, unlike 'a..b'"),
        ({"AWS.a": "x"}, "must have names that SNS and SQS accept, unlike 'AWS.a'"),
        ({"Amazon.a": "x"}, "must have names that SNS and SQS accept, unlike 'Amazon.a'"),
        ({"x" * 256: "x"}, "must have names that SNS and SQS accept, unlike '" + "x" * 64 + "'"),
        ({"color": ""}, "must not be empty, unlike 'color'"),
        ({"color": "a\tb"}, "must be printable: 'color' contains U+0009"),
        ({"color": "\x7f"}, "must be printable: 'color' contains U+007F"),
        ({"color": "a\x9f"}, "must be printable: 'color' contains U+009F"),
        ({"tags": ["a", "b\x7f"]}, "must be printable: 'tags' contains U+007F"),
        ({"scheduler-revision": "x"}, "must not contain scheduler-revision, which is the scheduler's own"),
        ({"scheduler-id": "x"}, "must not contain scheduler-id, which is the scheduler's own"),
        ({"scheduler-date": "x"}, "must not contain scheduler-date, which is the scheduler's own"),
        (dict.fromkeys("abcdefghi", "x"), "must not be more than 8: SNS takes 10, and 2 are the scheduler's own"),
    ],
)
def test_attributes_that_do_not_fit(attributes, problem):
    """Attributes that SNS would refuse, or with which SQS would refuse the delivery, are refused by Ingest."""
    assert refusal(event(attributes=attributes)).error == f"attributes {problem}"


def test_attributes_are_passed_on_with_the_schedulers_own():
    """Eight attributes of the publisher and two of the scheduler: ten, which is what SNS accepts."""
    attributes = {name: f"value of {name}" for name in ("a", "b.c", "d-e", "f_g", "aws", "amazonas", "x" * 255, "1")}
    passed_on = execution_input(event(attributes=attributes))["publish"]["MessageAttributes"]
    assert {name: value["StringValue"] for name, value in passed_on.items()} == {
        **attributes,
        "scheduler-id": MESSAGE_ID,
        "scheduler-date": "2026-12-24T10:00:00Z",
    }
    assert {value["DataType"] for value in passed_on.values()} == {"String"}


def test_a_named_event_carries_its_revision_and_one_attribute_less():
    """Of two deliveries with the same id and date, a consumer can tell which is newer."""
    attributes = dict.fromkeys("abcdefg", "x")
    passed_on = execution_input(event(id="order", attributes=attributes))["publish"]["MessageAttributes"]
    assert len(passed_on) == 10 and passed_on["scheduler-revision"] == REVISION
    error = "attributes must not be more than 7: SNS takes 10, and 3 are the scheduler's own"
    assert refusal(event(id="order", attributes=attributes | {"h": "x"})).error == error


@pytest.mark.parametrize("later", ["2026-12-24T09:00:00.001+00:00", "2027-01-01T00:00:00+00:00"])
def test_revisions_sort_as_publications_do(later):
    """As text: by the time at which SNS accepted the message, then by MessageId."""

    def revision(message_id: str, accepted_at: datetime) -> str:
        accepted = parse(json.dumps(event(id="order")), message_id, accepted_at, RULES)
        return json.loads(accepted.input)["publish"]["MessageAttributes"]["scheduler-revision"]["StringValue"]

    assert revision("b", ACCEPTED_AT) < revision("c", ACCEPTED_AT) < revision("a", datetime.fromisoformat(later))


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


@pytest.mark.parametrize("attributes", [{"a": "\ufffe"}, {"\ufffe": "a"}, [["\ufffe"]]])
def test_a_character_that_sqs_refuses_is_refused_in_attributes(attributes):
    """Nested text is checked, too."""
    error = refusal(event(attributes=attributes)).error
    assert error == "attributes contains U+FFFE, a character that SQS does not accept"


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


def test_an_empty_payload_is_refused():
    """SNS refuses an empty message (`Invalid parameter: Empty message`)."""
    assert refusal(event(payload="")).error == "payload must not be empty"


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


# --- FIFO -------------------------------------------------------------------------------------------------------------


def test_a_fifo_target_gets_the_id_as_group_and_for_deduplication():
    """Without a group each event is a group; SNS discards its repeats."""
    publish = execution_input(event(target=FIFO_TARGET))["publish"]
    assert publish["MessageGroupId"] == publish["MessageDeduplicationId"] == MESSAGE_ID


def test_a_replacement_is_not_a_repeat_to_a_fifo_target():
    """A named event is deduplicated by id and revision, so that SNS does not discard its replacement."""
    publish = execution_input(event(target=FIFO_TARGET, id="order", message_group_id="orders"))["publish"]
    assert (publish["MessageGroupId"], publish["MessageDeduplicationId"]) == ("orders", f"order-{MESSAGE_ID}")


def test_the_longest_deduplication_id_fits():
    """SNS takes 128 characters; an id of 64, a hyphen and a MessageId are 101."""
    publish = execution_input(event(target=FIFO_TARGET, id="x" * 64))["publish"]
    assert len(publish["MessageDeduplicationId"]) <= 128


def test_a_standard_target_takes_a_group_and_no_deduplication():
    """SNS takes a group on a standard topic (it is passed on to fair queues), but no deduplication id."""
    publish = execution_input(event(message_group_id="orders"))["publish"]
    assert publish["MessageGroupId"] == "orders"
    assert "MessageDeduplicationId" not in publish


# --- Cancel -----------------------------------------------------------------------------------------------------------


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


# --- The input of the execution -------------------------------------------------------------------------------------


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


# --- Anything at all --------------------------------------------------------------------------------------------------

any_text = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), min_size=1
)
# Half surrogate pairs and control characters, too: JSON can carry them as escapes.
any_string = st.text(st.characters(exclude_categories=[]))
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_string,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_string, inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    [
        "date",
        "delay",
        "timezone",
        "payload",
        "target",
        "user",
        "failure_topic",
        "id",
        "subject",
        "attributes",
        "message_group_id",
        "cancel",
    ]
)


@given(any_text)
@example("\t\r\n \u2028 \ufffd 😀")
@example('{"payload": "\\u0041"}')
def test_any_text_is_a_payload_and_arrives_unchanged(payload):
    """Any text that SQS accepts arrives byte by byte."""
    delivered = execution_input(event(payload=payload))["publish"]["Message"]
    assert delivered.encode() == payload.encode()


@given(st.text() | any_json.map(json.dumps))
@example("[NaN]")
@example('{"date": ' + "9" * 5000 + "}")
@example('"\\ud800"')
@example('{"payload": "\\udfff", "\\u0000": "\\uffff"}')
def test_any_message_is_accepted_or_refused_in_one_line(text):
    """No text raises anything but `Refused`, whose error is one printable line and whose report SQS accepts."""
    try:
        parse(text, MESSAGE_ID, ACCEPTED_AT, RULES)
    except Refused as refused:
        assert refused.error.isprintable()
        report = as_json({"error": refused.error, "event": refused.event})
        assert report.encode().decode() == report
        assert unsendable_character(report) is None
        assert from_json(report)[0]["event"] == refused.event


@given(st.dictionaries(fields, any_json, max_size=4), st.sets(fields, max_size=2))
def test_any_near_miss_is_accepted_or_refused_with_the_field_at_fault(changes, missing):
    """A refusal of an object always begins with the name of a field, or names the unknown one."""
    message = {name: value for name, value in (event() | changes).items() if name not in missing}
    try:
        read(message)
    except Refused as refused:
        assert re.match("|".join(map(re.escape, [*(event() | changes), "unknown field: "])), refused.error)
        assert refused.error.isprintable()


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
