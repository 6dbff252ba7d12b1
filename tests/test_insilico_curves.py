"""Indices of tuning curves against curves whose numbers are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from mousev1.insilico import tuning_indices
from mousev1.insilico.posterior_samples import estimate

ANGLES = 15.0 * np.arange(12)


def von_mises(preferred: float, kappa: float) -> np.ndarray:
    return np.exp(kappa * (np.cos(2 * np.deg2rad(ANGLES - preferred)) - 1))


@pytest.mark.parametrize("preferred", [0.0, 3.0, 52.5, 89.9, 176.0])
def test_preferred_orientation_lies_between_samples(preferred):
    for find, accuracy in (
        (tuning_indices.preferred_orientation, 1e-3),
        (tuning_indices.peak_orientation, 0.05),
    ):
        found = find(von_mises(preferred, 2.0))
        assert (found - preferred + 90) % 180 - 90 == pytest.approx(0.0, abs=accuracy)


def test_preferred_orientation_of_an_asymmetric_curve_is_its_vectors_and_its_peak_the_peaks():
    # responses 3, 1, 0, 0 at 0, 45, 90, 135 degrees: the vector (3, i)
    curve = np.array([3.0, 1.0, 0.0, 0.0])
    assert tuning_indices.preferred_orientation(curve) == pytest.approx(np.rad2deg(np.arctan2(1, 3)) / 2)
    sharp = von_mises(30.0, 8.0) + 0.4 * von_mises(75.0, 8.0)
    assert tuning_indices.peak_orientation(sharp) == pytest.approx(30.0, abs=1.0)
    assert tuning_indices.preferred_orientation(sharp) > 38.0


def test_half_width_of_a_von_mises_curve():
    # exp(k (cos 2d - 1)) = 1/2 at d = arccos(1 - ln 2 / k) / 2
    for kappa in (1.0, 2.0, 4.0):
        expected = np.rad2deg(np.arccos(1 - np.log(2) / kappa)) / 2
        assert tuning_indices.half_width(von_mises(33.0, kappa)) == pytest.approx(expected, rel=1e-2)


def test_half_width_is_undefined_where_the_curve_never_falls_to_half():
    assert np.isnan(tuning_indices.half_width(1.0 + 0.2 * np.cos(2 * np.deg2rad(ANGLES))))


def test_selectivity_of_a_raised_cosine():
    # r = 1 + a cos 2(o - p): |sum r e^2io| / sum r = a / 2, and (1 + a - (1 - a)) / 2 = a
    curve = 1.0 + 0.6 * np.cos(2 * np.deg2rad(ANGLES - 40.0))
    assert tuning_indices.orientation_selectivity(curve) == pytest.approx(0.3)
    assert tuning_indices.orientation_index(curve) == pytest.approx(0.6, rel=1e-3)


def test_suppressed_orthogonal_responses_count_as_none():
    curve = np.cos(2 * np.deg2rad(ANGLES))
    assert tuning_indices.orientation_index(curve) == pytest.approx(1.0)
    assert 0.0 < tuning_indices.orientation_selectivity(curve) <= 1.0


def test_units_without_a_positive_response_have_no_indices():
    flat = np.zeros((2, 12))
    flat[1] = -1.0
    for index in (
        tuning_indices.preferred_orientation,
        tuning_indices.peak_orientation,
        tuning_indices.orientation_selectivity,
        tuning_indices.orientation_index,
        tuning_indices.half_width,
        tuning_indices.suppression,
        lambda curve: tuning_indices.modulation(curve)[0],
        lambda curve: tuning_indices.preferred_on_log_axis(curve, np.geomspace(1, 2, 12)),
        lambda curve: tuning_indices.naka_rushton(curve, np.linspace(0.1, 1, 12))[0],
        lambda curve: tuning_indices.half_height_range(curve, np.geomspace(1, 2, 12))[1],
    ):
        assert np.isnan(index(flat)).all()


def test_peak_and_half_heights_of_a_log_gaussian():
    values = np.geomspace(0.01, 0.24, 17)
    sd = 0.7
    curve = np.exp(-0.5 * (np.log(values / 0.05) / sd) ** 2)
    assert tuning_indices.preferred_on_log_axis(curve, values) == pytest.approx(0.05, rel=0.01)
    low, high = tuning_indices.half_height_range(curve, values)
    # half height at sqrt(2 ln 2) standard deviations
    factor = np.exp(np.sqrt(2 * np.log(2)) * sd)
    assert low == pytest.approx(0.05 / factor, rel=0.03)
    assert high == pytest.approx(0.05 * factor, rel=0.03)


def test_a_low_pass_curve_has_its_peak_at_the_first_value_and_no_lower_end():
    values = np.geomspace(0.01, 0.24, 17)
    low, high = tuning_indices.half_height_range(1 / (1 + (values / 0.05) ** 2), values)
    assert np.isnan(low)
    assert high == pytest.approx(0.05, rel=0.06)
    assert tuning_indices.preferred_on_log_axis(1 / values, values) == pytest.approx(0.01)


@pytest.mark.parametrize(("power", "expected"), [(1, np.pi / 2), (2, 16 / (3 * np.pi))])
def test_modulation_of_rectified_cosines(power, expected):
    # F1/F0 of a half-wave rectified cosine is pi / 2, squared 16 / (3 pi)
    phase = 2 * np.pi * np.arange(64) / 64
    ratio, preferred = tuning_indices.modulation(np.maximum(np.cos(phase - 1.0), 0.0) ** power)
    assert ratio == pytest.approx(expected, rel=1e-3)
    assert preferred == pytest.approx(np.rad2deg(1.0), abs=0.1)


def test_modulation_of_a_constant_is_zero():
    assert tuning_indices.modulation(np.ones(8))[0] == pytest.approx(0.0, abs=1e-12)


def test_suppression_compares_the_largest_with_the_best_disk():
    assert tuning_indices.suppression(np.array([1.0, 4.0, 3.0, 1.0])) == pytest.approx(0.75)
    assert tuning_indices.suppression(np.array([1.0, 2.0, 3.0])) == 0.0


def test_naka_rushton_functions_are_found_again():
    contrasts = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0])
    c50, n, top = np.array([0.08, 0.2, 0.45]), np.array([1.0, 2.0, 3.0]), np.array([1.0, 7.0, 0.2])
    curve = top[:, None] * contrasts ** n[:, None] / (contrasts ** n[:, None] + c50[:, None] ** n[:, None])
    found = tuning_indices.naka_rushton(curve[None], contrasts)
    for values, expected in zip(found, (c50, n, top, np.ones(3)), strict=True):
        np.testing.assert_allclose(values[0], expected, rtol=0.04)


def test_best_grating_and_the_curves_through_it():
    surface = np.zeros((2, 3, 4))
    surface[0, 1, 2], surface[1, 2, 0] = 5.0, 7.0
    surface[0, 0, 2], surface[1, 2, 3] = 2.0, 3.0
    row, column = tuning_indices.best_grating(surface)
    assert (row.tolist(), column.tolist()) == ([1, 2], [2, 0])
    down, across = tuning_indices.cross_sections(surface, row, column)
    np.testing.assert_array_equal(down, [[2, 5, 0], [0, 0, 7]])
    np.testing.assert_array_equal(across, [[0, 0, 5, 0], [7, 0, 0, 3]])


def test_intervals_are_quantiles_and_angles_stay_next_to_their_value():
    drawn = np.concatenate([[5.0], np.arange(101.0)])[:, None]
    found = estimate(drawn, level=0.9)
    assert (found.value[0], found.low[0], found.high[0]) == pytest.approx((5.0, 5.0, 95.0))
    # draws at 170 and 10 around 0 are 10 away on both sides
    angle = estimate(np.concatenate([[2.0], np.tile([172.0, 12.0], 50)])[:, None], level=0.9, period=180.0)
    assert (angle.low[0], angle.high[0]) == pytest.approx((-8.0, 12.0))


def test_an_interval_needs_draws_and_a_value():
    assert np.isnan(estimate(np.array([[1.0]]), level=0.9).low).all()
    mostly = np.array([[1.0], [1.0], [np.nan], [np.nan]])
    assert np.isnan(estimate(mostly, level=0.9).low).all()
