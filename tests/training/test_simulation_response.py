"""The generating model answers gratings as the V1 literature says, and as its truth says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.simulation.neurons import draw_population
from training.simulation.response import GRAY, Responder, gabors, gratings
from training.simulation.retinotopy import PIXELS_PER_DEGREE
from training.simulation.settings import NeuronConfig, NoiseConfig
from training.simulation.tuning import measure_tuning

SIZE = {"height": 36, "width": 64}
RATIO = NeuronConfig().surround_ratio


@pytest.fixture(scope="module")
def population():
    rng = np.random.default_rng(2)
    fields = np.column_stack([rng.uniform(20, 44, 300), rng.uniform(12, 24, 300)])
    return draw_population(rng, fields, replace(NeuronConfig(), silent_share=0.1), NoiseConfig())


@pytest.fixture(scope="module")
def tuning(population):
    return measure_tuning(Responder(population, **SIZE, surround_ratio=RATIO))


def evoked(population, images, **size):
    responder = Responder(population, **(size or SIZE), surround_ratio=RATIO)
    return responder.rates(images) - population.baseline


def test_orientation_zero_is_horizontal_stripes_and_turns_counter_clockwise():
    """Oracle: constancy along the row, and along the rising diagonal (row up, column right)."""
    flat, rising = gratings(
        np.array([0.0, np.pi / 4]), np.array([0.05, 0.05]), np.zeros(2), contrast=1.0, height=33, width=33
    )
    np.testing.assert_allclose(flat, flat[:, :1] * np.ones((1, 33)), atol=1e-3)
    assert flat[16, 16] == pytest.approx(2 * GRAY)
    np.testing.assert_allclose(np.diagonal(rising[::-1]), 2 * GRAY, rtol=1e-5)


def test_rates_equal_the_equation_written_out_for_one_neuron(population):
    """Oracle: the formula of the module in float64, pixel by pixel, where the pool is negligible."""
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (36, 64))
    loud = replace(
        population, semi_saturation=np.full(300, 1e3), surround=np.zeros(300), peak=np.full(300, 1e6)
    )
    rates = evoked(loud, image[None])[0]
    for u in [0, 7, 100]:
        drives = []
        for quarter in (0.0, np.pi / 2):
            kernel = np.zeros((36, 64))
            envelope = np.zeros((36, 64))
            theta = population.orientation[u]
            for row in range(36):
                for column in range(64):
                    dx = (column - population.x[u]) / PIXELS_PER_DEGREE
                    up = (population.y[u] - row) / PIXELS_PER_DEGREE
                    along = dx * np.cos(theta) + up * np.sin(theta)
                    across = dx * np.sin(theta) - up * np.cos(theta)
                    envelope[row, column] = np.exp(
                        -0.5 * ((along / population.length[u]) ** 2 + (across / population.breadth[u]) ** 2)
                    )
                    kernel[row, column] = np.cos(
                        2 * np.pi * population.frequency[u] * across - population.phase[u] - quarter
                    )
            kernel = envelope * (kernel - (envelope * kernel).sum() / envelope.sum())
            # Its best grating, found by brute force on a screen fine and large enough.
            best = _largest_grating_response(population, u, quarter)
            drives.append((kernel * (image - GRAY) / GRAY).sum() / best)
        c = population.complexity[u]
        drive = (1 - c) * max(0.0, drives[0]) ** 2 + c * (drives[0] ** 2 + drives[1] ** 2)
        assert rates[u] == pytest.approx(drive, rel=0.02, abs=1e-3)


def _largest_grating_response(population, u, quarter):
    x = np.arange(-80, 81)
    breadth = population.breadth[u] * PIXELS_PER_DEGREE
    cycles = population.frequency[u] / PIXELS_PER_DEGREE
    envelope = np.exp(-0.5 * (x / breadth) ** 2)
    wave = np.cos(2 * np.pi * cycles * x - population.phase[u] - quarter)
    profile = envelope * (wave - (envelope * wave).sum() / envelope.sum())
    # Along the stripes the Gaussian integrates to sqrt(2 pi) SD.
    height = np.sqrt(2 * np.pi) * population.length[u] * PIXELS_PER_DEGREE
    waves = np.exp(2j * np.pi * np.outer(cycles * np.geomspace(0.3, 4, 400), x))
    return height * np.abs(waves @ profile).max()


def test_uniform_light_moves_no_filter(population):
    """Oracle: zero, at every luminance and however the frame cuts the filter."""
    even, odd = gabors(population, **SIZE)
    np.testing.assert_allclose(even.sum(axis=0), 0, atol=2e-5)
    np.testing.assert_allclose(odd.sum(axis=0), 0, atol=2e-5)
    light = np.stack([np.full((36, 64), level, np.uint8) for level in (0, 118, 255)])
    np.testing.assert_allclose(evoked(population, light), 0, atol=1e-3)


def test_simple_cells_follow_the_phase_and_complex_cells_do_not(population, tuning):
    """Oracle: a half-squared cosine has F1/F0 = 16 / (3 pi) = 1.698; the border in V1 is 1."""
    simple = population.simple & ~population.silent
    complex_ = ~population.simple & ~population.silent
    np.testing.assert_allclose(np.median(tuning.f1_f0[simple]), 16 / (3 * np.pi), rtol=0.01)
    assert (tuning.f1_f0[simple] > 1.3).all()
    assert (tuning.f1_f0[complex_] < 1.0).all()
    assert np.isnan(tuning.f1_f0[population.silent]).all()


def test_preferred_orientation_and_frequency_are_where_a_fine_search_finds_them(population, tuning):
    """Oracle: brute force over 1-degree and 1/16-octave steps at the other's preferred value."""
    phases = np.arange(8) * np.pi / 4
    for u in np.flatnonzero(~population.silent)[:25]:
        one = population.select(np.array([u]))
        degrees = np.arange(-15, 16) + tuning.orientation_deg[u]
        angle, phase = (g.ravel() for g in np.meshgrid(np.deg2rad(degrees), phases, indexing="ij"))
        images = gratings(angle, np.full_like(angle, tuning.frequency_cpd[u]), phase, contrast=0.5, **SIZE)
        curve = evoked(one, images).reshape(len(degrees), 8).mean(axis=1)
        assert abs(degrees[curve.argmax()] - tuning.orientation_deg[u]) <= 3
        octaves = np.arange(-8, 9) / 16
        cycles, phase = (
            g.ravel() for g in np.meshgrid(tuning.frequency_cpd[u] * 2**octaves, phases, indexing="ij")
        )
        angle = np.full_like(cycles, np.deg2rad(tuning.orientation_deg[u]))
        curve = evoked(one, gratings(angle, cycles, phase, contrast=0.5, **SIZE))
        curve = curve.reshape(len(octaves), 8).mean(axis=1)
        assert abs(octaves[curve.argmax()]) <= 3 / 16 or curve.max() < 1.01 * curve[8]


def test_truth_of_the_model_stays_near_the_parameters(population, tuning):
    """Oracle: the Gabor's own orientation, and published medians (Niell & Stryker 2008)."""
    seen = ~population.silent
    off = (tuning.orientation_deg - np.rad2deg(population.orientation) + 90) % 180 - 90
    assert np.percentile(np.abs(off[seen]), 95) < 5
    assert 0.03 < np.nanmedian(tuning.frequency_cpd) < 0.05
    assert 15 < np.nanmedian(tuning.size_deg) < 35
    assert 0.3 < np.nanmedian(tuning.suppression) < 0.6
    assert np.nanmax(tuning.suppression) <= 1.0


def test_suppression_comes_from_the_surround(population, tuning):
    """Oracle: the same neurons with the surround cut off."""
    without = measure_tuning(
        Responder(replace(population, surround=np.zeros(300)), **SIZE, surround_ratio=RATIO)
    )
    assert np.nanmedian(without.suppression) < 0.5 * np.nanmedian(tuning.suppression)
    assert np.nanmedian(without.size_deg) > np.nanmedian(tuning.size_deg)


def test_contrast_response_is_a_hyperbolic_ratio(population, tuning):
    """Oracle: Naka-Rushton with exponent 2, 1/R linear in 1/c^2, half at the semi-saturation contrast."""
    plain = replace(population, surround=np.zeros(300))
    contrast = np.array([0.1, 0.2, 0.4, 0.8])
    half = []
    for u in np.flatnonzero(~population.silent)[:20]:
        one = plain.select(np.array([u]))
        angle, frequency = np.deg2rad(tuning.orientation_deg[u]), tuning.frequency_cpd[u]
        rates = []
        for c in contrast:
            phases = np.arange(8) * np.pi / 4
            images = gratings(np.full(8, angle), np.full(8, frequency), phases, contrast=c, **SIZE)
            rates.append(evoked(one, images).mean())
        line = np.polyfit(1 / contrast**2, 1 / np.array(rates), 1)
        np.testing.assert_allclose(np.polyval(line, 1 / contrast**2), 1 / np.array(rates), rtol=0.03)
        half.append(np.sqrt(line[0] / line[1]) / population.semi_saturation[u])
    assert np.median(half) == pytest.approx(1.0, abs=0.25)


def test_an_iso_oriented_surround_suppresses_more_than_a_crossed_one(population):
    """Oracle: Self et al. 2014, with the centre held fixed."""
    same = np.full(300, 4.0)
    small = replace(population.moved_to(28.0, 28.0), length=same, breadth=same, frequency=same / 80)
    size = {"height": 57, "width": 57}
    y, x = np.mgrid[:57, :57] - 28.0
    # Two SDs of the surround and more than four of the field: the drive stays what it is.
    hole = np.hypot(x, y) < 9
    difference = []
    for u in np.flatnonzero(~population.silent)[:40]:
        one = small.select(np.array([u]))
        like = gratings(one.orientation, one.frequency, one.phase, contrast=0.5, **size)
        crossed = gratings(one.orientation + np.pi / 2, one.frequency, one.phase, contrast=0.5, **size)
        rates = evoked(one, np.concatenate([like, np.where(hole, like, crossed)]), **size)
        difference.append(rates[1, 0] / rates[0, 0])
    assert np.mean(np.array(difference) > 1) > 0.9


def test_reverse_correlation_finds_the_receptive_field(population):
    """Oracle: the energy-weighted centre of the spike-triggered average of white noise, simple cells."""
    simple = np.flatnonzero(population.simple & ~population.silent)[:40]
    some = replace(population.select(simple), surround=np.zeros(40))
    noise = np.random.default_rng(0).normal(118, 40, (12_000, 36, 64)).astype(np.float32)
    rates = evoked(some, noise)
    average = np.tensordot(rates - rates.mean(axis=0), noise - 118, (0, 0)).reshape(40, 36, 64)
    energy = average**2
    # Only pixels clear of the estimate's own noise have a say.
    energy = np.where(energy > 0.2 * energy.max(axis=(1, 2), keepdims=True), energy, 0)
    y, x = np.mgrid[:36, :64]
    total = energy.sum(axis=(1, 2))
    error = np.hypot((energy * x).sum((1, 2)) / total - some.x, (energy * y).sum((1, 2)) / total - some.y)
    assert np.median(error) < 1.0


def test_rates_do_not_depend_on_how_images_are_chunked(population):
    """Oracle: one image at a time."""
    images = np.random.default_rng(0).integers(0, 256, (9, 36, 64), dtype=np.uint8)
    responder = Responder(population, **SIZE, surround_ratio=RATIO)
    np.testing.assert_allclose(
        responder.rates(images, chunk=1), responder.rates(images), rtol=1e-3, atol=1e-4
    )


def test_images_of_another_size_are_refused(population):
    """Oracle: the message names both sizes."""
    responder = Responder(population, **SIZE, surround_ratio=RATIO)
    with pytest.raises(ValueError, match=r"expected \(N, 36, 64\), got \(2, 10, 10\)"):
        responder.rates(np.zeros((2, 10, 10), np.uint8))
