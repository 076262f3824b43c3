# examples/replace.py
"""Schedule an event, then replace it by publishing its `id` again: only the replacement is delivered.

Usage: python examples/replace.py INPUT_TOPIC_ARN TARGET_TOPIC_ARN SECONDS_FROM_NOW
"""

import json
import sys
from datetime import UTC, datetime, timedelta

import boto3

if len(sys.argv) != 4:
    sys.exit(__doc__)
input_topic, target, seconds = sys.argv[1:]
sns = boto3.client("sns")


def schedule(event_id: str, payload: str, due: datetime) -> None:
    event = {
        "id": event_id,
        "date": due.isoformat(timespec="seconds"),
        "target": target,
        "user": "team@example.com",
        "payload": payload,
    }
    answer = sns.publish(TopicArn=input_topic, Message=json.dumps(event))
    print(f"Scheduled event {event_id} ({payload}) for {event['date']}, by message {answer['MessageId']}")


due = datetime.now(UTC) + timedelta(seconds=float(seconds))
schedule("order-4711-reminder", "pay by Friday", due)
# Any field may change. The message that SNS accepted last wins.
schedule("order-4711-reminder", "pay by Monday", due + timedelta(seconds=2))
