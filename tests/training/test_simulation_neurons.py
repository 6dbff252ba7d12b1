"""Simulated neurons follow the distributions they are said to follow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from training.simulation.neurons import draw_frequencies, draw_orientations, draw_population, on_another_day
from training.simulation.retinotopy import PIXELS_PER_DEGREE, draw_map, draw_positions, scatter_fields
from training.simulation.settings import NeuronConfig, NoiseConfig, RetinotopyConfig

FRAME = {"height": 36, "width": 64}


@pytest.fixture(scope="module")
def population():
    fields = np.tile([31.5, 17.5], (4000, 1))
    return draw_population(np.random.default_rng(1), fields, NeuronConfig(), NoiseConfig())


@pytest.mark.parametrize("bias", [0.0, 0.2, 0.8])
def test_orientations_have_the_cardinal_density(bias):
    """Oracle: the integral of (1 + bias cos 4t) / pi, by Kolmogorov and Smirnov."""
    drawn = draw_orientations(np.random.default_rng(0), 20_000, bias)

    def cumulative(t):
        return t / np.pi + bias * np.sin(4 * t) / (4 * np.pi)

    assert stats.kstest(drawn, cumulative).pvalue > 0.01
    if bias:
        assert stats.kstest(drawn, "uniform", args=(0, np.pi)).pvalue < 0.01


def test_frequencies_are_a_truncated_lognormal():
    """Oracle: scipy's truncated normal distribution of the base-2 logarithm."""
    config = NeuronConfig()
    drawn = np.log2(draw_frequencies(np.random.default_rng(0), 20_000, config))
    mean, sd = np.log2(config.frequency_cpd), config.frequency_spread_octaves
    low, high = (np.log2(config.frequency_range_cpd) - mean) / sd
    assert stats.kstest(drawn, stats.truncnorm(low, high, loc=mean, scale=sd).cdf).pvalue > 0.01


def test_kinds_of_neurons_have_their_shares(population):
    """Oracle: binomial standard errors around the configured shares."""
    config = NeuronConfig()
    assert population.silent.mean() == pytest.approx(config.silent_share, abs=0.012)
    assert population.simple.mean() == pytest.approx(config.simple_share, abs=0.03)
    unreliable = population.fano == NoiseConfig().unreliable_fano
    assert unreliable.mean() == pytest.approx(config.unreliable_share, abs=0.02)
    assert not (unreliable & population.silent).any()
    assert not ((population.complexity > 0) & (population.complexity < 0.3)).any()


def test_receptive_fields_have_the_sizes_of_mouse_v1(population):
    """Oracle: half-widths at half height of 5 to 15 degrees cover most cells (Niell & Stryker 2008)."""
    half_width = np.sqrt(2 * np.log(2)) * np.sqrt(population.length * population.breadth)
    assert 5 < np.median(half_width) < 12
    assert np.mean((half_width > 3.5) & (half_width < 15)) > 0.9
    assert 1.1 < np.median(population.length / population.breadth) < 1.6


def test_response_units_span_orders_of_magnitude(population):
    """Oracle: 98% of a log-normal with 0.5 decades of SD span 2.3 decades."""
    low, high = np.log10(np.percentile(population.unit, [1, 99]))
    assert high - low == pytest.approx(2 * 2.326 * NeuronConfig().unit_spread_decades, rel=0.1)


def test_regression_on_cortex_recovers_the_affine_map():
    """Oracle: least squares, with the standard error that the scatter implies."""
    config = RetinotopyConfig(margin_px=0.0)
    rng = np.random.default_rng(3)
    positions = draw_positions(rng, 3000, config.field_um)
    truth = draw_map(rng, config, centre_um=positions.mean(axis=0), **FRAME)
    fields = scatter_fields(rng, truth(positions), config, **FRAME)
    design = np.column_stack([positions[:, :2] - positions[:, :2].mean(axis=0), np.ones(len(positions))])
    solution, *_ = np.linalg.lstsq(design, fields, rcond=None)
    scatter = config.scatter_sd_deg * PIXELS_PER_DEGREE
    error = scatter / np.sqrt(len(positions)) / positions[:, 0].std()
    np.testing.assert_allclose(solution[:2].T, truth.matrix, atol=4 * error)
    np.testing.assert_allclose((fields - design @ solution).std(axis=0), scatter, rtol=0.05)


def test_maps_differ_between_animals_but_not_in_handedness():
    """Oracle: the sign of the determinant, which a rotation or a magnification cannot change."""
    maps = [
        draw_map(np.random.default_rng(seed), RetinotopyConfig(), centre_um=np.zeros(3), **FRAME)
        for seed in range(20)
    ]
    determinants = np.array([np.linalg.det(m.matrix) for m in maps])
    assert (determinants < 0).all()
    assert determinants.std() / abs(determinants.mean()) > 0.05


def test_receptive_fields_stay_where_a_core_can_see_them():
    """Oracle: the margin of 7 pixels that a 15 x 15 first kernel takes off the frame."""
    config = RetinotopyConfig(scatter_sd_deg=10.0)
    mapped = np.random.default_rng(0).uniform(0, 36, (500, 2))
    fields = scatter_fields(np.random.default_rng(0), mapped, config, **FRAME)
    assert fields.min() >= 7
    assert fields[:, 0].max() <= 56
    assert fields[:, 1].max() <= 28


def test_another_day_changes_units_and_vigour_but_not_the_filters(population):
    """Oracle: equality of what makes a neuron the same neuron."""
    shift = np.array([0.5, -0.25])
    later = on_another_day(np.random.default_rng(5), population, NeuronConfig(), shift_px=shift)
    for same in ("orientation", "frequency", "phase", "complexity", "semi_saturation", "surround"):
        np.testing.assert_array_equal(getattr(later, same), getattr(population, same))
    np.testing.assert_allclose(later.x - population.x, 0.5)
    ratio = np.log(later.unit / population.unit)
    assert ratio.std() == pytest.approx(NeuronConfig().day_spread, rel=0.1)
    np.testing.assert_array_equal(later.silent, population.silent)
