"""Whether a deployed stack works: `check`."""

import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .consumer import Consumer
from .interruption import uninterrupted
from .moments import from_seconds, to_duration
from .output import Output
from .scenarios import FAILURE_TOPIC, MAX_LATENESS, Outcome, Run, scenarios
from .stack import Stack

# The horizon is this much longer than the interval between two sweeps (template.yaml, Horizon).
LEAD_SECONDS = 3
# Lambda takes up to a minute to begin polling the queue of a new stack.
WAKE_SECONDS = 120
# At low traffic Lambda collects messages for up to so long, whatever the batching window is, if there is one
# (docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html).
MAX_BATCHING = timedelta(seconds=20)
# The Clock starts a sweep each minute, in a new stack within the first. By then the latest one started so long ago.
SWEEP_AGE, SWEEP_WAIT_SECONDS, SWEEP_LOOK_SECONDS = timedelta(minutes=2), 90, 2
# A run adds at most 20 characters to it, and an event's id has at most 64.
TOPIC_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,40}")

# What has ended as its publisher wants is not yellow.
STYLES = {"delivered": "green", "reported": "magenta", "refused": "magenta", "canceled": "cyan", "replaced": "cyan"}


def watch(run: Run, console: Console) -> None:
    """Watch a run to its end, and show the current state of each event: in a live table on a terminal, otherwise on one
    line per change."""
    shown: dict[str, str] = {}
    with Live(get_renderable=lambda: table_of(run), console=console, auto_refresh=False, transient=True) as view:
        for _ in run.watch():
            view.refresh()
            for outcome in () if console.is_terminal else run.outcomes:
                name, state = outcome.scenario.name, run.state(outcome)
                if shown.get(name) != state:
                    shown[name] = state
                    elapsed = (run.now() - run.started_at).total_seconds()
                    console.print(f"  {elapsed:5.1f} s  {name:24} {state}")


def table_of(run: Run) -> Table:
    """What has become of each event so far."""
    table = Table("event", "due (UTC)", "ms late: SNS", "SQS", "outcome", box=None, pad_edge=False)
    for column in table.columns[:4]:
        column.no_wrap = True
    for column in table.columns[2:4]:
        column.justify = "right"
    for outcome in run.outcomes:
        late = [f"{ms:,}" for ms in outcome.late_ms] if outcome.is_due_later else []
        due = outcome.due.time().isoformat("milliseconds") if outcome.has_date else ""
        state, copies = run.state(outcome), len(outcome.deliveries)
        left = (outcome.due - run.now()).total_seconds() if outcome.has_date else 0
        more = f", in {left:.0f} s" if left > 0 else f", {copies} times" if copies > 1 else ""
        # Without SNS's own sentence, which is as long as a table.
        why = f": {outcome.error.removeprefix('not delivered: ').partition(':')[0]}" if outcome.error else ""
        result = Text.assemble((state, STYLES.get(state, "yellow")), more, why)
        table.add_row(outcome.scenario.name, due, *(late or ["", ""]), result)
    return table


def _prefix(context: click.Context, parameter: click.Parameter, prefix: str) -> str:
    if not TOPIC_PREFIX.fullmatch(prefix):
        raise click.BadParameter(f"{prefix!r} must be 1 to 40 characters of A-Z, a-z, 0-9, _ and -")
    return prefix


@click.command("check")
@click.option(
    "--topic-prefix",
    default="punctual-check",
    show_default=True,
    callback=_prefix,
    metavar="PREFIX",
    help="Begins the names of the topics, queues, and ids. TargetTopicArns must allow such topics.",
)
@click.option(
    "--max-lateness",
    type=to_duration,
    default=f"{MAX_LATENESS.seconds}s",
    show_default=True,
    metavar="DURATION",
    help="How late a delivery may be.",
)
@click.pass_obj
def check_command(stack: Stack, topic_prefix: str, max_lateness: timedelta) -> None:
    """Check that the stack works: send it an event of each kind, and wait for what arrives.

    Takes about half a minute, and up to a minute more in a new stack, where it waits for the first sweep. Creates
    topics and queues of its own and removes them at the end. One event goes to a topic that does not exist: its
    execution fails, which DeliverFailedAlarm reports.

    Lateness is from an event's date until SNS accepted its delivery, by the clock of SNS, and until SQS did, by the
    clock of SQS.
    """
    output, name = Output.of_context(), f"{topic_prefix}-{uuid.uuid4().hex[:8]}"
    if stack.rules().objection_to(stack.topic_arn(f"{name}-orders")):
        allowed = stack.topic_arn(f"{topic_prefix}-*")
        raise click.UsageError(
            f"The stack may not publish to the topics of the check: allow {allowed} in its parameter TargetTopicArns,"
            " or give another --topic-prefix"
        )
    progress = Console(stderr=True, highlight=False)
    progress.print(f"The names of the check's topics, queues, and ids begin with {name}.", soft_wrap=True)
    _check_clock(stack)
    run = _run(stack, name, max_lateness, progress)
    problems = {outcome.scenario.name: list(run.problems_of(outcome)) for outcome in run.outcomes}
    failed = sum(map(bool, problems.values()))
    if output.is_json:
        events = [_as_json(run, outcome, problems[outcome.scenario.name]) for outcome in run.outcomes]
        output.json({"passed": not failed, "events": events})
    else:
        output.table(table_of(run))
        for event, sentences in problems.items():
            for sentence in sentences:
                output.line(f"WRONG  {event}: {sentence}")
    if failed:
        raise click.ClickException(f"{failed} of {len(problems)} events did not end as they should")
    if not output.is_json:
        latest = max(outcome.late_ms[0] for outcome in run.outcomes if outcome.late_ms and outcome.is_due_later)
        output.line(f"All {len(problems)} ended as they should: none early, {latest} ms late at most.")


def _run(stack: Stack, name: str, max_lateness: timedelta, progress: Console) -> Run:
    """Run the scenarios. `name` begins the names of whatever is created for that."""
    horizon = LEAD_SECONDS + int(stack.parameter("SweepIntervalSeconds", "5"))
    batching = batching_of(stack)
    with _consumer(stack, name) as consumer:
        progress.print("  Creating topics and queues ...")
        with uninterrupted():
            events = scenarios(horizon, batching.total_seconds())
            run = Run(stack, consumer, events, prefix=f"{name}-", max_lateness=max_lateness, batching=batching)
        clock_offset, publish_duration = consumer.connect()
        # Below a second it is as likely to be the duration of the call, and changes nothing.
        if abs(clock_offset) >= timedelta(seconds=1):
            run.clock_offset = clock_offset
            seconds = clock_offset.total_seconds()
            progress.print(f"The clock of SNS is {seconds:+.1f} s from this machine's. The check uses that of SNS.")
        progress.print("  Waiting for Ingest, and for a sweep of the Clock ...")
        _wake(stack, run)
        _await_sweep(stack, run)
        try:
            run.publish(publish_duration)
            watch(run, progress)
        finally:
            with uninterrupted():
                _cancel_missing(run)
    return run


def batching_of(stack: Stack) -> timedelta:
    """How long Lambda may collect messages before it invokes Ingest."""
    return MAX_BATCHING if stack.parameter("IngestBatchingSeconds", "0") != "0" else timedelta()


def _check_clock(stack: Stack) -> None:
    """Raise ClickException if the schedule that starts the sweeps is disabled."""
    name = stack.physical_id("Clock")
    state = stack.client("scheduler").get_schedule(Name=name)["State"]
    if state != "ENABLED":
        raise click.ClickException(
            f"The stack's schedule Clock ({name}) is {state.lower()}, so parked events are not delivered"
        )


def _await_sweep(stack: Stack, run: Run) -> None:
    """Wait until the Clock has started a sweep lately, which the table Parked has on record."""
    dynamodb, key = stack.client("dynamodb"), {"lane": {"S": "clock"}, "sort_key": {"S": "latest"}}
    give_up_at = time.monotonic() + SWEEP_WAIT_SECONDS
    while True:
        record = dynamodb.get_item(TableName=stack.output("ParkedTableName"), Key=key, ConsistentRead=True).get("Item")
        started_at = from_seconds(float(record["started_ms"]["N"]) / 1000) if record else None
        if started_at and run.now() - started_at < SWEEP_AGE:
            return
        if time.monotonic() > give_up_at:
            last = f"the last one started at {started_at:%F %T} UTC" if started_at else "none ever did"
            raise click.ClickException(
                f"No sweep has started within {SWEEP_WAIT_SECONDS} s, {last}: see Sweep and its schedule Clock"
            )
        time.sleep(SWEEP_LOOK_SECONDS)


def _wake(stack: Stack, run: Run) -> None:
    """Have Ingest report a message that is not an event: the first events are not to wait for its cold start."""
    message = json.dumps({"failure_topic": run.topics[FAILURE_TOPIC]})
    stack.client("sns").publish(TopicArn=run.input_topic, Message=message)
    if not run.consumer.wait_until(bool, WAKE_SECONDS):
        raise click.ClickException(
            f"The stack has not answered within {WAKE_SECONDS} s: a message that is not an event was published to"
            " InputTopic, and no failure report arrived. See the log of the function Ingest"
        )


def _cancel_missing(run: Run) -> None:
    """Cancel what has not arrived: without its topics it would be reported to the stack's failure topic later."""
    run.observe()
    with suppress(ClientError, BotoCoreError):
        for outcome in run.outcomes:
            if run.is_incomplete(outcome):
                run.cancel(outcome.id)


def _as_json(run: Run, outcome: Outcome, problems: list[str]) -> dict[str, Any]:
    by_sns, by_sqs = outcome.late_ms or (None, None)
    return {
        "name": outcome.scenario.name,
        "id": outcome.id,
        "due": outcome.due.isoformat() if outcome.has_date else None,
        "expected": outcome.scenario.expected,
        "outcome": run.state(outcome),
        "late_ms_by_sns": by_sns,
        "late_ms_by_sqs": by_sqs,
        "error": outcome.error,
        "problems": problems,
    }


@contextmanager
def _consumer(stack: Stack, name: str) -> Iterator[Consumer]:
    """A consumer that is closed when the block ends, in whatever way."""
    consumer, is_done = Consumer(stack, name), False
    try:
        yield consumer
        is_done = True
    finally:
        with uninterrupted():
            try:
                consumer.close()
            except (ClientError, BotoCoreError) as error:
                sentence = f"Remove the topics and queues whose names begin with {name}: not all could be ({error})"
                if is_done:
                    raise click.ClickException(sentence) from error
                Output.of_context().note(sentence)  # Beside the sentence that says why the check has ended.
