"""The simulation: it loses nothing, its quotas bind, and its rules are those of the code."""

import json
import math
from dataclasses import replace

import pytest
from click.testing import CliRunner
from punctual_core import lanes, parking, sweeper

from tools.estimates import scale, template
from tools.estimates.__main__ import estimates
from tools.estimates.delivering import DELIVERED
from tools.estimates.quotas import Bucket
from tools.estimates.rules import Setup, rules
from tools.estimates.simulation import Outcome, parked_burst, parked_flow, published_burst

FEW = 2_000
UNLIMITED = {"starts": 1e9, "reads": 1e9, "publishes": 1e9, "writes": 1e9, "partition_writes": 1e9}
NO_LOOK_AHEAD = {"look_ahead": 0, "lane_rate": math.inf}


def is_on_time(outcome: Outcome) -> bool:
    """Whether every event was delivered less than 0.1 s after it was due."""
    return outcome.quantile(1) < 0.1


def published_20_s_before(setup: Setup, events: int) -> Outcome:
    return published_burst(setup, events, 20)


def test_the_rules_are_those_of_the_code():
    setup = Setup()
    assert (setup.lanes, setup.batch, setup.threads) == (lanes.LANES, parking.BATCH_SIZE, sweeper.THREADS)
    assert setup.helpers_after == sweeper.MAX_STARTS_BEFORE_HELPERS
    assert setup.look_ahead == sweeper.LOOK_AHEAD.total_seconds()
    assert rules().sweeper_seconds == 30 - sweeper.DEADLINE_MARGIN_SECONDS


def test_a_state_retries_as_its_definition_says():
    states = json.loads((template.ROOT / "statemachines/deliver.asl.json").read_text())["States"]
    transient = next(retry for retry in states["Publish"]["Retry"] if retry["ErrorEquals"] == ["States.ALL"])
    assert rules().publish.max_attempts == transient["MaxAttempts"]
    assert rules().publish.longest_delay(0) == transient["IntervalSeconds"]


def test_an_event_is_parked_again_for_longer_each_time():
    delays = [rules().park_again.longest_delay(execution) for execution in range(20)]
    assert delays == sorted(delays)
    assert delays[0] < delays[1] < delays[-1] == delays[-2]


@pytest.mark.parametrize("burst", [parked_burst, published_20_s_before])
@pytest.mark.parametrize(
    "setup", [Setup(), Setup(starts=100), Setup(reads=50), Setup(publishes=20), Setup(writes=50)], ids=str
)
def test_every_event_is_delivered_exactly_once(burst, setup):
    outcome = burst(setup, FEW)
    assert outcome.ends == {DELIVERED: FEW}
    assert len(outcome.lateness) == FEW


@pytest.mark.parametrize("burst", [parked_burst, published_20_s_before])
def test_nothing_is_early_and_a_small_burst_is_on_time(burst):
    outcome = burst(Setup(), FEW)
    assert outcome.quantile(0) >= 0
    assert is_on_time(outcome)
    assert outcome.saturated == "nothing"


@pytest.mark.parametrize("events", [100, 1_000, 3_000, 10_000])
def test_a_parked_burst_is_on_time_as_shipped(events):
    assert is_on_time(parked_burst(Setup(), events))


def test_an_even_flow_is_on_time_and_waits_for_the_horizon_less_half_an_interval():
    outcome = parked_flow(Setup(interval=5), rate=30, at_the_minute=False, seconds=60)
    assert is_on_time(outcome)
    assert outcome.waiting == pytest.approx(template.horizon_seconds(5) - 2.5, abs=0.5)


def test_a_crowded_lane_is_started_early():
    ahead = parked_burst(Setup(), 20_000)
    not_ahead = parked_burst(Setup(**NO_LOOK_AHEAD), 20_000)
    assert ahead.waiting > not_ahead.waiting + 3
    assert ahead.last_start < not_ahead.last_start - 3


def test_a_lane_is_crowded_if_the_next_sweep_might_start_it_too_late():
    setup = Setup()
    assert parked_burst(setup, 6_000).waiting > parked_burst(replace(setup, lane_rate=math.inf), 6_000).waiting + 3
    assert parked_flow(setup, rate=200, at_the_minute=False, seconds=60).waiting < setup.horizon_seconds


def test_a_burst_that_a_failed_sweep_missed_is_started_by_the_next():
    """Five seconds later. A crowded lane still is on time, a small burst is up to 4 s late."""
    assert is_on_time(parked_burst(Setup(), 5_000, is_sweep_missed=True))
    assert 0 < parked_burst(Setup(), 100, is_sweep_missed=True).quantile(1) < 4.2


def test_a_lane_has_one_sweeper_at_a_time():
    one, eight = (parked_burst(Setup(**UNLIMITED, lanes=1, sweeps=sweeps, cold_start=0), 5_000) for sweeps in (1, 8))
    assert eight.last_start == pytest.approx(one.last_start, abs=1)


def test_more_sweepers_start_a_burst_sooner():
    one, eight = (parked_burst(Setup(helpers_after=math.inf, sweeps=sweeps), 20_000) for sweeps in (1, 8))
    assert eight.last_start < one.last_start - 5


def test_helpers_start_a_burst_sooner():
    helped, alone = (parked_burst(Setup(helpers_after=starts), 20_000) for starts in (1_000, math.inf))
    assert helped.last_start < alone.last_start - 5
    assert helped.sweepers > alone.sweepers


def test_few_events_call_no_helpers():
    assert parked_burst(Setup(), 500).sweepers == 1


def test_the_quota_of_start_execution_binds():
    """A hundred a second, and a hundred at once, from the first sweep that sees them on."""
    outcome = parked_burst(Setup(starts=100, sweeps=8), FEW)
    assert outcome.throttled["StartExecution"]
    assert outcome.last_start > FEW / 100 - 1 - Setup().horizon_seconds - Setup().look_ahead


def test_events_that_sns_throttles_are_parked_again_and_delivered_late():
    outcome = parked_burst(Setup(publishes=20), FEW)
    assert outcome.retried > 0
    assert outcome.quantile(1) > FEW / 20 - 1
    assert outcome.ends == {DELIVERED: FEW}


def test_events_whose_register_read_is_throttled_are_delivered_unchecked():
    outcome = parked_burst(Setup(reads=100), FEW)
    assert outcome.unchecked > 0
    assert outcome.ends == {DELIVERED: FEW}


def test_throttled_deletes_hold_up_no_start_and_repeat_nothing_while_they_go_on():
    outcome = parked_burst(Setup(partitions=1), 15_000)
    assert outcome.throttled["table writes"] > 0
    assert (outcome.repeats, outcome.quantile(1)) == (0, parked_burst(Setup(), 15_000).quantile(1))


def test_events_that_cannot_be_deleted_in_time_are_started_again():
    outcome = parked_burst(Setup(partitions=1, partition_writes=10), FEW)
    assert outcome.repeats > 0
    assert outcome.ends == {DELIVERED: FEW}


def test_a_bucket_gives_its_rate_and_no_more():
    bucket = Bucket(100)
    assert bucket.take(0.0, 150) == 100
    assert bucket.take(0.5, 150) == 50
    assert bucket.take(60.0, 1_000) == 100
    assert bucket.throttled == 50 + 100 + 900


def test_without_quotas_and_helpers_only_the_sweepers_are_late():
    assert parked_burst(Setup(**UNLIMITED, helpers_after=math.inf), 30_000).saturated == "sweepers"


def test_the_document_has_the_markers_of_every_table():
    text = scale.DOCUMENT.read_text()
    for name in scale.TABLES:
        assert text.count(f"<!-- {name}: begin -->") == text.count(f"<!-- {name}: end -->") == 1


def test_the_command_simulates_one_burst():
    run = CliRunner().invoke(estimates, ["scale", "burst", str(FEW), "--lanes", "4"])
    assert run.exit_code == 0
    assert run.output.strip() == scale.outcome_table(parked_burst(Setup(lanes=4), FEW))
