"""When an event is due, and the whole seconds for which its workflow waits."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scheduler.event import CUTOFF_LEAD, Refused, Rules, instant, parse
from scheduler.parking import due_of, sort_key

from tests.conftest import TEMPLATE, event

ENVIRONMENT = TEMPLATE.environment("Ingest")
RULES = Rules(ENVIRONMENT["INPUT_TOPIC_ARN"], tuple(ENVIRONMENT["TARGET_TOPIC_ARNS"].split(",")))
SECOND = timedelta(seconds=1)

_NOT_ISO = "date must be an ISO 8601 date and time, such as 2026-12-24T18:00:00Z"
_TOO_FINE = "date must not be finer than a microsecond"
_OUT_OF_RANGE = "date must be in the years 1 to 9999, in UTC"


def due(date: str) -> datetime:
    return parse(json.dumps(event(date)), "a-message-id", RULES).due


def waits(date: str) -> dict[str, datetime]:
    """The times in the workflow's input; those that a Wait state gets, only in the form that it honours."""
    read = json.loads(parse(json.dumps(event(date)), "a-message-id", RULES).input)
    times = {"due": datetime.fromisoformat(read["due"])}
    for name in {"cutoff_at", "wake_at", "due_rounded_up_at"} & read.keys():
        times[name] = datetime.strptime(read[name], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return times


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
        ("2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_dates_that_are_understood(date, expected):
    """ISO 8601 in its usual forms; the time is UTC from here on."""
    assert instant(due(date)) == expected


@pytest.mark.parametrize(
    ("date", "error"),
    [
        ("", _NOT_ISO),
        ("soon", _NOT_ISO),
        ("2026", _NOT_ISO),
        ("2026-12-24T18:00:00z", _NOT_ISO),
        ("2026-12-24t18:00:00Z", _NOT_ISO),
        ("2026-12-24_18:00:00Z", _NOT_ISO),
        ("2026-12-24x18:00:00Z", _NOT_ISO),
        ("2026-12-24😀18:00:00Z", _NOT_ISO),
        ("2026-12-24  18:00:00Z", _NOT_ISO),
        ("2026-12-24T18:00:00 Z", _NOT_ISO),
        (" 2026-12-24T18:00:00Z", _NOT_ISO),
        ("2026-12-24T18:00:00Z\n", _NOT_ISO),
        ("2026-12-24T18:00:00.Z", _NOT_ISO),
        ("2026-12-24T18.5Z", _NOT_ISO),  # half past six, which Python reads as half a second past: early
        ("2026-12-24T18:00.5Z", _NOT_ISO),
        ("2026-12-24T18:00:00+01:60", _NOT_ISO),
        ("2026-12-24T18:00:00+01:00:30", _NOT_ISO),
        ("2026-12-24T18:00:00[Europe/Berlin]", _NOT_ISO),
        ("24.12.2026 18:00", _NOT_ISO),
        ("2026-W54-1", _NOT_ISO),
        ("1766599200", _NOT_ISO),  # seconds since 1970
        ("2026-12-2", _NOT_ISO),
        ("2026-1-24T18:00:00Z", _NOT_ISO),
        ("-------", _NOT_ISO),
        ("12/24/2026", _NOT_ISO),
        ("٢٠٢٦-12-24T18:00:00Z", _NOT_ISO),
        ("2026-12-24T18:00:0０Z", _NOT_ISO),  # noqa: RUF001
        ("2026-12-24T18:00:00.１Z", _NOT_ISO),  # noqa: RUF001
        ("-2026-12-24T18:00:00Z", _NOT_ISO),
        ("+12026-12-24T18:00:00Z", _NOT_ISO),
        ("2026-12-24T18:00:00.1234567Z", _TOO_FINE),
        ("2026-12-24T18:00:00.0000000Z", _TOO_FINE),
        ("9999-12-31T23:59:59.000001Z", _OUT_OF_RANGE),
        ("9999-12-31T23:59:59-00:01", _OUT_OF_RANGE),
        ("0001-01-01T00:00:00+00:01", _OUT_OF_RANGE),
    ],
)
def test_dates_that_are_refused(date, error):
    """What is not ISO 8601, finer than the clock, or out of range is refused in one sentence."""
    with pytest.raises(Refused) as refused:
        due(date)
    assert refused.value.error == error


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
    with pytest.raises(Refused, match=r"^date is not a date that exists: .+"):
        due(date)


# --- Properties -------------------------------------------------------------------------------------------------------

offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)
# A day from either end, so that no offset leads out of the range.
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=offsets)  # noqa: DTZ001
recent = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=offsets)  # noqa: DTZ001


@given(moments)
def test_any_date_is_due_when_it_says(moment):
    """A date with any offset is the same moment in UTC, and so is what the delivery says of it."""
    assert due(moment.isoformat()) == moment
    assert waits(moment.isoformat())["due"] == moment


@given(moments)
def test_no_wait_ends_after_its_time_and_publishing_never_comes_early(moment):
    """cutoff, waking and due follow each other; the whole second to publish at is the first that is not early."""
    times = waits(moment.isoformat())
    assert times["cutoff_at"] <= times.get("wake_at", times["cutoff_at"])
    if moment >= datetime(1970, 1, 1, tzinfo=UTC):
        assert moment <= times["due_rounded_up_at"] < moment + SECOND


@given(recent)
@example(datetime(2026, 12, 24, 18, 0, 0, 0, UTC))
@example(datetime(2026, 12, 24, 18, 0, 0, 1, UTC))
@example(datetime(2026, 12, 24, 18, 0, 0, 499_999, UTC))
@example(datetime(2026, 12, 24, 18, 0, 0, 500_000, UTC))
@example(datetime(2026, 12, 24, 18, 0, 0, 999_999, UTC))
def test_the_workflow_asks_at_the_cutoff_and_wakes_in_time_for_the_fraction(moment):
    """It asks less than the promised two seconds before the event is due, but not too late to be answered; and it
    wakes at least half a second before a fraction."""
    times = waits(moment.isoformat())
    assert CUTOFF_LEAD <= moment - times["cutoff_at"] < CUTOFF_LEAD + SECOND <= 2 * SECOND
    assert ("wake_at" in times) == bool(moment.microsecond)
    if "wake_at" in times:
        assert 0.5 * SECOND <= moment - times["wake_at"] < 1.5 * SECOND
        assert times["cutoff_at"] <= times["wake_at"] < moment <= times["due_rounded_up_at"]


@given(moments, moments)
def test_sort_keys_sort_as_time_does(one, other):
    """Text order in a lane is time order, to the microsecond, and the key gives the time back."""
    one, other = one.astimezone(UTC), other.astimezone(UTC)
    assert due_of(sort_key(one, "r")) == one
    assert (sort_key(one, "r") < sort_key(other, "r")) == (one < other)
