"""The drills' ledger: what it calls delivered, repeated, reported, canceled, inside, missing, early."""

from datetime import UTC, datetime, timedelta

import pytest

from tools.drills.__main__ import Account, Ledger

DUE = datetime(2026, 12, 24, 18, 0, 0, 250000, tzinfo=UTC)
ALL_ZERO = {
    "events": 1,
    "delivered": 0,
    "repeated": 0,
    "reported": 0,
    "canceled": 0,
    "inside": 0,
    "missing": 0,
    "early": 0,
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


def test_silence_is_missing(ledger):
    """An event of which nothing was heard is missing, and listed."""
    assert account(ledger) == expected(missing=1)
    assert ledger.open == ["a"]
    assert not account(ledger).is_clean


def test_delivered_once(ledger):
    """One arrival, with its lateness."""
    ledger.deliver("a", DUE + seconds(0.5))
    assert account(ledger) == expected(delivered=1, latest_seconds=0.5)
    assert ledger.open == []
    assert account(ledger).is_clean


def test_repeated_and_explained(ledger):
    """A second arrival is a repeat; the lateness is the first one's. Two attempts explain it."""
    ledger.deliver("a", DUE + seconds(9))
    ledger.deliver("a", DUE + seconds(1))
    assert account(ledger, attempts=2) == expected(delivered=1, repeated=1, latest_seconds=1.0)
    assert account(ledger, attempts=2).is_clean


def test_repeated_without_a_reason(ledger):
    """Two arrivals out of one attempt are nobody's promise."""
    ledger.deliver("a", DUE)
    ledger.deliver("a", DUE)
    assert account(ledger, attempts=1) == expected(delivered=1, repeated=1, unexplained=1)
    assert not account(ledger, attempts=1).is_clean


def test_early(ledger):
    """Any arrival before the event is due counts, but for the millisecond to which a queue cuts its timestamps."""
    ledger.deliver("a", DUE + seconds(1))
    ledger.deliver("a", DUE - seconds(0.0009))
    assert account(ledger, attempts=2).early == 0
    ledger.deliver("a", DUE - seconds(0.001))
    assert account(ledger, attempts=3).early == 1
    assert not account(ledger, attempts=3).is_clean


def test_reported(ledger):
    """A report is an end as good as a delivery, wherever it was."""
    ledger.report("a", "the queue Undelivered")
    assert account(ledger) == expected(reported=1)
    assert ledger.places() == {"the queue Undelivered": 1}
    assert ledger.open == []


def test_delivered_and_reported(ledger):
    """Heard of twice is repeated, and counts as delivered alone."""
    ledger.deliver("a", DUE)
    ledger.report("a", "the stack's failure topic")
    assert account(ledger, attempts=2) == expected(delivered=1, repeated=1)


def test_cancelled(ledger):
    """What its publisher withdrew may be silent."""
    ledger.withdraw("a")
    assert account(ledger) == expected(canceled=1)
    assert ledger.open == []
    assert account(ledger).is_clean


def test_cancelled_and_delivered(ledger):
    """What its publisher withdrew must not arrive."""
    ledger.withdraw("a")
    ledger.deliver("a", DUE)
    assert account(ledger) == expected(delivered=1, unwanted=1)
    assert not account(ledger).is_clean


def test_lost_inside_the_emulator(ledger):
    """What ended with its workflow is counted apart, unless it was delivered after all."""
    ledger.lose_inside({"execution-of-a", "execution-of-a-sweep"})
    assert account(ledger) == expected(inside=1)
    ledger.deliver("a", DUE)
    assert account(ledger) == expected(delivered=1)


def test_no_event(ledger):
    """A message that is no event has no due time; it is missing until it is reported."""
    ledger.expect("garbage", "no-execution", None)
    ledger.deliver("a", DUE)
    assert account(ledger) == expected(events=2, delivered=1, missing=1)
    ledger.report("garbage", "the stack's failure topic")
    assert account(ledger) == expected(events=2, delivered=1, reported=1)


def test_events_of_others(ledger):
    """What another drill published is not counted."""
    ledger.deliver("b", DUE)
    ledger.report("c", "the stack's failure topic")
    assert account(ledger) == expected(missing=1)


def test_one_payload_for_two_events(ledger):
    """Two events with one payload could not be told apart."""
    with pytest.raises(ValueError, match="published already"):
        ledger.expect("a", "another", DUE)
