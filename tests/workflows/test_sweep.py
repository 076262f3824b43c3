"""Sweep on a simulated clock: a tick in each interval, until the next execution has started."""

import itertools
import json
from collections.abc import Callable

import pytest
from punctual_core.lanes import lanes

from tests.workflows.simulation import Clock, Failed, Machine, Run
from tests.workflows.world import outage
from tools.cloudformation import Template

TEMPLATE = Template()
STATES = json.loads(TEMPLATE.definition("Sweep"))["States"]
TASKS = STATES | STATES["SweepAtEveryTick"]["ItemProcessor"]["States"]
INTERVALS = [int(value) for value in TEMPLATE.text["Parameters"]["SweepIntervalSeconds"]["AllowedValues"]]
ENDS = (INTERVALS[0], INTERVALS[-1])
each_interval = pytest.mark.parametrize("interval", INTERVALS)
# docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html: iterations of an inline Map that run at a time
INLINE_ITERATIONS = 40
# docs.aws.amazon.com/step-functions/latest/dg/choosing-workflow-type.html
EXPRESS_SECONDS = 300
# A record or a look-up of the successor that hangs ends after this.
CLOCK_TIMEOUT_SECONDS = 2


class World:
    """Executions of Sweep that are started at these times (in seconds), and have ended.

    `sweep_seconds` is how long the Sweeper takes, `call_seconds` how long the table does; `error(state, seconds)` the
    error that a task gets then, or None, after `failing_seconds`. If it `crashes`, the first call of each tick fails.
    """

    def __init__(
        self,
        interval: int,
        starts: list[float],
        sweep_seconds: float = 0.5,
        error: Callable[[str, float], str | None] = lambda state, seconds: None,
        call_seconds: float = 0.02,
        failing_seconds: float = 1,
        crashes: bool = False,
    ):
        self.clock = Clock(0)
        self._sweep_seconds, self._call_seconds, self._error = sweep_seconds, call_seconds, error
        self._failing_seconds, self._crashes = failing_seconds, crashes
        # Every call of the Sweeper that it took, and every call at all, with its holder.
        self.ticks: list[float] = []
        self.calls: list[tuple[float, str]] = []
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
        if state == "Sweep":
            holder = arguments["Payload"]["holder"]
            if self._crashes and holder not in [earlier for _, earlier in self.calls]:
                error = "Lambda.Unknown"
            self.calls.append((self.clock.now, holder))
        if error == "States.Timeout":
            return {}, float("inf")
        if error:
            raise Failed(error, after=self._failing_seconds)
        match TASKS[state]["Resource"].split(":::")[1], arguments:
            case "lambda:invoke", {"FunctionName": function, "Payload": payload}:
                assert (function, payload.keys()) == (TEMPLATE.arn("Sweeper"), {"holder"})
                self.ticks.append(self.clock.now)
                return {"Payload": {"started": 0}}, self._sweep_seconds
            case "dynamodb:putItem", {"TableName": table, "Item": item}:
                assert {name: [*value] for name, value in item.items()} == CLOCK_TYPES
                assert (table, item["lane"], item["sort_key"]) == CLOCK_ITEM
                self._item = item
            case "dynamodb:getItem", {"TableName": table, "Key": key, "ConsistentRead": True}:
                assert (table, key["lane"], key["sort_key"]) == CLOCK_ITEM
                return {"Item": self._item} if self._item else {}, self._call_seconds
            case call:
                raise AssertionError(f"no service answers {call}")
        return {}, self._call_seconds


# Where no sweep takes it for an event.
CLOCK_ITEM = (TEMPLATE.resolve({"Ref": "Parked"}), {"S": "clock"}, {"S": "latest"})
CLOCK_TYPES = {"lane": ["S"], "sort_key": ["S"], "execution": ["S"], "started_ms": ["N"]}
assert "clock" not in lanes()


MINUTES = [60.0 * minute for minute in range(8)]
# What lies between the last tick of a round and the next round, besides the interval: a sweep, and some transitions. A
# sweep looks 3 s further ahead than the interval.
BETWEEN_ROUNDS_SECONDS = 1


@each_interval
def test_ticks_of_four_rounds(interval):
    """Whatever the interval: the first tick is at once, the others in step, and all of a round run side by side. No two
    have the same holder."""
    world = World(interval, [0], sweep_seconds=0, call_seconds=0)
    assert [round(tick) for tick in sorted(world.ticks)] == [*range(0, 243, interval)]
    assert len({holder for _, holder in world.calls}) == len(world.calls)
    assert world.runs[0].path.count("SweepAtEveryTick") == 4
    assert 62 // interval + 1 <= INLINE_ITERATIONS


@each_interval
@pytest.mark.parametrize("missing", [{}, {1}, {2, 3, 4}, {1, 3, 5}], ids=str)
def test_missing_minutes_leave_no_gap(interval, missing):
    """There is a tick in each interval even if up to three executions in a row are missing. Each one ends a few seconds
    after its successor has started."""
    world = World(interval, [start for minute, start in enumerate(MINUTES) if minute not in missing])
    assert world.longest_gap <= interval + BETWEEN_ROUNDS_SECONDS
    assert all(run.ended_at < successor.started_at + 8 for run, successor in itertools.pairwise(world.runs))
    assert {run.status for run in world.runs} == {"SUCCEEDED"}


@pytest.mark.parametrize("even", [0, 30, 59])
@pytest.mark.parametrize("odd", [0, 30, 59])
def test_late_minutes_leave_no_gap(even, odd):
    """There is a tick in each interval, wherever in its minute EventBridge Scheduler starts each execution."""
    starts = [start + (even, odd)[minute % 2] for minute, start in enumerate(MINUTES)]
    assert World(10, starts).longest_gap <= 10 + BETWEEN_ROUNDS_SECONDS


@each_interval
@pytest.mark.parametrize("apart", [0, 0.005, 59])
def test_duplicate_minutes(interval, apart):
    """If EventBridge Scheduler starts executions twice, no more than two a minute go on, and none is left over."""
    world = World(interval, sorted([*MINUTES, *(start + apart for start in MINUTES)]))
    assert world.longest_gap <= interval + BETWEEN_ROUNDS_SECONDS
    assert all(run.seconds < 68 for run in world.runs[:-2])


@pytest.mark.parametrize("error", ["States.Timeout", "DynamoDB.InternalServerErrorException"])
@pytest.mark.parametrize("states", [["RecordStart"], ["LookUpSuccessor"], ["RecordStart", "LookUpSuccessor"]], ids=str)
def test_failing_record_leaves_no_gap(states, error):
    """If starts can't be recorded or looked up, executions go on, and each minute's overlap: no tick is missing."""
    for interval in ENDS:
        world = World(interval, MINUTES[:6], error=outage({*states}, EXPRESS_SECONDS * 2, error))
        assert world.longest_gap <= interval + CLOCK_TIMEOUT_SECONDS + BETWEEN_ROUNDS_SECONDS
        assert all(run.seconds < 265 for run in world.runs)
        assert {run.status for run in world.runs} == {"SUCCEEDED"}


def test_record_of_an_earlier_execution_is_no_successor():
    """An execution whose own start was not recorded finds its predecessor's record, and goes on."""
    world = World(10, [0, 60], error=outage({"RecordStart"}, EXPRESS_SECONDS, "Fault", since=59))
    assert [run.path.count("SweepAtEveryTick") for run in world.runs] == [4, 4]


def test_failing_record_changes_no_tick():
    """An execution begins in the same way whether or not its start could be recorded."""
    assert [rule["Assign"] for rule in STATES["RecordStart"]["Catch"]] == [STATES["RecordStart"]["Assign"]]


@pytest.mark.parametrize("apart_ms", [0, 1])
def test_two_that_start_at_once(apart_ms):
    """Of two executions that start in the same millisecond, the one that is recorded goes on, and no more than one."""
    world = World(20, [0, apart_ms / 1000], call_seconds=0)
    assert sorted(run.path.count("SweepAtEveryTick") for run in world.runs) == [1, 4]


@pytest.mark.parametrize("hanging", ["RecordStart", "LookUpSuccessor", None])
@pytest.mark.parametrize("sweep_seconds", [0, 20, 35])
def test_sweep_ends_before_express_does(sweep_seconds, hanging):
    """Without a successor, however long sweeps take, and if other tasks hang: the last round ends in time."""
    for interval in ENDS:
        [run] = World(interval, [0], sweep_seconds, outage({hanging}, EXPRESS_SECONDS, "States.Timeout")).runs
        assert run.seconds < EXPRESS_SECONDS - 5
        assert run.path.count("SweepAtEveryTick") >= 2


@pytest.mark.parametrize("failing_seconds", [0.1, 5, 10])
def test_sweep_ends_before_express_does_with_retries(failing_seconds):
    """The same if each tick crashes within ten seconds, and its retry then takes all the time that the function has."""
    for sweep_seconds in range(0, 31, 5):
        [run] = World(20, [0], sweep_seconds, failing_seconds=failing_seconds, crashes=True).runs
        assert run.seconds < EXPRESS_SECONDS - 1
        assert run.status == "SUCCEEDED"


# --- A tick that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["Lambda.Unknown", "RuntimeError", "States.Timeout"])
def test_failed_tick_is_retried_with_its_own_holder(error):
    """Whatever a tick fails with: it is called again after a second, with the same holder, so that it enters the leases
    of the dead one. The other ticks are where they were, and the execution succeeds."""
    seen: list[float] = []

    def fault(state: str, seconds: float) -> str | None:
        if state == "Sweep" and 19 < seconds < 29 and not seen:
            seen.append(seconds)
            return error
        return None

    world = World(20, [0, 60], error=fault)
    holders = [holder for _, holder in world.calls]
    [twice] = {holder for holder in holders if holders.count(holder) == 2}
    first, second = [at for at, holder in world.calls if holder == twice]
    assert second - first == pytest.approx(36 if error == "States.Timeout" else 2, abs=0.01)
    assert len({*holders}) == len(world.calls) - 1
    assert [round(at) for at, holder in world.calls if holder != twice and at < 59] == [0, 40]
    assert {run.status for run in world.runs} == {"SUCCEEDED"}


def test_missed_ticks():
    """A tick that fails twice is missed. It does not stop the others, and the execution fails at its end, so that it is
    seen: its cause counts the ticks of all rounds. A single one is enough."""
    world = World(20, [0], error=outage({"Sweep"}, EXPRESS_SECONDS, "Lambda.Unknown", since=110))
    [run] = world.runs
    assert (run.status, run.error) == ("FAILED", "TicksMissed")
    assert run.cause == "7 of 13 sweeps failed; the log of Sweeper states why"
    assert len(world.calls) == 13 + 7
    run = World(20, [0, 60], error=outage({"Sweep"}, 29, "Lambda.Unknown", since=19)).runs[0]
    assert (run.status, run.cause) == ("FAILED", "1 of 4 sweeps failed; the log of Sweeper states why")
