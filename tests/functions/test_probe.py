"""The probe's function: how late a delivery was, as a metric."""

import json

import pytest
from punctual_core import probe

from tests.conftest import LambdaContext


def delivery(date: str, delivered_at: str) -> dict:
    """An SNS message as Lambda hands it over."""
    attributes = {"scheduler-date": {"Type": "String", "Value": date}}
    return {"Sns": {"Timestamp": delivered_at, "MessageAttributes": attributes, "Message": "probe"}}


@pytest.mark.parametrize(
    ("date", "delivered_at", "milliseconds"),
    [
        ("2026-12-24T10:00:00.250000Z", "2026-12-24T10:00:00.291Z", 41.0),
        ("2026-12-24T10:00:00Z", "2026-12-24T10:00:01.500Z", 1500.0),
        ("2026-12-24T10:00:00.000500Z", "2026-12-24T10:00:00.001Z", 0.5),
    ],
)
def test_lateness_is_measured_from_the_date_to_the_time_at_which_sns_accepted_the_delivery(
    date, delivered_at, milliseconds, capsys
):
    """In milliseconds, in the namespace and under the service that the alarms watch."""
    probe.handler({"Records": [delivery(date, delivered_at)]}, LambdaContext())
    metric = json.loads(capsys.readouterr().out)
    assert metric["Lateness"] == [milliseconds]
    assert metric["service"] == "punctual"
    [directive] = metric["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Punctual", [["service"]])
    assert directive["Metrics"] == [{"Name": "Lateness", "Unit": "Milliseconds"}]


def test_each_delivery_is_a_value(capsys):
    """SNS may hand over several."""
    records = [delivery("2026-12-24T10:00:00Z", f"2026-12-24T10:00:00.{ms:03}Z") for ms in (10, 20)]
    probe.handler({"Records": records}, LambdaContext())
    assert json.loads(capsys.readouterr().out)["Lateness"] == [10.0, 20.0]
