"""The local stack without an emulator: failures in one sentence, the demo's judgment, and its picture."""

import io
import json
import re
import shlex
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


@pytest.mark.parametrize(("module", "name", "act"), [(emulator, "PYTHON", "start"), (stack, "SAM", "build")])
def test_what_is_not_installed_says_what_to_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, act: str
):
    monkeypatch.setattr(module, name, folder / "missing")
    with pytest.raises(LocalStackError, match=r" is not installed: run `make setup`$"):
        getattr(LocalStack(), act)()


def test_the_reason_in_the_output_of_sam():
    assert stack.reason_in("a\nError: b\nc\nError: d.\ne") == "d"
    assert stack.reason_in("a\nb\n\n") == "b"
    assert stack.reason_in("") == "no output"


@pytest.mark.parametrize("record", ["", "not JSON", "[]", "{}", '{"port": 1, "pid": 1}'])
def test_an_unusable_record_means_that_nothing_is_running(folder: Path, record: str):
    (folder / ".local").mkdir()
    (folder / ".local/stack.json").write_text(record)
    assert LocalStack.load() is None


# --- make local -------------------------------------------------------------------------------------------------------


def test_the_commands_that_make_local_prints_exist_with_their_options():
    """Each is parsed, and not run."""
    lines = re.findall(r"^  \.local/punctual (.+)$", up.INSTRUCTIONS, re.MULTILINE)
    for name, *arguments in map(shlex.split, lines):
        punctual.commands[name].make_context(name, list(arguments))
    assert lines


# --- The demo's judgment ----------------------------------------------------------------------------------------------


def problems(scenario: Scenario, *arrivals: Arrival, status: str | None = "SUCCEEDED") -> list[str]:
    """What a run says about a scenario's message, given what arrived and the status of its execution."""
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
    return list(run.problems_of(outcome))


DUE = datetime(2026, 12, 24, 18, tzinfo=UTC)
DELIVERED = Scenario("an event", due=0)


def arrival(
    topic: str = ORDERS, message: str = "an event", received: float = 50, sent: float = 50, **given: str
) -> Arrival:
    """A message that reached the queue and the consumer so many milliseconds after the due time."""
    sent_at, received_at = DUE + sent * MILLISECOND, DUE + received * MILLISECOND
    attributes = {"scheduler-id": "m", "scheduler-date": DUE.isoformat()} | given
    return Arrival(topic, message, None, attributes, "m", sent_at, sent_at, received_at)


def report(topic: str, error: str = "not delivered: gone", event: Any = None) -> Arrival:
    return arrival(topic, json.dumps({"error": error, "id": "m", "event": event or {"a": 1}}))


@pytest.mark.parametrize(
    ("arrivals", "found"),
    [
        ([arrival()], []),
        ([], ["delivered 0 times instead of 1"]),
        ([arrival(), arrival()], ["delivered 2 times instead of 1"]),
        ([arrival(received=2, sent=-3)], ["3 ms early"]),
        ([arrival(received=1001)], ["1.001 s late"]),
        ([arrival(**{"scheduler-id": "n"})], ["its attribute scheduler-id is n instead of m"]),
        ([arrival(**{"scheduler-date": "soon"})], [f"its attribute scheduler-date is None instead of {DUE}"]),
        (
            [arrival(**{"scheduler-date": "2026-12-24T18:00:01Z"})],
            [f"its attribute scheduler-date is {DUE + 1000 * MILLISECOND} instead of {DUE}"],
        ),
        ([arrival(), report(FAILURES)], ["reported 1 times instead of 0: not delivered: gone"]),
    ],
)
def test_a_wrong_delivery_is_a_problem(arrivals: list[Arrival], found: list[str]):
    assert problems(DELIVERED, *arrivals) == found


def test_a_delivery_of_a_canceled_event_is_a_problem():
    scenario = Scenario("an event", due=0, expected="canceled")
    assert problems(scenario, status=None) == []
    assert problems(scenario, arrival()) == ["delivered 1 times instead of 0"]


def test_a_failed_execution_of_a_delivered_event_is_a_problem():
    assert problems(DELIVERED, arrival(), status="FAILED") == ["its execution is FAILED instead of SUCCEEDED"]


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


# --- The picture ------------------------------------------------------------------------------------------------------


def test_the_picture_shows_what_was_printed_and_loads_nothing():
    console = Console(file=io.StringIO(), record=True, width=demo.WIDTH)
    console.print("All ended as expected", style="green")
    picture = demo.svg(console)
    assert "All&#160;ended&#160;as&#160;expected" in picture
    assert "@font-face" not in picture
    assert re.findall(r"https?://[^\"\s]*", picture) == ["http://www.w3.org/2000/svg"]  # the name of the format
