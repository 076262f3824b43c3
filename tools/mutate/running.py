"""Running tests on mutants: in copies of the tree, by processes that were forked with the libraries loaded."""

import contextlib
import gc
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .mutations import Mutant

NOT_COPIED = shutil.ignore_patterns(".*", "node_modules", "__pycache__", "build", "*.egg-info")
# What takes a test run's first seconds, and is the same for every mutant. Nothing that imports the mutated code.
PRELOADED = (
    "aws_lambda_powertools.metrics",
    "boto3",
    "click",
    "hypothesis",
    "moto.dynamodb.models",
    "moto.dynamodb.responses",
    "moto.sns.responses",
    "moto.sqs.responses",
    "moto.stepfunctions.responses",
    "moto.logs.responses",
    "moto.core.botocore_stubber",
    "pydantic",
    "pytest",
    "rich.progress",
    "yaml",
)
# A mutant that makes a loop endless uses up its CPU time; one that makes a wait endless, the time. The second limit is
# wide, because a busy machine is no failing test.
CPU_FACTOR, CPU_SECONDS = 4, 20
TIMEOUT_FACTOR, TIMEOUT_SECONDS = 10, 90
# In place of a test's name, for the lines that ran before the first test.
AT_IMPORT = "import"
# The exit code of a process in which this tool failed, and no test.
BROKEN = 70


@dataclass(frozen=True)
class Suite:
    """The files that are mutated, and the tests that have to notice."""

    name: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]

    def files(self, root: Path) -> list[Path]:
        """The files to mutate, relative to `root`."""
        found = [path for source in self.sources for path in sorted((root / source).glob("*.py"))]
        return [path.relative_to(root) for path in found if path.read_text().strip()]

    def fingerprint(self, root: Path) -> str:
        """Changes with the tests, and with the files that are mutated."""
        hash = hashlib.sha256()
        helpers = (root / "tests").glob("*.py")
        for path in sorted({*helpers, *(path for test in self.tests for path in (root / test).rglob("*.py"))}):
            hash.update(path.read_bytes())
        for file in self.files(root):
            hash.update((root / file).read_bytes())
        return hash.hexdigest()[:16]


@dataclass
class Coverage:
    """Which tests run a line, by file and line, and how long each takes (seconds)."""

    by_line: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def tests_of(self, mutant: Mutant) -> list[str]:
        """The tests that may notice the mutant, the fastest first."""
        lines = self.by_line.get(str(mutant.path), {})
        tests = {test for line in mutant.lines for test in lines.get(line, [])}
        if AT_IMPORT in tests or not tests:  # Any test may use what was made then.
            tests |= {test for line in lines.values() for test in line}
            # What is cached is made once, in whatever test is the first.
            tests |= {test for test in self.seconds if f"/test_{mutant.path.stem}.py::" in test}
        return sorted(tests - {AT_IMPORT}, key=lambda test: self.seconds.get(test, 0))


def copy_of(root: Path, folder: Path) -> Path:
    """A copy of the tree that tests can run in."""
    shutil.copytree(root, folder, symlinks=True, ignore=NOT_COPIED)
    return folder


def preload() -> None:
    """Import what every test run needs, and read AWS's service models: half of what a short run would take."""
    for name in PRELOADED:
        importlib.import_module(name)
    from botocore import loaders

    load, loaded = loaders.JSONFileLoader.load_file, dict[str, Any]()

    def load_once(self: loaders.JSONFileLoader, file_path: str) -> Any:
        if file_path not in loaded:
            loaded[file_path] = load(self, file_path)
        return loaded[file_path]

    loaders.JSONFileLoader.load_file = load_once  # type: ignore[method-assign]  # In this process and its forks alone.
    from botocore.session import get_session

    for service in ("dynamodb", "lambda", "sns", "sqs", "stepfunctions", "logs", "cloudformation"):
        get_session().create_client(service, "eu-central-1", aws_access_key_id="-", aws_secret_access_key="-")
    gc.freeze()


def run_tests(copy: Path, tests: Sequence[str], plugins: Sequence[Any] = (), *, quiet: bool = True) -> int:
    """pytest's exit code, in this process: to be called in a forked one."""
    os.chdir(copy)
    # The tests import `tools` and `tests` from the copy; whatever of them is loaded is of the original.
    for name in [name for name in sys.modules if name.split(".")[0] in ("tools", "tests", "scheduler", "punctual")]:
        del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path and Path(path).resolve() != Path(__file__).parents[2]]
    if quiet:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow", "--no-header", "--tb=short"]
    options += ["-p", "no:unraisableexception"]  # It collects garbage five times.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # Of what is preloaded.
    return int(pytest.main([*options, *tests], plugins=list(plugins)))


def measure(suite: Suite, copy: Path, output: Path) -> None:
    """Run the suite once and write its `Coverage`; in a forked process. Exits with pytest's code."""
    import coverage  # type: ignore[import-not-found]  # In requirements/mutants.txt, as mutmut is.
    import pytest

    # The directory: an import name would be imported now.
    measured = coverage.Coverage(data_file=None, include=[f"{copy}/{source}/*" for source in suite.sources])
    seconds: dict[str, float] = {}

    class Contexts:
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
            measured.switch_context(item.nodeid)
            began = time.monotonic()
            try:
                return (yield)
            finally:
                seconds[item.nodeid] = time.monotonic() - began
                measured.switch_context(AT_IMPORT)

    measured.start()
    measured.switch_context(AT_IMPORT)
    code = run_tests(copy, suite.tests, [Contexts()], quiet=False)
    measured.stop()
    data = measured.get_data()
    by_line: dict[str, dict[int, list[str]]] = {}
    for file in data.measured_files():
        path = Path(file).resolve().relative_to(copy.resolve())
        lines = by_line.setdefault(str(path), {})
        for line, contexts in data.contexts_by_lineno(file).items():
            lines.setdefault(line, []).extend(contexts)
    output.write_text(json.dumps({"by_line": by_line, "seconds": seconds}))
    os._exit(code)


def in_fork(act: Any, timeout: float | None = None, cpu_seconds: float | None = None) -> int:
    """The exit code of `act()` in a forked process; negative or 124 if it used more time, of its CPU or at all."""
    if not (pid := os.fork()):
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell ignores it in what runs in its background.
        if cpu_seconds:
            resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds), int(cpu_seconds)))
        try:
            os._exit(act() or 0)
        except BaseException:
            traceback.print_exc()
            os._exit(BROKEN)
    deadline = time.monotonic() + timeout if timeout else None
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if deadline and time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return 124
        time.sleep(0.01)


def is_killed(mutant: Mutant, copy: Path, coverage: Coverage) -> bool:
    """Whether a test fails on the mutant. The copy is as before afterward."""
    tests = coverage.tests_of(mutant)
    if not tests:
        return False
    target = copy / mutant.path
    original = target.read_text()
    try:
        _write(target, mutant.code)
        usual = sum(coverage.seconds.get(test, 0) for test in tests)
        timeout, cpu = TIMEOUT_FACTOR * usual + TIMEOUT_SECONDS, CPU_FACTOR * usual + CPU_SECONDS
        if (code := in_fork(lambda: run_tests(copy, tests), timeout, cpu)) == BROKEN:
            raise RuntimeError(f"the tests could not be run on {mutant}")
        return code != 0
    finally:
        _write(target, original)


def _write(path: Path, code: str) -> None:
    # Bytecode is recognized by size and whole seconds: a mutant's could be taken for another's.
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
    path.write_text(code)
