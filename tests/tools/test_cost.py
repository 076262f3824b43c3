"""The cost estimate: it multiplies what the shipped code calls, and its sums are right."""

import copy
import dataclasses
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from tools.documents import with_marked
from tools.estimates import cost, counting, pricing, template
from tools.estimates.__main__ import estimates
from tools.estimates.pricing import GB_HOUR, Line, Use

COUNTS, PRICES = counting.load(), pricing.load_prices()


def bill(use: Use) -> list[Line]:
    return pricing.bill(use, COUNTS, PRICES)


def month(**use: Any) -> float:
    return pricing.total(bill(Use(**use)))


@pytest.fixture(scope="module")
def fresh() -> counting.Counts:
    """A count of the code as it is now; in its own process, because the functions make their clients on import."""
    code = "import json; from tools.estimates import counting; print(json.dumps(counting.count()))"
    run = subprocess.run([sys.executable, "-c", code], cwd=template.ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("kind", COUNTS["events"])
def test_an_event_calls_what_was_counted(fresh, kind):
    """If it does not: `python -m tools.estimates cost count`, then `python -m tools.estimates cost document`."""
    counted, now = COUNTS["events"][kind], fresh["events"][kind]
    for name in "ingest", "deliver", "states", "status":
        assert counted.get(name) == now.get(name)
    for name in "item_bytes", "deliver_log_bytes":
        assert counted.get(name, 0) == pytest.approx(now.get(name, 0), rel=0.03)


def test_a_sweep_calls_what_was_counted(fresh):
    for found in "0", "1":
        assert COUNTS["sweep"]["calls"][found] == fresh["sweep"]["calls"][found]
    for interval, execution in fresh["sweep_executions"].items():
        counted = COUNTS["sweep_executions"][interval]
        assert (counted["calls"], counted["waits_seconds"]) == (execution["calls"], execution["waits_seconds"])


def test_the_price_per_gb_hour_falls_in_tiers():
    assert pricing.usd(PRICES, GB_HOUR, 1_000) == pytest.approx(60)
    assert pricing.usd(PRICES, GB_HOUR, 6_000) == pytest.approx(60 + 120 + 16.42)


def test_lines_with_a_price_in_tiers_add_up_to_the_price_of_their_sum():
    lines = [line for line in bill(Use(5e8)) if line.price == GB_HOUR]
    assert len(lines) == 2
    together = pricing.usd(PRICES, GB_HOUR, sum(line.units for line in lines))
    assert sum(line.usd for line in lines) == pytest.approx(together)


def test_without_events_only_idle_lines_are_billed():
    lines = bill(Use(events=0))
    assert all(line.is_idle for line in lines)
    assert month(events=0) == pytest.approx(pricing.total(lines, is_idle=True))


@pytest.mark.parametrize(
    "cheaper",
    [{"logs": "ERROR"}, {"batching_seconds": 5}, {"far_share": 0.0}, {"retention_days": 1}],
    ids=str,
)
def test_each_lever_lowers_the_bill_of_a_million_events(cheaper):
    assert month(**cheaper) < month()


@pytest.mark.parametrize(
    "dearer",
    [
        {"interval_seconds": 60},
        {"is_traced": True},
        {"has_probe": True},
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


# USD per million events without idle lines, when these figures were last set. Lower them after a saving.
PER_MILLION = {
    Use(events=1e6): 19.80,
    Use(events=1e6, **cost.LEAN): 13.14,
    Use(events=1e8): 13.87,
    Use(events=1e8, **cost.LEAN): 6.78,
}


def per_million(use: Use, counts: counting.Counts = COUNTS) -> float:
    return pricing.total(pricing.bill(use, counts, PRICES), is_idle=False) / use.events * 1e6


@pytest.mark.parametrize("use", PER_MILLION, ids=["as shipped, 1 M", "lean, 1 M", "as shipped, 100 M", "lean, 100 M"])
def test_a_change_does_not_raise_the_cost_of_an_event_by_more_than_5_percent(use):
    assert per_million(use) < 1.05 * PER_MILLION[use]


def test_one_more_write_for_each_event_is_a_rise_of_more_than_5_percent():
    """Of the lean bill, in which a call weighs most."""
    counts = copy.deepcopy(COUNTS)
    counts["events"]["far"]["ingest"]["dynamodb:UpdateItem"] = 1
    lean = Use(events=1e8, **cost.LEAN)
    assert per_million(lean, counts) > 1.05 * PER_MILLION[lean]


def test_a_parked_event_waits_for_the_horizon_less_half_an_interval_on_average():
    use = Use(interval_seconds=10)
    assert pricing.waiting_seconds(use, COUNTS) == pytest.approx(template.horizon_seconds(10) - 5)


def test_a_near_event_waits_for_half_the_horizon_on_average():
    use = dataclasses.replace(Use(interval_seconds=10), far_share=0.0)
    assert pricing.waiting_seconds(use, COUNTS) == template.horizon_seconds(10) / 2


def test_an_event_in_a_crowded_lane_waits_longer():
    few, many = (pricing.waiting_seconds(Use(events), COUNTS) for events in (1e6, 2e9))
    assert few + 5 < many < template.horizon_seconds(5) + COUNTS["sweep"]["look_ahead_seconds"]


def test_a_batching_window_fills_batches_only_at_high_rates():
    assert Use(1e9, batching_seconds=0).batch == 1
    assert 1 < Use(1e6, batching_seconds=5).batch < 4
    assert Use(1e8, batching_seconds=5).batch == 10


def test_log_lines_that_lambda_adds_are_not_billed_because_they_are_off():
    """If this fails, they have to be counted: START, END and REPORT of each invocation."""
    assert template.system_log_level() == "WARN"
    assert "ERROR" in template.properties("Sweep")["Logging"]["Level"]


def test_every_price_states_its_source_and_how_it_was_checked():
    for entry in PRICES["prices"].values():
        assert entry["source"].startswith("https://aws.amazon.com/")
        assert entry["seen"] in ("price list", "believed")


def test_a_durable_function_pays_for_three_operations_two_invocations_and_what_it_writes():
    operations, invocations, compute, written, publish = 3 * 8.00, 2 * 0.20, 2 * 0.05 * 0.125 * 13.3334, 0.25, 0.50
    assert pricing.alternatives(1e6, PRICES)["Lambda durable functions: start, wait, step"] == pytest.approx(
        operations + invocations + compute + written + publish
    )


def test_the_tables_in_the_document_are_current():
    """If they are not: `python -m tools.estimates cost document`."""
    document = cost.DOCUMENT.read_text()
    for name, table in cost.tables(COUNTS, PRICES).items():
        assert with_marked(document, name, table) == document


def test_the_picture_in_the_document_is_current(tmp_path):
    """If it is not: `python -m tools.estimates cost document`. Another machine may round the last digits otherwise."""
    number = re.compile(r"-?\d+(?:\.\d+)?")
    cost.draw_picture(COUNTS, PRICES, drawn := tmp_path / cost.PICTURE.name)
    shown, new = cost.PICTURE.read_text(), drawn.read_text()
    assert number.sub("", shown) == number.sub("", new)
    assert [*map(float, number.findall(shown))] == pytest.approx([*map(float, number.findall(new))], abs=0.01)


def test_the_names_of_what_changed_are_lines_of_the_bill():
    """Otherwise a saving would be stated that is none."""
    names = {line.what for line in [*bill(Use()), *bill(Use(is_traced=True))]}
    gone = {"Sweep: logs", "Sweeper: logs"}  # their lines are 0, or do not exist any more
    assert {name for _, lines, _ in cost.EARLIER_LINES.values() for name in lines} - gone <= names


def test_the_command_prices_the_month_that_it_is_asked_for():
    run = CliRunner().invoke(estimates, ["cost", "--events", "0", "--logs", "ERROR"])
    assert run.exit_code == 0
    assert f"{month(events=0, logs='ERROR'):.2f}" in run.output


def test_the_command_prices_settings_that_are_true_or_false():
    run = CliRunner().invoke(estimates, ["cost", "--tracing", "true", "--probe", "true", "--dashboard", "false"])
    assert run.exit_code == 0
    assert f"{month(is_traced=True, has_probe=True, has_dashboard=False):.2f}" in run.output


def test_the_command_shows_the_earlier_figure_of_a_month_that_has_one():
    assert "commit 2e248ce: 44.34" in CliRunner().invoke(estimates, ["cost"]).output
    assert "commit" not in CliRunner().invoke(estimates, ["cost", "--events", "2000000"]).output


def test_the_command_refuses_a_setting_that_the_template_does_not_have():
    run = CliRunner().invoke(estimates, ["cost", "--interval", "7"])
    assert run.exit_code == 2
    assert "--interval" in run.output
