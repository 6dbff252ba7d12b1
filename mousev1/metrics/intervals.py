"""Means over random draws with their 95% confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit  # Student's t quantile; scipy.stats takes longer to import


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% confidence interval.

    Attributes:
        mean: NaN without any value.
        low: lower end; NaN with fewer than two values.
        high: upper end; NaN with fewer than two values.
        count: number of values.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def half_width(self) -> float:
        """Half of the interval's length; NaN with fewer than two values."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        if not self.count:
            return "-"
        return f"{self.mean:.3f}" + (f" ± {self.half_width:.3f}" if self.count > 1 else "")


def mean_interval(values: Iterable[float]) -> Interval:
    """The mean and its 95% interval from Student's t: mean ± t_{.975, n-1} s / sqrt(n).

    Values that are not finite are left out; ``count`` is the number of those that were not.

    Example:
        >>> mean_interval([0.5, 0.6, 0.7])
        Interval(mean=0.6, low=0.3515..., high=0.8484..., count=3)
    """
    found = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    count = len(found)
    mean = float(found.mean()) if count else math.nan
    if count < 2:
        return Interval(mean, math.nan, math.nan, count)
    reach = float(stdtrit(count - 1, 0.975)) * float(found.std(ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach, count)


def mean_of_defined(values: ArrayLike) -> float:
    """The mean of the values that are finite; NaN without any."""
    array = np.asarray(values, dtype=np.float64)
    defined = array[np.isfinite(array)]
    return float(defined.mean()) if defined.size else math.nan
