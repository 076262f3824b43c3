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
from punctual.scenarios import MISSING_TOPIC, Outcome, Run, Scenario
from tools.local import Arrival, LocalStack, LocalStackError, demo, emulator, stack
from tools.local import __main__ as up
from tools.local.scenarios import LocalRun

PREFIX = "arn:aws:sns:eu-central-1:000000000000"
INPUT, FAILURES, ORDERS = f"{PREFIX}:input", f"{PREFIX}:failures", f"{PREFIX}:orders"


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


DUE = datetime(2026, 12, 24, 18, tzinfo=UTC)


def arrival(topic: str = ORDERS, message: str = "an event", late_ms: float = 50, **given: Any) -> Arrival:
    """A message that reached SNS and the queue so many milliseconds after the due time."""
    late = DUE + timedelta(milliseconds=late_ms)
    attributes = {"scheduler-id": "m", "scheduler-date": DUE.isoformat()} | given.pop("attributes", {})
    return Arrival(topic, message, attributes, **{"published_at": late, "sent_at": late} | given)


def report(topic: str = FAILURES, error: str = "not delivered: gone", event: Any = None) -> Arrival:
    return arrival(topic, json.dumps({"error": error, "id": "m", "event": event or {"a": 1}}))


def reported(failure_topic: str | None = None) -> Scenario:
    return Scenario("an event", 0, "reported", failure_topic=failure_topic, error="not delivered")


def with_date(date: str) -> Arrival:
    return arrival(attributes={"scheduler-date": date})


def problems(kind: type[Run], scenario: Scenario, arrivals: list[Arrival]) -> list[str]:
    """What is wrong with what arrives of a scenario's message."""
    outputs = {"InputTopicArn": INPUT, "FailureTopicArn": FAILURES}
    stack: Any = SimpleNamespace(outputs=outputs, output=outputs.get, client=lambda service: None)
    consumer: Any = SimpleNamespace(topic=lambda name, fifo: f"{PREFIX}:{name}", subscribe=lambda topic: None)
    run = kind(stack, consumer, [scenario])
    run.started_at = DUE
    outcome = Outcome(scenario, "m", '{"a": 1}', "m", published_at=DUE - 10 * SECOND, due=DUE)
    outcome.deliveries = [arrival for arrival in arrivals if arrival.message == "an event"]
    outcome.reports = [arrival for arrival in arrivals if arrival.message != "an event"]
    return list(run.problems_of(outcome))


SECOND = timedelta(seconds=1)
DELIVERED, CANCELED = Scenario("an event", due=0), Scenario("an event", due=0, expected="canceled")
OTHER_DATE = "its attribute scheduler-date is {} instead of 2026-12-24 18:00:00+00:00"


@pytest.mark.parametrize(
    ("scenario", "arrivals", "problem"),
    [
        (DELIVERED, [arrival()], None),
        (DELIVERED, [], "delivered 0 times instead of 1"),
        (DELIVERED, [arrival(), arrival()], "delivered 2 times instead of 1"),
        (DELIVERED, [arrival(topic=INPUT)], f"delivered to {INPUT}"),
        (DELIVERED, [arrival(late_ms=-3, sent_at=DUE)], "3 ms early"),
        (DELIVERED, [arrival(sent_at=DUE + SECOND * 1.001)], "1.001 s late"),
        (DELIVERED, [arrival(attributes={"scheduler-id": "n"})], "its attribute scheduler-id is n instead of m"),
        (DELIVERED, [with_date("soon")], OTHER_DATE.format(None)),
        (DELIVERED, [with_date("2026-12-24T18:00:01Z")], OTHER_DATE.format(DUE + SECOND)),
        (DELIVERED, [arrival(), report()], "reported 1 times instead of 0: not delivered: gone"),
        (CANCELED, [], None),
        (CANCELED, [arrival()], "delivered 1 times instead of 0"),
        (reported("own"), [report()], f"reported to {FAILURES}"),
        (reported("own"), [report(f"{PREFIX}:own")], None),
        (reported(), [report()], None),
        (reported(), [report(f"{PREFIX}:own")], f"reported to {PREFIX}:own"),
        (reported(MISSING_TOPIC), [report()], None),
        (reported(), [report(error="gone")], "reported as 'gone'"),
        (reported(), [report(event={"b": 2})], 'reported with another event: {"b": 2}'),
    ],
)
def test_what_does_not_end_as_it_should_is_a_problem(scenario: Scenario, arrivals: list[Arrival], problem: str | None):
    assert problems(LocalRun, scenario, arrivals) == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("arrivals", "problem"),
    [
        ([arrival(late_ms=-3, published_at=DUE)], None),
        ([arrival(late_ms=-3, sent_at=DUE)], None),
        ([arrival(late_ms=-3)], "3 ms early"),
        ([arrival(late_ms=1001, published_at=DUE)], None),
        ([arrival(published_at=DUE + SECOND * 1.001)], "1.001 s late"),
        ([arrival(), arrival()], None),
    ],
)
def test_aws_has_several_clocks_and_may_deliver_twice(arrivals: list[Arrival], problem: str | None):
    """Early is what SNS and SQS call early, and late what SNS does."""
    assert problems(Run, DELIVERED, arrivals) == ([problem] if problem else [])


@pytest.mark.parametrize(("published_at", "late_ms"), [(DUE - SECOND, [1, 2]), (DUE + SECOND / 2, [-499, -498])])
def test_lateness_is_by_sns_and_by_sqs_from_the_due_time_or_a_later_publication(published_at: datetime, late_ms: list):
    late = arrival(published_at=DUE + SECOND / 1000, sent_at=DUE + SECOND / 500)
    assert Outcome(DELIVERED, "m", "", "m", published_at, DUE, [late]).late_ms == late_ms


# --- The picture ------------------------------------------------------------------------------------------------------


def test_the_picture_shows_what_was_printed_and_loads_nothing():
    console = Console(file=io.StringIO(), record=True, width=demo.WIDTH)
    console.print("All ended as expected", style="green")
    picture = demo.svg(console)
    assert "All&#160;ended&#160;as&#160;expected" in picture
    assert "@font-face" not in picture
    assert re.findall(r"https?://[^\"\s]*", picture) == ["http://www.w3.org/2000/svg"]  # the name of the format
