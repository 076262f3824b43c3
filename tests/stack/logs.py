"""What a function on the emulator has logged."""

import json
import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

WAIT_SECONDS = 30


def wait_for_entry(
    logs: Any, group: str, is_wanted: Callable[[dict], bool], seconds: float = WAIT_SECONDS
) -> list[dict]:
    """The JSON objects in a log group as soon as one of them is wanted, or what there is after so many seconds."""
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            lines = [line for page in pages for event in page["events"] for line in event["message"].splitlines()]
        except ClientError:  # A function without a log group of its own has none before its first invocation.
            lines = []
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        if any(map(is_wanted, entries)) or time.monotonic() > give_up_at:
            return entries
        time.sleep(0.3)
