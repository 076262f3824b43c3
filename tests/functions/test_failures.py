"""Failure reports: to the event's own failure topic, else to the stack's, else to the Undelivered queue."""

import json
import os

import pytest
from scheduler.clients import client
from scheduler.failures import EXCERPT_CHARACTERS
from scheduler.limits import MESSAGE_BYTES

from tests.conftest import OWN_FAILURE_TOPIC, at, event, take

REFUSED = event("soon", failure_topic=OWN_FAILURE_TOPIC)


def delete(topic: str) -> None:
    client("sns").delete_topic(TopicArn=topic)


def test_the_events_own_failure_topic_comes_first(cloud):
    """The publisher gets the report, the operator does not."""
    take(REFUSED, at("10:00"), message_id="m-1")
    (report,) = cloud.reports(OWN_FAILURE_TOPIC)
    assert report["id"] == "m-1" and report["event"] == REFUSED and report["error"].startswith("date ")
    assert not cloud.reports() and not cloud.undelivered()


def test_if_the_events_own_topic_is_gone_the_stacks_topic_gets_the_report(cloud):
    """A failure topic may be deleted before it is needed."""
    delete(OWN_FAILURE_TOPIC)
    take(REFUSED, at("10:00"))
    assert len(cloud.reports()) == 1 and not cloud.undelivered()


def test_if_both_topics_are_gone_the_report_is_kept_in_the_undelivered_queue(cloud):
    """Even then nothing is lost: the queue has an alarm on it."""
    delete(OWN_FAILURE_TOPIC)
    delete(os.environ["FAILURE_TOPIC_ARN"])
    take(REFUSED, at("10:00"), message_id="m-1")
    (report,) = cloud.undelivered()
    assert report["id"] == "m-1" and report["event"] == REFUSED


def test_a_topic_that_the_stack_may_not_publish_to_is_passed_over(cloud):
    """No permission for the event's own topic: the report goes to the stack's."""
    cloud.fail("Publish", "AuthorizationError", status=403, when=lambda call: call["TopicArn"] == OWN_FAILURE_TOPIC)
    take(REFUSED, at("10:00"))
    assert len(cloud.reports()) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [("Throttled", 429), ("Throttling", 400), ("KMSThrottling", 400), ("InternalError", 500), ("Unavailable", 503)],
)
def test_throttling_and_faults_are_raised_so_that_the_message_is_retried(cloud, code, status):
    """A transient failure is no reason to report to another topic."""
    cloud.fail("Publish", code, status=status)
    with pytest.raises(client("sns").exceptions.ClientError):
        take(REFUSED, at("10:00"))
    assert not cloud.undelivered()
    cloud.recover()
    assert take(REFUSED, at("10:00")) == "Refused"
    assert len(cloud.reports(OWN_FAILURE_TOPIC)) == 1


def test_if_even_the_queue_fails_the_message_is_retried(cloud):
    """Nothing is dropped."""
    for topic in (OWN_FAILURE_TOPIC, os.environ["FAILURE_TOPIC_ARN"]):
        delete(topic)
    cloud.fail("SendMessage", "ServiceUnavailable", status=503)
    with pytest.raises(client("sqs").exceptions.ClientError):
        take(REFUSED, at("10:00"))


@pytest.mark.parametrize(
    "text",
    [
        "x" * MESSAGE_BYTES,
        '"' * MESSAGE_BYTES,
        "\x01" * MESSAGE_BYTES,
        "😀" * (MESSAGE_BYTES // 4),
        json.dumps({"payload": "x" * (MESSAGE_BYTES - 20)}),
        json.dumps({"payload": "é" * (MESSAGE_BYTES // 2 - 50) + "\\"}, ensure_ascii=False).replace("\\\\", r"\ud800"),
    ],
    ids=["text", "quotes", "controls", "emoji", "payload", "escaped"],
)
def test_a_message_too_large_to_be_reported_whole_is_reported_with_its_beginning(cloud, text):
    """The largest messages that SNS takes, whatever they grow to in JSON: the report fits and says that it is cut."""
    assert len(text.encode()) <= MESSAGE_BYTES
    take(text, at("10:00"), message_id="m-1")
    (report,) = cloud.reports()
    assert len(cloud.calls("Publish")[0]["Message"].encode()) <= MESSAGE_BYTES
    assert report["truncated"] is True and len(report["event"]) == EXCERPT_CHARACTERS
    assert report["id"] == "m-1" and report["error"]


def test_the_largest_message_that_fits_is_reported_whole(cloud):
    """Whatever can be scheduled can be reported."""
    message = event(payload="x" * (MESSAGE_BYTES - 1000), dtae=1)
    take(message, at("10:00"))
    assert cloud.reports()[0]["event"] == message
