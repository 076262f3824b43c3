"""What one release has written, the next one delivers, cancels, and replaces.

golden/ has one file per release: items of the tables as DynamoDB held them. A release that writes another shape adds a
file; the file of a release is never changed, which its hash shows.
"""

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from punctual_core.clients import client
from punctual_core.lanes import due_of

from tests.conftest import FIFO_TARGET, OWN_FAILURE_TOPIC, TEMPLATE, Start, at, event, sweep, take
from tests.workflows.simulation import Clock, Failed, Machine, Run

GOLDEN = Path(__file__).parent / "golden"
# Until a release is published, its file may change, and its hash here with it.
HASHES = {"0.1.0": "dadfa12361fcc8ea5585254739416dca9761db5db1140f7e90502e2da3599f3d"}
RELEASES = {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json"))}
PARKED = {f"{name}, {shape}": item for name, items in RELEASES.items() for shape, item in items["parked"].items()}
REGISTERED = {f"{name}, {shape}": item for name, items in RELEASES.items() for shape, item in items["register"].items()}
NEWEST = RELEASES[max(RELEASES)]
# What the shapes of the newest release were made of, but for `retry`, which Deliver parks.
MESSAGES = {
    "whole second": event("2026-12-24T10:00:00Z"),
    "fraction": event("2026-12-24T11:00:00.250+01:00", payload="größer"),
    "fifo": event("2026-12-24T10:00:00Z", target=FIFO_TARGET, message_group_id="orders"),
    "named": event(
        "2026-12-24T10:00:00Z",
        id="order-4711",
        subject="Order 4711",
        attributes={"color": "red", "price": 10, "tags": ["a", "b"]},
        failure_topic=OWN_FAILURE_TOPIC,
    ),
}
CLAIMS = {
    "parked": MESSAGES["named"],
    "started": event("2026-12-24T09:00:05Z", id="order-4711"),
    "canceled": {"cancel": "order-4711"},
}
REVISION = "5fa2c1b0-63a7-5d2e-9e1f-0d8c54c1a703"


def put(table: str, item: dict) -> None:
    client("dynamodb").put_item(TableName=TEMPLATE.table(table)["TableName"], Item=item)


def as_items(attributes: dict[str, str]) -> dict:
    return {name: {"NULL": True} if value is True else {"S": value} for name, value in attributes.items()}


def test_the_file_of_a_release_is_never_changed():
    """And no file is missing."""
    files = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in GOLDEN.iterdir()}
    assert files == HASHES


@pytest.mark.parametrize("shape", MESSAGES)
def test_today_the_newest_shapes_are_parked(cloud, shape):
    """Whoever changes what is parked adds a file for the next release."""
    item = NEWEST["parked"][shape]
    take(MESSAGES[shape], at("09:00"), message_id=json.loads(item["input"]["S"])["revision"])
    (parked,) = cloud.parked()
    assert as_items(parked) == item


@pytest.mark.parametrize("shape", CLAIMS)
def test_today_the_newest_shapes_are_registered(cloud, shape):
    """Whoever changes what is registered adds a file, too."""
    take(CLAIMS[shape], at("09:00"), message_id=REVISION)
    item = cloud.register()["order-4711"]
    assert as_items(item) | {"expires_at": {"N": item["expires_at"]}} == NEWEST["register"][shape]


@pytest.mark.parametrize("shape", PARKED)
def test_an_event_that_any_release_parked_is_started_unchanged(cloud, shape):
    """Today's code finds it in its lane, starts it under its name with its input, and removes it."""
    item = PARKED[shape]
    put("Parked", item)
    due = due_of(item["sort_key"]["S"])
    assert sweep(due - timedelta(minutes=1)).started == 0
    assert sweep(due).started == 1
    assert cloud.starts == [Start(item["execution"]["S"], json.loads(item["input"]["S"]))]
    assert not cloud.parked()


def execute(input: dict, answers: dict[str, Any]) -> list[tuple[str, float, Any]]:
    """Run today's Deliver: each task's name, when it was called, and with what. An answer may be an error."""
    calls = []
    clock = Clock(at("09:59:52").timestamp())

    def call(state: str, arguments: Any) -> tuple[Any, float]:
        calls.append((state, clock.now, arguments))
        if isinstance(answer := answers.get(state, {"MessageId": "m-1"}), Failed):
            raise answer
        return answer, 0.02

    clock.start(Machine(TEMPLATE.definition("Deliver"), clock, call).execute(Run("name", clock.now), input))
    clock.run(clock.now + 60)
    return calls


@pytest.mark.parametrize("shape", PARKED)
def test_an_input_of_any_release_is_delivered_or_reported_by_todays_workflow(shape):
    """When it is due, with the arguments that it carries; or else to its failure topic, as received."""
    input = json.loads(PARKED[shape]["input"]["S"])
    [(_, published_at, arguments)] = [each for each in execute(input, {}) if each[0] == "Publish"]
    assert arguments == input["publish"]
    assert 0 <= published_at - input["due_ms"] / 1000 < 1
    *_, (_, _, report) = execute(input, {"Publish": Failed("SNS.NotFoundException")})
    assert report["TopicArn"] == input["event"].get("failure_topic") or "failure_topic" not in input["event"]
    assert report["Message"]["event"] == input["event"] | {"payload": input["publish"]["Message"]}


@pytest.mark.parametrize("shape", REGISTERED)
def test_an_id_that_any_release_registered_can_be_canceled_and_not_by_an_older_message(cloud, shape):
    """The event leaves its lane, and an execution that looks it up finds itself superseded."""
    item, parked = REGISTERED[shape], NEWEST["parked"]["named"]
    put("Register", item)
    put("Parked", parked)
    assert take({"cancel": "order-4711"}, at("09:10"), at("08:59")) == "Superseded"
    assert take({"cancel": "order-4711"}, at("09:10"), at("09:01")) == "Canceled"
    assert len(cloud.parked()) == ("S" not in item["parked"])
    assert cloud.register()["order-4711"]["revision"] != REVISION


@pytest.mark.parametrize("shape", REGISTERED)
def test_the_register_of_any_release_is_read_by_todays_workflow(shape):
    """Its own revision is delivered, another one is not."""
    input = json.loads(NEWEST["parked"]["named"]["input"]["S"])
    found = {"LookUpRevision": {"Item": {"revision": REGISTERED[shape]["revision"]}}}
    assert "Publish" in [state for state, *_ in execute(input, found)]
    assert "Publish" not in [state for state, *_ in execute(input | {"revision": "another"}, found)]
