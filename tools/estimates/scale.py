"""How late events are in bursts and in busy months, as the tables of docs/scale.md."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tools.documents import markdown_table, replace_marked
from tools.estimates import template
from tools.estimates.quotas import PUBLISHES
from tools.estimates.rules import Setup
from tools.estimates.simulation import Outcome, parked_burst, parked_flow, published_burst

DOCUMENT = template.ROOT / "docs/scale.md"
HEADS = [
    "p50, s",
    "p99, s",
    "max, s",
    "last start, s",
    "sweepers at once",
    "saturated",
    "retried",
    "repeated",
    "unchecked",
]
EVENTS = "events due at once"
# Of how many runs a burst within what is promised is the worst.
CHANCES = 4


def renew_document() -> None:
    """Write every table of docs/scale.md again."""
    for name, table in TABLES.items():
        replace_marked(DOCUMENT, name, table())


def outcome_table(outcome: Outcome) -> str:
    """The table of one run."""
    return markdown_table(HEADS, [_row(outcome)])


def _row(outcome: Outcome) -> list[str]:
    assert not outcome.undelivered, "the tables have no column for events that are not delivered"
    return [
        *(f"{outcome.quantile(share):.2f}" for share in (0.5, 0.99, 1)),
        f"{outcome.last_start:+.1f}",
        str(outcome.sweepers),
        outcome.saturated,
        f"{outcome.retried:,}",
        f"{outcome.repeats:,}",
        f"{outcome.unchecked:,}",
    ]


def _months() -> str:
    rows = []
    for a_month in (100e6, 500e6):
        mean, peak = a_month / 30 / 86_400, a_month / 30 / 2 / 7_200
        for name, rate, at_the_minute in (
            ("even", mean, False),
            ("peak: half of a day's events in two hours", peak, False),
            ("peak, all in the first second of a minute", peak, True),
        ):
            outcome = parked_flow(Setup(), rate, at_the_minute, 180)
            shape = [f"{a_month / 1e6:.0f} M", name, f"{rate:,.0f}", f"{outcome.waiting:.1f}"]
            rows.append([*shape, *_row(outcome)])
    return markdown_table(["events a month", "shape", "events a second", "wait in Express, s", *HEADS], rows)


def _bursts() -> str:
    rows = [
        [f"{events:,}", *_row(parked_burst(Setup(), events, CHANCES if events <= 30_000 else 1))]
        for events in (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000)
    ]
    return markdown_table([EVENTS, *HEADS], rows)


def _published() -> str:
    rows = [
        [f"{events:,}", f"{seconds} s", *_row(published_burst(Setup(), events, seconds))]
        for events, seconds in ((30_000, 5), (30_000, 12), (30_000, 20), (30_000, 60), (100_000, 20), (100_000, 60))
    ]
    return markdown_table([EVENTS, "published before", *HEADS], rows)


def _margins() -> str:
    changes: dict[str, tuple[dict[str, Any], bool]] = {
        "nothing": ({}, False),
        "the sweep that would find them fails": ({}, True),
        "a cold start takes 2 s": ({"cold_start": 2.0}, False),
        "others use half of `StartExecution`": ({"starts": 3_000}, False),
        "a Sweeper starts 300 a second": ({"sweeper_rate": 300}, False),
    }
    rows = [
        [f"{events:,}", name, *_row(parked_burst(replace(Setup(), **change), events, CHANCES, is_missed))]
        for events in (100, 1_000, 10_000, 30_000)
        for name, (change, is_missed) in changes.items()
    ]
    return markdown_table([EVENTS, "trouble", *HEADS], rows)


def _regions() -> str:
    rows = [
        [f"{events:,}", region, f"{publishes:,}", *_row(parked_burst(replace(Setup(), publishes=publishes), events))]
        for events in (30_000, 100_000)
        for region, publishes in PUBLISHES.items()
    ]
    return markdown_table([EVENTS, "Region", "SNS publishes a second", *HEADS], rows)


def _changes() -> str:
    writes: dict[str, Any] = {"writes": 16_000, "partitions": 16}
    reads = writes | {"reads": 100_000}
    starts = reads | {"starts": 15_000}
    lanes = starts | {"lanes": 64}
    changes: list[tuple[int, str, dict[str, Any]]] = [
        (30_000, "no helpers", {"helpers_after": math.inf}),
        (30_000, "`SweepIntervalSeconds=10`", {"interval": 10}),
        (30_000, "`SweepIntervalSeconds=60`", {"interval": 60}),
        (30_000, "`Parked`: 16,000 writes a second", writes),
        (100_000, "`Parked`: 16,000 writes a second", writes),
        (100_000, "also `Register`: 100,000 reads a second", reads),
        (100_000, "also 15,000 `StartExecution` a second", starts),
        (100_000, "also 64 lanes", lanes),
        (1_000_000, "all four", lanes),
    ]
    rows = [
        [f"{events:,}", name, *_row(parked_burst(replace(Setup(), **change), events))]
        for events, name, change in changes
    ]
    return markdown_table([EVENTS, "changed", *HEADS], rows)


# The tables by the name of their markers in the document.
TABLES: dict[str, Callable[[], str]] = {
    "months": _months,
    "bursts": _bursts,
    "published": _published,
    "margins": _margins,
    "Regions": _regions,
    "changes": _changes,
}
