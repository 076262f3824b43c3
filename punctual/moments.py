"""Times and durations on the command line."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import click
from punctual_core.times import parse_date

# So that now plus or minus a duration is a time.
MAX_DURATION = timedelta(days=365_000)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


# Callbacks of options, because click's class for parameter types is generic only in its later versions.


def to_moment(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """An ISO 8601 time, UTC unless it has an offset."""
    if value is None:
        return None
    try:
        return parse_date(value)
    except ValueError as problem:
        raise click.BadParameter(f"{value!r} {problem}") from None


def to_duration(context: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    """A sum of seconds, minutes, hours, and days, such as 1h30m."""
    if value is None:
        return None
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
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
