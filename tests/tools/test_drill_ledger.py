"""The drills' ledger: what counts as delivered, repeated, reported, canceled, interrupted, missing, early and late."""

from datetime import UTC, datetime, timedelta

import pytest

from tools.drills.ledger import Account, Ledger

DUE = datetime(2026, 12, 24, 18, 0, 0, 250000, tzinfo=UTC)
ALL_ZERO = {
    "events": 1,
    "delivered": 0,
    "repeated": 0,
    "reported": 0,
    "canceled": 0,
    "interrupted": 0,
    "missing": 0,
    "early": 0,
    "late": 0,
    "unwanted": 0,
    "unexplained": 0,
    "latest_seconds": 0.0,
}


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.expect("a", "execution-of-a", DUE)
    return ledger


def account(ledger: Ledger, attempts: int = 1) -> Account:
    return ledger.account(lambda execution: attempts)


def expected(**counts: float) -> Account:
    return Account(**ALL_ZERO | counts)


def test_an_event_without_arrivals_is_missing_and_listed(ledger):
    assert account(ledger) == expected(missing=1)
    assert ledger.open == ["a"]
    assert not account(ledger).is_clean


def test_an_event_that_arrived_once_is_delivered_with_its_lateness(ledger):
    ledger.deliver("a", DUE + seconds(0.5))
    assert account(ledger) == expected(delivered=1, latest_seconds=0.5)
    assert ledger.open == []
    assert account(ledger).is_clean


def test_a_second_arrival_is_a_repeat_and_the_first_one_gives_the_lateness(ledger):
    ledger.deliver("a", DUE + seconds(9))
    ledger.deliver("a", DUE + seconds(1))
    assert account(ledger, attempts=2) == expected(delivered=1, repeated=1, latest_seconds=1.0)
    assert account(ledger, attempts=2).is_clean
    assert ledger.repeated == ["execution-of-a"]


def test_more_arrivals_than_attempts_are_unexplained(ledger):
    ledger.deliver("a", DUE)
    ledger.deliver("a", DUE)
    assert account(ledger, attempts=1) == expected(delivered=1, repeated=1, unexplained=1)
    assert not account(ledger, attempts=1).is_clean


def test_any_arrival_a_millisecond_before_the_due_time_is_early(ledger):
    """A queue truncates its timestamps to milliseconds, so less than one is no proof."""
    ledger.deliver("a", DUE + seconds(1))
    ledger.deliver("a", DUE - seconds(0.0009))
    assert account(ledger, attempts=2).early == 0
    ledger.deliver("a", DUE - seconds(0.001))
    assert account(ledger, attempts=3).early == 1
    assert not account(ledger, attempts=3).is_clean


def test_a_report_accounts_for_an_event_wherever_it_arrived(ledger):
    ledger.report("a", "Undelivered queue")
    assert account(ledger) == expected(reported=1)
    assert ledger.report_places == {"Undelivered queue": 1}
    assert ledger.open == []


def test_delivered_and_reported_is_a_repeat_and_counts_as_delivered(ledger):
    ledger.deliver("a", DUE)
    ledger.report("a", "stack's failure topic")
    assert account(ledger, attempts=2) == expected(delivered=1, repeated=1)


def test_a_canceled_event_may_stay_silent(ledger):
    ledger.withdraw("a")
    assert account(ledger) == expected(canceled=1)
    assert ledger.open == []
    assert account(ledger).is_clean


def test_a_canceled_event_must_not_arrive(ledger):
    ledger.withdraw("a")
    ledger.deliver("a", DUE)
    assert account(ledger) == expected(delivered=1, unwanted=1)
    assert not account(ledger).is_clean


def test_an_interrupted_event_is_counted_apart_unless_it_was_delivered_after_all(ledger):
    ledger.interrupt({"execution-of-a", "execution-of-another"})
    assert account(ledger) == expected(interrupted=1)
    assert ledger.open == []
    ledger.deliver("a", DUE)
    assert account(ledger) == expected(delivered=1)


def test_an_event_beyond_the_limit_is_late(ledger):
    ledger.limit_lateness(seconds(5), except_for=[])
    ledger.deliver("a", DUE + seconds(5))
    assert account(ledger).is_clean
    ledger.expect("b", "execution-of-b", DUE)
    ledger.limit_lateness(seconds(5), except_for=[])
    ledger.deliver("b", DUE + seconds(5.1))
    assert account(ledger) == expected(events=2, delivered=2, late=1, latest_seconds=5.1)
    assert not account(ledger).is_clean


def test_an_event_excepted_from_the_limit_is_not_late(ledger):
    ledger.expect("b", "execution-of-b", DUE)
    ledger.limit_lateness(seconds(5), except_for=["execution-of-a"])
    ledger.deliver("a", DUE + seconds(40))
    ledger.deliver("b", DUE + seconds(2))
    assert account(ledger) == expected(events=2, delivered=2, latest_seconds=40.0)
    assert ledger.latest_limited == seconds(2)


def test_a_message_that_is_not_an_event_is_missing_until_it_is_reported(ledger):
    ledger.expect("garbage", "no-execution", None)
    ledger.deliver("a", DUE)
    assert account(ledger) == expected(events=2, delivered=1, missing=1)
    ledger.report("garbage", "stack's failure topic")
    assert account(ledger) == expected(events=2, delivered=1, reported=1)


def test_the_last_due_time_ignores_messages_that_are_not_events(ledger):
    ledger.expect("b", "execution-of-b", DUE + seconds(3))
    ledger.expect("garbage", "no-execution", None)
    assert ledger.last_due == DUE + seconds(3)


def test_events_of_other_drills_are_not_counted(ledger):
    ledger.deliver("b", DUE)
    ledger.report("c", "stack's failure topic")
    assert account(ledger) == expected(missing=1)


def test_a_payload_cannot_be_used_twice(ledger):
    """Two events with one payload could not be told apart."""
    with pytest.raises(ValueError, match="already published"):
        ledger.expect("a", "another-execution", DUE)
