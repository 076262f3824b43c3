"""The schemas in schemas/ say what the rules of Ingest say."""

import json
import re
import subprocess
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator, validators
from punctual_core.event import Refused, Rules, parse

from punctual.schema import BEYOND_SCHEMA, schema_command, schemas
from tests.conftest import TARGET, at, event, take
from tests.fuzz.test_fuzz import EXAMPLES, messages
from tools.cloudformation import ROOT

NAMES = ["event", "cancel", "failure-report", "asyncapi"]
RULES = Rules(f"{TARGET}-in", ("*",))


def _pattern(validator, pattern, instance, schema):
    """As ECMAScript has it, and so JSON Schema: `$` is the end, and not before a last line break."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield from validators.Draft202012Validator.VALIDATORS["pattern"](validator, "$^x", instance, schema)


Validator = validators.extend(Draft202012Validator, {"pattern": _pattern})
VALIDATORS = {name: Validator(schemas()[name]) for name in NAMES if name != "asyncapi"}


def allowed(text: str) -> bool:
    """Whether this is a JSON value that the schemas allow."""
    try:
        message = json.loads(text, parse_constant=int)  # int("NaN") is a ValueError.
    except (ValueError, RecursionError):
        return False
    kind = "cancel" if isinstance(message, dict) and "cancel" in message else "event"
    return VALIDATORS[kind].is_valid(message)


def objection(text: str) -> str | None:
    """What the rules say against it."""
    try:
        parse(text, "5fa2c1b0-63a7-5d2e-9e1f-0d8c54c1a7aa", datetime(2026, 12, 24, tzinfo=UTC), RULES)
    except Refused as refused:
        return refused.error
    return None


@pytest.mark.slow
@settings(max_examples=EXAMPLES // 4)
@given(text=messages)
def test_the_verdict_of_the_schemas_is_that_of_the_rules(text):
    """But for what a schema cannot say, which is listed."""
    error = objection(text)
    if not allowed(text):
        assert error
    elif error:
        assert any(re.match(known, error) for known in BEYOND_SCHEMA), error


@pytest.mark.parametrize(
    ("fields", "is_allowed"),
    [
        ({}, True),
        ({"date": "2026-12-24"}, True),
        ({"date": "2026-12-24T18:00:00.123456789+01:00"}, True),
        ({"date": "2026-12-24T18:00", "timezone": "Europe/Berlin"}, True),
        ({"date": "2026-12-24", "timezone": "Europe/Berlin"}, True),
        ({"date": "2026-12-24T18:00Z", "timezone": "Europe/Berlin"}, False),
        ({"date": "2026-12-24T18:00-0100", "timezone": "Europe/Berlin"}, False),
        ({"date": "24.12.2026"}, False),
        ({"delay": 1}, False),
        *(({name: None}, False) for name in ("date", "target", "payload", "user")),
        *(({"date": None, "delay": delay}, True) for delay in (0, 0.5, 315_619_200)),
        *(({"date": None, "delay": delay}, False) for delay in (-1, 315_619_201)),
        ({"id": "a" * 65}, False),
        ({"id": "a\n"}, False),
        ({"user": ""}, False),
        ({"payload": "\ufffe"}, False),
        ({"payload": "\U0001f600"}, True),
        ({"failure_topic": f"{TARGET}.fifo"}, False),
        ({"attributes": {"price": 10, "tags": ["a", "b"], "color": "red"}}, True),
        ({"attributes": {"flag": True}}, False),
        ({"attributes": {"tags": []}}, False),
        ({"attributes": {"aws.x": "x"}}, False),
        ({"attributes": {"AmaZon.x": "x"}}, False),
        ({"attributes": {"scheduler-id": "x"}}, False),
        ({"attributes": {f"a{number}": "x" for number in range(8)}}, True),
        ({"attributes": {f"a{number}": "x" for number in range(8)}, "id": "order"}, False),
        ({"attributes": {f"a{number}": "x" for number in range(7)}, "id": "order"}, True),
        ({"attributes": {f"a{number}": "x" for number in range(9)}}, False),
    ],
)
def test_both_say_so(fields, is_allowed):
    """None is for a field that the event does not have."""
    text = json.dumps({name: value for name, value in event(**fields).items() if value is not None})
    assert allowed(text) is is_allowed and (objection(text) is None) is is_allowed, objection(text)


@pytest.mark.parametrize("message", [{"payload": 1}, "no JSON", {"payload": "x" * 300_000}])
def test_reports_are_as_their_schema_says(cloud, message):
    text = message if isinstance(message, str) else json.dumps(message)
    take(text, at("10:00"))
    [report] = cloud.reports()
    VALIDATORS["failure-report"].validate(report)


@pytest.mark.parametrize("name", NAMES)
def test_the_schemas_are_those_in_the_repository(name, capsys):
    """As `punctual schema` prints them; `make schemas` writes them anew."""
    if name != "asyncapi":
        Draft202012Validator.check_schema(schemas()[name])
    schema_command.main([name], standalone_mode=False)
    assert capsys.readouterr().out == (ROOT / "schemas" / f"{name}.json").read_text()


@pytest.mark.slow
def test_the_topics_are_described_as_asyncapi_has_it():
    """By AsyncAPI's own parser: no error, and no warning."""
    program = """
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
const source = "schemas/asyncapi.json"; // to which its references are relative
const { document, diagnostics } = await new Parser().parse(readFileSync(source, "utf8"), { source });
console.log(JSON.stringify({
  problems: diagnostics.filter(({ severity }) => severity < 2),
  fields: document?.allMessages().all().map((message) => [
    message.id(), Object.keys(message.payload().json().properties ?? {}),
  ]),
}));
"""
    command = ["node", "--input-type=module", "-e", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == []
    fields = {name: list(schemas()[name]["properties"]) for name in NAMES if name != "asyncapi"}
    assert dict(found["fields"]) == fields | {"delivery": []}
