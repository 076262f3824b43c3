"""Function: the fraction of a second that a Wait state cannot wait. Imports next to nothing: it has to start fast."""

import time
from datetime import UTC, datetime
from typing import Any

# More than a workflow ever asks for. Whatever is due later has not come from ours.
MAX_HOLD_SECONDS = 3.0


def handler(event: dict, context: Any) -> None:
    """Lambda's entry. Returns when it is `event["due"]`, an ISO 8601 time in UTC; at once if that has passed."""
    due = datetime.fromisoformat(event["due"])
    # A loop, because sleep follows another clock than the one that says what time it is.
    while (seconds := (due - datetime.now(UTC)).total_seconds()) > 0:
        if seconds > MAX_HOLD_SECONDS:
            raise ValueError(f"due in {seconds} seconds, which is not a fraction of one")
        time.sleep(seconds)
