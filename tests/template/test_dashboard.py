"""The dashboard: everything on it exists, nothing that matters is missing, and its queries find what they say."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.template import recording
from tests.template.cloudwatch import AWS_METRICS, emitted, statistics_of, watched
from tests.template.insights import STATE_RECORDS, execution_log, query_source, run_query
from tests.workflows.simulation import Run
from tools.cloudformation import REGION, Template

TEMPLATES = {probe: Template(Probe=probe) for probe in ("false", "true")}
COLUMNS = 24  # docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html


def widgets(template: Template) -> list[dict]:
    """The widgets in the order in which somebody reads them."""
    body = json.loads(template.properties("OperationDashboard")["DashboardBody"])
    assert body.keys() == {"widgets"}
    return sorted(body["widgets"], key=lambda widget: (widget["y"], widget["x"]))


def subject(widget: dict) -> str:
    """What a widget shows: its title up to what is good."""
    return widget["properties"]["title"].split(". Good: ")[0]


@dataclass(frozen=True)
class Line:
    """One metric in a widget: its name, the resource that it is about ("" for a metric of our own), and how."""

    metric: str
    resource: str
    statistic: str
    label: str | None


def lines(template: Template, widget: dict) -> Iterator[Line]:
    """The metrics of a widget. Fails for one that the stack does not have."""
    properties = widget["properties"]
    for namespace, metric, dimension, value, *options in properties["metrics"]:
        own = options[0] if options else {}
        assert own.keys() <= {"label", "stat"}
        statistic = own.get("stat") or properties["stat"]
        assert statistic in statistics_of(namespace, metric), (metric, statistic)
        resource = watched(template, namespace, metric, dimension, value)
        yield Line(metric, resource, statistic, own.get("label"))


def of_type(template: Template, type: str) -> list[dict]:
    return [widget for widget in widgets(template) if widget["type"] == type]


each_template = pytest.mark.parametrize("template", TEMPLATES.values(), ids=["without probe", "with probe"])


# --- What it shows ----------------------------------------------------------------------------------------------------

# Subject -> the metrics, and the resources that they are about, where that is not the whole stack. In the order in
# which somebody on call needs to know: what becomes of events, then how late, what was left over, and why.
SHOWN: dict[str, set[tuple[str, str]] | str] = {
    "Events per minute": {
        ("ExecutionsSucceeded", "Deliver"),
        ("ExecutionsFailed", "Deliver"),
        ("ExecutionsTimedOut", "Deliver"),
    },
    "Messages per minute": {
        (outcome, "") for outcome in ("Started", "Parked", "Canceled", "Superseded", "Refused", "Failed")
    },
    "Alarms": "alarm",
    "Lateness in ms, from the date on": "log",
    "Dead letters": {("ApproximateNumberOfMessagesVisible", "InputDeadLetters")},
    "Undelivered": {("ApproximateNumberOfMessagesVisible", "Undelivered")},
    "Oldest input message, seconds": {("ApproximateAgeOfOldestMessage", "InputQueue")},
    "Slowest deliveries": "log",
    "Failed executions": "log",
    "Overdue when found by a sweep, seconds": {("Overdue", "")},
    "Parked events per minute": {("SweepStarts", ""), ("Retries", ""), ("SweepFailures", "")},
    "Sweeps per minute": {("Invocations", "Sweeper")},
    "Function errors": {("Errors", function) for function in ("Ingest", "Sweeper", "Hold")},
    "Throttles": {
        *(("Throttles", function) for function in ("Ingest", "Sweeper", "Hold")),
        ("ExecutionThrottled", "Deliver"),
    },
    "Input messages that SNS could not deliver": {
        ("NumberOfNotificationsFailed", "InputTopic"),
        ("NumberOfNotificationsFailedToRedriveToDlq", "InputTopic"),
    },
}
WITH_PROBE = {"Lateness of the probe in ms": {("Lateness", "")}}


@pytest.mark.parametrize("probe", TEMPLATES)
def test_what_is_shown(probe):
    """The dashboard shows these subjects in this order, each with these metrics, all of which exist."""
    template = TEMPLATES[probe]
    shown = {
        subject(widget): {(line.metric, line.resource) for line in lines(template, widget)}
        if widget["type"] == "metric"
        else widget["type"]
        for widget in widgets(template)
    }
    expected = SHOWN | (WITH_PROBE if probe == "true" else {})
    assert shown == expected
    assert [*shown] == [*expected]


def test_every_metric_of_the_functions_is_shown():
    """No metric is emitted that nobody sees."""
    template = TEMPLATES["true"]
    shown = {line.metric for widget in of_type(template, "metric") for line in lines(template, widget)}
    assert set().union(*emitted().values()) <= shown


def test_every_metric_with_an_alarm_is_shown():
    """Whoever is called by an alarm finds its metric on the dashboard. What failing executions of Sweep leave undone
    is there as overdue events and missing sweeps."""
    template = TEMPLATES["true"]
    shown = {(line.metric, line.resource) for widget in of_type(template, "metric") for line in lines(template, widget)}
    for name, alarm in template.deployed("AWS::CloudWatch::Alarm").items():
        [dimension] = alarm["Dimensions"]
        resource = watched(template, alarm["Namespace"], alarm["MetricName"], dimension["Name"], dimension["Value"])
        assert (alarm["MetricName"], resource) in shown or resource == "Sweep", name


@each_template
def test_every_alarm_is_shown(template):
    """The widget of alarms has each alarm of the stack once."""
    [widget] = of_type(template, "alarm")
    expected = sorted(template.arn(name) for name in template.deployed("AWS::CloudWatch::Alarm"))
    assert sorted(widget["properties"]["alarms"]) == expected
    assert widget["properties"].keys() == {"title", "alarms"}


@each_template
def test_each_title_says_what_is_good(template):
    """Whoever has never seen the dashboard knows from each title whether what it shows is good."""
    for widget in widgets(template):
        assert widget["properties"]["title"].count(". Good: ") == 1


# --- How ------------------------------------------------------------------------------------------------------------


@each_template
def test_metrics_are_read_as_their_titles_say(template):
    """What is per minute is summed over minutes. Left-over messages are single numbers, everything else has a past.
    The stack's Region is named, because a dashboard is shown in all Regions."""
    for widget in of_type(template, "metric"):
        properties, of = widget["properties"], subject(widget)
        assert properties["region"] == REGION
        assert properties["view"] == ("singleValue" if of in ("Dead letters", "Undelivered") else "timeSeries")
        # The probe has one value a minute, which is no percentile.
        assert properties["period"] == (300 if of in WITH_PROBE else 60)
        assert not of.endswith("per minute") or {line.statistic for line in lines(template, widget)} == {"Sum"}
        assert properties.keys() <= {"title", "region", "view", "stat", "period", "metrics"}


def test_lateness_of_the_probe():
    """The probe's lateness is shown as its percentiles and its maximum."""
    template = TEMPLATES["true"]
    [widget] = [widget for widget in widgets(template) if subject(widget) in WITH_PROBE]
    assert [line.statistic for line in lines(template, widget)] == ["p50", "p99", "Maximum"]


@each_template
def test_lines_of_a_widget_can_be_told_apart(template):
    """A line has the name of its metric. Where several lines have the same metric, each has the name of its function
    instead, which is shorter than the physical name that CloudWatch would show."""
    for widget in of_type(template, "metric"):
        drawn = [*lines(template, widget)]
        assert len({(line.label or line.metric, line.statistic) for line in drawn}) == len(drawn)
        for line in drawn:
            if line.resource and [other.metric for other in drawn].count(line.metric) > 1:
                assert line.label == line.resource


def test_labels_of_executions():
    """Executions are labeled with what they mean for an event."""
    template = TEMPLATES["false"]
    labels = {line.metric: line.label for line in lines(template, widgets(template)[0])}
    assert labels == {
        "ExecutionsSucceeded": "delivered, canceled, or parked again",
        "ExecutionsFailed": "failed",
        "ExecutionsTimedOut": "timed out",
    }
    throttles = next(widget for widget in widgets(template) if subject(widget) == "Throttles")
    assert {line.label for line in lines(template, throttles)} == {"Ingest", "Sweeper", "Hold", "Deliver"}


@each_template
def test_widgets_fill_the_grid(template):
    """Widgets do not overlap, leave no gap, and stay within the grid."""
    covered = [
        (x, y)
        for widget in widgets(template)
        for x, y in itertools.product(
            range(widget["x"], widget["x"] + widget["width"]), range(widget["y"], widget["y"] + widget["height"])
        )
    ]
    rows = max(y for _, y in covered) + 1
    assert sorted(covered) == [*itertools.product(range(COLUMNS), range(rows))]
    assert {widget["height"] for widget in widgets(template)} == {3, 6}  # Single values, and what has a past.


def test_dashboard_is_named_after_stack_and_region():
    """Names of dashboards are the account's, not the Region's."""
    name = Template({"AWS::StackName": "a", "AWS::Region": "b"}).properties("OperationDashboard")["DashboardName"]
    assert name == "a-b"


def test_dashboard_is_optional():
    """The parameter Dashboard decides."""
    assert Template(Dashboard="true").exists("OperationDashboard")
    assert not Template(Dashboard="false").exists("OperationDashboard")


# --- Queries ----------------------------------------------------------------------------------------------------------


def query_of(subject_: str) -> dict:
    [properties] = [w["properties"] for w in of_type(TEMPLATES["false"], "log") if subject(w) == subject_]
    return properties


def delivered(name: str, late_ms: int) -> Run:
    return Run(name, 0, status="SUCCEEDED", output={"message_id": "m-1", "late_ms": late_ms})


@each_template
def test_queries_read_the_log_of_deliver(template):
    """Every query is about the executions of Deliver, in this Region."""
    log = template.resolve({"Ref": "DeliverLog"})
    for widget in of_type(template, "log"):
        assert query_source(widget["properties"]["query"]) == log
        assert widget["properties"]["region"] == REGION
        assert widget["properties"].keys() == {"title", "region", "view", "query"}


LATE = [delivered(f"late-{ms}", ms) for ms in (-3, *range(1, 100), 2500)]


def test_lateness_of_deliveries():
    """The 50th and 99th percentile and the longest lateness of what was delivered, in each minute, whatever else the
    executions' log has."""
    assert query_of("Lateness in ms, from the date on")["view"] == "timeSeries"
    query = query_of("Lateness in ms, from the date on")["query"]
    records = [record | {"@timestamp": 60_000} for record in execution_log(LATE)]
    others = execution_log(recording.of_machines()["Deliver"].runs)[1:]
    [row] = run_query(query, [*records, *others, *STATE_RECORDS])
    assert row == {"p50": 50, "p99": 99, "longest": 2500}
    assert len(run_query(query, execution_log(LATE))) == len(LATE)  # A minute apart.


def test_query_reads_what_deliver_writes():
    """The output of a shipped execution has the lateness where the queries look for it."""
    run = recording.of_machines()["Deliver"].runs[0]
    assert run.status == "SUCCEEDED"
    for of in ("Lateness in ms, from the date on", "Slowest deliveries"):
        [row] = run_query(query_of(of)["query"], execution_log([run]))
        assert run.output["late_ms"] in map(float, [value for value in row.values() if not str(value).startswith("a")])


def test_slowest_deliveries():
    """The twenty slowest deliveries, the slowest first, with the execution to look at."""
    assert query_of("Slowest deliveries")["view"] == "table"
    others = execution_log(recording.of_machines()["Deliver"].runs)[1:]
    rows = run_query(query_of("Slowest deliveries")["query"], [*execution_log(LATE), *others, *STATE_RECORDS])
    assert [row["late_ms"] for row in rows] == [str(ms) for ms in (2500, *range(99, 80, -1))]
    assert rows[0].keys() == {"late_ms", "execution_arn"}
    assert "late-2500" in rows[0]["execution_arn"]


def test_failed_executions():
    """The twenty last executions that failed or timed out, the last first, with the reason."""
    assert query_of("Failed executions")["view"] == "table"
    failed = [Run(f"failed-{n}", 0, status="FAILED", error="NotDelivered", cause="gone") for n in range(30)]
    records = execution_log([*LATE, *failed])
    records[-1] |= {"type": "ExecutionTimedOut"}
    delivered_later = execution_log([*LATE, *failed, *LATE])[-len(LATE) :]
    rows = run_query(query_of("Failed executions")["query"], [*records, *delivered_later, *STATE_RECORDS])
    assert [row["execution_arn"] for row in rows] == [record["execution_arn"] for record in records[:-21:-1]]
    assert rows[1].keys() == {"@timestamp", "execution_arn", "details.error", "details.cause"}
    assert rows[1]["details.error"] == "NotDelivered"


def test_namespaces_are_known():
    """Metrics are AWS's or the stack's own."""
    namespaces = {
        metric[0] for widget in of_type(TEMPLATES["true"], "metric") for metric in widget["properties"]["metrics"]
    }
    assert namespaces == {*AWS_METRICS, "Punctual"}
