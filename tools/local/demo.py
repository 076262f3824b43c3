"""The demo: publish a dozen messages to Punctual on this machine, and show the outcome of each.

    python -m tools.local.demo             exits with 0 if every message ended as expected
    python -m tools.local.demo --svg FILE  and saves the final screen as a picture

Progress goes to stderr, so stdout and the picture hold the final screen only.
"""

import argparse
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tools.local.consumers import Consumer
from tools.local.scenarios import SCENARIOS, Outcome, Run, wake
from tools.local.shell import exit_on_failure, step
from tools.local.stack import LocalStack

WIDTH = 110  # of the picture, and of the output where it does not go to a terminal
STYLES = {"delivered": "green", "reported": "magenta", "refused": "magenta", "canceled": "cyan", "replaced": "cyan"}


class View:
    """The current state of each event: a live table on a terminal, otherwise one line per change."""

    def __init__(self, console: Console, run: Run) -> None:
        self._console, self._run = console, run
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def refresh(self) -> None:
        now = datetime.now(UTC)
        if self._live:
            self._live.update(self._table(now), refresh=True)
            return
        for outcome in self._run.outcomes:
            name, state = outcome.scenario.name, outcome.state(now)
            if self._shown.get(name) != state:
                self._shown[name] = state
                elapsed = (now - self._run.started_at).total_seconds()
                self._console.print(f"  {elapsed:5.1f} s  {name:24} {state}")

    def _table(self, now: datetime) -> Table:
        table = Table("event", "due", "", "state", box=None, padding=(0, 2))
        for outcome in self._run.outcomes:
            left = (outcome.due - now).total_seconds()
            state = outcome.state(now)
            table.add_row(
                outcome.scenario.name,
                _clock(outcome.due) if outcome.has_date else "",
                f"in {left:.0f} s" if left > 0 and outcome.has_date else "",
                f"[{_style(state)}]{state}",
            )
        return table


def result(run: Run) -> Table:
    """The outcome of each message, as a table."""
    table = Table("event", "due", "arrived", "late (ms)", "outcome", "execution", box=SIMPLE, padding=(0, 1, 0, 0))
    table.columns[3].justify = "right"
    for column in table.columns:
        column.no_wrap = True
    for outcome in run.outcomes:
        arrivals = outcome.deliveries + outcome.reports
        state = outcome.state(run.ends_at).partition(",")[0]
        table.add_row(
            outcome.scenario.name,
            _clock(outcome.due) if outcome.has_date else "",
            _clock(arrivals[0].received_at) if arrivals else "",
            _milliseconds_late(outcome),
            f"[{_style(state)}]{state}[/]{_reason(outcome)}",
            (outcome.status or "").lower(),
        )
    return table


def demonstrate(console: Console, progress: Console, stack: LocalStack, consumer: Consumer) -> bool:
    """Run the scenarios and show their outcomes. Returns whether all ended as expected."""
    step("Start the first sweep and warm up", lambda: wake(stack, consumer), console=console, progress=progress)
    run = Run(stack, consumer, SCENARIOS)
    console.print(f"\n{len(SCENARIOS)} messages published to {run.outputs['InputTopicArn']}")
    run.publish()
    with View(progress, run) as view:
        for _ in run.watch():
            view.refresh()
    console.print(result(run))
    problems = run.problems()
    for problem in problems:
        console.print(f"WRONG  {problem}", style="red", markup=False)
    if problems:
        return False
    console.print(
        f"All {len(SCENARIOS)} ended as expected: none early, none delivered twice, nothing left in a table or queue.",
        style="green",
    )
    console.print("Lateness is measured at the consumer. The emulator checks the consumer's queue every 100 ms.")
    return True


def svg(console: Console) -> str:
    """What a console has recorded, as a picture that loads nothing from elsewhere."""
    picture = console.export_svg(title="make demo", unique_id="demo")
    # rich loads a font from a CDN. Any monospaced font fits, because each run of text states its length.
    picture = re.sub(r"\s*@font-face \{.*?\}|\s*<!--.*?-->", "", picture, flags=re.DOTALL)
    return picture.replace("Fira Code, monospace", "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace")


def main() -> int:
    parser = argparse.ArgumentParser(description="Publish events of every kind to Punctual on this machine")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="save the final screen as a picture, if all went well")
    options = parser.parse_args()
    # Recorded at a fixed width, whatever the terminal's is.
    is_fixed = options.svg or not sys.stdout.isatty()
    console = Console(highlight=False, width=WIDTH if is_fixed else None, record=bool(options.svg))
    progress = Console(highlight=False, stderr=True)
    with exit_on_failure():
        stack = LocalStack()
        try:
            for name, act in (
                ("Start the AWS emulator", stack.start),
                ("Build with sam", stack.build),
                ("Deploy with sam", stack.deploy),
            ):
                step(name, act, console=console, progress=progress)
            with Consumer(stack) as consumer:
                is_as_expected = demonstrate(console, progress, stack, consumer)
            if options.svg and is_as_expected:
                options.svg.write_text(svg(console))
        finally:
            stack.stop()
    return 0 if is_as_expected else 1


def _style(state: str) -> str:
    return STYLES.get(state.partition(",")[0], "yellow")


def _reason(outcome: Outcome) -> str:
    if not outcome.reports:
        return ""
    error: str = json.loads(outcome.reports[0].message)["error"]
    # Without SNS's own sentence, which is as long as the table.
    return f": {error.removeprefix('not delivered: ').partition(':')[0]}"


def _milliseconds_late(outcome: Outcome) -> str:
    if not outcome.deliveries or not outcome.is_due_later:
        return ""
    return f"{outcome.lateness(outcome.deliveries[0]) / timedelta(milliseconds=1):.0f}"


def _clock(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03}"


if __name__ == "__main__":
    sys.exit(main())
