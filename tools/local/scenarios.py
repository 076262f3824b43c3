"""The demo's scenarios, and what only the emulator shows of a run: which events are parked, and what is left."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from punctual.consumer import Arrival, Consumer
from punctual.scenarios import MAX_LATENESS, Outcome, Run, Scenario, scenarios
from tools.local.stack import LocalStack

# The Sweeper releases its leases, and Lambda deletes the last messages, a moment after the last event has ended.
SETTLING_SECONDS = 5

CLOCK = "clock"  # the partition of the item in the Parked table that Sweep keeps for itself
FIRST_SWEEP = "first-sweep"  # the name of the execution of Sweep that wake() starts
WAKE_SECONDS = 60

# `punctual check` does not send this one: it would be reported on the failure topic of the stack.
SCENARIOS = [
    *scenarios(),
    Scenario("not JSON", 0, "refused", failure_topic=None, text="at noon, please", error="the message is not JSON"),
]


class LocalRun(Run):
    """A run on the emulator, which is judged more strictly than one on AWS, and by tables and queues, too."""

    def __init__(
        self, stack: LocalStack, consumer: Consumer, scenarios: list[Scenario], max_lateness: timedelta = MAX_LATENESS
    ) -> None:
        super().__init__(stack, consumer, scenarios, max_lateness=max_lateness)
        consumer.subscribe(self.failure_topic)
        self._stack, self._outputs, self._dynamodb = stack, stack.outputs, stack.client("dynamodb")
        self._parked = set[str]()  # MessageIds

    def observe(self) -> None:
        super().observe()
        self._parked = {item["sort_key"]["S"].rpartition("#")[2] for item in self._items("Parked")}

    def state(self, outcome: Outcome) -> str:
        state = super().state(outcome)
        return "parked" if state == "waiting" and outcome.message_id in self._parked else state

    def problems(self) -> list[str]:
        """Everything that went wrong, one sentence each. Call it after watch() has ended."""
        problems = [f"{o.scenario.name}: {problem}" for o in self.outcomes for problem in self.problems_of(o)]
        settled_by = time.monotonic() + SETTLING_SECONDS
        while (leftovers := list(self._leftovers())) and time.monotonic() < settled_by:
            time.sleep(0.2)
        named = {o.id for o in self.outcomes if "id" in o.scenario.fields and o.scenario.expected != "refused"}
        expected = named | {o.id for o in self.outcomes if o.scenario.cancel_after is not None}
        if (ids := {item["id"]["S"] for item in self._items("Register")}) != expected:
            leftovers.append(f"the register holds {sorted(ids)} instead of {sorted(expected)}")
        return problems + leftovers

    def _may_repeat(self, scenario: Scenario) -> bool:
        return False  # AWS may start an execution twice. The emulator does not.

    def _bounds(self, delivery: Arrival) -> tuple[datetime, datetime]:
        return min(delivery.published_at, delivery.sent_at), delivery.sent_at  # One machine has one clock.

    def _items(self, table: str) -> Any:
        return self._dynamodb.scan(TableName=self._outputs[f"{table}TableName"], ConsistentRead=True)["Items"]

    def _leftovers(self) -> Iterator[str]:
        if left := [item for item in self._items("Parked") if item["lane"]["S"] != CLOCK]:
            yield f"{len(left)} items are left in the Parked table"
        for queue in ("InputQueue", "InputDeadLetters", "Undelivered"):
            if count := self._stack.messages_in(queue):
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
