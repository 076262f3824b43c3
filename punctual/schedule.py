"""Commands that publish an event: `schedule`, and `reschedule` for one that is parked."""

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from punctual_core.times import parse_date, zone

from . import InvalidEvent, Scheduler
from .client import is_local_time
from .executions import RUNNING
from .moments import local, readable, shown, to_duration
from .output import Output
from .show import to_id
from .stack import Stack
from .story import ago, story_of

# The options whose names differ from those of the message's fields, or of the publisher's arguments.
OPTIONS = {"date": "at", "delay": "in", "attributes": "attribute", "message_group_id": "group"}
FIELD = re.compile(r"^(?:unknown field: )?([a-z_]+)(?=[ .:])|(?<= beside )([a-z_]+)")


def scheduler_of(stack: Stack) -> Scheduler:
    """What publishes to the stack's input topic, by the rules of the stack."""
    return Scheduler(stack.output("InputTopicArn"), sns=stack.client("sns"), rules=stack.rules())


def _attribute(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise click.BadParameter(f"{pair!r} must be NAME=VALUE")
    return name, value


_at = click.option("--at", metavar="DATE", help="When to deliver: ISO 8601, UTC unless it has an offset or --timezone.")
_timezone = click.option("--timezone", metavar="ZONE", help="IANA time zone of --at, such as Europe/Berlin.")
_in = click.option(
    "--in", "delay", type=to_duration, metavar="DURATION", help="When to deliver, from now: 90s, 15m, 2h, 3d."
)


@click.command("schedule")
@click.option("--target", required=True, metavar="TOPIC", help="ARN, or name in the stack's account and Region.")
@_at
@_timezone
@_in
@click.option("--payload", metavar="TEXT", help="What to deliver.")
@click.option("--payload-file", metavar="FILE", help="What to deliver, in UTF-8, unchanged; - reads stdin.")
@click.option("--user", metavar="TEXT", help="Whom to contact about the event.")
@click.option("--id", metavar="ID", help="Name of the event; replaces the one that has it.")
@click.option(
    "--attribute", "attributes", multiple=True, type=_attribute, metavar="NAME=VALUE", help="May be repeated."
)
@click.option("--subject", metavar="TEXT", help="Subject of the delivery.")
@click.option("--group", "message_group_id", metavar="TEXT", help="Message group of the delivery.")
@click.option("--failure-topic", metavar="TOPIC", help="ARN or name of the topic for a failure report.")
@click.pass_obj
def schedule_command(
    stack: Stack, /, at: str | None, timezone: str | None, delay: timedelta | None, **fields: Any
) -> None:
    """Schedule an event, and print its id; on stderr, when it is due.

    The event is checked by the rules of the stack before it is published.
    """
    if (at is None) == (delay is None):
        raise click.UsageError("Exactly one of --at and --in says when to deliver")
    payload_file = fields.pop("payload_file")
    if (fields["payload"] is None) == (payload_file is None):
        raise click.UsageError("Exactly one of --payload and --payload-file says what to deliver")
    for name in ("target", "failure_topic"):
        fields[name] = fields[name] and stack.topic_arn(fields[name])
    if payload_file is not None:
        fields["payload"] = _text_of(payload_file)
    fields["attributes"] = dict(fields["attributes"]) or None
    _publish(stack, fields, at, timezone, delay)


@click.command("reschedule")
@click.argument("id", type=to_id, metavar="ID")
@_at
@_timezone
@_in
@click.option("--now", is_flag=True, help="Deliver at once.")
@click.pass_obj
def reschedule_command(
    stack: Stack, id: str, at: str | None, timezone: str | None, delay: timedelta | None, now: bool
) -> None:
    """Give a parked event another date.

    Publishes it again under its id, which replaces it. It may have been delivered meanwhile if it is due within two
    seconds.
    """
    if (at is not None) + (delay is not None) + now != 1:
        raise click.UsageError("Exactly one of --at, --in, and --now says when to deliver")
    fields = parked_message(stack, id)
    _publish(stack, fields, at, timezone, timedelta() if now else delay)


def parked_message(stack: Stack, id: str) -> dict[str, Any]:
    """The message of a parked event, with its id and without its date. Raises ClickException if it is not parked."""
    story = story_of(stack, id, ago(RUNNING))
    for event in story.parked:
        if event.state == "parked":
            dates = ("date", "delay", "timezone")
            return {name: value for name, value in event.event.items() if name not in dates} | {"id": id}
    raise click.ClickException("; ".join([f"{id} is not parked: {story.verdict().sentence}", *story.missing]))


def _publish(
    stack: Stack, fields: dict[str, Any], at: str | None, timezone: str | None, delay: timedelta | None
) -> None:
    """Publish an event, and say when it is due."""
    output, notes, now = Output.of_context(), [], datetime.now(UTC)
    scheduler = scheduler_of(stack)
    if at is not None and timezone is None and is_local_time(at):
        timezone = "UTC"
        notes.append(f"--at {at} has no offset, and was taken as UTC.")
    try:
        id = scheduler.schedule(**fields, at=at, timezone=timezone, delay=delay)
    except InvalidEvent as invalid:
        raise click.UsageError(FIELD.sub(_option, str(invalid))) from None
    due = parse_date(at, zone(timezone) if timezone else None) if at is not None else now + (delay or timedelta())
    here = f" ({local(due)} here)" if local(due) else ""
    notes.insert(0, f"Due at {shown(due)} UTC{here}.")
    if due < now:
        notes.append(f"That was {readable(now - due)} ago: it is delivered at once.")
    result = {"id": id, "due": due.isoformat(), "due_local": local(due), "notes": notes[1:]}
    output.published(result, id, *(notes[1:] if output.is_json else notes))


def _option(match: re.Match[str]) -> str:
    """The option that sets a field, in place of the field's name in a sentence."""
    field = match[1] or match[2]
    return f"--{OPTIONS.get(field, field).replace('_', '-')}"


def _text_of(file: str) -> str:
    """A file's text, byte by byte as it is."""
    if file == "-" and sys.stdin is None:  # It was closed by whoever started the command.
        raise click.UsageError("--payload-file - reads stdin, which is closed")
    try:
        with click.open_file(file, "rb") as opened:
            return bytes(opened.read()).decode()
    except OSError as error:
        raise click.UsageError(f"--payload-file {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--payload-file {file} is not UTF-8 text: byte {error.start}") from None
