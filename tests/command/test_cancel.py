"""`cancel` by id and by selection, and `reschedule`: published first, and then the truth about what was found."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest

from punctual import parked
from tests.command.conftest import NOW, TARGET, Result, ago, ended, refusal, started

HOUR = timedelta(hours=1)
WAS_PARKED = "order-4711: canceled; it was parked, due at 2026-12-24 10:00:00.000 UTC.\n"


@pytest.mark.parametrize(("first", "then"), [("Publish", "GetItem"), ("GetItem", "Publish")])
def test_neither_the_cancel_nor_the_look_for_its_event_waits_for_the_other(punctual, tables, log, stack, first, then):
    """A look may take long; after the cancel has been processed it would find nothing but the cancel."""
    tables.park(NOW + HOUR, id="order-4711")
    is_done = threading.Event()

    def answer_first(call, _):
        is_done.set()
        return call()

    def answer_then(call, _):
        assert is_done.wait(10)
        return call()

    stack.answers |= {first: answer_first, then: answer_then}
    assert punctual("cancel", "order-4711").output == WAS_PARKED
    assert stack.received() == ['{"cancel": "order-4711"}']


def test_an_event_that_the_cancel_has_just_taken_from_its_lane_was_parked(punctual, tables, log, stack):
    """The register was read before Ingest had the cancel, the lane after that."""
    tables.park(NOW + HOUR, id="order-4711")

    def register_then_ingest(call, parameters):
        answer = call()
        if "id" in parameters["Key"]:
            tables.unpark()
        return answer

    stack.answers["GetItem"] = register_then_ingest
    assert punctual("cancel", "order-4711").output == WAS_PARKED


def test_a_cancel_says_whether_it_may_be_too_late(punctual, tables, log):
    """By the clock of this machine: within two seconds of the due time it may be, after a delivery it is."""
    for id, seconds in (("near", 1.5), ("far", 60)):
        log.write(f"{id}-00000000", started(id, 3, due_ms=int(ago(-seconds).timestamp() * 1000)))
    log.write("order-4711-00000000", started("order-4711", 6), ended({"message_id": "m", "late_ms": 1}, 1))
    near, far, delivered = punctual("cancel", "near", "far", "order-4711").output.splitlines()
    assert near.endswith("less than two seconds after the cancel, so it may be delivered all the same.")
    assert far.startswith("far: canceled; it was waiting, due at ") and "all the same" not in far
    assert delivered.startswith("order-4711: too late: delivered at ")


def test_a_cancel_of_an_unknown_event_is_published_and_fails(punctual, tables, log, stack):
    """It may be on its way, or a typo."""
    sentence = "no such event found: the cancel is published, in case the event is on its way"
    assert punctual("cancel", "typo") == Result(1, f"typo: {sentence}.\n", "punctual: no such event found: typo\n")
    assert stack.received() == ['{"cancel": "typo"}']


@pytest.mark.parametrize("operation", ["GetItem", "Query", "FilterLogEvents", "a lane of any length"])
def test_a_failed_look_up_is_a_note(punctual, tables, log, stack, operation, monkeypatch):
    """The cancel is published, which is what was asked for. An unnamed event's lane is a sixteenth of the table."""
    stack.refuse(operation, "ThrottlingException", "slow")
    if operation == "a lane of any length":
        stack.answers["Query"] = lambda call, _: call() | {"LastEvaluatedKey": {"lane": {"S": "x"}}}
        monkeypatch.setattr("punctual.cancel.LOOK_UP_SECONDS", -1)
    result = punctual("cancel", "order-4711")
    reason = "is too long to be read to its end" if "lane" in operation else "failed: ThrottlingException: slow"
    assert result.code == 0 and "order-4711: canceled, if there is such an event; " in result.output
    assert reason in result.output
    assert stack.received() == ['{"cancel": "order-4711"}']


def test_a_cancel_that_is_not_published_says_so_and_the_others_are_once_each(punctual, tables, log, stack):
    """With exit code 1; as JSON, what was found of each."""

    def refuse_a(call, parameters):
        if '"a"' in parameters["Message"]:
            raise refusal("Publish", "Throttling", "slow")
        return call()

    stack.answers["Publish"] = refuse_a
    tables.park(NOW + HOUR, id="b")
    tables.park(NOW + HOUR, id="c")
    result = punctual("cancel", "a", "b", "c", "b", "--json")
    assert result.code == 1 and '"a is not canceled: Publish failed: Throttling: slow"' in result.error
    sentence, due = "canceled; it was parked, due at 2026-12-24 10:00:00.000 UTC", "2026-12-24T10:00:00+00:00"
    found = {"found": "parked", "sentence": sentence, "due": due, "too_late": False}
    assert json.loads(result.output) == [{"id": "b"} | found, {"id": "c"} | found]
    assert stack.received() == ['{"cancel": "b"}', '{"cancel": "c"}']


# --- Selected events --------------------------------------------------------------------------------------------------


@pytest.fixture
def crowd(tables):
    """Five events: by number, user, and hour. An unnamed one of team-9 was canceled, and stays in its lane."""
    for n in range(5):
        tables.park(NOW + (n + 1) * HOUR, id=f"{'ab'[n % 2]}-{n}", number=n, user=f"team-{n // 3}")
    tables.cancel(tables.park(NOW + 9 * HOUR, number=9, user="team-9"))
    return tables


@pytest.mark.parametrize(
    ("options", "numbers"), [(["--user", "team-0", "--after", "2026-12-24T11:00Z"], [1, 2]), (["--user", "team-9"], [])]
)
def test_the_selected_events_are_canceled_and_no_other(punctual, crowd, stack, options, numbers):
    """What is canceled already is not canceled again: a repeated run would find it."""
    result = punctual("cancel", *options, "--yes", "--json")
    summary = {"canceled": len(numbers), "selected": len(numbers), "failed": 0, "too_late": []}
    assert (result.code, json.loads(result.output)) == (0, summary)
    assert sorted(stack.received()) == sorted(f'{{"cancel": "{"ab"[n % 2]}-{n}"}}' for n in numbers)


def test_a_dry_run_lists_and_cancels_nothing(punctual, crowd, log, stack):
    result = punctual("cancel", "--user", "team-0", "--dry-run")
    assert [line.split()[2] for line in result.output.splitlines()[1:]] == ["a-0", "b-1", "a-2"]
    assert result.error == "3 events selected.\n"
    dry = json.loads(punctual("cancel", "--user", "team-0", "--dry-run", "--json").output)
    assert [event["id"] for event in dry] == ["a-0", "b-1", "a-2"]
    assert "parked until" in punctual("cancel", "a-0", "--dry-run").output
    [of_id] = json.loads(punctual("cancel", "a-0", "--dry-run", "--json").output)
    assert (of_id["id"], of_id["verdict"]) == ("a-0", "parked")
    assert stack.received() == []


@pytest.mark.parametrize(("answer", "code", "published"), [(True, 0, 3), (False, 130, 0)])
def test_the_count_is_to_be_confirmed(punctual, crowd, stack, monkeypatch, answer, code, published):
    """Where nobody can be asked, nothing is canceled without --yes."""
    result = punctual("cancel", "--user", "team-0")
    assert result.code == 2 and "Give --yes to cancel without being asked" in result.error.splitlines()[-1]
    asked = []

    def confirm(text, **_):
        asked.append(text)
        if not answer:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("punctual.cancel.click.confirm", confirm)
    assert punctual("cancel", "--user", "team-0").code == code
    assert (asked, len(stack.received())) == (["Cancel 3 events?"], published)


def test_what_could_not_be_canceled_is_counted(punctual, crowd, stack):
    """With its reason and exit code 1; what is due within two seconds is named."""
    stack.refuse("Publish", "Throttling", "slow")
    result = punctual("cancel", "--user", "team-0", "--yes")
    assert (result.code, result.output) == (1, "Canceled 0 of 3 events.\n")
    assert result.error == "punctual: 3 events not canceled: Publish failed: Throttling: slow. Run it again\n"
    del stack.errors["Publish"]
    crowd.park(datetime.now(UTC) + timedelta(seconds=1), id="near", number=8, user="hasty", at=ago(60))
    sentence = "Due within two seconds of the cancel, so perhaps delivered all the same: near\n"
    assert punctual("cancel", "--user", "hasty", "--yes").error == sentence


# --- Reschedule -------------------------------------------------------------------------------------------------------


def test_a_rescheduled_event_is_published_again_under_its_id_with_another_date(punctual, tables, log, stack):
    """Whatever else it has stays as it was."""
    fields = {"attributes": {"color": "red"}, "subject": "s", "payload": "größer", "failure_topic": f"{TARGET}-failed"}
    tables.park(NOW + HOUR, id="order-4711", **fields)
    result = punctual("reschedule", "order-4711", "--at", "2027-01-01T00:00Z")
    assert result.output == "order-4711\n" and "Due at 2027-01-01 00:00:00.000 UTC" in result.error
    [message] = map(json.loads, stack.received())
    assert message == {"date": "2027-01-01T00:00Z", "target": TARGET, "user": "team", "id": "order-4711", **fields}


def test_an_unnamed_event_is_rescheduled_under_its_message_id(punctual, tables, log, stack):
    """Which replaces it. `--now` is a delay of nothing."""
    id = tables.park(NOW + HOUR)
    assert punctual("reschedule", id, "--now").code == 0
    [message] = map(json.loads, stack.received())
    assert (message["id"], message["delay"], "date" in message) == (id, 0, False)


def test_what_is_not_parked_is_not_rescheduled(punctual, tables, log, stack):
    """Nor what is canceled."""
    tables.cancel(id := tables.park(NOW + HOUR))
    result = punctual("reschedule", id, "--in", "1h")
    assert result.code == 1 and f"{id} is not parked: canceled by the message " in result.error
    assert "is not parked: never seen" in punctual("reschedule", "x", "--in", "1h").error
    assert stack.received() == []


@pytest.mark.parametrize("name", ["order-00000000", "order-r1", "r1-order", "o-r1-00000000"])
def test_the_id_is_read_out_of_the_executions_name(tables, name):
    """Of a named event and of a retry, whatever the id looks like."""
    tables.park(NOW + HOUR, id=name)
    [event] = map(parked.Parked.from_item, tables.parked())
    assert event.id == name
    tables.retry(name, NOW + 2 * HOUR, 3)
    [event] = map(parked.Parked.from_item, tables.parked())
    assert (event.id, event.retry) == (name, 3)
