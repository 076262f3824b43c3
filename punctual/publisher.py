"""For publishers: schedule and cancel events from Python, with the checks that the stack makes.

from punctual import Scheduler

scheduler = Scheduler(INPUT_TOPIC_ARN, user="team@example.com")
id = scheduler.schedule(target=TOPIC_ARN, payload="order-4711", delay=timedelta(minutes=15))
scheduler.cancel(id)
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from punctual_core.event import Refused, Rules, parse

# Not among the rules that a publisher can know: which topics the stack allows, and whether it requires a user.
_ANY_TOPIC = ("*",)


class InvalidEvent(ValueError):
    """The stack would refuse this event or cancel. The text is the sentence with which it would."""


class Scheduler:
    """Publishes to the input topic of a stack.

    `user` is whom to contact about the events; `sns` a boto3 client for SNS, by default one for the topic's Region;
    `rules` what the stack accepts, by default every topic of its Region.
    """

    def __init__(self, topic_arn: str, *, user: str | None = None, sns: Any = None, rules: Rules | None = None):
        self.topic_arn, self._user = topic_arn, user
        self._rules = rules or Rules(topic_arn, _ANY_TOPIC, user_required=False)
        self._sns = sns or boto3.client("sns", region_name=topic_arn.split(":")[3])

    def schedule(
        self,
        *,
        target: str,
        payload: str,
        at: datetime | str | None = None,
        delay: timedelta | float | None = None,
        timezone: str | None = None,
        user: str | None = None,
        id: str | None = None,
        failure_topic: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        message_group_id: str | None = None,
    ) -> str:
        """Schedule an event, or replace the one with the same `id`. Returns its id.

        Exactly one of `at` (a datetime, or ISO 8601 text) and `delay` (from now on; a number is seconds) says when
        `payload` is delivered to the topic `target`. A datetime or text without an offset is local time in the IANA
        zone `timezone`; a datetime without either is refused, because it may mean UTC or local time.

        Raises `InvalidEvent` before anything is published, or botocore's errors.
        """
        if isinstance(at, datetime):
            if at.tzinfo is None and timezone is None:
                raise InvalidEvent("at has neither an offset nor a timezone: use for example datetime.now(UTC)")
            at = at.isoformat()
        fields: dict[str, Any] = {
            "date": at,
            "delay": delay.total_seconds() if isinstance(delay, timedelta) else delay,
            "timezone": timezone,
            "target": target,
            "payload": payload,
            "user": user or self._user,
            "id": id,
            "failure_topic": failure_topic,
            "subject": subject,
            "attributes": dict(attributes) if attributes is not None else None,
            "message_group_id": message_group_id,
        }
        message_id = self._publish({name: value for name, value in fields.items() if value is not None})
        return id or message_id

    def cancel(self, id: str) -> None:
        """Cancel the event with this id. Holds until two seconds before it is due; an unknown id is not an error.

        Raises `InvalidEvent` if this can't be an id, or botocore's errors.
        """
        self._publish({"cancel": id})

    def check_id(self, id: str) -> None:
        """Raise `InvalidEvent` if this can't be the id of an event."""
        self._check(json.dumps({"cancel": id}))

    def _publish(self, message: dict[str, Any]) -> str:
        text = json.dumps(message, ensure_ascii=False)
        self._check(text)
        message_id: str = self._sns.publish(TopicArn=self.topic_arn, Message=text)["MessageId"]
        return message_id

    def _check(self, text: str) -> None:
        try:
            # The MessageId is not known yet; one of its length stands for it, because it counts toward the size.
            parse(text, "0" * 36, datetime.now(UTC), self._rules)
        except Refused as refused:
            raise InvalidEvent(refused.error) from None
