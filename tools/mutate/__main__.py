"""`python -m tools.mutate`: how many mutants of the functions and of the command the quick tests notice."""

import fnmatch
import json
import multiprocessing
import random
import sys
import tempfile
import tomllib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .mutations import Mutant, mutants_of
from .running import Coverage, Suite, copy_of, in_fork, is_killed, measure, preload

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).parent / "equivalent.toml"
SUITES = {
    "functions": Suite("functions", ("functions/scheduler",), ("tests/rules", "tests/functions")),
    "punctual": Suite("punctual", ("punctual",), ("tests/cli",)),
}
console = Console()


@dataclass
class Results:
    """What was found out before, in a file: killed mutants stay killed, survivors until the tests change."""

    path: Path
    fingerprint: str
    found: dict[str, str]

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> "Results":
        """The results in a file, if there is one."""
        found = json.loads(path.read_text()) if path.exists() else {}
        return cls(path, fingerprint, found)

    def __getitem__(self, mutant: Mutant) -> bool | None:
        """Whether the mutant was killed; None if it has to be tried."""
        return {"killed": True, self.fingerprint: False}.get(self.found.get(mutant.key, ""))

    def add(self, mutant: Mutant, killed: bool) -> None:
        """Keep a result."""
        self.found[mutant.key] = "killed" if killed else self.fingerprint
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(self.found))


def equivalent_reason(mutant: Mutant, entries: list[dict[str, str]]) -> str | None:
    """Why no test can notice the mutant, by equivalent.toml; None if it is not listed."""
    for entry in entries:
        if (
            str(mutant.path) == entry["file"]
            and mutant.before == entry["before"]
            and fnmatch.fnmatchcase(mutant.after, entry.get("after", "*").replace("[", "[[]"))
        ):
            return entry["reason"]
    return None


_copy: Path | None = None
_coverage = Coverage()


def _begin(folder: Path, coverage: Coverage) -> None:
    global _copy, _coverage
    _copy, _coverage = copy_of(ROOT, Path(tempfile.mkdtemp(dir=folder)) / "tree"), coverage
    preload()


def _try(mutant: Mutant) -> bool:
    assert _copy
    return is_killed(mutant, _copy, _coverage)


def try_all(mutants: list[Mutant], coverage: Coverage, results: Results, jobs: int, folder: Path, name: str) -> None:
    """Try mutants in `jobs` processes, and keep the results as they come."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    context = multiprocessing.get_context("fork")
    with (
        Progress(*columns, console=console) as progress,
        ProcessPoolExecutor(jobs, context, _begin, (folder, coverage)) as pool,
    ):
        task = progress.add_task(name, total=len(mutants))
        tried = {pool.submit(_try, mutant): mutant for mutant in mutants}
        for future in as_completed(tried):
            results.add(tried[future], future.result())
            progress.advance(task)


def coverage_of(suite: Suite, folder: Path, state: Path, fingerprint: str) -> Coverage:
    """Which test runs which line: measured, or from the last time if nothing has changed."""
    path = state / f"coverage-{suite.name}-{fingerprint}.json"
    if not path.exists():
        state.mkdir(exist_ok=True)
        copy = copy_of(ROOT, folder / "measured")
        console.print(f"Measuring which tests run which line ({suite.name})")
        if in_fork(lambda: measure(suite, copy, path)) or not path.exists():
            path.unlink(missing_ok=True)
            raise click.ClickException("the tests fail without any mutant")
    data = json.loads(path.read_text())
    by_line = {file: {int(line): tests for line, tests in lines.items()} for file, lines in data["by_line"].items()}
    return Coverage(by_line, data["seconds"])


@click.command()
@click.argument("suites", nargs=-1, type=click.Choice([*SUITES]))
@click.option("--files", default="*", help="Only files whose name fits, such as event.py or 's*.py'.")
@click.option("--sample", type=int, help="So many mutants drawn at random, instead of all.")
@click.option("--seed", type=int, default=None, help="Draw the same sample again.")
@click.option("--jobs", type=int, default=2, show_default=True, help="Processes.")
@click.option("--survivors", is_flag=True, help="List the mutants that survived.")
@click.option("--minimum", type=float, default=0, help="Fail below this score, in percent.")
def main(
    suites: tuple[str, ...],
    files: str,
    sample: int | None,
    seed: int | None,
    jobs: int,
    survivors: bool,
    minimum: float,
) -> None:
    """Change one thing at a time, and see whether a test fails.

    Results are kept in .local/mutate: an interrupted run goes on where it ended. To begin anew, delete that.
    """
    table = Table("File", *(f"{name}" for name in ("Mutants", "Killed", "Equivalent", "Survived", "Score")))
    entries = tomllib.loads(EQUIVALENT.read_text()).get("mutant", []) if EQUIVALENT.exists() else []
    state, alive, scores = ROOT / ".local" / "mutate", list[Mutant](), list[float]()
    state.mkdir(parents=True, exist_ok=True)
    seed = random.randrange(10**6) if seed is None else seed
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suite in (SUITES[name] for name in suites or SUITES):
            fingerprint = suite.fingerprint(ROOT)
            results = Results.load(state / f"{suite.name}.json", fingerprint)
            mutants = [
                mutant
                for file in suite.files(ROOT)
                if fnmatch.fnmatch(file.name, files)
                for mutant in mutants_of(ROOT, file)
            ]
            if sample is not None and sample < len(mutants):
                console.print(f"{sample} of {len(mutants)} mutants, drawn with --seed {seed}")
                mutants = random.Random(seed).sample(mutants, sample)
            untried = [
                mutant for mutant in mutants if results[mutant] is None and not equivalent_reason(mutant, entries)
            ]
            if untried:
                suite_folder = folder / suite.name
                suite_folder.mkdir()
                coverage = coverage_of(suite, suite_folder, state, fingerprint)
                try_all(untried, coverage, results, jobs, suite_folder, suite.name)
            counted: dict[str, Counter[str]] = {}
            for mutant in mutants:
                if equivalent_reason(mutant, entries):
                    outcome = "equivalent"
                else:
                    outcome = "killed" if results[mutant] else "survived"
                if outcome == "survived":
                    alive.append(mutant)
                counted.setdefault(str(mutant.path), Counter())[outcome] += 1
            for file, count in sorted(counted.items()):
                _row(table, file, count)
            scores.append(_row(table, suite.name, sum(counted.values(), Counter())))
            table.add_section()
    if survivors:
        for mutant in alive:
            console.print(str(mutant), markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    if any(score < minimum for score in scores):
        sys.exit(f"below {minimum} %")


def _row(table: Table, name: str, count: Counter[str]) -> float:
    killed, survived = count["killed"], count["survived"]
    score = 100 * killed / (killed + survived) if killed + survived else 100.0
    table.add_row(name, str(count.total()), str(killed), str(count["equivalent"]), str(survived), f"{score:.1f} %")
    return score


main()
