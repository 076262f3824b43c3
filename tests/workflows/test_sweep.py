"""Sweep: two minutes of ticks, each a call of the Sweeper."""

import itertools
import json

import pytest

from tests.cloudformation import Template

INTERVALS = Template().text["Parameters"]["SweepIntervalSeconds"]["AllowedValues"]
# Seconds of the workflow, of which the engines have five in one of ours, on a machine that may be busy.
LATE_SECONDS = 25
# docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html: iterations of an inline Map that run at a time
INLINE_ITERATIONS = 40


@pytest.mark.sweep(interval="10")
def test_ticks(outcome):
    """The Sweeper is called at the start, and then once in each interval, for two minutes."""
    assert outcome.status == "SUCCEEDED"
    expected = range(0, 120, 10)
    assert len(outcome.ticks) == len(expected)
    assert all(at <= tick < at + LATE_SECONDS for at, tick in zip(expected, outcome.ticks, strict=True)), outcome.ticks


@pytest.mark.sweep(interval="20", failing=True)
def test_failing_tick(outcome):
    """A tick that fails does not stop the others, and the execution fails at the end, so that it is seen."""
    assert len(outcome.ticks) == 6
    assert (outcome.status, outcome.error) == ("FAILED", "TicksMissed")
    assert outcome.cause == "1 of 6 sweeps failed; the Sweeper log says why"


@pytest.fixture(params=INTERVALS)
def interval(request) -> int:
    """Each interval that the template allows, in seconds."""
    return int(request.param)


@pytest.fixture
def ticks(interval, evaluate) -> list[int]:
    """When an execution sweeps, in seconds after its start: what the shipped expression says."""
    definition = json.loads(Template(SweepIntervalSeconds=str(interval)).definition("Sweep"))
    return evaluate(definition["States"]["SweepAtEveryTick"]["Items"].removeprefix("{%").removesuffix("%}"))


def longest_gap(starts: list[int], ticks: list[int]) -> int:
    """The longest time without a sweep, in seconds, while executions are started at these times."""
    sweeps = sorted({start + tick for start in starts for tick in ticks})
    return max(later - earlier for earlier, later in itertools.pairwise(sweeps))


def test_ticks_at_each_interval(ticks, interval):
    """Whatever the interval, it begins at once, keeps step for two minutes, and all its ticks run side by side."""
    assert ticks == [*range(0, 120, interval)]
    assert len(ticks) <= INLINE_ITERATIONS


def test_a_missing_minute_leaves_no_gap(ticks, interval):
    """There is a sweep at least every interval, even if one of the executions is missing, whichever it is."""
    starts = [60 * minute for minute in range(8)]
    assert longest_gap(starts, ticks) == interval
    for missing in starts[1:-1]:
        assert longest_gap([start for start in starts if start != missing], ticks) == interval


def test_a_late_minute_leaves_no_gap(ticks, interval):
    """There is a sweep at least every interval, wherever in its minute EventBridge Scheduler starts each execution."""
    for early, late in itertools.product((0, 1, 30, 59), repeat=2):
        starts = [60 * minute + (early, late)[minute % 2] for minute in range(8)]
        assert longest_gap(starts, ticks) <= interval
