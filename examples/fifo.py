# examples/fifo.py
"""Schedule three events to a FIFO topic: they arrive in the order of their dates, whatever the order of publication.

Usage: python examples/fifo.py INPUT_TOPIC_ARN FIFO_TOPIC_ARN SECONDS_FROM_NOW
"""

import json
import sys
from datetime import UTC, datetime, timedelta

import boto3

if len(sys.argv) != 4:
    sys.exit(__doc__)
input_topic, target, seconds = sys.argv[1:]
sns = boto3.client("sns")

first = datetime.now(UTC) + timedelta(seconds=float(seconds))
for payload, seconds_after_first in [("delivered", 4), ("shipped", 2), ("packed", 0)]:
    event = {
        "date": (first + timedelta(seconds=seconds_after_first)).isoformat(timespec="seconds"),
        "target": target,
        "user": "team@example.com",
        "payload": payload,
        "message_group_id": "order-4711",  # SNS keeps the order within a group. Default: the event's id.
    }
    answer = sns.publish(TopicArn=input_topic, Message=json.dumps(event))
    print(f"Scheduled event {answer['MessageId']} ({payload}) for {event['date']}")
