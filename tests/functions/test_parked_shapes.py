"""Events parked by one release are delivered by the next.

parked_items.json keeps one item of every shape that has ever been released, as DynamoDB held it. A release that parks
another shape adds to the file; nothing in it is ever changed or removed.
"""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from punctual_core.clients import client
from punctual_core.lanes import due_of

from tests.conftest import FIFO_TARGET, OWN_FAILURE_TOPIC, TEMPLATE, Start, at, event, sweep, take

ITEMS = json.loads((Path(__file__).parent / "parked_items.json").read_text())
# What the shapes of the present release were parked from.
MESSAGES = {
    "whole second": event("2026-12-24T10:00:00Z"),
    "fraction": event("2026-12-24T11:00:00.250+01:00", payload="größer"),
    "fifo": event("2026-12-24T10:00:00Z", target=FIFO_TARGET, message_group_id="orders"),
    "named": event(
        "2026-12-24T10:00:00Z",
        id="order-4711",
        subject="Order 4711",
        attributes={"color": "red"},
        failure_topic=OWN_FAILURE_TOPIC,
    ),
}


@pytest.mark.parametrize("shape", ITEMS)
def test_an_item_of_any_release_is_started_unchanged(cloud, shape):
    """Today's code finds it in its lane, starts it under its name with its input, and removes it."""
    item = ITEMS[shape]
    client("dynamodb").put_item(TableName=TEMPLATE.table("Parked")["TableName"], Item=item)
    due = due_of(item["sort_key"]["S"])
    assert sweep(due - timedelta(minutes=1)).started == 0
    assert sweep(due).started == 1
    assert cloud.starts == [Start(item["execution"]["S"], json.loads(item["input"]["S"]))]
    assert not cloud.parked()


@pytest.mark.parametrize("shape", ITEMS)
def test_an_item_of_any_release_has_what_todays_deliver_reads(shape):
    """Every field that Deliver takes from its input is there, except those whose existence it checks."""
    definition = TEMPLATE.definition("Deliver")
    read = set(re.findall(r"Execution\.Input\.(\w+)", definition))
    asked_for = set(re.findall(r"\$exists\(\$states\.context\.Execution\.Input\.(\w+)\)", definition))
    assert {"cutoff_at", "due_rounded_up_at", "publish", "event"} <= read and "wake_at" in asked_for
    assert read - asked_for <= json.loads(ITEMS[shape]["input"]["S"]).keys()


@pytest.mark.parametrize("shape", MESSAGES)
def test_todays_release_parks_no_shape_that_is_not_in_the_file(cloud, shape):
    """Whoever changes what is parked adds the new shape to the file, beside the old one."""
    take(MESSAGES[shape], at("09:00"), message_id=json.loads(ITEMS[shape]["input"]["S"])["revision"])
    (parked,) = cloud.parked()
    assert {name: {"S": value} for name, value in parked.items()} == ITEMS[shape]
