"""When an alarm is on, by CloudWatch's rules.

docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

import math
import operator
from statistics import mean
from typing import Any

COMPARISONS = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
# The values of a metric that CloudWatch gets in each minute.
type Minutes = list[list[float]]


def minutes_on(alarm: dict[str, Any], minutes: Minutes, more_points: int = 0) -> set[int]:
    """The minutes at whose end an alarm is on.

    `more_points` is how many older data points CloudWatch looks at when some are missing; AWS documents no number.
    """
    assert alarm["Period"] % 60 == 0, "a shorter period is for metrics of high resolution"
    length, count, found, is_on = alarm["Period"] // 60, alarm["EvaluationPeriods"], set(), False
    points: list[float | None] = [None] * (count + more_points)
    for end in range(1, len(minutes) + 1):
        if end % length == 0:
            values = [value for minute in minutes[end - length : end] for value in minute]
            points = [*points[1:], _statistic(alarm, values) if values else None]
            is_on = _is_on(alarm, points, is_on)
        if is_on:
            found.add(end - 1)
    return found


def _statistic(alarm: dict[str, Any], values: list[float]) -> float:
    functions = {"Sum": sum, "Maximum": max, "Minimum": min, "Average": mean, "SampleCount": len}
    if name := alarm.get("Statistic"):
        return functions[name](values)
    rank = math.ceil(float(alarm["ExtendedStatistic"].removeprefix("p")) / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def _is_on(alarm: dict[str, Any], points: list[float | None], was_on: bool) -> bool:
    count = alarm["EvaluationPeriods"]
    existing = [point for point in points if point is not None][-count:]
    breaching = [COMPARISONS[alarm["ComparisonOperator"]](point, alarm["Threshold"]) for point in existing]
    missing = count - len(breaching)
    treatment = alarm.get("TreatMissingData", "missing")
    if missing and (treatment == "ignore" or (not existing and treatment == "missing")):
        return was_on and treatment == "ignore"
    if treatment in ("breaching", "notBreaching"):
        breaching += [treatment == "breaching"] * missing
    return sum(breaching) >= min(alarm.get("DatapointsToAlarm", count), len(breaching))
