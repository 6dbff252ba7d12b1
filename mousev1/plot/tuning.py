"""Tuning curves of single neurons, and how a population is tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mousev1.insilico.posterior_samples import Estimate
from mousev1.insilico.tuning import Tuning
from mousev1.plot.figure import new_figure, plain
from mousev1.plot.palette import BLUE, GREY, INK, PALE, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {
    "orientation": "orientation (deg)",
    "frequency": "cycles per degree",
    "phase": "phase (deg)",
    "size": "diameter (deg)",
    "contrast": "Michelson contrast",
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
    panels = figure.subplots(len(rows), len(LABELS), squeeze=False)
    for line, row in zip(panels, rows, strict=True):
        for axes, name in zip(line, LABELS, strict=True):
            _panel(axes, tuning, name, int(row))
        line[0].set_ylabel(f"neuron {tuning.unit_ids[row]}")
    for axes, label in zip(panels[-1], LABELS.values(), strict=True):
        axes.set_xlabel(label)
    return figure


def _panel(axes: Any, tuning: Tuning, name: str, row: int) -> None:
    settings = tuning.settings
    x_of: dict[str, tuple[Any, Estimate | None]] = {
        "orientation": (
            180.0 / settings.orientations * np.arange(settings.orientations),
            tuning.orientation_deg,
        ),
        "frequency": (settings.frequencies_cpd, tuning.frequency_cpd),
        "phase": (360.0 / settings.phases * np.arange(settings.phases), None),
        "size": (settings.diameters_deg, tuning.size_deg),
        "contrast": (settings.contrasts, tuning.semi_saturation),
    }
    shown, marked = x_of[name]
    x, y = np.asarray(shown), getattr(tuning, f"{name}_curve")[row]
    _band(axes, marked, row, period=180.0 if name == "orientation" else None)
    far = np.zeros(len(x), dtype=bool) if name == "phase" else getattr(tuning.extrapolation, name)[row] > 1
    axes.axhline(0.0, color=GREY, linewidth=0.5)
    axes.plot(x, y, color=BLUE, linewidth=1)
    axes.plot(x[~far], y[~far], "o", color=BLUE, markersize=2.5)
    axes.plot(x[far], y[far], "o", color=VERMILION, markerfacecolor="white", markersize=3)
    if name in ("frequency", "size", "contrast"):
        axes.set_xscale("log")
        axes.minorticks_off()
        ticks = _ticks(name)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    else:
        axes.set_xticks([0, 45, 90, 135] if name == "orientation" else [0, 90, 180, 270])
    plain(axes)
    axes.set_title(_note(tuning, name, row), fontsize=6.5, color=INK, pad=2)


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


def _band(axes: Any, estimate: Estimate | None, row: int, *, period: float | None) -> None:
    if estimate is None:
        return
    value, low, high = (getattr(estimate, end)[row] for end in ("value", "low", "high"))
    if np.isfinite(low) and np.isfinite(high):
        spans = [(low, high)]
        if period is not None:
            spans = [(low + shift, high + shift) for shift in (-period, 0.0, period)]
        for start, stop in spans:
            start, stop = (max(start, 0.0), min(stop, period)) if period is not None else (start, stop)
            if stop > start:
                axes.axvspan(start, stop, color=PALE, linewidth=0)
    if np.isfinite(value):
        axes.axvline(value, color=INK, linewidth=0.6, linestyle=":")


def _ticks(name: str) -> list[float]:
    ticks = {"frequency": [0.01, 0.04, 0.16], "size": [10.0, 30.0, 100.0], "contrast": [0.03, 0.1, 0.3, 1.0]}
    return ticks[name]


def _note(tuning: Tuning, name: str, row: int) -> str:
    notes = {
        "orientation": ("1 - CV", tuning.orientation_selectivity),
        "frequency": ("best", tuning.frequency_cpd),
        "phase": ("F1/F0", tuning.f1_f0),
        "size": ("suppression", tuning.suppression),
        "contrast": ("c50", tuning.semi_saturation),
    }
    label, estimate = notes[name]
    value, low, high = (getattr(estimate, end)[row] for end in ("value", "low", "high"))
    interval = f" ({low:.2g} to {high:.2g})" if np.isfinite(low) and np.isfinite(high) else ""
    return f"{label} {value:.2g}{interval}"
