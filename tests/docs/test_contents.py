"""The documents' tables against code and template, both ways: what is documented exists, what exists is documented."""

import ast
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from punctual_core.event import Event, Refused, Rules, _CancelMessage, _EventMessage, parse
from punctual_core.failures import Failures
from punctual_core.times import instant

from punctual.cli import punctual
from tests.docs.reading import Cell, Table, document, documents
from tools.cloudformation import ROOT, Template

TEMPLATE = Template()
FUNCTIONS = ROOT / "functions/punctual_core"
MESSAGE_FORMAT, DEPLOYING = document("docs/message-format.md"), document("docs/deploying.md")
OPERATING, DESIGN = document("docs/operating.md"), document("docs/design.md")
ERRORS = MESSAGE_FORMAT.table("Validation errors", "problem")
OTHER_ERRORS = MESSAGE_FORMAT.table("Other errors", "error")

# The stack of the examples in docs/message-format.md.
INPUT_TOPIC = "arn:aws:sns:eu-central-1:123456789012:punctual-InputTopic-1A2B3C4D"
RULES = Rules(INPUT_TOPIC, tuple(TEMPLATE.environment("Ingest")["TARGET_TOPIC_ARNS"].split(",")))
MESSAGE_ID = "8a2c5ffa-244b-4f86-893f-d4908e8f1d6f"
ACCEPTED_AT = datetime(2026, 12, 24, 17, 0, tzinfo=UTC)
EXAMPLES = [json.loads(block) for block in MESSAGE_FORMAT.blocks("An event", "json")]
EXAMPLE = EXAMPLES[0]


def read(message: Any) -> Any:
    """Parse a message, a text or what becomes one, as if it had been published to the stack of the examples."""
    text = message if isinstance(message, str) else json.dumps(message)
    return parse(text, MESSAGE_ID, ACCEPTED_AT, RULES)


def same(table: Table, documented: set[str], existing: set[str], where: str) -> None:
    """Fail unless a table names what exists, and nothing else."""
    assert not documented - existing, (
        f"The {table} names {sorted(documented - existing)}, which {where} does not have. Remove or rename the rows."
    )
    assert not existing - documented, (
        f"The {table} does not name {sorted(existing - documented)}, which {where} has. Add a row for each."
    )


def named_by(table: Table) -> set[str]:
    """The names in the first column of a table."""
    return {row[table.columns[0]].code for row in table.rows}


# --- Message format: what is accepted ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("heading", "model"), [("Fields", _EventMessage), ("A cancel", _CancelMessage)])
def test_the_fields_are_those_of_the_code(heading, model):
    table = MESSAGE_FORMAT.table(heading, "field")
    same(table, named_by(table), set(model.model_fields), f"{model.__name__} in functions/punctual_core/event.py")


def test_the_examples_are_accepted_and_use_every_field():
    for example in EXAMPLES:
        assert isinstance(read(example), Event)
    missing = set(_EventMessage.model_fields) - {field for example in EXAMPLES for field in example}
    assert not missing, f"No example under 'An event' in {MESSAGE_FORMAT} uses {sorted(missing)}. Add it to one."


@pytest.mark.parametrize("row", MESSAGE_FORMAT.table("Fields", "field").rows, ids=lambda row: row["field"].code)
def test_a_field_is_required_if_the_table_says_so(row):
    field, is_required = row["field"].code, row["required"].text.startswith("yes")
    example = next(example for example in EXAMPLES if field in example)
    less = {name: value for name, value in example.items() if name != field}
    try:
        read(less)
    except Refused as refused:
        assert is_required, f"{MESSAGE_FORMAT} says that `{field}` is not required, but without it: {refused.error}."
    else:
        assert not is_required, (
            f"{MESSAGE_FORMAT} says that `{field}` is required, but an event without it is accepted."
        )


@pytest.mark.parametrize("row", MESSAGE_FORMAT.table("Dates", "message").rows, ids=lambda row: row["message"].text)
def test_a_date_is_due_when_the_table_says_so(row):
    dates = json.loads("{" + row["message"].code + "}")
    event = {field: value for field, value in EXAMPLE.items() if field not in ("date", "delay", "timezone")}
    due = instant(read(event | dates).due)
    assert due == row["is due at"].code, (
        f"{MESSAGE_FORMAT}, Dates: `{row['message'].code}` is due at {due}. Correct the row."
    )


def test_the_delivered_attributes_are_those_of_the_code():
    table = MESSAGE_FORMAT.table("What is delivered", "message attribute")
    delivered = json.loads(read(EXAMPLE).input)["publish"]["MessageAttributes"]
    own = {name: value["StringValue"] for name, value in delivered.items() if name not in EXAMPLE.get("attributes", {})}
    documented = {row["message attribute"].code: row["example"].code for row in table.rows}
    assert documented == own, f"The {table} has to have these attributes and values of the first example: {own}."


def test_the_example_of_an_executions_input_is_real():
    [block] = DESIGN.blocks("One event, second by second", "json")
    documented = json.loads(block)
    message = documented["event"] | {"payload": documented["publish"]["Message"]}
    real = json.loads(read(message).input)
    assert documented == real, (
        f"{DESIGN}: the input of this event's execution is {json.dumps(real, indent=2)}. Correct it."
    )
    missing = real.keys() - {word for code in DESIGN.inline_codes for word in code.split()}
    assert not missing - {"id"}, (
        f"{DESIGN}, 'One event, second by second', does not say what {sorted(missing)} are for."
    )


# --- Message format: what is refused ----------------------------------------------------------------------------------


def _sent(cell: Cell) -> str:
    """The message that a row of the table of errors describes: the whole of it, or one change of the example."""
    if cell.text.startswith("no "):
        return json.dumps({name: value for name, value in EXAMPLE.items() if name != cell.code})
    size = re.search(r"of ([\d,]+) (characters|levels)", cell.text)
    number = int(size[1].replace(",", "")) if size else 0
    if cell.text.startswith("all of it"):
        return "[" * number + "]" * number if number else cell.code
    fragment = cell.code.replace("xxx...", "x" * number)
    # Not through json.dumps: an escape or a number such as 1e999 would be lost.
    kept = {name: value for name, value in EXAMPLE.items() if f'"{name}":' not in fragment}
    return json.dumps(kept)[:-1] + f", {fragment}}}"


@pytest.mark.parametrize("row", ERRORS.rows, ids=lambda row: row["problem"].text)
def test_a_documented_message_is_refused_with_the_documented_sentence(row):
    with pytest.raises(Refused) as refused:
        read(_sent(row["message"]))
    assert refused.value.error == row["error"].code, (
        f"{MESSAGE_FORMAT}, Validation errors: {row['message'].text} is refused with `{refused.value.error}`. "
        "Correct the row."
    )


def test_every_sentence_of_the_code_is_documented():
    """Every text in the message format's modules that reads like a sentence is part of a documented error."""
    documented = [row["error"].code for row in ERRORS.rows]
    for path in _modules_of_the_message_format():
        for line, sentence in _sentences(ast.parse(path.read_text())):
            assert any(re.search(sentence, error) for error in documented), (
                f"{path.name}, line {line}: no error in the {ERRORS} matches '{sentence}'. Add a row with a message "
                "that is refused with this sentence."
            )


def test_other_errors_are_those_of_the_code():
    documented = [row["error"].code for row in OTHER_ERRORS.rows]
    existing = {f"{prefix}: " for prefix in _problems_of_deliver()}
    for path in sorted(FUNCTIONS.glob("*.py")):
        existing |= {sentence for _, sentence in _reported(ast.parse(path.read_text()))}
    for sentence in existing:
        assert any(re.search(sentence, error) for error in documented), (
            f"No error in the {OTHER_ERRORS} matches '{sentence}', which the code reports. Add a row."
        )
    for error in documented:
        assert any(re.search(sentence, error) for sentence in existing), (
            f"The {OTHER_ERRORS} has `{error}`, which no module reports. Remove the row, or correct it."
        )


class _FakeSns:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.published: list[str] = []

    def publish(self, *, TopicArn: str, Message: str) -> None:
        self.published.append(Message)


def _report(message: str) -> dict[str, Any]:
    """The failure report of a message that is refused."""
    sns = _FakeSns()
    with pytest.raises(Refused) as refused:
        read(message)
    error = refused.value
    Failures(lambda service: sns, "topic", "queue").report(error.error, error.id, error.event, error.failure_topic)
    report: dict[str, Any] = json.loads(sns.published[0])
    return report


def test_the_example_of_a_failure_report_is_real():
    message, report = MESSAGE_FORMAT.blocks("Failure reports", "json")
    expected = _report(message) | {"id": json.loads(report)["id"]}
    assert json.loads(report) == expected, (
        f"{MESSAGE_FORMAT}, Failure reports: the report of the example is {expected}."
    )


def test_the_fields_of_a_failure_report_are_those_of_the_code():
    table = MESSAGE_FORMAT.table("Failure reports", "field")
    existing = _report("not JSON").keys() | _report("x" * 300_000).keys()
    same(table, named_by(table), existing, "Failures.report in functions/punctual_core/failures.py")


def _modules_of_the_message_format() -> list[Path]:
    """event.py and the modules that it imports, directly or not."""
    found, left = [], [FUNCTIONS / "event.py"]
    while left:
        path = left.pop()
        found.append(path)
        imported = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.level
        ]
        modules = {FUNCTIONS / f"{node.module}.py" for node in imported}
        left += sorted(modules - {*found, *left})
    return found


def _sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The texts of a module with two words in a row, as patterns, with their lines: not docstrings, not regular
    expressions, and of f-strings what is constant."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # A docstring.
            skipped.add(node.value)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) in (
            "compile",
            "fullmatch",
            "search",
            "sub",
        ):
            skipped |= {inner for argument in node.args for inner in ast.walk(argument)}
        elif isinstance(node, ast.JoinedStr):
            skipped |= {inner for part in node.values for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if node not in skipped and (pattern := _pattern(node)) and re.search(r"[A-Za-z]{2,}\\? [a-z]{2,}", pattern):
            yield node.lineno, pattern


def _pattern(node: ast.AST) -> str | None:
    """A pattern that matches every text that an expression can become, if it is a text."""
    match node:
        case ast.Constant(value=str() as text):
            return re.escape(text)
        case ast.JoinedStr(values=parts):
            return "".join(_pattern(part) or ".*" for part in parts)
    return None


def _reported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The sentences that the handlers report: what is assigned to, or added to, a variable called `error`."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="error")], value=value)
                | ast.AugAssign(target=ast.Name(id="error"), value=value)
            ):
                yield from _sentences(ast.Module([ast.Return(value)], []))


def _problems_of_deliver() -> set[str]:
    """How the errors that Deliver reports begin."""
    return set(re.findall(r"'([a-z ]+): ' & \$states", (ROOT / "statemachines/deliver.asl.json").read_text()))


# --- Template: parameters, outputs, alarms, metrics -------------------------------------------------------------------


def test_the_parameters_are_those_of_the_template():
    table = DEPLOYING.table("Parameters", "parameter")
    parameters = TEMPLATE.text["Parameters"]
    same(table, named_by(table), set(parameters), "template.yaml")
    for row in table.rows:
        name = row["parameter"].code
        default = str(parameters[name]["Default"]) or "empty"
        assert row["default"].code == default, f"{DEPLOYING}: the default of `{name}` is `{default}`. Correct the row."
        if allowed := parameters[name].get("AllowedValues"):
            listed = ", ".join(map(str, allowed))
            assert row["values"].text == listed, f"{DEPLOYING}: the values of `{name}` are {listed}. Correct the row."


def test_the_horizon_follows_the_interval_as_documented():
    [row] = [
        row
        for row in DEPLOYING.table("Parameters", "parameter").rows
        if row["parameter"].code == "SweepIntervalSeconds"
    ]
    lead = re.search(r"The horizon is (\d+) s longer", row["meaning"].text)
    assert lead, f"{DEPLOYING}: the row of SweepIntervalSeconds has to say 'The horizon is ... s longer'."
    for interval, horizon in TEMPLATE.text["Mappings"]["Horizon"].items():
        assert int(horizon["Seconds"]) - int(interval) == int(lead[1]), (
            f"{DEPLOYING}: at an interval of {interval} s the horizon is {horizon['Seconds']} s. Correct the row of "
            "SweepIntervalSeconds, and the sections Horizon and 'One event' of docs/design.md."
        )


def test_the_outputs_are_those_of_the_template():
    table = DEPLOYING.table("Outputs", "output")
    same(table, named_by(table), set(TEMPLATE.text["Outputs"]), "template.yaml")


def test_the_alarms_are_those_of_the_template():
    table = OPERATING.table("Alarms", "alarm")
    same(table, named_by(table), set(TEMPLATE.resources("AWS::CloudWatch::Alarm")), "template.yaml")


def test_the_metrics_are_those_of_the_functions():
    table = OPERATING.table("Metrics", "metric")
    emitted = {name for path in FUNCTIONS.glob("*.py") for name in _metrics(path)}
    assert emitted, (
        "No call of add_metric was found: tests/docs/test_contents.py has to learn how metrics are emitted now."
    )
    same(table, named_by(table), emitted, "functions/")
    watched = {
        alarm["MetricName"]
        for alarm in map(TEMPLATE.properties, TEMPLATE.resources("AWS::CloudWatch::Alarm"))
        if alarm.get("Namespace") == "Punctual"
    }
    assert watched <= emitted, f"Alarms watch {sorted(watched - emitted)}, which no function emits."


def _metrics(path: Path) -> set[str]:
    """The names of the metrics that a module emits. A name that is not a constant is the outcome of a message: one of
    the capitalized words that the module's functions return."""
    tree = ast.parse(path.read_text())
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_metric"
    ]
    if not calls:
        return set()
    names = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "name"]
    words = {name.value for expression in names for name in ast.walk(expression) if isinstance(name, ast.Constant)}
    if any(isinstance(name, ast.BoolOp) for name in names):
        returned = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
        words |= {node.value for node in returned if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    if any(isinstance(name, ast.Name) for name in names):
        # A loop over pairs of a name and a count.
        pairs = [pair for node in ast.walk(tree) if isinstance(node, ast.For) for pair in ast.walk(node.iter)]
        words |= {
            pair.elts[0].value
            for pair in pairs
            if isinstance(pair, ast.Tuple) and pair.elts and isinstance(pair.elts[0], ast.Constant)
        }
    return {word for word in words if isinstance(word, str)}


def test_the_commands_are_those_of_punctual():
    table = OPERATING.table("The command punctual", "command")
    same(table, named_by(table), set(punctual.commands), "punctual/cli.py")


def test_the_ends_of_an_execution_are_those_of_the_workflow():
    """Every way in which an execution of Deliver ends, by its error or by its output, has a row."""
    states = json.loads(TEMPLATE.definition("Deliver"))["States"].values()
    errors = {state["Error"] for state in states if state["Type"] == "Fail"}
    outputs = {next(iter(state["Output"])) for state in states if state["Type"] == "Succeed" or state.get("End")}
    table = OPERATING.table("See what happened to an event", "execution")
    codes = [code for row in table.rows for code in row["execution"].codes]
    same(table, {code for code in codes if re.fullmatch(r"[A-Za-z]+", code)}, errors, "statemachines/deliver.asl.json")
    documented = {re.match(r"\{\"(\w+)", code)[1] for code in codes if code.startswith("{")}
    same(table, documented, outputs, "statemachines/deliver.asl.json")


@pytest.mark.parametrize("doc", documents(), ids=str)
def test_every_name_of_the_template_in_a_document_exists(doc):
    """Alarms, parameters with a value (`Name=value`), and arguments of the shell function `output`."""
    parameters, outputs = TEMPLATE.text["Parameters"], TEMPLATE.text["Outputs"]
    code = "\n".join([*doc.inline_codes, *(block.text for block in doc.code_blocks)])
    for alarm in re.findall(r"\b[A-Z]\w+Alarm\b", code):
        assert alarm in TEMPLATE.text["Resources"], (
            f"{doc}: template.yaml has no alarm `{alarm}`. Use its present name."
        )
    for name in re.findall(
        r"(?:^|overrides )([A-Z][a-z]\w+)=\S", "\n".join(doc.inline_codes) + "\n" + code, re.MULTILINE
    ):
        assert name in parameters, f"{doc}: template.yaml has no parameter `{name}`. Use its present name."
    for name in re.findall(r"\boutput ([A-Z]\w+)", code):
        assert name in outputs, f"{doc}: template.yaml has no output `{name}`. Use its present name."
