"""Facts about the shipped definitions and template, computed from their text."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from scheduler.event import Rules, parse
from scheduler.parking import LANES, LEASE_DURATION

from tests.cloudformation import ROOT, Template

TEMPLATE = Template()
INTERVALS = TEMPLATE.text["Parameters"]["SweepIntervalSeconds"]["AllowedValues"]
HORIZONS = {interval: int(row["Seconds"]) for interval, row in TEMPLATE.text["Mappings"]["Horizon"].items()}
# docs.aws.amazon.com/step-functions/latest/dg/choosing-workflow-type.html: then an execution ends without a report.
EXPRESS_SECONDS = 300
# About as long as others measured it.
TRANSITION_SECONDS = 0.01


def machines() -> dict[str, dict]:
    """Every machine by name, and the one in each Map: an object with StartAt and States."""
    found = {
        name: json.loads(TEMPLATE.definition(name)) for name in TEMPLATE.resources("AWS::Serverless::StateMachine")
    }
    for machine in [*found.values()]:
        for name, state in machine["States"].items():
            if state["Type"] == "Map":
                found[name] = state["ItemProcessor"]
    return found


def after(state: dict) -> set[str]:
    """The states that may follow this one."""
    parts = state, *state.get("Choices", []), *state.get("Catch", []), {"Next": state.get("Default")}
    return {part["Next"] for part in parts if part.get("Next")}


MACHINES = machines()
TASKS = {
    name: state for machine in MACHINES.values() for name, state in machine["States"].items() if state["Type"] == "Task"
}
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


# --- Time -------------------------------------------------------------------------------------------------------------


def latest_waits() -> dict[str, float]:
    """How long after it is due an event may wait for each time in its input, by that time's name, in seconds."""
    target = "arn:aws:sns:eu-central-1:123456789012:orders"
    rules = Rules("arn:aws:sns:eu-central-1:123456789012:input", ("*",))
    latest: dict[str, float] = {}
    for microsecond in (0, 1, 499_999, 500_000, 999_999):
        due = datetime(2026, 12, 24, 10, 0, 0, microsecond, UTC)
        message = json.dumps({"date": due.isoformat(), "target": target, "user": "team", "payload": "order"})
        for name, time in json.loads(parse(message, "revision", rules).input).items():
            if name.endswith("_at"):
                wait = (datetime.fromisoformat(time) - due).total_seconds()
                latest[name] = max(wait, latest.get(name, wait))
    return latest


def longest_task(task: dict) -> float:
    """How long a Task takes that fails as late and as often as it may, in seconds. Jitter only shortens delays."""
    longest = 0
    for retry in task.get("Retry", [{"MaxAttempts": 0}]):
        total, delay = task["TimeoutSeconds"], retry.get("IntervalSeconds", 1)
        for _ in range(retry["MaxAttempts"]):
            total += min(delay, retry.get("MaxDelaySeconds", delay)) + task["TimeoutSeconds"]
            delay *= retry.get("BackoffRate", 2)
        longest = max(longest, total)
    return longest


def test_deliver_ends_before_express_does():
    """The longest path through Deliver, of an event that was started the longest horizon before it was due, ends in
    time. This is arithmetic: every attempt takes its whole timeout, every retry is used."""
    machine, waits, horizon = MACHINES["Deliver"], latest_waits(), max(HORIZONS.values())

    def end(name: str, now: float) -> float:
        """When an execution that enters this state at `now` ends at the latest: seconds after its start."""
        state, now = machine["States"][name], now + TRANSITION_SECONDS
        if state["Type"] == "Wait":
            [wait] = re.findall(r"Execution\.Input\.(\w+)", state["Timestamp"])
            now = max(now, horizon + waits[wait])
        elif state["Type"] == "Task":
            now += longest_task(state)
        return max([now, *(end(following, now) for following in after(state))])

    assert end(machine["StartAt"], 0) < EXPRESS_SECONDS


def test_sweep_ends_before_express_does():
    """Even the last tick, whatever the interval, has time for all its attempts."""
    last_tick = 119
    assert last_tick + longest_task(TASKS["Sweep"]) < EXPRESS_SECONDS


@pytest.mark.parametrize("interval", INTERVALS)
def test_horizon_leaves_time_to_sweep(interval):
    """Each interval has a horizon, and a sweep takes an event at least 5 seconds before it is due."""
    assert HORIZONS[interval] - int(interval) >= 5


def test_lease_outlives_its_holder():
    """A Sweeper that holds an expired lease is dead."""
    assert timedelta(seconds=TEMPLATE.properties("Sweeper")["Timeout"]) < LEASE_DURATION


def test_message_stays_hidden_while_it_is_taken():
    """The input queue's visibility timeout is six times Ingest's timeout, as Lambda asks for."""
    assert TEMPLATE.properties("InputQueue")["VisibilityTimeout"] >= 6 * TEMPLATE.properties("Ingest")["Timeout"]


def test_lanes_never_shrink():
    """Events parked in a lane that nobody sweeps any more would be lost."""
    assert LANES >= 16


# --- Definitions ------------------------------------------------------------------------------------------------------


@each_task
def test_task_has_a_timeout(task):
    """A task that hangs does not take the execution's five minutes."""
    assert task.get("TimeoutSeconds", EXPRESS_SECONDS) < EXPRESS_SECONDS


@each_task
def test_task_is_tried_again(task):
    """A task is tried again, or its comment says what is done instead."""
    assert task.get("Retry") or task.get("Comment")


@each_task
def test_task_failure_is_caught(task):
    """Whatever a task fails with is caught; after SendToUndelivered there is nobody left to tell."""
    assert task is TASKS["SendToUndelivered"] or task["Catch"][-1]["ErrorEquals"] == ["States.ALL"]


@each_task
def test_wildcard_for_errors_stands_alone_and_last(task):
    """Step Functions takes `States.ALL` only by itself and only in the last rule."""
    for rules in filter(None, (task.get("Retry"), task.get("Catch"))):
        assert all("States.ALL" not in rule["ErrorEquals"] for rule in rules[:-1])
        assert "States.ALL" not in rules[-1]["ErrorEquals"] or rules[-1]["ErrorEquals"] == ["States.ALL"]


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_every_state_is_reached(machine):
    """No state is left over, and none is missing."""
    reached: set[str] = set()
    ahead = {machine["StartAt"]}
    while ahead:
        reached |= ahead
        ahead = set().union(*(after(machine["States"][name]) for name in ahead)) - reached
    assert reached == machine["States"].keys()


@pytest.mark.parametrize("machine", TEMPLATE.resources("AWS::Serverless::StateMachine"))
def test_substitutions(machine):
    """The template fills in what a definition leaves open, all of it and nothing else."""
    properties = TEMPLATE.properties(machine)
    left_open = re.findall(r"\$\{(\w+)\}", (ROOT / properties["DefinitionUri"]).read_text())
    assert {*left_open} == properties["DefinitionSubstitutions"].keys()


# --- Permissions ------------------------------------------------------------------------------------------------------


def statements() -> Iterator[list[str]]:
    """Every policy statement in the template, as its lines, with the comment line before it if there is one."""
    lines = (ROOT / "template.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        if not (found := re.match(r"( *)- (?=&|Sid:|\{ *Sid:)", line)):
            continue
        inside = len(found[1]) + 1
        end = next(n for n in range(number + 1, len(lines) + 1) if not lines[n].startswith(" " * inside))
        comment = [lines[number - 1]] if lines[number - 1].lstrip().startswith("#") else []
        yield comment + lines[number:end]


def test_wildcard_resources_have_a_reason():
    """A statement about every resource there is has a comment that says why."""
    wildcards = [statement for statement in statements() if re.search(r"Resource: *\S*['\"]\*", "\n".join(statement))]
    assert len(wildcards) >= 3  # those for logs and traces: it does find them
    # And it misses none.
    text = (ROOT / "template.yaml").read_text()
    assert len(wildcards) == len(re.findall(r"Resource: *\[? *['\"]?\*", text))
    for statement in wildcards:
        assert any(" # " in line or line.lstrip().startswith("#") for line in statement), "\n".join(statement)
