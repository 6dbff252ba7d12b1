"""Means and their 95% intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mousev1.metrics.intervals import mean_interval, mean_of_defined


def test_an_interval_is_the_one_computed_by_hand():
    # oracle: mean .6, s = .1, t_{.975, 2} = 4.3027, half width 4.3027 * .1 / sqrt(3)
    found = mean_interval([0.5, 0.6, 0.7])
    assert found.mean == pytest.approx(0.6)
    assert found.half_width == pytest.approx(0.248417, abs=1e-5)
    assert (found.low + found.high) / 2 == pytest.approx(0.6)
    assert str(found) == "0.600 ± 0.248"


@pytest.mark.parametrize("freedom", [*range(1, 12), 15, 24, 60, 1000])
def test_an_interval_reaches_as_far_as_students_t_says(freedom):
    # oracle: scipy.stats
    values = np.random.default_rng(freedom).normal(size=freedom + 1)
    low, high = stats.t.interval(0.95, freedom, loc=values.mean(), scale=stats.sem(values))
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


def test_one_value_has_a_mean_but_no_interval_and_undefined_ones_are_not_counted():
    one, none = mean_interval([0.4, math.nan]), mean_interval([math.nan])
    assert (one.mean, one.count, str(one)) == (0.4, 1, "0.400")
    assert math.isnan(one.low)
    assert (none.count, str(none)) == (0, "-")
    assert math.isnan(none.mean)


def test_a_mean_of_what_is_defined_leaves_out_the_rest():
    assert mean_of_defined([0.2, math.nan, 0.4, math.inf]) == pytest.approx(0.3)
    assert math.isnan(mean_of_defined([math.nan]))
