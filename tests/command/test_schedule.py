"""`schedule`: checked by the rules of Ingest before anything is published."""

import io
import json
import time

import pytest

from punctual.cli import main

TARGET = "arn:aws:sns:eu-central-1:123456789012:orders"
LATER = ["--at", "2026-12-24T18:00Z", "--payload", "order-4711", "--user", "team"]


def test_schedule_publishes_the_event_and_prints_its_id(punctual, stack):
    """An id of its own, if it has no other."""
    result = punctual("schedule", "--target", TARGET, *LATER)
    assert result.code == 0, result.error
    id = result.output.strip()
    assert len(id) == 36
    [message] = map(json.loads, stack.received())
    fields = {"date": "2026-12-24T18:00Z", "target": TARGET, "payload": "order-4711", "user": "team"}
    assert message == fields | {"id": id}


def test_every_option_becomes_a_field(punctual, stack, tmp_path):
    """A topic may be given by its name in the stack's account and Region."""
    payload = tmp_path / "payload"
    payload.write_bytes("größer\r\n\r".encode())
    result = punctual(
        "--json",
        "schedule",
        *("--target", "orders.fifo", "--at", "2026-12-24T18:00", "--timezone", "Europe/Berlin"),
        *("--payload-file", str(payload), "--user", "team", "--id", "order-4711", "--subject", "Order"),
        *("--attribute", "color=red", "--attribute", "size=a=b", "--group", "orders", "--failure-topic", "failed"),
    )
    due = "2026-12-24T17:00:00+00:00"
    assert json.loads(result.output) == {"id": "order-4711", "due": due, "due_local": None, "notes": []}
    [message] = stack.received()
    assert json.loads(message) == {
        "date": "2026-12-24T18:00",
        "timezone": "Europe/Berlin",
        "target": f"{TARGET}.fifo",
        "payload": "größer\r\n\r",
        "user": "team",
        "id": "order-4711",
        "subject": "Order",
        "attributes": {"color": "red", "size": "a=b"},
        "message_group_id": "orders",
        "failure_topic": TARGET.replace("orders", "failed"),
    }


@pytest.mark.parametrize(
    ("duration", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259200), ("1h30m", 5400), ("0.5s", 0.5)]
)
def test_in_is_a_delay_in_seconds(punctual, stack, duration, seconds):
    """Counted by the stack from the time at which SNS accepts the message."""
    punctual("schedule", "--target", TARGET, "--in", duration, "--payload", "x", "--user", "team")
    assert json.loads(stack.received()[0])["delay"] == seconds


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*LATER, "--in", "5s"], "Exactly one of --at and --in says when to deliver"),
        (["--payload", "x"], "Exactly one of --at and --in says when to deliver"),
        (["--in", "5s"], "Exactly one of --payload and --payload-file says what to deliver"),
        (["--in", "5 minutes", "--payload", "x"], "must be a number and a unit"),
        (["--in", "99999999999d", "--payload", "x"], "is too long"),
        (["--payload-file", "/no/such/file", "--in", "5s"], "No such file"),
        ([*LATER, "--attribute", "color"], "'color' must be NAME=VALUE"),
        ([*LATER, "--attribute", "color="], "--attribute must not be empty, unlike 'color'"),
        ([*LATER, "--id", "a b"], "--id must be 1 to 64 characters"),
        (["--in", "5s", "--payload", "x"], "--user is required"),
        ([*LATER, "--timezone", "Europe/Berlin"], "--at must not have an offset beside --timezone"),
        (["--at", "soon", "--payload", "x"], "--at must be an ISO 8601 date and time"),
        (["--in", "5s", "--timezone", "UTC", "--payload", "x"], "--timezone must not stand beside --in"),
        ([*LATER, "--group", "ä"], "--group must be 1 to 128"),
        ([*LATER, "--target", f"{TARGET[:25]}999999999999:x"], "--target is not a topic that this scheduler"),
    ],
)
def test_wrong_events_are_refused_in_one_sentence_and_not_published(punctual, stack, arguments, sentence):
    """With the sentence that Ingest would report, and exit code 2."""
    result = punctual("schedule", "--target", TARGET, *arguments)
    assert result.code == 2 and sentence in result.error, result
    assert len(result.error.splitlines()) == 1
    assert stack.received() == []


@pytest.mark.parametrize(
    ("date", "notes"),
    [
        ("2026-12-24T18:00:00+01:00", ["Due at 2026-12-24 17:00:00.000 UTC."]),
        ("2026-12-24", ["Due at 2026-12-24 00:00:00.000 UTC.", "--at 2026-12-24 has no offset, and was taken as UTC."]),
        ("2020-01-01T00:00Z", ["Due at 2020-01-01 00:00:00.000 UTC.", "That was 2,", "ago: it is delivered at once."]),
        ("9999-12-31T23:59:59Z", ["Due at 9999-12-31 23:59:59.000 UTC."]),
        ("0001-01-01T00:00Z", ["Due at 0001-01-01 00:00:00.000 UTC.", "days ago"]),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_it_is_said_when_an_event_is_due_and_what_is_strange_about_it(punctual, stack, monkeypatch, date, notes, zone):
    """On stderr; with --json, on stdout, too. No date breaks the command in any zone."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        result = punctual("schedule", "--target", TARGET, "--at", date, "--payload", "x", "--user", "team")
        also = punctual("schedule", "--target", TARGET, "--at", date, "--payload", "x", "--user", "team", "--json")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert result.code == 0 and result.output.count("\n") == 1
    for note in notes:
        assert note.rstrip(".") in result.error
    assert len(json.loads(also.output)["notes"]) == result.error.count("\n") - 1
    if zone == "Asia/Tokyo" and date.startswith("2026-12-24T"):
        assert "(2026-12-25 02:00:00.000+09:00 here)" in result.error


@pytest.mark.parametrize("form", [["--json"], []])
@pytest.mark.parametrize("fault", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device")])
def test_once_published_it_is_done_even_if_that_cannot_be_printed(punctual, stack, monkeypatch, fault, form):
    """A script that took it for not done would schedule it twice. The id is on stderr."""

    class Closed(io.StringIO):
        def write(self, _):
            raise fault

    monkeypatch.setattr("sys.stdout", Closed())
    arguments = ["--target", TARGET, *LATER, "--id", "order-4711", *form]
    with pytest.raises(SystemExit) as exit:
        main(["schedule", *arguments])
    assert exit.value.code == 0 and len(stack.received()) == 1


def test_a_payload_that_cannot_be_read_is_one_sentence(punctual, stack, monkeypatch, tmp_path):
    """A daemon's stdin is closed; an SNS message is text."""
    monkeypatch.setattr("sys.stdin", None)
    (tmp_path / "payload").write_bytes(b"\xff")
    for file, sentence in (("-", "reads stdin, which is closed"), (str(tmp_path / "payload"), "is not UTF-8 text")):
        result = punctual("schedule", "--target", TARGET, "--in", "5s", "--payload-file", file)
        assert result.code == 2 and sentence in result.error
