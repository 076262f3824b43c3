"""For the tests of publishers: a scheduler in memory, with the rules and errors of the stack, and a clock of its own.

from punctual.testing import Scheduler

scheduler = Scheduler(user="team@example.com")
remind(order, scheduler)  # The code under test schedules and cancels.
[delivery] = scheduler.advance(timedelta(hours=1))
assert delivery.payload == "order-4711"
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from punctual_core.event import Event
from punctual_core.times import EventTimes

from . import client

INPUT_TOPIC = "arn:aws:sns:eu-central-1:123456789012:punctual-input"


@dataclass(frozen=True)
class Delivery:
    """What arrives on the topic `target`: when (UTC), and what SNS delivers there. `attributes` are the values of the
    message attributes as text, those of the scheduler included."""

    at: datetime
    id: str
    target: str
    payload: str
    attributes: Mapping[str, str]
    subject: str | None
    message_group_id: str | None


class Scheduler(client.Scheduler):
    """`punctual.Scheduler` without AWS. Time stands still until `advance`.

    `now` is the time at which it starts (by default, the present); the other arguments are those of
    `punctual.Scheduler`. Messages arrive as soon as they are published, so a cancel or a replacement holds until the
    stack looks for it, 0.5 to 1.5 seconds before the event is due. The stack promises only two seconds, because a
    message needs time to get there.
    """

    def __init__(self, topic_arn: str = INPUT_TOPIC, *, now: datetime | None = None, **arguments: Any):
        super().__init__(topic_arn, sns=self, **arguments)
        self.now = (now or datetime.now(UTC)).astimezone(UTC)
        self._published = 0
        # What is to be delivered, and until when it can be canceled or replaced; in the order of publication.
        self._waiting: list[tuple[datetime, Delivery]] = []

    def publish(self, TopicArn: str, Message: str) -> dict[str, str]:
        """Take a message of the input topic, as SNS does for the client."""
        self._published += 1
        message_id = f"00000000-0000-4000-8000-{self._published:012}"
        request = self._check(Message, message_id)
        self._waiting = [(until, one) for until, one in self._waiting if one.id != request.id or until <= self.now]
        if isinstance(request, Event):
            delivery = _delivery(request, max(request.due, self.now))
            self._waiting.append((EventTimes(request.due).cutoff_at, delivery))
        return {"MessageId": message_id}

    def advance(self, to: datetime | timedelta) -> list[Delivery]:
        """Let time pass until `to`, or for so long. Returns what has been delivered since the last time, the earliest
        first. Raises ValueError if that is in the past."""
        to = self.now + to if isinstance(to, timedelta) else to.astimezone(UTC)
        if to < self.now:
            raise ValueError(f"time does not go back: {to} is before {self.now}")
        self.now = to
        delivered = [one for _, one in self._waiting if one.at <= to]
        self._waiting = [(until, one) for until, one in self._waiting if one.at > to]
        return sorted(delivered, key=lambda delivery: delivery.at)

    def _now(self) -> datetime:
        return self.now


def _delivery(event: Event, at: datetime) -> Delivery:
    publish = json.loads(event.input)["publish"]
    return Delivery(
        at=at,
        id=event.id,
        target=publish["TopicArn"],
        payload=publish["Message"],
        attributes={name: value["StringValue"] for name, value in publish["MessageAttributes"].items()},
        subject=publish.get("Subject"),
        message_group_id=publish.get("MessageGroupId"),
    )
