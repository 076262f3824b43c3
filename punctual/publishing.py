"""Commands that publish to the input topic: `schedule` and `cancel`."""

from datetime import datetime, timedelta
from typing import Any

import click

from .client import Scheduler, is_local_time
from .life import Found, locate
from .moments import shown, to_duration
from .output import Output
from .stack import Stack


def _attribute(context: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str] | None:
    attributes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} must be NAME=VALUE")
        attributes[name] = value
    return attributes or None


@click.command("schedule")
@click.option("--target", required=True, metavar="TOPIC", help="ARN, or name in the stack's account and Region.")
@click.option("--at", metavar="DATE", help="When to deliver: ISO 8601, UTC unless it has an offset or --timezone.")
@click.option("--timezone", metavar="ZONE", help="IANA time zone of --at, such as Europe/Berlin.")
@click.option(
    "--in", "delay", callback=to_duration, metavar="DURATION", help="When to deliver, from now: 90s, 15m, 2h, 3d."
)
@click.option("--payload", metavar="TEXT", help="What to deliver.")
@click.option(
    "--payload-file", type=click.File("r", encoding="utf-8"), metavar="FILE", help="What to deliver; - reads stdin."
)
@click.option("--user", metavar="TEXT", help="Whom to contact about the event.")
@click.option("--id", metavar="ID", help="Name of the event; replaces the one that has it.")
@click.option(
    "--attribute", "attributes", multiple=True, callback=_attribute, metavar="NAME=VALUE", help="May be repeated."
)
@click.option("--subject", metavar="TEXT", help="Subject of the delivery.")
@click.option("--group", metavar="TEXT", help="Message group of the delivery.")
@click.option("--failure-topic", metavar="TOPIC", help="ARN or name of the topic for a failure report.")
@click.pass_obj
def schedule_command(
    stack: Stack,
    target: str,
    at: str | None,
    timezone: str | None,
    delay: timedelta | None,
    payload: str | None,
    payload_file: Any,
    user: str | None,
    id: str | None,
    attributes: dict[str, str] | None,
    subject: str | None,
    group: str | None,
    failure_topic: str | None,
) -> None:
    """Schedule an event, and print its id.

    The event is checked by the rules of the stack before it is published.
    """
    if (at is None) == (delay is None):
        raise click.UsageError("Exactly one of --at and --in says when to deliver")
    if (payload is None) == (payload_file is None):
        raise click.UsageError("Exactly one of --payload and --payload-file says what to deliver")
    try:
        text = payload if payload is not None else payload_file.read()
    except UnicodeDecodeError:
        raise click.UsageError(f"{payload_file.name} is not UTF-8 text") from None
    if at and timezone is None and is_local_time(at):
        timezone = "UTC"
    event_id = _scheduler(stack).schedule(
        target=stack.topic_arn(target),
        payload=text,
        at=at,
        delay=delay,
        timezone=timezone,
        user=user,
        id=id,
        attributes=attributes,
        subject=subject,
        message_group_id=group,
        failure_topic=stack.topic_arn(failure_topic) if failure_topic else None,
    )
    output = Output.of_context()
    output.json({"id": event_id}) if output.is_json else output.line(event_id)


@click.command("cancel")
@click.argument("id", metavar="ID")
@click.pass_obj
def cancel_command(stack: Stack, id: str) -> None:
    """Cancel an event, and say where it was found.

    The cancel is published even if the event is unknown: it may be on its way. It holds until two seconds before the
    event is due.
    """
    scheduler = _scheduler(stack)
    scheduler.check_id(id)
    found = locate(stack, id)
    scheduler.cancel(id)
    output = Output.of_context()
    if output.is_json:
        output.json({"id": id, "found": found.state, "due": found.due.isoformat() if found.due else None})
        return
    match found:
        case Found("parked", datetime() as due):
            output.line(f"Canceled {id}. It was parked, due at {shown(due)} UTC.")
        case Found("waiting"):
            output.line(f"Canceled {id}. It was waiting in its execution: too late if it is due within two seconds.")
        case _:
            output.line(f"Canceled {id}. It is unknown: neither parked nor waiting in an execution.")


def _scheduler(stack: Stack) -> Scheduler:
    return Scheduler(stack.output("InputTopicArn"), sns=stack.client("sns"), rules=stack.rules())
