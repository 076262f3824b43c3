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
from tools.estimates.quotas import LATENCY, PARTITIONS, PUBLISHES, QUOTA


@dataclass(frozen=True)
class Retry:
    """How a state retries a transient error."""

    interval_seconds: float
    max_attempts: float = float("inf")
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
    in_flight: int  # batches of a Sweeper
    look_ahead_seconds: float
    max_keys: int  # of a lane that a sweep looks at
    lane_rate: float  # events a second after the horizon beyond which a lane is crowded
    delete_retry: Retry  # attempts in a row that delete nothing
    max_deletes: int  # in one call
    max_throttled: int  # deletes of a lane that may wait while its events are started
    seconds_for_deletes: float  # after the last start of a Sweeper, at most
    last_deletes_seconds: float  # after the last start of a lane, at least
    start_lead_seconds: float
    generations: int  # executions of Sweep at the same time
    ingest_batch_size: int
    call_attempts: int  # of a function's client
    cutoff_seconds: float  # before the due time, when the register is read
    look_up: Retry
    publish: Retry
    report_to_publisher: Retry
    report_to_stack_topic: Retry
    park_again: Retry  # each at least half as long as the longest delay
    give_up_seconds: float  # after the due time


@cache
def rules() -> Rules:
    # The Sweeper reads its environment on import. Where it is set already, as in the tests, it stays.
    with patch.dict(os.environ, ENVIRONMENT | os.environ):
        from punctual_core import clients, lanes, parking, sweeper, times

    retry_at = _state("deliver", "IsTooLate")["Assign"]["retry_at"]
    longest, first = _numbers(r"\$min\(\[(\d+), (\d+) \* \$power\(2,", retry_at)
    (give_up_hours,) = _numbers(r"> (\d+) \* 3600 \* 1000", _state("deliver", "IsTooLate")["Choices"][0]["Condition"])
    return Rules(
        lanes=lanes.LANES,
        batch_size=parking.BATCH_SIZE,
        threads=sweeper.THREADS,
        starts_before_helpers=sweeper.MAX_STARTS_BEFORE_HELPERS,
        sweeper_seconds=template.properties("Sweeper")["Timeout"] - sweeper.DEADLINE_MARGIN_SECONDS,
        in_flight=sweeper.MAX_BATCHES_IN_FLIGHT,
        look_ahead_seconds=sweeper.LOOK_AHEAD.total_seconds(),
        max_keys=sweeper.MAX_KEYS_AHEAD,
        lane_rate=sweeper.LANE_STARTS_PER_SECOND,
        delete_retry=Retry(
            interval_seconds=parking.DELETE_BACKOFF_SECONDS,
            max_attempts=parking.DELETE_ATTEMPTS,
            max_delay_seconds=parking.MAX_DELETE_BACKOFF_SECONDS,
            is_jittered=True,
        ),
        max_deletes=parking.MAX_DELETES,
        max_throttled=sweeper.MAX_THROTTLED,
        seconds_for_deletes=sweeper.DEADLINE_MARGIN_SECONDS - sweeper.RELEASE_SECONDS,
        last_deletes_seconds=sweeper.LAST_DELETES_SECONDS,
        start_lead_seconds=sweeper.START_LEAD.total_seconds(),
        generations=int(_state("sweep", "RecordStart")["Assign"]["round_end"]) // 60,
        ingest_batch_size=template.properties("Ingest")["Events"]["Messages"]["Properties"]["BatchSize"],
        call_attempts=clients.ATTEMPTS,
        cutoff_seconds=times.CUTOFF_LEAD.total_seconds(),
        look_up=_retry("LookUpRevision"),
        publish=_retry("Publish"),
        report_to_publisher=_retry("ReportToPublisher"),
        report_to_stack_topic=_retry("ReportToStackTopic"),
        park_again=Retry(interval_seconds=first, max_delay_seconds=longest),
        give_up_seconds=give_up_hours * 3600,
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


def _numbers(pattern: str, text: str) -> list[float]:
    """The groups of a pattern that the text has to contain."""
    found = re.search(pattern, text)
    assert found, f"a state machine is not as expected here: {pattern} is not in {text}"
    return [float(number) for number in found.groups()]


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
    in_flight: int = field(default_factory=lambda: rules().in_flight)  # batches of a Sweeper
    helpers_after: float = field(default_factory=lambda: rules().starts_before_helpers)
    call_attempts: int = field(default_factory=lambda: rules().call_attempts)

    # How early events are started: seconds
    horizon: float = 0  # 0: that of the interval
    look_ahead: float = field(default_factory=lambda: rules().look_ahead_seconds)  # after the horizon
    # A lane is crowded if so many events a second, and one second's more, are due after the horizon. Infinite: never.
    lane_rate: float = field(default_factory=lambda: rules().lane_rate)

    # Quotas, a second
    starts: float = QUOTA["StartExecution"]
    reads: float = QUOTA["register reads"]
    publishes: float = PUBLISHES["us-east-1"]
    writes: float = QUOTA["table writes"]
    partition_writes: float = QUOTA["partition writes"]
    partitions: int = PARTITIONS

    # What is believed
    sweeper_rate: float = 1 / LATENCY["start CPU"]  # starts a second
    cold_start: float = LATENCY["cold start"]  # seconds

    @property
    def horizon_seconds(self) -> float:
        return self.horizon or template.horizon_seconds(self.interval)
