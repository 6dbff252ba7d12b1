"""Scans of the same neurons share what they know of the feature weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mousev1.fit.matched_scans import SharedScan, fit_convex_shared
from test_fit_convex import Scene, correlation, fit, predict, simulate


def halves(scene: Scene, n: int) -> list[Scene]:
    """Two scans of the same neurons: different images; the second has its neurons in reverse order."""
    first = dataclasses.replace(scene, images=scene.images[:n], responses=scene.responses[:n])
    second = dataclasses.replace(
        scene,
        images=scene.images[n : 2 * n],
        responses=scene.responses[n : 2 * n].flip(1),
        cortex=scene.cortex.flip(0),
        pixels=scene.pixels.flip(0),
        test_rates=scene.test_rates.flip(1),
    )
    return [first, second]


def test_two_scans_together_predict_better_than_each_alone() -> None:
    scene = simulate("affine", units=60)
    scans = halves(scene, 120)
    numbers = torch.arange(60)
    shared = fit_convex_shared(
        scene.core,
        [
            SharedScan(scan.images, scan.responses, scan.cortex, ids)
            for scan, ids in zip(scans, (numbers, numbers.flip(0)), strict=True)
        ],
    )
    for scan, together in zip(scans, shared, strict=True):
        alone = fit(scan)
        gain = correlation(predict(scan, together)[0], scan.test_rates) - correlation(
            predict(scan, alone)[0], scan.test_rates
        )
        assert gain > 0.01
    # Oracle: the construction. The same neuron has parallel weights in both scans.
    similarity = torch.cosine_similarity(shared[0].weights, shared[1].weights.flip(0), dim=1)
    assert similarity.min() > 0.999


def test_neurons_without_a_match_stay_as_they_are() -> None:
    scene = simulate("affine", units=20)
    scans = halves(scene, 120)
    apart = [
        SharedScan(scan.images, scan.responses, scan.cortex, torch.arange(20) + offset)
        for scan, offset in zip(scans, (0, 100), strict=True)
    ]
    for scan, together in zip(apart, fit_convex_shared(scene.core, apart), strict=True):
        alone = fit(
            dataclasses.replace(scene, images=scan.images, responses=scan.responses, cortex=scan.cortex),
            settings=None,
        )
        assert torch.equal(together.weights, alone.weights)


def test_a_number_twice_in_a_scan_is_refused() -> None:
    scene = simulate("affine", units=4, n=20)
    scan = SharedScan(scene.images, scene.responses, scene.cortex, torch.tensor([1, 2, 2, 3]))
    with pytest.raises(ValueError, match="match_ids: expected 4 different"):
        fit_convex_shared(scene.core, [scan])
