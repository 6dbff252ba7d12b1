"""The figure of a learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mousev1.compare.results import BASELINES, LINEAR, MEAN, RANDOM, LearningCurve
from mousev1.errors import check_choice
from mousev1.metrics.score_names import MODEL_SCORES, SCORES
from mousev1.plot.figure import new_figure
from mousev1.plot.palette import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE_STYLES = {
    RANDOM: ("0.45", "-", "^"),
    LINEAR: ("black", "--", "s"),
    MEAN: ("0.45", ":", "v"),
}
"""Colour, line and marker; representations have colours, baselines are black or grey."""


def learning_curve(curve: LearningCurve, scores: Sequence[str] | None = None) -> Figure:
    """Scores over the number of training images with their 95% intervals, one panel per score.

    Args:
        curve: of ``mousev1.transfer_curve``.
        scores: of ``mousev1.metrics.score_names.MODEL_SCORES``; by default fraction oracle (single-trial correlation
            without repeats), the Poisson deviance explained and, for a simulation, the correlation
            with the true rate.
    """
    for score in scores or ():
        check_choice("scores", score, MODEL_SCORES)
    scores = curve.headline if scores is None else scores
    drawn = new_figure(4.4 * len(scores) + 0.4, 4.8, None)
    axes = drawn.subplots(1, len(scores), squeeze=False)[0]
    for axis, score in zip(axes, scores, strict=True):
        _draw(axis, curve, score)
    handles, labels = {}, {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles[label], labels[label] = handle, label
    drawn.legend(
        handles.values(),
        labels.values(),
        loc="outside lower center",
        ncols=min(len(labels), 4),
        frameon=False,
        fontsize=9,
    )
    drawn.suptitle(curve.title(), fontsize=11)
    return drawn


def _draw(axis: Axes, curve: LearningCurve, score: str) -> None:
    own = [name for name in curve.representations if name not in BASELINES]
    styles = BASELINE_STYLES | {name: (COLOURS[i % len(COLOURS)], "-", "o") for i, name in enumerate(own)}
    for name in curve.representations:
        found = [curve.interval(name, count, score) for count in curve.images]
        shown = [(n, part) for n, part in zip(curve.images, found, strict=True) if part.count]
        if not shown:
            continue
        colour, line, marker = styles[name]
        axis.errorbar(
            [count for count, _ in shown],
            [part.mean for _, part in shown],
            yerr=np.nan_to_num([part.half_width for _, part in shown]),  # one draw has no interval
            color=colour,
            ls=line,
            marker=marker,
            ms=5,
            capsize=2.5,
            elinewidth=0.9,
            label=name,
        )
    if score == "single_trial_correlation" and np.isfinite(curve.oracle):
        axis.axhline(curve.oracle, color="0.6", lw=0.9, ls=":", label="oracle (other repeats)", zorder=0)
    axis.set_xscale("log")
    axis.set_xticks(curve.images, [f"{count:,}" for count in curve.images])
    axis.minorticks_off()
    axis.set_xlabel("training images")
    axis.set_ylabel(SCORES[score])
    axis.spines[["top", "right"]].set_visible(False)
