"""What the commands of this package share: progress on the screen, and failures as one sentence."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from punctual.interruption import exit_on_signals
from tools.local.emulator import LocalStackError
from tools.local.stack import LocalStack

progress = Console(highlight=False, stderr=True)


def step(name: str, act: Callable[[], object], console: Console) -> None:
    """Run one step. `progress` shows that it is running, `console` how long it took."""
    started_at = time.monotonic()
    with progress.status(name):
        act()
    # As wide as the lines of `make setup`, which come before these in a fresh clone.
    console.print(f"  {name:38} {time.monotonic() - started_at:3.0f} s")


def deploy_in_steps(stack: LocalStack, console: Console) -> None:
    """Start the emulator unless it is running, and deploy to it."""
    if not stack.running:
        step("Start the AWS emulator", stack.start, console)
    step("Build with sam", stack.build, console)
    step("Deploy with sam", stack.deploy, console)


@contextmanager
def exit_on_failure() -> Iterator[None]:
    """End the process with one sentence where a stack trace would not help: the emulator, sam, the file system failed.

    SIGTERM ends it as Ctrl-C does, so that what was started is stopped.
    """
    try:
        with exit_on_signals():
            yield
    except (LocalStackError, BotoCoreError, ClientError, OSError) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit(130)
