"""The page: what its parts show, asked against moto; whom it lets in; that what it shows is text."""

import json
import re
import sys
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from starlette.testclient import TestClient

from punctual.stack import Stack
from punctual.web import history
from punctual.web.server import application
from tests.command.conftest import *  # noqa: F403 - the stack, its tables, and its log are fixtures
from tests.command.conftest import REGION, TARGET, ago, ended, started

HOST, ORIGIN = "127.0.0.1:8000", "http://127.0.0.1:8000"
SCRIPT = "<script>document.title = 'owned'</script>"
SOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
PARTS = "/now", "/pending", "/histogram", "/events", "/event?id=order-1", "/lateness", "/failed"


def visitor(read_only: bool = False) -> TestClient:
    """A browser that has no cookie."""
    app = application(Stack(region=REGION), HOST, "the-token", is_read_only=read_only)
    return TestClient(app, ORIGIN, headers={"origin": ORIGIN, "sec-fetch-site": "same-origin"})


@pytest.fixture
def page(stack, tables, log) -> TestClient:
    """A browser with the page of a stack where one event is parked: order-1, whose payload is a script."""
    stack.outputs["InputDeadLettersUrl"] = boto3.client("sqs", REGION).create_queue(QueueName="dead")["QueueUrl"]
    stack.physical_ids["InputQueue"] = stack.behind
    tables.park(SOON, id="order-1", at=datetime.now(UTC), payload=SCRIPT)
    browser = visitor()
    browser.get("/?token=the-token")
    return browser


def text(page: TestClient, path: str, **form: str) -> str:
    answer = page.post(path, data=form) if form else page.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


# --- Who may ask ------------------------------------------------------------------------------------------------------


def test_the_address_opens_the_page_once_and_leaves_a_cookie_that_no_script_and_no_other_site_gets():
    first, second = visitor(), visitor()
    second.app = first.app
    answer = first.get("/?token=the-token", follow_redirects=False)
    cookie = answer.headers["set-cookie"].lower()
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "httponly" in cookie and "samesite=strict" in cookie and "the-token" not in cookie
    assert first.get("/").status_code == 200
    assert TestClient(first.app, ORIGIN).get("/?token=the-token").status_code == 403


@pytest.mark.parametrize("path", ["/", "/now", "/static/page.js", "/?token=wrong", "/now?token=the-token"])
def test_without_the_cookie_nothing_is_answered(path):
    assert visitor().get(path).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8000"},  # DNS rebinding
        {"host": "127.0.0.1"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "null"},
        {"sec-fetch-site": "same-site"},  # Another port of this machine, to which the cookie goes, too.
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_another_site_gets_nothing_and_changes_nothing(page, stack, headers):
    assert page.get("/event?id=order-1", headers=headers).status_code == 403
    assert page.post("/cancel", data={"id": "order-1"}, headers=headers).status_code == 403
    assert stack.received() == []


def test_a_change_without_an_origin_is_refused(page, stack):
    del page.headers["origin"]
    assert page.post("/cancel", data={"id": "order-1"}).status_code == 403
    assert page.get("/cancel?id=order-1").status_code == 405
    assert stack.received() == []


def test_the_policy_forbids_inline_scripts_and_styles_and_the_page_has_none(page):
    for path in ("/", "/?event=order-1", *PARTS):
        answer = page.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?! src=\"/static/)|<style|<[^>]+ (style|on\w+)=|https?://", answer.text), path


def test_a_payload_an_id_and_a_filter_are_shown_as_text(page, stack):
    stack.add_undelivered({"payload": SCRIPT}, id="lost", error=SCRIPT)
    for path in ("/event?id=order-1", "/events", "/messages?of=resend", f"/event?id={SCRIPT}", f"/?event={SCRIPT}"):
        shown = text(page, path)
        assert "owned" in shown and "<script>document" not in shown, path


def test_a_read_only_page_changes_nothing(page, stack):
    stack.add_undelivered({"payload": "x"})
    reader = visitor(read_only=True)
    reader.get("/?token=the-token")
    assert re.search(r'class="danger" disabled>Cancel', text(reader, "/event?id=order-1"))
    for path in ("/cancel", "/reschedule", "/resend", "/redrive"):
        assert "read-only" in text(reader, path, id="order-1", now="1", all="1")
    assert (stack.received(), stack.left()) == ([], 1)


# --- What the parts show ----------------------------------------------------------------------------------------------


def test_now_says_in_a_sentence_what_is_wrong_and_what_is_not_known(page, stack, tables, log):
    log.write("order-3-00000001", started("order-3", 60), ended({"message_id": "m", "late_ms": 12}, 50))
    assert "Punctual: nothing is overdue" in text(page, "/now")
    assert "p50 12 ms · p99 12 ms · max 12 ms" in text(page, "/now").replace("\xa0", " ")
    tables.park(ago(60), id="late", at=ago(3600), number=7)
    stack.add_undelivered({"payload": "x"})
    boto3.client("cloudwatch", REGION).put_metric_alarm(
        AlarmName="punctual-OverdueAlarm-1", MetricName="m", Namespace="n", Period=60, EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold", Threshold=1, Statistic="Sum",
    )  # fmt: skip
    boto3.client("cloudwatch", REGION).set_alarm_state(
        AlarmName="punctual-OverdueAlarm-1", StateValue="ALARM", StateReason="x"
    )
    stack.refuse("FilterLogEvents", "AccessDeniedException", "no logs:FilterLogEvents")
    shown = text(page, "/now")
    assert re.search("Look here: late has been overdue for .*; 1 message in Undelivered; 1 alarm rings", shown)
    assert "OverdueAlarm-1" in shown and "permission denied: no logs:FilterLogEvents" in shown


def test_the_count_is_made_once_and_zooms(page, tables, calls):
    for number in range(1, 30):
        tables.park(SOON + timedelta(minutes=number * 7), id=f"n-{number}", number=number, at=datetime.now(UTC))
    tables.cancel("n-1", at=datetime.now(UTC))
    while "Counting" in (shown := text(page, "/histogram")):
        pass
    assert "29 events parked" in shown
    bars = [int(number) for number in re.findall(r'aria-label="[^"]+: (\d+) event', shown)]
    assert sum(bars) == 29 and len(bars) <= 48
    calls.clear()
    zoomed = text(page, f"/histogram?after={SOON:%Y-%m-%dT%H:%M}%2B00:00&before={SOON:%Y-%m-%dT%H}:30%2B00:00")
    assert sum(int(number) for number in re.findall(r'aria-label="[^"]+: (\d+) event', zoomed)) == 4
    assert calls == []
    assert "order-1" in text(page, "/events?user=team&id=order") and "No such" in text(page, "/events?user=nobody")


def test_an_event_shows_its_life_its_message_and_what_can_be_done(page, log):
    shown = text(page, "/event?id=order-1")
    assert "Parked until shortly before it is due" in shown and "last message with this id (event)" in shown
    assert 'data-confirm="Cancel order-1?"' in shown and 'data-confirm="Publish order-1 now?"' in shown
    assert "problem" in text(page, "/event?id=") and "Never seen here" in text(page, "/event?id=nobody")


def test_cancel_reschedule_and_publish_now_publish_what_the_commands_publish(page, stack):
    assert "order-1: canceled; it was parked" in text(page, "/cancel", id="order-1")
    assert "is published again, for 2030-01-01 10:00" in text(page, "/reschedule", id="order-1", at="2030-01-01T10:00")
    assert "is published again, for now" in text(page, "/reschedule", id="order-1", now="1")
    assert "problem" in text(page, "/reschedule", id="order-1", at="")
    cancel, moved, now = map(json.loads, stack.received())
    assert cancel == {"cancel": "order-1"}
    assert (moved["payload"], moved["date"], now["delay"]) == (SCRIPT, "2030-01-01T10:00:00+00:00", 0)


def test_a_denied_permission_greys_its_button_and_says_which(page, stack):
    stack.refuse("Publish", "AuthorizationError", "not authorized to perform: SNS:Publish")
    assert "permission denied: not authorized to perform: SNS:Publish" in text(page, "/cancel", id="order-1")
    assert re.search('danger" disabled>Cancel</button> <small.*SNS:Publish', text(page, "/event?id=order-1"))


def test_lateness_counts_from_acceptance_if_the_date_was_past_and_lists_the_slowest(page, log):
    for number, (late, input) in enumerate([(40, {}), (900, {}), (10**10, {"due_ms": 0, "accepted_ms": 10**10 - 5})]):
        name = f"order-{number}-00000000"
        log.write(name, started(f"order-{number}", 60, **input), ended({"message_id": "m", "late_ms": late}, 50))
    shown = text(page, "/lateness?span=day")
    assert re.sub("<[^>]+>", "", shown).count("p50 40 ms, p99 900 ms, max 900 ms") == 1
    assert re.findall(r"<li><strong>([^<]+)</strong> <a href=\"/\?event=([^#]+)", shown) == [
        ("900 ms", "order-1"),
        ("40 ms", "order-0"),
        ("5 ms", "order-2"),
    ]


def test_a_log_is_read_once_but_for_its_last_minutes(page, calls):
    text(page, "/lateness")
    first = sum(operation == "FilterLogEvents" for operation, _ in calls)
    text(page, "/lateness")
    again = sum(operation == "FilterLogEvents" for operation, _ in calls) - first
    assert first >= 12 and again <= 2


def test_a_log_that_takes_long_is_read_on_where_it_was_left(page, log, monkeypatch):
    log.write("order-3-00000001", started("order-3", 1900), ended({"message_id": "m", "late_ms": 12}, 1800))
    monkeypatch.setattr(history, "SECONDS", 0)
    answers = [text(page, "/lateness") for _ in range(16)]
    assert "Reading the log: back to" in answers[0] and "order-3" in answers[-1] and "Reading" not in answers[-1]


def test_failures_are_grouped_by_reason_across_ids(page, log):
    for id in ("a-1", "a-2"):
        cause = {"error": "NotDelivered", "cause": f"not delivered: {id}: NotFound"}
        log.write(f"{id}-00000001", started(id, 60), (ago(50), "ExecutionFailed", cause))
    log.refuse("b-1", "date is required")
    shown = text(page, "/failed")
    assert re.findall(r"<strong>(\d).</strong> (\w+)", shown) == [("2", "failed"), ("1", "refused")]
    assert "/?event=a-1#event" in shown and "/?event=a-2#event" in shown


def test_a_part_that_fails_says_so_and_the_others_do_not(page, stack):
    stack.refuse("Query", "ThrottlingException", "slow down")
    assert "Query failed: ThrottlingException: slow down" in text(page, "/events")
    assert "slow down" in text(page, "/histogram") and "Empty." in text(page, "/failed")


def test_chosen_messages_are_resent_and_redriven_and_all_are(page, stack):
    for id in ("a", "b", "c"):
        stack.add_undelivered({"payload": id, "target": TARGET}, id=id)
    assert "2 published again" in text(page, "/resend", ids=["a", "c"])
    assert ([json.loads(body)["id"] for body in stack.received()], stack.left()) == (["a", "c"], 1)
    assert "1 published again" in text(page, "/resend", all="1")
    for id in ("x", "y"):
        body = json.dumps({"MessageId": id, "TopicArn": stack.input_topic, "Message": "{}"})
        stack.sqs.send_message(QueueUrl=stack.outputs["InputDeadLettersUrl"], MessageBody=body)
    stack.received()
    assert "1 moved" in text(page, "/redrive", ids="y") and 'value="x"' in text(page, "/messages?of=redrive")


def test_without_its_extra_the_command_says_what_to_install(stack, tables, punctual, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert 'pip install "punctual-scheduler[web]"' in punctual("web").error
