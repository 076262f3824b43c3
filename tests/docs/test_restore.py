"""The script that copies restored items back into the tables of a stack."""

import re
import runpy
import sys

import boto3
import pytest

from tools.cloudformation import REGION, ROOT, Template

SCRIPT = ROOT / "examples/restore.py"


@pytest.fixture
def tables(cloud):
    """The stack's tables, and a restored one for each, all empty."""
    dynamodb = boto3.resource("dynamodb", REGION)
    for name in ("Parked", "Register"):
        dynamodb.create_table(**Template().table(name) | {"TableName": f"Restored{name}"})
    return {table.name: table for table in dynamodb.tables.all()}


def parked(time: str, lane: str = "lane-03", **fields: object) -> dict[str, object]:
    return {"lane": lane, "sort_key": f"2026-12-24T{time}.000000#m", "execution": "e", "input": "{}", **fields}


def registered(order: str) -> dict[str, object]:
    return {"id": "order-4711", "revision": f"message of {order}", "publication_order": order}


AT_SIX, BEFORE_SIX = parked("18:00:00"), parked("17:59:59")
RETRIED = parked("18:00:00", retry=1)
LEASE, CLOCK = parked("18:00:00", lane="lease-of-lane-03"), parked("18:00:00", lane="clock")


@pytest.mark.parametrize(
    ("table", "restored", "present", "earliest", "expected"),
    [
        ("Parked", [AT_SIX], [], [], [AT_SIX]),
        # An event that is parked stays as it is, and one that was due before the loss is left out.
        ("Parked", [AT_SIX], [RETRIED], [], [RETRIED]),
        ("Parked", [AT_SIX, BEFORE_SIX], [], ["2026-12-24T18:00:00"], [AT_SIX]),
        # A lease that came back would hold up its lane.
        ("Parked", [LEASE, CLOCK], [], [], []),
        # Of two items of an id, the one that was published last stays.
        ("Register", [registered("1")], [], [], [registered("1")]),
        ("Register", [registered("1")], [registered("2")], [], [registered("2")]),
        ("Register", [registered("2")], [registered("1")], [], [registered("2")]),
    ],
)
def test_what_was_lost_comes_back_once(tables, monkeypatch, capsys, table, restored, present, earliest, expected):
    """The script says how many items it copied. To run it again changes nothing."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setattr(sys, "argv", ["restore.py", f"Restored{table}", table, *earliest])
    for name, items in (f"Restored{table}", restored), (table, present):
        for item in items:
            tables[name].put_item(Item=item)
    for copied in (len([item for item in expected if item not in present]), 0):
        runpy.run_path(str(SCRIPT), run_name="__main__")
        assert int(re.match(r"\d+", capsys.readouterr().out)[0]) == copied
        assert tables[table].scan()["Items"] == expected
