"""The message format for other languages: JSON Schema (2020-12) of the messages, and AsyncAPI 3 of the topics.

Generated from the rules of Ingest, and kept in schemas/. `BEYOND_SCHEMA` lists what a schema cannot say.
"""

import json
import re
from typing import Any

import click
from punctual_core import limits, times
from punctual_core.event import _CancelMessage, _EventMessage
from pydantic import BaseModel

from . import __version__

type Schema = dict[str, Any]

LINE_LENGTH = 120

# The errors of messages that the schemas allow and a stack refuses, as regular expressions, and why.
BEYOND_SCHEMA = {
    "the message contains a number that is too large": "a JSON value may have any",
    ".* must not appear twice": "a JSON value has each name once",
    "date (is not a (date|time) that exists|must be (an ISO 8601 date|from))": "the calendar, and clocks set forward",
    "timezone must be an IANA time zone": "the names are many, and change",
    "(target|failure_topic) (must be a topic of this Region|must not be the scheduler's|is not a topic)": "the stack",
    "attributes.* must have at most 38 digits": "a schema does not count digits",
    "delay must not end after": "it depends on the time",
    "payload is too large": "the limit is in bytes, of the whole message",
}

# Without the characters that SQS refuses, and those that are lost in attributes (limits.py), as JavaScript writes it.
_SENDABLE = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\ud800-\udfff\ufffe\uffff]*$"
_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f\ud800-\udfff\ufffe\uffff]*$"
_OFFSET = r"[T ].*(Z|[+-][0-9]{2}(:?[0-5][0-9])?)$"


def _text(description: str, pattern: re.Pattern[str] | str = "", **rules: Any) -> Schema:
    if isinstance(pattern, re.Pattern):  # Python alone has names for groups in this form.
        pattern = f"^({re.sub(r'\(\?P<\w+>', '(', pattern.pattern)})$"
    return {"description": description, "type": "string"} | ({"pattern": pattern} if pattern else {}) | rules


_OWN_ATTRIBUTES = [limits.ID_ATTRIBUTE, limits.DATE_ATTRIBUTE, limits.REVISION_ATTRIBUTE]
_FIELDS: dict[str, Schema] = {
    "date": _text("When to deliver: ISO 8601. Without an offset: in `timezone`, or UTC.", times.ISO_8601),
    "delay": {
        "description": "When to deliver: seconds after SNS has accepted the message.",
        "type": "number",
        "minimum": 0,
        "maximum": int(times.MAX_DELAY.total_seconds()),
    },
    "timezone": _text("IANA time zone of a `date` without an offset.", r"^[A-Za-z0-9_+/-]+$"),
    "target": _text("ARN of the SNS topic to deliver to, in the stack's Region.", limits.TOPIC_ARN),
    "payload": _text("What to deliver, unchanged.", _SENDABLE, minLength=1),
    "user": _text("Whom to contact. Required unless the stack has EnforceUser=false.", _SENDABLE, minLength=1),
    "failure_topic": _text("ARN of a standard SNS topic for a failure report.", limits.TOPIC_ARN)
    | {"not": {"pattern": r"\.fifo$"}},
    "id": _text("The event's name: publishing it again replaces the event.", limits.ID),
    "subject": _text("Subject of the delivery.", limits.SUBJECT),
    "attributes": {
        "description": "Message attributes of the delivery: String, Number, or String.Array.",
        "type": "object",
        "propertyNames": {"pattern": f"^{limits.ATTRIBUTE_NAME.pattern}$", "not": {"enum": _OWN_ATTRIBUTES}},
        "additionalProperties": {
            "anyOf": [
                {"type": "string", "pattern": _PRINTABLE, "minLength": 1},
                {"type": "number"},
                {"type": "array", "items": {"type": "string", "pattern": _PRINTABLE}, "minItems": 1},
            ]
        },
        "maxProperties": limits.MAX_ATTRIBUTES - 2,
    },
    "message_group_id": _text("Message group of a delivery to a FIFO topic. Default: the id.", limits.GROUP_ID),
    "cancel": _text("The id of the event to cancel.", limits.ID),
}


def _schema(title: str, properties: Schema, required: list[str]) -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _message(model: type[BaseModel], title: str) -> Schema:
    """The schema of a message: which fields there are says the model."""
    base = model.model_json_schema()
    return _schema(title, {name: _FIELDS[name] for name in base["properties"]}, base["required"])


def schemas() -> dict[str, Schema]:
    """What is in schemas/, by the name of the file without `.json`."""
    event = _message(_EventMessage, "An event, published to the input topic")
    event["required"] += ["user"]
    has_no_offset = {"not": {"pattern": _OFFSET}}
    has_room_for_a_revision = {"maxProperties": limits.MAX_ATTRIBUTES - 3}
    # Not dependentSchemas and the like: AsyncAPI's schemas are those of an earlier draft.
    event["oneOf"] = [{"required": ["date"]}, {"required": ["delay"]}]
    event["allOf"] = [
        {"if": {"required": ["timezone"]}, "then": {"required": ["date"], "properties": {"date": has_no_offset}}},
        {"if": {"required": ["id"]}, "then": {"properties": {"attributes": has_room_for_a_revision}}},
    ]
    report = {
        "error": _text("The reason, in one sentence."),
        "id": _text("The event's id; the MessageId if it has none."),
        "event": {"description": "The message as received: the JSON value, or the text if it is none."},
        "truncated": {"description": "`event` is the beginning of the message's text.", "const": True},
    }
    report_title = "A failure report, published to the event's failure topic, or else the stack's"
    messages = {
        "event": event,
        "cancel": _message(_CancelMessage, "A cancel, published to the input topic"),
        "failure-report": _schema(report_title, report, ["error", "id", "event"]),
    }
    return {**messages, "asyncapi": _asyncapi(messages)}


def _asyncapi(messages: dict[str, Schema]) -> Schema:
    """The topics. `address` is null: the ARNs are outputs of the stack, and fields of the event."""
    attributes = {
        limits.ID_ATTRIBUTE: _text("The event's id."),
        limits.DATE_ATTRIBUTE: _text("When it was due, in UTC."),
        limits.REVISION_ATTRIBUTE: _text("Of an event with an id: of two deliveries, the newer has the greater one."),
    }
    required = [limits.ID_ATTRIBUTE, limits.DATE_ATTRIBUTE]
    described = {
        name: {"title": schema["title"], "payload": {"$ref": f"./{name}.json"}} for name, schema in messages.items()
    }
    described["delivery"] = {
        "title": "A delivery",
        "description": "The payload of an event, with its attributes as SNS message attributes.",
        "contentType": "text/plain",
        "headers": {"type": "object", "properties": attributes, "required": required},
        "payload": {"type": "string"},
    }
    topics = {
        "input": ("The stack's output InputTopicArn.", "receive", ["event", "cancel"]),
        "target": ("The field `target` of the event.", "send", ["delivery"]),
        "failure": ("The field `failure_topic` of the event, or the stack's output.", "send", ["failure-report"]),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Punctual",
            "version": __version__,
            "description": "A point-in-time scheduler on AWS. All channels are SNS topics.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {
            topic: {"address": None, "description": description, "messages": {name: described[name] for name in names}}
            for topic, (description, _, names) in topics.items()
        },
        "operations": {
            f"{action}-{topic}": {"action": action, "channel": {"$ref": f"#/channels/{topic}"}}
            for topic, (_, action, _) in topics.items()
        },
    }


def _lines(value: Any, indent: str = "", used: int = 0) -> str:
    """A value as JSON of short lines: what fits into one is not broken."""
    line = json.dumps(value)
    if not isinstance(value, dict | list) or len(indent) + used + len(line) < LINE_LENGTH:
        return line
    inner, (begin, end) = indent + "  ", "{}" if isinstance(value, dict) else "[]"
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}: {_lines(part, inner, len(name) + 4)}" for name, part in value.items()]
    else:
        parts = [_lines(part, inner) for part in value]
    return f"{begin}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{end}"


@click.command("schema")
@click.argument("name", type=click.Choice(["asyncapi", "event", "cancel", "failure-report"]), default="asyncapi")
def schema_command(name: str) -> None:
    """Print the message format: NAME is event, cancel, or failure-report for its JSON Schema, or asyncapi for the
    topics, which refers to the others as files beside it."""
    click.echo(_lines(schemas()[name]))
