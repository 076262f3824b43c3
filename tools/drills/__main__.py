"""Inject every fault that we know into the stack on the emulator, and account for every event.

.venv/dev/bin/python -m tools.drills                    all drills; exits with 1 if one of them found a problem
.venv/dev/bin/python -m tools.drills --only restart --events 50
.venv/dev/bin/python -m tools.drills --write            also put the results into docs/reliability.md
"""

import argparse
import itertools
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tools.drills.drills import ALONE, SIDE_BY_SIDE, Drill, name_of, no_fault, title_of
from tools.drills.proxy import FaultProxy
from tools.drills.report import DOCUMENT, Result, lines_of, summary, table, write
from tools.drills.scenes import Scene
from tools.local import LocalStack, LocalStackError

SWEEP_SECONDS = 5
WARM_UP = 50  # events


def run_all(only: Sequence[str], events: int) -> list[Result]:
    """Run the drills whose names contain one of `only` (none means all) in one emulator."""

    def chosen(drills: Iterable[Drill]) -> list[Drill]:
        return [drill for drill in drills if not only or any(part in name_of(drill) for part in only)]

    side_by_side = {stack_name: drills for stack_name in SIDE_BY_SIDE if (drills := chosen(SIDE_BY_SIDE[stack_name]))}
    alone = chosen(ALONE)
    if not side_by_side and not alone:
        names = map(name_of, [*itertools.chain(*SIDE_BY_SIDE.values()), *ALONE])
        sys.exit(f"No drill has such a name. The drills are: {', '.join(names)}")
    with ExitStack() as ends:
        stack = ends.enter_context(LocalStack(parameters={"SweepIntervalSeconds": str(SWEEP_SECONDS)}))
        proxy = ends.enter_context(FaultProxy(stack))
        stack.build()
        stack_names = list(side_by_side) or ["left"]
        for stack_name in stack_names:
            stack.deploy(stack_name=stack_name)
            warm_up(stack, stack_name, proxy)

        def run_in_turn(stack_name: str) -> list[Result]:
            return [run(drill, stack, stack_name, proxy, events) for drill in side_by_side[stack_name]]

        threads = ThreadPoolExecutor()
        # After an error or a signal the emulator ends, and with it the drills that are still running.
        ends.push(lambda *_: threads.shutdown(wait=False, cancel_futures=True))
        results = list(itertools.chain(*threads.map(run_in_turn, side_by_side)))
        results += [run(drill, stack, stack_names[0], proxy, events) for drill in alone]
    return results


def warm_up(stack: LocalStack, stack_name: str, proxy: FaultProxy) -> None:
    """Put the proxy in front of the stack's functions and start them, so that no drill measures cold starts."""
    with Scene("warm-up", stack, stack_name, proxy, WARM_UP) as scene:
        for function in ("Ingest", "Sweeper"):
            proxy.intercept(scene.physical_id(function))
        scene.start_sweep()
        no_fault(scene)


def run(drill: Drill, stack: LocalStack, stack_name: str, proxy: FaultProxy, events: int) -> Result:
    """Run one drill on a deployed stack, and print its result."""
    started_at = time.monotonic()
    with Scene(name_of(drill), stack, stack_name, proxy, events) as scene:
        drill(scene)
        hits = [fault.hits for fault in scene.faults]
        result = Result(
            name=name_of(drill),
            title=title_of(drill),
            account=scene.ledger.account(scene.attempts),
            seconds=time.monotonic() - started_at,
            hits=(sum(hits) if all(hits) else 0) if hits else None,
            started_again=sum(len(proxy.started(execution)) > 1 for execution in scene.ledger.repeated),
            problems=scene.problems,
            notes=scene.notes,
            report_places=scene.ledger.report_places,
            open=scene.ledger.open,
        )
    print("\n".join(lines_of(result)), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Inject faults into Punctual on this machine; account for every event")
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", default=[], help="the drills whose names contain one of these"
    )
    parser.add_argument("--events", type=int, default=200, help="in each drill except the burst (default: 200)")
    parser.add_argument("--write", action="store_true", help=f"put the results into {DOCUMENT.name}")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the emulator ends, too
    started_at = time.monotonic()
    try:
        results = run_all(options.only, options.events)
    except LocalStackError as error:
        sys.exit(f"\n{error}")
    seconds = time.monotonic() - started_at
    print(f"\n{table(results)}\n\n{summary(results)} {seconds:.0f} s.")
    if options.write:
        write(results, "make drill", seconds)
    sys.exit(not all(result.is_clean for result in results))


if __name__ == "__main__":
    main()
