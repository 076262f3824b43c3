"""The local stack without an emulator: failures in one sentence, the demo's judgment, and its picture."""

import io
import json
import re
import shlex
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from punctual.cli import punctual
from punctual.scenarios import MISSING_TOPIC, Outcome, Scenario
from tools.local import Arrival, LocalStack, LocalStackError, demo, emulator, stack
from tools.local import __main__ as up
from tools.local.scenarios import LocalRun
from tools.local.shell import exit_on_failure, step

PREFIX = "arn:aws:sns:eu-central-1:000000000000"
INPUT, FAILURES, ORDERS = f"{PREFIX}:input", f"{PREFIX}:failures", f"{PREFIX}:orders"
MILLISECOND = timedelta(milliseconds=1)


# --- Failures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for what the local stack writes."""
    monkeypatch.setattr(emulator, "ROOT", tmp_path)
    monkeypatch.setattr(stack, "ROOT", tmp_path)
    for module in (emulator, stack):
        monkeypatch.setattr(module, "LOCAL", tmp_path / ".local")
    monkeypatch.setattr(emulator, "KEPT_LOG", tmp_path / ".local/emulator.log")
    monkeypatch.setattr(emulator, "RECORD", tmp_path / ".local/stack.json")
    return tmp_path


def program(path: Path, lines: str) -> Path:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


def test_a_missing_emulator_says_what_to_run(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(emulator, "PYTHON", folder / "missing")
    with pytest.raises(LocalStackError, match=r"^The emulator is not installed: run `make setup`$"):
        LocalStack().start()


def test_a_missing_sam_says_what_to_run(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stack, "SAM", folder / "missing")
    with pytest.raises(LocalStackError, match=r"^sam is not installed: run `make setup`$"):
        LocalStack().build()


def test_a_port_in_use_is_named():
    with socket.socket() as other:
        other.bind((emulator.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LocalStackError, match=f"^Port {port} is in use: "):
            LocalStack(port=port).start()


def test_the_log_of_an_emulator_that_does_not_start_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(emulator, "PYTHON", program(folder / "python", "echo Traceback; exit 1"))
    local = LocalStack()
    with pytest.raises(LocalStackError) as failure:
        local.start()
    local.stop()
    assert str(failure.value) == "The emulator did not start (it ended): see .local/emulator.log"
    assert (folder / ".local/emulator.log").read_text() == "Traceback\n"
    assert failure.value.__notes__ == ["Traceback\n"]


def test_a_failure_of_sam_is_its_own_sentence_and_its_output_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch):
    output = "Building...\n\nError: no python3.13 on the PATH.\n"
    monkeypatch.setattr(stack, "SAM", program(folder / "sam", f"printf '{output}'; exit 1"))
    with pytest.raises(LocalStackError) as failure:
        LocalStack().build()
    assert str(failure.value) == "sam build failed: no python3.13 on the PATH (.local/sam-build.log)"
    assert (folder / ".local/sam-build.log").read_text() == output


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("a\nError: b\nc\nError: d.\ne", "d"),
        ("a\nb\n\n", "b"),
        ("", "no output"),
    ],
)
def test_the_reason_in_the_output_of_sam(output: str, reason: str):
    assert stack.reason_in(output) == reason


@pytest.mark.parametrize("record", ["", "not JSON", "[]", "{}", '{"port": 1, "pid": 1}'])
def test_an_unusable_record_means_that_nothing_is_running(folder: Path, record: str):
    (folder / ".local").mkdir()
    (folder / ".local/stack.json").write_text(record)
    assert LocalStack.load() is None


@pytest.mark.parametrize(
    ("error", "ends_with"),
    [
        (LocalStackError("No emulator"), "\nNo emulator"),
        (PermissionError(13, "Permission denied", ".local"), "\n[Errno 13] Permission denied: '.local'"),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_command_ends_with_one_sentence(error: BaseException, ends_with: str | int):
    with pytest.raises(SystemExit) as ended, exit_on_failure():
        raise error
    assert ended.value.code == ends_with


def test_a_step_is_announced_before_it_runs_and_timed_after():
    screen, progress = io.StringIO(), io.StringIO()
    seen = []
    step(
        "Build",
        lambda: seen.append((screen.getvalue(), progress.getvalue())),
        console=Console(file=screen),
        progress=Console(file=progress),
    )
    assert seen == [("", "  Build ...\n")]
    assert screen.getvalue() == f"  {'Build':38}   0 s\n"


# --- make local -------------------------------------------------------------------------------------------------------


def test_the_commands_that_make_local_prints_exist_with_their_options():
    """Each is parsed, and not run."""
    lines = re.findall(r"^  \.local/punctual (.+)$", up.INSTRUCTIONS, re.MULTILINE)
    for name, *arguments in map(shlex.split, lines):
        punctual.commands[name].make_context(name, list(arguments))
    assert [line.split()[0] for line in lines] == ["schedule", "list", "show", "cancel", "schedule", "show", "check"]


# --- The demo's judgment ----------------------------------------------------------------------------------------------


def ended(scenario: Scenario, *arrivals: Arrival, status: str | None = "SUCCEEDED") -> tuple[LocalRun, Outcome]:
    """A run of a scenario's message, given what arrived and the status of its execution."""
    local: Any = SimpleNamespace(
        outputs={"InputTopicArn": INPUT, "FailureTopicArn": FAILURES}, client=lambda service: None
    )
    consumer: Any = SimpleNamespace(topic=lambda name, fifo: f"{PREFIX}:{name}", subscribe=lambda topic: None)
    run = LocalRun(local, consumer, [scenario])
    run.started_at = DUE
    outcome = Outcome(
        scenario,
        id="m",
        message='{"a": 1}',
        message_id="m",
        published_at=DUE - timedelta(seconds=10),
        due=DUE,
        deliveries=[arrival for arrival in arrivals if arrival.topic == ORDERS],
        reports=[arrival for arrival in arrivals if arrival.topic != ORDERS],
    )
    run.inside(outcome).status = status
    return run, outcome


def problems(scenario: Scenario, *arrivals: Arrival, status: str | None = "SUCCEEDED") -> list[str]:
    """What a run says about it."""
    run, outcome = ended(scenario, *arrivals, status=status)
    return list(run.problems_of(outcome))


DUE = datetime(2026, 12, 24, 18, tzinfo=UTC)
DELIVERED = Scenario("an event", due=0)


def arrival(topic: str = ORDERS, message: str = "an event", received: float = 50, sent: float = 50) -> Arrival:
    """A message that reached the queue and the consumer so many milliseconds after the due time."""
    sent_at, received_at = DUE + sent * MILLISECOND, DUE + received * MILLISECOND
    attributes = {"scheduler-id": "m", "scheduler-date": DUE.isoformat()}
    return Arrival(topic, message, None, attributes, "m", sent_at, sent_at, received_at)


def report(topic: str, error: str = "not delivered: gone", event: Any = None) -> Arrival:
    return arrival(topic, json.dumps({"error": error, "id": "m", "event": event or {"a": 1}}))


def test_one_delivery_in_time_is_no_problem():
    assert problems(DELIVERED, arrival()) == []


@pytest.mark.parametrize(
    ("arrivals", "problem"),
    [
        ([], "delivered 0 times instead of 1"),
        ([arrival(), arrival()], "delivered 2 times instead of 1"),
        ([arrival(received=-3, sent=-3)], "3 ms early"),
        ([arrival(received=2, sent=-3)], "3 ms early"),
        ([arrival(received=1001)], "1.001 s late"),
        ([arrival(), report(FAILURES)], "reported 1 times instead of 0: not delivered: gone"),
    ],
)
def test_a_wrong_delivery_is_a_problem(arrivals: list[Arrival], problem: str):
    assert problems(DELIVERED, *arrivals) == [problem]


def test_a_failed_execution_of_a_delivered_event_is_a_problem():
    assert problems(DELIVERED, arrival(), status="FAILED") == ["its execution is FAILED instead of SUCCEEDED"]


@pytest.mark.parametrize("expected", ["canceled", "replaced"])
def test_a_delivery_of_a_canceled_or_replaced_event_is_a_problem(expected: str):
    scenario = Scenario("an event", due=0, expected=expected)
    assert problems(scenario) == []
    assert problems(scenario, status=None) == []
    assert problems(scenario, arrival()) == ["delivered 1 times instead of 0"]


@pytest.mark.parametrize(
    ("failure_topic", "arrived", "problem"),
    [
        ("own", report(FAILURES), [f"reported to {FAILURES}"]),
        ("own", report(f"{PREFIX}:own"), []),
        (None, report(FAILURES), []),
        (None, report(f"{PREFIX}:own"), [f"reported to {PREFIX}:own"]),
        (MISSING_TOPIC, report(FAILURES), []),
        (None, report(FAILURES, error="gone"), ["reported as 'gone'"]),
        (None, report(FAILURES, event={"b": 2}), ['reported with another event: {"b": 2}']),
    ],
)
def test_a_wrong_report_is_a_problem(failure_topic: str | None, arrived: Arrival, problem: list[str]):
    scenario = Scenario("an event", 0, "reported", failure_topic=failure_topic, error="not delivered")
    assert problems(scenario, arrived, status="FAILED") == problem


@pytest.mark.parametrize(
    ("expected", "arrivals", "status", "is_incomplete"),
    [
        ("delivered", [], "SUCCEEDED", True),
        ("delivered", [arrival()], "RUNNING", True),
        ("delivered", [arrival()], "SUCCEEDED", False),
        ("refused", [], None, True),
        ("refused", [report(FAILURES)], None, False),
        ("canceled", [], None, False),
        ("canceled", [], "RUNNING", True),
    ],
)
def test_a_run_waits_longer_for_what_has_not_happened_yet(
    expected: str, arrivals: list[Arrival], status: str | None, is_incomplete: bool
):
    run, outcome = ended(Scenario("an event", 0, expected), *arrivals, status=status)
    assert run.is_incomplete(outcome) == is_incomplete


# --- The picture ------------------------------------------------------------------------------------------------------


def test_the_picture_shows_what_was_printed_and_loads_nothing():
    console = Console(file=io.StringIO(), record=True, width=demo.WIDTH)
    console.print("All ended as expected", style="green")
    picture = demo.svg(console)
    assert "All&#160;ended&#160;as&#160;expected" in picture
    assert "@font-face" not in picture
    assert re.findall(r"https?://[^\"\s]*", picture) == ["http://www.w3.org/2000/svg"]  # the name of the format
