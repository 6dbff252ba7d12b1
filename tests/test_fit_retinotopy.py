"""Where a neuron looks, by Bayes' rule over places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from mousev1.fit.retinotopy import Design, PositionMap, locate
from mousev1.fit.score_maps import Grid, ScoreMaps

WIDTH, HEIGHT = 12, 8
COLUMNS, ROWS = [0, 2, 4, 6, 8, 11], [0, 2, 4, 7]
CORTEX = torch.tensor([[0.0, 0.0], [0.5, -0.5], [-1.0, 1.0]])


def score_maps(peak: float) -> ScoreMaps:
    """Scores on a grid whose last spacing differs, as that of a grid that ends at the border may."""
    grid = Grid(torch.tensor(ROWS), torch.tensor(COLUMNS), HEIGHT, WIDTH)
    generator = torch.Generator().manual_seed(0)
    scores = peak * torch.rand(len(CORTEX), len(grid), generator=generator)
    return ScoreMaps(grid, scores / 3, scores * 2 / 3, torch.ones(len(CORTEX)), ridge=1.0)


def by_numpy(maps: ScoreMaps, expected: np.ndarray, scatter: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of every neuron's place on a grid of half pixels, in double precision."""
    scores = maps.total.double().numpy().reshape(-1, len(ROWS), len(COLUMNS))
    x, y = np.arange(0, WIDTH - 0.75, 0.5), np.arange(0, HEIGHT - 0.75, 0.5)
    gaps = np.array([np.diff(COLUMNS).mean(), np.diff(ROWS).mean()])
    means, covariances = [], []
    for score, centre in zip(scores, expected, strict=True):
        rows = CubicSpline(COLUMNS, score, axis=1, bc_type="natural")(x)
        fine = CubicSpline(ROWS, rows, axis=0, bc_type="natural")(y)
        at = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        log = fine.ravel() - ((at - centre) ** 2).sum(axis=1) / (2 * scatter**2)
        weight = np.exp(log - log.max())
        weight /= weight.sum()
        mean = weight @ at
        means.append(mean)
        covariances.append((at - mean).T @ ((at - mean) * weight[:, None]) + np.diag((gaps / 2) ** 2 / 12))
    return np.stack(means), np.stack(covariances)


@pytest.mark.parametrize("peak", [1.0, 300.0], ids=["vague scores", "sharp scores"])
@pytest.mark.parametrize("scatter", [0.3, 2.0, 20.0])
def test_places_are_those_of_bayes_rule(peak: float, scatter: float) -> None:
    maps = score_maps(peak)
    coefficients = torch.tensor([[5.0, 3.0], [3.0, -0.5], [0.4, 2.0]]).double()
    position_map = PositionMap(Design("affine"), True, coefficients, scatter)
    expected = position_map.expected(CORTEX, len(CORTEX)).numpy()
    mean, covariance = by_numpy(maps, expected, scatter)
    found = locate(position_map, maps, CORTEX)
    assert np.abs(found.mean.numpy() - mean).max() < 1e-3
    assert np.abs(found.covariance.numpy() - covariance).max() < 1e-3
