"""Messages as text: what is JSON, and reported as it came."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from punctual_core.json_text import MAX_NESTING, as_json, nesting

from tests.conftest import OWN_FAILURE_TOPIC, event
from tests.rules.messages import MESSAGE_ID, execution_input, read, refusal, without


@pytest.mark.parametrize(
    "text", ["", " ", "soon", "{", "{'date': 1}", "NaN", '{"date": Infinity}', "\x00", "\ufeff{}"], ids=repr
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


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), min_size=1))
@example("\t\r\n \u2028 \ufffd 😀")
@example('{"payload": "\\u0041"}')
def test_any_text_is_a_payload_and_arrives_unchanged(payload):
    """Any text that SQS accepts arrives byte by byte."""
    delivered = execution_input(event(payload=payload))["publish"]["Message"]
    assert delivered.encode() == payload.encode()
