"""How late events are in bursts and in busy months, as the tables of docs/scale.md."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tools.documents import markdown_table, replace_marked
from tools.estimates import template
from tools.estimates.quotas import PUBLISHES
from tools.estimates.rules import Setup
from tools.estimates.simulation import Outcome, near_burst, parked_burst, parked_flow

DOCUMENT = template.ROOT / "docs/scale.md"
HEADS = [
    "p50, s",
    "p99, s",
    "max, s",
    "last start, s",
    "sweepers at once",
    "saturated",
    "not delivered",
    "unchecked",
]


def renew_document() -> None:
    """Write every table of docs/scale.md again."""
    for name, table in TABLES.items():
        replace_marked(DOCUMENT, name, table())


def outcome_table(outcome: Outcome) -> str:
    """The table of one run."""
    return markdown_table(HEADS, [_row(outcome)])


def _row(outcome: Outcome) -> list[str]:
    return [
        *(f"{outcome.quantile(share):.2f}" for share in (0.5, 0.99, 1)),
        f"{outcome.last_start:+.1f}",
        str(outcome.sweepers or "-"),
        outcome.saturated,
        f"{outcome.undelivered:,}",
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
            rows.append([f"{a_month / 1e6:.0f} M", name, f"{rate:,.0f}", *_row(outcome)])
    return markdown_table(["events a month", "shape", "events a second", *HEADS], rows)


def _bursts() -> str:
    kinds = {"parked": parked_burst, "published near": near_burst}
    rows = [
        [f"{events:,}", kind, *_row(burst(Setup(), events))]
        for events in (30_000, 100_000, 1_000_000)
        for kind, burst in kinds.items()
    ]
    return markdown_table(["events due at once", "kind", *HEADS], rows)


def _regions() -> str:
    rows = [
        [f"{events:,}", region, f"{publishes:,}", *_row(parked_burst(replace(Setup(), publishes=publishes), events))]
        for events in (30_000, 100_000)
        for region, publishes in PUBLISHES.items()
    ]
    return markdown_table(["events due at once", "Region", "SNS publishes a second", *HEADS], rows)


def _changes() -> str:
    reads: dict[str, Any] = {"reads": 100_000}
    starts = reads | {"starts": 15_000}
    lanes = starts | {"lanes": 64}
    changes: list[tuple[int, str, dict[str, Any]]] = [
        (30_000, "no helpers", {"helpers_after": math.inf}),
        (30_000, "`SweepIntervalSeconds=5`", {"interval": 5}),
        (30_000, "`SweepIntervalSeconds=60`", {"interval": 60}),
        (30_000, "100,000 register reads a second", reads),
        (100_000, "100,000 register reads a second", reads),
        (100_000, "also 15,000 `StartExecution` a second", starts),
        (100_000, "also 64 lanes", lanes),
        (1_000_000, "these three", lanes),
    ]
    rows = [[f"{events:,}", name, *_row(parked_burst(Setup(**change), events))] for events, name, change in changes]
    return markdown_table(["events due at once", "changed", *HEADS], rows)


# The tables by the name of their markers in the document.
TABLES: dict[str, Callable[[], str]] = {
    "months": _months,
    "bursts": _bursts,
    "Regions": _regions,
    "changes": _changes,
}
