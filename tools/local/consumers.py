"""Topics with a queue behind them, and what arrives there: for the demo, the stack tests, drills and the benchmark.

with Consumer(stack) as consumer:
    target = consumer.topic("orders")
    consumer.subscribe(stack.outputs["FailureTopicArn"])
    ...
    consumer.wait_until(lambda arrivals: len(arrivals) >= 3, seconds=30)
    for arrival in consumer.arrivals: ...
"""

import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, Self

from botocore.exceptions import BotoCoreError, ClientError

# A poll ends when a message comes or after this long, and close() waits for it.
POLL_SECONDS = 1


class Clients(Protocol):
    """Where the topics are: a LocalStack, or anything else that hands out boto3 clients."""

    def client(self, service: str, **config: Any) -> Any: ...


@dataclass(frozen=True)
class Arrival:
    """One message that came out of a subscribed topic. `published_at` is SNS's own time of it (of the emulator's:
    whole seconds), `sent_at` when the queue took it, `received_at` when the poll that brought it returned; the emulator
    looks for messages every 0.1 s, so that its polls are as late as that."""

    topic: str
    message: str
    subject: str | None
    attributes: dict[str, str]
    message_id: str
    published_at: datetime
    sent_at: datetime
    received_at: datetime


class Consumer:
    """Collects, from its making to close(), whatever arrives on the topics it made or subscribed to."""

    def __init__(self, clients: Clients, pollers: int = 2) -> None:
        """`pollers` is the number of threads that poll each queue."""
        self._sns = clients.client("sns")
        self._sqs = clients.client("sqs", max_pool_connections=2 * pollers + 2)
        self._pollers = pollers
        self._queues: dict[bool, tuple[str, str]] = {}  # by whether it is FIFO: its URL and ARN
        self._topics: list[str] = []
        self._subscriptions: list[str] = []
        self._arrivals: list[Arrival] = []
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def topic(self, name: str, fifo: bool = False) -> str:
        """Create a topic, subscribe to it, and return its ARN. The name of a FIFO topic gets its suffix here."""
        made = self._sns.create_topic(
            Name=f"{name}.fifo" if fifo else name, Attributes={"FifoTopic": "true"} if fifo else {}
        )
        self._topics.append(made["TopicArn"])
        self.subscribe(made["TopicArn"])
        return made["TopicArn"]

    def subscribe(self, topic: str) -> None:
        """Collect from a topic that exists."""
        _, queue_arn = self._queue(fifo=topic.endswith(".fifo"))
        subscription = self._sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=queue_arn, ReturnSubscriptionArn=True
        )
        self._subscriptions.append(subscription["SubscriptionArn"])

    @property
    def arrivals(self) -> list[Arrival]:
        """What has arrived until now, in that order."""
        with self._changed:
            return list(self._arrivals)

    def wait_until(self, enough: Callable[[list[Arrival]], bool], seconds: float) -> bool:
        """Wait until the arrivals are enough, or for that long. Returns whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: enough(self._arrivals), seconds)

    def close(self) -> None:
        """Stop collecting, and delete what was made."""
        self._closed.set()
        for thread in self._threads:
            thread.join()
        for subscription in self._subscriptions:
            self._sns.unsubscribe(SubscriptionArn=subscription)
        for topic in self._topics:
            self._sns.delete_topic(TopicArn=topic)
        for url, _ in self._queues.values():
            self._sqs.delete_queue(QueueUrl=url)

    def _queue(self, fifo: bool) -> tuple[str, str]:
        if fifo not in self._queues:
            attributes = {"FifoQueue": "true"} if fifo else {}
            name = f"consumer-{uuid.uuid4().hex[:8]}" + (".fifo" if fifo else "")
            url = self._sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
            answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
            arn = answer["Attributes"]["QueueArn"]
            self._sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": _open_to_sns(arn)})
            self._queues[fifo] = url, arn
            for _ in range(self._pollers):
                thread = threading.Thread(target=self._poll, args=(url,), daemon=True)
                thread.start()
                self._threads.append(thread)
        return self._queues[fifo]

    def _poll(self, url: str) -> None:
        while not self._closed.is_set():
            try:
                answer = self._sqs.receive_message(
                    QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=POLL_SECONDS, AttributeNames=["SentTimestamp"]
                )
                received_at = datetime.now(UTC)
                messages = answer.get("Messages", [])
                with self._changed:
                    self._arrivals += [_arrival(message, received_at) for message in messages]
                    self._changed.notify_all()
                if messages:
                    entries = [
                        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                        for number, message in enumerate(messages)
                    ]
                    self._sqs.delete_message_batch(QueueUrl=url, Entries=entries)
            except (BotoCoreError, ClientError):
                self._closed.wait(0.2)  # While the emulator restarts, say: the queue keeps what it has.


def _arrival(message: dict, received_at: datetime) -> Arrival:
    envelope = json.loads(message["Body"])
    return Arrival(
        topic=envelope["TopicArn"],
        message=envelope["Message"],
        subject=envelope.get("Subject"),
        attributes={name: value["Value"] for name, value in envelope.get("MessageAttributes", {}).items()},
        message_id=envelope["MessageId"],
        published_at=datetime.fromisoformat(envelope["Timestamp"]),
        sent_at=datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1000, UTC),
        received_at=received_at,
    )


def _open_to_sns(queue_arn: str) -> str:
    """A queue policy: topics of the queue's own account may send to it."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"StringEquals": {"aws:SourceAccount": queue_arn.split(":")[4]}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
