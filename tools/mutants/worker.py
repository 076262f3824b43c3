"""Runs tests in a copy of the checkout, once for each mutant. A process of its own: `runner.py` starts it there.

It imports what takes long once, and forks for each mutant. Requests are lines on the standard input, each a JSON object
with `files` (new texts by path), `stages` (pytest's arguments for each) and `seconds` (until a stage is ended). The
answer to each is a line with `outcome` (killed, survived or timeout) and `by` (the first test that failed).
"""

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

# Those that the suites import, directly or not. None of them reads a file that is mutated, or an environment variable
# that the template gives a function.
SLOW_IMPORTS = (
    *("pytest", "yaml", "jsonata", "hypothesis", "pydantic", "botocore.session", "boto3"),
    *("moto", "moto.dynamodb.models", "moto.sns.models", "moto.sqs.models", "moto.iam.access_control"),
    *("moto.stepfunctions.models", "moto.stepfunctions.parser.asl.eval.environment", "moto.awslambda.models"),
    *("aws_lambda_powertools", "aws_lambda_powertools.metrics"),
    *("scheduler.event", "scheduler.parking", "scheduler.register", "scheduler.failures", "scheduler.hold"),
)
POLL_SECONDS = 0.02


def main() -> None:
    """Answer requests until the input ends."""
    os.nice(15)
    sys.path[:0] = [str(Path.cwd() / "functions"), str(Path.cwd())]
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    originals: dict[str, str] = {}
    for line in sys.stdin:
        request = json.loads(line)
        for path, text in originals.items():
            Path(path).write_text(text, encoding="utf-8")
        for path, text in request["files"].items():
            originals.setdefault(path, Path(path).read_text(encoding="utf-8"))
            Path(path).write_text(text, encoding="utf-8")
        print(json.dumps(judge(request)), flush=True)


def judge(request: dict[str, Any]) -> dict[str, str]:
    """Run the stages until one of them fails."""
    for arguments in request["stages"]:
        code, failed = run_stage(arguments, request["seconds"])
        if code is None:
            return {"outcome": "timeout", "by": arguments[0]}
        if code != 0:
            return {"outcome": "killed", "by": failed or f"pytest {' '.join(arguments)}: exit code {code}"}
    return {"outcome": "survived", "by": ""}


def run_stage(arguments: list[str], seconds: float) -> tuple[int | None, str]:
    """Run pytest in a fork. Returns its exit code, or None if it took too long, and the first test that failed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setpgid(0, 0)
        run_and_exit(arguments, writer)
    os.close(writer)
    give_up_at = time.monotonic() + seconds
    ended = 0
    while not ended and time.monotonic() < give_up_at:
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            time.sleep(POLL_SECONDS)
    if not ended:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        failed = pipe.read()
    return (os.waitstatus_to_exitcode(status) if ended else None), failed


def run_and_exit(arguments: list[str], writer: int) -> None:
    """Run pytest and end this process, whatever happens."""
    code = 3
    try:
        import pytest

        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)

        class FirstFailure:
            """Notes the first test or file that fails, and leaves out what needs an emulator."""

            def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
                if report.failed:
                    os.write(writer, report.nodeid.encode())

            def pytest_collectreport(self, report: pytest.CollectReport) -> None:
                if report.failed:
                    os.write(writer, report.nodeid.encode())

            @pytest.hookimpl(trylast=True)
            def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
                items[:] = [item for item in items if "emulator" not in _engine_of(item)]

        # pytest warns of what was imported before it could rewrite its assertions: none of that is a test.
        options = ["-x", "-q", "-p", "no:cacheprovider", "--tb=no", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = int(pytest.main([*options, *arguments], plugins=[FirstFailure()]))
    finally:
        os._exit(code)


def _engine_of(item: Any) -> str:
    return str(item.callspec.params.get("engine", "")) if hasattr(item, "callspec") else ""


if __name__ == "__main__":
    main()
