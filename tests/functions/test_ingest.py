"""Ingest: every message is started, parked, registered or reported; one that fails is retried."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from punctual_core import ingest
from punctual_core.event import Rules

from tests.conftest import HORIZON, OWN_FAILURE_TOPIC, at, event, record, sweep, take, wanted
from tests.functions.conftest import LATER, SOON, batch, handle, named, orders, started

# --- Near and far ---


def test_a_near_event_is_started_at_once(cloud):
    """An event due within the horizon gets its execution, named after its MessageId."""
    assert take(event(at("10:00")), at("09:59:55"), message_id="m-1") == "Started"
    assert [(start.name, start.input["publish"]["Message"]) for start in cloud.starts] == [("m-1", "order-4711")]
    assert not cloud.parked() and not cloud.register()


def test_a_far_event_is_parked_and_started_once_when_its_time_comes(cloud):
    """09:55 parked, 09:59:52 nothing, 09:59:53 started once, and never again."""
    assert take(event(at("10:00")), at("09:55")) == "Parked"
    assert sweep(at("09:59:52")).started == 0
    assert sweep(at("09:59:53")).started == 1
    assert sweep(at("09:59:57")).started == 0
    assert sweep(at("10:01")).started == 0
    assert len(cloud.starts) == 1 and not cloud.parked()


@pytest.mark.parametrize(
    ("due", "outcome"),
    [
        (at("10:00") + HORIZON, "Started"),
        (at("10:00") + HORIZON + timedelta(microseconds=1), "Parked"),
        (at("09:59:59"), "Started"),
        ("0001-01-01T00:00:00Z", "Started"),
    ],
)
def test_the_horizon_is_the_only_boundary(cloud, due, outcome):
    """Exactly at the horizon an event is near, a microsecond further it is far. One of the past is started at once."""
    assert take(event(due), at("10:00")) == outcome


# --- Refused ---


def test_a_refused_message_is_reported_with_the_reason_and_what_was_received(cloud):
    """The report goes to the stack's failure topic; nothing is left anywhere else."""
    message = event(id="order", payload=5)
    assert take(message, at("10:00")) == "Refused"
    assert cloud.reports() == [{"error": "payload must be a string", "id": "order", "event": message}]
    assert not cloud.starts and not cloud.parked() and not cloud.register()


@pytest.mark.parametrize(
    ("name", "consequence"),
    [
        ({"id": "order"}, " (an earlier event with this id, if there was one, is not delivered either)"),
        ({}, ""),  # It has replaced nothing.
    ],
    ids=["named", "unnamed"],
)
@pytest.mark.parametrize(("ahead", "outcome"), [(SOON, "Refused"), (LATER, "Parked")], ids=["near", "parked"])
def test_an_event_that_step_functions_refuses_permanently_is_reported(cloud, name, consequence, ahead, outcome):
    """It would be refused at every attempt, so it is reported as received instead of retried. It has claimed its id
    before, because a repeated message whose event was canceled must not be started: so the report says that the earlier
    event is gone."""
    take(event(at("11:30"), **name), at("08:00"))
    cloud.fail("StartExecution", "InvalidExecutionInput")
    message = event(at("10:00"), failure_topic=OWN_FAILURE_TOPIC, **name)
    text = json.dumps(message | {"attributes": {"price": 1.1}}).replace("1.1", "1.10")
    assert take(text, at("10:00") - ahead, message_id="m-1") == outcome
    sweep(at("10:00"))
    (report,) = cloud.reports(OWN_FAILURE_TOPIC)
    reason = "InvalidExecutionInput: InvalidExecutionInput by the test"
    assert report["error"] == f"Step Functions does not accept this event: {reason}{consequence}"
    assert (report["id"], report["event"]) == (name.get("id", "m-1"), json.loads(text))
    assert '"price":1.10' in cloud.calls("Publish")[0]["Message"]
    assert len(cloud.parked()) == (not name)  # The other event is another one, or has been replaced.


@pytest.mark.parametrize(
    "body", ["", "[]", "null", '"text"', "[" * 100_000, '{"Message": "{}"}', "\x00"], ids=lambda body: ascii(body[:9])
)
def test_anything_in_the_queue_is_reported(cloud, body):
    """Whatever is in the queue is an event or is reported."""
    assert handle(record("") | {"body": body}) == []
    assert len(cloud.reports()) == 1


# --- Batches, and what AWS does to them ---


def test_a_bug_fails_only_the_message_that_it_affects(cloud):
    """Whatever is raised, nine go on and one is retried."""
    records = batch(datetime.now(UTC))
    records[4] = {**records[4], "body": None}
    assert handle(*records) == [records[4]["messageId"]]
    assert started(cloud) == [order for order in orders(10) if order != "order-4"] and not cloud.reports()


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ("StartExecution", lambda now: event(now + SOON)),
        ("PutItem", lambda now: event(now + LATER)),
        ("UpdateItem", lambda now: event(now + LATER, id="order")),
        ("UpdateItem", lambda now: {"cancel": "order"}),
        ("Publish", lambda now: "refused"),
    ],
)
def test_a_long_fault_leaves_the_message_to_be_retried_and_loses_nothing(cloud, operation, message):
    """While AWS fails, the message stays in the queue; afterward it is processed as if nothing had happened."""
    waiting = record(message(datetime.now(UTC)))
    cloud.fail(operation)
    assert handle(waiting) == [waiting["messageId"]]
    cloud.recover()
    assert handle(waiting) == []
    canceled = [item for item in cloud.register().values() if not cloud.parked()]
    assert len(cloud.starts) + len(cloud.parked()) + len(cloud.reports()) + len(canceled) == 1


@pytest.mark.parametrize(
    ("operation", "clock", "starts"),
    [("PutItem", "09:55", 1), ("UpdateItem", "09:55", 1), ("StartExecution", "09:59:55", 2)],
)
def test_a_call_whose_answer_was_lost_is_repeated(cloud, operation, clock, starts):
    """It took effect: the event is claimed and parked once. Express runs the same name twice if asked twice."""
    cloud.lose_answer(operation, times=1)
    take(event(at("10:00"), id="order"), at(clock), message_id="m-1")
    assert len(cloud.calls(operation)) == 2
    sweep(at("10:00"))
    assert [start.name for start in cloud.starts] == ["order-m-1"] * starts and wanted(cloud, cloud.starts[0])


# --- What it counts ---


def test_each_message_is_counted_by_what_became_of_it(cloud, capsys):
    """In the namespace and under the service that the alarms watch."""
    now = datetime.now(UTC)
    cloud.fail("StartExecution", when=named("failing"))
    take(event(now + LATER, id="old"), now, now)
    handle(
        record(event(now + SOON)),
        record(event(now + SOON)),
        record(event(now + LATER)),
        record({"cancel": "x"}),
        record("refused"),
        record(event(now + SOON, id="failing")),
        record({"cancel": "old"}, now - LATER),
    )
    [line] = [line for line in capsys.readouterr().out.splitlines() if "CloudWatchMetrics" in line]
    metric = json.loads(line)
    counts = {"Started": 2, "Parked": 1, "Canceled": 1, "Refused": 1, "Failed": 1, "Superseded": 1}
    assert {name: sum(metric[name]) for name in counts} == counts
    [directive] = metric["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Punctual", [["service"]])
    assert metric["service"] == "punctual"
    assert {(each["Name"], each["Unit"]) for each in directive["Metrics"]} == {(name, "Count") for name in counts}


# --- What it reads ---


def test_the_environment_says_what_is_accepted(monkeypatch):
    """Patterns may have spaces around them; a user is required if the parameter is true."""
    monkeypatch.setenv("TARGET_TOPIC_ARNS", "arn:one, arn:two ,arn:three")
    for value, is_required in (("true", True), ("false", False)):
        monkeypatch.setenv("ENFORCE_USER", value)
        assert ingest._from_environment().rules == Rules(
            input_topic=os.environ["INPUT_TOPIC_ARN"],
            allowed_topics=("arn:one", "arn:two", "arn:three"),
            user_required=is_required,
            failure_topic=os.environ["FAILURE_TOPIC_ARN"],
            alarm_topic=os.environ["ALARM_TOPIC_ARN"],
        )


def test_a_message_without_an_envelope_is_dated_by_its_queue():
    """SentTimestamp is in milliseconds; in the order of publication the time comes first, then the id."""
    direct = record("", at("09:00"), sent_at=at("10:00:00.250")) | {"body": "text", "messageId": "sqs-1"}
    notification = ingest.read(direct)
    assert (notification.text, notification.message_id) == ("text", "sqs-1")
    assert notification.accepted_at == at("10:00:00.250") and notification.accepted_at.tzinfo is UTC
    seconds = f"{at('10:00:00.250').timestamp():.6f}"
    assert notification.publication_order == f"0{seconds} sqs-1"


def test_the_order_of_publication_sorts_as_times_do_at_any_time():
    """As text: also before 2001, when the seconds since 1970 had nine digits."""
    times = [at("00:00", "1999-12-31"), at("09:00"), at("10:00"), at("10:00:00.001"), at("00:00", "2286-12-31")]
    orders = [ingest.read(record("", time)).publication_order for time in times]
    assert orders == sorted(orders) and len({len(order.split()[0]) for order in orders}) == 1


def test_a_delay_counts_from_publication_however_late_and_often_the_message_is_read(cloud):
    """Published at 09:00 with a delay of an hour, read at 09:10 and again at 09:20: due at 10:00."""
    message = {name: value for name, value in event().items() if name != "date"} | {"delay": 3600}
    delayed = record(message, at("09:00"))
    for clock in ("09:10", "09:20"):
        assert ingest.ingest.take(delayed, at(clock)) == "Parked"
    (parked,) = cloud.parked()
    assert parked["sort_key"].startswith("2026-12-24T10:00:00.000000#")


@pytest.mark.parametrize("changes", [{"Timestamp": "0001-01-01T00:00:00+23:00"}, {"MessageId": "../1"}], ids=str)
def test_an_envelope_that_sns_does_not_make_is_the_message(changes):
    """A time that can't be converted, or an id that could neither name an execution nor be a key."""
    envelope = {"Message": "text", "MessageId": "m-1", "Timestamp": "2026-12-24T10:00:00Z"} | changes
    body = json.dumps(envelope)
    assert ingest.read(record("") | {"body": body}).text == body


@pytest.mark.parametrize(
    ("stated", "believed"),
    [("09:00Z", "09:00"), ("10:00+01:00", "09:00"), ("10:00:01Z", "10:00:01"), ("10:00:01.001Z", "10:00")],
    ids=["earlier", "in another zone", "by another clock", "later"],
)
def test_a_message_is_dated_no_later_than_the_queue_got_it(stated, believed):
    """Whoever writes to the queue itself can't make a message that wins over all that are published later. (SNS and SQS
    have clocks of their own, so a second is allowed.)"""
    published_at = datetime.fromisoformat(f"2026-12-24T{stated}")
    accepted_at = ingest.read(record("", published_at, sent_at=at("10:00"))).accepted_at
    assert (accepted_at, accepted_at.tzinfo) == (at(believed), UTC)
