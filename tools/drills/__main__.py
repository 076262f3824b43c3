"""Inject every fault that we know into the stack on the emulator, and account for every event.

.venv/dev/bin/python -m tools.drills                    all drills; exits with 1 if one of them found a problem
.venv/dev/bin/python -m tools.drills --only sweeper upgrade --events 50
"""

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Sequence

from tools.documents import conditions, markdown_table
from tools.drills import upgrade
from tools.drills.drills import DRILLS, Drill
from tools.drills.ledger import OUTCOMES, UNCONCERNED_SECONDS
from tools.drills.proxy import FaultProxy
from tools.drills.scenes import Scene
from tools.local import Consumer, LocalStack
from tools.local.shell import exit_on_failure

WARM_UP = 50  # events
MOST_LISTED = 10  # payloads of events with a problem
COLUMNS = "drill", "events", *OUTCOMES, "repeated", "longest lateness", "limit"


# What one drill found: cells for COLUMNS, and problems, which are sentences. There are none if the fault happened and
# every promise was kept.
type Result = tuple[list[str], list[str]]


def run_all(drills: Sequence[Drill], events: int) -> list[Result]:
    """Run the drills one after the other, in one stack."""
    with LocalStack() as stack, FaultProxy(stack) as proxy:
        stack.build()
        stack.deploy()
        for function in ("Ingest", "Sweeper"):
            proxy.intercept(stack.physical_id(function))
        with Consumer(stack) as consumer:  # so that no drill measures cold starts
            stack.start_sweep()
            scene = Scene("warm-up", stack, proxy, consumer, WARM_UP)
            scene.publish_all()
            scene.settle()
        return [run(drill, stack, proxy, events) for drill in drills]


def run(drill: Drill, stack: LocalStack, proxy: FaultProxy, events: int) -> Result:
    """Run one drill, and print its result."""
    started_at = time.monotonic()
    with Consumer(stack) as consumer:
        scene = Scene(name_of(drill), stack, proxy, consumer, events)
        drill(scene)
        cells, problems = judge(drill, DRILLS[drill], scene)
    counts = (f"{name}: {cell}" for name, cell in zip(COLUMNS[1:], cells[1:], strict=True))
    print(f"{scene.name}  [{time.monotonic() - started_at:.0f} s]\n    {', '.join(counts)}")
    for line in [*scene.notes, *(f"PROBLEM: {problem}" for problem in problems)]:
        print(f"    {line}")
    sys.stdout.flush()
    return cells, problems


def name_of(drill: Drill) -> str:
    """Its name on the command line."""
    return drill.__name__.replace("_", "-")


def judge(drill: Drill, limit: float, scene: Scene) -> Result:
    """What a drill has found."""
    ledger = scene.ledger
    broken: defaultdict[str, list[str]] = defaultdict(list)
    for entry in ledger.values():
        for problem in entry.broken_promises(scene.attempts, limit):
            broken[problem].append(entry.key)
    problems = [f"{len(keys)} {problem}: {', '.join(keys[:MOST_LISTED])}" for problem, keys in broken.items()]
    problems += [*scene.problems, *("a fault never happened" for fault in scene.faults if not fault.hits)]
    if unconcerned := sum(not entry.is_concerned for entry in ledger.values()):
        late, most = ledger.latest_seconds(is_concerned=False), UNCONCERNED_SECONDS
        scene.notes.append(f"{unconcerned} events that the fault did not concern: {late:.1f} s late (limit: {most} s)")
    outcomes, repeated = ledger.outcomes(), sum(entry.arrivals > 1 for entry in ledger.values())
    counts = len(ledger), *(outcomes[name] for name in OUTCOMES), repeated
    lateness = f"{ledger.latest_seconds(is_concerned=True):.1f} s", "-" if limit == math.inf else f"{limit} s"
    return [drill.__doc__ or "", *map(str, counts), *lateness], problems


def main() -> None:
    parser = argparse.ArgumentParser(description="Inject faults into Punctual on this machine; account for every event")
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", default=[""], help="the drills whose names contain one of these"
    )
    parser.add_argument("--events", type=int, default=200, help="in most drills (default: 200)")
    parser.add_argument("--commit", help="what `upgrade` upgrades from (default: the last tag, or else this commit)")
    options = parser.parse_args()
    drills = [drill for drill in DRILLS if any(part in name_of(drill) for part in options.only)]
    if not drills:
        sys.exit(f"No drill has such a name. The drills are: {', '.join(map(name_of, DRILLS))}")
    upgrade.commit = options.commit
    started_at = time.monotonic()
    with exit_on_failure():
        results = run_all(drills, options.events)
    print(f"\n{conditions()}, {(time.monotonic() - started_at) / 60:.0f} minutes:\n")
    print(markdown_table(COLUMNS, [cells for cells, _ in results]))
    sys.exit(any(problems for _, problems in results))


if __name__ == "__main__":
    main()
