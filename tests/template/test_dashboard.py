"""The dashboard: is it punctual, what is pending, what failed. Everything on it exists."""

import json
import re

import pytest

from tests.template import recording
from tests.template.test_alarms import DIMENSIONS, failures
from tools.cloudformation import REGION, Template

TEMPLATES = [Template(Probe=probe) for probe in ("false", "true")]
each_template = pytest.mark.parametrize("template", TEMPLATES, ids=["without probe", "with probe"])


def widgets(template: Template, type: str) -> list[dict]:
    """The properties of the widgets of a type."""
    body = json.loads(template.properties("OperationDashboard")["DashboardBody"])
    return [widget["properties"] for widget in body["widgets"] if widget["type"] == type]


def metrics(template: Template) -> set[tuple[str, str, str]]:
    """What the dashboard shows: namespace, metric, and resource; fails for a resource that the stack does not have."""
    found = set()
    for widget in widgets(template, "metric"):
        for namespace, metric, name, value, *_ in widget["metrics"]:
            if namespace == "Punctual":
                assert (name, value) == ("service", "punctual")
                found.add((namespace, metric, ""))
            elif (name, value) == ("APIName", "StartExecution"):
                found.add((namespace, metric, ""))
            else:
                expected, attribute = DIMENSIONS[namespace]
                names = {resource_name(template, id, attribute): id for id in recordable(template)}
                assert name == expected
                found.add((namespace, metric, names[value]))
    return found


def recordable(template: Template) -> list[str]:
    """The resources that have metrics."""
    types = ("SQS::Queue", "SNS::Topic", "Serverless::Function", "Serverless::StateMachine")
    return [id for type in types for id in template.deployed(f"AWS::{type}")]


def resource_name(template: Template, id: str, attribute: str) -> str | None:
    """A value by which a resource's metrics are kept; None if it has no such attribute."""
    try:
        return template.resolve({"Ref": id} if attribute == "Ref" else {"Fn::GetAtt": [id, attribute]})
    except ValueError:
        return None


@each_template
def test_every_alarm_is_shown(template):
    """The widget of alarms has each alarm of the stack once."""
    [widget] = widgets(template, "alarm")
    assert sorted(widget["alarms"]) == sorted(map(template.arn, template.deployed("AWS::CloudWatch::Alarm")))


@each_template
def test_every_failure_is_shown(template):
    """Whoever is called by an alarm finds its metric. Throttled starts are counted by API; Express executions emit no
    ExecutionThrottled. (docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html)"""
    failing = {
        (namespace, metric, "" if namespace == "Punctual" else resource)
        for namespace, metric, resource, _ in failures()
        if template.exists(resource) and metric != "Invocations"
    }
    own = {("Punctual", m, "") for f, r in recording.of_functions().items() if template.exists(f) for m in r.metrics}
    others = {
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "InputQueue"),
        ("AWS/States", "ExecutionsSucceeded", "Deliver"),
        ("AWS/States", "ThrottledEvents", ""),
    }
    assert metrics(template) == failing | own | others


@each_template
def test_values_are_added_or_the_largest_counts(template):
    """A count per minute is a sum; of ages and of messages in a queue the largest value counts."""
    for widget in widgets(template, "metric"):
        names = {metric[1] for metric in widget["metrics"]}
        gauges = {name for name in names if name.startswith("Approximate") or name in ("Overdue", "Lateness")}
        assert gauges in (set(), names)
        if names == {"Lateness"}:
            assert {metric[-1]["stat"] for metric in widget["metrics"]} == {"p50", "p99", "Maximum"}
        else:
            assert widget["stat"] == ("Maximum" if gauges else "Sum")
            assert widget["period"] == 60


@each_template
def test_the_region_is_named(template):
    """A dashboard is shown in all Regions, and its name is the account's."""
    for widget in (*widgets(template, "metric"), *widgets(template, "log")):
        assert widget["region"] == REGION
    named = Template({"AWS::StackName": "a", "AWS::Region": "b"}).properties("OperationDashboard")["DashboardName"]
    assert named == "a-b"


@pytest.mark.parametrize("escaped", [False, True])
def test_queries_find_what_executions_log(escaped):
    """They read the log of Deliver. The lateness is found in an execution's output as Step Functions logs it, with or
    without quotes escaped once more, and in no other output."""
    lateness, failed = (widget["query"] for widget in widgets(TEMPLATES[0], "log"))
    source = f"SOURCE '{TEMPLATES[0].resolve({'Ref': 'DeliverLog'})}' | filter type"
    assert lateness.startswith(f'{source} = "ExecutionSucceeded" | parse details.output /')
    assert failed.startswith(f'{source} in ["ExecutionFailed", "ExecutionTimedOut"] |')
    pattern = re.search(r"details.output /(.*?)/ ", lateness)[1].replace("(?<", "(?P<")
    found = set()
    for run in recording.of_machines()["Deliver"].runs:
        text = json.dumps(run.output)
        match = re.search(pattern, json.dumps(text) if escaped else text)
        late_ms = (run.output or {}).get("late_ms")
        found.add((match and int(match["late_ms"]), late_ms and int(late_ms)))
    assert all(late == expected for late, expected in found) and len(found) > 1
    assert re.search(pattern, '{"message_id": "8", "late_ms": -3}')["late_ms"] == "-3"
