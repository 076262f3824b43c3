"""The calculator: what it multiplies is what the shipped code calls, and the sums are right."""

import dataclasses
import json
import subprocess
import sys

import pytest

from tools.estimates import cost

CALLS, PRICES = json.loads(cost.CALLS.read_text()), json.loads(cost.PRICES.read_text())


def month(**use) -> float:
    return cost.total(cost.bill(cost.Use(**use), CALLS, PRICES))


@pytest.fixture(scope="module")
def fresh() -> dict:
    """A count of the code as it is now; in a process of its own, because the functions make their clients on import."""
    code = "import json; from tools.estimates import cost; print(json.dumps(cost.count()))"
    run = subprocess.run([sys.executable, "-c", code], cwd=cost.ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", CALLS["events"])
def test_the_counted_calls_are_those_of_the_code(fresh, kind):
    """If not, the documents are out of date: `python -m tools.estimates.cost count`, then `python -m tools.estimates.cost document`."""
    exact = ("ingest", "deliver", "states", "status")
    counted, now = CALLS["events"][kind], fresh["events"][kind]
    assert {name: counted.get(name) for name in exact} == {name: now.get(name) for name in exact}
    for name in "item_bytes", "deliver_log_bytes":
        assert counted.get(name, 0) == pytest.approx(now.get(name, 0), rel=0.03)


def test_the_counted_sweeps_are_those_of_the_code(fresh):
    assert CALLS["sweep"]["calls"]["0"] == fresh["sweep"]["calls"]["0"]
    assert CALLS["sweep"]["calls"]["1"] == fresh["sweep"]["calls"]["1"]
    assert CALLS["sweep_execution"]["invocations"] == fresh["sweep_execution"]["invocations"]


def test_waiting_is_billed_by_the_tiers_of_express():
    assert cost.usd(PRICES, "express_gb_hour", 1_000) == pytest.approx(60)
    assert cost.usd(PRICES, "express_gb_hour", 6_000) == pytest.approx(60 + 120 + 16.42)


def test_the_lines_of_a_price_in_tiers_add_up_to_the_whole():
    lines = [line for line in cost.bill(cost.Use(5e8), CALLS, PRICES) if line.price == cost.GB_HOUR]
    assert len(lines) == 2
    whole = cost.usd(PRICES, cost.GB_HOUR, sum(line.units for line in lines))
    assert sum(line.usd for line in lines) == pytest.approx(whole)


def test_a_stack_without_events_pays_only_for_being_there():
    lines = cost.bill(cost.Use(events=0), CALLS, PRICES)
    assert all(line.idle for line in lines)
    assert month(events=0) == pytest.approx(cost.total(lines, idle=True))


@pytest.mark.parametrize(
    "cheaper",
    [
        {"interval": 5},
        {"logs": "ERROR"},
        {"traced": False},
        {"far_share": 0.0},
        {"batch": 10},
        {"retention_days": 1},
    ],
    ids=str,
)
def test_each_lever_lowers_the_bill_of_a_million(cheaper):
    assert month(**cheaper) < month()


@pytest.mark.parametrize(
    "dearer",
    [
        {"architecture": "x86_64"},
        {"fraction_share": 0.5},
        {"named_share": 0.5},
        {"failed_share": 0.5},
        {"payload_bytes": 10_000},
    ],
    ids=str,
)
def test_more_work_costs_more(dearer):
    assert month(**dearer) > month()


def test_an_event_waits_between_the_horizon_and_an_interval_less():
    use = cost.Use(interval=10)
    assert use.waited_seconds == cost.horizon_of(10) - 5
    assert dataclasses.replace(use, far_share=0.0).waited_seconds == cost.horizon_of(10) / 2


def test_every_price_says_where_it_is_from():
    for entry in PRICES["prices"].values():
        assert entry["source"].startswith("https://aws.amazon.com/")
        assert entry["seen"] in ("price list", "believed")
