"""`Scheduler`: what it publishes, and what it refuses before anything is published."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from punctual_core.event import parse
from punctual_core.times import parse_date, zone

from punctual import InvalidEvent, Rules, Scheduler, client
from tests.conftest import TARGET, at, take, wanted

INPUT = "arn:aws:sns:eu-central-1:123456789012:input"
MESSAGE_ID = "5fa2c1b0-63a7-5d2e-9e1f-0d8c54c1a7aa"
EIGHTEEN, NO_TIME = datetime(2026, 12, 24, 18), datetime(2027, 3, 28, 2, 30)  # noqa: DTZ001 (without a zone)
LOCAL = {EIGHTEEN: "2026-12-24T18:00:00", EIGHTEEN.date(): "2026-12-24"}
LOCAL |= {text: text for text in (*LOCAL.values(), "20261224T18")}


class Topic:
    """A client of SNS that remembers what was published."""

    def __init__(self):
        self.messages = []

    def publish(self, TopicArn: str, Message: str) -> dict:
        assert TopicArn == INPUT
        self.messages.append(Message)
        return {"MessageId": MESSAGE_ID}


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def scheduler(topic) -> Scheduler:
    return Scheduler(INPUT, user="team", sns=topic)


@pytest.fixture
def published(scheduler, topic):
    """Schedules an event that is right but for the fields given; the message that was published."""

    def schedule(**fields) -> dict:
        scheduler.schedule(**{"target": TARGET, "payload": "order", **fields})
        return json.loads(topic.messages[-1])

    return schedule


def test_every_argument_becomes_a_field(published):
    fields = {
        "id": "order-4711",
        "failure_topic": f"{TARGET}-failed",
        "subject": "Order",
        "attributes": {"color": "red"},
        "message_group_id": "orders",
    }
    message = published(at="2026-12-24T18:00Z", **fields)
    assert message == {"date": "2026-12-24T18:00Z", "target": TARGET, "payload": "order", "user": "team", **fields}


@pytest.mark.parametrize(
    ("when", "fields"),
    [
        ({"at": datetime(2026, 12, 24, 18, tzinfo=UTC)}, {"date": "2026-12-24T18:00:00+00:00"}),
        ({"delay": timedelta(days=1, seconds=0.5)}, {"delay": 86_400.5}),
        ({"delay": Decimal("1.5")}, {"delay": 1.5}),
        ({"delay": Decimal(90)}, {"delay": 90}),
        *(
            ({"at": local, "timezone": zone}, {"date": date, "timezone": "Europe/Berlin"})
            for local, date in LOCAL.items()
            for zone in ("Europe/Berlin", ZoneInfo("Europe/Berlin"))
        ),
    ],
)
def test_every_way_to_say_when(published, when, fields):
    """Local time goes with its zone."""
    message = published(**when)
    assert {name: message[name] for name in message if name in ("date", "delay", "timezone")} == fields


def test_the_second_of_two_equal_local_times_is_meant_by_fold(published):
    """In Berlin it is half past two twice on the day on which clocks are set back."""
    twice = datetime(2026, 10, 25, 2, 30)  # noqa: DTZ001
    dues = []
    for fold in (0, 1):
        message = published(at=twice.replace(fold=fold), timezone="Europe/Berlin")
        timezone = zone(message["timezone"]) if "timezone" in message else None
        dues.append(parse_date(message["date"], timezone))
    assert dues == [at("00:30", "2026-10-25"), at("01:30", "2026-10-25")]


class Color(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"payload": ""}, "payload must not be empty"),
        ({"delay": -1}, "delay must not be negative"),
        ({"delay": None}, "date is required"),
        ({"at": "2026-12-24T18:00Z", "delay": 1}, "delay must not stand beside date"),
        ({"at": "soon"}, "date must be an ISO 8601 date"),
        ({"target": "orders"}, "target must be the ARN of an SNS topic"),
        ({"attributes": {}, "subject": ""}, "subject must be less than 100 printable ASCII characters"),
        # What JSON cannot say.
        ({"payload": b"order"}, "payload must not be of type bytes"),
        ({"payload": Color.RED}, "payload must not be of type Color"),
        ({"id": uuid.UUID(int=1)}, "id must not be of type UUID"),
        ({"attributes": {"color": Color.RED}}, "attributes.color must not be of type Color"),
        ({"attributes": {"price": float("inf")}}, "attributes.price must be a finite number"),
        ({"attributes": {1: "red"}}, "attributes must have names that are strings"),
        ({"delay": float("nan")}, "delay must be a finite number"),
        ({"delay": Decimal("nan")}, "delay must be a finite number"),
        ({"delay": 10**400}, "delay must be a finite number"),
        ({"delay": Decimal("0.12345678901234567890")}, "delay has more digits than a number in JSON keeps"),
        # A local time that does not exist has two offsets, too.
        ({"at": NO_TIME, "timezone": "Europe/Berlin"}, "date is not a time that exists in Europe/Berlin"),
        ({"at": NO_TIME.replace(fold=1), "timezone": "Europe/Berlin"}, "date is not a time that exists in"),
        ({"at": NO_TIME.replace(fold=1), "timezone": "Mars"}, "timezone must be an IANA"),
        # It may mean UTC or the publisher's local time: `datetime.now().isoformat()` would be hours off.
        *(({"at": local}, "at has neither an offset nor a timezone") for local in LOCAL),
    ],
)
def test_what_the_stack_would_refuse_is_not_published(published, topic, fields, sentence):
    with pytest.raises(InvalidEvent, match=sentence):
        published(**{"delay": None if "at" in fields else 1, **fields})
    assert topic.messages == []


def test_a_payload_that_fits_here_fits_there(scheduler, topic):
    """The MessageId, which is not known yet, counts toward the size of an unnamed event."""
    event = {"target": TARGET, "at": "2026-12-24T00Z", "unnamed": True}
    with pytest.raises(InvalidEvent) as refused:
        scheduler.schedule(payload="x" * 262_000, **event)
    [envelope] = [int(word) for word in str(refused.value).split() if word.isdigit() and int(word) > 262_000]
    size = 262_144 - 4096 - (envelope - 262_000)
    with pytest.raises(InvalidEvent, match="too large"):
        scheduler.schedule(payload="x" * (size + 1), **event)
    assert scheduler.schedule(payload="x" * size, **event) == MESSAGE_ID
    parse(topic.messages[0], MESSAGE_ID, at("09:00", "2026-12-23"), Rules(INPUT, ("*",)))  # Raises Refused if not.


# --- Ids --------------------------------------------------------------------------------------------------------------


def test_an_event_keeps_its_id_or_gets_one_of_its_own(scheduler, topic):
    ids = [scheduler.schedule(target=TARGET, payload="x", delay=1, id=id) for id in ("order-4711", None, None)]
    assert [json.loads(message)["id"] for message in topic.messages] == ids
    assert ids[0] == "order-4711" and len({*ids, MESSAGE_ID}) == 4


def test_an_unnamed_event_has_the_id_that_sns_gives_it(scheduler, topic):
    assert scheduler.schedule(target=TARGET, payload="x", delay=1, unnamed=True) == MESSAGE_ID
    assert "id" not in json.loads(topic.messages[0])
    with pytest.raises(InvalidEvent, match="id must not stand beside unnamed"):
        scheduler.schedule(target=TARGET, payload="x", delay=1, id="order", unnamed=True)


@pytest.mark.parametrize(("unnamed", "deliveries"), [(False, 1), (True, 2)])
def test_an_event_is_delivered_once_though_the_sdk_published_it_twice(cloud, unnamed, deliveries):
    """The SDK repeats the call when the answer of SNS is lost: two messages, each with a MessageId of its own."""
    requests = []

    def lose_first_answer(request, **_):
        requests.append(parse_qs(request.body))
        if len(requests) == 1:
            raise ReadTimeoutError(endpoint_url="aws")

    sns = boto3.client("sns", "eu-central-1")
    sns.create_topic(Name="input")
    sns.meta.events.register_first("before-send.sns.Publish", lose_first_answer)
    Scheduler(INPUT, user="team", sns=sns).schedule(target=TARGET, payload="x", at=at("10:00"), unnamed=unnamed)
    messages = [text for request in requests for text in request["Message"]]
    assert len(messages) == 2
    for message in messages:
        take(message, at("09:59:59"))
    assert len([start for start in cloud.starts if wanted(cloud, start)]) == deliveries


def test_a_cancel_names_the_id(scheduler, topic):
    scheduler.cancel("order-4711")
    assert topic.messages == ['{"cancel": "order-4711"}']
    for refused in ("a b", None, 4711):
        with pytest.raises(InvalidEvent, match="cancel"):
            scheduler.cancel(refused)
    assert len(topic.messages) == 1


# --- The stack that it publishes to -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", ["", "input", INPUT.replace("sns", "sqs"), f"{INPUT}.fifo", INPUT.replace("123456789012", ""), None]
)
def test_only_a_standard_topic_can_be_an_input_topic(wrong):
    with pytest.raises(ValueError, match="topic_arn must be the stack's InputTopicArn"):
        Scheduler(wrong)


def test_the_client_of_sns_is_for_the_region_of_the_topic(monkeypatch):
    made = []
    monkeypatch.setattr(client.boto3, "client", lambda *arguments, **options: made.append((arguments, options)))
    Scheduler("arn:aws:sns:eu-west-1:123456789012:input")
    assert made == [(("sns",), {"region_name": "eu-west-1"})]


def test_a_user_is_required_unless_the_stack_does_without(topic):
    """An event without one would be accepted by SNS, and reported by the stack."""
    event = {"target": TARGET, "payload": "x", "delay": 1}
    required = Scheduler(INPUT, sns=topic)
    for scheduler, fields in [(required, {}), (required, {"user": ""}), (Scheduler(INPUT, user="team"), {"user": ""})]:
        with pytest.raises(InvalidEvent, match="user is required"):
            scheduler.schedule(**event, **fields)
    required.schedule(**event, user="me")
    Scheduler(INPUT, sns=topic, user_required=False).schedule(**event)
    Scheduler(INPUT, sns=topic, user="team").schedule(**event, user="me")
    assert [json.loads(message).get("user") for message in topic.messages] == ["me", None, "me"]


def test_the_rules_of_a_stack_may_be_given(topic):
    scheduler = Scheduler(INPUT, user="team", sns=topic, rules=Rules(INPUT, (f"{TARGET}-*",)))
    with pytest.raises(InvalidEvent, match="target is not a topic that this scheduler may publish to"):
        scheduler.schedule(target=TARGET, payload="x", delay=1)
    scheduler.schedule(target=f"{TARGET}-new", payload="x", delay=1)
