"""What all figures share: how they are made, their colours, how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mousev1.insilico.frame import Frame
from mousev1.plot.palette import GREY, INK
from mousev1.storage.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150


def check_matplotlib() -> None:
    """Raise ``ModuleNotFoundError`` if figures cannot be drawn: before work whose results they would show."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "figures need matplotlib: pip install matplotlib, or leave figures out (--no-figures, figures=False)"
        ) from error


def new_figure(width: float, height: float, title: str | None) -> Figure:
    """An empty figure, inches wide and high, that no window or global state knows of."""
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=10, color=INK)
    return figure


def grid(count: int, columns: int) -> tuple[int, int]:
    """Rows and columns for a number of panels."""
    columns = min(columns, count)
    return -(-count // columns), columns


def sheet(count: int, columns: int, frame: Frame, title: str | None) -> tuple[Figure, list[Axes]]:
    """A figure of panels for images of the frame, at most so many side by side, each without ticks."""
    rows, columns = grid(count, columns)
    height = 1.7 * frame.height / frame.width + 0.22
    figure = new_figure(1.7 * columns + 0.2, height * rows + (0.5 if title else 0.1), title)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    for axes in panels[:count]:
        axes.set(xticks=[], yticks=[])
        for side in axes.spines.values():
            side.set(color=GREY, linewidth=0.5)
    return figure, panels[:count]


def extent(frame: Frame) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the frame in degrees, for ``imshow``."""
    height, width = frame.size_deg
    return -width / 2, width / 2, -height / 2, height / 2


def plain(axes: Any) -> None:
    """Small ticks and two spines only."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7, length=2)
    axes.xaxis.label.set_size(8)
    axes.yaxis.label.set_size(8)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as its ending says (.png, .pdf, .svg), complete or not at all; returns the path."""
    path = Path(path)
    with replacing(path) as staging:
        figure.savefig(staging, format=path.suffix.lstrip(".") or "png", dpi=DPI, facecolor="white")
    return path
