"""For publishers: schedule and cancel events from Python, with the checks that the stack makes.

from punctual import Scheduler

scheduler = Scheduler(INPUT_TOPIC_ARN, user="team@example.com")
id = scheduler.schedule(target=TOPIC_ARN, payload="order-4711", delay=timedelta(minutes=15))
scheduler.cancel(id)
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import boto3
from punctual_core.event import Cancel, Event, Refused, Rules, parse
from punctual_core.limits import TOPIC_ARN
from punctual_core.times import parse_date, zone

# Far beyond every number of the message format, and within what JSON readers take.
_MAX_NUMBER = 1e300

type Attribute = str | float | Decimal | Sequence[str]


class InvalidEvent(ValueError):
    """The stack would refuse this event or cancel. The text is the sentence with which it would, or names the argument
    that has no place in a message."""


class Scheduler:
    """Publishes to the input topic of a stack.

    `user` is whom to contact about the events, unless an event names its own. Without either, an event is refused here,
    as the stack does: `user_required=False` is for stacks with EnforceUser=false. `sns` is a boto3 client for SNS, by
    default one for the topic's Region. `rules` says what else is known of the stack, such as its TargetTopicArns; by
    default every topic of the Region is allowed. `rules` overrides `user_required`.

    Raises ValueError if `topic_arn` cannot be an input topic.
    """

    def __init__(
        self,
        topic_arn: str,
        *,
        user: str | None = None,
        user_required: bool = True,
        sns: Any = None,
        rules: Rules | None = None,
    ):
        match = TOPIC_ARN.fullmatch(topic_arn) if isinstance(topic_arn, str) else None
        if not match or topic_arn.endswith(".fifo"):
            raise ValueError(f"topic_arn must be the stack's InputTopicArn, a standard SNS topic, not {topic_arn!r}")
        self.topic_arn, self._user = topic_arn, user
        self._rules = rules or Rules(topic_arn, allowed_topics=("*",), user_required=user_required)
        self._sns = sns or boto3.client("sns", region_name=match[2])

    def schedule(
        self,
        *,
        target: str,
        payload: str,
        at: date | str | None = None,
        delay: timedelta | float | Decimal | None = None,
        timezone: str | ZoneInfo | None = None,
        user: str | None = None,
        id: str | None = None,
        unnamed: bool = False,
        failure_topic: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, Attribute] | None = None,
        message_group_id: str | None = None,
    ) -> str:
        """Schedule an event, or replace the one with the same `id`. Returns its id.

        Exactly one of `at` (a datetime, a date, or ISO 8601 text) and `delay` (from now on; a number is seconds) says
        when `payload` is delivered to the topic `target`. Without an offset, `at` is local time in the IANA zone
        `timezone`; without either it is refused, as text too, because it may mean UTC or local time. A local time that
        exists twice means the first, or with `fold=1` the second. A date means midnight.

        An event without `id` gets a random one before it is published: when the answer of SNS is lost, the SDK
        publishes again, and the second message replaces the first instead of becoming another event. A named event
        costs the stack one write to its register, and one of the ten attributes of a message. `unnamed` avoids both:
        the id is then the MessageId that SNS returns, and a lost answer may deliver the event twice, under two ids.

        Raises `InvalidEvent` before anything is published, or botocore's errors.
        """
        if unnamed and id is not None:
            raise InvalidEvent("id must not stand beside unnamed")
        if isinstance(timezone, ZoneInfo):
            timezone = timezone.key
        at, timezone = _unambiguous(at, timezone)
        event_id = id if unnamed or id is not None else str(uuid.uuid4())
        fields = {
            "date": at,
            "delay": delay.total_seconds() if isinstance(delay, timedelta) else delay,
            "timezone": timezone,
            "target": target,
            "payload": payload,
            "user": self._user if user is None else user,
            "id": event_id,
            "failure_topic": failure_topic,
            "subject": subject,
            "attributes": attributes,
            "message_group_id": message_group_id,
        }
        message_id = self._publish({name: value for name, value in fields.items() if value is not None})
        return event_id or message_id

    def cancel(self, id: str) -> None:
        """Cancel the event with this id. Holds until two seconds before it is due; an unknown id is not an error.

        Raises `InvalidEvent` if this can't be an id, or botocore's errors.
        """
        self._publish({"cancel": id})

    def _publish(self, fields: Mapping[str, Any]) -> str:
        text = json.dumps({name: _as_json_value(name, value) for name, value in fields.items()}, ensure_ascii=False)
        self._check(text)
        return str(self._sns.publish(TopicArn=self.topic_arn, Message=text)["MessageId"])

    # The MessageId is not known yet; one of its length stands for it, because it counts toward the size.
    def _check(self, text: str, message_id: str = "0" * 36) -> Event | Cancel:
        try:
            return parse(text, message_id, self._now(), self._rules)
        except Refused as refused:
            raise InvalidEvent(refused.error) from None

    def _now(self) -> datetime:
        return datetime.now(UTC)


def _unambiguous(at: date | str | None, timezone: str | None) -> tuple[str | None, str | None]:
    """The date and the time zone of the message."""
    if isinstance(at, datetime) and at.fold and at.utcoffset() is None and timezone is not None:
        # The message format has no word for the second of two equal local times, so it is told in UTC. A time that
        # does not exist has two offsets, too, in the other order: the rules refuse it.
        try:
            first, second = (at.replace(tzinfo=zone(timezone), fold=fold) for fold in (0, 1))
            if second.utcoffset() < first.utcoffset():  # type: ignore[operator]
                at, timezone = second.astimezone(UTC), None
        except (ValueError, TypeError, OverflowError):
            pass  # The rules refuse it in their own words.
    if isinstance(at, date):
        at = at.isoformat()
    if isinstance(at, str) and timezone is None and is_local_time(at):
        raise InvalidEvent("at has neither an offset nor a timezone: use for example datetime.now(UTC)")
    return at, timezone


def is_local_time(text: str) -> bool:
    """Whether this is a date, or a date and time, without an offset."""
    try:
        parse_date(text, zone("UTC"))  # Refuses an offset.
    except ValueError:
        return False
    return True


def _as_json_value(name: str, value: object) -> object:
    """The value as the encoder takes it. `name` is the argument to blame: what JSON cannot say has no other message."""
    match value:
        case str() | bool():
            return value
        case Decimal() if value.is_finite():
            number = float(value)
            if Decimal(repr(number)) != value:
                raise InvalidEvent(f"{name} has more digits than a number in JSON keeps: {value}")
            return _as_json_value(name, int(value) if number.is_integer() and abs(number) < _MAX_NUMBER else number)
        case int() | float():
            if not -_MAX_NUMBER < value < _MAX_NUMBER:
                raise InvalidEvent(f"{name} must be a finite number")
            return value
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise InvalidEvent(f"{name} must have names that are strings")
            return {key: _as_json_value(f"{name}.{key}", inner) for key, inner in value.items()}
        case list() | tuple():
            return [_as_json_value(name, inner) for inner in value]
        case Decimal():
            raise InvalidEvent(f"{name} must be a finite number")
        case _:
            raise InvalidEvent(f"{name} must not be of type {type(value).__name__}")
