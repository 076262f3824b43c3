"""Deliver on both engines: one execution per event, along every path through it.

Where an assertion is about one engine, the reason is in engines.py.
"""

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from punctual_core.lanes import due_of, lane_of, sort_key
from punctual_core.limits import INPUT_BYTES, MESSAGE_BYTES
from punctual_core.times import instant

from tools.cloudformation import Template

# Not the promise: two engines and a hundred executions share this machine, and a busy one is seconds late. The
# benchmark measures how late the system itself is. Nothing may be early, however busy the machine is.
LATE_SECONDS = 5.0
# Where the payload fills what an event may have, the rest of it takes up to this.
ENVELOPE_BYTES = 1200

DELIVERED = ["WaitUntilCutoff", "LookUpRevision", "IsStillWanted", "WaitUntilDue", "Publish"]
UNREPORTED = [*DELIVERED, "ReportToPublisher"]
PARKED_AGAIN = [*DELIVERED, "IsTooLate", "ParkAgain"]

# Errors of SNS that may pass.
FAULT = "SNS.InternalErrorException"
THROTTLED = "SNS.ThrottledException"


def assert_on_time(outcome, after_due: float = 0) -> None:
    """It was published `after_due` seconds after it was due, and not earlier. Its output says so."""
    assert after_due <= outcome.lateness < after_due + LATE_SECONDS
    assert outcome.output["message_id"]
    # Deliver looks at the clock when SNS has answered, the queue when the message comes: the first is a little later.
    assert outcome.lateness - 0.01 < outcome.output["late_ms"] / 1000 < outcome.lateness + LATE_SECONDS


def assert_reported(outcome, reports: list) -> None:
    """One report gives the reason, and carries the event as it was published."""
    [report] = [json.loads(message.text) for message in reports]
    assert report.keys() == {"error", "id", "event"}
    assert report["event"] == outcome.message
    assert report["id"] == outcome.event.id
    assert report["error"].startswith("not delivered: SNS.")
    assert (outcome.status, outcome.error, outcome.cause) == ("FAILED", "NotDelivered", report["error"])
    assert outcome.delivered == []


# --- When -------------------------------------------------------------------------------------------------------------


@pytest.mark.deliver(due_in=3, subject="Order", attributes={"kind": "new"})
def test_whole_second(outcome, engine):
    """An event due on a whole second is published then, with its subject and attributes and with ours."""
    assert outcome.status == "SUCCEEDED"
    assert outcome.path == DELIVERED
    assert_on_time(outcome)
    [message] = outcome.delivered
    assert (message.text, message.subject) == ("order", "Order")
    if engine == "moto":
        assert message.attributes == {
            "kind": "new",
            "scheduler-id": outcome.event.id,
            "scheduler-date": instant(outcome.due),
        }


@pytest.mark.parametrize(
    "fraction", [pytest.param(f, marks=pytest.mark.deliver(due_in=3 + f)) for f in (0.001, 0.25, 0.5, 0.999)]
)
def test_fraction_of_a_second(outcome, fraction):
    """A function waits out a fraction of a second: nothing is published at the whole second before it."""
    assert outcome.path == [*DELIVERED[:3], "WaitUntilNearlyDue", "HoldFraction", "Publish"]
    assert_on_time(outcome)


@pytest.mark.deliver(due_in=3.25, gone=["Hold"])
def test_hold_fails(outcome, engine):
    """Without the function, a fraction is rounded up to the next whole second, at which moto's Wait is early."""
    assert outcome.path == [*DELIVERED[:3], "WaitUntilNearlyDue", "HoldFraction", "WaitUntilDue", "Publish"]
    assert_on_time(outcome, after_due=0.75 if engine == "emulator" else 0)


@pytest.mark.deliver(due_in=-3600)
def test_past_date(outcome):
    """An event of the past is published at once: no state waits."""
    assert outcome.path == DELIVERED
    assert (outcome.delivered[0].arrived_at - outcome.started_at).total_seconds() < LATE_SECONDS


@pytest.mark.parametrize(
    "early", [pytest.param(s, marks=pytest.mark.deliver(due_in=3, waits_end_early=s)) for s in (0.3, 1.7)]
)
def test_wait_ends_early(outcome, early):
    """If a Wait ends early, Publish retries each second until the event is due: in no other state, and not early."""
    assert outcome.path == DELIVERED
    assert_on_time(outcome)
    assert outcome.attempts("Publish") == 1  # Before that, no request is made.


@pytest.mark.deliver(due_in=3, waits_end_early=20)
def test_wait_ends_far_too_early(outcome):
    """If a Wait ends so early that the retries do not bridge it, the event is parked, and not published early."""
    assert outcome.path == PARKED_AGAIN
    assert outcome.delivered == []
    [parked] = outcome.parked
    assert due_of(parked.sort_key) > outcome.due - timedelta(seconds=5)


# --- Whether ----------------------------------------------------------------------------------------------------------


@pytest.mark.deliver(due_in=3, registered="another")
def test_superseded(outcome):
    """An event is not published if another revision is registered for its id."""
    assert outcome.status == "SUCCEEDED"
    assert outcome.path == [*DELIVERED[:3], "Superseded"]
    assert outcome.output == {"superseded": True}
    assert outcome.delivered == outcome.reported_to_stack_topic == []


@pytest.mark.deliver(due_in=3, registered="itself", id="order-4711")
def test_registered_itself(outcome):
    """A named event that was neither replaced nor canceled is published."""
    assert outcome.path == DELIVERED
    assert_on_time(outcome)


@pytest.mark.deliver(due_in=3, gone=["Register"])
def test_register_unreadable(outcome):
    """If the register can't be read, the event is published, and on time."""
    assert outcome.path == DELIVERED
    assert_on_time(outcome)


# --- What -------------------------------------------------------------------------------------------------------------


@pytest.mark.deliver(due_in=3, target="fifo", message_group_id="orders")
def test_fifo_target(outcome):
    """A FIFO topic gets the event's group, and its id to deduplicate by."""
    [message] = outcome.delivered
    assert (message.group, message.deduplication_id) == ("orders", outcome.event.revision)


@pytest.mark.deliver(due_in=3, target="fifo", id="order-4711")
def test_fifo_target_of_a_named_event(outcome):
    """Without a group the id is the group; the revision is in the deduplication id, for a replacement is new."""
    [message] = outcome.delivered
    assert (message.group, message.deduplication_id) == ("order-4711", f"order-4711-{outcome.event.revision}")


PAYLOADS = {
    "quotes": '{"a": "\\"b\\" \'c\' \\\\ d"}',
    "unicode": "Grüße, 世界 🕰️ \u2028 \ud7ff",
    "whitespace": " \t\r\n line\nline ",
    "an expression": "{% $states.context.Execution.Id %}",
    "expressions inside": 'a {% 1 + 1 %} $states.input ${FailureTopicArn} $$.Execution {"b": "{% 2 %}"}',
    "JSON": '{"TopicArn": "arn:aws:sns:eu-central-1:123456789012:other", "n": 1e400}',
    "as large as it may be": '"' * ((INPUT_BYTES - ENVELOPE_BYTES) // 2),
}


@pytest.mark.parametrize(
    "payload",
    [pytest.param(text, id=name, marks=pytest.mark.deliver(due_in=3, payload=text)) for name, text in PAYLOADS.items()],
)
def test_payload_is_unchanged(outcome, payload):
    """Whatever the payload looks like, it arrives as it was published."""
    [message] = outcome.delivered
    assert message.text == payload


# --- When it can't be delivered now -----------------------------------------------------------------------------------


@pytest.mark.deliver(due_in=2, on=["moto"], fails={"Publish": [FAULT, THROTTLED]}, failure_topic="there")
def test_two_faults_that_pass(outcome):
    """A transient error is retried twice. (Not on the emulator: it can't fail a single attempt.)"""
    assert outcome.status == "SUCCEEDED"
    assert outcome.path == DELIVERED
    assert outcome.attempts("Publish") == 3
    assert len(outcome.delivered) == 1
    assert outcome.reported == outcome.parked == []


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(
            error, marks=pytest.mark.deliver(due_in=2, fails={"Publish": error}, failure_topic="there", id="order-4711")
        )
        for error in (FAULT, THROTTLED, "SNS.KMSThrottlingException", "States.Timeout")
    ],
)
def test_transient_error_lasts(outcome, error):
    """If a transient error lasts, the event is parked again as a sweep expects it, and nothing is reported."""
    assert outcome.status == "SUCCEEDED"
    assert outcome.path == PARKED_AGAIN
    assert outcome.attempts("Publish") == 4
    [parked] = outcome.parked
    event, retry_at = outcome.event, due_of(parked.sort_key)
    assert (parked.lane, parked.sort_key) == (lane_of(event.id), sort_key(retry_at, event.revision))
    assert (parked.execution, parked.attempt) == (f"order-4711-{event.revision[:8]}-r1", 1)
    assert json.loads(parked.input) == json.loads(event.input) | {"attempt": 1}
    assert outcome.output["retry_at"] == f"{retry_at:%Y-%m-%dT%H:%M:%S}.{retry_at.microsecond // 1000:03}Z"
    assert outcome.output["attempt"] == 1
    assert outcome.output["problem"] == f"not delivered: {error}: by the test"
    assert timedelta(0) < retry_at - outcome.due < timedelta(seconds=30 + 7 + LATE_SECONDS)
    assert outcome.delivered == outcome.reported == outcome.reported_to_stack_topic == outcome.undelivered == []


@pytest.mark.deliver(due_in=2, fails={"Publish": THROTTLED}, payload=PAYLOADS["unicode"], attributes={"kind": "new"})
def test_parked_event_is_delivered_later(outcome, engine):
    """The next execution delivers what the first one parked: the same message, and it says how late it is."""
    again = outcome.start_parked()
    assert (again.status, again.path) == ("SUCCEEDED", DELIVERED)
    [message] = outcome.delivered
    assert message.text == PAYLOADS["unicode"]
    if engine == "moto":
        assert message.attributes["kind"] == "new"
        assert message.attributes["scheduler-date"] == instant(outcome.due)
    assert again.output["late_ms"] >= 1000 * outcome.lateness - 10


@pytest.mark.deliver(due_in=2, fails={"Publish": FAULT}, attempt=6)
def test_later_attempts_wait_longer(outcome):
    """The seventh attempt is counted, and waits 7.5 to 15 minutes."""
    started_at = datetime.now(UTC)
    [parked] = outcome.parked
    assert (parked.attempt, parked.execution[-3:]) == (7, "-r7")
    assert json.loads(parked.input)["attempt"] == 7
    assert timedelta(minutes=5) < due_of(parked.sort_key) - started_at < timedelta(minutes=15)


@pytest.mark.deliver(due_in=-25 * 3600, fails={"Publish": FAULT}, failure_topic="there")
def test_transient_error_lasts_a_day(outcome):
    """24 hours after it was due, an event is reported and not parked again."""
    assert outcome.path == [*DELIVERED, "IsTooLate", "ReportToPublisher", "NotDelivered"]
    assert_reported(outcome, outcome.reported)
    assert outcome.parked == []


@pytest.mark.deliver(due_in=2, fails={"Publish": FAULT}, gone=["Parked"], failure_topic="there")
def test_parking_fails(outcome):
    """An event that can't be parked again is reported, with the reason why it was not delivered."""
    assert outcome.path == [*PARKED_AGAIN, "ReportToPublisher", "NotDelivered"]
    assert outcome.attempts("ParkAgain") == 4
    assert_reported(outcome, outcome.reported)
    assert outcome.cause == f"not delivered: {FAULT}: by the test"


# --- When it can't be delivered at all --------------------------------------------------------------------------------


@pytest.mark.deliver(due_in=2, target="gone", failure_topic="there")
def test_missing_target(outcome):
    """An event whose target is gone is reported at once, on the failure topic that it named."""
    assert outcome.path == [*UNREPORTED, "NotDelivered"]
    assert outcome.attempts("Publish") == 1
    assert_reported(outcome, outcome.reported)
    assert outcome.reported_to_stack_topic == outcome.undelivered == outcome.parked == []


@pytest.mark.deliver(due_in=2, target="gone")
def test_no_failure_topic_of_its_own(outcome):
    """An event without a failure topic is reported on the stack's."""
    assert outcome.path == [*UNREPORTED, "NotDelivered"]
    assert_reported(outcome, outcome.reported_to_stack_topic)


@pytest.mark.deliver(due_in=2, target="gone", failure_topic="gone")
def test_missing_failure_topic(outcome):
    """If the failure topic that it named is gone too, the report goes to the stack's."""
    assert outcome.path == [*UNREPORTED, "ReportToStackTopic", "NotDelivered"]
    assert_reported(outcome, outcome.reported_to_stack_topic)
    assert outcome.undelivered == []


@pytest.mark.deliver(due_in=2, target="gone", failure_topic="gone", gone=["FailureTopic"])
def test_all_failure_topics_are_missing(outcome):
    """If all topics are gone, the report is kept in the Undelivered queue."""
    assert outcome.path == [*UNREPORTED, "ReportToStackTopic", "SendToUndelivered", "NotDelivered"]
    [report] = map(json.loads, outcome.undelivered)
    assert report == {"error": outcome.cause, "id": outcome.event.id, "event": outcome.message}
    assert outcome.parked == []


UNREPORTABLE = [*UNREPORTED, "ReportToStackTopic", "SendToUndelivered", "ParkUnreported"]


@pytest.mark.deliver(due_in=2, target="gone", failure_topic="gone", gone=["FailureTopic", "Undelivered"])
def test_no_report_can_be_sent(outcome):
    """If SNS and SQS both fail, the event is parked for 15 minutes, and the execution fails."""
    assert outcome.path == [*UNREPORTABLE, "NotReported"]
    assert (outcome.status, outcome.error) == ("FAILED", "NotReported")
    assert "no report could be sent: not delivered: SNS." in outcome.cause
    [parked] = outcome.parked
    event, retry_at = outcome.event, due_of(parked.sort_key)
    assert (parked.lane, parked.sort_key) == (lane_of(event.id), sort_key(retry_at, event.revision))
    assert (parked.execution, parked.attempt) == (f"{event.execution_name}-r1", 1)
    assert json.loads(parked.input) == json.loads(event.input) | {"attempt": 1}
    assert timedelta(minutes=15) <= retry_at - outcome.due < timedelta(minutes=16)


@pytest.mark.deliver(due_in=2, target="gone", fails={"ReportToPublisher": FAULT, "ReportToStackTopic": FAULT})
def test_reports_are_retried(outcome):
    """A transient error of a report is retried twice; then the next way is taken."""
    assert outcome.path == [*UNREPORTED, "ReportToStackTopic", "SendToUndelivered", "NotDelivered"]
    assert (outcome.attempts("ReportToPublisher"), outcome.attempts("ReportToStackTopic")) == (3, 3)
    assert len(outcome.undelivered) == 1


@pytest.mark.deliver(
    due_in=2,
    target="gone",
    fails={
        "ReportToPublisher": "SNS.AuthorizationErrorException",
        "ReportToStackTopic": "SNS.AuthorizationErrorException",
        "SendToUndelivered": "SQS.SdkClientException",
    },
)
def test_unreported_event_is_reported_later(outcome):
    """The next execution reports what the first one could not."""
    again = outcome.start_parked()
    assert (again.status, again.error, again.path) == ("FAILED", "NotDelivered", [*UNREPORTED, "NotDelivered"])
    [report] = outcome.reported_to_stack_topic
    assert json.loads(report.text)["event"] == outcome.message


@pytest.mark.deliver(due_in=2, target="gone", failure_topic="gone", gone=["FailureTopic", "Undelivered", "Parked"])
def test_nothing_works(outcome):
    """If SNS, SQS and DynamoDB all fail, the execution says that its log has the only copy."""
    assert outcome.path == [*UNREPORTABLE, "NotKept"]
    assert (outcome.status, outcome.error) == ("FAILED", "NotKept")
    assert "the only copy: not delivered: SNS." in outcome.cause


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(error, marks=pytest.mark.deliver(due_in=2, failure_topic="there", fails={"Publish": error}))
        for error in (
            "SNS.NotFoundException",
            "SNS.InvalidParameterException",
            "SNS.ValidationException",
            "SNS.AuthorizationErrorException",
            "SNS.KMSAccessDeniedException",
        )
    ],
)
def test_permanent_error(outcome, error):
    """A permanent error is reported at once, with its name and text, and not retried."""
    assert outcome.path == [*UNREPORTED, "NotDelivered"]
    assert outcome.attempts("Publish") == 1
    assert_reported(outcome, outcome.reported)
    assert outcome.cause == f"not delivered: {error}: by the test"
    assert outcome.parked == []


@pytest.mark.deliver(due_in=2, failure_topic="there", fails={"Publish": "States.DataLimitExceeded"})
def test_data_limit_exceeded(outcome):
    """Step Functions' own limit is reported, too."""
    assert outcome.path == [*UNREPORTED, "NotDelivered"]
    assert len(outcome.reported) == 1
    assert outcome.cause == "not delivered: States.DataLimitExceeded"


@pytest.mark.deliver(
    due_in=2,
    failure_topic="there",
    fails={"Publish": ("SNS.InvalidParameterException", 'not "so"\r\n\n\t' + "{% 'so' %} é\n" * 1000)},
)
def test_long_cause(outcome):
    """The error is one line of at most 1,000 printable characters of ASCII, whatever SNS says."""
    assert_reported(outcome, outcome.reported)
    error = json.loads(outcome.reported[0].text)["error"]
    assert error.startswith("not delivered: SNS.InvalidParameterException: not \"so\" {% 'so' %} {%")
    assert len(error) == 1000
    assert error.isprintable() and error.isascii()


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(
            text, id=name, marks=pytest.mark.deliver(due_in=2, target="gone", failure_topic="there", payload=text)
        )
        for name, text in PAYLOADS.items()
    ],
)
def test_report_carries_any_payload(outcome, payload):
    """Whatever can be scheduled can be reported, with its payload unchanged."""
    assert_reported(outcome, outcome.reported)
    assert len(outcome.reported[0].text.encode()) <= MESSAGE_BYTES


def test_every_transition_is_taken(request, running, engine):
    """The tests above take each transition that the definition has."""
    if request.config.getoption("keyword") or any("::" in argument for argument in request.config.args):
        pytest.skip("only some of those tests are selected")
    taken = set()
    for item in request.session.items:
        if item.get_closest_marker("deliver") and item.callspec.params["engine"] == engine:
            running[item.nodeid].wait()
            taken.update(itertools.pairwise(running[item.nodeid].path))
    transitions = set()
    for name, state in json.loads(Template().definition("Deliver"))["States"].items():
        parts = state, *state.get("Choices", []), *state.get("Catch", []), {"Next": state.get("Default")}
        transitions |= {(name, part["Next"]) for part in parts if part.get("Next")}
    assert taken == transitions
