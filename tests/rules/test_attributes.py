"""Attributes of an event: which are accepted, and as what they are passed on."""

import json
from datetime import datetime

import pytest
from punctual_core.event import parse

from tests.conftest import event
from tests.rules.messages import ACCEPTED_AT, MESSAGE_ID, REVISION, RULES, execution_input, refusal


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


@pytest.mark.parametrize("attributes", [{"a": "\ufffe"}, {"\ufffe": "a"}, [["\ufffe"]]])
def test_a_character_that_sqs_refuses_is_refused_in_attributes(attributes):
    """Nested text is checked, too."""
    error = refusal(event(attributes=attributes)).error
    assert error == "attributes contains U+FFFE, a character that SQS does not accept"
