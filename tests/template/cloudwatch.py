"""CloudWatch as the alarms and the dashboard use it: which metrics there are, and when an alarm is on."""

import math
from dataclasses import dataclass
from functools import cache
from statistics import mean
from typing import Any

from tests.template import recording
from tools.cloudformation import Template

# --- Metrics ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metrics:
    """Metrics of a namespace: by which dimension they are kept, the type of resource that it names, and the statistics
    that are meaningful for each."""

    dimension: str
    resource: str
    statistics: dict[str, set[str]]


COUNT, GAUGE = {"Sum"}, {"Maximum"}
# The metrics of AWS that this stack uses, with their statistics as AWS recommends them.
AWS_METRICS = {
    # docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    "AWS/SQS": Metrics(
        "QueueName",
        "AWS::SQS::Queue",
        {"ApproximateNumberOfMessagesVisible": GAUGE, "ApproximateAgeOfOldestMessage": GAUGE},
    ),
    # docs.aws.amazon.com/sns/latest/dg/sns-monitoring-using-cloudwatch.html
    "AWS/SNS": Metrics(
        "TopicName",
        "AWS::SNS::Topic",
        {"NumberOfNotificationsFailed": COUNT, "NumberOfNotificationsFailedToRedriveToDlq": COUNT},
    ),
    # docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html
    "AWS/States": Metrics(
        "StateMachineArn",
        "AWS::Serverless::StateMachine",
        dict.fromkeys(("ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionThrottled"), COUNT),
    ),
    # docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    "AWS/Lambda": Metrics(
        "FunctionName", "AWS::Serverless::Function", dict.fromkeys(("Errors", "Throttles", "Invocations"), COUNT)
    ),
}


# With everything that may be deployed.
TEMPLATE = Template(Probe="true")


@cache
def emitted() -> dict[str, set[str]]:
    """The metrics that the functions emit, by function, as they print them for CloudWatch."""
    names: dict[str, set[str]] = {}
    for function, recorded in recording.of_functions().items():
        for line in recorded.metrics:
            for directive in line["_aws"]["CloudWatchMetrics"]:
                assert directive["Namespace"] == "Punctual"
                assert directive["Dimensions"] == [["service"]]
                assert line["service"] == TEMPLATE.environment(function)["POWERTOOLS_SERVICE_NAME"]
                names.setdefault(function, set()).update(metric["Name"] for metric in directive["Metrics"])
    return names


# Of our own metrics: seconds or milliseconds, of which the largest counts; the others are counts.
OWN_GAUGES = {"Overdue": {"Maximum"}, "Lateness": {"Maximum", "SampleCount", "p50", "p99"}}


def watched(template: Template, namespace: str, metric: str, dimension: str, value: str) -> str:
    """The logical id of the resource that a metric is about, or "" for a metric of our own. Fails if the stack has no
    such metric."""
    if namespace == "Punctual":
        existing = {function for function in emitted() if template.exists(function)}
        assert metric in set().union(*(emitted()[function] for function in existing)), metric
        assert (dimension, value) == ("service", template.resolve({"Ref": "AWS::StackName"}))
        return ""
    metrics = AWS_METRICS[namespace]
    assert metric in metrics.statistics, metric
    assert dimension == metrics.dimension
    attribute = {"QueueName": "QueueName", "TopicName": "TopicName"}.get(dimension, "Ref")
    names = {template.resolve(_reference(name, attribute)): name for name in template.deployed(metrics.resource)}
    assert value in names, f"{value} is no {metrics.resource}"
    return names[value]


def statistics_of(namespace: str, metric: str) -> set[str]:
    """The statistics that are meaningful for a metric."""
    if namespace == "Punctual":
        return OWN_GAUGES.get(metric, COUNT)
    return AWS_METRICS[namespace].statistics[metric]


def _reference(name: str, attribute: str) -> dict:
    return {"Ref": name} if attribute == "Ref" else {"Fn::GetAtt": [name, attribute]}


# --- Alarms -----------------------------------------------------------------------------------------------------------

OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
BREACHES = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}

# The values of a metric that CloudWatch gets in each minute.
type Minutes = list[list[float]]


def states(alarm: dict[str, Any], minutes: Minutes, more_points: int = 0) -> list[str]:
    """The state of an alarm at the end of each minute, by the rules for missing data.

    `more_points` is how many older data points CloudWatch looks at when some are missing; AWS documents no number.
    (docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html)
    """
    # A period is one of 10 or 30 seconds, or a multiple of 60.
    period, state, found = alarm["Period"], OK, []
    points: list[float | None] = []
    for minute in range(1, len(minutes) + 1):
        if period < 60:
            points += [_point(alarm, minutes[minute - 1]), *[None] * (60 // period - 1)]
        elif 60 * minute % period == 0:
            values = [value for each in minutes[minute - period // 60 : minute] for value in each]
            points.append(_point(alarm, values))
        if points:
            state = _state(alarm, points, state, more_points)
        found.append(state)
    return found


def _point(alarm: dict[str, Any], values: list[float]) -> float | None:
    if not values:
        return None
    match alarm.get("Statistic") or alarm["ExtendedStatistic"]:
        case "Sum":
            return sum(values)
        case "Maximum":
            return max(values)
        case "Minimum":
            return min(values)
        case "Average":
            return mean(values)
        case "SampleCount":
            return len(values)
        case str(name):
            return percentile(values, float(name.removeprefix("p")))


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that so many percent of the values do not exceed."""
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def _state(alarm: dict[str, Any], points: list[float | None], state: str, more_points: int) -> str:
    count = alarm["EvaluationPeriods"]
    needed = alarm.get("DatapointsToAlarm", count)
    # Before the first point there was none either.
    padded = [None] * (count + more_points) + points
    existing = [point for point in padded[-(count + more_points) :] if point is not None]
    breaches = BREACHES[alarm["ComparisonOperator"]]
    breaching = [breaches(point, alarm["Threshold"]) for point in existing[-count:]]
    missing = count - len(breaching)
    match alarm.get("TreatMissingData", "missing"):
        case "breaching":
            breaching += [True] * missing
        case "notBreaching":
            breaching += [False] * missing
        case "ignore" if missing:
            return state
        case "missing" if not existing:
            return INSUFFICIENT_DATA
    return ALARM if sum(breaching) >= min(needed, len(breaching)) else OK
