"""The page: what its parts show, asked against moto; whom it lets in; that what it shows is text."""

import json
import re
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from punctual.stack import Stack
from punctual.web import parts, reading
from punctual.web.server import application
from tests.command.conftest import *  # noqa: F403 - the stack, its tables, and its log are fixtures
from tests.command.conftest import REGION, TARGET, ago, ended, started

ORIGIN = "http://127.0.0.1:8000"
SCRIPT = "<script>document.title = 'owned'</script>"
NOW = datetime.now(UTC)
SOON = NOW.replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
ALARMS = {"AlarmNamePrefix": "punctual-", "StateValue": "ALARM", "AlarmTypes": ["MetricAlarm"]}


def visitor(is_read_only: bool = False) -> TestClient:
    """A browser that has no cookie."""
    app = application(Stack(region=REGION), "127.0.0.1:8000", "the-token", is_read_only)
    return TestClient(app, ORIGIN, headers={"origin": ORIGIN, "sec-fetch-site": "same-origin"})


@pytest.fixture
def page(stack, tables, log, monkeypatch) -> TestClient:
    """A browser with the page of a stack where one event is parked: order-1, whose payload is a script."""
    stack.answers["DescribeAlarms"] = lambda call, parameters: {"MetricAlarms": []}
    tables.park(SOON, id="order-1", at=NOW, payload=SCRIPT)
    monkeypatch.setattr(reading, "FRESH", timedelta())
    browser = visitor()
    browser.get("/?token=the-token")
    return browser


def text(page: TestClient, path: str, **form: str | list[str]) -> str:
    """What a part shows once it has counted, or what it answers to a change."""
    answer = page.post(path, data=form) if form else page.get(path)
    assert answer.status_code == 200, answer.text
    return text(page, path) if "Counting:" in answer.text else answer.text.replace("\n", " ")


def test_the_address_opens_the_page_once_and_leaves_a_cookie_that_no_script_and_no_other_site_gets():
    first = visitor()
    for path in ("/", "/now", "/static/page.js", "/?token=wrong", "/?token=", "/now?token=the-token"):
        assert first.get(path).status_code == 403
    assert first.get("/?token=the-token", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    answer = first.get("/?token=the-token", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert re.fullmatch(r"punctual-8000=[\w-]{43}; HttpOnly; Path=/; SameSite=strict", answer.headers["set-cookie"])
    assert [first.get(path).status_code for path in ("/", "/?token=the-token")] == [200, 200]
    assert TestClient(first.app, ORIGIN).get("/?token=the-token").status_code == 403


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("host", "evil.example:8000"),  # DNS rebinding
        ("host", "127.0.0.1"),
        ("origin", "http://127.0.0.1:9000"),
        ("origin", "null"),
        ("sec-fetch-site", "same-site"),  # Another port of this machine, to which the cookie goes, too.
        ("sec-fetch-site", "cross-site"),
        ("cookie", "punctual-8000=é".encode()),
    ],
)
def test_another_site_gets_nothing_and_changes_nothing(page, stack, header, value):
    assert page.get("/event?id=order-1", headers={header: value}).status_code == 403
    assert page.post("/cancel", data={"id": "order-1"}, headers={header: value}).status_code == 403
    assert stack.received() == []


def test_a_change_is_posted_with_an_origin_and_not_to_a_read_only_page(page, stack):
    stack.add_undelivered({"payload": "x"})
    reader = visitor(is_read_only=True)
    assert "read-only" in text(reader, "/?token=the-token")
    assert text(reader, "/event?id=order-1").count(" disabled>") == 3
    assert text(reader, "/messages?action=resend").count(" disabled>Resend") == 2
    del page.headers["origin"]
    for path in ("/cancel", "/reschedule", "/resend", "/redrive"):
        form = {"id": "order-1", "now": "1", "all": "1"}
        assert [reader.post(path, data=form).status_code, page.post(path, data=form).status_code] == [404, 403]
        assert page.get(f"{path}?id=order-1&now=1&all=1").status_code == 405
    assert (stack.received(), stack.left()) == ([], 1)


def test_nothing_is_inline_and_a_payload_an_id_and_a_filter_are_text(page, stack):
    stack.add_undelivered({"payload": SCRIPT}, id="lost", error=SCRIPT)
    with_script = "/messages?action=resend", f"/event?id={SCRIPT}", f"/?event={SCRIPT}", "/events", "/event?id=order-1"
    for path in (*with_script, "/static/page.css", "/now", "/pending", "/histogram", "/lateness", "/failed"):
        answer = page.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?! src=\"/static/)|<style|<[^>]+ (style|on\w+)=|https?://", answer.text), path
        assert ("owned" in answer.text) == (path in with_script), path


def test_now_says_in_a_sentence_what_is_wrong_and_what_is_not_known(page, stack, tables, log):
    tables.park(ago(5), id="in-a-moment", at=ago(3600), number=6)
    assert "Punctual: nothing is overdue, no queue keeps" in text(page, "/now")
    log.write("order-3-00000001", started("order-3", 60), ended({"message_id": "m", "late_ms": 1001}, 50))
    shown = text(page, "/now")
    assert "Look here: 1 % of the deliveries were 1,001 ms late or more." in shown
    assert "p50 1,001 ms p99 1,001 ms max 1,001 ms" in shown and re.search(r"last delivery 5\d\.\d s ago<", shown)
    tables.park(ago(60), id="late", at=ago(3600), number=7)
    tables.cancel(tables.park(ago(90), at=ago(3600), number=8), at=ago(1800))
    stack.add_undelivered({"payload": "x"})
    stack.received(stack.undelivered)  # Somebody has it, and has not deleted it.
    stack.add_undelivered({"payload": "y"})
    names = [{"AlarmName": "punctual-OverdueAlarm-1"}]
    stack.answers["DescribeAlarms"] = lambda call, asked: {"MetricAlarms": names if asked == ALARMS else []}
    stack.refuse("FilterLogEvents", "AccessDeniedException", "no logs:FilterLogEvents")
    shown = text(page, "/now")
    assert re.search(r"Look here: late has been overdue for .* s; 2 messages in Undelivered; 1 alarm rings\.", shown)
    assert "<small>OverdueAlarm-1<" in shown and "permission denied: no logs:FilterLogEvents" in shown
    assert [shown.count(f'<div class="verdict {level}">') for level in ("bad", "odd", "good")] == [3, 1, 1]


def test_the_count_is_made_once_and_zooms(page, tables, calls):
    def bars(path: str) -> list[int]:
        return [int(number) for number in re.findall(r'aria-label="[^"]+: (\d+) event', text(page, path))]

    for number in range(1, 30):
        tables.park(SOON + timedelta(minutes=number * 7), id=f"n-{number}", number=number, at=NOW)
    tables.cancel(tables.park(SOON, number=41, at=NOW), at=NOW)
    assert "30 events parked" in text(page, "/histogram")
    assert sum(bars("/histogram")) == 30 and 30 < len(bars("/histogram")) <= 48
    calls.clear()
    # From within the minute in which an event is due, until that in which another is.
    zoom = f"/histogram?after={SOON:%Y-%m-%dT%H}:14:30%2B00:00&before={SOON:%Y-%m-%dT%H}:35%2B00:00"
    assert (sum(bars(zoom)), calls) == (3, [])
    assert "11 events parked" in text(page, "/histogram?id=n-2")
    tables.park(datetime(9999, 12, 31, tzinfo=UTC), id="far-away", number=40, at=NOW)
    assert "31 events parked, 1 of them later than this" in text(page, "/histogram?again=1")


def test_what_cannot_be_read_is_said_in_its_place_and_tried_again(page, stack, monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE_SECONDS", -1)
    assert "the count was stopped, because nobody waited for it" in text(page, "/histogram")
    stack.answers["Query"] = lambda call, parameters: time.sleep(4 * reading.WAIT_SECONDS) or call()
    monkeypatch.setattr(reading, "PATIENCE_SECONDS", 3 * reading.WAIT_SECONDS)
    assert "1 event parked" in text(page, "/histogram")  # The page waits for it, and says so.
    stack.refuse("Query", "ThrottlingException", "slow down")
    problem = "Query failed: ThrottlingException: slow down</p> <button hx-get="
    assert f'{problem}"/events?id=a">Try again' in text(page, "/events?id=a")
    assert f'{problem}"/histogram?"' in text(page, "/histogram?again=1")


def test_the_next_events_are_paged_also_if_many_are_due_at_once(page, tables, monkeypatch):
    monkeypatch.setattr(parts, "ROWS", 3)
    for number in range(2, 9):
        tables.park(SOON + timedelta(minutes=number == 8), id=f"order-{number}", number=number, at=NOW)
    shown = [text(page, "/events?user=team&id=order")]
    for _ in range(2):
        [more] = re.findall(r'hx-get="/pending([^"]+)"', shown[-1])
        shown.append(text(page, f"/events{more.replace('&amp;', '&')}"))
    seen = re.findall(r">(order-\d)</a>", "".join(shown))
    assert seen == [f"order-{number}" for number in range(1, 9)] and "Later events" not in shown[-1]
    for other in ("user=x", "id=x", "target=x"):
        assert "No such events are parked" in text(page, f"/events?{other}")


def test_an_event_shows_its_life_its_message_and_what_can_be_done(page, stack, log):
    shown = text(page, "/event?id=order-1")
    assert "Parked until shortly before it is due" in shown and "last message with this id (event)" in shown
    questions = ["Cancel order-1?", "Publish order-1 now?", "Reschedule order-1?"]
    assert re.findall('hx-confirm="(.+?)"', shown) == questions
    assert "must be" in text(page, "/event?id=") and "Never seen here" in text(page, "/event?id=nobody")
    assert "order-1: canceled; it was parked" in text(page, "/cancel", id="order-1")
    assert "is published again, for 2030-01-01 10:00" in text(page, "/reschedule", id="order-1", at="2030-01-01T10:00")
    assert "is published again, for now" in text(page, "/reschedule", id="order-1", now="1")
    assert "must be" in text(page, "/reschedule", id="order-1", at="")
    log.write("order-3-00000001", started("order-3", 60, event={"user": "team"}, publish={"Message": "hello"}))
    assert "&#34;payload&#34;: &#34;hello&#34;" in text(page, "/event?id=order-3")
    cancel, moved, now = map(json.loads, stack.received())
    assert cancel == {"cancel": "order-1"}
    assert (moved["payload"], moved["date"], now["delay"]) == (SCRIPT, "2030-01-01T10:00:00+00:00", 0)


def test_a_denied_permission_greys_its_button_until_the_page_is_opened_again(page, stack):
    stack.add_undelivered({"payload": "x", "target": TARGET})
    stack.refuse("Publish", "AuthorizationError", "not authorized to perform: SNS:Publish")
    assert "permission denied: not authorized to perform: SNS:Publish" in text(page, "/cancel", id="order-1")
    assert "order-4711 is kept, because it could not be published" in text(page, "/resend", all="1")
    grey = r"disabled>(\w+)[^<]*</button> <small[^>]*>[^<]*permission denied: [^<]*SNS:Publish"
    for path, buttons in (("/event?id=order-1", ["Cancel"]), ("/messages?action=resend", ["Resend", "Resend"])):
        assert re.findall(grey, text(page, path)) == buttons
    text(page, "/")
    assert "disabled" not in text(page, "/event?id=order-1")


def test_lateness_counts_from_acceptance_if_the_date_was_past_and_lists_the_slowest(page, log):
    now = datetime.now(UTC)
    at = (now - reading.floor(now, reading.WINDOW) + reading.WINDOW).total_seconds()  # Between two windows.
    was_past = {"due_ms": 0, "accepted_ms": 10**10 - 5}
    for id, late, input in (("a", 40, {}), ("b", 900, {}), ("c", 10**10, was_past)):
        start, end = started(id, at + 5, **input), ended({"message_id": "m", "late_ms": late}, at - 5)
        log.write(f"{id}-00000000", start, end)
    log.write("gone-00000000", started("gone", 60), ended({"superseded": True}, 50))
    log.write("long-ago-00000000", started("long-ago", 3610), ended({"message_id": "m", "late_ms": 15}, 3605))
    shown = text(page, "/lateness?span=day")
    assert "4 deliveries: p50 15 ms, p99 900 ms, max 900 ms." in re.sub("<[^>]+>", "", shown)
    slowest = r"<strong>([\d,]+ ms)</strong> <a[^>]+>(.+?)<"
    assert re.findall(slowest, shown) == [("900 ms", "b"), ("40 ms", "a"), ("15 ms", "long-ago"), ("5 ms", "c")]
    assert "long-ago" not in text(page, "/lateness") and re.search('title="..:00: 900 ms"', shown)
    assert re.findall(r'title="≤ ([\d,]+ ms): 1"', shown) == ["10 ms", "20 ms", "50 ms", "1,000 ms"]


def test_a_log_is_read_once_but_for_its_last_minutes_and_on_where_it_was_left(page, log, calls, monkeypatch):
    log.write("order-3-00000001", started("order-3", 1900), ended({"message_id": "m", "late_ms": 12}, 1800))
    monkeypatch.setattr(reading, "READING_SECONDS", 0)
    answers = [text(page, "/lateness") for _ in range(8)]
    assert "Reading the log: back to" in answers[0] and "order-3" in answers[-1] and "Reading" not in answers[-1]
    calls.clear()
    text(page, "/lateness")
    begins = [parameters["startTime"] for operation, parameters in calls if operation == "FilterLogEvents"]
    assert len(begins) in (2, 4) and min(begins) > ago(1400).timestamp() * 1000
    calls.clear()
    monkeypatch.setattr(reading, "FRESH", timedelta(minutes=1))
    assert (text(page, "/lateness"), calls) == (answers[-1], [])


def test_failures_are_grouped_by_reason_across_ids(page, log):
    for id in ("a-1", "a-2"):
        cause = {"error": "NotDelivered", "cause": f"not delivered: {id}: NotFound at 09:00:0{id[2:]}.123Z"}
        log.write(f"{id}-00000001", started(id, 60), (ago(50), "ExecutionFailed", cause))
    log.write("c-1-00000001-r2", ended({"retry_at": "soon", "problem": "throttled"}, 40))  # Its start was not logged.
    log.refuse("b-1", "date is required")
    shown = text(page, "/failed")
    assert re.findall(r"<strong>(\d).</strong> ([^<]+) <small>", shown) == [
        ("2", "failed with NotDelivered: not delivered: a-2: NotFound at 09:00:02.123Z"),
        ("1", "refused: date is required"),
        ("1", "throttled"),
    ]
    assert re.findall(r"/\?event=(.+?)#event", shown) == ["a-2", "a-1", "b-1", "c-1"]


def test_chosen_messages_are_resent_and_redriven_and_all_are(page, stack, monkeypatch):
    assert "Empty" in text(page, "/messages?action=resend")
    for id in ("a", "b", "c", "d"):
        stack.add_undelivered({"payload": id, "target": TARGET}, id=id)
    assert "2 published again." in text(page, "/resend", ids=["a", "c"])
    assert ([json.loads(body)["id"] for body in stack.received()], stack.left()) == (["a", "c"], 2)
    monkeypatch.setattr(parts, "QUEUE_SECONDS", -1)
    assert "1 published again; there are more: press again." in text(page, "/resend", all="1")
    for id in ("x", "y"):
        body = json.dumps({"MessageId": id, "TopicArn": stack.input_topic, "Message": "{}"})
        stack.sqs.send_message(QueueUrl=stack.dead, MessageBody=body)
    assert "1 moved" in text(page, "/redrive", ids="y") and 'value="x"' in text(page, "/messages?action=redrive")
    assert [json.loads(body)["MessageId"] for body in stack.received(stack.input)] == ["y"]


def test_without_its_extra_the_command_says_what_to_install(stack, tables, punctual, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert 'pip install "punctual-scheduler[web]"' in punctual("web").error
