"""A consumer of SNS topics through an SQS queue: for the demo, the stack tests, the drills and the benchmark.

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

# The longest that a poll waits for a message, and so the longest that close() takes.
POLL_SECONDS = 1


class Clients(Protocol):
    """Anything that makes boto3 clients: a LocalStack, or an AWS account."""

    def client(self, service: str, **config: Any) -> Any: ...


@dataclass(frozen=True)
class Arrival:
    """One message of a subscribed topic. All times are UTC.

    published_at: SNS's timestamp (whole seconds on the emulator). sent_at: SQS's timestamp of when it accepted the
    message. received_at: when the poll with the message returned. The emulator checks a queue every 0.1 s during a
    poll, so received_at can be that much later than sent_at.
    """

    topic: str
    message: str
    subject: str | None
    attributes: dict[str, str]
    message_id: str
    published_at: datetime
    sent_at: datetime
    received_at: datetime


class Consumer:
    """Collects every message of the topics that it created or subscribed to, until close()."""

    def __init__(self, clients: Clients, pollers: int = 2) -> None:
        """pollers: the number of threads that poll each queue."""
        self._sns = clients.client("sns")
        self._sqs = clients.client("sqs", max_pool_connections=2 * pollers + 2)
        self._pollers = pollers
        self._queues: dict[bool, tuple[str, str]] = {}  # URL and ARN, by whether it is FIFO
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
        """Create a topic and subscribe to it. Returns its ARN. `name` goes without the suffix .fifo."""
        arn: str = self._sns.create_topic(
            Name=f"{name}.fifo" if fifo else name, Attributes={"FifoTopic": "true"} if fifo else {}
        )["TopicArn"]
        self._topics.append(arn)
        self.subscribe(arn)
        return arn

    def subscribe(self, topic: str) -> None:
        """Subscribe to an existing topic."""
        _, queue_arn = self._queue(fifo=topic.endswith(".fifo"))
        subscription = self._sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=queue_arn, ReturnSubscriptionArn=True
        )
        self._subscriptions.append(subscription["SubscriptionArn"])

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
        """Stop collecting, and delete the topics, subscriptions and queues that were created."""
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
                self._closed.wait(0.2)  # The emulator may be restarting. The queue keeps its messages.


def _arrival(message: dict[str, Any], received_at: datetime) -> Arrival:
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
    """A queue policy that lets every topic of the queue's account send to it."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"StringEquals": {"aws:SourceAccount": queue_arn.split(":")[4]}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
