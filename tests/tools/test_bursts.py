"""The model of bursts: it loses nothing, its quotas bind, and what the documents say about bursts holds."""

import pytest

from tools.bursts import Outcome, Quota, Setup, burst, flow

EVENTS = 2_000


def is_on_time(outcome: Outcome) -> bool:
    """Whether every event was delivered less than 0.1 s after it was due."""
    return outcome.quantile(1) < 0.1


@pytest.mark.parametrize(
    "setup",
    [
        Setup(),
        Setup(starts=100),
        Setup(reads=50),
        Setup(publishes=200),
        Setup(writes=200),
        Setup(partition_writes=20),
        Setup(is_sweep_missed=True),
        Setup(lost=16),
    ],
    ids=str,
)
def test_every_event_is_delivered_once_and_never_early(setup):
    outcome = burst(EVENTS, setup, chances=1)
    assert outcome.lateness.total() == EVENTS
    assert min(outcome.lateness) > 0


@pytest.mark.parametrize("events", [100, 300, 1_000, 3_000, 10_000, 30_000])
def test_a_burst_is_on_time_as_shipped(events):
    outcome = burst(events)
    assert is_on_time(outcome)
    assert outcome.repeated == 0


def test_what_the_register_or_the_table_throttles_is_unchecked_or_repeated():
    assert burst(30_000, chances=1).unchecked == 30_000 - 2 * 12_000
    assert burst(EVENTS, Setup(partition_writes=20), chances=1).repeated > 0


@pytest.mark.parametrize(("events", "seconds"), [(100, 4), (1_000, 4), (10_000, 0.1)])
def test_a_sweep_that_fails_makes_a_small_burst_late_by_less_than_an_interval(events, seconds):
    assert seconds - 1 < burst(events, Setup(is_sweep_missed=True)).quantile(1) < seconds


@pytest.mark.parametrize(("events", "seconds"), [(1_000, 1), (3_000, 0.1), (10_000, 0.1), (30_000, 1)])
@pytest.mark.parametrize("setup", [Setup(cold_start=2), Setup(lost=1)], ids=str)
def test_a_slow_or_lost_invocation_makes_a_burst_little_late(setup, events, seconds):
    assert burst(events, setup).quantile(1) < seconds + 0.1


def test_a_hundred_thousand_are_late_and_hardly_repeated():
    outcome = burst(100_000, chances=2)
    assert outcome.quantile(1) < 40
    assert outcome.repeated < 1_000


def test_an_even_flow_is_on_time_in_one_sweeper():
    outcome = flow(39, at_the_minute=False, seconds=60)
    assert is_on_time(outcome)
    assert outcome.sweepers == 1


@pytest.mark.parametrize(
    ("setup", "limit"),
    [
        (Setup(starts=100), "StartExecution"),
        (Setup(writes=100), "table writes"),
        (Setup(partition_writes=100), "table writes"),
        (Setup(reads=500), "register reads"),
        (Setup(publishes=500), "SNS publishes"),
    ],
    ids=str,
)
def test_a_quota_limits_a_burst(setup, limit):
    assert limit in burst(EVENTS, setup, chances=1).limits


def test_a_quota_gives_its_rate_and_no_more():
    quota = Quota(100)
    assert (quota.take(150), quota.throttled) == (100, 50)
    quota.refill()
    assert quota.take(150) == 5
