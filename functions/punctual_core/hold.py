"""Function: waits out the fraction of a second that a Wait state cannot wait. Imports little: it has to start fast."""

import time
from typing import Any

# More than an execution ever asks for: whatever is due later does not come from one.
MAX_HOLD_SECONDS = 3.0


def handler(event: dict[str, Any], context: Any) -> None:
    """Lambda's entry. Returns when it is `event["due_ms"]`, in milliseconds since 1970; at once if that has passed."""
    due = event["due_ms"] / 1000
    # A loop, because sleep follows another clock than the one that says what time it is.
    while (seconds := due - time.time()) > 0:
        if seconds > MAX_HOLD_SECONDS:
            raise ValueError(f"due in {seconds} seconds, which is not a fraction of one")
        time.sleep(seconds)
