"""Change template.yaml or the state machines in one place at a time, and see whether the tests notice.

    python -m tools.mutants template             every mutant of template.yaml (tens of minutes)
    python -m tools.mutants definitions          every mutant of statemachines/*.asl.json (hours)
    python -m tools.mutants template --sample 50
    python -m tools.mutants template --resume    only those that are new or have survived
    python -m tools.mutants template --only 'Resources.InputQueue*'

The checkout is not changed: mutants run in copies. The exit status is 1 if less than 90 % were killed. Mutants without
an effect are listed in equivalent.json, each with the reason.
"""

import argparse
import json
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tools.documents import markdown_table
from tools.mutants import definitions, template
from tools.mutants.mutations import Mutant
from tools.mutants.runner import ROOT, Journal, Result, Suites, run

GOAL = 0.9
EQUIVALENT = Path(__file__).with_name("equivalent.json")


@dataclass(frozen=True)
class Area:
    """What is mutated, and the tests that have to notice."""

    mutants: Callable[[Path], Iterator[Mutant]]
    suites: Suites


# For each part of the template, the file whose tests are about it.
LIKELY = {
    "permissions of roles": "permissions",
    "policies of topics and queues": "access",
    "topics, queues, subscriptions": "resources",
    "tables": "resources",
    "functions": "resources",
    "state machines, schedules, logs": "resources",
    "alarms": "alarms",
    "dashboard": "dashboard",
    "parameters, conditions, outputs": "parameters",
}
WORKFLOWS = "tests/workflows"
AREAS = {
    "template": Area(
        template.mutants,
        Suites(
            {group: [[f"tests/template/test_{name}.py"], ["tests/template"]] for group, name in LIKELY.items()},
            seconds=120,
        ),
    ),
    # First the text, then executions on the simulated clock, then those on moto's engine.
    "definitions": Area(
        definitions.mutants,
        Suites(
            {
                "deliver": [
                    [f"{WORKFLOWS}/test_states.py", f"{WORKFLOWS}/test_definitions.py"],
                    [f"{WORKFLOWS}/test_outage.py"],
                    [f"{WORKFLOWS}/test_deliver.py"],
                ],
                "sweep": [
                    [f"{WORKFLOWS}/test_states.py", f"{WORKFLOWS}/test_definitions.py"],
                    [f"{WORKFLOWS}/test_sweep.py", "-k", "not moto"],
                    [f"{WORKFLOWS}/test_sweep.py"],
                ],
            },
            seconds=300,
        ),
    ),
}


@dataclass(frozen=True)
class Equivalence:
    """Mutants without an effect: a pattern of their ids, and the reason."""

    area: str
    mutants: str
    reason: str


def equivalences(area: str) -> list[Equivalence]:
    """Those of an area."""
    found = [Equivalence(**item) for item in json.loads(EQUIVALENT.read_text(encoding="utf-8"))]
    return [item for item in found if item.area == area]


def reason_for(result: Result, known: Sequence[Equivalence]) -> str | None:
    """Why a mutant has no effect, or None."""
    return next((item.reason for item in known if fnmatchcase(result.id, item.mutants)), None)


def table(results: Sequence[Result], known: Sequence[Equivalence]) -> str:
    """How many mutants of each group were killed, in Markdown."""
    rows = []
    groups = list(dict.fromkeys(result.group for result in results))
    for group in [*groups, "all"]:
        own = [result for result in results if group in (result.group, "all")]
        killed = sum(result.is_killed for result in own)
        equivalent = sum(not result.is_killed and reason_for(result, known) is not None for result in own)
        rows.append((group, len(own), killed, len(own) - killed - equivalent, equivalent, f"{score(own, known):.1%}"))
    return markdown_table(("part", "mutants", "killed", "survived", "equivalent", "score"), rows)


def score(results: Sequence[Result], known: Sequence[Equivalence]) -> float:
    """The part that was killed of the mutants that have an effect."""
    killed = sum(result.is_killed for result in results)
    survived = sum(not result.is_killed and reason_for(result, known) is None for result in results)
    return killed / (killed + survived) if killed + survived else 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--sample", type=int, metavar="N", help="only so many, drawn at random")
    parser.add_argument("--seed", type=int, help="of the draw, to repeat it (default: another one each time)")
    parser.add_argument("--only", metavar="PATTERN", help="only the mutants with such an id, * for any text")
    parser.add_argument("--resume", action="store_true", help="only those that are new or have survived")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()

    area, known = AREAS[options.area], equivalences(options.area)
    journal = Journal(ROOT / f".local/mutants/{options.area}.jsonl")
    chosen = {mutant.id: mutant for mutant in area.mutants(ROOT)}
    if options.only:
        chosen = {id: mutant for id, mutant in chosen.items() if fnmatchcase(id, options.only)}
    if options.sample and options.sample < len(chosen):
        seed = random.randrange(10**6) if options.seed is None else options.seed
        console.print(f"{options.sample} of {len(chosen)} mutants, drawn with --seed {seed}", highlight=False)
        ids = random.Random(seed).sample([*chosen], options.sample)
        chosen = {id: chosen[id] for id in ids}
    results: dict[str, Result] = {}
    if options.resume:
        results = {result.id: result for result in journal.read() if result.is_killed and result.id in chosen}
    elif not options.only and not options.sample:
        journal.clear()

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task(options.area, total=len(chosen), completed=len(results))

        def done(result: Result) -> None:
            results[result.id] = result
            journal.add(result)
            if not result.is_killed and reason_for(result, known) is None:
                progress.console.print(f"survived: {escape(result.id)}", highlight=False, soft_wrap=True)
            progress.advance(bar)

        try:
            run([chosen[id] for id in chosen if id not in results], area.suites, options.workers, done)
        except RuntimeError as error:
            sys.exit(f"Error: {error}")
        except KeyboardInterrupt:
            sys.exit("Interrupted. --resume goes on.")

    ordered = [results[id] for id in chosen]
    console.print(table(ordered, known), highlight=False, soft_wrap=True, markup=False)
    sys.exit(0 if score(ordered, known) >= GOAL else 1)


if __name__ == "__main__":
    main()
