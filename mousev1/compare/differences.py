"""Differences between cores of a learning curve, draw by draw, as a table and as columns."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.compare.results import BASELINES, LearningCurve
from mousev1.metrics.score_names import MODEL_SCORES, SCORES


def core_pairs(curve: LearningCurve) -> list[tuple[str, str]]:
    """Every two representations that are no baselines, in the order of the curve."""
    return list(combinations((name for name in curve.representations if name not in BASELINES), 2))


def difference_table(curve: LearningCurve, score: str = "fraction_oracle") -> str:
    """One line per pair of cores, one column per number of images: mean difference ± half of its interval."""
    names = {pair: f"{pair[0]} minus {pair[1]}" for pair in core_pairs(curve)}
    width = max([len("images"), *map(len, names.values())])
    lines = [
        f"{SCORES[score]}: paired differences over the same draws; mean ± half of the 95% interval",
        "images".ljust(width) + "".join(f"{count:>16,}" for count in curve.images),
    ]
    for (first, second), name in names.items():
        found = [str(curve.difference(first, second, count, score)) for count in curve.images]
        lines.append(name.ljust(width) + "".join(f"{text:>16}" for text in found))
    return "\n".join(lines)


def difference_columns(curve: LearningCurve) -> dict[str, NDArray[Any]]:
    """``first``, ``second``, ``images``, ``score``, ``difference``, ``low``, ``high`` (95% interval) and ``draws``:
    one row per pair of cores, number of images and score that both have.
    """
    rows = [
        (first, second, count, score, found.mean, found.low, found.high, found.count)
        for first, second in core_pairs(curve)
        for count in curve.images
        for score in MODEL_SCORES
        if (found := curve.difference(first, second, count, score)).count
    ]
    names = ("first", "second", "images", "score", "difference", "low", "high", "draws")
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
