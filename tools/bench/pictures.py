"""The two pictures of a measurement of lateness. Grey and shapes alone tell the kinds apart, so they print in black."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

from tools.bench.lateness import FLOOR, PUNCTUAL, Observation

STYLE = {
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
# Of each kind: label, whether it has a fraction, path; then marker, line and grey.
KINDS = (
    ("Punctual, whole seconds", False, PUNCTUAL, "o", "-", "0"),
    ("Punctual, with a fraction", True, PUNCTUAL, "^", "--", "0"),
    ("floor: one Wait, one publish", False, FLOOR, "x", ":", "0.55"),
)


def draw(observations: Sequence[Observation], where: str, over_time: Path, distribution: Path) -> None:
    """Draw what arrived after the warm-up: the lateness of each event over the time at which it was due, and how many
    events were later than how much."""
    counted = [observation for observation in observations if observation.probe.warm and observation.times]
    with plt.rc_context(STYLE):
        _draw_over_time(counted, where, over_time)
        _draw_distribution(counted, where, distribution)


def _of_kind(observations: Sequence[Observation], fractional: bool, path: str) -> list[Observation]:
    return [o for o in observations if o.probe.path == path and o.probe.fractional == fractional]


def _draw_over_time(observations: Sequence[Observation], where: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 3.6))
    first = min(observation.probe.due for observation in observations)
    for label, fractional, kind, marker, _, grey in KINDS:
        members = _of_kind(observations, fractional, kind)
        seconds = [(member.probe.due - first).total_seconds() for member in members]
        axes.scatter(
            seconds,
            [member.received_ms for member in members],
            s=16,
            marker=marker,
            facecolors=grey if marker == "x" else "none",
            edgecolors=None if marker == "x" else grey,
            linewidths=0.9,
            label=label,
        )
    axes.set(
        xlabel="due, seconds into the run", ylabel="lateness at the consumer, ms", title=f"Lateness over time: {where}"
    )
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=3, handletextpad=0.2, columnspacing=1.2)
    figure.savefig(path)
    plt.close(figure)


def _draw_distribution(observations: Sequence[Observation], where: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4))
    for label, fractional, kind, _, line, grey in KINDS:
        late = sorted(max(member.received_ms, 0.1) for member in _of_kind(observations, fractional, kind))
        if late:
            later = [1 - rank / len(late) for rank in range(len(late))]  # the share that is at least as late
            axes.step(late, later, where="pre", linestyle=line, color=grey, linewidth=1.6, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="lateness at the consumer, ms (logarithmic)",
        ylabel="share of events at least as late",
        title=f"Distribution of lateness: {where}",
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.legend(loc="lower left")
    figure.savefig(path)
    plt.close(figure)
