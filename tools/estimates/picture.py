"""The picture of docs/cost.md. It needs no color: dashes, gray, and a label at each line tell the lines apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullLocator

STYLE: dict[Any, Any] = {  # Any: matplotlib's own type is a list of all its settings
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "savefig.bbox": "tight",
}


class _Look(NamedTuple):
    line: str | tuple[int, tuple[float, ...]]
    gray: str  # "0" is black
    width: float
    is_label_left: bool = False  # where no other line crosses it
    is_label_below: bool = False


LOOKS = (
    _Look("-", "0", 2.4),  # Punctual, as shipped
    _Look("--", "0", 2.4, is_label_below=True),  # Punctual, lean
    _Look((0, (8, 2)), "0.45", 1.4, is_label_left=True),  # EventBridge Scheduler
    _Look("-", "0.45", 1.4),  # Step Functions Standard
    _Look("-.", "0.45", 1.4),  # Lambda durable functions
    _Look(":", "0.45", 1.8, is_label_left=True),  # the predecessor
)
LABEL_DISTANCE, LABEL_INDENT = 5, 4  # points


def draw(volumes: Sequence[float], costs: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw the USD per million events of each way over the events a month. The file is the same each time."""
    # Letters as shapes: they are as wide everywhere. The salt makes the names of the file's parts the same each time.
    with plt.rc_context(STYLE | {"svg.fonttype": "path", "svg.hashsalt": path.name}):
        figure, axes = plt.subplots(figsize=(8, 4.8))
        for (name, values), look in zip(costs.items(), LOOKS, strict=True):
            axes.plot(volumes, values, linestyle=look.line, color=look.gray, linewidth=look.width)
            end = 0 if look.is_label_left else -1
            axes.annotate(
                name,
                (volumes[end], values[end]),
                xytext=(
                    LABEL_INDENT if look.is_label_left else 0,
                    -LABEL_DISTANCE if look.is_label_below else LABEL_DISTANCE,
                ),
                textcoords="offset points",
                ha="left" if look.is_label_left else "right",
                va="top" if look.is_label_below else "bottom",
                fontsize=9,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0},  # it covers the grid, not the lines
                zorder=1,
            )
        axes.set(
            xscale="log",
            yscale="log",
            xlim=(volumes[0], volumes[-1]),
            ylim=(0.3, 1000),
            xlabel="events a month (logarithmic)",
            ylabel="USD per million events (logarithmic)",
            title="Estimated cost of a million events, us-east-1",
        )
        axes.xaxis.set_major_formatter(FuncFormatter(_volume))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        for axis in axes.xaxis, axes.yaxis:
            axis.set_minor_locator(NullLocator())
        figure.savefig(path, metadata={"Creator": None, "Date": None})
        plt.close(figure)


def _volume(value: float, _: int) -> str:
    for size, name in (1e9, "billion"), (1e6, "million"):
        if value >= size:
            return f"{value / size:g} {name}"
    return f"{value:,.0f}"
