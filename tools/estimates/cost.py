"""What a month costs, as tables and a picture: for docs/cost.md and for the terminal."""

import dataclasses
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tools.documents import markdown_table, replace_marked
from tools.estimates import template
from tools.estimates.counting import Counts
from tools.estimates.pricing import Line, Prices, Use, alternatives, bill, total, waiting_seconds

DOCUMENT = template.ROOT / "docs/cost.md"
PICTURE = template.ROOT / "docs/pictures/cost-per-million.svg"
VOLUMES = (0, 1e6, 1e7, 1e8, 5e8)
PICTURE_VOLUMES = tuple(10 ** (4 + step / 20) for step in range(101))  # 10 thousand to 1 billion
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
# What this tool gave at an earlier commit: the total of a month, and lines of the bill of 1 M events.
EARLIER_COMMIT = "2e248ce"
EARLIER: dict[Use, float] = {
    Use(events=0): 9.54,
    Use(): 44.34,
    Use(**LEAN): 26.58,
    Use(events=1e8): 1710,
    Use(events=1e8, **LEAN): 919,
}
EARLIER_LINES: dict[str, tuple[float, tuple[str, ...], str]] = {  # USD, the names of the lines today, what changed
    "events waiting in Express": (15.78, ("Deliver: waiting and running",), "they wait 5.5 s on average, not 15 s"),
    "X-Ray": (5.22, ("Traces", "Sweep: traces"), "`Tracing` is off by default"),
    "Sweep, waiting between its ticks": (4.95, ("Sweep: waiting",), "one execution at a time, not two"),
    "log of Sweep": (1.02, ("Sweep: logs",), "only errors are logged"),
    "logs of the functions": (0.44, ("Function logs", "Sweeper: logs"), "without Lambda's own lines"),
}


def renew_document(counts: Counts, prices: Prices) -> None:
    """Write every table of docs/cost.md again, and draw its picture."""
    for name, table in tables(counts, prices).items():
        replace_marked(DOCUMENT, name, table)
    draw_picture(counts, prices, PICTURE)


def draw_picture(counts: Counts, prices: Prices, path: Path) -> None:
    """Draw what a million events cost over the events of a month."""
    from tools.estimates import picture  # here, because matplotlib would slow down `make cost`

    curves = _per_million(counts, prices)
    picture.draw(
        PICTURE_VOLUMES, {name: [cost(volume) for volume in PICTURE_VOLUMES] for name, cost in curves.items()}, path
    )


def tables(counts: Counts, prices: Prices) -> dict[str, str]:
    """What the tool writes into docs/cost.md, in Markdown, by the name of its markers."""
    return {
        "a month": _by_volume(counts, prices),
        "picture": _picture(counts, prices),
        "lines of the bill": _by_line(counts, prices),
        "counted": _counted(counts),
        "sweep interval": _by_interval(counts, prices),
        "levers": _by_lever(counts, prices),
        "before and now": _before_and_now(counts, prices),
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
    if use in EARLIER:
        print(f"At an earlier version, commit {EARLIER_COMMIT}: {EARLIER[use]:,.2f}")
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
        [[name, *map(_rounded, costs)] for name, costs in rows.items()],
    )


def _per_million(counts: Counts, prices: Prices) -> dict[str, Callable[[float], float]]:
    """USD per million events, idle lines included, as a function of the events a month: the curves of the picture."""

    def stack(change: Mapping[str, Any]) -> Callable[[float], float]:
        return lambda events: _month(counts, prices, {**change, "events": events}) / events * 1e6

    def alternative(name: str) -> Callable[[float], float]:
        return lambda events: alternatives(events, prices)[name] / events * 1e6

    curves = {"Punctual, as shipped": stack({}), "Punctual, lean": stack(LEAN)}
    return curves | {name: alternative(name) for name in alternatives(0, prices)}


def _picture(counts: Counts, prices: Prices) -> str:
    """The picture with its alternative text, and what can be read from it."""
    few, million, many = 1e4, 1e6, 1e9
    shipped, lean, scheduler, standard, durable, predecessor = _per_million(counts, prices).values()
    seen = (
        "Six lines on logarithmic axes: USD per million events, for 10 thousand to 1 billion events a month. Punctual "
        f"as shipped falls from {shipped(few):.0f} to {shipped(million):.0f} at 1 million and {shipped(many):.0f} at "
        f"1 billion; lean, from {lean(few):.0f} to {lean(million):.0f} and {lean(many):.0f}. Three lines are level: "
        f"Step Functions Standard at {standard(million):.0f}, Lambda durable functions at {durable(million):.0f}, the "
        f"predecessor at {predecessor(million):.0f}. EventBridge Scheduler is the lowest line: {scheduler(few):.1f}, "
        f"rising to {scheduler(many):.1f} at 1 billion."
    )
    read = (
        "Punctual as shipped is cheaper than Step Functions Standard above "
        f"{_cheaper_from(shipped, standard)} events a month, and cheaper than durable functions above "
        f"{_cheaper_from(shipped, durable)}. Lean, it is cheaper than the predecessor above "
        f"{_cheaper_from(lean, predecessor)}."
    )
    return f"![{seen}]({PICTURE.relative_to(DOCUMENT.parent)})\n\n{textwrap.fill(read, 120)}"


def _cheaper_from(one: Callable[[float], float], other: Callable[[float], float]) -> str:
    """The events a month from which one way is cheaper than the other."""
    low, high = PICTURE_VOLUMES[0], PICTURE_VOLUMES[-1]
    if one(high) >= other(high):
        raise ValueError("it is nowhere cheaper in the picture: change the sentence below the picture")
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if one(middle) < other(middle) else (middle, high)
    return f"{high / 1e6:.2g} million"


def _before_and_now(counts: Counts, prices: Prices) -> str:
    def row(use: Use, name: str, change: str = "") -> list[str]:
        return [name, _rounded(EARLIER[use]), _rounded(total(bill(use, counts, prices))), change]

    lines = bill(Use(), counts, prices)
    parts = [
        (name, usd, sum(line.usd for line in lines if line.what in names), change)
        for name, (usd, names, change) in EARLIER_LINES.items()
    ]
    rest = EARLIER[Use()] - sum(was for _, was, _, _ in parts), total(lines) - sum(now for _, _, now, _ in parts)
    return markdown_table(
        ["USD a month", "before", "now", "what changed"],
        [
            row(Use(events=0), "no event"),
            row(Use(), "1 M events, as shipped"),
            *([f"of which: {name}", _rounded(was), _rounded(now), change] for name, was, now, change in parts),
            ["of which: everything else", *map(_rounded, rest), "three alarms more, among others"],
            row(Use(**LEAN), "1 M events, lean", "also `IngestBatchingSeconds=5`, which is new"),
            row(Use(events=1e8), "100 M events, as shipped"),
            row(Use(events=1e8, **LEAN), "100 M events, lean", "also `IngestBatchingSeconds=5`"),
        ],
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
            "break-even with the row above, far events a month",
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


def _rounded(usd: float) -> str:
    return f"{usd:,.2f}" if usd < 100 else f"{usd:,.0f}"


def _sorted(lines: list[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (line.is_idle, -line.usd))


def _paid_for(is_idle: bool) -> str:
    return "idle" if is_idle else "events"
