"""The simulation: nothing is lost in it, its quotas bind, and its rules are the project's."""

import math
from dataclasses import replace

import pytest
from scheduler import parking, sweeper

from tools.estimates import scale
from tools.estimates.scale import Bucket, Setup, far_burst, far_flow, near_burst

FEW = 2_000
QUIET = Setup(starts=1e9, reads=1e9, publishes=1e9)


def in_time(outcome) -> bool:
    return outcome.quantile(1) < 0.1


def test_the_rules_are_the_projects():
    shipped = Setup()
    assert (shipped.lanes, shipped.batch, shipped.threads) == (parking.LANES, parking.BATCH_SIZE, sweeper.THREADS)
    assert shipped.much == sweeper.MAX_STARTS_BEFORE_HELPERS
    assert scale.SWEEPER_SECONDS == 30 - sweeper.DEADLINE_MARGIN_SECONDS
    assert scale.PUBLISH["MaxAttempts"] == scale._state("deliver", "Publish")["Retry"][1]["MaxAttempts"]


@pytest.mark.parametrize("burst", [far_burst, near_burst])
@pytest.mark.parametrize("setup", [Setup(), Setup(starts=100), Setup(reads=50), Setup(publishes=20)], ids=str)
def test_every_event_has_exactly_one_end(burst, setup):
    outcome = burst(setup, FEW)
    assert sum(outcome.ends.values()) == FEW
    assert len(outcome.lateness) == outcome.ends["delivered"]


@pytest.mark.parametrize("burst", [far_burst, near_burst])
def test_nothing_is_early_and_a_small_burst_is_in_time(burst):
    outcome = burst(Setup(), FEW)
    assert outcome.quantile(0) >= 0
    assert in_time(outcome)
    assert outcome.saturated == "nothing"


def test_an_even_flow_is_in_time():
    assert in_time(far_flow(Setup(), rate=50, at_the_minute=False, seconds=60))


def test_a_lane_has_one_sweeper_at_a_time():
    """However many sweepers: with a single lane they are no faster than one."""
    one = far_burst(Setup(lanes=1, sweeps=1, starts=1e9), 8_000)
    many = far_burst(Setup(lanes=1, sweeps=8, starts=1e9), 8_000)
    assert many.last_start == pytest.approx(one.last_start, abs=2)


def test_more_sweepers_are_sooner():
    alone = Setup(much=math.inf)
    assert far_burst(replace(alone, sweeps=8), 20_000).last_start < far_burst(alone, 20_000).last_start - 5


def test_helpers_are_called_in_a_burst_and_it_is_started_sooner():
    helped, alone = far_burst(Setup(), 20_000), far_burst(Setup(much=math.inf), 20_000)
    assert helped.last_start < alone.last_start - 5
    assert helped.sweepers > alone.sweepers


def test_a_sweeper_calls_a_helper_for_each_lane_left_and_those_call_nobody():
    """One sweeper, its first lane much by itself, and all done before the next tick."""
    outcome = far_burst(Setup(sweeps=1, interval=60, starts=1e9), 50_000)
    assert outcome.last_start < 0
    assert outcome.sweepers == parking.LANES


def test_few_events_call_no_helpers():
    assert far_burst(Setup(), sweeper.MAX_STARTS_BEFORE_HELPERS).sweepers == Setup().sweeps


def test_start_execution_binds():
    """A hundred a second, and a hundred to begin with."""
    outcome = far_burst(Setup(starts=100, sweeps=8), FEW)
    assert outcome.throttled["StartExecution"]
    assert outcome.last_start > FEW / 100 - 1 - 10 - 1


def test_sns_binds_and_what_it_refuses_for_too_long_is_reported():
    outcome = far_burst(Setup(publishes=10), FEW)
    assert outcome.ends["delivered"] < FEW
    assert outcome.ends["reported"] + outcome.ends["told to the operator"] + outcome.ends["buried"] > 0


def test_what_the_register_refuses_is_delivered_unchecked():
    outcome = far_burst(Setup(reads=100), FEW)
    assert outcome.unchecked > 0
    assert outcome.ends["delivered"] == FEW


def test_a_bucket_gives_its_rate_and_no_more():
    bucket = Bucket(100)
    assert bucket.take(0.0, 150) == 100
    assert bucket.take(0.5, 150) == 50
    assert bucket.take(60.0, 1_000) == 100
    assert bucket.throttled == 50 + 100 + 900


def test_without_quotas_and_helpers_only_the_sweepers_are_late():
    assert far_burst(replace(QUIET, much=math.inf), 30_000).saturated == "sweepers"
