"""Rules of time: what a date means, and at which times an event's execution acts. Pure; no clock is read here."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

# A Wait state truncates to whole seconds. For a date with a fraction the execution wakes at least this long before it
# is due, and a function waits out the rest: long enough for that function's cold start.
HOLD_LEAD = timedelta(seconds=0.5)
# At least this long before it is due, and less than a second more, an execution looks up whether its event is still
# wanted: at a whole second, too. Publishers are promised two seconds; the difference is for the cancel's own way
# through topic, queue and Ingest.
CUTOFF_LEAD = timedelta(seconds=0.5)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The last time that can be rounded up to a whole second.
CALENDAR_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

# datetime.fromisoformat takes any character between date and time, and any eighth character as that separator; it cuts
# a fraction after six digits, and reads 18.5, which is half past six, as half a second past. So the pattern spells out
# the date, and a fraction has to follow seconds.
_CALENDAR = r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-W[0-9]{2}(-[0-9])?|[0-9]{4}W[0-9]{2}[0-9]?"
_CLOCK = r"[0-9]{2}(:?[0-9]{2}(:?[0-9]{2}([.,](?P<fraction>[0-9]+))?)?)?"
ISO_8601 = re.compile(rf"({_CALENDAR})(?P<clock>[T ]{_CLOCK}(Z|[+-][0-9]{{2}}(:?[0-5][0-9])?)?)?")
# As Java's ZonedDateTime is printed. An offset and a zone may contradict each other, so one of them has to go.
ZONE_SUFFIX = re.compile(r".*(\[[A-Za-z0-9_+/-]{1,40}\])")
# Ten years with their leap days. What is more is mostly a time since 1970, taken for a delay.
MAX_DELAY = timedelta(days=3653)
NOT_ISO_8601 = "must be an ISO 8601 date and time, such as 2026-12-24T18:00:00Z"
DELAYED_BEYOND_CALENDAR = "must not end after 9999-12-31T23:59:59Z"
OUTSIDE_CALENDAR = "must be from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z"


@dataclass(frozen=True)
class EventTimes:
    """The times at which the execution of an event that is `due` then (UTC) acts.

    `cutoff_at <= wake_at < due <= due_rounded_up_at`, all of them whole seconds but `due`. No time is before 1970: an
    event that is due earlier is long past, and is delivered at once.
    """

    due: datetime

    @property
    def cutoff_at(self) -> datetime:
        """When the execution looks up whether its event is still wanted."""
        return max(_floor(self._clamped - CUTOFF_LEAD), EPOCH)

    @property
    def wake_at(self) -> datetime | None:
        """When the execution of an event with a fraction of a second wakes to hold it; None for a whole second."""
        return max(_floor(self._clamped - HOLD_LEAD), EPOCH) if self._clamped.microsecond else None

    @property
    def due_rounded_up_at(self) -> datetime:
        """The first whole second at which the event is due: a Wait state can wait for nothing finer."""
        return _floor(self._clamped + timedelta(microseconds=999_999))

    @property
    def due_ms(self) -> int:
        """Milliseconds since 1970, rounded up, because nothing may be delivered early."""
        return -((EPOCH - self._clamped) // timedelta(milliseconds=1))

    @property
    def _clamped(self) -> datetime:
        return max(self.due, EPOCH)


def parse_date(text: str, timezone: ZoneInfo | None = None) -> datetime:
    """The time in UTC that an ISO 8601 text means: without an offset it is local time in the zone, or UTC if there is
    none; without a time it is the start of the day, which is midnight, or later if clocks are set forward then. A local
    time that exists twice means the first. A fraction may have any number of digits, and is rounded up to the
    microsecond: nothing may be early.

    Raises ValueError with the end of a sentence that begins with the field's name.
    """
    match = ISO_8601.fullmatch(text)
    if not match:
        if suffixed := ZONE_SUFFIX.fullmatch(text):
            raise ValueError(f"must not end with {suffixed[1]}: send an offset alone, or local time beside timezone")
        raise ValueError(NOT_ISO_8601)
    try:
        written = datetime.fromisoformat(text)
    except ValueError as impossible:
        if "isoformat" in str(impossible):  # The form is wrong. Otherwise such as "month must be in 1..12".
            raise ValueError(NOT_ISO_8601) from None
        raise ValueError(f"is not a date that exists: {str(impossible).split(',')[0]}") from None
    if written.tzinfo and timezone:
        raise ValueError("must not have an offset beside timezone")
    try:
        moment = (written if written.tzinfo else written.replace(tzinfo=timezone or UTC)).astimezone(UTC)
        if timezone and not match["clock"]:
            moment = _start_of_day(written, timezone)
        local = moment.astimezone(timezone or UTC).replace(tzinfo=None)
        exists = written.tzinfo or (local == written if match["clock"] else local.date() == written.date())
        if (match["fraction"] or "")[6:].strip("0"):  # Python has cut it off.
            moment += timedelta(microseconds=1)
    except OverflowError:
        raise ValueError(OUTSIDE_CALENDAR) from None
    if not exists:
        raise ValueError(f"is not a time that exists in {timezone}: clocks are set forward then")
    return _within_calendar(moment)


def parse_delay(seconds: object) -> timedelta:
    """The duration that a number of seconds means, to the microsecond. Raises ValueError as `parse_date` does."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValueError("must be a number of seconds")
    if seconds < 0:
        raise ValueError("must not be negative")
    if seconds > MAX_DELAY.total_seconds():
        raise ValueError("must not be more than ten years (315619200 seconds): name a date")
    return timedelta(seconds=seconds)


def after(accepted_at: datetime, delay: timedelta) -> datetime:
    """When an event is due that SNS accepted at that time. Raises ValueError as `parse_date` does."""
    try:
        return _within_calendar(accepted_at + delay)
    except (OverflowError, ValueError):
        raise ValueError(DELAYED_BEYOND_CALENDAR) from None


@cache
def zone(name: str) -> ZoneInfo:
    """The IANA time zone of that name, as the package tzdata has it: not as the machine does, which would differ
    between Lambda's images. Raises ValueError as `parse_date` does."""
    data = resources.files("tzdata")
    if name not in data.joinpath("zones").read_text().split():
        raise ValueError("must be an IANA time zone, such as Europe/Berlin")
    with data.joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def instant(moment: datetime) -> str:
    """A time in UTC as ISO 8601: in whole seconds, the only form that a Wait state honors, or else in microseconds."""
    return moment.replace(tzinfo=None).isoformat() + "Z"


def _start_of_day(midnight: datetime, zone: ZoneInfo) -> datetime:
    """The first moment that the zone shows as this day or a later one, in UTC. `midnight` is local, without a zone."""
    # If there is no such local time, these are the moments just before and after which clocks are set forward.
    before, after = (midnight.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(zone).date() < midnight.date():
            before = middle
        else:
            after = middle
    return after


def _within_calendar(moment: datetime) -> datetime:
    if moment > CALENDAR_END:
        raise ValueError(OUTSIDE_CALENDAR)
    return moment


def _floor(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
