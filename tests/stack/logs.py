"""What a function on the emulator has logged."""

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

WAIT_SECONDS = 30


def wait_for_lines(
    logs: Any, group: str, enough: Callable[[list[str]], bool], seconds: float = WAIT_SECONDS
) -> list[str]:
    """The lines in a log group as soon as they are enough, or what there is after so many seconds."""
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            lines = [line for page in pages for event in page["events"] for line in event["message"].splitlines()]
        except ClientError:  # A function without a log group of its own has none before its first invocation.
            lines = []
        if enough(lines) or time.monotonic() > give_up_at:
            return lines
        time.sleep(0.3)
