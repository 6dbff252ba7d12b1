"""Distributions of scores over neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mousev1.metrics.score_table import ScoreTable
from mousev1.metrics.unit_scores import FEVE_NEEDS_FEV
from mousev1.plot.figure import new_figure, plain
from mousev1.plot.palette import BLUE, GREY, INK, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]


def score_distributions(table: ScoreTable, *, title: str | None = None) -> Figure:
    """Histograms of a model's scores over neurons, and model against oracle correlation.

    Neurons whose score is undefined are left out and counted; FEVE is shown where FEV is above 0.15.
    """
    figure = new_figure(9.5, 2.7, title or f"scores of {len(table)} neurons")
    panels = figure.subplots(1, 4)
    feve = np.where(table.fev > FEVE_NEEDS_FEV, table.feve, np.nan)
    for axes, (name, values) in zip(
        panels,
        (
            ("single-trial correlation", table.single_trial_correlation),
            ("correlation to average", table.correlation_to_average),
            (f"FEVE (FEV > {FEVE_NEEDS_FEV})", feve),
        ),
        strict=False,
    ):
        defined = values[np.isfinite(values)]
        if defined.size:
            shown = np.clip(defined, -1.0, 1.0)
            axes.hist(shown, bins=np.linspace(min(0.0, shown.min()), 1.0, 31).tolist(), color=BLUE)
            axes.axvline(defined.mean(), color=VERMILION, linewidth=1)
            axes.set_title(f"mean {defined.mean():.3f}, {defined.size} neurons", fontsize=8, color=INK)
        else:
            axes.set_title("undefined: no repeats", fontsize=8, color=INK)
        axes.set(xlabel=name, ylabel="neurons")
        plain(axes)
    _against_oracle(panels[3], table)
    return figure


def score_summary(
    table: ScoreTable, predicted: Array, recorded: Array, *, title: str | None = None
) -> Figure:
    """Model against oracle correlation, and the responses of the neuron with the best score.

    Args:
        table: scores of U neurons.
        predicted: (I, U) predicted responses to images.
        recorded: (I, U) recorded responses, averaged over repeats.
        title: of the figure.
    """
    figure = new_figure(9.5, 4.4, title)
    left, right = figure.subplots(1, 2)
    _against_oracle(left, table)
    best = int(np.nanargmax(table.single_trial_correlation))
    order = np.argsort(predicted[:, best])
    right.plot(
        recorded[order, best], "o", color=VERMILION, markersize=3, label="recorded, mean of the repeats"
    )
    right.plot(predicted[order, best], color=BLUE, label="predicted")
    right.set(xlabel="images, sorted by prediction", ylabel=f"response of neuron {table.unit_ids[best]}")
    right.legend(frameon=False, fontsize=8)
    plain(right)
    return figure


def _against_oracle(axes: Axes, table: ScoreTable) -> None:
    oracle, model = table.oracle_correlation, table.single_trial_correlation
    both = np.isfinite(oracle) & np.isfinite(model)
    axes.plot(oracle[both], model[both], ".", color=BLUE, markersize=2, alpha=0.5)
    if both.any():
        ends = np.array([min(0.0, oracle[both].min()), oracle[both].max()])
        axes.plot(ends, ends, color=GREY, linewidth=0.7)
        axes.plot(ends, table.fraction_oracle * ends, color=VERMILION, linewidth=1)
        axes.set_title(f"fraction oracle {table.fraction_oracle:.3f}", fontsize=8, color=INK)
    axes.set(xlabel="oracle correlation", ylabel="single-trial correlation")
    plain(axes)
