"""The two pictures of a lateness measurement. They need no color: shapes, lines, and gray tell the kinds apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

from tools.bench.lateness import BASELINE, PUNCTUAL, Observation

OVER_TIME, DISTRIBUTION = "lateness-over-time.png", "lateness-distribution.png"

# The queue's timestamps are whole milliseconds: 0 means less than one, and has no place on a logarithmic axis.
LEAST_MS = 0.5
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
LEGEND_BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 3, "columnspacing": 1.2}


@dataclass(frozen=True)
class _Kind:
    label: str
    path: str
    has_fraction: bool
    marker: str
    line: str
    gray: str  # "0" is black

    def members(self, observations: Sequence[Observation]) -> list[tuple[Observation, float]]:
        """The observations of this kind, each with its lateness in milliseconds."""
        return [
            (observation, observation.in_queue_ms)
            for observation in observations
            if observation.event.path == self.path
            and observation.event.has_fraction == self.has_fraction
            and observation.event.is_counted
            and observation.in_queue_ms is not None
        ]


KINDS = (
    _Kind("Punctual, whole seconds", PUNCTUAL, False, "o", "-", "0"),
    _Kind("Punctual, fractions", PUNCTUAL, True, "^", "--", "0"),
    _Kind("Bare Wait and Publish, whole seconds", BASELINE, False, "x", ":", "0.55"),
)


def draw(observations: Sequence[Observation], where: str, folder: Path) -> None:
    """Draw the lateness in the consumer's queue of what arrived after the warm-up: of each event over its due time, and
    how many events were later than how much. `where` is part of the titles."""
    with plt.rc_context(STYLE):
        _draw_over_time(observations, where, folder / OVER_TIME)
        _draw_distribution(observations, where, folder / DISTRIBUTION)


def _draw_over_time(observations: Sequence[Observation], where: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 3.6))
    first = min(observation.event.due for observation in observations if observation.event.is_counted)
    for kind in KINDS:
        members = kind.members(observations)
        axes.scatter(
            [(observation.event.due - first).total_seconds() for observation, _ in members],
            [late_ms for _, late_ms in members],
            s=16,
            marker=kind.marker,
            facecolors=kind.gray if kind.marker == "x" else "none",
            edgecolors=None if kind.marker == "x" else kind.gray,
            linewidths=0.9,
            label=kind.label,
        )
    axes.set(
        xlabel="due, seconds into the run",
        ylabel="lateness in the queue, ms",
        title=f"Lateness over time: {where}",
    )
    axes.set_ylim(bottom=0)
    axes.legend(**LEGEND_BELOW)
    figure.savefig(path)
    plt.close(figure)


def _draw_distribution(observations: Sequence[Observation], where: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4))
    for kind in KINDS:
        late = sorted(max(late_ms, LEAST_MS) for _, late_ms in kind.members(observations))
        if late:
            share = [1 - rank / len(late) for rank in range(len(late))]  # of the events that are at least as late
            axes.step(late, share, where="pre", linestyle=kind.line, color=kind.gray, linewidth=1.6, label=kind.label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="lateness in the queue, ms (logarithmic)",
        ylabel="share of events at least as late",
        title=f"Distribution of lateness: {where}",
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.legend(**LEGEND_BELOW)
    figure.savefig(path)
    plt.close(figure)
