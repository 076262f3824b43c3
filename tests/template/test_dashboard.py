"""The dashboard: is it punctual, what is pending, what failed. Everything on it exists."""

import json
import re

import pytest

from tests.template import recording
from tests.template.test_alarms import FAILURES, dimension
from tests.workflows.world import SNS, World, event, outage
from tools.cloudformation import REGION, Template

TEMPLATES = [Template(Probe=probe) for probe in ("false", "true")]
each_template = pytest.mark.parametrize("template", TEMPLATES, ids=["without probe", "with probe"])


def widgets(template: Template, *types: str) -> list[dict]:
    """The properties of the widgets of these types."""
    body = json.loads(template.properties("OperationDashboard")["DashboardBody"])
    return [widget["properties"] for widget in body["widgets"] if widget["type"] in types]


@each_template
def test_every_alarm_is_shown(template):
    """The widget of alarms has each alarm of the stack once."""
    [widget] = widgets(template, "alarm")
    assert sorted(widget["alarms"]) == sorted(map(template.arn, template.deployed("AWS::CloudWatch::Alarm")))


@each_template
def test_every_failure_is_shown(template):
    """Whoever is called by an alarm finds its metric, and every metric of the functions; nothing else is shown but
    what is pending, delivered, and throttled. Starts are throttled by API; Express executions emit no
    ExecutionThrottled. (docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html)"""
    shown = {tuple(metric[:4]) for widget in widgets(template, "metric") for metric in widget["metrics"]}
    expected = {failure[:3] for failure in FAILURES if failure[1] != "Invocations"}
    expected |= {("AWS/SQS", "ApproximateNumberOfMessagesVisible", "InputQueue")}
    expected |= {("AWS/States", "ExecutionsSucceeded", "Deliver")}
    for function, recorded in recording.of_functions().items():
        expected |= {("Punctual", metric, function) for metric in recorded.metrics}
    starts = ("AWS/States", "ThrottledEvents", "APIName", "StartExecution")
    assert shown - {starts} == {
        (space, metric, *dimension(space, of)) for space, metric, of in expected if template.exists(of)
    }
    assert starts in shown


@each_template
def test_values_are_added_or_the_largest_counts(template):
    """A count per minute is a sum; of ages and of messages in a queue the largest value counts. The Region is named,
    because a dashboard is shown in all Regions, and its name is the account's."""
    named = Template({"AWS::StackName": "a", "AWS::Region": "b"}).properties("OperationDashboard")
    assert named["DashboardName"] == "a-b"
    for widget in widgets(template, "metric", "log"):
        assert widget["region"] == REGION
        names = {metric[1] for metric in widget.get("metrics", [])}
        gauges = {name for name in names if name.startswith("Approximate") or name in ("Overdue", "Lateness")}
        assert gauges in (set(), names)
        if names and names != {"Lateness"}:
            assert (widget["stat"], widget["period"]) == ("Maximum" if gauges else "Sum", 60)


@pytest.mark.parametrize("escaped", [False, True])
def test_queries_find_what_executions_log(escaped):
    """They read the log of Deliver. The lateness is found in an execution's output as Step Functions logs it, with or
    without quotes escaped once more, and in no other output."""
    lateness, failed = (widget["query"] for widget in widgets(TEMPLATES[0], "log"))
    source = f"SOURCE '{TEMPLATES[0].resolve({'Ref': 'DeliverLog'})}' | filter type"
    assert lateness.startswith(f'{source} = "ExecutionSucceeded" | parse details.output /')
    assert failed.startswith(f'{source} in ["ExecutionFailed", "ExecutionTimedOut"] |')
    pattern = re.search(r"details.output /(.*?)/ ", lateness)[1].replace("(?<", "(?P<")
    delivered, parked_again = (World(event(), outage(of, 60)).run_first().output for of in (set(), SNS))
    for output, expected in ((delivered, delivered["late_ms"]), ({"late_ms": -3}, -3), (parked_again, None)):
        text = json.dumps(output)
        match = re.search(pattern, json.dumps(text) if escaped else text)
        assert (match and int(match["late_ms"])) == expected
