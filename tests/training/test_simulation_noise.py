"""Trials vary as the noise model says: shared gain, variance in proportion to the mean, units."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from training.simulation.neurons import draw_population
from training.simulation.noise import draw_gains, draw_responses
from training.simulation.settings import NeuronConfig, NoiseConfig

TRIALS, UNITS = 8000, 300


@pytest.fixture(scope="module")
def population():
    return draw_population(np.random.default_rng(0), np.zeros((UNITS, 2)), NeuronConfig(), NoiseConfig())


@pytest.fixture(scope="module")
def rates():
    per_unit = np.random.default_rng(1).gamma(2.0, 0.5, UNITS).astype(np.float32) + 0.05
    return np.tile(per_unit, (TRIALS, 1))


def test_variance_is_fano_times_mean_without_gain(population, rates):
    """Oracle: mean m and variance fano * m of a gamma distribution, in the neuron's unit."""
    responses = draw_responses(np.random.default_rng(2), rates, np.ones(TRIALS), population)
    events = responses.astype(np.float64) / population.unit
    np.testing.assert_allclose(np.median(events.mean(axis=0) / rates[0]), 1.0, atol=0.01)
    np.testing.assert_allclose(events.mean(axis=0), rates[0], rtol=0.3)
    fano = events.var(axis=0) / rates[0]
    reliable = population.fano == 1.0
    assert np.median(fano[reliable]) == pytest.approx(1.0, abs=0.03)
    assert np.median(fano[~reliable]) == pytest.approx(4.0, abs=0.4)


def test_gain_has_mean_one_and_its_spread():
    """Oracle: moments of the log-normal distribution."""
    gains = draw_gains(np.random.default_rng(0), 200_000, NoiseConfig())
    assert gains.mean() == pytest.approx(1.0, abs=0.003)
    assert np.log(gains).std() == pytest.approx(0.2, abs=0.002)


def test_gain_adds_the_variance_of_the_doubly_stochastic_model(population, rates):
    """Oracle: fano * m + var(g) * m^2 (Goris et al. 2014), coupling 1."""
    same = replace(population, coupling=np.ones(UNITS), fano=np.ones(UNITS))
    gains = draw_gains(np.random.default_rng(3), TRIALS, replace(NoiseConfig(), gain_sd=0.5))
    events = draw_responses(np.random.default_rng(4), rates, gains, same).astype(np.float64) / same.unit
    expected = rates[0] + (np.exp(0.25) - 1) * rates[0] ** 2
    assert np.median(events.var(axis=0) / expected) == pytest.approx(1.0, abs=0.03)


def test_the_population_shares_the_gain(population, rates):
    """Oracle: the population's mean follows the true gain; without gain, neurons are independent."""
    gains = draw_gains(np.random.default_rng(5), TRIALS, NoiseConfig())
    with_gain = draw_responses(np.random.default_rng(6), rates, gains, population) / population.unit
    without = draw_responses(np.random.default_rng(6), rates, np.ones(TRIALS), population) / population.unit
    assert np.corrcoef(with_gain.mean(axis=1), gains)[0, 1] > 0.9

    def mean_correlation(x):
        return (np.corrcoef(x.T).sum() - UNITS) / (UNITS * (UNITS - 1))

    assert mean_correlation(with_gain) > 0.01
    assert abs(mean_correlation(without)) < 0.003


def test_neurons_couple_to_the_gain_with_their_own_exponent(population):
    """Oracle: the slope of log response on log gain where noise is small."""
    quiet = replace(population, fano=np.full(UNITS, 1e-4))
    gains = draw_gains(np.random.default_rng(7), TRIALS, NoiseConfig())
    responses = draw_responses(
        np.random.default_rng(8), np.ones((TRIALS, UNITS), np.float32), gains, quiet
    ).astype(np.float64)
    log_gain = np.log(gains) - np.log(gains).mean()
    slope = log_gain @ np.log(responses) / (log_gain @ log_gain)
    np.testing.assert_allclose(slope, population.coupling, atol=0.01)


def test_the_number_of_threads_changes_nothing(population, rates, monkeypatch):
    """Oracle: one thread."""
    gains = np.ones(TRIALS)
    many = draw_responses(np.random.default_rng(9), rates, gains, population)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    one = draw_responses(np.random.default_rng(9), rates, gains, population)
    np.testing.assert_array_equal(many, one)
