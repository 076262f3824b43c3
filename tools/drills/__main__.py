"""Inject every fault that we know into the stack on the emulator, and account for every event.

.venv/dev/bin/python -m tools.drills                    all drills; exits with 1 if one of them found a problem
.venv/dev/bin/python -m tools.drills --only sweeper upgrade --events 50
"""

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tools.drills import upgrade
from tools.drills.drills import DRILLS, Drill
from tools.drills.ledger import Account
from tools.drills.proxy import FaultProxy
from tools.drills.scenes import Scene
from tools.local import LocalStack, LocalStackError

WARM_UP = 50  # events
MOST_LISTED = 10  # payloads of missing events


@dataclass(frozen=True)
class Result:
    """What one drill found. `problems` are sentences, empty if the fault happened and every promise was kept."""

    drill: Drill
    account: Account
    problems: list[str]


def run_all(drills: Sequence[Drill], events: int) -> list[Result]:
    """Run the drills one after the other, in one stack."""
    with LocalStack() as stack, FaultProxy(stack) as proxy:
        stack.build()
        stack.deploy()
        for function in ("Ingest", "Sweeper"):
            proxy.intercept(stack.physical_id(function))
        with Scene("warm-up", stack, proxy, WARM_UP) as scene:  # so that no drill measures cold starts
            stack.start_sweep()
            scene.publish_all()
            scene.settle()
        return [run(drill, stack, proxy, events) for drill in drills]


def run(drill: Drill, stack: LocalStack, proxy: FaultProxy, events: int) -> Result:
    """Run one drill, and print its result."""
    started_at = time.monotonic()
    with Scene(drill.name, stack, proxy, events) as scene:
        drill.run(scene)
        account = scene.ledger.account(scene.attempts, drill.limit_seconds)
        problems = [
            *(f"{count} {label}" for label, count in broken_promises(account).items() if count),
            *scene.problems,
            *("a fault never happened" for fault in scene.faults if not fault.hits),
        ]
        if scene.ledger.open:
            problems.append(f"missing: {', '.join(scene.ledger.open[:MOST_LISTED])} ...")
    result = Result(drill, account, problems)
    counts = (f"{name}: {value}" for name, value in zip(COLUMNS[1:], row(result)[1:], strict=True))
    print(f"{drill.name}  [{time.monotonic() - started_at:.0f} s]\n    {', '.join(counts)}")
    for line in [*scene.notes, *(f"PROBLEM: {problem}" for problem in problems)]:
        print(f"    {line}")
    sys.stdout.flush()
    return result


def broken_promises(account: Account) -> dict[str, int]:
    """How many events broke which promise."""
    return {
        "missing": account.missing,
        "early": account.early,
        "later than the drill allows": account.late,
        "delivered although canceled or replaced in time": account.unwanted,
        "repeated more often than they were started": account.unexplained,
    }


COLUMNS = (
    "drill",
    "events",
    "delivered",
    "repeated",
    "reported",
    "canceled",
    "interrupted",
    "missing",
    "longest lateness",
    "limit",
)


def row(result: Result) -> list[str]:
    """The cells of a result, for COLUMNS."""
    limit, account = result.drill.limit_seconds, result.account
    counts = (getattr(account, name) for name in COLUMNS[1:-2])
    return [result.drill.title, *map(str, counts), f"{account.latest_seconds:.1f} s", f"{limit} s" if limit else "-"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Inject faults into Punctual on this machine; account for every event")
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", default=[""], help="the drills whose names contain one of these"
    )
    parser.add_argument("--events", type=int, default=200, help="in most drills (default: 200)")
    parser.add_argument("--commit", help="what `upgrade` upgrades from (default: the last tag, or else this commit)")
    options = parser.parse_args()
    drills = [drill for drill in DRILLS if any(part in drill.name for part in options.only)]
    if not drills:
        sys.exit(f"No drill has such a name. The drills are: {', '.join(drill.name for drill in DRILLS)}")
    upgrade.commit = options.commit
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the emulator ends, too
    started_at = time.monotonic()
    try:
        results = run_all(drills, options.events)
    except LocalStackError as error:
        sys.exit(f"\n{error}")
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {machine}, {(time.monotonic() - started_at) / 60:.0f} minutes:\n")
    for cells in (COLUMNS, ["---"] * len(COLUMNS), *map(row, results)):
        print(f"| {' | '.join(cells)} |")
    sys.exit(any(result.problems for result in results))


if __name__ == "__main__":
    main()
