"""The model of bursts: it loses nothing, its quotas bind, and what the documents say about bursts holds."""

import pytest

from tools.bursts import Quota, Setup, burst

EVENTS = 2_000
MISSED, COLD = Setup(is_sweep_missed=True), Setup(cold_start=2)


@pytest.mark.parametrize(
    ("setup", "throttled"),
    [
        (Setup(), set()),
        (Setup(starts=100), {"StartExecution"}),
        (Setup(reads=50), {"register reads"}),
        (Setup(writes=100), {"table writes"}),
        (Setup(partition_writes=20), {"table writes"}),
        (Setup(publishes=200), {"SNS publishes"}),
    ],
)
def test_every_event_is_delivered_once_and_never_early_whatever_is_throttled(setup, throttled):
    outcome = burst(EVENTS, setup, chances=1)
    assert outcome.lateness.total() == EVENTS
    assert min(outcome.lateness) > 0
    assert throttled <= {*outcome.throttled}


@pytest.mark.parametrize("events", [1_000, 3_000, 10_000, 30_000])
def test_a_burst_is_at_most_a_tenth_of_a_second_late_as_shipped(events):
    outcome = burst(events)
    assert outcome.quantile(1) < 0.1
    assert outcome.repeated == 0


def test_what_the_register_or_the_table_throttles_is_unchecked_or_repeated():
    assert burst(30_000, chances=1).unchecked == 30_000 - 2 * 12_000
    assert burst(EVENTS, Setup(partition_writes=20), chances=1).repeated > 0


@pytest.mark.parametrize(
    ("setup", "events", "seconds"),
    [
        *((MISSED, events, seconds) for events, seconds in ((100, 4), (1_000, 4), (10_000, 0.1), (30_000, 3))),
        *((COLD, events, seconds) for events, seconds in ((1_000, 0.8), (10_000, 0.1), (30_000, 0.5))),
    ],
)
def test_a_sweep_that_fails_or_starts_slowly_makes_a_burst_late_by_less_than_an_interval(setup, events, seconds):
    assert seconds - 1 < burst(events, setup).quantile(1) < seconds


def test_a_hundred_thousand_are_late_and_hardly_repeated():
    outcome = burst(100_000, chances=2)
    assert outcome.quantile(1) < 40
    assert outcome.repeated < 1_000


def test_a_quota_gives_its_rate_and_no_more():
    quota = Quota(100)
    assert (quota.take(150), quota.has_throttled) == (100, True)
    quota.refill()
    assert quota.take(150) == 5
