"""The probe's function: how late a delivery was, as a metric."""

import json

from punctual_core import probe

from tests.conftest import LambdaContext


def delivery(date: str, delivered_at: str) -> dict:
    """An SNS message as Lambda hands it over."""
    attributes = {"scheduler-date": {"Type": "String", "Value": date}}
    return {"Sns": {"Timestamp": delivered_at, "MessageAttributes": attributes, "Message": "probe"}}


def test_lateness_is_measured_from_the_date_to_the_time_at_which_sns_accepted_the_delivery(capsys):
    """In milliseconds, in the namespace and under the service that the alarms watch. SNS may hand over several
    deliveries: each is a value."""
    deliveries = [
        delivery("2026-12-24T10:00:00.250000Z", "2026-12-24T10:00:00.291Z"),
        delivery("2026-12-24T10:00:00Z", "2026-12-24T10:00:01.500Z"),
        delivery("2026-12-24T10:00:00.000500Z", "2026-12-24T10:00:00.001Z"),
    ]
    probe.handler({"Records": deliveries}, LambdaContext())
    metric = json.loads(capsys.readouterr().out)
    assert metric["Lateness"] == [41.0, 1500.0, 0.5]
    assert metric["service"] == "punctual"
    [directive] = metric["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Punctual", [["service"]])
    assert directive["Metrics"] == [{"Name": "Lateness", "Unit": "Milliseconds"}]
