"""How Punctual works, as far as the simulation needs it: read from its code, template and state machines."""

import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

from tools.estimates import template
from tools.estimates.environment import ENVIRONMENT
from tools.estimates.quotas import PUBLISHES, QUOTA


@dataclass(frozen=True)
class Retry:
    """How a state retries a transient error."""

    max_attempts: int
    interval_seconds: float
    backoff_rate: float = 2.0
    max_delay_seconds: float = float("inf")
    is_jittered: bool = False

    def longest_delay(self, attempt: int) -> float:
        """Seconds before the retry after this attempt, counted from 0; with jitter, the most that it can be."""
        return min(self.max_delay_seconds, self.interval_seconds * self.backoff_rate**attempt)


@dataclass(frozen=True)
class Rules:
    lanes: int
    batch_size: int
    threads: int
    starts_before_helpers: float
    sweeper_seconds: float  # in which a Sweeper starts events
    generations: int  # executions of Sweep at the same time
    ingest_batch_size: int
    call_attempts: int  # of a function's client
    cutoff_seconds: float  # before the due time, when the register is read
    look_up: Retry
    publish: Retry
    report_to_publisher: Retry
    report_to_stack_topic: Retry


@cache
def rules() -> Rules:
    # The Sweeper reads its environment on import. Where it is set already, as in the tests, it stays.
    with patch.dict(os.environ, ENVIRONMENT | os.environ):
        from scheduler import clients, lanes, parking, sweeper, times

    ticks = re.search(r"range\(0, (\d+)", _state("sweep", "SweepAtEveryTick")["Items"])
    assert ticks, "the state machine Sweep is not as expected here"
    return Rules(
        lanes=lanes.LANES,
        batch_size=parking.BATCH_SIZE,
        threads=sweeper.THREADS,
        starts_before_helpers=sweeper.MAX_STARTS_BEFORE_HELPERS,
        sweeper_seconds=template.properties("Sweeper")["Timeout"] - sweeper.DEADLINE_MARGIN_SECONDS,
        generations=(int(ticks[1]) + 1) // 60,
        ingest_batch_size=template.properties("Ingest")["Events"]["Messages"]["Properties"]["BatchSize"],
        call_attempts=clients.ATTEMPTS,
        cutoff_seconds=times.CUTOFF_LEAD.total_seconds(),
        look_up=_retry("LookUpRevision"),
        publish=_retry("Publish"),
        report_to_publisher=_retry("ReportToPublisher"),
        report_to_stack_topic=_retry("ReportToStackTopic"),
    )


def _retry(state: str) -> Retry:
    """How a state of Deliver retries the errors that it does not name."""
    retry = next(retry for retry in _state("deliver", state)["Retry"] if retry["ErrorEquals"] == ["States.ALL"])
    return Retry(
        max_attempts=retry["MaxAttempts"],
        interval_seconds=retry["IntervalSeconds"],
        backoff_rate=retry.get("BackoffRate", 2.0),
        max_delay_seconds=retry.get("MaxDelaySeconds", float("inf")),
        is_jittered=retry.get("JitterStrategy") == "FULL",
    )


def _state(machine: str, name: str) -> dict[str, Any]:
    definition = json.loads((template.ROOT / f"statemachines/{machine}.asl.json").read_text())
    state: dict[str, Any] = definition["States"][name]
    return state


@dataclass(frozen=True)
class Setup:
    """A stack in a Region. The defaults are what is shipped, under the default quotas."""

    interval: int = int(template.default("SweepIntervalSeconds"))
    sweeps: int = field(default_factory=lambda: rules().generations)  # at each tick
    lanes: int = field(default_factory=lambda: rules().lanes)
    threads: int = field(default_factory=lambda: rules().threads)
    batch: int = field(default_factory=lambda: rules().batch_size)
    helpers_after: float = field(default_factory=lambda: rules().starts_before_helpers)  # starts
    starts: float = QUOTA["StartExecution"]  # a second
    reads: float = QUOTA["register reads"]  # a second
    publishes: float = PUBLISHES["us-east-1"]  # a second
    horizon: int = 0  # 0: that of the interval

    @property
    def horizon_seconds(self) -> int:
        return self.horizon or template.horizon_seconds(self.interval)
