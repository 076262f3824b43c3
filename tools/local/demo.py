"""The demo: publish a dozen messages to Punctual on this machine, and show the outcome of each.

    python -m tools.local.demo             exits with 0 if every message ended as expected
    python -m tools.local.demo --svg FILE  and saves the final screen as a picture

Progress goes to stderr, so stdout and the picture hold the final screen only.
"""

import argparse
import re
import sys
from pathlib import Path

from rich.console import Console

from punctual.check import table_of, watch
from punctual.consumer import Consumer
from tools.local.scenarios import SCENARIOS, LocalRun, wake
from tools.local.shell import deploy_in_steps, exit_on_failure, progress, step
from tools.local.stack import LocalStack

WIDTH = 110  # of the picture, and of the output where it does not go to a terminal


def demonstrate(console: Console, stack: LocalStack, consumer: Consumer) -> bool:
    """Run the scenarios and show their outcomes. Returns whether all ended as expected."""
    step("Start the first sweep and warm up", lambda: wake(stack, consumer), console)
    run = LocalRun(stack, consumer, SCENARIOS)
    run.publish()
    console.print(f"\n{len(SCENARIOS)} messages published to {run.input_topic}")
    watch(run, progress)
    console.print(table_of(run))
    if problems := run.problems():
        for problem in problems:
            console.print(f"WRONG  {problem}", style="red", markup=False)
        return False
    console.print(
        f"All {len(SCENARIOS)} ended as expected: none early, none delivered twice, nothing left in a table or queue.",
        style="green",
    )
    console.print("Lateness is the time from the due time until SNS, and the queue of a subscriber, had the delivery.")
    return True


def svg(console: Console) -> str:
    """What a console has recorded, as a picture that loads nothing from elsewhere."""
    picture = console.export_svg(title="make demo", unique_id="demo")
    # rich loads a font from a CDN. Any monospaced font fits, because each run of text states its length.
    picture = re.sub(r"\s*@font-face \{.*?\}|\s*<!--.*?-->", "", picture, flags=re.DOTALL)
    return picture.replace("Fira Code, monospace", "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace")


def main() -> bool:
    parser = argparse.ArgumentParser(description="Publish events of every kind to Punctual on this machine")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="save the final screen as a picture, if all went well")
    options = parser.parse_args()
    # Recorded at a fixed width, whatever the terminal's is.
    is_fixed = options.svg or not sys.stdout.isatty()
    console = Console(highlight=False, width=WIDTH if is_fixed else None, record=bool(options.svg))
    with exit_on_failure():
        stack = LocalStack()
        try:
            deploy_in_steps(stack, console)
            with Consumer(stack) as consumer:
                is_as_expected = demonstrate(console, stack, consumer)
            if options.svg and is_as_expected:
                options.svg.write_text(svg(console))
        finally:
            stack.stop()
    return not is_as_expected


if __name__ == "__main__":
    sys.exit(main())
