"""When an event is tried again, on a simulated clock: retries grow with the duration of a fault, never with themselves.

Slot `k` of an event is the time of its retry `k`. Every execution of the event computes the same slots.
"""

import json

import pytest
from punctual_core.lanes import due_of, lane_of, sort_key

from tests.workflows.world import (
    CALL_SECONDS,
    DUE,
    HORIZON,
    HOUR,
    INTERVAL_SECONDS,
    MINUTE,
    NO_PAUSES,
    PERMANENT,
    SNS,
    SQS,
    TRANSIENT,
    UNIT_SECONDS,
    World,
    event,
    outage,
)

# The retry `k` is so many units after the base.
UNITS = [1, 3, 7, 15, 31, *range(61, 100_000, 30)]
LEAST_AHEAD_SECONDS = 10
DAY = 24 * HOUR


def slots_until(seconds: float) -> int:
    """How many slots are at most so many seconds after the base."""
    return sum(units * UNIT_SECONDS <= seconds for units in UNITS)


def parked_by(world: World) -> tuple[dict, float]:
    """What the first execution parks, and for how many seconds after the base (the due time, if nothing else is)."""
    world.run_first()
    [item] = world.parked.values()
    return item, (due_of(item["sort_key"]) - DUE).total_seconds()


def past(hours: int) -> dict:
    """Of an event whose date had passed for so long when it was accepted: the changes to its world."""
    return {"accepted_ms": int(1000 * (DUE.timestamp() + hours * HOUR)), "lead": -hours * HOUR} if hours else {}


# --- The slots --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [*range(1, 8), 40])
def test_slot_that_is_chosen(number):
    """An event is parked for its first slot that is at least 10 s ahead; the retry is that slot's number."""
    slot = UNITS[number - 1] * UNIT_SECONDS
    for ahead, expected in ((LEAST_AHEAD_SECONDS + 0.5, number), (LEAST_AHEAD_SECONDS - 0.5, number + 1)):
        # Started that long before the slot, an execution without pauses takes 0.2 s until it chooses.
        item, at = parked_by(World(event(), outage({"Publish"}, until=DAY), NO_PAUSES, lead=ahead - slot))
        assert item["retry"] == str(expected)
        assert at == pytest.approx(UNITS[expected - 1] * UNIT_SECONDS, abs=0.001)


@pytest.mark.parametrize(
    ("revision", "unit"),
    [("99f9-a", 29.985), ("abc5", 22.5), ("12345678-1234-1234-1234-123456789012", 16.845), ("only-letters", 15)],
)
def test_unit(revision, unit):
    """A unit is 15 to 30 s, by the first three digits of the revision: throttled events do not all return at once."""
    _, at = parked_by(World(event(revision=revision), outage({"Publish"}, until=DAY)))
    assert at == pytest.approx(unit, abs=0.001)


@pytest.mark.parametrize("retry", [1, 2, 5, 6, 40])
def test_slot_is_later_than_that_of_the_execution(retry):
    """An execution that a sweep has started before its slot parks the event for the next one. Its own item may be
    deleted after that, because a sweep starts first and then deletes."""
    slot = UNITS[retry - 1] * UNIT_SECONDS
    item, at = parked_by(World(event(), outage({"Publish"}, until=DAY), lead=63 - slot, retry=retry))
    assert item["retry"] == str(retry + 1)
    assert at == pytest.approx(UNITS[retry] * UNIT_SECONDS, abs=0.001)


def test_events_of_the_past_have_their_day():
    """For an event whose date was past when it was accepted, slots and the day count from then."""
    item, at = parked_by(World(event(), outage({"Publish"}, until=1000 * HOUR), **past(hours=100)))
    assert (item["retry"], at) == ("1", pytest.approx(100 * HOUR + UNIT_SECONDS, abs=0.001))


@pytest.mark.parametrize("fails", [SNS, {*SNS, *SQS}], ids=["again", "unreported"])
@pytest.mark.parametrize("fields", [{}, {"id": "order-4711"}, {"id": "a-" * 32}], ids=["unnamed", "named", "long"])
@pytest.mark.parametrize("retry", [1, 998])
def test_parked_item(fails, fields, retry):
    """What is parked has the lane, the sort key and the shape of an item that Ingest parks, and the retry."""
    first = event(**fields)
    error = outage(fails, until=1000 * HOUR, error=TRANSIENT if fails == SNS else PERMANENT)
    world = World(first, error, retry=retry)
    run = world.run_first()
    [item] = world.parked.values()
    assert item == {
        "lane": lane_of(first.id),
        "sort_key": sort_key(due_of(item["sort_key"]), first.revision),
        "execution": f"{first.execution_name}-r{retry + 1}",
        "input": item["input"],
        "retry": str(retry + 1),
    }
    assert json.loads(item["input"]) == json.loads(first.input) | {"retry": retry + 1}
    assert len(item["execution"]) <= 80
    if fails == SNS:
        retry_at = f"{due_of(item['sort_key']):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
        problem = f"not delivered: {TRANSIENT}: simulated"
        assert run.output == {"retry_at": retry_at, "retry": retry + 1, "problem": problem}


# --- Outages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2 * MINUTE, 3 * HOUR], ids=["1 s", "2 minutes", "3 hours"])
@pytest.mark.parametrize("error", [TRANSIENT, "States.Timeout"])
def test_event_is_delivered_after_an_outage_of_sns(length, error):
    """It is delivered once, at most 15 minutes after SNS recovers, and never reported. On the way it has at most one
    execution per slot, each with a name of its own."""
    world = World(event(), outage(SNS, until=length, error=error), 1)
    world.run(5 * HOUR)
    [delivered] = world.delivered
    assert length <= delivered < length + 15 * MINUTE + INTERVAL_SECONDS + 20
    assert world.reported == [] and world.parked == {}
    assert len(world.runs) <= slots_until(delivered + HORIZON.total_seconds()) + 1
    assert len({run.name for run in world.runs}) == len(world.runs)
    assert world.runs[-1].output["late_ms"] == pytest.approx(1000 * (delivered + CALL_SECONDS), abs=2)


@pytest.mark.parametrize(
    ("of", "told", "past_hours"),
    [({"Publish"}, "FailureTopic", 0), (SNS, "Undelivered", 100)],
    ids=["the target fails", "SNS fails, for an event of the past"],
)
def test_event_is_reported_after_24_hours(of, told, past_hours):
    """An event is retried for a day from its due time, or from when it was accepted, and then reported once."""
    since = past_hours * HOUR
    world = World(event(), outage(of, until=since + 25 * HOUR), **past(past_hours))
    world.run(since + 26 * HOUR)
    [(where, reported)] = world.reported
    assert where.endswith(told)
    assert DAY < reported - since < DAY + 16 * MINUTE
    assert world.delivered == [] and world.parked == {}
    assert [run.error for run in world.runs] == [None] * (len(world.runs) - 1) + ["NotDelivered"]
    assert len(world.runs) <= slots_until(DAY) + 2


def test_cancel_holds_during_an_outage():
    """An event that is canceled while it waits for its next retry is neither delivered nor reported."""
    world = World(event(id="order-4711"), outage(SNS, until=30 * MINUTE))
    world.run(20 * MINUTE)
    world.registered = "another revision"
    world.run(2 * HOUR)
    assert world.delivered == world.reported == [] and world.parked == {}
    assert world.runs[-1].path[-1] == "Superseded"


# --- Repeated executions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [0, 1, 4, 9])
def test_repeated_executions_park_one_item(retry):
    """Executions of the same retry that run some seconds apart park the same item, with one key."""
    started = UNITS[retry - 1] * UNIT_SECONDS if retry else 0
    changes = {"retry": retry} if retry else {}
    items = [
        parked_by(World(event(), outage({"Publish"}, until=DAY), seed, lead=-started - later, **changes))[0]
        for seed, later in enumerate((-3, -1, 0, 0.5, 2))
    ]
    assert items == [items[0]] * 5


@pytest.mark.parametrize(
    ("minutes", "of"),
    [(2, SNS), (2, {*SNS, *SQS}), (10, SNS)],
    ids=["2 minutes", "2 minutes, unreported", "10 minutes"],
)
def test_parked_items_never_multiply(minutes, of):
    """While SNS fails, and the Sweeper can delete nothing, every sweep starts the event's items anew: each slot has one
    item, so there are at most as many as slots, and the event is started at most once per slot and sweep."""
    fault = minutes * MINUTE
    world = World(event(), outage(of, until=fault), 1, deletes=lambda seconds: seconds >= fault)
    world.run(fault)
    # The last slot is the first one that is still ahead when the fault ends.
    slots = slots_until(fault) + 1
    assert len(world.keys) <= slots
    sweeps = fault / INTERVAL_SECONDS + 2
    assert len(world.runs) <= sweeps * slots
    world.run(fault + HOUR)
    assert world.delivered and world.parked == {}
    # What was started in the last seconds of the fault, and the items that were left.
    assert len(world.delivered) <= 5 * slots
