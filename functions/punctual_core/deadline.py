"""How much time an invocation has left. A handler makes one `Deadline` and passes it down."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self


@dataclass(frozen=True)
class Deadline:
    """When Lambda ends an invocation: `ends_at` (UTC), and the seconds until then at any moment."""

    ends_at: datetime
    seconds_left: Callable[[], float]

    @classmethod
    def of_invocation(cls, context: Any, now: datetime) -> Self:
        """The deadline that Lambda's context object states; `now` is the time at which the handler was called."""

        def seconds_left() -> float:
            return float(context.get_remaining_time_in_millis()) / 1000

        return cls(now + timedelta(seconds=seconds_left()), seconds_left)

    def now(self) -> datetime:
        """What time it is (UTC), by the clock that ends the invocation."""
        return self.ends_at - timedelta(seconds=self.seconds_left())

    def seconds_until(self, margin: float) -> float:
        """Seconds until only `margin` seconds are left; 0 if that is now or has passed."""
        return max(self.seconds_left() - margin, 0.0)

    def has_passed(self, margin: float) -> bool:
        """Whether less than `margin` seconds are left."""
        return self.seconds_left() < margin

    def within(self, seconds: float) -> "Deadline":
        """A deadline so many seconds from now, or this one if that comes first."""
        spare = max(self.seconds_left() - seconds, 0.0)
        return Deadline(self.ends_at - timedelta(seconds=spare), lambda: self.seconds_left() - spare)
