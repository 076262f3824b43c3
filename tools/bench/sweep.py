"""How fast the deployed Sweeper starts parked events, and how fast the emulator starts executions without it.

The stack is as it is shipped, but for one thing: the Sweeper starts a state machine that does nothing, so that only the
starts are measured. All events are in one lane, which has one invocation: several would share this machine's cores,
which they do not on AWS.
"""

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from punctual_core.event import Event, Rules, parse
from punctual_core.lanes import lane_of, lanes
from punctual_core.parking import Parking

from tools.local import LocalStack, LocalStackError

GIVE_UP_SECONDS = 60
THREADS = 32
BARE_STARTS = 1000
PARKS_PER_SECOND = 200  # less than the emulator does, so that all are parked before a sweep looks for them
DO_NOTHING = {"StartAt": "Nothing", "States": {"Nothing": {"Type": "Pass", "End": True}}}


def measure(stack: LocalStack, events: int) -> tuple[float, float]:
    """Park events of one lane that are due in the same second, let the stack's sweeps start them, and see when.

    Returns the seconds from the first start to the last, and how many executions a second the emulator starts for a
    loop of the same calls. Raises LocalStackError if not all events are started soon.
    """
    states, lambdas = stack.client("stepfunctions", max_pool_connections=THREADS), stack.client("lambda")
    swept, bare = (_create_machine(states, stack.outputs["DeliverRoleArn"]) for _ in range(2))
    sweeper = stack.physical_id("Sweeper")
    variables = lambdas.get_function_configuration(FunctionName=sweeper)["Environment"]["Variables"]
    lambdas.update_function_configuration(
        FunctionName=sweeper, Environment={"Variables": variables | {"DELIVER_ARN": swept}}
    )
    with ThreadPoolExecutor(THREADS) as threads:
        began_at = time.monotonic()
        list(threads.map(lambda _: states.start_execution(stateMachineArn=bare, input="{}"), range(BARE_STARTS)))
        bare_rate = BARE_STARTS / (time.monotonic() - began_at)
        dynamodb = stack.client("dynamodb", max_pool_connections=THREADS)
        parking = Parking(dynamodb, stack.outputs["ParkedTableName"])
        due = datetime.now(UTC) + timedelta(seconds=20 + events / PARKS_PER_SECOND)
        ids = (id for id in map(str, itertools.count()) if lane_of(id) == lanes()[0])
        list(threads.map(parking.park, (_event(id, due) for id in itertools.islice(ids, events))))
    starts: list[datetime] = []
    give_up_at = time.monotonic() + (due - datetime.now(UTC)).total_seconds() + GIVE_UP_SECONDS
    while len(starts) < events and time.monotonic() < give_up_at:
        time.sleep(2)
        starts = [execution["startDate"] for execution in stack.executions(swept)]
    if len(starts) < events:
        raise LocalStackError(f"Only {len(starts)} of {events} events were started within {GIVE_UP_SECONDS} s")
    return (max(starts) - min(starts)).total_seconds(), bare_rate


def _create_machine(states: Any, role: str) -> str:
    definition, name = json.dumps(DO_NOTHING), f"bench-{uuid4().hex[:8]}"
    machine = states.create_state_machine(name=name, definition=definition, roleArn=role, type="EXPRESS")
    return str(machine["stateMachineArn"])


def _event(id: str, due: datetime) -> Event:
    topic = "arn:aws:sns:eu-central-1:000000000000"
    message = {"id": id, "date": due.isoformat(), "target": f"{topic}:bench", "user": "bench", "payload": "x" * 100}
    event = parse(json.dumps(message), str(uuid4()), datetime.now(UTC), Rules(f"{topic}:input", ("*",)))
    assert isinstance(event, Event)
    return event
