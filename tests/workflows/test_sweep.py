"""Sweep: a tick in each interval, until the next execution has started. Each tick is a call of the Sweeper."""

import itertools
import json
from collections.abc import Callable

import pytest
from punctual_core.lanes import lanes

from tests.workflows.engines import SWEEP_SCALE
from tests.workflows.simulation import Clock, Failed, Machine, Run
from tools.cloudformation import Template

TEMPLATE = Template()
STATES = json.loads(TEMPLATE.definition("Sweep"))["States"]
INTERVALS = [int(value) for value in TEMPLATE.text["Parameters"]["SweepIntervalSeconds"]["AllowedValues"]]
# Seconds of the workflow. The engines have ten of them in one of ours, on a machine that may be busy.
LATE_SECONDS = 15 / SWEEP_SCALE
# docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html: iterations of an inline Map that run at a time
INLINE_ITERATIONS = 40
# docs.aws.amazon.com/step-functions/latest/dg/choosing-workflow-type.html
EXPRESS_SECONDS = 300

ROUND = ["SweepAtEveryTick", "WaitForSuccessor", "LookUpSuccessor", "HasSuccessor"]


# --- On both engines --------------------------------------------------------------------------------------------------


def path(outcome) -> list[str]:
    """The states that an execution went through, without those of its Map, which only one of the engines lists."""
    return [state for state in outcome.path if state in STATES]


def assert_ticks(outcome, expected: range) -> None:
    """The Sweeper was called at these seconds after the start, but for what the machine takes."""
    assert len(outcome.ticks) == len(expected), outcome.ticks
    assert all(at <= tick < at + LATE_SECONDS for at, tick in zip(expected, outcome.ticks, strict=True)), outcome.ticks


@pytest.mark.sweep(interval="10")
def test_successor_has_started(outcome):
    """It ticks at once and in each interval for a minute, and then ends, because its successor has started."""
    assert outcome.status == "SUCCEEDED"
    assert path(outcome) == ["RecordStart", *ROUND, "Done"]
    assert_ticks(outcome, range(0, 62, 10))


@pytest.mark.sweep(interval="30", successor=False)
def test_no_successor(outcome):
    """Without a successor it goes on for three more rounds, with no longer interval in between."""
    assert outcome.status == "SUCCEEDED"
    assert path(outcome) == ["RecordStart", *ROUND * 4, "Done"]
    assert_ticks(outcome, range(0, 246, 30))


@pytest.mark.sweep(interval="60", successor=False)
def test_record_of_the_start(outcome):
    """The record is in the Parked table, where no sweep takes it for an event."""
    item = outcome.clock_item
    assert item.keys() == {"lane", "sort_key", "execution", "started_ms"}
    assert item["lane"]["S"] not in lanes()
    assert item["execution"]["S"] == outcome.arn
    assert abs(float(item["started_ms"]["N"]) / 1000 - outcome.started_at.timestamp()) < 5


@pytest.mark.sweep(interval="60", successor=False, clock_item=False)
def test_no_record_can_be_made_or_read(outcome):
    """If its start can't be recorded and its successor not looked up, it goes on as without one."""
    assert outcome.status == "SUCCEEDED"
    assert path(outcome) == ["RecordStart", *ROUND * 4, "Done"]
    assert_ticks(outcome, range(0, 246, 60))


@pytest.mark.sweep(interval="20", failing=True)
def test_failing_tick(outcome):
    """A tick that fails does not stop the others, and the execution fails at its end, so that it is seen."""
    assert_ticks(outcome, range(0, 62, 20))
    assert path(outcome)[-1] == "TicksMissed"
    assert (outcome.status, outcome.error) == ("FAILED", "TicksMissed")
    assert outcome.cause == "1 of 4 sweeps failed; the log of Sweeper states why"


def test_every_transition_is_taken(request, running, engine):
    """The tests above take each transition that the definition has, outside of its Map."""
    if request.config.getoption("keyword") or any("::" in argument for argument in request.config.args):
        pytest.skip("only some of those tests are selected")
    taken = set()
    for item in request.session.items:
        if item.get_closest_marker("sweep") and item.callspec.params["engine"] == engine:
            running[item.nodeid].wait()
            taken.update(itertools.pairwise(path(running[item.nodeid])))
    transitions = set()
    for name, state in STATES.items():
        parts = state, *state.get("Choices", []), *state.get("Catch", []), {"Next": state.get("Default")}
        transitions |= {(name, part["Next"]) for part in parts if part.get("Next")}
    assert taken == transitions


# --- On a simulated clock ---------------------------------------------------------------------------------------------


class World:
    """Executions of Sweep that are started at these times (in seconds), and have ended.

    `sweep_seconds` is how long the Sweeper takes, `call_seconds` how long the table does; `error(state, seconds)` the
    error that a task gets then, or None.
    """

    def __init__(
        self,
        interval: int,
        starts: list[float],
        sweep_seconds: float = 0.5,
        error: Callable[[str, float], str | None] = lambda state, seconds: None,
        call_seconds: float = 0.02,
    ):
        self.clock = Clock(0)
        self._sweep_seconds, self._call_seconds, self._error = sweep_seconds, call_seconds, error
        self.ticks: list[float] = []
        self._item: dict | None = None
        self.runs = [Run(f"execution-{number}", at) for number, at in enumerate(starts)]
        definition = Template(SweepIntervalSeconds=str(interval)).definition("Sweep")
        for run in self.runs:
            self.clock.start(Machine(definition, self.clock, self._call).execute(run, {}), run.started_at)
        self.clock.run(float("inf"))

    @property
    def longest_gap(self) -> float:
        """The longest time without a tick between the first start and a round after the last one."""
        ends_at = max(run.started_at for run in self.runs) + 60
        ticks = [tick for tick in sorted(self.ticks) if tick < ends_at]
        return max(later - earlier for earlier, later in itertools.pairwise([*ticks, ends_at]))

    def _call(self, state: str, arguments: dict) -> tuple[dict, float]:
        error = self._error(state, self.clock.now)
        if error == "States.Timeout":
            return {}, float("inf")
        if error:
            raise Failed(error, after=1)
        match state:
            case "Sweep":
                self.ticks.append(self.clock.now)
                return {"Payload": {"started": 0}}, self._sweep_seconds
            case "RecordStart":
                self._item = arguments["Item"]
            case "LookUpSuccessor" if self._item:
                return {"Item": self._item}, self._call_seconds
        return {}, self._call_seconds


@pytest.fixture(params=INTERVALS)
def interval(request) -> int:
    """Each interval that the template allows, in seconds."""
    return request.param


MINUTES = [60.0 * minute for minute in range(8)]
# What lies between the last tick of a round and the next round, besides the interval: a sweep, and some transitions. A
# sweep looks 3 s further ahead than the interval.
BETWEEN_ROUNDS_SECONDS = 1


def test_ticks_of_four_rounds(interval):
    """Whatever the interval: the first tick is at once, the others in step, and all of a round run side by side."""
    world = World(interval, [0], sweep_seconds=0, call_seconds=0)
    assert [round(tick) for tick in sorted(world.ticks)] == [*range(0, 243, interval)]
    assert world.runs[0].path.count("SweepAtEveryTick") == 4
    assert 62 // interval + 1 <= INLINE_ITERATIONS


def test_usual_minutes(interval):
    """In each minute there is one execution, which ends a few seconds after its successor has started."""
    world = World(interval, MINUTES)
    assert world.longest_gap <= interval + BETWEEN_ROUNDS_SECONDS
    assert all(run.seconds < 68 for run in world.runs[:-1])
    assert {run.output is not None for run in world.runs} == {True}


@pytest.mark.parametrize("missing", [{1}, {6}, {2, 3}, {2, 3, 4}, {1, 3, 5}], ids=str)
def test_missing_minutes_leave_no_gap(interval, missing):
    """There is a tick in each interval even if up to three executions in a row are missing."""
    starts = [start for minute, start in enumerate(MINUTES) if minute not in missing]
    assert World(interval, starts).longest_gap <= interval + BETWEEN_ROUNDS_SECONDS


@pytest.mark.parametrize("even", [0, 1, 4, 6, 30, 59])
@pytest.mark.parametrize("odd", [0, 1, 4, 6, 30, 59])
def test_late_minutes_leave_no_gap(even, odd):
    """There is a tick in each interval, wherever in its minute EventBridge Scheduler starts each execution."""
    starts = [start + (even, odd)[minute % 2] for minute, start in enumerate(MINUTES)]
    for interval in INTERVALS:
        assert World(interval, starts).longest_gap <= interval + BETWEEN_ROUNDS_SECONDS


@pytest.mark.parametrize("apart", [0, 0.005, 0.03, 1, 59])
def test_duplicate_minutes(interval, apart):
    """If EventBridge Scheduler starts executions twice, no more than two a minute go on, and none is left over."""
    starts = sorted([*MINUTES, *(start + apart for start in MINUTES)])
    world = World(interval, starts)
    assert world.longest_gap <= interval + BETWEEN_ROUNDS_SECONDS
    assert all(run.seconds < 68 for run in world.runs[:-2])


@pytest.mark.parametrize("error", ["States.Timeout", "DynamoDB.InternalServerErrorException"])
@pytest.mark.parametrize(
    "states",
    [["RecordStart"], ["LookUpSuccessor"], ["RecordStart", "LookUpSuccessor"]],
    ids=" and ".join,
)
def test_failing_record_leaves_no_gap(states, error):
    """If starts can't be recorded or looked up, executions go on, and each minute's overlap: no tick is missing."""
    for interval in INTERVALS:
        world = World(interval, MINUTES, error=lambda state, seconds: error if state in states else None)
        assert world.longest_gap <= interval + 3  # A record may take 2 s before the first tick.
        assert all(run.seconds < 265 for run in world.runs)
        assert {run.status for run in world.runs} == {"SUCCEEDED"}


def test_record_of_an_earlier_execution_is_no_successor():
    """An execution whose own start was not recorded finds its predecessor's record, and goes on."""
    world = World(
        10, [0, 60], error=lambda state, seconds: "Fault" if state == "RecordStart" and seconds > 59 else None
    )
    assert [run.path.count("SweepAtEveryTick") for run in world.runs] == [4, 4]


def test_failing_record_changes_no_tick():
    """An execution begins in the same way whether or not its start could be recorded."""
    state = STATES["RecordStart"]
    assert [rule["Assign"] for rule in state["Catch"]] == [state["Assign"]]


def test_missed_ticks_are_counted():
    """The execution's cause counts the ticks of all its rounds, and those that failed."""
    world = World(
        20, [0], error=lambda state, seconds: "Lambda.Unknown" if state == "Sweep" and seconds > 110 else None
    )
    [run] = world.runs
    assert (run.status, run.error) == ("FAILED", "TicksMissed")
    assert run.cause == "7 of 13 sweeps failed; the log of Sweeper states why"


@pytest.mark.parametrize("hanging", ["RecordStart", "LookUpSuccessor", None])
@pytest.mark.parametrize("sweep_seconds", range(36))
def test_sweep_ends_before_express_does(sweep_seconds, hanging):
    """Without a successor, however long sweeps take, and if other tasks hang: the last round ends in time."""

    def error(state: str, seconds: float) -> str | None:
        return "States.Timeout" if state == hanging else None

    for interval in (INTERVALS[0], INTERVALS[-1]):
        [run] = World(interval, [0], sweep_seconds, error).runs
        assert run.seconds < EXPRESS_SECONDS - 5
        assert run.path.count("SweepAtEveryTick") >= 2


def test_sweep_ends_before_express_does_with_retries():
    """The same if Lambda refuses each tick twice, as it does within a second, and the sweep then takes all its time."""
    refusals: dict[int, int] = {}

    def error(state: str, seconds: float) -> str | None:
        tick = int(seconds) // 10
        refusals[tick] = refusals.get(tick, 0) + (state == "Sweep")
        return "Lambda.TooManyRequestsException" if state == "Sweep" and refusals[tick] <= 2 else None

    for sweep_seconds in range(36):
        refusals.clear()
        [run] = World(10, [0], sweep_seconds, error).runs
        assert run.seconds < EXPRESS_SECONDS - 5
