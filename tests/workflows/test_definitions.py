"""Facts about the shipped definitions and template, computed from their text."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import botocore.session
import pytest
from botocore.exceptions import ClientError
from punctual_core.event import Event, Rules, parse
from punctual_core.failures import is_transient
from punctual_core.hold import MAX_HOLD_SECONDS
from punctual_core.lanes import LANES

from tests.workflows.simulation import TRANSITION_SECONDS
from tools.cloudformation import ROOT, Template

TEMPLATE = Template()
INTERVALS = TEMPLATE.text["Parameters"]["SweepIntervalSeconds"]["AllowedValues"]
HORIZONS = {interval: int(row["Seconds"]) for interval, row in TEMPLATE.text["Mappings"]["Horizon"].items()}
# docs.aws.amazon.com/step-functions/latest/dg/choosing-workflow-type.html: then an execution ends without a report.
EXPRESS_SECONDS = 300
# What AWS may take that is not in the definition.
SPARE_SECONDS = 30


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
        event = parse(message, "revision", due - timedelta(days=1), rules)
        assert isinstance(event, Event)
        for name, time in json.loads(event.input).items():
            if name.endswith("_at"):
                wait = (datetime.fromisoformat(time) - due).total_seconds()
                latest[name] = max(wait, latest.get(name, wait))
    return latest


def delays(retrier: dict) -> list[float]:
    """The seconds before each retry, without jitter, which only shortens them."""
    interval, rate = retrier.get("IntervalSeconds", 1), retrier.get("BackoffRate", 2)
    return [interval * rate**number for number in range(retrier["MaxAttempts"])]


def longest_task(task: dict) -> float:
    """How long a Task takes that fails as late and as often as it may, in seconds."""
    waits = [delay for retrier in task.get("Retry", []) for delay in delays(retrier)]
    return (1 + len(waits)) * task["TimeoutSeconds"] + sum(waits)


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

    assert end(machine["StartAt"], 0) < EXPRESS_SECONDS - SPARE_SECONDS


@pytest.mark.parametrize("interval", INTERVALS)
def test_horizon_leaves_time_to_sweep(interval):
    """Each interval has a horizon, and a sweep starts an event at least 3 seconds before it is due."""
    assert HORIZONS[interval] - int(interval) >= 3


def test_message_stays_hidden_while_it_is_processed():
    """The input queue's visibility timeout is six times Ingest's timeout, as Lambda asks for."""
    assert TEMPLATE.properties("InputQueue")["VisibilityTimeout"] >= 6 * TEMPLATE.properties("Ingest")["Timeout"]


def test_tasks_wait_for_their_functions():
    """A task does not time out while its function may still succeed."""
    assert TASKS["Sweep"]["TimeoutSeconds"] > TEMPLATE.properties("Sweeper")["Timeout"]
    assert TASKS["HoldFraction"]["TimeoutSeconds"] > MAX_HOLD_SECONDS


def test_lanes_never_shrink():
    """Events parked in a lane that is no longer swept would be lost."""
    assert LANES >= 16


# --- Errors -----------------------------------------------------------------------------------------------------------

PUBLISH_ERRORS = (
    botocore.session.get_session().get_service_model("sns").operation_model("Publish").error_shapes
)  # what SNS declares
# Errors that say nothing about the topic or the message: the same request may succeed later.
RETRIED = {"InternalErrorException", "KMSThrottlingException", "InvalidSecurityException"}
# MiniStack's name for every error of SNS.
EMULATOR_ERROR = "SNS.PublishFailed"


def names(error) -> set[str]:
    """The names that Step Functions may give to an error of SNS: by its shape or its code. AWS documents no rule."""
    code = error.error_code
    return {f"SNS.{error.name}", f"SNS.{code.removesuffix('Exception')}Exception"}


PERMANENT = {name for error in PUBLISH_ERRORS if error.name not in RETRIED for name in names(error)} | {EMULATOR_ERROR}


def lists_of_permanent_errors() -> list[list[str]]:
    rules = [rule for task in TASKS.values() for rule in (*task.get("Retry", []), *task.get("Catch", []))]
    return [rule["ErrorEquals"] for rule in rules if len(rule["ErrorEquals"]) > 4]


def test_every_error_of_sns_is_permanent_or_retried():
    """Every error that SNS declares for Publish is either named as permanent or retried on purpose."""
    assert {error.name for error in PUBLISH_ERRORS} > RETRIED
    lists = [errors for errors in lists_of_permanent_errors() if errors[0].startswith("SNS.")]
    assert len(lists) == 4  # Retry and Catch of Publish, and Retry of both reports.
    for errors in lists:
        assert len({*errors}) == len(errors)
        assert {*errors} == PERMANENT
        assert errors == lists[0]  # In the same order, so that they can be compared.


@pytest.mark.parametrize("error", PUBLISH_ERRORS, ids=lambda error: error.name)
def test_functions_retry_the_same_errors(error):
    """Ingest and Sweeper retry a report after the same errors of SNS as Deliver does."""
    status = error.metadata["error"]["httpStatusCode"]
    raised = ClientError(
        {"Error": {"Code": error.error_code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Publish"
    )
    assert is_transient(raised) == (error.name in RETRIED)


ALL = "States.ALL"
# For each task, the seconds before each retry, by error.
RETRIES = {
    "LookUpRevision": {ALL: [1]},
    "HoldFraction": {},
    "Publish": {"States.QueryEvaluationError": [1, 1, 1], "SNS": [], ALL: [1, 2, 4]},
    "ParkAgain": {ALL: [1, 2, 4]},
    "ReportToPublisher": {"SNS": [], ALL: [1, 2]},
    "ReportToStackTopic": {"SNS": [], ALL: [1, 2]},
    "SendToUndelivered": {ALL: [1, 2, 4]},
    "ParkUnreported": {ALL: [1, 2, 4, 8]},
    "RecordStart": {},
    "Sweep": {"Lambda": [1, 2]},
    "LookUpSuccessor": {},
}


@pytest.mark.parametrize("name", TASKS)
def test_retries(name):
    """Each task is retried after these errors, so often, and after so many seconds."""
    found = {}
    for retrier in TASKS[name].get("Retry", []):
        errors = retrier["ErrorEquals"]
        found[errors[0] if len(errors) == 1 else errors[0].split(".")[0]] = delays(retrier)
    assert found == RETRIES[name]


def test_sweep_retries_errors_of_lambda():
    """A tick is retried after the errors that AWS recommends to retry, and not if the Sweeper itself fails.
    (docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html#bp-lambda-serviceexception)"""
    [retrier] = TASKS["Sweep"]["Retry"]
    assert {*retrier["ErrorEquals"]} == {
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "Lambda.TooManyRequestsException",
    }


@each_task
def test_retries_have_jitter(task):
    """Executions of the same moment that fail together do not all retry together."""
    for retrier in task.get("Retry", []):
        assert retrier["MaxAttempts"] < 2 or retrier.get("BackoffRate") == 1 or retrier["JitterStrategy"] == "FULL"


@each_task
def test_task_has_a_timeout(task):
    """A task that hangs does not take the execution's five minutes."""
    assert task.get("TimeoutSeconds", EXPRESS_SECONDS) < EXPRESS_SECONDS


@each_task
def test_task_failure_is_caught(task):
    """Whatever a task fails with is caught."""
    assert task["Catch"][-1]["ErrorEquals"] == [ALL]


@pytest.mark.parametrize("name", ["Publish", "ParkAgain", "ParkUnreported"])
def test_data_limit_is_caught(name):
    """`States.ALL` does not match States.DataLimitExceeded, so it is named where SNS may answer at length, or where an
    event's text is escaped once more than in its input."""
    assert ["States.DataLimitExceeded"] in [rule["ErrorEquals"] for rule in TASKS[name]["Catch"]]


@each_task
def test_wildcard_for_errors_stands_alone_and_last(task):
    """Step Functions takes `States.ALL` only by itself and only in the last rule."""
    for rules in filter(None, (task.get("Retry"), task.get("Catch"))):
        assert all(ALL not in rule["ErrorEquals"] for rule in rules[:-1])
        assert ALL not in rules[-1]["ErrorEquals"] or rules[-1]["ErrorEquals"] == [ALL]


# --- Definitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_every_state_is_reached(machine):
    """Every state can be reached, and none is missing."""
    reached: set[str] = set()
    ahead = {machine["StartAt"]}
    while ahead:
        reached |= ahead
        ahead = set().union(*(after(machine["States"][name]) for name in ahead)) - reached
    assert reached == machine["States"].keys()


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_every_state_goes_on_or_ends(machine):
    """Else Step Functions does not take the definition: https://states-language.net/#transition"""
    for name, state in machine["States"].items():
        has_way_on = "Next" in state or ("Default" if state["Type"] == "Choice" else "End") in state
        assert has_way_on != (state["Type"] in ("Fail", "Succeed")), name
        assert state.get("End", True) is True, name
        assert not {"Next", "End"} <= state.keys(), name


@pytest.mark.parametrize("machine", TEMPLATE.resources("AWS::Serverless::StateMachine"))
def test_substitutions(machine):
    """The template substitutes every placeholder of a definition, and nothing else."""
    properties = TEMPLATE.properties(machine)
    placeholders = re.findall(r"\$\{(\w+)\}", (ROOT / properties["DefinitionUri"]).read_text())
    assert {*placeholders} == properties["DefinitionSubstitutions"].keys()


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
    """A statement about all resources has a comment that gives the reason."""
    wildcards = [statement for statement in statements() if re.search(r"Resource: *\S*['\"]\*", "\n".join(statement))]
    assert len(wildcards) >= 3  # Those for logs and traces: it finds statements.
    # And it finds all of them.
    text = (ROOT / "template.yaml").read_text()
    assert len(wildcards) == len(re.findall(r"Resource: *\[? *['\"]?\*", text))
    for statement in wildcards:
        assert any(" # " in line or line.lstrip().startswith("#") for line in statement), "\n".join(statement)
