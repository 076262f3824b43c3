"""The script that copies restored items back into the tables of a stack."""

import re
import runpy
import sys

import boto3
import pytest
from moto import mock_aws

from tools.cloudformation import REGION, ROOT, Template

SCRIPT = ROOT / "examples/restore.py"


@pytest.fixture
def tables():
    """The stack's tables, and a restored one for each, all empty."""
    with mock_aws():
        dynamodb = boto3.resource("dynamodb", REGION)
        names = {}
        for logical_id in ("Parked", "Register"):
            arguments = Template().table(logical_id)
            names[logical_id] = dynamodb.create_table(**arguments)
            names[f"Restored{logical_id}"] = dynamodb.create_table(**arguments | {"TableName": f"Restored{logical_id}"})
        yield names


@pytest.fixture
def restore(tables, monkeypatch, capsys):
    """Run the script on two tables; the number of items that it says it copied."""

    def run(restored: str, table: str, *earliest: str) -> int:
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        monkeypatch.setattr(sys, "argv", ["restore.py", tables[restored].name, tables[table].name, *earliest])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return int(re.match(r"\d+", capsys.readouterr().out)[0])

    return run


def parked(time: str, lane: str = "lane-03", **fields: object) -> dict[str, object]:
    return {"lane": lane, "sort_key": f"2026-12-24T{time}.000000#m", "execution": "e", "input": "{}", **fields}


def registered(id: str, order: str) -> dict[str, str]:
    return {"id": id, "revision": f"message of {order}", "publication_order": order}


def test_lost_events_come_back_once(tables, restore):
    tables["RestoredParked"].put_item(Item=parked("20:00:00"))
    assert restore("RestoredParked", "Parked") == 1
    assert restore("RestoredParked", "Parked") == 0
    assert tables["Parked"].scan()["Items"] == [parked("20:00:00")]


def test_an_event_that_is_parked_stays_as_it_is(tables, restore):
    tables["RestoredParked"].put_item(Item=parked("20:00:00"))
    tables["Parked"].put_item(Item=parked("20:00:00", retry=1))
    assert restore("RestoredParked", "Parked") == 0
    assert tables["Parked"].scan()["Items"] == [parked("20:00:00", retry=1)]


def test_events_due_before_the_loss_are_left_out(tables, restore):
    for time in ("17:59:59", "18:00:00"):
        tables["RestoredParked"].put_item(Item=parked(time))
    restore("RestoredParked", "Parked", "2026-12-24T18:00:00")
    assert tables["Parked"].scan()["Items"] == [parked("18:00:00")]


def test_leases_and_the_record_of_the_clock_are_left_out(tables, restore):
    """A lease that came back would hold up its lane."""
    tables["RestoredParked"].put_item(Item=parked("20:00:00", lane="lease-of-lane-03"))
    tables["RestoredParked"].put_item(Item=parked("20:00:00", lane="clock"))
    assert restore("RestoredParked", "Parked") == 0


@pytest.mark.parametrize(("restored", "present", "expected"), [("1", None, "1"), ("1", "2", "2"), ("2", "1", "2")])
def test_of_two_items_of_an_id_the_one_published_last_stays(tables, restore, restored, present, expected):
    tables["RestoredRegister"].put_item(Item=registered("order-4711", restored))
    if present:
        tables["Register"].put_item(Item=registered("order-4711", present))
    restore("RestoredRegister", "Register")
    assert tables["Register"].scan()["Items"] == [registered("order-4711", expected)]
