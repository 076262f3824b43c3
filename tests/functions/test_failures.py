"""Failure reports: to the event's own failure topic, else to the stack's, else to the Undelivered queue."""

import json
import os

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from punctual_core.clients import client
from punctual_core.failures import Failures, is_transient
from punctual_core.limits import MESSAGE_BYTES

from tests.conftest import OWN_FAILURE_TOPIC, at, event, take

REFUSED = event("soon", failure_topic=OWN_FAILURE_TOPIC)


TOPICS = [OWN_FAILURE_TOPIC, os.environ["FAILURE_TOPIC_ARN"]]


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_report_is_sent_to_the_first_place_that_exists(cloud, gone):
    """The publisher gets it, or else the operator, and not both. A failure topic may be deleted before it is needed: if
    both are gone, nothing is lost, because the queue has an alarm on it."""
    for topic in TOPICS[:gone]:
        client("sns").delete_topic(TopicArn=topic)
    take(REFUSED, at("10:00"), message_id="m-1")
    [report], *others = [*map(cloud.reports, TOPICS[gone:]), cloud.undelivered()]
    assert report["id"] == "m-1" and report["event"] == REFUSED and report["error"].startswith("date ")
    assert not any(others)


@pytest.mark.parametrize(
    ("code", "status"), [("TooManyRequests", 429), ("Throttling", 400), ("InternalError", 500), ("Unavailable", 503)]
)
def test_throttling_and_faults_are_raised_so_that_the_message_is_retried(cloud, code, status):
    """A transient failure is no reason to report to another topic. What SNS declares: tests/workflows."""
    cloud.fail("Publish", code, status=status)
    with pytest.raises(client("sns").exceptions.ClientError):
        take(REFUSED, at("10:00"))
    assert not cloud.undelivered()
    cloud.recover()
    assert take(REFUSED, at("10:00")) == "Refused"
    assert len(cloud.reports(OWN_FAILURE_TOPIC)) == 1


@pytest.mark.parametrize(("code", "status"), [("Odd", 428), ("Odd", 430), ("Odd", 499), ("AuthorizationError", 403)])
def test_other_refusals_are_final(cloud, code, status):
    """The stack's topic gets the report."""
    cloud.fail("Publish", code, status=status, when=lambda call: call["TopicArn"] == OWN_FAILURE_TOPIC)
    assert take(REFUSED, at("10:00")) == "Refused"
    assert len(cloud.reports()) == 1 and not cloud.reports(OWN_FAILURE_TOPIC)


def test_an_error_without_a_status_may_pass():
    """botocore makes some errors itself."""
    assert is_transient(ClientError({"Error": {"Code": "Odd"}}, "Publish"))
    assert is_transient(ClientError({"Error": {"Code": "Odd"}, "ResponseMetadata": {}}, "Publish"))


def test_no_answer_from_sns_is_raised_so_that_the_message_is_retried(cloud):
    """A timeout says nothing of the topic: no other topic, and no queue, gets the report."""
    cloud.lose_answer("Publish")
    with pytest.raises(BotoCoreError):
        take(REFUSED, at("10:00"))
    assert {call["TopicArn"] for call in cloud.calls("Publish")} == {OWN_FAILURE_TOPIC}
    assert not cloud.undelivered()


def test_if_even_the_queue_fails_the_message_is_retried(cloud):
    """Nothing is dropped."""
    cloud.fail("Publish", "NotFound", status=404)
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
    """The largest messages that SNS takes, whatever they grow to in JSON: the report fits and says that it is cut. A
    text is shown as it was, without quotation marks of JSON around it; an object as its JSON."""
    assert len(text.encode()) <= MESSAGE_BYTES
    take(text, at("10:00"), message_id="m-1")
    (report,) = cloud.reports()
    assert len(cloud.calls("Publish")[0]["Message"].encode()) <= MESSAGE_BYTES
    assert report["truncated"] is True and report["event"] == text.replace('": "', '":"')[: 20 * 1024]
    assert report["id"] == "m-1" and report["error"]


def test_a_report_of_exactly_256_kib_is_whole_and_a_byte_more_is_not(cloud):
    """SNS takes 262,144 bytes."""
    failures = Failures(client, os.environ["FAILURE_TOPIC_ARN"], os.environ["UNDELIVERED_URL"])
    envelope = len(json.dumps({"error": "e", "id": "i", "event": ""}, separators=(",", ":")))
    for size in (262_144, 262_145):
        failures.report("e", "i", "x" * (size - envelope), None)
    whole, cut = (call["Message"] for call in cloud.calls("Publish"))
    assert len(whole) == 262_144 and "truncated" not in whole
    assert json.loads(cut) == {"error": "e", "id": "i", "event": "x" * 20 * 1024, "truncated": True}
