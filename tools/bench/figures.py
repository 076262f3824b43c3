"""The figures of a lateness measurement: counts, percentiles, and their ratio to the baseline."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tools.bench.lateness import BASELINE, BASELINE_WITH_HOLD, PUNCTUAL, Observation

# When the queue had the message (its SentTimestamp, in whole milliseconds), and when the consumer had it.
MEASURES = ("in_queue_ms", "received_ms")
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}

ALL, DIRECT, PARKED = "all", "started by Ingest", "parked first"
WHOLE_SECOND, FRACTION = "whole second", "fraction"

_PATHS = (BASELINE, BASELINE_WITH_HOLD, PUNCTUAL)
_ROUTES = (ALL, DIRECT, PARKED)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that is at least as large as `percent` of them (nearest rank)."""
    ranked = sorted(values)
    # Rounded, because 99.9 / 100 * 1000 is a little more than 999.
    return ranked[max(math.ceil(round(percent / 100 * len(ranked), 9)), 1) - 1]


def figures(observations: Sequence[Observation]) -> list[dict[str, Any]]:
    """One row for each path and kind of date, and for Punctual also for each route (started by Ingest, parked first).

    A row has counts, percentiles of lateness in milliseconds, and the ratio of these to the baseline for the same kind
    of date. Warm-up events count as sent, early, missing, and repeated, because the promises hold for them, too, but
    are left out of the percentiles.
    """
    groups: dict[tuple[str, str, str], list[Observation]] = defaultdict(list)
    for observation in observations:
        event = observation.event
        date = FRACTION if event.has_fraction else WHOLE_SECOND
        groups[event.path, ALL, date].append(observation)
        if event.path == PUNCTUAL:
            groups[event.path, PARKED if event.is_parked else DIRECT, date].append(observation)
    rows = [_row(group, groups[group]) for group in sorted(groups, key=_reading_order)]
    # A fraction has a baseline without Hold only where Wait keeps fractions: on the emulator.
    baselines = {row["date"]: row for row in rows if row["path"] == BASELINE_WITH_HOLD}
    baselines |= {row["date"]: row for row in rows if row["path"] == BASELINE}
    for row in rows:
        if baseline := baselines.get(row["date"]):
            for measure in MEASURES:
                row[f"{measure}_ratio"] = _ratios(row[measure], baseline[measure])
    return rows


def _reading_order(group: tuple[str, str, str]) -> tuple[bool, int, int]:
    path, route, date = group
    return date != WHOLE_SECOND, _PATHS.index(path), _ROUTES.index(route)


def _row(group: tuple[str, str, str], members: Sequence[Observation]) -> dict[str, Any]:
    path, route, date = group
    arrived = [member for member in members if member.copies]
    counted = [member for member in arrived if member.event.is_counted]
    return {
        "path": path,
        "route": route,
        "date": date,
        "sent": len(members),
        "counted": len(counted),
        "early": sum(member.in_queue_ms < 0 for member in arrived if member.in_queue_ms is not None),
        "missing": len(members) - len(arrived),
        "repeated": sum(member.copies - 1 for member in arrived),
    } | {measure: _percentiles(counted, measure) for measure in MEASURES}


def _percentiles(observations: Sequence[Observation], measure: str) -> dict[str, float]:
    values = [getattr(observation, measure) for observation in observations]
    return {name: round(percentile(values, percent), 1) for name, percent in PERCENTILES.items()} if values else {}


def _ratios(row: dict[str, float], baseline: dict[str, float]) -> dict[str, float | None]:
    """None where the baseline is 0 ms, which the resolution of the queue's timestamps allows."""
    return {name: round(row[name] / baseline[name], 2) if baseline.get(name) else None for name in row}
