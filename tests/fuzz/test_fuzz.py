"""Ingest under anything that SNS can carry.

A few thousand messages in the normal run; PUNCTUAL_FUZZ_EXAMPLES says how many in a long one.
"""

import json
import math
import os
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
from punctual_core import ingest
from punctual_core.failures import EXCERPT_CHARACTERS
from punctual_core.json_text import MAX_NESTING, nesting
from punctual_core.limits import MESSAGE_BYTES, unsendable_character

from tests.conftest import FIFO_TARGET, OWN_FAILURE_TOPIC, TARGET, Cloud, LambdaContext, at, event, record, take

EXAMPLES = int(os.environ.get("PUNCTUAL_FUZZ_EXAMPLES", "2000"))
MESSAGE_ID = "5fa2c1b0-63a7-5d2e-9e1f-0d8c54c1a7aa"

# --- Messages ---

text = st.text(st.characters(exclude_categories=[]), max_size=40)  # lone surrogates and control characters included
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
any_json = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=8
)
digits = st.text("0123456789", min_size=1, max_size=7)
dates = st.one_of(
    st.datetimes(timezones=st.none() | st.timezones()).map(lambda moment: moment.isoformat()),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.dates().map(lambda day: day.isoformat()),
    st.builds("{}-W{:02}-{}".format, st.integers(0, 9999), st.integers(0, 54), st.integers(0, 8)),
    st.builds("2026-{:02}-{:02}T{:02}:{:02}:{:02}".format, *[st.integers(0, 99)] * 5),
    st.builds(
        "2026-12-24T18:00:00{}{}{}".format, st.sampled_from(".,;"), digits, st.sampled_from(["", "Z", "z", "+01"])
    ),
    st.builds("2026-12-24T18:00:00{}{}".format, st.sampled_from("+-"), digits),
    st.text("0123456789-:T WZ+.,", max_size=30),
    text,
)
topics = st.sampled_from([TARGET, FIFO_TARGET, OWN_FAILURE_TOPIC, os.environ["INPUT_TOPIC_ARN"], "", "orders"]) | text
fields = {
    "date": dates | any_json,
    "delay": st.integers(-10, 10**12) | st.floats() | any_json,
    "timezone": st.sampled_from(["Europe/Berlin", "UTC", "Pacific/Apia", "../zones"]) | text | any_json,
    "target": topics | any_json,
    "payload": text | any_json,
    "user": text | any_json,
    "failure_topic": topics | any_json,
    "id": st.from_regex(r"[A-Za-z0-9_-]{1,65}", fullmatch=True) | any_json,
    "subject": st.text("aZ ~\n", max_size=101) | any_json,
    "attributes": st.dictionaries(text, text | scalars | st.lists(text, max_size=2), max_size=10) | any_json,
    "message_group_id": text | any_json,
    "cancel": st.from_regex(r"[A-Za-z0-9_-]{1,65}", fullmatch=True) | any_json,
}
near_valid = st.builds(
    lambda changes, missing, extra: json.dumps(
        {name: value for name, value in (event() | changes | extra).items() if name not in missing}
    ),
    st.fixed_dictionaries({}, optional={name: value for name, value in fields.items() if name != "cancel"}),
    st.sets(st.sampled_from(sorted(fields)), max_size=1),
    st.dictionaries(text, any_json, max_size=1),
)
one_change = st.sampled_from(sorted(fields)).flatmap(
    lambda name: fields[name].map(lambda value: json.dumps(event(**{name: value})))
)
cancels = st.builds(
    lambda id, extra: json.dumps({"cancel": id, **extra}), fields["cancel"], st.dictionaries(text, scalars, max_size=1)
)
huge = st.builds(
    lambda character, size, name: json.dumps(event(**{name: character * size}), ensure_ascii=False),
    st.sampled_from(["x", "é", "😀", '"', "\x01"]),
    st.integers(30_000, 300_000),
    st.sampled_from(sorted(fields)),
)
brackets = st.sampled_from([("[", "]"), ('{"a":', "}"), ('{"payload":', "}"), ('{"date":[', "]}")])
depths = st.integers(1, 300) | st.integers(1, 30_000)
deep = st.builds(
    lambda bracket, depth, value, closed: bracket[0] * depth + value + bracket[1] * (depth if closed else 0),
    brackets,
    depths,
    st.sampled_from(["1", "{}", '"text"', ""]),
    st.sampled_from([True, True, False]),
)
valid = st.builds(
    lambda date, payload, id: json.dumps(event(date, payload=payload, **id)),
    st.datetimes(timezones=st.timezones()),
    st.text(),
    st.fixed_dictionaries({}, optional={"id": st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)}),
)
twice = st.builds(
    lambda name, value: json.dumps(event())[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}",
    st.sampled_from(sorted(fields)) | text,
    scalars,
)
digits_kept = st.builds(
    lambda name, number: json.dumps(event(**{name: "?"})).replace('"?"', number),
    st.sampled_from(["delay", "price", "user"]),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})\.[0-9]{1,40}([eE][+-]?[0-9]{1,2})?", fullmatch=True),
)
rarely = st.one_of(text, any_json.map(json.dumps), deep, huge, twice, digits_kept)  # Large ones take long.
messages = st.one_of(one_change, one_change, valid, near_valid, cancels, rarely).filter(
    # What SNS carries: text in UTF-8, and no more of it than this.
    lambda text: len(text.encode(errors="replace")) <= MESSAGE_BYTES and text.encode(errors="ignore").decode() == text
)

# --- What becomes of them ---


def ends(cloud: Cloud) -> list[str]:
    """The ends that a message has come to, by their effects."""
    canceled = [item for item in cloud.register().values() if item["revision"] == MESSAGE_ID]
    by_name = [
        *(start.input["revision"] for start in cloud.starts),
        *(item["sort_key"][-36:] for item in cloud.parked()),
    ]
    assert all(revision == MESSAGE_ID for revision in by_name)
    reports = [*cloud.reports(), *cloud.reports(OWN_FAILURE_TOPIC), *cloud.undelivered()]
    return [
        *(["started"] * len(cloud.starts)),
        *(["parked"] * len(cloud.parked())),
        *(["reported"] * len(reports)),
        *(["registered"] if canceled and not by_name else []),
    ]


REASON = re.compile(
    r"the message (is not JSON|is not a JSON object|is nested deeper than 100 levels)"
    r"|the message contains a number that is too large: .*"
    r"|unknown field: .*|[^ ]+ is required|([^ ]+|.*) (must|is not|is too large|contains)\b.*",
)


@settings(max_examples=EXAMPLES)
@given(text=messages, superseded=st.sampled_from([False, False, False, True]))
@example("", False)
@example("null", False)
@example('{"date": 1e999}', False)
@example('{"date": 1.10, "a": [{"b": 0.123456789012345678901234567890}]}', False)
@example('{"date": "2026-12-24", "a": {"b": 1, "b": 2}}', False)
@example("1" * 5000, False)
@example("[" * 20_000 + "]" * 20_000, False)
@example('{"payload": "\ufffe"}', False)
@example("[NaN]", False)
@example('{"date": ' + "9" * 5000 + "}", False)
@example('"\\ud800"', False)
@example('{"payload": "\\udfff", "\\u0000": "\\uffff"}', False)
def test_any_message_comes_to_exactly_one_end(cloud, text, superseded):
    """No exception escapes; each message is started, parked, registered, reported or superseded, once; a report says
    which field is at fault and why, and holds the message."""
    cloud.forget()
    later = id_in(text) if superseded else None
    if later:  # A message published later has been here first.
        take({"cancel": later}, at("00:00", "2030-01-01"), message_id="another")
    answer = ingest.handler({"Records": [record(text, message_id=MESSAGE_ID)]}, LambdaContext())
    assert answer == {"batchItemFailures": []}
    found = ends(cloud)
    assert found == [] if later and found != ["reported"] else len(found) == 1, found
    for call in cloud.calls("Publish"):
        assert unsendable_character(call["Message"]) is None
        report = json.loads(call["Message"], parse_float=str)
        assert REASON.fullmatch(report["error"]) and report["error"].isprintable()
        assert fault_is_in(report["error"], text), report["error"]
        assert report["event"] == as_received(text) or (
            report["truncated"] and len(report["event"]) == EXCERPT_CHARACTERS
        )


def as_received(text: str) -> object:
    """The JSON value of a message, with the digits of its numbers, or else its text: also if it has an infinite number
    or a name twice, or is nested too deep."""
    try:
        value = json.loads(text, parse_float=finite, parse_constant=finite, object_pairs_hook=unambiguous)
    except (ValueError, RecursionError):
        return text
    return text if nesting(value) > MAX_NESTING else value


def finite(text: str) -> str:
    if not math.isfinite(float(text)):
        raise ValueError
    return text


def unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)


def id_in(text: str) -> str | None:
    """The id that a message is for, if it gives one that can be used."""
    message = as_received(text)
    id = isinstance(message, dict) and (message.get("cancel") or message.get("id"))
    return id if isinstance(id, str) and re.fullmatch("[A-Za-z0-9_-]{1,64}", id) else None


def fault_is_in(error: str, text: str) -> bool:
    """Whether an error names a field of the message, or one that it lacks."""
    message = as_received(text)
    if not isinstance(message, dict):
        if message is not text:
            return error == "the message is not a JSON object"
        about_the_text = ("the message is not JSON", "the message is nested", "the message contains a number")
        return error.startswith(about_the_text) or error.endswith("must not appear twice")
    shown = [name.encode("unicode_escape").decode()[:64] for name in message]
    named = [error.removeprefix("unknown field: ").startswith(name) for name in shown]
    return any(named) or error in {f"{name} is required" for name in ("date", "payload", "target", "user")}
