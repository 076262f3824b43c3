"""Times and durations on the command line. No date breaks a command: Python's calendar ends in the year 9999."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import click
from punctual_core.times import parse_date

# So that now plus or minus a duration is a time.
MAX_DURATION = timedelta(days=365_000)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# Types of options: plain functions, because click's class for them is generic only in its later versions.


def to_moment(value: str) -> datetime:
    """An ISO 8601 time, UTC unless it has an offset."""
    try:
        return parse_date(value)
    except ValueError as problem:
        raise click.BadParameter(f"{value!r} {problem}") from None


def to_duration(value: str) -> timedelta:
    """A sum of seconds, minutes, hours, and days, such as 1h30m."""
    parts = _DURATION.findall(value)
    if not parts or "".join(map("".join, parts)) != value:
        raise click.BadParameter(f"{value!r} must be a number and a unit, such as 90s, 15m, 2h, 3d, or 1h30m")
    with suppress(OverflowError):
        duration = sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
        if duration <= MAX_DURATION:
            return duration
    raise click.BadParameter(f"{value!r} is too long")


def shown(moment: datetime) -> str:
    """A time in UTC, to the millisecond, as tables have it."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")


def local(moment: datetime) -> str | None:
    """A time in this machine's time zone; None if the zone is UTC, or has no such time."""
    try:
        here = moment.astimezone()
    except (OverflowError, ValueError, OSError):
        return None
    return here.isoformat(" ", "milliseconds") if here.utcoffset() else None


def from_seconds(seconds: float) -> datetime | None:
    """The time (UTC) so many seconds after 1970 began; None beyond the calendar."""
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None


def readable(duration: timedelta) -> str:
    """A duration in the largest unit that leaves two digits of it or more."""
    seconds = abs(duration.total_seconds())
    if seconds < 10:
        return f"{seconds * 1000:,.0f} ms"
    for unit, size in (("s", 1), ("minutes", 60), ("hours", 3600)):
        if seconds < size * 100:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:,.1f} days"
