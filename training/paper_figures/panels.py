"""Curves in panels: the parts that all figures of a benchmark are made of."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mousev1.metrics.intervals import Interval
from training.paper_figures.palette import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.3, 3.5


@dataclass(frozen=True)
class Curve:
    """One line of a panel: number of training images to mean and interval, rising; one look in all panels."""

    label: str
    style: Style
    points: dict[int, Interval]


@dataclass(frozen=True)
class Panel:
    """Curves over the number of training images, in the order of the legend; with ``zero``, a line at zero."""

    title: str
    ylabel: str
    curves: Sequence[Curve]
    zero: bool = False


def draw(rows: Sequence[Sequence[Panel]], *, title: str, subtitle: str) -> Figure:
    """Panels in rows, with one legend.

    Panels of the same ``ylabel`` share their vertical axis, and those without any curve are left out; at least one
    has some. The title says whether the data are simulated, the subtitle what the bars are.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = [kept for row in rows if (kept := [panel for panel in row if panel.curves])]
    columns = max(len(row) for row in rows)
    width = max(columns * WIDTH, 6.4)
    # The fullest panel says in which order the legend is.
    panels = sorted((panel for row in rows for panel in row), key=lambda panel: -len(panel.curves))
    curves = {curve.label: curve for panel in panels for curve in panel.curves}
    # Letters of 9 points are about .07 inches wide; the line, marker and gaps before them .8.
    entry = 0.8 + 0.07 * max(len(label) for label in curves)
    legend_columns = max(1, min(len(curves), int(width / entry)))
    legend_lines = -(-len(curves) // legend_columns)
    size = (width, len(rows) * HEIGHT + 1.0 + 0.22 * legend_lines)
    drawn = Figure(figsize=size, layout="constrained")
    axes = drawn.subplots(len(rows), columns, squeeze=False)
    shared: dict[str, Axes] = {}
    for row, line in zip(rows, axes, strict=True):
        for axis in line[len(row) :]:
            axis.set_visible(False)
        for panel, axis in zip(row, line, strict=False):
            _draw_panel(axis, panel)
            if panel.ylabel in shared:
                axis.sharey(shared[panel.ylabel])
            shared.setdefault(panel.ylabel, axis)
    for axis in shared.values():
        axis.autoscale(axis="y")
    drawn.legend(
        [Line2D([], [], **_look(curve.style)) for curve in curves.values()],
        list(curves),
        loc="outside lower center",
        ncols=legend_columns,
        frameon=False,
        fontsize=9,
        title=textwrap.fill(subtitle, int(width / 0.065)),
        title_fontsize=8,
    )
    drawn.suptitle(title, fontsize=12, fontweight="bold")
    return drawn


def _draw_panel(axis: Axes, panel: Panel) -> None:
    counts = sorted({count for curve in panel.curves for count in curve.points})
    for curve in panel.curves:
        style, points = curve.style, curve.points
        axis.errorbar(
            list(points),
            [point.mean for point in points.values()],
            yerr=np.nan_to_num([point.half_width for point in points.values()]),  # one partition has none
            lw=1.5,
            capsize=2,
            elinewidth=0.9,
            **_look(style),
        )
    if panel.zero:
        axis.axhline(0, color="0.6", lw=0.8, zorder=0)
    axis.set_xscale("log")
    axis.set_xticks(counts, [f"{count:,}" for count in counts], fontsize=8)
    axis.minorticks_off()
    if counts:
        axis.set_xlim(counts[0] / 1.25, counts[-1] * 1.25)
    axis.set_title(panel.title, fontsize=9.5)
    axis.set_xlabel("training images", fontsize=9)
    axis.set_ylabel(panel.ylabel, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(axis="y", color="0.92", lw=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _look(style: Style) -> dict[str, Any]:
    face = style.colour if style.filled else "white"
    return {"color": style.colour, "ls": style.line, "marker": style.marker, "ms": 5.5, "mfc": face}
