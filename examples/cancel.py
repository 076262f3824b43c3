# examples/cancel.py
"""Cancel an event.

Usage: python examples/cancel.py INPUT_TOPIC_ARN EVENT_ID

EVENT_ID is the event's `id`. An event without one has the MessageId that Publish returned, as examples/schedule.py
prints it. Cancel more than two seconds before the event is due.
"""

import json
import sys

import boto3

if len(sys.argv) != 3:
    sys.exit(__doc__)
input_topic, event_id = sys.argv[1:]

answer = boto3.client("sns").publish(TopicArn=input_topic, Message=json.dumps({"cancel": event_id}))
print(f"Published the cancel of event {event_id} as message {answer['MessageId']}")
