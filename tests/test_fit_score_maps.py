"""Score maps against ridge regressions written down fold by fold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mousev1.core.crop import Region
from mousev1.core.network import Core, CoreConfig
from mousev1.fit import score_maps
from mousev1.fit.features import FeatureStore, compute_features
from mousev1.fit.score_maps import Grid, ScoreMaps, compute_score_maps

SMALL = CoreConfig(hidden_channels=6, layers=2, input_kernel=5, hidden_kernel=3)
RIDGE = 0.3


def centred(store: FeatureStore, position: int, n: int) -> np.ndarray:
    x = store.block(position, n).double().numpy()
    return x - x.mean(axis=0)


def score_by_numpy(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Score within the first three quarters, and on the last, of one neuron for features x at one location."""
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
        for index, position in enumerate(grid.positions()):
            for unit in range(3):
                x = centred(store, position, n) @ directions
                inner, held_out = score_by_numpy(x, y[:n, unit].double().numpy())
                assert float(maps.inner[unit, index]) == pytest.approx(inner, abs=1e-3)
                assert float(maps.held_out[unit, index]) == pytest.approx(held_out, abs=1e-3)
        assert maps.inner[0].max() > 5.0


def test_the_ridge_is_chosen_by_the_first_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (45, 1, 10, 13), generator=generator, dtype=torch.uint8)
    with compute_features(Core.random(SMALL, seed=0), images) as store:
        signal = store.block(0).float() @ torch.randn(6, 64, generator=generator)
        y = signal + torch.randn(45, 64, generator=generator) * torch.tensor([0.0] * 4 + [20.0] * 60)
        grid = Grid(torch.tensor([0]), torch.tensor([0]), store.height, store.width)
        few = compute_score_maps(store, y[:, :4], grid).ridge
        everyone = compute_score_maps(store, y, grid).ridge
        monkeypatch.setattr(score_maps, "RIDGE_RESPONSES", 4 * 45)
        assert compute_score_maps(store, y, grid).ridge == few != everyone


@pytest.mark.parametrize(("noise", "count"), [(0.0, 6), (1.0, 6), (2.3, 4), (5.0, 2)])
def test_ridges_are_tried_until_they_get_worse(
    noise: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, tried = torch.Generator().manual_seed(0), []
    correlations = score_maps._correlations

    def watched(*a, **b) -> tuple[Tensor, Tensor]:
        tried.extend(a[4])
        return correlations(*a, **b)

    images = torch.randint(0, 256, (60, 1, 10, 13), generator=generator, dtype=torch.uint8)
    with compute_features(Core.random(SMALL, seed=0), images) as store:
        signal = store.block(0).float() @ torch.randn(6, 200, generator=generator)
        y = signal + noise * signal.std() * torch.randn(60, 200, generator=generator)
        grid = Grid(torch.tensor([0]), torch.tensor([0]), store.height, store.width)
        _, every = correlations(store, torch.eye(6), y - y.mean(dim=0), [0], score_maps.RIDGES, desc=None)
        monkeypatch.setattr(score_maps, "_correlations", watched)
        ridge = compute_score_maps(store, y, grid).ridge
    assert ridge == score_maps.RIDGES[int(every.mean(dim=(1, 2)).argmax())]
    assert tried == [*score_maps.RIDGES[:count], ridge]  # and once more for the maps


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


def test_grids_by_hand() -> None:
    whole = Grid.spaced(7, 10, 3)
    assert (whole.rows.tolist(), whole.columns.tolist()) == ([0, 3, 6], [0, 3, 6, 9])
    assert whole.region() == Region(0, 7, 0, 10)
    low, high = torch.tensor([2.4, -3.0]), torch.tensor([6.2, 3.5])
    part = Grid.spaced(7, 10, 3, low, high)
    assert (part.rows.tolist(), part.columns.tolist()) == ([0, 2, 4], [2, 4, 7])
    assert part.region() == Region(0, 6, 1, 9)
    assert part.positions() == [row * 10 + column for row in (0, 2, 4) for column in (2, 4, 7)]
    beyond = Grid.spaced(7, 10, 3, torch.tensor([30.0, 5.2]), torch.tensor([40.0, 5.3]))
    assert (beyond.rows.tolist(), beyond.columns.tolist()) == ([5, 6], [8, 9])
    near = part.within(torch.tensor([4.1, 0.5]), torch.tensor([6.0, 1.0]))
    assert (near.rows.tolist(), near.columns.tolist()) == ([0, 2], [4, 7])


@pytest.mark.parametrize(
    ("low", "high", "exceeded"),
    [
        ((2.0, 0.0), (7.0, 4.0), False),
        ((2.0, -5.0), (7.0, 4.0), False),  # beyond the map there is nothing
        ((1.9, 0.0), (7.0, 4.0), True),
        ((2.0, 0.0), (7.1, 4.0), True),
        ((2.0, 0.0), (7.0, 4.1), True),
    ],
)
def test_a_grid_knows_what_it_leaves_out(
    low: tuple[float, float], high: tuple[float, float], exceeded: bool
) -> None:
    grid = Grid(torch.tensor([0, 2, 4]), torch.tensor([2, 4, 7]), 7, 10)
    assert grid.exceeded_by(torch.tensor(low), torch.tensor(high)) == exceeded


def test_a_part_of_score_maps_are_the_scores_there() -> None:
    grid = Grid.spaced(7, 10, 3)
    scores = torch.arange(24.0).view(2, 12)
    maps = ScoreMaps(grid, scores, -scores, torch.ones(2), ridge=1.0)
    part = maps.within(grid.within(torch.tensor([3.0, 3.0]), torch.tensor([5.0, 6.0])))
    assert part.inner.tolist() == [[5.0, 6.0, 9.0, 10.0], [17.0, 18.0, 21.0, 22.0]]
    assert torch.equal(part.held_out, -part.inner)
