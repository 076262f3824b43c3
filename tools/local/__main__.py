"""Punctual on this machine, from the shell: `python -m tools.local up`, `status`, `down`."""

import argparse
import sys

from rich.console import Console

from tools.local.emulator import LOCAL, RECORD, ROOT
from tools.local.shell import exit_on_failure, step
from tools.local.stack import LocalStack

AWS = LOCAL / "aws"  # the AWS CLI, pointed at the emulator
PORTS = range(1, 2**16)

console, progress = Console(highlight=False), Console(highlight=False, stderr=True)


def up(port: int | None) -> None:
    """Start the emulator unless it is running, deploy to it, leave it running, and print how to use it."""
    stack = LocalStack.load()
    if stack is None:
        stack = LocalStack(port=port)
        step("Start the AWS emulator", stack.start, console=console, progress=progress)
        stack.save()
    elif port not in (None, stack.port):
        sys.exit(f"The emulator is already running on port {stack.port}: stop it first (`make stop`)")
    step("Build with sam", stack.build, console=console, progress=progress)
    step("Deploy with sam", stack.deploy, console=console, progress=progress)

    settings = " ".join(f"{name}={value}" for name, value in stack.environment.items())
    AWS.write_text(f'#!/bin/sh\nexec env {settings} "{ROOT}/.venv/dev/bin/aws" --endpoint-url {stack.endpoint} "$@"\n')
    AWS.chmod(0o755)
    outputs = stack.outputs
    # The schedule starts the next sweeps, but not before the next full minute.
    stack.client("stepfunctions").start_execution(stateMachineArn=outputs["SweepArn"])
    target = stack.client("sns").create_topic(Name="target")["TopicArn"]
    in_15_seconds = "date -u -v+15S +%FT%TZ" if sys.platform == "darwin" else "date -u -d +15sec +%FT%TZ"
    print(f"""
Punctual is running. Publish an event that is due in 15 seconds:

  .local/aws sns publish --topic-arn {outputs["InputTopicArn"]} \\
    --message '{{"date": "'$({in_15_seconds})'", "user": "me", "payload": "hello", "target": "{target}"}}'

See the latest execution. It starts a few seconds before the event is due, and succeeds when that is delivered. Its
name is the event's id, the MessageId that `publish` printed:

  .local/aws stepfunctions list-executions --max-items 1 --state-machine-arn {outputs["DeliverArn"]}

Stop it with `make stop`. The log is {stack.log_path.relative_to(ROOT)}.""")


def down() -> None:
    """Stop the emulator that `up` left running."""
    if stack := LocalStack.load():
        step("Stop the AWS emulator", stack.stop, console=console, progress=progress)
    else:
        print("Nothing is running.")
    RECORD.unlink(missing_ok=True)
    AWS.unlink(missing_ok=True)


def status() -> None:
    """Print what `up` left running."""
    stack = LocalStack.load()
    if stack is None:
        sys.exit("Nothing is running.")
    print(f"Process {stack.pid} at {stack.endpoint}, log in {stack.log_path.relative_to(ROOT)}")
    for name, value in stack.outputs.items():
        print(f"  {name:24} {value}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.local", description="Punctual on this machine")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("up", help="deploy, and leave it running")
    command.add_argument("--port", type=port_number, help="of the emulator; a free one by default")
    command.set_defaults(run=lambda options: up(options.port))
    commands.add_parser("status", help="print what is running").set_defaults(run=lambda _: status())
    commands.add_parser("down", help="stop it").set_defaults(run=lambda _: down())
    options = parser.parse_args()
    with exit_on_failure():
        options.run(options)


def port_number(text: str) -> int:
    port = int(text)
    if port not in PORTS:
        raise argparse.ArgumentTypeError(f"not a port: {port}")
    return port


if __name__ == "__main__":
    main()
