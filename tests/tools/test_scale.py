"""The simulation: it loses nothing, its quotas bind, and its rules are those of the code."""

import json
import math

import pytest
from click.testing import CliRunner
from scheduler import lanes, parking, sweeper

from tools.estimates import scale, template
from tools.estimates.__main__ import estimates
from tools.estimates.quotas import Bucket
from tools.estimates.rules import Setup, rules
from tools.estimates.simulation import DELIVERED, Outcome, near_burst, parked_burst, parked_flow

FEW = 2_000


def is_on_time(outcome: Outcome) -> bool:
    """Whether every event was delivered less than 0.1 s after it was due."""
    return outcome.quantile(1) < 0.1


def test_the_rules_are_those_of_the_code():
    setup = Setup()
    assert (setup.lanes, setup.batch, setup.threads) == (lanes.LANES, parking.BATCH_SIZE, sweeper.THREADS)
    assert setup.helpers_after == sweeper.MAX_STARTS_BEFORE_HELPERS
    assert rules().sweeper_seconds == 30 - sweeper.DEADLINE_MARGIN_SECONDS


def test_a_state_retries_as_its_definition_says():
    states = json.loads((template.ROOT / "statemachines/deliver.asl.json").read_text())["States"]
    transient = next(retry for retry in states["Publish"]["Retry"] if retry["ErrorEquals"] == ["States.ALL"])
    assert rules().publish.max_attempts == transient["MaxAttempts"]
    assert rules().publish.longest_delay(0) == transient["IntervalSeconds"]


@pytest.mark.parametrize("burst", [parked_burst, near_burst])
@pytest.mark.parametrize("setup", [Setup(), Setup(starts=100), Setup(reads=50), Setup(publishes=20)], ids=str)
def test_every_event_ends_exactly_once(burst, setup):
    outcome = burst(setup, FEW)
    assert outcome.ends.total() == FEW
    assert len(outcome.lateness) == outcome.ends[DELIVERED]


@pytest.mark.parametrize("burst", [parked_burst, near_burst])
def test_nothing_is_early_and_a_small_burst_is_on_time(burst):
    outcome = burst(Setup(), FEW)
    assert outcome.quantile(0) >= 0
    assert is_on_time(outcome)
    assert outcome.saturated == "nothing"


def test_an_even_flow_is_on_time():
    assert is_on_time(parked_flow(Setup(), rate=50, at_the_minute=False, seconds=60))


def test_a_lane_has_one_sweeper_at_a_time():
    one = parked_burst(Setup(lanes=1, sweeps=1, starts=1e9), 8_000)
    eight = parked_burst(Setup(lanes=1, sweeps=8, starts=1e9), 8_000)
    assert eight.last_start == pytest.approx(one.last_start, abs=2)


def test_more_sweepers_start_a_burst_sooner():
    two, eight = (parked_burst(Setup(helpers_after=math.inf, sweeps=sweeps), 20_000) for sweeps in (2, 8))
    assert eight.last_start < two.last_start - 5


def test_helpers_start_a_burst_sooner():
    helped, alone = (parked_burst(Setup(helpers_after=starts), 20_000) for starts in (1_000, math.inf))
    assert helped.last_start < alone.last_start - 5
    assert helped.sweepers > alone.sweepers


def test_one_helper_is_called_for_each_lane_left_and_helpers_call_nobody():
    """One sweeper, whose first lane is enough to call helpers, and everything started before the next tick."""
    outcome = parked_burst(Setup(sweeps=1, interval=60, starts=1e9), 50_000)
    assert outcome.last_start < 0
    assert outcome.sweepers == lanes.LANES


def test_few_events_call_no_helpers():
    assert parked_burst(Setup(), sweeper.MAX_STARTS_BEFORE_HELPERS).sweepers == Setup().sweeps


def test_the_quota_of_start_execution_binds():
    """A hundred a second, and a hundred at once."""
    outcome = parked_burst(Setup(starts=100, sweeps=8), FEW)
    assert outcome.throttled["StartExecution"]
    assert outcome.last_start > FEW / 100 - 1 - 10 - 1


def test_events_that_sns_throttles_for_too_long_are_reported():
    outcome = parked_burst(Setup(publishes=10), FEW)
    assert outcome.undelivered > 0
    assert outcome.undelivered == outcome.ends.total() - outcome.ends[DELIVERED]


def test_events_whose_register_read_is_throttled_are_delivered_unchecked():
    outcome = parked_burst(Setup(reads=100), FEW)
    assert outcome.unchecked > 0
    assert outcome.ends[DELIVERED] == FEW


def test_a_bucket_gives_its_rate_and_no_more():
    bucket = Bucket(100)
    assert bucket.take(0.0, 150) == 100
    assert bucket.take(0.5, 150) == 50
    assert bucket.take(60.0, 1_000) == 100
    assert bucket.throttled == 50 + 100 + 900


def test_without_quotas_and_helpers_only_the_sweepers_are_late():
    setup = Setup(starts=1e9, reads=1e9, publishes=1e9, helpers_after=math.inf)
    assert parked_burst(setup, 30_000).saturated == "sweepers"


def test_the_document_has_the_markers_of_every_table():
    text = scale.DOCUMENT.read_text()
    for name in scale.TABLES:
        assert text.count(f"<!-- {name}: begin -->") == text.count(f"<!-- {name}: end -->") == 1


def test_the_command_simulates_one_burst():
    run = CliRunner().invoke(estimates, ["scale", "burst", str(FEW), "--lanes", "4"])
    assert run.exit_code == 0
    assert run.output.strip() == scale.outcome_table(parked_burst(Setup(lanes=4), FEW))
