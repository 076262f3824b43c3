"""The simulation is right: moto's interpreter takes the same paths, and its services take what the states send."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from moto.backends import get_backend
from punctual_core.limits import INPUT_BYTES, MESSAGE_BYTES
from punctual_core.parking import ParkedEvent, Parking

from tests.workflows.engine import Engine
from tests.workflows.simulation import Clock, Machine, Run
from tests.workflows.world import (
    DELIVER,
    DUE,
    HOLD,
    NO_PAUSES,
    OWN_TOPIC,
    PARKED,
    PERMANENT,
    REGISTER,
    REVISION,
    SNS,
    SQS,
    STACK_TOPIC,
    TARGET,
    TEMPLATE,
    TRANSIENT,
    UNDELIVERED,
    World,
    event,
)
from tools.cloudformation import ACCOUNT, REGION, Template

TOPICS = {"target": TARGET, "fifo": f"{TARGET}.fifo", "own": OWN_TOPIC, "stack": STACK_TOPIC}


class Cloud:
    """The tables and topics of the stack, and the Undelivered queue, in moto."""

    def __init__(self, engine: Engine):
        self.engine = engine
        for table in ("Register", "Parked"):
            engine.client("dynamodb").create_table(**TEMPLATE.table(table))
        for arn in TOPICS.values():
            attributes = {"FifoTopic": "true"} if arn.endswith(".fifo") else {}
            engine.client("sns").create_topic(Name=arn.split(":")[-1], Attributes=attributes)
        engine.client("sqs").create_queue(QueueName=UNDELIVERED.split("/")[-1])

    def received(self, name: str) -> list[tuple[str, str | None, dict, str | None]]:
        """What a topic took since the last time: message, subject, attributes, and group."""
        taken = get_backend("sns")[ACCOUNT][REGION].topics[TOPICS[name]].sent_notifications
        found = [(message, subject, attributes or {}, group) for _, message, subject, attributes, group in taken]
        taken.clear()
        return found

    def undelivered(self) -> list[dict]:
        """What is in the Undelivered queue, which is emptied."""
        messages = get_backend("sqs")[ACCOUNT][REGION].queues[UNDELIVERED.split("/")[-1]]._messages
        found = [json.loads(message.body) for message in messages]
        messages.clear()
        return found

    def parked(self) -> list[tuple[str, ParkedEvent]]:
        """What is parked, with its lane, as the Sweeper reads it; it is deleted."""
        client = self.engine.client("dynamodb")
        parking, found = Parking(client, PARKED), []
        for lane in {item["lane"]["S"] for item in client.scan(TableName=PARKED)["Items"]}:
            events = [*parking.due_before(lane, DUE + timedelta(days=2))]
            parking.delete(lane, [event.sort_key for event in events])
            found += [(lane, event) for event in events]
        return found


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Engine() as engine:
        yield Cloud(engine)


def run_on_moto(cloud: Cloud, world: World, fails: dict[str, str | list[str]], now: float) -> Run:
    """The first execution of a world's event."""
    attempts = {state: iter(errors) if isinstance(errors, list) else None for state, errors in fails.items()}

    def error(state: str) -> str | None:
        errors = attempts.get(state)
        return next(errors, None) if errors else fails.get(state)

    def invoke(function: str, payload: dict) -> None:
        assert function == HOLD
        cloud.engine.now = max(cloud.engine.now, payload["due_ms"] / 1000)

    cloud.engine.now, cloud.engine.error, cloud.engine.invoke = now, error, invoke
    register = cloud.engine.client("dynamodb")
    register.delete_item(TableName=REGISTER, Key={"id": {"S": world.event.id}})
    if world.registered:
        item = {"id": {"S": world.event.id}, "revision": {"S": world.registered}}
        register.put_item(TableName=REGISTER, Item=item)
    return cloud.engine.run(DELIVER, json.loads(world.event.input))


UNREPORTABLE = dict.fromkeys(SNS | SQS, TRANSIENT)
# What fails, always or once for each error, and the event.
SCENARIOS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "whole second": ({}, {"subject": "Order", "attributes": {"kind": "new"}}),
    "fraction": ({}, {"due": DUE + timedelta(milliseconds=250)}),
    "no Hold": ({"HoldFraction": "Lambda.Unknown"}, {"due": DUE + timedelta(milliseconds=250)}),
    "no register": ({"LookUpRevision": "DynamoDB.InternalServerErrorException"}, {}),
    "superseded": ({}, {"id": "superseded"}),
    "two faults that pass": ({"Publish": [TRANSIENT, "States.Timeout"]}, {}),
    "parked again": ({"Publish": TRANSIENT}, {"id": "order-4711"}),
    "not parked": ({"Publish": TRANSIENT, "Park": "DynamoDB.ThrottlingException"}, {"failure_topic": OWN_TOPIC}),
    "permanent": ({"Publish": PERMANENT}, {"failure_topic": OWN_TOPIC, "id": "order-4711"}),
    "no failure topic": ({"Publish": "States.DataLimitExceeded"}, {}),
    "own topic fails": ({"Publish": PERMANENT, "ReportToPublisher": PERMANENT}, {"failure_topic": OWN_TOPIC}),
    "SNS fails": (dict.fromkeys(SNS, PERMANENT), {}),
    "unreported": ({**UNREPORTABLE, "Publish": PERMANENT}, {}),
    "nothing works": ({**UNREPORTABLE, "Publish": PERMANENT, "Park": "States.Timeout"}, {}),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_moto_takes_the_same_path(cloud, name):
    """Path, attempts, outcome and what is parked, delivered and reported are those of the simulation."""
    fails, fields = SCENARIOS[name]
    attempts: dict[str, int] = {}

    def error(state: str, seconds: float) -> str | None:
        attempts[state] = attempts.get(state, 0) + 1
        errors = fails.get(state)
        return errors if not isinstance(errors, list) else dict(enumerate(errors, 1)).get(attempts[state])

    world = World(event(**fields), error, NO_PAUSES)
    world.registered = "another" if name == "superseded" else REVISION if "id" in fields else None
    run = run_on_moto(cloud, world, fails, now=world.clock.now)
    simulated = world.run_first()
    assert run.path == simulated.path
    assert run.attempts == simulated.attempts
    assert (run.status, run.error, run.cause) == (simulated.status, simulated.error, simulated.cause)
    if run.output and "message_id" in run.output:
        assert (simulated.output.keys(), 0 <= run.output["late_ms"] < 1000) == (run.output.keys(), True)
    else:
        assert run.output == simulated.output
    parked = [(lane, it.sort_key, it.execution, json.loads(it.input), it.retry) for lane, it in cloud.parked()]
    assert parked == [
        (item["lane"], item["sort_key"], item["execution"], json.loads(item["input"]), int(item["retry"]))
        for item in world.parked.values()
    ]
    delivered = cloud.received("target")
    assert len(delivered) == len(world.delivered)
    if "message_id" in (run.output or {}):
        publish = json.loads(world.event.input)["publish"]
        [(message, subject, attributes, _)] = delivered
        assert (message, subject) == (publish["Message"], publish.get("Subject"))
        sent = {name: value["StringValue"] for name, value in publish["MessageAttributes"].items()}
        assert {name: value["Value"] for name, value in attributes.items()} == sent
    reports = [json.loads(message) for message, *_ in cloud.received("own") + cloud.received("stack")]
    assert reports + cloud.undelivered() == (world.messages if world.reported else [])


def test_fifo_topic(cloud):
    """A FIFO topic takes what Deliver publishes, with its group."""
    run_on_moto(cloud, world := World(event(target=TOPICS["fifo"], id="order-4711")), {}, now=world.due)
    [(*_, group)] = cloud.received("fifo")
    assert group == "order-4711"


PAYLOADS = {
    "any characters": '{"a": "\\"b\\" \'c\' \\\\ d"} Grüße, 世界 🕰️ \u2028 \ud7ff \t\r\n line\nline ',
    "expressions": "{% $states.context.Execution.Id %}",
    "expressions inside": 'a {% 1 + 1 %} $states.input ${FailureTopicArn} $$.Execution {"b": "{% 2 %}"}',
    "as large as it may be": '"' * ((INPUT_BYTES - 1200) // 2),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_payload_is_unchanged(cloud, name):
    """Whatever can be scheduled can be delivered and reported, with its payload unchanged."""
    world = World(event(payload=PAYLOADS[name]))
    run_on_moto(cloud, world, {}, now=world.due)
    run_on_moto(cloud, world, {"Publish": PERMANENT}, now=world.due)
    [[delivered, *_]], [[reported, *_]] = cloud.received("target"), cloud.received("stack")
    assert delivered == PAYLOADS[name]
    assert len(reported.encode()) <= MESSAGE_BYTES
    fields = {"date": DUE.isoformat(), "target": TARGET, "user": "team", "payload": PAYLOADS[name]}
    assert json.loads(reported)["event"] == fields


@pytest.mark.parametrize(("has_successor", "crashes"), [(True, True), (False, False)])
def test_sweep(cloud, has_successor, crashes):
    """Sweep takes the same path on moto: ticks, their holders, one retry, and rounds until there is a successor."""
    definition = Template(SweepIntervalSeconds="20").definition("Sweep")
    table, key = cloud.engine.client("dynamodb"), {"lane": {"S": "clock"}, "sort_key": {"S": "latest"}}
    holders: list[str] = []

    def invoke(function: str, payload: dict) -> dict:
        holders.append(payload["holder"])
        if has_successor:
            successor = {"execution": {"S": "another"}, "started_ms": {"N": "1000000000000"}}
            table.put_item(TableName=PARKED, Item=key | successor)
        return {"started": 1}

    failed: list[str] = []

    def error(state: str) -> str | None:
        if state == "Sweep" and crashes and not failed:
            failed.append(state)
            return "Lambda.Unknown"
        return None

    cloud.engine.now, cloud.engine.error, cloud.engine.invoke = 0, error, invoke
    run = cloud.engine.run(definition, {})
    table.delete_item(TableName=PARKED, Key=key)

    def call(state: str, arguments: Any) -> tuple[dict, float]:
        item = {"execution": {"S": "another"}, "started_ms": {"N": "1000000000000"}}
        return {"Item": item} if state == "LookUpSuccessor" and has_successor else {"Payload": {}}, 0

    simulated, clock = Run("simulated", 0), Clock(0)
    clock.start(Machine(definition, clock, call).execute(simulated, {}))
    clock.run(1000)
    inner = {"WaitForTick", "Sweep", "MissTick"}
    assert [state for state in run.path if state not in inner] == [s for s in simulated.path if s not in inner]
    assert (run.status, run.error, run.output) == (simulated.status, simulated.error, simulated.output)
    ticks = range(0, 62 if has_successor else 242, 20)
    assert sorted(holders) == sorted(f"{run.name}-{tick}" for tick in ticks)
