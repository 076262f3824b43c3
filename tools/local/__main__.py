"""Punctual on this machine, from the shell: `python -m tools.local up` and `down`."""

import sys
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from punctual.consumer import Consumer
from tools.local.emulator import LOCAL, RECORD, ROOT
from tools.local.scenarios import wake
from tools.local.shell import deploy_in_steps, exit_on_failure, step
from tools.local.stack import LocalStack

DEV = ROOT / ".venv/dev/bin"
AWS, PUNCTUAL = LOCAL / "aws", LOCAL / "punctual"  # the AWS CLI and the command punctual, pointed at the emulator
console = Console(highlight=False)

INSTRUCTIONS = """
Punctual is running. Schedule an event for the topic `target`, list the parked events, show this one, and cancel it:

  .local/punctual schedule --target target --in 5m --payload hello --user me --id greeting
  .local/punctual list
  .local/punctual show greeting
  .local/punctual cancel greeting

Have one delivered. Ten seconds later, `show` says when it passed each state and how late it was:

  .local/punctual schedule --target target --in 10s --payload hello --user me --id soon
  .local/punctual show soon

Look at all of that on a page in the browser:

  .local/punctual web

Check the stack, with an event of each kind:

  .local/punctual check

`.local/punctual --help` lists all commands; `.local/aws` is the AWS CLI, pointed at the emulator."""


@click.group()
def main() -> None:
    """Punctual on this machine."""


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Of the emulator; a free one by default.")
def up(port: int | None) -> None:
    """Start the emulator unless it is running, deploy to it, leave it running, and print how to use it."""
    running = LocalStack.load()
    stack = running or LocalStack(port=port)
    if port not in (None, stack.port):
        sys.exit(f"The emulator is already running on port {stack.port}: stop it first (`make stop`)")
    try:
        deploy_in_steps(stack, console)
    finally:
        if stack.running:
            stack.save()
    if not running:
        with Consumer(stack) as consumer:
            step("Start the first sweep and warm up", partial(wake, stack, consumer), console)
    stack.client("sns").create_topic(Name="target")

    settings = " ".join(f"{name}={value}" for name, value in stack.environment.items())
    write_script(AWS, f'{settings} "{DEV}/aws" --endpoint-url {stack.endpoint}')
    write_script(PUNCTUAL, f'{settings} PYTHONPATH="{ROOT}" "{DEV}/python" -m punctual')
    print(INSTRUCTIONS)
    print(f"Stop it with `make stop`. The log is {stack.log_path.relative_to(ROOT)}.")


def write_script(path: Path, command: str) -> None:
    """Write a script that runs a command, with its settings before it and the script's arguments after it."""
    path.write_text(f'#!/bin/sh\nexec env {command} "$@"\n')
    path.chmod(0o755)


@main.command()
def down() -> None:
    """Stop the emulator that `up` left running."""
    if stack := LocalStack.load():
        step("Stop the AWS emulator", stack.stop, console)
    else:
        print("Nothing is running.")
    for file in (RECORD, AWS, PUNCTUAL):
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    with exit_on_failure():
        main(prog_name="python -m tools.local")
