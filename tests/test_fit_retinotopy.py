"""Where a neuron looks, by Bayes' rule over locations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from mousev1.fit.retinotopy import Design, PositionMap, fit_retinotopy, locate
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
    """Mean and covariance of every neuron's location on a grid of half pixels, in double precision."""
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
    position_map = PositionMap(Design("affine"), True, coefficients, scatter, torch.zeros(3, 3).double())
    expected = position_map.expected(CORTEX, len(CORTEX)).numpy()
    mean, covariance = by_numpy(maps, expected, scatter)
    found = locate(position_map, maps, CORTEX)
    assert np.abs(found.mean.numpy() - mean).max() < 1e-3
    assert np.abs(found.covariance.numpy() - covariance).max() < 1e-3


@pytest.mark.parametrize(
    ("scattered", "away"), [(True, 3 * (0.5**2 + 0.3**2) ** 0.5), (False, 3 * 0.3 + 2.0)]
)
def test_neurons_are_looked_for_around_the_map(scattered: bool, away: float) -> None:
    coefficients = torch.tensor([[5.0, 3.0], [3.0, -0.5], [0.4, 2.0]]).double()
    covariance = torch.diag(torch.tensor([0.3**2, 0.0, 0.0])).double()  # of what all neurons share
    position_map = PositionMap(Design("affine"), scattered, coefficients, 0.5, covariance)
    low, high = position_map.reach(CORTEX, len(CORTEX), deviations=3.0)
    expected = np.array([[5.0, 3.0], [5.0 + 1.5 - 0.2, 3.0 - 0.25 - 1.0], [5.0 - 3.0 + 0.4, 3.0 + 0.5 + 2.0]])
    assert np.allclose(low.numpy(), expected.min(axis=0) - away)
    assert np.allclose(high.numpy(), expected.max(axis=0) + away)


def test_the_maps_uncertainty_is_how_far_it_is_off() -> None:
    """Score maps that are parabolas around a noisy observation of each neuron's location, with known variances."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([[10.0, 8.0], [4.0, 1.0], [-1.0, 3.0]]).double()
    grid, units, off = Grid.spaced(18, 24, 2), 40, []
    for _ in range(60):
        cortex = torch.rand(units, 2, generator=generator) * 2 - 1
        locations = torch.cat([torch.ones(units, 1), cortex], dim=1).double() @ truth
        seen = locations + 2.0 * torch.randn(units, 2, generator=generator).double()
        scores = -(seen[:, None] - grid.pixels()).square().sum(dim=2).float() / (2 * 2.0**2)
        maps = ScoreMaps(grid, scores / 2, scores / 2, torch.ones(units), ridge=1.0)
        found = fit_retinotopy(maps, cortex, smooth=False).map
        error = found.coefficients - truth
        off.append((error * torch.linalg.solve(found.covariance, error)).sum(dim=0))
    # For each axis the squared distance has three degrees of freedom. The map claims less than it knows,
    # because the scatter of neurons that are on it is found to be more than none.
    assert 1.0 < float(torch.stack(off).mean()) < 4.0
