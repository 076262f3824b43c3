"""What a drill publishes."""

from datetime import UTC, datetime, timedelta

import pytest

from tools.drills.scenes import WITHDRAWAL_SECONDS, mix_of

NOW = datetime(2026, 12, 24, 18, 0, 0, tzinfo=UTC)
HORIZON_SECONDS = 9
MIX = mix_of("drill", 200, NOW, HORIZON_SECONDS, "target", "target.fifo", "failures")


def due_of(event: dict) -> datetime:
    return datetime.fromisoformat(event["date"])


def test_there_are_as_many_events_as_asked_for_and_one_replacement_in_ten():
    assert (len(MIX.events), len(MIX.canceled), len(MIX.replacements)) == (200, 20, 20)


def test_every_event_has_a_payload_of_its_own():
    assert len({event["payload"] for event in [*MIX.events, *MIX.replacements]}) == 220


@pytest.mark.parametrize("kind", ["fraction", "whole second", "id", "no id", "FIFO", "standard", "failure topic"])
@pytest.mark.parametrize("is_parked", [True, False], ids=["parked", "due soon"])
def test_every_kind_of_event_is_among_the_parked_ones_and_those_due_soon(is_parked, kind):
    events = [event for event in MIX.events if (due_of(event) > NOW + timedelta(seconds=HORIZON_SECONDS)) == is_parked]
    assert {
        "fraction": any(due_of(event).microsecond for event in events),
        "whole second": any(not due_of(event).microsecond for event in events),
        "id": any("id" in event for event in events),
        "no id": any("id" not in event for event in events),
        "FIFO": any(event["target"] == "target.fifo" for event in events),
        "standard": any(event["target"] == "target" for event in events),
        "failure topic": any("failure_topic" in event for event in events),
    }[kind]


def test_withdrawn_events_leave_time_for_their_cancel_or_replacement():
    due = {event["payload"]: due_of(event) for event in MIX.events}
    assert min(due[key] for key in MIX.withdrawn) >= NOW + timedelta(seconds=HORIZON_SECONDS + WITHDRAWAL_SECONDS)


def test_a_replacement_differs_from_what_it_replaces_by_its_payload():
    events = {event["payload"]: event for event in MIX.events}
    for replacement in MIX.replacements:
        replaced = events[replacement["id"]]
        assert replacement == replaced | {"payload": f"{replaced['payload']}-replaced"}
