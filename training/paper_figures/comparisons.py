"""Differences between conditions, paired by partition.

Scores are Series over an index of numbers of neurons and images, whatever else must agree between two
conditions that are compared (the *context*), and, last, the partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from mousev1.metrics.intervals import Interval, mean_interval


class Size(NamedTuple):
    """Numbers of neurons and of training images."""

    units: int
    images: int


def scores_by_partition(
    rows: pd.DataFrame, score: str, context: Sequence[str], reduce: str = "mean"
) -> pd.Series:
    """Scores by neurons, images, context (columns that must agree between conditions compared) and partition.

    ``reduce`` ("mean", "min" or "max") makes one number of several curves, in partitions where all have a score.
    """
    at = ["units", "images", *context]
    curves = rows.groupby(at)["curve"].transform("nunique")
    measured = rows.groupby([*at, "partition"])[score].transform("count")
    return rows[measured == curves].groupby([*at, "partition"])[score].agg(reduce)


@dataclass(frozen=True)
class Comparison:
    """One condition against another, where both were measured: first minus second, ratios to positive seconds."""

    differences: pd.Series
    ratios: pd.Series

    @classmethod
    def of(cls, first: pd.Series, second: pd.Series) -> Comparison:
        """Compare scores of the same neurons, images, context and partition."""
        first, second = first.align(second, join="inner")
        return cls(first - second, (first / second)[second > 0])

    @property
    def pooled(self) -> Interval:
        """Mean difference, and its 95% interval over partitions."""
        return mean_interval(pool(self.differences))

    @property
    def count(self) -> int:
        """Number of combinations of neurons, images and context that were compared."""
        return len(self._means)

    @property
    def in_favour(self) -> int:
        """For how many of them the mean difference is positive."""
        return int((self._means > 0).sum())

    @property
    def _means(self) -> pd.Series:
        return self.differences.unstack("partition").mean(axis="columns")

    def largest(self) -> tuple[Size | None, Interval]:
        """Relative gain (first / second - 1) where there are most neurons and, of these, most images."""
        if self.ratios.empty:
            return None, mean_interval([])
        size = Size(*max(zip(*map(self.ratios.index.get_level_values, Size._fields), strict=True)))
        return size, mean_interval(pool(self.ratios.xs(size, level=Size._fields, drop_level=False)) - 1)


def pool(scores: pd.Series) -> pd.Series:
    """Mean in each partition over all that was compared, of partitions that are complete.

    What has one partition is left out if others have more, because it does not show how partitions differ.
    """
    table = scores.unstack("partition")
    repeated = table[table.count(axis="columns") > 1]
    return (table if repeated.empty else repeated).dropna(axis="columns").mean()
