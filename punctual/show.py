"""The command `show`: what became of one event. It only reads."""

import time
from datetime import UTC, datetime, timedelta

import click
from punctual_core.limits import ID, ID_RULE
from rich.table import Table

from .moments import shown, to_duration
from .output import Output
from .stack import Stack
from .story import DECIDED, Story, ago, story_of

# Between two looks of `show --wait`. FilterLogEvents answers five calls a second in an account.
WAIT_SECONDS = 3
# An event may be on its way, and the end of its execution on its way to the log, for so long.
PATIENCE = timedelta(minutes=2)


def to_id(id: str) -> str:
    """What can be the id of an event."""
    if not ID.fullmatch(id):
        raise click.BadParameter(f"{id!r} {ID_RULE}")
    return id


@click.command("show")
@click.argument("id", type=to_id, metavar="ID")
@click.option(
    "--since",
    type=to_duration,
    default="1d",
    show_default=True,
    metavar="DURATION",
    help="How far back to read the logs of executions and refusals.",
)
@click.option("--wait", is_flag=True, help="Follow the event until it is decided what becomes of it.")
@click.pass_obj
def show_command(stack: Stack, id: str, since: timedelta, wait: bool) -> None:
    """Show what became of one event, in one sentence, and its life: published, parked, its executions with each
    state's time.

    Executions are read from their log, which has all of them only if the stack's ExecutionLogLevel is ALL.
    """
    output = Output.of_context()
    story = _decided(stack, id, ago(since), output) if wait else story_of(stack, id, ago(since))
    verdict = story.verdict()
    if output.is_json:
        output.json(story.as_json())
    else:
        if life := story.timeline():
            table = Table("time (UTC)", id, box=None, pad_edge=False)
            for at, text in life:
                table.add_row(shown(at) if at else "", text)
            output.table(table)
        output.line(f"{id}: {verdict.sentence}.")
        for sentence in story.missing:
            output.note(f"Not known: {sentence}.")
    if verdict.state == "unknown" or (wait and verdict.state not in DECIDED):
        raise click.ClickException(f"{id}: {verdict.sentence}")


def _decided(stack: Stack, id: str, since: datetime, output: Output) -> Story:
    """The story once it has come to its end, or when no more is to be learned. Says on stderr what it waits for."""
    told, give_up_at = None, datetime.now(UTC) + PATIENCE
    while True:
        story, now = story_of(stack, id, since), datetime.now(UTC)
        verdict = story.verdict()
        is_lost = verdict.state in ("unclear", "unknown") and (now > give_up_at or story.missing)
        if verdict.state in DECIDED or is_lost:
            return story
        if verdict.sentence != told:
            told = verdict.sentence
            output.note(f"{id}: {told} ...")
        if verdict.due:
            give_up_at = max(now, verdict.due) + PATIENCE
        # An event due tomorrow may still be canceled, but is not watched by the second.
        left = (verdict.due - now).total_seconds() if verdict.due else 0
        time.sleep(max(WAIT_SECONDS, min(60, left / 2)))
