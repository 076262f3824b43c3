"""Random histories of ids (scheduled, replaced, canceled, repeated, overtaken) end as a small model says.

All of them run at the same time on the deployed stack. Set HISTORIES_SEED to the seed of a failure to run it again.
"""

import json
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tools.local import Consumer, LocalStack

COUNT = 36
SEED = int(os.environ.get("HISTORIES_SEED", random.randrange(10**6)))

# Seconds from the start. Messages are at least a second apart, because the emulator's SNS has timestamps in seconds.
LAST_MESSAGE, LAST_DUE = 12, 22
# A cancel or a replacement is promised to hold until this long before the due time. A later one may hold.
PROMISED = 2
# How long after its due time an event may still be stopped by a message that has overtaken its own.
SLACK = 3


@dataclass(frozen=True, order=True)
class Message:
    """One message for an id. Times are seconds from the start.

    reaches_at: when it reaches the queue: later than published_at if it is overtaken, several times if it is repeated.
    due: None for a cancel.
    """

    published_at: float
    reaches_at: tuple[float, ...]
    due: float | None
    payload: str


def draw(dice: random.Random) -> list[Message]:
    history = []
    for published_at in sorted(dice.sample(range(LAST_MESSAGE), dice.randint(1, 4))):
        due = (
            None
            if history and dice.random() < 0.3
            else dice.choice([dice.randint(2, LAST_DUE), dice.randint(40, 95) / 4])
        )
        reaches_at = [published_at + dice.choice([0, 0, 0, 1.5, 4.5])]
        if dice.random() < 0.25:
            reaches_at.append(reaches_at[0] + dice.uniform(0.5, 6))
        history.append(Message(published_at, tuple(reaches_at), due, str(uuid.uuid4())))
    return history


class Player:
    """Publishes histories: to the topic or, if a message is overtaken or repeated, to the queue behind it."""

    def __init__(self, stack: LocalStack, target: str) -> None:
        self._outputs, self._target = stack.outputs, target
        self._sns, self._sqs = stack.client("sns"), stack.client("sqs")
        self._queue = stack.physical_id("InputQueue")

    def play(self, histories: dict[str, list[Message]]) -> datetime:
        """Play all histories at the same time. Returns the start time."""
        steps = sorted(
            (at, number, id, message)
            for id, history in histories.items()
            for message in history
            for number, at in enumerate(message.reaches_at)
        )
        # A whole second, so that whole numbers mean whole seconds of the clock.
        started_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
        for at, _, id, message in steps:
            time.sleep(max(0, (started_at - datetime.now(UTC)).total_seconds() + at))
            self._send(id, message, started_at)
        return started_at

    def _send(self, id: str, message: Message, started_at: datetime) -> None:
        text = {"cancel": id}
        if message.due is not None:
            date = (started_at + timedelta(seconds=message.due)).isoformat()
            text = {"date": date, "id": id, "target": self._target, "user": "test", "payload": message.payload}
        if message.reaches_at == (message.published_at,):
            self._sns.publish(TopicArn=self._outputs["InputTopicArn"], Message=json.dumps(text))
            return
        envelope = {
            "Message": json.dumps(text),
            "MessageId": message.payload,
            "Timestamp": (started_at + timedelta(seconds=message.published_at)).isoformat(),
        }
        self._sqs.send_message(QueueUrl=self._queue, MessageBody=json.dumps(envelope))


def model(history: list[Message]) -> Iterator[tuple[Message, set[int]]]:
    """For each event of one id: how many times it may be delivered."""
    for event in (message for message in history if message.due is not None):
        later = [m.reaches_at[0] for m in history if m.published_at > event.published_at]
        goes_at = max(event.due, event.reaches_at[0])
        if any(reaches <= max(event.due - PROMISED, event.reaches_at[0] - PROMISED) for reaches in later):
            yield event, {0}
        elif any(reaches <= goes_at + SLACK for reaches in later):
            yield event, {0, 1}
        else:
            yield event, {1}


def test_every_history_ends_as_the_model_says(other: LocalStack):
    dice = random.Random(SEED)
    histories = {f"history-{number}": draw(dice) for number in range(COUNT)}
    with Consumer(other) as consumer:
        started_at = Player(other, consumer.topic("histories")).play(histories)
        time.sleep(max(0, (started_at - datetime.now(UTC)).total_seconds() + LAST_DUE + SLACK))
        arrivals = consumer.arrivals
    delivered = Counter(arrival.message for arrival in arrivals)
    wrong = [
        f"{message.payload} was delivered {delivered[message.payload]} times, not {allowed}: {history}"
        for history in histories.values()
        for message, allowed in model(history)
        if delivered[message.payload] not in allowed
    ]
    due = {message.payload: message.due for history in histories.values() for message in history}
    early = [a for a in arrivals if a.sent_at < started_at + timedelta(seconds=due[a.message])]
    assert (wrong, early) == ([], []), f"HISTORIES_SEED={SEED}"
