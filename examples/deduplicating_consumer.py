# examples/deduplicating_consumer.py
"""A Lambda function, subscribed to a target topic, that acts on each event once even if it is delivered twice.

Environment: SEEN_TABLE, a DynamoDB table with the partition key `id` (a string) and the TTL attribute `expires_at`.
Permissions: dynamodb:PutItem and dynamodb:DeleteItem on that table. As a script it handles the same delivery twice.
"""

import json
import os
import time
import uuid
from typing import Any

import boto3

seen = boto3.resource("dynamodb").Table(os.environ["SEEN_TABLE"])


def act_on(payload: str) -> None:
    print(f"Reminded the customer of order {json.loads(payload)['order']}")


def handler(event: dict[str, Any], context: object) -> None:
    for sns in (record["Sns"] for record in event["Records"]):
        # All deliveries of an event have these in common. The same id with another revision is a replacement.
        names = ("scheduler-id", "scheduler-date", "scheduler-revision")  # an event without an id has no revision
        key = " ".join(sns["MessageAttributes"][name]["Value"] for name in names if name in sns["MessageAttributes"])
        attempt = str(uuid.uuid4())  # without it, boto3's own retry after a lost answer would look like a repeat
        try:
            seen.put_item(
                Item={"id": key, "attempt": attempt, "expires_at": int(time.time()) + 90 * 24 * 3600},
                ConditionExpression="attribute_not_exists(id) OR attempt = :attempt",
                ExpressionAttributeValues={":attempt": attempt},
            )
        except seen.meta.client.exceptions.ConditionalCheckFailedException:
            print(f"Ignored a repeat of {key}")
            continue
        try:
            act_on(sns["Message"])
        except Exception:
            seen.delete_item(Key={"id": key})  # so that Lambda's next attempt is not taken for a repeat
            raise


if __name__ == "__main__":
    attributes = {"scheduler-id": {"Value": str(uuid.uuid4())}, "scheduler-date": {"Value": "2026-12-24T18:00:00Z"}}
    delivery = {"Records": [{"Sns": {"Message": '{"order": 4711}', "MessageAttributes": attributes}}]}
    handler(delivery, None)
    handler(delivery, None)
