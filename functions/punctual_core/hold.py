"""Function: waits out the fraction of a second that a Wait state cannot wait. Imports little: it has to start fast."""

import time
from typing import Any

# An execution asks for at most 1.5 seconds (times.py). Whatever is due later does not come from one, and would not end
# within the function's timeout of 2 seconds.
MAX_HOLD_SECONDS = 1.75


def handler(event: dict[str, Any], context: Any) -> None:
    """Lambda's entry. Returns when it is `event["due_ms"]`, in milliseconds since 1970; at once if that has passed."""
    due = event["due_ms"] / 1000
    # A loop, because sleep follows another clock than the one that says what time it is.
    while (seconds := due - time.time()) > 0:
        if seconds > MAX_HOLD_SECONDS:
            raise ValueError(f"due in {seconds} seconds, which is not a fraction of one")
        time.sleep(seconds)
