"""When an event is due, and the times at which its execution acts."""

import importlib.resources
import json
import re
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from punctual_core.event import Event, Refused, parse
from punctual_core.lanes import due_of, sort_key
from punctual_core.times import CUTOFF_LEAD, EPOCH, HOLD_LEAD, EventTimes, instant
from punctual_core.times import zone as load_zone

from tests.conftest import event
from tests.rules.messages import RULES, refusal, without

SECOND = timedelta(seconds=1)

_NOT_ISO = "date must be an ISO 8601 date and time, such as 2026-12-24T18:00:00Z"
_SUFFIX = "date must not end with [{}]: send an offset alone, or local time beside timezone"
_OUT_OF_RANGE = "date must be from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z"


ACCEPTED_AT = datetime(2026, 12, 24, 9, 0, 0, 123_000, UTC)


def accepted(message: dict, accepted_at: datetime = ACCEPTED_AT) -> Event:
    return parse(json.dumps(message), "a-message-id", accepted_at, RULES)


def due(text: str, **fields: str) -> datetime:
    return accepted(event(text, **fields)).due


def delayed(delay: object, accepted_at: datetime = ACCEPTED_AT) -> datetime:
    """When an event with a `delay` instead of a date is due."""
    return accepted(without("date") | {"delay": delay}, accepted_at).due


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z"),
        ("2026-12-24T18:00:00", "2026-12-24T18:00:00Z"),  # no offset means UTC
        ("2026-12-24T18:00:00+00:00", "2026-12-24T18:00:00Z"),
        ("2026-12-24T18:00:00-00:00", "2026-12-24T18:00:00Z"),
        ("2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00Z"),
        ("2026-12-24T18:00:00+0530", "2026-12-24T12:30:00Z"),
        ("2026-12-24T18:00:00-09", "2026-12-25T03:00:00Z"),
        ("2026-12-24T23:59:59-23:59", "2026-12-25T23:58:59Z"),
        ("2026-12-24 18:00:00Z", "2026-12-24T18:00:00Z"),  # RFC 3339 allows a space
        ("20261224T180000Z", "2026-12-24T18:00:00Z"),
        ("2026-12-24T18:00Z", "2026-12-24T18:00:00Z"),
        ("2026-12-24T18", "2026-12-24T18:00:00Z"),
        ("2026-12-24", "2026-12-24T00:00:00Z"),
        ("2026-W52-4T18:00:00Z", "2026-12-24T18:00:00Z"),
        ("2026-W52", "2026-12-21T00:00:00Z"),
        ("2026-12-24T18:00:00.5Z", "2026-12-24T18:00:00.500000Z"),
        ("2026-12-24T18:00:00,5Z", "2026-12-24T18:00:00.500000Z"),
        ("2026-12-24T18:00:00.000001Z", "2026-12-24T18:00:00.000001Z"),
        ("2026-12-24T18:00:00.000000Z", "2026-12-24T18:00:00Z"),
        ("2026-12-24T18:00:00.0000000Z", "2026-12-24T18:00:00Z"),  # .NET
        ("2026-12-24T18:00:00.1234561Z", "2026-12-24T18:00:00.123457Z"),  # rounded up: never early
        ("2026-12-24T18:00:00.999999999+01:00", "2026-12-24T17:00:01Z"),  # Go, Java, Rust
        ("2026-12-24T23:59:59.9999999Z", "2026-12-25T00:00:00Z"),
        ("2026-12-24T18:00:00.000000" + "0" * 500 + "1Z", "2026-12-24T18:00:00.000001Z"),
        ("9999-12-31T23:59:59.0000000Z", "9999-12-31T23:59:59Z"),
        ("2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_dates_that_are_understood(date, expected):
    """ISO 8601 in its usual forms; the time is UTC from here on."""
    assert instant(due(date)) == expected


@pytest.mark.parametrize(
    ("error", "dates"),
    [
        (_NOT_ISO, ["", "soon", "2026", "24.12.2026 18:00", "12/24/2026", "-------", "1766599200"]),
        # What stands between date and time, and around them.
        (_NOT_ISO, [f"2026-12-24{separator}18:00:00Z" for separator in ("t", "_", "x", "😀", "  ")]),
        (_NOT_ISO, [text.format("2026-12-24T18:00:00") for text in ("{}z", "{} Z", " {}Z", "{}Z\n")]),
        # Half past six, which Python reads as half a second past: early.
        (_NOT_ISO, ["2026-12-24T18.5Z", "2026-12-24T18:00.5Z", "2026-12-24T18:00:00.Z"]),
        (_NOT_ISO, ["2026-12-24T18:00:00+01:60", "2026-12-24T18:00:00+01:00:30", "2026-12-24T18:00:00Z[a b]"]),
        # fromisoformat takes the eighth character for a separator.
        (_NOT_ISO, ["2026W25414", "2026W52-11", "2026W52W14", "2026-W524", "2026-W54-1"]),
        (_NOT_ISO, ["2026-1224", "202612-24", "2026-12-2", "2026-1-24T18:00:00Z"]),
        (_NOT_ISO, ["٢٠٢٦-12-24T18:00:00Z", "2026-12-24T18:00:0０Z", "2026-12-24T18:00:00.１Z"]),  # noqa: RUF001
        (_NOT_ISO, ["-2026-12-24T18:00:00Z", "+12026-12-24T18:00:00Z"]),
        (
            _SUFFIX.format("Europe/Berlin"),
            ["2026-12-24T18:00:00[Europe/Berlin]", "2026-12-24T18:00:00+01:00[Europe/Berlin]"],
        ),
        (_SUFFIX.format("Etc/GMT-3"), ["2026-12-24T18:00:00Z[Etc/GMT-3]"]),
        # It could not be rounded up to a whole second.
        (_OUT_OF_RANGE, [f"9999-12-31T23:59:59.{f}Z" for f in ("5", "000001", "9999999", "0000000000001")]),
        (_OUT_OF_RANGE, ["9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+00:01"]),
    ],
)
def test_dates_that_are_refused(error, dates):
    """A date that is not ISO 8601, or out of range, is refused in one sentence."""
    assert [refusal(event(date)).error for date in dates] == [error] * len(dates)


@pytest.mark.parametrize(
    "date",
    [
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-12-24T25:00:00Z",
        "2026-12-24T24:00:00Z",  # ISO 8601 allowed it once; say 00:00 of the next day
        "2026-12-24T18:60:00Z",
        "2026-12-24T18:00:60Z",  # a leap second
        "2026-12-24T18:00:00+24:00",
        "2026-12-24T18:00:00+25:00",
    ],
)
def test_dates_that_do_not_exist_are_refused_and_say_so(date):
    """The form of a date alone does not make it one."""
    assert re.match(r"date is not a date that exists: \w+ \w+", refusal(event(date)).error)


# --- Properties -------------------------------------------------------------------------------------------------------

offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)
# A day from either end, so that no offset leads out of the range.
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=offsets)  # noqa: DTZ001
recent = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=offsets)  # noqa: DTZ001


@given(moments)
def test_any_date_is_due_when_it_says(moment):
    """A date with any offset is the same moment in UTC, and so is the date of the delivery."""
    event_ = accepted(event(moment.isoformat()))
    assert event_.due == moment
    attributes = json.loads(event_.input)["publish"]["MessageAttributes"]
    assert datetime.fromisoformat(attributes["scheduler-date"]["StringValue"]) == moment


@given(moments)
def test_the_input_has_the_times_in_whole_seconds(moment):
    """A Wait state honors nothing finer, and only in this form."""
    times, input = EventTimes(moment.astimezone(UTC)), json.loads(accepted(event(moment.isoformat())).input)
    expected = {"cutoff_at": times.cutoff_at, "due_rounded_up_at": times.due_rounded_up_at}
    if times.wake_at:
        expected["wake_at"] = times.wake_at
    read = {
        name: datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        for name, text in input.items()
        if name.endswith("_at")
    }
    assert read == expected
    assert input["due_ms"] == times.due_ms


@given(moments)
def test_the_times_follow_each_other_and_none_is_before_1970(moment):
    """Cutoff, waking, due; and a long-past event does not wait."""
    times = EventTimes(moment.astimezone(UTC))
    wake_at = times.wake_at or times.cutoff_at
    assert EPOCH <= times.cutoff_at <= wake_at <= times.due_rounded_up_at
    assert times.due_ms >= 0
    if moment <= EPOCH:
        assert {times.cutoff_at, wake_at, times.due_rounded_up_at} == {EPOCH}


@given(recent)
@example(datetime(2026, 12, 24, 18, 0, 0, 0, UTC))
@example(datetime(2026, 12, 24, 18, 0, 0, 1, UTC))
@example(datetime(2026, 12, 24, 18, 0, 0, 499_999, UTC))
@example(datetime(2026, 12, 24, 18, 0, 0, 500_000, UTC))
@example(datetime(2026, 12, 24, 18, 0, 0, 999_999, UTC))
def test_an_execution_acts_in_time_and_never_early(moment):
    """It looks up its event 0.5 to 1.5 s before it is due, which is within the promised two seconds; it wakes 0.5 to
    1.5 s before a fraction; rounded up, the due time is less than a second, or a millisecond, later."""
    times, second = EventTimes(moment), timedelta(seconds=1)
    assert CUTOFF_LEAD <= moment - times.cutoff_at < CUTOFF_LEAD + second <= 2 * second
    assert timedelta() <= times.due_rounded_up_at - moment < second
    assert timedelta() <= EPOCH + timedelta(milliseconds=times.due_ms) - moment < timedelta(milliseconds=1)
    assert (times.wake_at is None) == (moment.microsecond == 0)
    if times.wake_at:
        assert HOLD_LEAD <= moment - times.wake_at < HOLD_LEAD + second


@given(moments, moments)
def test_sort_keys_sort_as_time_does(one, other):
    """Text order in a lane is time order, to the microsecond, and the key gives the time back."""
    one, other = one.astimezone(UTC), other.astimezone(UTC)
    assert due_of(sort_key(one, "r")) == one
    assert (sort_key(one, "r") < sort_key(other, "r")) == (one < other)


# --- Delay ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (0, "2026-12-24T09:00:00.123000Z"),
        (90, "2026-12-24T09:01:30.123000Z"),
        (0.877, "2026-12-24T09:00:01Z"),
        (1e-6, "2026-12-24T09:00:00.123001Z"),
        (86400, "2026-12-25T09:00:00.123000Z"),
        (315_619_200, "2036-12-24T09:00:00.123000Z"),
    ],
)
def test_a_delay_counts_from_the_time_at_which_sns_accepted_the_message(delay, expected):
    """To the microsecond; not from when Ingest reads it, so that a repeated message is due at the same time."""
    assert instant(delayed(delay)) == expected


_NO_NUMBER = "delay must be a number of seconds"
_TOO_LONG = "delay must not be more than ten years (315619200 seconds): name a date"


@pytest.mark.parametrize(
    ("delay", "error"),
    [
        *((delay, _NO_NUMBER) for delay in ("90", "PT90S", None, True, False, [90], {})),
        *((delay, "delay must not be negative") for delay in (-1, -0.001, -(10**400))),
        *((delay, _TOO_LONG) for delay in (1_798_135_200, 315_619_200.001, 1e300, 10**400)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_delays_that_are_refused(delay, error):
    """Anything but a non-negative number of seconds of at most ten years: more is mostly a time since 1970."""
    assert refusal(without("date") | {"delay": delay}).error == error


def test_date_and_delay_are_not_combined():
    """Exactly one says when the event is due."""
    assert refusal(event(delay=90)).error == "delay must not stand beside date"
    assert refusal(without("date")).error == "date is required"


def test_a_delay_ends_within_the_calendar():
    """SNS will not accept a message then; somebody who writes to the queue may say so."""
    with pytest.raises(Refused, match="delay must not end after 9999-12-31T23:59:59Z"):
        delayed(86_400, datetime(9999, 12, 31, tzinfo=UTC))


@given(moments, st.floats(0, 3653 * 86400) | st.integers(0, 3653 * 86400))
def test_any_delay_is_added(accepted_at, delay):
    """To the microsecond, whatever the calendar does in between."""
    accepted_at = accepted_at.astimezone(UTC)
    try:
        expected = accepted_at + timedelta(seconds=delay)
    except OverflowError:
        expected = None
    if expected is None or expected > datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC):
        with pytest.raises(Refused, match="delay must not end after"):
            delayed(delay, accepted_at)
    else:
        assert delayed(delay, accepted_at) == expected


# --- Time zone --------------------------------------------------------------------------------------------------------

_LEFT_OUT = "date is not a time that exists in {}: clocks are set forward then"
_NO_ZONE = "timezone must be an IANA time zone, such as Europe/Berlin"


@pytest.mark.parametrize(
    ("date", "zone", "expected"),
    [
        ("2026-12-24T18:00", "Europe/Berlin", "2026-12-24T17:00:00Z"),
        ("2026-06-24T18:00", "Europe/Berlin", "2026-06-24T16:00:00Z"),
        ("2026-06-24", "Asia/Kolkata", "2026-06-23T18:30:00Z"),
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30:00Z"),  # twice on that day: the first
        ("2026-12-24T18:00:00.25", "UTC", "2026-12-24T18:00:00.250000Z"),
        ("2026-03-29T01:59:59.9999999", "Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("2027-04-30", "Africa/Cairo", "2027-04-29T22:00:00Z"),  # begins at 01:00
        ("1919-03-31", "America/Toronto", "1919-03-31T04:30:00Z"),  # at 00:30: 23:30 to 00:30 was left out
    ],
)
def test_a_date_without_an_offset_is_local_time_in_the_timezone(date, zone, expected):
    """A local time that exists twice, when clocks are set back, means the first."""
    assert instant(due(date, timezone=zone)) == expected


@pytest.mark.parametrize(
    ("date", "zone", "error"),
    [
        ("2026-12-24T18:00", "Europe/Berln", _NO_ZONE),
        ("2026-12-24T18:00", "", _NO_ZONE),
        ("2026-12-24T18:00", "europe/berlin", _NO_ZONE),
        ("2026-12-24T18:00", "+01:00", _NO_ZONE),
        ("2026-12-24T18:00", "../tzdata/zones", _NO_ZONE),
        ("2026-12-24T18:00", "/etc/passwd", _NO_ZONE),
        ("2026-12-24T18:00Z", "Europe/Berlin", "date must not have an offset beside timezone"),
        ("2026-12-24T18:00+01:00", "Europe/Berlin", "date must not have an offset beside timezone"),
        ("2026-03-29T02:30", "Europe/Berlin", _LEFT_OUT.format("Europe/Berlin")),
        ("2011-12-30", "Pacific/Apia", _LEFT_OUT.format("Pacific/Apia")),  # a whole day
        ("9999-12-31T23:00", "America/Los_Angeles", _OUT_OF_RANGE),
        ("0001-01-01T00:00", "Asia/Tokyo", _OUT_OF_RANGE),
    ],
)
def test_timezones_that_are_refused(date, zone, error):
    """An unknown zone, a zone beside an offset, and a local time that does not exist."""
    assert refusal(event(date, timezone=zone)).error == error


def test_a_timezone_without_a_date_is_refused():
    """A delay is the same in every zone."""
    message = without("date") | {"delay": 90, "timezone": "Europe/Berlin"}
    assert refusal(message).error == "timezone must not stand beside delay"


ZONES = importlib.resources.files("tzdata").joinpath("zones").read_text().split()


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.sampled_from(ZONES))  # noqa: DTZ001
@example(datetime(2026, 3, 29, 2, 30), "Europe/Berlin")  # noqa: DTZ001
@example(datetime(2026, 10, 25, 2, 30), "Europe/Berlin")  # noqa: DTZ001
@example(datetime(2011, 12, 30, 12, 0), "Pacific/Apia")  # noqa: DTZ001
def test_any_local_time_in_any_zone(local, name):
    """The result equals a search: of the moments that the zone shows as this local time, the first; refused if none."""
    zone = load_zone(name)
    offsets = {zone.utcoffset(local + timedelta(hours=hours)) for hours in range(-30, 31)}
    candidates = ((local - offset).replace(tzinfo=UTC) for offset in offsets)
    moments = [moment for moment in candidates if moment.astimezone(zone).replace(tzinfo=None) == local]
    if moments:
        assert due(local.isoformat(), timezone=name) == min(moments)
    else:
        assert "is not a time that exists" in refusal(event(local.isoformat(), timezone=name)).error


@given(st.dates(date(1900, 1, 1), date(2200, 1, 1)), st.sampled_from(ZONES))
@example(date(2027, 4, 30), "Africa/Cairo")
@example(date(2011, 12, 30), "Pacific/Apia")
@example(date(1919, 3, 31), "America/Toronto")
def test_any_day_in_any_zone_begins_when_its_date_is_first_shown(day, name):
    """The moment is shown with that date, and the one before it with an earlier one; refused if none is."""
    try:
        start = due(day.isoformat(), timezone=name)
    except Refused as refused:
        assert "is not a time that exists" in refused.error
        noon = datetime(day.year, day.month, day.day, 12)  # noqa: DTZ001
        assert noon.replace(tzinfo=load_zone(name)).astimezone(UTC).astimezone(load_zone(name)).date() != day
    else:
        local, before = (moment.astimezone(load_zone(name)) for moment in (start, start - timedelta(microseconds=1)))
        assert local.date() == day and before.date() < day
