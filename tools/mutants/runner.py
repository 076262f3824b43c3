"""Runs mutants in copies of the checkout, several side by side, and keeps the results."""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, Queue

from tools.mutants.mutations import Mutant

ROOT = Path(__file__).resolve().parents[2]
# What the suites need. They never see the checkout itself.
NEEDED = ("template.yaml", "pyproject.toml", "statemachines", "functions", "punctual", "tests", "tools", "docs")


@dataclass(frozen=True)
class Result:
    """What became of a mutant: killed, survived or timeout (which is killed, too), and the first test that failed."""

    id: str
    group: str
    outcome: str
    by: str

    @property
    def is_killed(self) -> bool:
        return self.outcome != "survived"


@dataclass(frozen=True)
class Suites:
    """The tests that have to notice a mutant: for each group, pytest's arguments for each stage, until one fails; and
    the seconds that one may take. The fastest stage, or the one that most likely fails, comes first."""

    stages: dict[str, list[list[str]]]
    seconds: float

    def all(self) -> list[list[str]]:
        """Every stage of any group, once."""
        found: list[list[str]] = []
        for stages in self.stages.values():
            found += [stage for stage in stages if stage not in found]
        return found


def run(mutants: Iterable[Mutant], suites: Suites, workers: int, done: Callable[[Result], None]) -> None:
    """Run the suites with each mutant, and call `done` with each result, one at a time.

    Raises RuntimeError if the suites fail without a mutant.
    """
    waiting: Queue[Mutant] = Queue()
    for mutant in mutants:
        waiting.put(mutant)
    one_at_a_time, errors = threading.Lock(), Queue[Exception]()

    def work() -> None:
        try:
            with _worker() as ask:
                unchanged = ask({"files": {}, "stages": suites.all(), "seconds": 10 * suites.seconds})
                if unchanged["outcome"] != "survived":
                    raise RuntimeError(f"the suites fail without a mutant: {unchanged['by']}")
                while True:
                    mutant = waiting.get_nowait()
                    stages = suites.stages[mutant.group]
                    answer = ask({"files": mutant.files, "stages": stages, "seconds": suites.seconds})
                    with one_at_a_time:
                        done(Result(mutant.id, mutant.group, answer["outcome"], answer["by"]))
        except Empty:
            pass
        except Exception as error:
            errors.put(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:  # When it is interrupted, each worker ends after its mutant, and removes its copy.
        with suppress(Empty):
            while True:
                waiting.get_nowait()
        for thread in threads:
            thread.join()
    if not errors.empty():
        raise errors.get()


@contextmanager
def _worker() -> Iterator[Callable[[dict[str, object]], dict[str, str]]]:
    """A process in a copy of the checkout of its own. Yields what asks it to judge a mutant."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for name in NEEDED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, Path(folder) / name, symlinks=True, ignore=ignored)
            else:
                shutil.copy(source, folder)
        command = [sys.executable, "-m", "tools.mutants.worker"]
        with subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdin and process.stdout
            requests, answers = process.stdin, process.stdout

            def ask(request: dict[str, object]) -> dict[str, str]:
                requests.write(json.dumps(request) + "\n")
                requests.flush()
                line = answers.readline()
                if not line:
                    raise RuntimeError("a worker has ended unexpectedly")
                answer: dict[str, str] = json.loads(line)
                return answer

            try:
                yield ask
            finally:
                process.terminate()


class Journal:
    """The results so far, a line each, so that an interrupted run can be resumed."""

    def __init__(self, path: Path):
        self._path = path

    def read(self) -> list[Result]:
        """The latest result of each mutant."""
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines()
        results = [Result(**json.loads(line)) for line in lines]
        return list({result.id: result for result in results}.values())

    def clear(self) -> None:
        """Forget all results."""
        self._path.unlink(missing_ok=True)

    def add(self, result: Result) -> None:
        """Keep a result."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
