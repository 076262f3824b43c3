"""A consumer of SNS topics through SQS queues of its own: for `punctual check`, the demo, tests, drills, and benchmark.

with Consumer(stack) as consumer:
    target = consumer.topic("orders")
    consumer.subscribe(stack.outputs["FailureTopicArn"])
    ...
    consumer.wait_until(lambda arrivals: len(arrivals) >= 3, seconds=30)
    for arrival in consumer.arrivals: ...
"""

import json
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self

from botocore.exceptions import BotoCoreError, ClientError

# The longest that a poll waits for a message, and so the longest that close() waits for the polls to end.
POLL_SECONDS = 1
# Of each queue: one polls while the other handles what has arrived.
POLLERS = 2
# How often connect() publishes to a topic from which nothing has arrived.
CONNECT_INTERVAL_SECONDS = 2


class Deployed(Protocol):
    """A Stack of `punctual`, or a LocalStack of `tools`."""

    def client(self, service: Any, **config: Any) -> Any: ...

    def output(self, key: str) -> str: ...

    def physical_id(self, logical_id: str) -> str: ...


@dataclass(frozen=True)
class Arrival:
    """One message of a subscribed topic. All times are UTC."""

    topic: str
    message: str
    attributes: dict[str, str]
    published_at: datetime  # when SNS accepted the message, by SNS's clock
    sent_at: datetime  # when SQS accepted it, by SQS's clock


class Consumer:
    """Collects every message of the topics that it created or subscribed to, until close()."""

    def __init__(self, stack: Deployed, name: str = "") -> None:
        """name: of the queues; begins the names of all topics that may be subscribed to."""
        self._sns, self._sqs = stack.client("sns"), stack.client("sqs", max_pool_connections=2 * POLLERS + 2)
        self._name, self._topic_prefix = name or f"consumer-{uuid.uuid4().hex[:8]}", name
        self._queues: dict[bool, str] = {}  # ARN by whether it is FIFO
        self._topics: list[str] = []
        self._arrivals: list[Arrival] = []
        self._probes: dict[str, tuple[datetime, datetime]] = {}  # the time before and after each was published
        self._probe_arrivals: list[Arrival] = []
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._created = ExitStack()  # Goes on with the others if one can't be removed.

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def topic(self, name: str, fifo: bool = False) -> str:
        """Create a topic and subscribe to it. Returns its ARN. `name` goes without the suffix .fifo."""
        arn: str = self._sns.create_topic(
            Name=f"{name}.fifo" if fifo else name, Attributes={"FifoTopic": "true"} if fifo else {}
        )["TopicArn"]
        self._created.callback(self._sns.delete_topic, TopicArn=arn)  # with its subscriptions
        self._topics.append(arn)
        self._subscribe(arn)
        return arn

    def subscribe(self, topic: str) -> None:
        """Subscribe to an existing topic of this account and Region."""
        self._created.callback(self._sns.unsubscribe, SubscriptionArn=self._subscribe(topic))

    def connect(self, seconds: float = 60) -> tuple[timedelta, timedelta]:
        """Publish to every topic that was created, until a message of each has arrived: on AWS, a subscription takes
        effect a moment after it was created. These messages are not among the arrivals.

        Returns what to add to this machine's clock to get that of SNS, and how long publishing a message takes. Raises
        TimeoutError if a topic's message does not arrive within `seconds`.
        """
        give_up_at = time.monotonic() + seconds
        while missing := self._unconnected():
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"nothing that is published to {missing[0]} arrives in the queue {self._name}")
            for topic in missing:
                self._probe(topic)
            with self._changed:
                self._changed.wait_for(lambda: not self._unconnected(), CONNECT_INTERVAL_SECONDS)
        # SNS stamps a message between the two times, so the shortest call states the offset best.
        before, after, stamp = min(
            ((*self._probes[arrival.message], arrival.published_at) for arrival in self._probe_arrivals),
            key=lambda sample: sample[1] - sample[0],
        )
        return stamp - before - (after - before) / 2, after - before

    @property
    def arrivals(self) -> list[Arrival]:
        """What has arrived so far, in order of arrival."""
        with self._changed:
            return list(self._arrivals)

    def wait_until(self, condition: Callable[[list[Arrival]], bool], seconds: float) -> bool:
        """Wait until the arrivals meet a condition, for `seconds` at most. Returns whether they do."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self._arrivals), seconds)

    def close(self) -> None:
        """Stop collecting, and remove the topics, subscriptions, and queues that were created.

        Tries to remove each of them before it raises botocore's error for the last that it could not remove.
        """
        self._closed.set()
        self._created.close()

    def _subscribe(self, topic: str) -> str:
        queue = self._queue(topic)
        answer = self._sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, ReturnSubscriptionArn=True)
        return str(answer["SubscriptionArn"])

    def _queue(self, topic: str) -> str:
        """The ARN of the queue for a topic, in the topic's account and Region."""
        is_fifo = topic.endswith(".fifo")
        if is_fifo not in self._queues:
            name = self._name + (".fifo" if is_fifo else "")
            _, partition, _, region, account, _ = topic.split(":")
            arn = f"arn:{partition}:sqs:{region}:{account}:{name}"
            # With its policy from the beginning: a change of it can take a minute to take effect.
            attributes = {"Policy": _open_to(f"{topic.rpartition(':')[0]}:{self._topic_prefix}*", arn)} | (
                {"FifoQueue": "true"} if is_fifo else {}
            )
            url = self._sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
            self._created.callback(self._sqs.delete_queue, QueueUrl=url)
            self._queues[is_fifo] = arn
            for _ in range(POLLERS):
                thread = threading.Thread(target=self._poll, args=(url,), daemon=True)
                thread.start()
                self._created.callback(thread.join)
        return self._queues[is_fifo]

    def _probe(self, topic: str) -> None:
        text = str(uuid.uuid4())
        fifo = {"MessageGroupId": text, "MessageDeduplicationId": text} if topic.endswith(".fifo") else {}
        before = datetime.now(UTC)
        self._probes[text] = before, before  # It may arrive before Publish has answered.
        self._sns.publish(TopicArn=topic, Message=text, **fifo)
        self._probes[text] = before, datetime.now(UTC)

    def _unconnected(self) -> list[str]:
        """The topics that were created and from which no probe has arrived."""
        connected = {arrival.topic for arrival in self._probe_arrivals}
        return [topic for topic in self._topics if topic not in connected]

    def _poll(self, url: str) -> None:
        while not self._closed.is_set():
            try:
                messages = self._sqs.receive_message(
                    QueueUrl=url,
                    MaxNumberOfMessages=10,
                    WaitTimeSeconds=POLL_SECONDS,
                    MessageSystemAttributeNames=["SentTimestamp"],
                ).get("Messages", [])
                with self._changed:
                    for arrival in map(_arrival, messages):
                        (self._probe_arrivals if arrival.message in self._probes else self._arrivals).append(arrival)
                    self._changed.notify_all()
                if messages:
                    entries = [{"Id": one["MessageId"], "ReceiptHandle": one["ReceiptHandle"]} for one in messages]
                    self._sqs.delete_message_batch(QueueUrl=url, Entries=entries)
            except (BotoCoreError, ClientError):
                self._closed.wait(0.2)  # The emulator may be restarting. The queue keeps its messages.


def _arrival(message: dict[str, Any]) -> Arrival:
    envelope = json.loads(message["Body"])
    return Arrival(
        topic=envelope["TopicArn"],
        message=envelope["Message"],
        attributes={name: value["Value"] for name, value in envelope.get("MessageAttributes", {}).items()},
        published_at=datetime.fromisoformat(envelope["Timestamp"]),
        sent_at=datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1000, UTC),
    )


def _open_to(topics: str, queue_arn: str) -> str:
    """A queue policy that lets the topics with such ARNs send to it."""
    sns, condition = {"Service": "sns.amazonaws.com"}, {"ArnLike": {"aws:SourceArn": topics}}
    statement = {"Effect": "Allow", "Principal": sns, "Action": "sqs:SendMessage", "Resource": queue_arn}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement | {"Condition": condition}]})
