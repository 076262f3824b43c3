"""What a function on the emulator has logged."""

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

WAIT_SECONDS = 30


def wait_for_lines(logs: Any, function: str, enough: Callable[[list[str]], bool]) -> list[str]:
    """The lines in a function's log as soon as they are enough, or what there is after `WAIT_SECONDS`."""
    give_up_at = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{function}")
            lines = [line for page in pages for event in page["events"] for line in event["message"].splitlines()]
        except ClientError:  # no log group before the first invocation
            lines = []
        if enough(lines) or time.monotonic() > give_up_at:
            return lines
        time.sleep(0.3)
