"""Distances from the training images; the oracle is numpy on features that are drawn or computed whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from artifacts import CONFIG, tiny_core, tiny_model
from mousev1.core.feature_statistics import TrainingStatistics, training_statistics
from mousev1.insilico.extrapolation import measure_extrapolation

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(60, 180, size=(30, 1, 10, 12), dtype=np.uint8))


@pytest.fixture(scope="module")
def statistics() -> TrainingStatistics:
    return training_statistics(tiny_core(), IMAGES)


def distances_by_numpy(images: torch.Tensor) -> np.ndarray:
    """(N, P) Mahalanobis distances over the root of the number of channels."""
    core = tiny_core()
    with torch.no_grad():
        known, asked = (core(x.float()).flatten(2).transpose(1, 2).double().numpy() for x in (IMAGES, images))
    flat = known.reshape(-1, known.shape[-1])
    inverse = np.linalg.inv(np.cov(flat.T, bias=True))
    centred = asked - flat.mean(axis=0)
    return np.sqrt(np.einsum("npc,cd,npd->np", centred, inverse, centred) / known.shape[-1])


def test_distance_is_mahalanobis_per_channel(statistics):
    asked = torch.rand(3, 1, 10, 12, generator=torch.Generator().manual_seed(1)) * 255
    with torch.no_grad():
        found = statistics.whiten(tiny_core()(asked)).norm(dim=1).flatten(1)
    np.testing.assert_allclose(found.numpy(), distances_by_numpy(asked), rtol=1e-3)


def test_quantiles_are_those_of_the_training_images(statistics):
    distances = distances_by_numpy(IMAGES)
    levels = np.linspace(0, 1, len(statistics.place_quantiles))
    np.testing.assert_allclose(statistics.place_quantiles, np.quantile(distances, levels), rtol=1e-3)
    whole = np.sqrt(np.square(distances).mean(axis=1))
    np.testing.assert_allclose(statistics.image_quantiles, np.quantile(whole, levels), rtol=1e-3)
    pixels = IMAGES.numpy().reshape(30, -1).astype(float)
    np.testing.assert_allclose(statistics.gray, [pixels.mean(), pixels.std(axis=1).mean()], rtol=1e-5)
    # 7/30 of the way through the sorted distances
    middle = torch.tensor([np.quantile(distances, 0.235)], dtype=torch.float32)
    assert float(statistics.place_percentile(middle)) == pytest.approx(23.5, abs=0.1)
    assert statistics.limit(50.0) == pytest.approx(np.median(distances), rel=1e-3)


def test_a_hundredth_of_the_training_places_is_outside_and_black_and_white_noise_is(statistics):
    model = tiny_model()
    model.training_statistics = statistics
    known = measure_extrapolation(model, IMAGES)
    # 30 images x 5 units of 2,400 pixels: binomial around 1%, and never more than 5%
    assert known.unit_outside.mean() < 0.05
    assert known.image_outside.mean() < 0.05
    noise = np.random.default_rng(2).choice([0, 255], size=(20, 10, 12)).astype(np.uint8)
    far = measure_extrapolation(model, noise)
    assert far.image_outside.all()
    assert (far.image_percentile == 100).all()
    assert far.unit_outside.mean() > 0.5


def test_distances_of_units_are_those_of_their_own_features(statistics):
    model = tiny_model()
    found = measure_extrapolation(model, IMAGES, units=[3, 1], statistics=statistics)
    with torch.no_grad():
        grid = model.readout.mu()[[3, 1]][None, :, None].expand(30, -1, -1, -1)
        at = torch.nn.functional.grid_sample(model.core(IMAGES.float()), grid, align_corners=True)[..., 0]
    distance = ((at.transpose(1, 2) - statistics.mean) @ statistics.whitening).norm(dim=2)
    np.testing.assert_allclose(found.unit_distance, distance / statistics.limit(99.0), rtol=1e-4)
    np.testing.assert_array_equal(found.unit_outside, found.unit_distance > 1)


def test_a_channel_that_never_changes_is_no_division_by_zero():
    core = tiny_core()
    with torch.no_grad():
        norm = core.layers[-1].norm
        norm.weight[0], norm.bias[0] = 0.0, 1.0
    found = training_statistics(core, IMAGES)
    with torch.no_grad():
        distance = found.whiten(core(IMAGES.float())).norm(dim=1)
    assert bool(distance.isfinite().all())
    assert float(distance.max()) < 20


def test_bad_asks_are_named(statistics):
    model = tiny_model()
    with pytest.raises(ValueError, match=r"'made up', was saved without .* pass mousev1\.core\.feature_stat"):
        measure_extrapolation(model, IMAGES)
    with pytest.raises(ValueError, match="level: expected percent between 0 and 100, got 0"):
        measure_extrapolation(model, IMAGES, statistics=statistics, level=0)
    with pytest.raises(
        ValueError, match=r"place_quantiles|image_quantiles: expected finite float32 \(201,\)"
    ):
        replace(statistics, image_quantiles=statistics.image_quantiles[:5])
    other = TrainingStatistics(
        torch.zeros(7), torch.eye(7), torch.arange(3.0), torch.arange(3.0), torch.zeros(2)
    )
    with pytest.raises(
        ValueError, match=f"expected {CONFIG.hidden_channels} channels as the core has, got 7"
    ):
        measure_extrapolation(model, IMAGES, statistics=other)
