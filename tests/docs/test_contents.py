"""The documents' tables against code and template, both ways: what is documented exists, what exists is documented."""

import json
import re
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import pytest
from punctual_core.event import Event, Refused, Rules, _CancelMessage, _EventMessage, parse
from punctual_core.failures import Failures
from punctual_core.times import instant

from punctual.cli import punctual
from tests.docs.reading import Cell, document
from tools.cloudformation import ROOT, Template

TEMPLATE = Template()
MESSAGE_FORMAT, DEPLOYING = document("docs/message-format.md"), document("docs/deploying.md")
OPERATING, DESIGN = document("docs/operating.md"), document("docs/design.md")

# The stack of the examples in docs/message-format.md.
_TOPIC = "arn:aws:sns:eu-central-1:123456789012:punctual-"
RULES = Rules(
    _TOPIC + "InputTopic-1A2B3C4D",
    tuple(TEMPLATE.environment("Ingest")["TARGET_TOPIC_ARNS"].split(",")),
    failure_topic=_TOPIC + "FailureTopic-2B3C4D5E",
    alarm_topic=_TOPIC + "AlarmTopic-3C4D5E6F",
)
ACCEPTED_AT = datetime(2026, 12, 24, 17, 0, tzinfo=UTC)
EXAMPLES = [json.loads(block) for language, block in MESSAGE_FORMAT.section("An event").blocks if language == "json"]
EXAMPLE = EXAMPLES[0]


def read(message: Any) -> Any:
    """Parse a message, a text or what becomes one, as if it had been published to the stack of the examples."""
    text = message if isinstance(message, str) else json.dumps(message)
    return parse(text, "8a2c5ffa-244b-4f86-893f-d4908e8f1d6f", ACCEPTED_AT, RULES)


def test_the_examples_are_accepted_and_use_every_field():
    assert all(isinstance(read(example), Event) for example in EXAMPLES)
    assert {field for example in EXAMPLES for field in example} == set(_EventMessage.model_fields)


@pytest.mark.parametrize("row", MESSAGE_FORMAT.table("Fields"), ids=lambda row: row["field"].code)
def test_a_field_is_required_if_the_table_says_so(row):
    field = row["field"].code
    example = next(example for example in EXAMPLES if field in example)
    required = row["required"].startswith("yes")
    with pytest.raises(Refused) if required else nullcontext():
        read({name: value for name, value in example.items() if name != field})


@pytest.mark.parametrize("row", MESSAGE_FORMAT.table("Dates"), ids=lambda row: row["message"])
def test_a_date_is_due_when_the_table_says_so(row):
    dates = json.loads("{" + row["message"].code + "}")
    event = {field: value for field, value in EXAMPLE.items() if field not in ("date", "delay", "timezone")}
    assert instant(read(event | dates).due) == row["is due at"].code


def test_the_delivered_attributes_are_those_of_the_code():
    table = MESSAGE_FORMAT.table("What is delivered")
    delivered = json.loads(read(EXAMPLE).input)["publish"]["MessageAttributes"]
    own = {name: value["StringValue"] for name, value in delivered.items() if name not in EXAMPLE.get("attributes", {})}
    assert {row["message attribute"].code: row["example"].code for row in table} == own


def test_the_example_of_an_executions_input_is_real():
    [(_, block)] = DESIGN.section("One event, second by second").blocks
    documented = json.loads(block)
    message = documented["event"] | {"payload": documented["publish"]["Message"]}
    assert documented == json.loads(read(message).input)


def _sent(cell: Cell) -> str:
    """The message that a row of the table of errors describes: the whole of it, or one change of the example."""
    if cell.startswith("no "):
        return json.dumps({name: value for name, value in EXAMPLE.items() if name != cell.code})
    size = re.search(r"of ([\d,]+) (characters|levels)", cell)
    number = int(size[1].replace(",", "")) if size else 0
    if cell.startswith("all of it"):
        return "[" * number + "]" * number if number else cell.code
    fragment = cell.code.replace("xxx...", "x" * number)
    # Not through json.dumps: an escape or a number such as 1e999 would be lost.
    kept = {name: value for name, value in EXAMPLE.items() if f'"{name}":' not in fragment}
    return json.dumps(kept)[:-1] + f", {fragment}}}"


@pytest.mark.parametrize("row", MESSAGE_FORMAT.table("Validation errors"), ids=lambda row: row["error"])
def test_a_documented_message_is_refused_with_the_documented_sentence(row):
    with pytest.raises(Refused) as refused:
        read(_sent(row["message"]))
    assert refused.value.error == row["error"].code


def _report(message: str) -> Any:
    """The failure report of a message that is refused."""
    sns = Mock()
    with pytest.raises(Refused) as refused:
        read(message)
    error = refused.value
    Failures(lambda service: sns, "topic", "queue").report(error.error, error.id, error.event, error.failure_topic)
    return json.loads(sns.publish.call_args.kwargs["Message"])


def test_the_example_of_a_failure_report_is_real():
    [(_, message), (_, report)] = MESSAGE_FORMAT.section("Failure reports").blocks
    assert json.loads(report) == _report(message) | {"id": json.loads(report)["id"]}


@pytest.mark.parametrize(
    ("doc", "heading", "existing"),
    [
        (MESSAGE_FORMAT, "Fields", _EventMessage.model_fields),
        (MESSAGE_FORMAT, "A cancel", _CancelMessage.model_fields),
        (MESSAGE_FORMAT, "Failure reports", _report("not JSON") | _report("x" * 300_000)),
        (DEPLOYING, "Parameters", TEMPLATE.text["Parameters"]),
        (OPERATING, "Alarms", TEMPLATE.resources("AWS::CloudWatch::Alarm")),
    ],
)
def test_a_table_names_what_exists_and_nothing_else(doc, heading, existing):
    assert doc.table(heading).names == set(existing)


def test_the_defaults_and_values_of_parameters_are_those_of_the_template():
    for row in DEPLOYING.table("Parameters"):
        parameter = TEMPLATE.text["Parameters"][row["parameter"].code]
        assert row["default"].code == (str(parameter["Default"]) or "empty")
        if allowed := parameter.get("AllowedValues"):
            assert row["values"] == ", ".join(map(str, allowed))


def test_the_horizon_follows_the_interval_as_documented():
    [lead] = re.findall(r"The horizon is (\d+) s longer", DEPLOYING.text)
    for interval, horizon in TEMPLATE.text["Mappings"]["Horizon"].items():
        assert int(horizon["Seconds"]) - int(interval) == int(lead)


def test_the_metrics_are_those_of_the_functions():
    documented = OPERATING.table("Metrics").names
    source = "".join(path.read_text() for path in (ROOT / "functions/punctual_core").glob("*.py"))
    assert not [name for name in documented if f'"{name}"' not in source]
    alarms = map(TEMPLATE.properties, TEMPLATE.resources("AWS::CloudWatch::Alarm"))
    assert {alarm["MetricName"] for alarm in alarms if alarm.get("Namespace") == "Punctual"} <= documented


def test_the_commands_are_those_of_punctual():
    table = OPERATING.table("The command punctual")
    assert {name.split()[0] for name in table.names} == set(punctual.commands)


def test_the_ends_of_an_execution_are_those_of_the_workflow():
    """Every error with which an execution of Deliver fails has a row."""
    states = json.loads(TEMPLATE.definition("Deliver"))["States"].values()
    errors = {state["Error"] for state in states if state["Type"] == "Fail"}
    codes = OPERATING.table("See what happened to an event").names
    assert {code for code in codes if re.fullmatch(r"[A-Za-z]+", code)} == errors
