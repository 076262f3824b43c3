"""For the tests of publishers: a scheduler in memory, with the rules and errors of the stack, and a clock of its own.

from punctual.testing import Scheduler

scheduler = Scheduler(user="team@example.com")
remind(order, scheduler)  # The code under test schedules and cancels.
[delivery] = scheduler.advance(timedelta(hours=1))
assert delivery.payload == "order-4711"
"""

import heapq
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
        # What comes next, and when: an event is decided, then delivered. The number keeps the order of publication.
        self._agenda: list[tuple[datetime, bool, int, Event]] = []
        self._delivered: list[Delivery] = []
        self._revisions: dict[str, str] = {}

    def publish(self, TopicArn: str, Message: str) -> dict[str, str]:
        """Take a message of the input topic, as SNS does for the client."""
        self._published += 1
        message_id = f"00000000-0000-4000-8000-{self._published:012}"
        request = self._check(Message, message_id)
        if not isinstance(request, Event):
            self._revisions[request.id] = message_id
            return {"MessageId": message_id}
        if request.is_named:
            self._revisions[request.id] = message_id
        decided_at = max(EventTimes(request.due).cutoff_at, self.now)
        heapq.heappush(self._agenda, (decided_at, False, self._published, request))
        self._run_until(self.now)
        return {"MessageId": message_id}

    def advance(self, to: datetime | timedelta) -> list[Delivery]:
        """Let time pass until `to`, or for so long. Returns what has been delivered since the last time, the earliest
        first. Raises ValueError if that is in the past."""
        to = self.now + to if isinstance(to, timedelta) else to.astimezone(UTC)
        if to < self.now:
            raise ValueError(f"time does not go back: {to} is before {self.now}")
        self._run_until(to)
        self.now = to
        delivered, self._delivered = self._delivered, []
        return delivered

    def _now(self) -> datetime:
        return self.now

    def _run_until(self, to: datetime) -> None:
        while self._agenda and self._agenda[0][0] <= to:
            moment, is_decided, number, event = heapq.heappop(self._agenda)
            if is_decided:
                self._delivered.append(_delivery(event, moment))
            elif self._revisions.get(event.id, event.revision) == event.revision:
                heapq.heappush(self._agenda, (max(event.due, moment), True, number, event))


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
