"""Tuning curves of single neurons, and how a population is tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mousev1.insilico.posterior_samples import Estimate
from mousev1.insilico.tuning import Tuning
from mousev1.plot.figure import new_figure, plain
from mousev1.plot.palette import BLUE, GREY, INK, PALE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Panel(NamedTuple):
    """How one curve is drawn; ``marked`` and ``noted`` are names of estimates of a ``Tuning``."""

    label: str
    ticks: tuple[float, ...]
    logarithmic: bool
    marked: str | None
    noted: str
    note: str


PANELS = {
    "orientation": Panel(
        "orientation (deg)", (0, 45, 90, 135), False, "orientation_deg", "orientation_selectivity", "1 - CV"
    ),
    "frequency": Panel(
        "cycles per degree", (0.01, 0.04, 0.16), True, "frequency_cpd", "frequency_cpd", "best"
    ),
    "phase": Panel("phase (deg)", (0, 90, 180, 270), False, None, "f1_f0", "F1/F0"),
    "size": Panel("diameter (deg)", (10, 30, 100), True, "size_deg", "suppression", "suppression"),
    "contrast": Panel(
        "Michelson contrast", (0.03, 0.1, 0.3, 1), True, "semi_saturation", "semi_saturation", "c50"
    ),
}


def tuning_panels(
    tuning: Tuning,
    *,
    units: NDArray[Any] | None = None,
    title: str | None = None,
) -> Figure:
    """One row of curves per neuron: orientation, spatial frequency, phase, size, contrast.

    A band marks the interval of each preferred value. Stimuli outside of the training images are hollow.

    Args:
        tuning: curves and indices.
        units: rows of ``tuning`` to show; the first 8 by default.
        title: of the figure.
    """
    rows = np.arange(min(8, len(tuning))) if units is None else np.asarray(units)
    figure = new_figure(9.5, 1.25 * len(rows) + 0.8, title)
    panels = figure.subplots(len(rows), len(PANELS), squeeze=False)
    for line, row in zip(panels, rows, strict=True):
        for axes, name in zip(line, PANELS, strict=True):
            _panel(axes, tuning, name, int(row))
        line[0].set_ylabel(f"neuron {tuning.unit_ids[row]}")
    for axes, panel in zip(panels[-1], PANELS.values(), strict=True):
        axes.set_xlabel(panel.label)
    return figure


def _panel(axes: Axes, tuning: Tuning, name: str, row: int) -> None:
    panel, settings = PANELS[name], tuning.settings
    x = {
        "orientation": 180.0 / settings.orientations * np.arange(settings.orientations),
        "frequency": np.asarray(settings.frequencies_cpd),
        "phase": 360.0 / settings.phases * np.arange(settings.phases),
        "size": np.asarray(settings.diameters_deg),
        "contrast": np.asarray(settings.contrasts),
    }[name]
    y = getattr(tuning, f"{name}_curve")[row]
    if panel.marked:
        _band(axes, tuning.estimates[panel.marked], row, period=180.0 if name == "orientation" else None)
    far = np.zeros(len(x), dtype=bool) if name == "phase" else getattr(tuning.extrapolation, name)[row] > 1
    axes.axhline(0.0, color=GREY, linewidth=0.5)
    axes.plot(x, y, color=BLUE, linewidth=1)
    axes.plot(x[~far], y[~far], "o", color=BLUE, markersize=2.5)
    axes.plot(x[far], y[far], "o", color=VERMILION, markerfacecolor="white", markersize=3)
    if panel.logarithmic:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(panel.ticks, [f"{tick:g}" for tick in panel.ticks])
    plain(axes)
    noted = tuning.estimates[panel.noted]
    value, low, high = noted.value[row], noted.low[row], noted.high[row]
    interval = f" ({low:.2g} to {high:.2g})" if np.isfinite(low) and np.isfinite(high) else ""
    axes.set_title(f"{panel.note} {value:.2g}{interval}", fontsize=6.5, color=INK, pad=2)


def population_tuning(tuning: Tuning, *, title: str | None = None) -> Figure:
    """Histograms of what a population prefers and of its indices."""
    figure = new_figure(9.5, 4.2, title or f"tuning of {len(tuning)} neurons")
    panels = figure.subplots(2, 4)
    choices: tuple[tuple[str, Estimate, bool], ...] = (
        ("preferred orientation (deg)", tuning.orientation_deg, False),
        ("preferred frequency (cycles/deg)", tuning.frequency_cpd, True),
        ("preferred diameter (deg)", tuning.size_deg, True),
        ("orientation selectivity (1 - CV)", tuning.orientation_selectivity, False),
        ("half width at half height (deg)", tuning.half_width_deg, False),
        ("phase modulation F1/F0", tuning.f1_f0, False),
        ("surround suppression", tuning.suppression, False),
        ("semi-saturation contrast", tuning.semi_saturation, True),
    )
    for axes, (name, estimate, logarithmic) in zip(panels.flat, choices, strict=True):
        values = estimate.value[np.isfinite(estimate.value)]
        if values.size:
            low, high = float(values.min()), float(values.max())
            if logarithmic:
                axes.set_xscale("log")
                axes.hist(values, bins=np.geomspace(low, high * 1.0001, 21).tolist(), color=BLUE)
                axes.minorticks_off()
                ticks = np.geomspace(low, high, 3) if high > low else np.array([low])
                axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            else:
                axes.hist(values, bins=np.linspace(low, high + 1e-9, 21).tolist(), color=BLUE)
        axes.set_title(
            f"{values.size} neurons, median {np.median(values) if values.size else np.nan:.3g}", fontsize=7
        )
        axes.set(xlabel=name, ylabel="neurons")
        plain(axes)
    return figure


def _band(axes: Axes, estimate: Estimate, row: int, *, period: float | None) -> None:
    value, low, high = estimate.value[row], estimate.low[row], estimate.high[row]
    if np.isfinite(low) and np.isfinite(high):
        # of an angle, what lies beyond one end of the axis shows at the other
        for shift in (0.0,) if period is None else (-period, 0.0, period):
            start, stop = low + shift, high + shift
            if period is not None:
                start, stop = max(start, 0.0), min(stop, period)
            if stop > start:
                axes.axvspan(start, stop, color=PALE, linewidth=0)
    if np.isfinite(value):
        axes.axvline(value, color=INK, linewidth=0.6, linestyle=":")
