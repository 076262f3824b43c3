"""The offset between this machine's clock and that of SQS, which lateness at the consumer is corrected by."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tools.local import Clients

SAMPLES = 20
RECEIVE_TIMEOUT_SECONDS = 15


@dataclass(frozen=True)
class ClockOffset:
    """What to add to this machine's clock to get that of SQS. It is wrong by at most `error`."""

    offset: timedelta
    error: timedelta


def measure_clock_offset(clients: Clients, samples: int = SAMPLES) -> ClockOffset:
    """Send messages to a temporary queue. SQS stamps each one after it is sent and before the call returns."""
    sqs = clients.client("sqs")
    url = sqs.create_queue(QueueName=f"bench-clock-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    try:
        called: dict[int, tuple[datetime, datetime]] = {}
        stamped: dict[int, datetime] = {}
        for number in range(samples):
            before = datetime.now(UTC)
            sqs.send_message(QueueUrl=url, MessageBody=str(number))
            called[number] = before, datetime.now(UTC)
        give_up_at = time.monotonic() + RECEIVE_TIMEOUT_SECONDS
        while len(stamped) < samples and time.monotonic() < give_up_at:
            answer = sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, AttributeNames=["SentTimestamp"]
            )
            for message in answer.get("Messages", []):
                milliseconds = int(message["Attributes"]["SentTimestamp"])
                stamped[int(message["Body"])] = datetime.fromtimestamp(milliseconds / 1000, UTC)
    finally:
        sqs.delete_queue(QueueUrl=url)
    return clock_offset([(*called[number], stamp) for number, stamp in stamped.items()])


def clock_offset(samples: Sequence[tuple[datetime, datetime, datetime]]) -> ClockOffset:
    """The offset that agrees with every sample or, if none does, the mean of the extremes.

    A sample is the time before and the time after a call on this machine's clock, and the time between the two on the
    other clock, truncated to whole milliseconds.
    """
    a_millisecond = timedelta(milliseconds=1)  # because of the truncation, the true time is up to this much later
    lowest = max(stamp - after for before, after, stamp in samples)
    highest = min(stamp + a_millisecond - before for before, after, stamp in samples)
    return ClockOffset(offset=(lowest + highest) / 2, error=abs(highest - lowest) / 2)
