"""Score maps against ridge regressions written down fold by fold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mousev1.core import Core, CoreConfig
from mousev1.fit import score_maps
from mousev1.fit.features import FeatureStore, compute_features
from mousev1.fit.score_maps import Grid, compute_score_maps

SMALL = CoreConfig(hidden_channels=6, layers=2, input_kernel=5, hidden_kernel=3)
RIDGE = 0.3


def centred(store: FeatureStore, position: int, n: int) -> np.ndarray:
    x = store.block(position, n).double().numpy()
    return x - x.mean(axis=0)


def score_by_numpy(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Score within the first three quarters, and on the last, of one neuron for features x at one place."""
    n = len(y)
    y = y - y.mean()
    folds = np.array_split(np.arange(n), np.round(np.arange(1, 4) * n / 4).astype(int))

    def predicted(test: np.ndarray, train: np.ndarray) -> np.ndarray:
        gram = x[train].T @ x[train] + RIDGE * len(train) * np.eye(x.shape[1])
        return x[test] @ np.linalg.solve(gram, x[train].T @ y[train])

    def score(prediction: np.ndarray, rows: np.ndarray) -> float:
        rho = max(np.corrcoef(prediction, y[rows])[0, 1], 0.0)
        return -len(rows) / 2 * np.log1p(-(rho**2))

    inner = np.concatenate(folds[:3])
    within = [predicted(test, np.setdiff1d(inner, test)) for test in folds[:3]]
    return score(np.concatenate(within), inner), score(predicted(folds[3], inner), folds[3])


@pytest.mark.parametrize("n", [40, 43], ids=["equal folds", "unequal folds"])
@pytest.mark.parametrize("components", [6, 3], ids=["all features", "principal components"])
def test_scores_are_those_of_ridge_regressions(
    n: int, components: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_maps, "LEAST_COMPONENTS", components)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (45, 1, 10, 13), generator=generator, dtype=torch.uint8)
    with compute_features(Core.random(SMALL, seed=0), images) as store:
        signal = store.block(20).float().sum(dim=1, keepdim=True)
        y = signal * torch.tensor([1.0, 0.3, 0.0]) + torch.randn(45, 3, generator=generator)
        grid = Grid(torch.tensor([0, 2]), torch.tensor([2, 5]), store.height, store.width)
        maps = compute_score_maps(store, y[:n], grid, ridge=RIDGE)
        everywhere = np.concatenate([centred(store, position, n) for position in grid.positions()])
        directions = np.linalg.svd(everywhere, full_matrices=False)[2][:components].T
        for place, position in enumerate(grid.positions()):
            for unit in range(3):
                x = centred(store, position, n) @ directions
                inner, held_out = score_by_numpy(x, y[:n, unit].double().numpy())
                assert float(maps.inner[unit, place]) == pytest.approx(inner, abs=1e-3)
                assert float(maps.held_out[unit, place]) == pytest.approx(held_out, abs=1e-3)
        assert maps.inner[0].max() > 5.0


def test_the_more_images_the_more_components_take_part() -> None:
    """The direction of least variance is found with 1,300 images, and left out with 900."""
    core = Core.random(replace(SMALL, hidden_channels=40), seed=0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1300, 1, 10, 13), generator=generator, dtype=torch.uint8)
    with compute_features(core, images) as store:
        # a neuron that reads one of the directions of least variance
        x = store.block(20).float()
        y = (x - x.mean(dim=0)) @ torch.linalg.eigh(torch.cov(x.T))[1][:, :1]
        grid = Grid(torch.tensor([1, 2]), torch.tensor([2, 3]), store.height, store.width)
        few, many = (compute_score_maps(store, y[:n] / y.std(), grid, ridge=1e-4) for n in (900, 1300))
    assert many.total.max() / 1300 > 1.0  # nats per image
    assert few.total.max() / 900 < 0.1
