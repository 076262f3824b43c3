"""Scenarios beyond the demo's: refusals, where reports go, unusual events, cancel and replace by id."""

from punctual.scenarios import ABSENT, MISSING_TOPIC, Scenario


def refused(name: str, error: str, report_to: str | None = None, text: str | None = None, **fields: object) -> Scenario:
    """Reported on the failure topic of the stack, or on another one."""
    return Scenario(name, 15, "refused", failure_topic=report_to, fields=fields, text=text, error=error)


MORE_SCENARIOS = [
    # Refusals; tests/rules have those of each field.
    refused("no user", "user is required", user=ABSENT),
    refused("lone surrogate", "payload contains U+D83C", payload="\ud83c"),
    refused("payload too large", "payload is too large", payload="x" * 253 * 1024),
    refused("a list", "the message is not a JSON object", text='["date", "target"]'),
    refused("cancel with another field", "cancel must stand alone", text='{"cancel": "x", "user": "me"}'),
    # Where a report goes.
    refused("refused, own failure topic", "date must be", report_to="own", date="soon"),
    refused("refused, missing failure topic", "date must be", report_to=MISSING_TOPIC, date="soon"),
    refused("refused, invalid failure topic", "failure_topic must be the ARN", failure_topic="mine"),
    Scenario("missing failure topic", 7, "reported", MISSING_TOPIC, failure_topic=MISSING_TOPIC, error="not delivered"),
    Scenario("no failure topic", 7, "reported", MISSING_TOPIC, failure_topic=None, error="not delivered"),
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
