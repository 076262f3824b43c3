"""Deliver: one execution to an event, along every path through it.

Where an assertion is about one engine, the reason is in the docstring of conftest.py.
"""

import itertools
import json

import pytest
from scheduler.event import INPUT_BYTES, MESSAGE_BYTES, instant

from tests.cloudformation import Template

# Not the promise: two engines and a hundred executions share this machine, and a busy one is seconds late. How late the
# system itself is, the benchmark measures. Too early is too early, however busy the machine is.
LATE_SECONDS = 5.0
# How much too early moto's Wait ends.
EARLY_SECONDS = {"emulator": 0, "moto": 1}
# Where the payload fills what an event may have, the rest of it takes up to this.
ENVELOPE_BYTES = 1200

DELIVERED = ["WaitUntilCutoff", "LookUpRevision", "IsStillWanted", "WaitUntilDue", "Publish"]
UNREPORTED = [*DELIVERED, "ReportToPublisher"]


def assert_on_time(outcome, engine: str, after_due: float = 0) -> None:
    """It was not early, as far as the engine's Wait is not, and not late: `after_due` seconds after it was due."""
    assert after_due - EARLY_SECONDS[engine] <= outcome.lateness < after_due + LATE_SECONDS


def assert_reported(outcome, reports: list) -> None:
    """One report says why, and carries the event as it was published."""
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
    assert_on_time(outcome, engine)
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
def test_fraction_of_a_second(outcome, engine, fraction):
    """A fraction of a second is held by the function: nothing goes out at the whole second before it."""
    assert outcome.path == [*DELIVERED[:3], "WaitUntilNearlyDue", "HoldFraction", "Publish"]
    assert_on_time(outcome, engine)
    assert outcome.lateness >= 0  # on both engines, because Hold is real on both


@pytest.mark.deliver(due_in=3.25, gone=["Hold"])
def test_hold_fails(outcome, engine):
    """Without the function, a fraction is rounded up to the next whole second."""
    assert outcome.path == [*DELIVERED[:3], "WaitUntilNearlyDue", "HoldFraction", "WaitUntilDue", "Publish"]
    assert_on_time(outcome, engine, after_due=0.75)


@pytest.mark.deliver(due_in=-3600)
def test_past_date(outcome):
    """An event of the past is published at once: no state waits."""
    assert outcome.path == DELIVERED
    assert (outcome.delivered[0].arrived_at - outcome.started_at).total_seconds() < LATE_SECONDS


# --- Whether ----------------------------------------------------------------------------------------------------------


@pytest.mark.deliver(due_in=3, registered="another")
def test_superseded(outcome):
    """An event whose id is spoken for by another revision is not published."""
    assert outcome.status == "SUCCEEDED"
    assert outcome.path == [*DELIVERED[:3], "Superseded"]
    assert outcome.delivered == outcome.reported_to_operator == []


@pytest.mark.deliver(due_in=3, registered="itself", id="order-4711")
def test_registered_itself(outcome, engine):
    """A named event that nobody replaced or canceled is published."""
    assert outcome.path == DELIVERED
    assert_on_time(outcome, engine)


@pytest.mark.deliver(due_in=3, gone=["Register"])
def test_register_unreadable(outcome, engine):
    """If the register can't be read, the event is published, and on time."""
    assert outcome.path == DELIVERED
    assert_on_time(outcome, engine)


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


# --- When it can't be delivered ---------------------------------------------------------------------------------------


@pytest.mark.deliver(due_in=2, target="gone", failure_topic="there")
def test_missing_target(outcome):
    """An event whose target is gone is reported on the failure topic that it named."""
    assert outcome.path == [*UNREPORTED, "NotDelivered"]
    assert_reported(outcome, outcome.reported)
    assert outcome.reported_to_operator == outcome.buried == []


@pytest.mark.deliver(due_in=2, target="gone")
def test_no_failure_topic_of_its_own(outcome):
    """An event without a failure topic is reported on the stack's."""
    assert outcome.path == [*UNREPORTED, "NotDelivered"]
    assert_reported(outcome, outcome.reported_to_operator)


@pytest.mark.deliver(due_in=2, target="gone", failure_topic="gone")
def test_missing_failure_topic(outcome):
    """If the failure topic that it named is gone too, the stack's has the report."""
    assert outcome.path == [*UNREPORTED, "ReportToStackTopic", "NotDelivered"]
    assert_reported(outcome, outcome.reported_to_operator)
    assert outcome.buried == []


@pytest.mark.deliver(due_in=2, target="gone", failure_topic="gone", gone=["FailureTopic"])
def test_nobody_to_tell(outcome):
    """If all topics are gone, the report lies in the Undelivered queue."""
    assert outcome.path == [*UNREPORTED, "ReportToStackTopic", "SendToUndelivered", "NotDelivered"]
    [report] = map(json.loads, outcome.buried)
    assert report == {"error": outcome.cause, "id": outcome.event.id, "event": outcome.message}


@pytest.mark.deliver(
    due_in=2, on=["moto"], fault=[("InternalError", "by the test"), ("Throttled", "by the test")], failure_topic="there"
)
def test_fault_that_passes(outcome):
    """A fault of SNS is tried again. (Not on the emulator: it can fail a state, but not an attempt.)"""
    assert outcome.status == "SUCCEEDED"
    assert outcome.path == DELIVERED
    assert len(outcome.delivered) == 1
    assert outcome.reported == []


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, marks=pytest.mark.deliver(due_in=2, failure_topic="there", fault=[(code, "by the test")]))
        for code in ("NotFound", "InvalidParameter", "AuthorizationError")
    ],
)
def test_final_word_of_sns(outcome, code):
    """What SNS refuses for good is reported, with its name and text, and not tried again (here it would succeed)."""
    assert_reported(outcome, outcome.reported)
    [report] = outcome.reported
    assert json.loads(report.text)["error"].startswith(f"not delivered: SNS.{code}Exception: by the test")


@pytest.mark.deliver(
    due_in=2, failure_topic="there", fault=[("InvalidParameter", 'not "so"\r\n\n\t' + "{% 'so' %} é\n" * 1000)]
)
def test_long_cause(outcome):
    """The error is one line of at most 1,000 characters, whatever SNS says."""
    assert_reported(outcome, outcome.reported)
    error = json.loads(outcome.reported[0].text)["error"]
    assert error.startswith("not delivered: SNS.InvalidParameterException: not \"so\" {% 'so' %} é {%")
    assert len(error) == 1000
    assert error.isprintable()


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
    """The tests above take each way that the definition has from one state to another."""
    if request.config.getoption("keyword") or any("::" in argument for argument in request.config.args):
        pytest.skip("only some of those tests are selected")
    taken = set()
    for item in request.session.items:
        if item.get_closest_marker("deliver") and item.callspec.params["engine"] == engine:
            running[item.nodeid].wait()
            taken.update(itertools.pairwise(running[item.nodeid].path))
    ways = set()
    for name, state in json.loads(Template().definition("Deliver"))["States"].items():
        parts = state, *state.get("Choices", []), *state.get("Catch", []), {"Next": state.get("Default")}
        ways |= {(name, part["Next"]) for part in parts if part.get("Next")}
    assert taken == ways
