"""The benchmark: how late events are, and how fast the Sweeper starts them. README.md says how to run it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from punctual.stack import Stack
from tools.bench import lateness, sweep
from tools.documents import conditions, markdown_table
from tools.local import LocalStack
from tools.local.shell import exit_on_failure


@contextmanager
def local_stack() -> Iterator[LocalStack]:
    """Punctual, deployed to an emulator that ends with the block."""
    with LocalStack() as stack:
        stack.build()
        stack.deploy()
        stack.start_sweep()
        yield stack


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Benchmark of Punctual."""


@main.command("lateness")
@click.option("--stack", "name", metavar="NAME", help="Measure this stack on AWS instead of a local one.")
@click.option("--rate", default=4, help="Events due in each second, on each path.")
@click.option("--seconds", default=60, help="Time in which events are due.")
def run_lateness(name: str | None, rate: int, seconds: int) -> None:
    """How late events are: a report in Markdown."""
    if name:
        stack = Stack(name)
        events = lateness.measure(stack, rate, seconds)
        # If the environment names an endpoint, what answers there need not be AWS.
        where = f"stack {name} at {stack.client('stepfunctions').meta.endpoint_url}"
    else:
        with local_stack() as local:
            events, where = lateness.measure(local, rate, seconds), "a local emulator"
    print(f"{conditions()}, {where}. Milliseconds from the due time until the consumer's queue had the message.\n")
    print(markdown_table(lateness.HEADS, lateness.figures(events)))
    sys.exit(any(event.late_ms is None or event.late_ms < 0 for event in events))


@main.command("sweep")
@click.option("--events", default=400, help="Parked events of one lane, due in the same second.")
def run_sweep(events: int) -> None:
    """How fast the Sweeper starts events."""
    with local_stack() as stack:
        seconds, bare_rate = sweep.measure(stack, events)
    print(
        f"{conditions()}, a local emulator. {events:,} events of a lane, due in the same second, were started within "
        f"{seconds:.1f} s, {events / seconds:.0f} a second. A bare loop starts {bare_rate:.0f} a second."
    )


if __name__ == "__main__":
    with exit_on_failure():
        main(prog_name="python -m tools.bench")
