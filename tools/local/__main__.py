"""The local stack from the shell: `python -m tools.local up`, `status`, `down`."""

import argparse
import sys
import time
from collections.abc import Callable

from tools.local.stack import AWS, RECORD, ROOT, LocalStack, LocalStackError


def up(port: int | None) -> None:
    """Start the emulator unless it runs already, deploy to it, leave it running, and say how to use it."""
    stack = LocalStack.load()
    if stack is None:
        stack = LocalStack(port=port)
        _step("Start the emulator", stack.start)
        stack.save()
    _step("Build", stack.build)
    _step("Deploy", stack.deploy)

    settings = " ".join(f"{name}={value}" for name, value in stack.environment.items())
    AWS.write_text(f'#!/bin/sh\nexec env {settings} "{ROOT}/.venv/dev/bin/aws" --endpoint-url {stack.endpoint} "$@"\n')
    AWS.chmod(0o755)
    target = stack.client("sns").create_topic(Name="target")["TopicArn"]
    outputs = stack.outputs
    in_15_seconds = "date -u -v+15S +%FT%TZ" if sys.platform == "darwin" else "date -u -d +15sec +%FT%TZ"
    print(f"""
Punctual is up. Its input topic is
  {outputs["InputTopicArn"]}

Publish an event that is due in 15 seconds:
  .local/aws sns publish --topic-arn {outputs["InputTopicArn"]} \\
    --message '{{"date": "'$({in_15_seconds})'", "user": "me", "payload": "hello", "target": "{target}"}}'

See the latest execution (it is named after the event, and succeeds when that is due):
  .local/aws stepfunctions list-executions --max-items 1 --state-machine-arn {outputs["DeliverArn"]}

End it with `make stop`. The log is {stack.log_path.relative_to(ROOT)}.""")


def down() -> None:
    """End the emulator that `up` left running."""
    if stack := LocalStack.load():
        _step("Stop the emulator", stack.stop)
    else:
        print("Nothing is running.")
    RECORD.unlink(missing_ok=True)
    AWS.unlink(missing_ok=True)


def status() -> None:
    """Say what `up` left running."""
    stack = LocalStack.load()
    if stack is None:
        sys.exit("Nothing is running.")
    print(f"Process {stack.pid} at {stack.endpoint}, with its log in {stack.log_path.relative_to(ROOT)}")
    for name, value in stack.outputs.items():
        print(f"  {name:24} {value}")


def _step(name: str, act: Callable[[], object]) -> None:
    print(f"  {name:38}", end="", flush=True)
    started_at = time.monotonic()
    act()
    print(f" {time.monotonic() - started_at:3.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Punctual on this machine")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("up", help="deploy, and leave it running")
    command.add_argument("--port", type=int, help="of the emulator; a free one by default")
    command.set_defaults(run=lambda options: up(options.port))
    commands.add_parser("down", help="end it").set_defaults(run=lambda _: down())
    commands.add_parser("status", help="what is running").set_defaults(run=lambda _: status())
    options = parser.parse_args()
    try:
        options.run(options)
    except LocalStackError as error:
        sys.exit(f"\n{error}")


if __name__ == "__main__":
    main()
