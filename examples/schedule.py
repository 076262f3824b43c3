# examples/schedule.py
"""Schedule an event.

Usage: python examples/schedule.py INPUT_TOPIC_ARN TARGET_TOPIC_ARN SECONDS_FROM_NOW
"""

import json
import sys
from datetime import UTC, datetime, timedelta

import boto3

if len(sys.argv) != 4:
    sys.exit(__doc__)
input_topic, target, seconds = sys.argv[1:]

due = datetime.now(UTC) + timedelta(seconds=float(seconds))
event = {
    "date": due.isoformat(timespec="seconds"),
    "target": target,
    "user": "team@example.com",  # whom to contact about the event
    "payload": json.dumps({"order": 4711, "action": "remind"}),
    "attributes": {"kind": "reminder"},
}
answer = boto3.client("sns").publish(TopicArn=input_topic, Message=json.dumps(event))

# The event's id, unless the event has a field `id`.
print(f"Scheduled event {answer['MessageId']} for {event['date']}")
