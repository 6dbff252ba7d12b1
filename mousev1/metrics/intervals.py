"""Means over random draws with their 95% confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# The .975 quantile of Student's t for 1, 2, ... degrees of freedom; beyond them a series is as good.
T_975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
NORMAL_975 = 1.959964


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

    Values that are not finite are left out; ``count`` tells how many were not.

    Example:
        >>> mean_interval([0.5, 0.6, 0.7])
        Interval(mean=0.6, low=0.3515..., high=0.8484..., count=3)
    """
    found = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    count = len(found)
    mean = float(found.mean()) if count else math.nan
    if count < 2:
        return Interval(mean, math.nan, math.nan, count)
    reach = t_quantile(count - 1) * float(found.std(ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach, count)


def t_quantile(freedom: int) -> float:
    """The .975 quantile of Student's t, to three digits after the point.

    Args:
        freedom: degrees of freedom, at least 1.
    """
    if freedom < 1:
        raise ValueError(f"freedom: expected at least 1 degree of freedom, got {freedom}")
    if freedom <= len(T_975):
        return T_975[freedom - 1]
    # Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5
    z = NORMAL_975
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
