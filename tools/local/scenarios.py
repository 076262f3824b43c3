"""The demo's scenarios, and what only the emulator shows of a run: where events are parked, executions, what is left.

A `LocalRun` publishes scenarios to a stack, watches what happens, and lists what went wrong.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from punctual_core.lanes import lanes

from punctual.consumer import Arrival, Consumer
from punctual.scenarios import MAX_LATENESS, Outcome, Run, Scenario, scenarios
from tools.local.stack import LocalStack

# The Sweeper releases its leases, and Lambda deletes the last messages, a moment after the last event has ended.
SETTLING_SECONDS = 5

LANES = set(lanes())
CLOCK = "clock"  # the partition of the item in the Parked table that Sweep keeps for itself
FIRST_SWEEP = "first-sweep"  # the name of the execution of Sweep that wake() starts
WAKE_SECONDS = 60

# `punctual check` does not send this one: it would be reported on the failure topic of the stack.
SCENARIOS = [
    *scenarios(),
    Scenario("not JSON", 0, "refused", failure_topic=None, text="at noon, please", error="the message is not JSON"),
]


@dataclass
class Inside:
    """What is known of an event inside the stack."""

    was_parked: bool = False
    is_parked: bool = False
    execution: str | None = None
    status: str | None = None


class LocalRun(Run):
    """A run on the emulator, which is judged by tables, queues, and executions, too."""

    def __init__(
        self, stack: LocalStack, consumer: Consumer, scenarios: list[Scenario], max_lateness: timedelta = MAX_LATENESS
    ) -> None:
        self.stack, self.outputs = stack, stack.outputs
        super().__init__(
            stack.client("sns"),
            consumer,
            scenarios,
            input_topic=self.outputs["InputTopicArn"],
            failure_topic=self.outputs["FailureTopicArn"],
            max_lateness=max_lateness,
        )
        consumer.subscribe(self.failure_topic)
        self._dynamodb = stack.client("dynamodb")
        self._inside: dict[str, Inside] = {}

    def inside(self, outcome: Outcome) -> Inside:
        """What is known of an event inside the stack."""
        return self._inside.setdefault(outcome.message_id, Inside())

    def observe(self) -> None:
        """Update the outcomes from the arrivals, the Parked table, and the executions."""
        super().observe()
        parked = {item["sort_key"]["S"].rpartition("#")[2] for item in self._parked() if item["lane"]["S"] in LANES}
        executions = {e["name"]: e for e in self.stack.executions(self.outputs["DeliverArn"])}
        for outcome in self.outcomes:
            inside = self.inside(outcome)
            inside.is_parked = outcome.message_id in parked
            inside.was_parked |= inside.is_parked
            # Of an unnamed event, and of one with an id.
            for name in (outcome.message_id, f"{outcome.id}-{outcome.message_id[:8]}"):
                if execution := executions.get(name):
                    inside.execution, inside.status = name, execution["status"]

    def state(self, outcome: Outcome) -> str:
        inside, stopped = self.inside(outcome), outcome.scenario.expected if outcome.scenario.is_stopped else None
        if outcome.reports or outcome.deliveries:
            return super().state(outcome)
        if inside.is_parked:
            return "parked"
        if inside.status == "RUNNING":
            return "waiting, started by a sweep" if inside.was_parked else "waiting"
        if inside.status == "SUCCEEDED":
            return f"{stopped}, while waiting" if stopped else "sent"
        if stopped and inside.was_parked:
            return f"{stopped}, while parked"
        if stopped and self.now() > outcome.due:
            return f"{stopped}, before it started"
        return "published"

    def problems(self) -> list[str]:
        """Everything that went wrong, one sentence each. Call it after watch() has ended."""
        problems = [f"{o.scenario.name}: {problem}" for o in self.outcomes for problem in self.problems_of(o)]
        settled_by = time.monotonic() + SETTLING_SECONDS
        while (leftovers := list(self._leftovers())) and time.monotonic() < settled_by:
            time.sleep(0.2)
        named = {o.id for o in self.outcomes if "id" in o.scenario.fields and o.scenario.expected != "refused"}
        expected = named | {o.id for o in self.outcomes if o.scenario.cancel_after is not None}
        items = self._dynamodb.scan(TableName=self.outputs["RegisterTableName"])["Items"]
        if (ids := {item["id"]["S"] for item in items}) != expected:
            leftovers.append(f"the register holds {sorted(ids)} instead of {sorted(expected)}")
        return problems + leftovers

    def problems_of(self, outcome: Outcome) -> Iterator[str]:
        yield from super().problems_of(outcome)
        expected = outcome.scenario.expected
        status = {"reported": "FAILED", "refused": None}.get(expected, "SUCCEEDED")
        # An event that was deleted from its lane in time has no execution.
        may_have_none = outcome.scenario.is_stopped
        if (found := self.inside(outcome).status) != status and not (may_have_none and found is None):
            yield f"its execution is {found} instead of {status}"

    def is_incomplete(self, outcome: Outcome) -> bool:
        return super().is_incomplete(outcome) or self.inside(outcome).status == "RUNNING"

    def _may_repeat(self, scenario: Scenario) -> bool:
        return False  # AWS may start an execution twice. The emulator does not.

    def _bounds(self, delivery: Arrival) -> tuple[datetime, datetime]:
        # One machine has one clock. The emulator's receipt is late by its polling of the queue, and never early.
        return min(delivery.published_at, delivery.sent_at, delivery.received_at), delivery.received_at

    def _parked(self) -> Any:
        return self._dynamodb.scan(TableName=self.outputs["ParkedTableName"], ConsistentRead=True)["Items"]

    def _leftovers(self) -> Iterator[str]:
        if left := [item for item in self._parked() if item["lane"]["S"] != CLOCK]:
            yield f"{len(left)} items are left in the Parked table"
        for queue in ("InputQueue", "InputDeadLetters", "Undelivered"):
            if count := self.stack.messages_in(queue):
                yield f"{count} messages are left in {queue}"


def wake(stack: LocalStack, consumer: Consumer) -> None:
    """Start the first Sweep without waiting for the schedule, and Ingest by a message that it refuses.

    Raises LocalStackError if Ingest does not report the message.
    """
    stack.start_sweep(name=FIRST_SWEEP)
    consumer.subscribe(stack.outputs["FailureTopicArn"])
    stack.client("sns").publish(TopicArn=stack.outputs["InputTopicArn"], Message="wake up")
    if not consumer.wait_until(lambda arrivals: len(arrivals) > 0, WAKE_SECONDS):
        raise stack.failure(f"Ingest did not report a message within {WAKE_SECONDS} s")
