"""The results as tables, in the terminal and in docs/performance.md."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tools.bench.figures import ALL, FRACTION, PERCENTILES, WHOLE_SECOND
from tools.bench.lateness import BASELINE, BASELINE_WITH_HOLD, PUNCTUAL
from tools.documents import markdown_table, with_marked
from tools.local import ROOT

DOCS = ROOT / "docs"
DOCUMENT = "performance.md"
PICTURES = "pictures"

GOAL_SLOWEST_MS = 1000  # the promise: within one second
GOAL_LATENESS_RATIO = 1.25
GOAL_TIME_RATIO_TO_START_AND_DELETE = 1.5
GOAL_RATE_RATIO_TO_START = 0.9
GOAL_MEMORY_MB = 256
GOAL_ZIP_MB = 5
GOAL_IMPORT_SECONDS = 0.5

Result = dict[str, Any]


class Columns(NamedTuple):
    """A table: its heads, and its rows of text."""

    heads: list[str]
    rows: list[list[str]]


# --- Tables -----------------------------------------------------------------------------------------------------------


def counts_table(lateness: Result) -> Columns:
    names = ["sent", "early", "missing", "repeated"]
    rows = [[_label(row), *(f"{row[name]:,}" for name in names)] for row in lateness["figures"]]
    return Columns(["events", *names], rows)


def lateness_table(lateness: Result, measure: str) -> Columns:
    """Percentiles and ratios of one of figures.MEASURES."""
    rows = []
    for row in lateness["figures"]:
        ratios = row.get(f"{measure}_ratio", {})
        rows.append(
            [_label(row), f"{row['counted']:,}"]
            + [f"{row[measure][name]:,.0f}" if row[measure] else "" for name in PERCENTILES]
            + [f"{ratio:.2f}" if (ratio := ratios.get(name)) else "" for name in ("p50", "p99")]
        )
    return Columns(["lateness, ms", "events", *PERCENTILES, "p50 ratio", "p99 ratio"], rows)


def _label(row: Result) -> str:
    return f"{row['path']}, {row['date']}" if row["route"] == ALL else f"- {row['route']}, {row['date']}"


def comparison_table(sweep: Result) -> Columns:
    comparison = sweep["comparison"]
    rows = [
        [
            variant,
            f"{comparison['ms_per_event'][variant]:.2f}",
            f"{comparison['starts_per_second'][variant]:,}",
            ", ".join(f"{repetition:.2f}" for repetition in seconds),
        ]
        for variant, seconds in comparison["seconds"].items()
    ]
    return Columns(["variant", "ms per event", "starts per second", "each repetition, s"], rows)


def burst_table(sweep: Result) -> Columns:
    names = {
        "sweepers": "sweepers",
        "events": "events",
        "seconds": "first sweep to last start, s",
        "starts_per_second": "starts per second",
        "sweeps": "sweeps",
        "memory_peak_mb": "peak memory, MB",
        "memory_before_mb": "before the sweep, MB",
    }
    return Columns([*names.values()], [[f"{burst[name]:,}" for name in names] for burst in sweep["bursts"]])


def size_table(size: Result) -> Columns:
    rows = [[f"package of {name}", f"{megabytes:.2f} MB"] for name, megabytes in size["zip_mb"].items()]
    rows.append(["import of Ingest, compiled", f"{size['import_cpu_seconds']:.2f} s of CPU"])
    rows.append(["import of Ingest, not compiled", f"{size['import_cpu_seconds_uncompiled']:.2f} s of CPU"])
    return Columns(["what", "measured"], rows)


def goals_table(lateness: Result, sweep: Result, size: Result) -> Columns:
    """Each goal, what was measured, and whether it was met."""
    rows: list[list[str]] = []

    def at_most(goal: str, measured: float, limit: float, unit: str = "", decimals: int = 2) -> None:
        is_met = "yes" if measured <= limit else "no"
        rows.append([goal, f"{measured:,.{decimals}f}{unit}", f"at most {limit:,}{unit}", is_met])

    ours = [row for row in lateness["figures"] if row["path"] == PUNCTUAL and row["route"] == ALL]
    at_most("events early or missing", sum(row["early"] + row["missing"] for row in ours), 0, decimals=0)
    if slowest := [row["in_queue_ms"]["max"] for row in ours if row["in_queue_ms"]]:
        at_most("slowest event, in the queue", max(slowest), GOAL_SLOWEST_MS, " ms", decimals=0)
    for measure, place in {"in_queue_ms": "in the queue", "received_ms": "at the consumer"}.items():
        for row in ours:
            for name in ("p50", "p99"):
                if ratio := row.get(f"{measure}_ratio", {}).get(name):
                    at_most(f"lateness ratio {place}, {row['date']}, {name}", ratio, GOAL_LATENESS_RATIO)
    comparison = sweep["comparison"]
    at_most(
        "Sweeper's time, ratio to bare start and delete",
        comparison["time_ratio_to_start_and_delete"],
        GOAL_TIME_RATIO_TO_START_AND_DELETE,
    )
    rate = comparison["rate_ratio_to_start"]
    is_fast = "yes" if rate >= GOAL_RATE_RATIO_TO_START else "no"
    rows.append(["Sweeper's rate, ratio to bare start", f"{rate:.2f}", f"at least {GOAL_RATE_RATIO_TO_START}", is_fast])
    memory = max(burst["memory_peak_mb"] for burst in sweep["bursts"])
    at_most("Sweeper's memory", memory, GOAL_MEMORY_MB, " MB", decimals=0)
    at_most("largest package", max(size["zip_mb"].values()), GOAL_ZIP_MB, " MB")
    at_most("import of Ingest, compiled", size["import_cpu_seconds"], GOAL_IMPORT_SECONDS, " s")
    return Columns(["goal", "measured", "limit", "met"], rows)


# --- The document -----------------------------------------------------------------------------------------------------


def conditions(lateness: Result) -> str:
    return f"Measured on {lateness['measured_at'][:10]} on {lateness['where']}; {lateness['machine']}."


def summary(lateness: Result) -> str:
    """How late events were in the consumer's queue, and how late the baselines' were, in a few sentences."""
    rows = {(row["path"], row["date"]): row for row in lateness["figures"] if row["route"] == ALL and row["counted"]}
    lines = []
    for date, title in ((WHOLE_SECOND, "On a whole second"), (FRACTION, "With a fraction of a second")):
        if (PUNCTUAL, date) not in rows:
            continue
        ours = rows[PUNCTUAL, date]
        late = ours["in_queue_ms"]
        text = f"- **{title}: {late['p50']:,.0f} ms late in the median, {late['max']:,.0f} ms at most**"
        text += f" ({ours['counted']:,} events)."
        for path in (BASELINE, BASELINE_WITH_HOLD):
            if (path, date) in rows:
                baseline = rows[path, date]["in_queue_ms"]
                text += f" {path} in the same run: {baseline['p50']:,.0f} and {baseline['max']:,.0f} ms"
                text += f", a ratio of {late['p50'] / baseline['p50']:.2f} in the median." if baseline["p50"] else "."
        lines.append(text)
    return "\n".join(lines)


def clock_note(lateness: Result) -> str:
    return (
        f"The clock of SQS is {lateness['clock_offset_ms']} ms ahead of this machine's, "
        f"give or take {lateness['clock_error_ms']} ms. Lateness at the consumer is corrected for it."
    )


def lateness_report(lateness: Result) -> str:
    """Everything about lateness in Markdown: for an issue or a wiki page, where a stack on AWS was measured."""
    parts = [
        "# Lateness",
        conditions(lateness),
        summary(lateness),
        "## In the consumer's queue",
        markdown_table(*lateness_table(lateness, "in_queue_ms")),
        "## At the consumer",
        markdown_table(*lateness_table(lateness, "received_ms")),
        clock_note(lateness),
        "## Early, missing, repeated",
        markdown_table(*counts_table(lateness)),
    ]
    return "\n\n".join(parts) + "\n"


# The marked parts of docs/performance.md.
PARTS: dict[str, Callable[[Result, Result, Result], str]] = {
    "conditions": lambda lateness, sweep, size: conditions(lateness),
    "summary": lambda lateness, sweep, size: summary(lateness),
    "goals": lambda lateness, sweep, size: markdown_table(*goals_table(lateness, sweep, size)),
    "in-queue": lambda lateness, sweep, size: markdown_table(*lateness_table(lateness, "in_queue_ms")),
    "at-consumer": lambda lateness, sweep, size: markdown_table(*lateness_table(lateness, "received_ms")),
    "counts": lambda lateness, sweep, size: markdown_table(*counts_table(lateness)),
    "sweeper": lambda lateness, sweep, size: markdown_table(*comparison_table(sweep)),
    "burst": lambda lateness, sweep, size: markdown_table(*burst_table(sweep)),
    "size": lambda lateness, sweep, size: markdown_table(*size_table(size)),
}


def write_document(docs: Path, pictures: list[Path], lateness: Result, sweep: Result, size: Result) -> None:
    """Renew performance.md in `docs`, and copy the pictures to beside it. Raises MarkerError, with nothing changed, if
    the document lacks the place of a table."""
    document = docs / DOCUMENT
    text = document.read_text(encoding="utf-8")
    for name, part in PARTS.items():
        text = with_marked(text, name, part(lateness, sweep, size))
    document.write_text(text, encoding="utf-8")
    (docs / PICTURES).mkdir(exist_ok=True)
    for picture in pictures:
        shutil.copy(picture, docs / PICTURES)


# --- The terminal -----------------------------------------------------------------------------------------------------


def print_lateness(console: Console, lateness: Result) -> None:
    _print_table(console, "Events", counts_table(lateness))
    _print_table(console, "In the consumer's queue", lateness_table(lateness, "in_queue_ms"))
    _print_table(console, "At the consumer", lateness_table(lateness, "received_ms"))
    console.print(clock_note(lateness))


def print_sweep(console: Console, sweep: Result, due_within_seconds: int) -> None:
    _print_table(console, f"Starting {sweep['comparison']['events']:,} parked events", comparison_table(sweep))
    title = f"{sweep['bursts'][0]['events']:,} events due within {due_within_seconds} s"
    _print_table(console, title, burst_table(sweep))


def print_size(console: Console, size: Result) -> None:
    _print_table(console, "Size", size_table(size))


def print_goals(console: Console, lateness: Result, sweep: Result, size: Result) -> None:
    _print_table(console, "Goals", goals_table(lateness, sweep, size))


def _print_table(console: Console, title: str, columns: Columns) -> None:
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for number, head in enumerate(columns.heads):
        table.add_column(head, justify="left" if number == 0 else "right")
    for row in columns.rows:
        table.add_row(*row)
    console.print(table)
