"""Times and durations on the command line."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from ._scheduler.times import parse_date

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


class _Moment(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return parse_date(value)
        except ValueError as problem:
            self.fail(f"{value!r} {problem}", param, ctx)


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        parts = _DURATION.findall(value)
        if not parts or "".join(map("".join, parts)) != value:
            self.fail(f"{value!r} must be a number and a unit, such as 90s, 15m, 2h, 3d, or 1h30m", param, ctx)
        try:
            return sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
        except OverflowError:
            self.fail(f"{value!r} is too long", param, ctx)


# An ISO 8601 time, UTC unless it has an offset; and a number of seconds, minutes, hours, or days.
MOMENT, DURATION = _Moment(), _Duration()


def shown(moment: datetime) -> str:
    """A time in UTC, to the millisecond, as tables have it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
