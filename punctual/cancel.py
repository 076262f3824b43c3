"""The command `cancel`: by id, or all parked events that are selected."""

import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError
from punctual_core.lanes import due_of

from . import Scheduler
from .executions import RUNNING
from .listing import selecting, selection_of, tell
from .moments import shown
from .output import Output, plural
from .parked import Parked, Selection, parked_events
from .schedule import scheduler_of
from .show import to_id
from .stack import Stack, sentence_of
from .story import Verdict, ago, story_of

# A cancel holds until so long before the event is due.
CUTOFF = timedelta(seconds=2)
# How long to look for an event that was canceled: whether it is found changes nothing.
LOOK_UP_SECONDS = 10
# Cancels on their way at a time. SNS takes 300 a second at least, in any Region.
PUBLISHERS = 10
SHOWN = 20


@dataclass(frozen=True)
class Canceled:
    """A cancel that was published: what was found then, as the end of a sentence that begins with the id. `is_found` is
    False if there is no such event, `is_late` if the event may be delivered all the same."""

    id: str
    found: str
    sentence: str
    due: datetime | None = None
    is_found: bool = True
    is_late: bool = False

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "id": self.id,
            "found": self.found,
            "sentence": self.sentence,
            "due": self.due.isoformat() if self.due else None,
            "too_late": self.is_late,
        }


def cancel(stack: Stack, scheduler: Scheduler, id: str) -> Canceled:
    """Publish a cancel, and look for the event. Raises `InvalidEvent` or botocore's errors if it is not published."""
    with ThreadPoolExecutor(1) as looker:
        # Beside each other: the cancel does not wait for the look, which would find only the cancel once Ingest has it.
        look = looker.submit(story_of, stack, id, ago(RUNNING), seconds=LOOK_UP_SECONDS)
        scheduler.cancel(id)
        published_at = datetime.now(UTC)
        story = look.result()
    verdict = story.verdict()
    key = (story.item or {}).get("parked", {}).get("S")
    if verdict.state == "unclear" and key and due_of(key) > published_at:
        # The register still had the event, and Ingest took it from its lane before that was read.
        verdict = Verdict("parked", verdict.sentence, due_of(key))
    is_late = verdict.due is not None and verdict.due - published_at < CUTOFF
    match verdict.state:
        case "parked" | "retried" | "waiting":
            due = f", due at {shown(verdict.due)} UTC" if verdict.due else ""
            sentence = f"canceled; it was {verdict.state}{due}"
            if is_late:
                sentence += ": less than two seconds after the cancel, so it may be delivered all the same"
        case "canceled":
            sentence = "canceled; a cancel of it is in effect"
        case "unclear" | "replaced":
            sentence = f"canceled; it was {verdict.sentence}"
        case "unknown" if story.missing:
            sentence = f"canceled, if there is such an event; {'; '.join(story.missing)}"
        case "unknown":
            sentence = "no such event found: the cancel is published, in case the event is on its way"
            return Canceled(id, "unknown", sentence, is_found=False)
        case _:
            return Canceled(id, verdict.state, f"too late: {verdict.sentence}", is_late=True)
    return Canceled(id, verdict.state, sentence, verdict.due, is_late=is_late)


def cancel_all(scheduler: Scheduler, events: Iterable[Parked]) -> Iterator[tuple[Parked, str | None]]:
    """Publish a cancel of each event, in any order; yields the event and why its cancel could not be published."""
    with ThreadPoolExecutor(PUBLISHERS) as pool:
        try:
            waiting = {pool.submit(scheduler.cancel, event.id): event for event in events}
            for publication in as_completed(waiting):
                event, error = waiting[publication], publication.exception()
                if isinstance(error, ClientError | BotoCoreError):
                    yield event, sentence_of(error)
                else:
                    yield event, publication.result()  # None, unless it raises any other error.
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@click.command("cancel")
@click.argument("ids", nargs=-1, type=to_id, metavar="[ID]...")
@selecting
@click.option("--dry-run", is_flag=True, help="Only show which parked events are selected.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def cancel_command(stack: Stack, /, ids: tuple[str, ...], dry_run: bool, yes: bool, **options: Any) -> None:
    """Cancel events: by their ids, or all parked ones that the options select.

    A cancel is published first, even if the event is unknown, because it may be on its way; then it is said what was
    found. A cancel holds until two seconds before the event is due. Interrupted, the command can be repeated.

    The options select only what is parked, not what is due within seconds or on its way. DynamoDB bills what it reads:
    all parked events between --after and --before.
    """
    if bool(ids) == any(options.values()):
        raise click.UsageError("Give either ids or options that select parked events")
    selection, output = selection_of(stack, options), Output.of_context()
    if not ids:
        _cancel_selected(stack, selection, dry_run, yes, output)
    elif not dry_run:
        _cancel_by_id(stack, ids, output)
    elif output.is_json:
        output.json_list(story_of(stack, id, ago(RUNNING)).as_json() for id in ids)
    else:
        for id in ids:
            output.line(f"{id}: {story_of(stack, id, ago(RUNNING)).verdict().sentence}.")


def _cancel_by_id(stack: Stack, ids: tuple[str, ...], output: Output) -> None:
    scheduler, results, failed = scheduler_of(stack), [], []
    for id in dict.fromkeys(ids):
        try:
            result = cancel(stack, scheduler, id)
        except (ClientError, BotoCoreError) as error:
            failed.append(f"{id} is not canceled: {sentence_of(error)}")
            continue
        results.append(result)
        if not output.is_json:
            output.published(None, f"{id}: {result.sentence}.")
    if output.is_json:
        output.published([result.as_json() for result in results], "")
    missing = [result.id for result in results if not result.is_found]
    if missing:
        failed.append(f"no such event found: {', '.join(missing)}")
    if failed:
        raise click.ClickException("; ".join(failed))


def _cancel_selected(stack: Stack, selection: Selection, dry_run: bool, yes: bool, output: Output) -> None:
    wanted, events = (event for event in parked_events(stack, selection) if event.state == "parked"), list[Parked]()
    if dry_run and output.is_json:
        output.json_list(event.as_json() for event in wanted)
        return
    with output.progress() as progress:
        task = progress.add_task("Reading parked events", total=None)
        for event in wanted:
            # Of a crowd only ids and dates are kept: payloads may be more than fits in memory.
            events.append(event if len(events) < SHOWN else replace(event, input={}))
            progress.update(task, description=plural(len(events), "event"))
    if dry_run or not yes:
        if not output.is_json:
            tell(output, events[:SHOWN])
        more = f", of which the first {SHOWN} are listed" if len(events) > SHOWN else ""
        output.note(f"{plural(len(events), 'event')} selected{more}.")
    if dry_run:
        return
    if events and not yes:
        if not (sys.stdin and sys.stdin.isatty()):
            raise click.UsageError("Give --yes to cancel without being asked")
        click.confirm(f"Cancel {plural(len(events), 'event')}?", abort=True, err=True)
    done, late, failed = 0, [], []
    try:
        with output.progress() as progress:
            task = progress.add_task("Canceling", total=len(events))
            for event, error in cancel_all(scheduler_of(stack), events):
                progress.advance(task)
                if error:
                    failed.append(error)
                    continue
                done += 1
                if event.due - datetime.now(UTC) < CUTOFF:
                    late.append(event.id)
    finally:  # Interrupted, too.
        summary = {"canceled": done, "selected": len(events), "failed": len(failed), "too_late": late}
        output.published(summary, f"Canceled {done:,} of {plural(len(events), 'event')}.")
        if late and not output.is_json:
            output.note(f"Due within two seconds of the cancel, so perhaps delivered all the same: {', '.join(late)}")
    if failed:
        raise click.ClickException(f"{plural(len(failed), 'event')} not canceled: {failed[0]}. Run it again")
