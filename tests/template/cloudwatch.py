"""When an alarm is on, by CloudWatch's rules.

docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

import math
import operator
from typing import Any

# Those that the alarms use: another one fails.
COMPARISONS = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}
STATISTICS = {"Sum": sum, "Maximum": max, "SampleCount": len}
# The values of a metric that CloudWatch gets in each minute.
type Minutes = list[list[float]]


def minutes_on(alarm: dict[str, Any], minutes: Minutes) -> set[int]:
    """The minutes at whose end an alarm is on."""
    assert alarm["Period"] % 60 == 0, "a shorter period is for metrics of high resolution"
    length, found, points = alarm["Period"] // 60, set(), [None] * alarm["EvaluationPeriods"]
    for end in range(1, len(minutes) + 1):
        if end % length == 0:
            values = [value for minute in minutes[end - length : end] for value in minute]
            points = [*points[1:], _statistic(alarm, values) if values else None]
        if sum(_is_breaching(alarm, point) for point in points) >= alarm.get("DatapointsToAlarm", len(points)):
            found.add(end - 1)
    return found


def _statistic(alarm: dict[str, Any], values: list[float]) -> float:
    if name := alarm.get("Statistic"):
        return STATISTICS[name](values)
    rank = math.ceil(float(alarm["ExtendedStatistic"].removeprefix("p")) / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def _is_breaching(alarm: dict[str, Any], point: float | None) -> bool:
    if point is not None:
        return COMPARISONS[alarm["ComparisonOperator"]](point, alarm["Threshold"])
    treatment = alarm["TreatMissingData"]
    assert treatment in ("breaching", "notBreaching"), "an alarm must not stay as it is when nothing is measured"
    return treatment == "breaching"
