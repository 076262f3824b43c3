"""Runs the shipped state machines, for the tests that are marked with what to run.

Everything that is marked starts together, before the first test looks at how its own ended: the whole directory takes
as long as its longest execution.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.workflows.engines import ENGINES, SWEEP_SCALE, Emulator, Moto
from tests.workflows.executions import Delivery, SweepRun
from tests.workflows.expressions import evaluate
from tools.cloudformation import ROOT

# From the moment when the executions are started to the first due date: time for all of them to start.
LEAD_SECONDS = 3
SPREAD_SECONDS = 5
HOLD = ROOT / "functions/punctual_core/hold.py"


def pytest_configure(config: pytest.Config) -> None:
    for mark in (
        "deliver: run Deliver; the arguments are those of `Delivery`; the fixture `outcome` is its end",
        "sweep: run Sweep; the arguments are those of `SweepRun`; the fixture `outcome` is its end",
    ):
        config.addinivalue_line("markers", mark)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("deliver")
        metafunc.parametrize("engine", mark.kwargs.get("on", ENGINES) if mark else ENGINES)


@pytest.fixture(scope="package")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Delivery | SweepRun]]:
    """Every execution that a selected test is marked with, by the test's node id: all of them under way."""
    deliver = [(item, mark) for item in request.session.items if (mark := item.get_closest_marker("deliver"))]
    sweep = [(item, mark) for item in request.session.items if (mark := item.get_closest_marker("sweep"))]
    deliver_on = {"moto": Moto(), "emulator": Emulator()}
    sweep_on = {"moto": deliver_on["moto"], "emulator": Emulator(seconds_scale=SWEEP_SCALE)}
    # Only what the selected tests need: an emulator takes a while to start, and shares the machine with other work.
    engines = {deliver_on[item.callspec.params["engine"]] for item, _ in deliver}
    engines |= {sweep_on[item.callspec.params["engine"]] for item, _ in sweep}
    ticks = tmp_path_factory.mktemp("ticks")
    executions: dict[str, Delivery | SweepRun] = {}

    def prepare(name: str) -> None:
        hold = deliver_on[name].function("hold", HOLD) if deliver_on[name] in engines else ""
        for item, mark in deliver:
            if item.callspec.params["engine"] == name:
                executions[item.nodeid] = Delivery(deliver_on[name], hold, **mark.kwargs)
        for item, mark in sweep:
            if item.callspec.params["engine"] == name:
                executions[item.nodeid] = SweepRun(sweep_on[name], ticks, **mark.kwargs)

    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        for engine in engines:
            stack.callback(engine.stop)
        list(threads.map(lambda engine: engine.start(), engines))
        list(threads.map(prepare, ENGINES))
        now = (datetime.now(UTC) + timedelta(seconds=LEAD_SECONDS)).replace(microsecond=0)
        # Not all in the same second.
        starts = [now + timedelta(seconds=number % SPREAD_SECONDS) for number in range(len(executions))]
        list(threads.map(lambda execution, start: execution.start(start), executions.values(), starts))
        yield executions
        for execution in executions.values():
            execution.wait()


@pytest.fixture
def outcome(request: pytest.FixtureRequest, running: dict[str, Delivery | SweepRun], engine: str) -> Any:
    """The execution that the test is marked with, when it has ended."""
    execution = running[request.node.nodeid]
    execution.wait()
    return execution


@pytest.fixture(name="evaluate")
def evaluator() -> Callable:
    """What evaluates JSONata, for a test that looks at one expression."""
    return lambda expression, **variables: evaluate(expression, variables)
