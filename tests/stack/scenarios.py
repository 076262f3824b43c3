"""Scenarios beyond the demo's: every kind of refusal, where reports go, unusual events, cancel and replace by id."""

from punctual.scenarios import ABSENT, MISSING_TOPIC, Scenario


def refused(name: str, error: str, **fields: object) -> Scenario:
    """Reported on the failure topic of the stack."""
    return Scenario(name, due=15, expected="refused", failure_topic=None, fields=fields, error=error)


def not_an_event(name: str, text: str, error: str) -> Scenario:
    """Reported on the failure topic of the stack."""
    return Scenario(name, due=0, expected="refused", failure_topic=None, text=text, error=error)


MORE_SCENARIOS = [
    # Refusals, field by field.
    refused("no target", "target is required", target=ABSENT),
    refused("no payload", "payload is required", payload=ABSENT),
    refused("payload is a number", "payload must be a string", payload=4711),
    refused("no user", "user is required", user=ABSENT),
    refused("date is null", "date must be a string", date=None),
    refused("month 13", "date is not a date that exists: month must be in 1..12", date="2026-13-01T00:00:00Z"),
    refused("not ISO 8601", "date must be an ISO 8601 date and time", date="24.12.2026 18:00"),
    refused(
        "another Region", "target must be a topic of this Region", target="arn:aws:sns:us-east-1:000000000000:orders"
    ),
    refused(
        "not a topic", "target must be the ARN of an SNS topic", target="arn:aws:sqs:eu-central-1:000000000000:orders"
    ),
    refused("misspelled field", "unknown field: dtae", dtae="tomorrow"),
    refused("id of 65 characters", "id must be 1 to 64 characters", id="x" * 65),
    refused("nine attributes", "attributes must not be more than 8", attributes={f"a{n}": "x" for n in range(9)}),
    refused("lone surrogate", "payload contains U+D83C", payload="\ud83c"),
    refused("payload too large", "payload is too large", payload="x" * 253 * 1024),
    not_an_event("a list", '["date", "target"]', "the message is not a JSON object"),
    not_an_event("cancel with another field", '{"cancel": "x", "user": "me"}', "cancel must stand alone"),
    not_an_event("cancel without an id", '{"cancel": "a b"}', "cancel must be 1 to 64"),
    # Where a report goes.
    Scenario(
        "refused, own failure topic",
        15,
        "refused",
        failure_topic="own",
        fields={"date": "soon"},
        error="date must be",
    ),
    Scenario(
        "refused, missing failure topic",
        15,
        "refused",
        failure_topic=MISSING_TOPIC,
        fields={"date": "soon"},
        error="date must be",
    ),
    refused("refused, invalid failure topic", "failure_topic must be the ARN", failure_topic="mine"),
    Scenario(
        "not delivered, missing failure topic",
        7,
        "reported",
        target=MISSING_TOPIC,
        failure_topic=MISSING_TOPIC,
        error="not delivered",
    ),
    Scenario(
        "not delivered, no failure topic", 7, "reported", MISSING_TOPIC, failure_topic=None, error="not delivered"
    ),
    # Unusual events.
    Scenario("payload in many scripts", 7, fields={"payload": "Grüße, 世界 🎂 \u2028\\n\n"}),
    Scenario("200 KB", 7.5, fields={"payload": "0123456789" * 20 * 1024}),
    Scenario("with a subject", 7, fields={"subject": "Your order"}),
    Scenario("in a message group", 7, target="orders.fifo", fields={"message_group_id": "customer-7"}),
    Scenario("every kind of character in its id", 7, fields={"id": "with_a-Name"}),
    Scenario("one millisecond after a second", 7.001),
    Scenario("one millisecond before a second", 7.999),
    Scenario("due in one second", 1),
    # Cancel and replace by id.
    Scenario("canceled by id in execution", 7, "canceled", fields={"id": "near"}, cancel_after=2),
    Scenario("canceled by id while parked", 28, "canceled", fields={"id": "far"}, cancel_after=4),
    Scenario("replaced by a later one", 7, "replaced", fields={"id": "to-later"}),
    Scenario("the later one", 28.5, fields={"id": "to-later"}),
    Scenario("replaced by an earlier one", 28, "replaced", fields={"id": "to-earlier"}),
    Scenario("the earlier one", 8, fields={"id": "to-earlier"}),
    Scenario("first of three", 7, "replaced", fields={"id": "three-times"}),
    Scenario("second of three", 29, "replaced", fields={"id": "three-times"}),
    Scenario("third of three", 8, fields={"id": "three-times"}),
]
