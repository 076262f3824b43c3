"""What a month costs, as tables: for docs/cost.md and for the terminal."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from tools.documents import markdown_table, replace_marked
from tools.estimates import template
from tools.estimates.counting import Counts
from tools.estimates.pricing import Line, Prices, Use, alternatives, bill, total, waiting_seconds

DOCUMENT = template.ROOT / "docs/cost.md"
VOLUMES = (0, 1e6, 1e7, 1e8, 5e8)
INTERVALS = tuple(int(value) for value in template.allowed_values("SweepIntervalSeconds"))
LEAN: dict[str, Any] = {"interval_seconds": 5, "logs": "ERROR", "is_traced": False, "batching_seconds": 5}
LEVERS: dict[str, dict[str, Any]] = {
    "`ExecutionLogLevel=ERROR`": {"logs": "ERROR"},
    "`IngestBatchingSeconds=5`": {"batching_seconds": 5},
    "`SweepIntervalSeconds=10`": {"interval_seconds": 10},
    "`LogRetentionDays=1` instead of 30": {"retention_days": 1},
    "`Architecture=x86_64`": {"architecture": "x86_64"},
    "`Tracing=true`": {"is_traced": True},
    "`Probe=true`": {"has_probe": True},
    "every date has a fraction of a second": {"fraction_share": 1.0},
    "every event is named": {"named_share": 1.0},
    "payloads of 4 KB instead of 100 bytes": {"payload_bytes": 4096},
    "payloads of 200 KB": {"payload_bytes": 200 * 1024},
}


def renew_document(counts: Counts, prices: Prices) -> None:
    """Write every table of docs/cost.md again."""
    for name, table in tables(counts, prices).items():
        replace_marked(DOCUMENT, name, table)


def tables(counts: Counts, prices: Prices) -> dict[str, str]:
    """Every table of docs/cost.md, in Markdown, by the name of its markers."""
    return {
        "a month": _by_volume(counts, prices),
        "lines of the bill": _by_line(counts, prices),
        "counted": _counted(counts),
        "sweep interval": _by_interval(counts, prices),
        "levers": _by_lever(counts, prices),
    }


def print_bill(use: Use, counts: Counts, prices: Prices) -> None:
    """One month of one stack, line by line, and what the alternatives cost."""
    lines = _sorted(bill(use, counts, prices))
    table = Table(
        title=f"{use.events:,.0f} events a month, {prices['region']}, prices of {prices['date']}",
        caption="Arithmetic, not a bill",
    )
    for head in "paid for", "what", "units", "USD a month":
        table.add_column(head, justify="right" if head in ("units", "USD a month") else "left")
    for line in lines:
        table.add_row(_paid_for(line.is_idle), line.what, f"{line.units:,.1f}", f"{line.usd:,.2f}")
    table.add_section()
    table.add_row("", "total", "", f"{total(lines):,.2f}")
    if use.events:
        per_million = total(lines, is_idle=False) / use.events * 1e6
        table.add_row("", "per million events, without idle", "", f"{per_million:,.2f}")
    Console().print(table)
    for name, cost in alternatives(use.events, prices).items():
        print(f"{name}: {cost:,.2f}")


def _by_volume(counts: Counts, prices: Prices) -> str:
    uses: dict[str, dict[str, Any]] = {
        "as shipped": {},
        "as shipped, near events only": {"far_share": 0.0},
        "lean: logs ERROR, `IngestBatchingSeconds=5`": LEAN,
    }
    rows = {
        name: [_month(counts, prices, change | {"events": events}) for events in VOLUMES]
        for name, change in uses.items()
    }
    others = [alternatives(events, prices) for events in VOLUMES]
    rows |= {name: [other[name] for other in others] for name in others[0]}
    return markdown_table(
        ["USD a month at", *("no event" if not events else f"{events / 1e6:,.0f} M" for events in VOLUMES)],
        [[name, *(f"{cost:,.2f}" if cost < 100 else f"{cost:,.0f}" for cost in costs)] for name, costs in rows.items()],
    )


def _by_line(counts: Counts, prices: Prices) -> str:
    lines = _sorted(bill(Use(), counts, prices))
    rows = [
        [
            _paid_for(line.is_idle),
            line.what,
            f"{line.units:,.0f}" if line.units >= 1000 else f"{line.units:,.2f}",
            line.price,
            f"{line.usd:,.2f}",
        ]
        for line in lines
        if line.usd >= 0.005
    ]
    totals = [[_paid_for(idle), "total", "", "", f"{total(lines, idle):,.2f}"] for idle in (False, True)]
    return markdown_table(["paid for", "what", "units", "price (`prices.json`)", "USD"], rows + totals)


def _counted(counts: Counts) -> str:
    def calls(counted: Mapping[str, int]) -> str:
        names = ((call.split(":")[1], times) for call, times in counted.items())
        return ", ".join(name if times == 1 else f"{name} x {times}" for name, times in names) or "-"

    rows = [
        [
            kind,
            calls(counted["ingest"]),
            calls(counted.get("deliver", {})),
            len(counted.get("states", [])) or "-",
            counted["item_bytes"] or "-",
            counted.get("deliver_log_bytes", "-"),
            counted.get("deliver_error_log_bytes", "-"),
        ]
        for kind, counted in counts["events"].items()
    ]
    rows += [
        [f"a sweep that finds {events}", calls(counted), "", "", "", "", ""]
        for events, counted in counts["sweep"]["calls"].items()
    ]
    return markdown_table(
        [
            "kind of event",
            "calls of the function",
            "calls of Deliver",
            "states",
            "item, bytes",
            "log at ALL, bytes",
            "log at ERROR, bytes",
        ],
        rows,
    )


def _by_interval(counts: Counts, prices: Prices) -> str:
    rows: list[list[str]] = []
    shorter: tuple[float, float] | None = None  # the row above: USD per million for waiting, USD when idle
    for interval in INTERVALS:
        use = Use(interval_seconds=interval)
        waiting = sum(line.usd for line in bill(use, counts, prices) if line.what == "Deliver: waiting and running")
        idle = _month(counts, prices, {"interval_seconds": interval, "events": 0})
        break_even = f"{(shorter[1] - idle) / (waiting - shorter[0]) * 1e6:,.0f}" if shorter else "-"
        shorter = waiting, idle
        rows.append(
            [
                f"{interval} s",
                f"{template.horizon_seconds(interval)} s",
                f"{waiting_seconds(use, counts):.1f} s",
                f"{waiting:.2f}",
                f"{idle:.2f}",
                break_even,
                *(
                    f"{_month(counts, prices, {'interval_seconds': interval, 'events': events}):,.2f}"
                    for events in (1e5, 1e6, 1e8)
                ),
            ]
        )
    return markdown_table(
        [
            "interval",
            "horizon",
            "average wait in Express",
            "USD per million for it",
            "USD a month, idle",
            "cheaper than the row above below (far events a month)",
            "USD at 0.1 M",
            "1 M",
            "100 M",
        ],
        rows,
    )


def _by_lever(counts: Counts, prices: Prices) -> str:
    rows = []
    for name, change in LEVERS.items():
        differences = [
            _month(counts, prices, change | {"events": events}) - _month(counts, prices, {"events": events})
            for events in (1e6, 1e8)
        ]
        rows.append([name, *(f"{difference:+,.2f}" for difference in differences)])
    return markdown_table(["change", "USD a month at 1 M", "at 100 M"], rows)


def _month(counts: Counts, prices: Prices, change: Mapping[str, Any]) -> float:
    """USD a month as shipped, with a change."""
    return total(bill(dataclasses.replace(Use(), **change), counts, prices))


def _sorted(lines: list[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (line.is_idle, -line.usd))


def _paid_for(is_idle: bool) -> str:
    return "idle" if is_idle else "events"
