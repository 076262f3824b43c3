"""What the stack has to do beyond the demo: a dozen refusals, and events that are unusual and right."""

import json

from tools.local.demo import ABSENT, MISSING_TOPIC, Scenario


def refused(name: str, error: str, **fields: object) -> Scenario:
    return Scenario(name, due=15, ends="refused", fields=fields, error=error)


REGION = "arn:aws:sns:eu-central-1:000000000000"

MORE_SCENARIOS = [
    # The message table, field by field.
    refused("no target", "target is required", target=ABSENT),
    refused("no payload", "payload is required", payload=ABSENT),
    refused("a payload that is a number", "payload must be a string", payload=4711),
    refused("nobody to contact", "user is required", user=ABSENT),
    refused("a date that is null", "date must be a string", date=None),
    refused("month 13", "date is not a date that exists: month must be in 1..12", date="2026-13-01T00:00:00Z"),
    refused("no ISO 8601", "date must be an ISO 8601 date and time", date="24.12.2026 18:00"),
    refused(
        "another Region", "target must be a topic of this Region", target="arn:aws:sns:us-east-1:000000000000:orders"
    ),
    refused(
        "not a topic", "target must be the ARN of an SNS topic", target="arn:aws:sqs:eu-central-1:000000000000:orders"
    ),
    refused("a misspelt field", "unknown field: dtae", dtae="tomorrow"),
    refused("an id of 65 characters", "id must be 1 to 64 characters", id="x" * 65),
    refused("nine attributes", "attributes must not be more than 8", attributes={f"a{n}": "x" for n in range(9)}),
    refused("half a surrogate pair", "payload can't be encoded as UTF-8", payload="\ud83c"),
    refused("too large a payload", "payload is too large", payload="x" * 253 * 1024),
    Scenario("a list", 0, "refused", text='["date", "target"]', error="the message is not a JSON object"),
    Scenario(
        "a cancel with company", 0, "refused", text='{"cancel": "x", "user": "me"}', error="cancel must stand alone"
    ),
    Scenario("a cancel of no id", 0, "refused", text=json.dumps({"cancel": "a b"}), error="cancel must be 1 to 64"),
    # Where a report goes.
    Scenario("refused, own topic", 15, "refused", failure_topic="own", fields={"date": "soon"}, error="date must be"),
    Scenario(
        "refused, topic gone", 15, "refused", failure_topic=MISSING_TOPIC, fields={"date": "soon"}, error="date must"
    ),
    refused("refused, topic unusable", "failure_topic must be the ARN", failure_topic="mine"),
    Scenario(
        "both topics gone", 14, "reported", target=MISSING_TOPIC, failure_topic=MISSING_TOPIC, error="not delivered"
    ),
    Scenario("undelivered, to the stack's topic", 14, "reported", target=MISSING_TOPIC, error="not delivered"),
    # Unusual and right.
    Scenario("every language", 14, fields={"payload": "Grüße, 世界 🎂 \u2028\\n\n"}),
    Scenario("200 KB", 14.5, fields={"payload": "0123456789" * 20 * 1024}),
    Scenario("with a subject", 15, fields={"subject": "Your order"}),
    Scenario("in a group", 15, target="orders.fifo", fields={"message_group_id": "customer-7"}),
    Scenario("with a name", 16, fields={"id": "with_a-Name"}),
    Scenario("one millisecond past", 16.001),
    Scenario("one millisecond to", 16.999),
    Scenario("in a second", 1),
    # Replaced and canceled by name, where the sort key is known.
    Scenario("canceled by name, near", 13, "canceled", fields={"id": "near"}, cancel_after=4),
    Scenario("canceled by name, far", 28, "canceled", fields={"id": "far"}, cancel_after=4),
    Scenario("moved away", 12, "replaced", fields={"id": "to-far"}),
    Scenario("to far", 28.5, fields={"id": "to-far"}),
    Scenario("moved here", 28, "replaced", fields={"id": "to-near"}),
    Scenario("to near", 17, fields={"id": "to-near"}),
    Scenario("replaced twice", 12, "replaced", fields={"id": "thrice"}),
    Scenario("replaced once", 29, "replaced", fields={"id": "thrice"}),
    Scenario("to a third date", 18, fields={"id": "thrice"}),
]
