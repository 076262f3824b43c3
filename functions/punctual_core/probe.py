"""Function: measures how late an event of the probe was delivered."""

from datetime import datetime
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from .limits import DATE_ATTRIBUTE

metrics = Metrics(namespace="Punctual")


@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> None:
    """Lambda's entry. `event` holds SNS messages; the metric Lateness is the milliseconds from an event's date until
    SNS accepted its delivery, by the clock of SNS."""
    for record in event["Records"]:
        delivered_at = datetime.fromisoformat(record["Sns"]["Timestamp"])
        due = datetime.fromisoformat(record["Sns"]["MessageAttributes"][DATE_ATTRIBUTE]["Value"])
        milliseconds = (delivered_at - due).total_seconds() * 1000
        metrics.add_metric(name="Lateness", unit=MetricUnit.Milliseconds, value=milliseconds)
