"""How well each neuron can be predicted from each location of the feature map.

At a location p, every neuron's responses are regressed linearly on the C features there. The ridge
solution for neuron u from the training part of the images is

    w = (G + lambda N I)^-1 M_u,   G = X'X,   M_u = X'y_u,

with one Gram matrix G per location for all neurons. Its success on other images needs no predictions
either: y'Xw = w'M and |Xw|^2 = w'Gw with G and M of the other images. The score is the gain in
log-likelihood of a Gaussian model that the correlation rho with held-out responses stands for,

    score = -N/2 log(1 - rho^2)   if rho > 0, else 0,

so that scores of different images add up, and exp(score) over locations is what the responses say
about where the neuron looks.

With few images, directions in which the features hardly vary add nothing under a penalty, so that only the
first principal components take part; with thousands they matter, and all do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import tqdm

from mousev1.core.crop import Region
from mousev1.fit.features import FeatureStore
from mousev1.numerics.arithmetic import gram
from mousev1.numerics.workers import workers

FOLDS = 4
# Principal components of the features that take part: so many at least, or one for so many images. With 2,000 images,
# the most that a map from cortex is found from by default, those are all 64 of the 11-S core's channels.
LEAST_COMPONENTS, IMAGES_PER_COMPONENT = 32, 31
LOCATIONS_FOR_COMPONENTS = 9
# Penalty per image; features and responses have unit variance. Tried from the first on, so many at a time, until the
# last of these is not the best any more.
RIDGES, RIDGES_AT_A_TIME = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01), 2
RIDGE_STEP = 6  # the ridge is chosen from one location in so many, and
RIDGE_RESPONSES = 125_000  # from so many responses
NEIGHBOUR_CORRELATION = 0.7  # least correlation of neighbouring features that can be interpolated
# Locations are regressed on together, with so many values of their features, and of their weights and matrices.
FEATURE_VALUES, WEIGHT_VALUES = 250_000, 2_000_000


@dataclass(frozen=True)
class Grid:
    """Locations at which scores are computed: every combination of some rows and columns.

    Attributes:
        rows: (Y,) rows of the feature map, increasing.
        columns: (X,) columns.
        height: rows of the whole feature map.
        width: columns of the whole feature map.
    """

    rows: Tensor
    columns: Tensor
    height: int
    width: int

    @classmethod
    def spaced(
        cls, height: int, width: int, spacing: int, low: Tensor | None = None, high: Tensor | None = None
    ) -> Grid:
        """Rows and columns about ``spacing`` pixels apart, from border to border or between two pixels (x, y)."""

        def along(size: int, axis: int) -> Tensor:
            first = 0 if low is None else min(max(int(low[axis].floor()), 0), size - 1)
            last = size - 1 if high is None else min(max(int(high[axis].ceil()), 0), size - 1)
            # two where there are two
            first = min(first, max(last - 1, 0))
            last = max(last, min(first + 1, size - 1))
            count = math.ceil((last - first) / spacing) + 1
            knots: Tensor = torch.linspace(first, last, count).round().long().unique()
            return knots

        return cls(along(height, 1), along(width, 0), height, width)

    def within(self, low: Tensor, high: Tensor) -> Grid:
        """The part between two pixels (x, y), at least two rows and columns wide where there are."""

        def part(along: Tensor, a: float, b: float) -> Tensor:
            first = int((along <= a).sum().clamp(1, max(1, len(along) - 1))) - 1
            last = int((along < b).sum().clamp(first + 1, len(along) - 1))
            return along[first : last + 1]

        columns = part(self.columns, float(low[0]), float(high[0]))
        return Grid(part(self.rows, float(low[1]), float(high[1])), columns, self.height, self.width)

    def exceeded_by(self, low: Tensor, high: Tensor) -> bool:
        """Whether some of what is between two pixels (x, y) is on the feature map but not on the grid."""
        edges = ((self.columns, self.width, 0), (self.rows, self.height, 1))
        return any(
            (low[axis] < along[0] and along[0] > 0) or (high[axis] > along[-1] and along[-1] < size - 1)
            for along, size, axis in edges
        )

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def positions(self) -> list[int]:
        """Flat positions (row * width + column), row-major over the grid."""
        return [int(r) * self.width + int(c) for r in self.rows for c in self.columns]

    def region(self) -> Region:
        """The part of the feature map that sampling between these locations reads, and a pixel around it."""
        return Region(
            max(int(self.rows[0]) - 1, 0),
            min(int(self.rows[-1]) + 2, self.height),
            max(int(self.columns[0]) - 1, 0),
            min(int(self.columns[-1]) + 2, self.width),
        )

    def pixels(self) -> Tensor:
        """(Y * X, 2) pixels (x, y), in the order of ``positions``."""
        y, x = torch.meshgrid(self.rows.double(), self.columns.double(), indexing="ij")
        return torch.stack([x.flatten(), y.flatten()], dim=1)


def sufficient_spacing(store: FeatureStore, most: int, *, alike: float = NEIGHBOUR_CORRELATION) -> int:
    """Largest spacing, from 1 to ``most`` pixels, at which neighbouring features are still alike.

    Alike means a correlation over images, averaged over channels, of so much in both directions;
    scores between the locations of a grid can then be interpolated.
    """
    row, column = store.height // 2, store.width // 2
    here = _normalised(store, row * store.width + column)
    for spacing in range(most, 1, -1):
        if row < spacing or column < spacing:
            continue
        steps = (spacing, spacing * store.width)
        there = [_normalised(store, row * store.width + column - step) for step in steps]
        if all(float((here * block).mean()) >= alike for block in there):
            return spacing
    return 1


def roughness(store: FeatureStore) -> Tensor:
    """How fast features change along x and y, (2,): 1 - correlation of pixels next to each other.

    What a location is off by (dx, dy) pixels changes a drive by about 2 (k_x dx^2 + k_y dy^2) of its
    variance.
    """
    region = store.region
    row, column = (region.top + region.bottom) // 2, (region.left + region.right) // 2
    here = _normalised(store, row * store.width + column)
    out = []
    for step, beside_is_held in ((1, column > region.left), (store.width, row > region.top)):
        if not beside_is_held:
            out.append(0.0)
            continue
        beside = _normalised(store, row * store.width + column - step)
        out.append(1.0 - float((here * beside).mean()))
    return torch.tensor(out, dtype=torch.float64)


def _normalised(store: FeatureStore, position: int) -> Tensor:
    block = store.block(position).float()
    block = block - block.mean(dim=0)
    return block / block.square().mean(dim=0).sqrt().clamp_min(1e-6)


@dataclass(frozen=True)
class ScoreMaps:
    """Scores of neurons at the locations of a grid, in nats.

    Attributes:
        grid: the locations.
        inner: (U, Y * X) from cross-validation within the first three quarters of the images.
        held_out: (U, Y * X) on the last quarter, predicted from the first three.
        correlation: (U,) best correlation of the inner folds over locations.
        ridge: penalty per image that was best for these neurons, or for some of them.
    """

    grid: Grid
    inner: Tensor
    held_out: Tensor
    correlation: Tensor
    ridge: float

    @classmethod
    def joined(cls, parts: list[ScoreMaps]) -> ScoreMaps:
        """The maps of several groups of neurons on one grid, in one."""
        return cls(
            grid=parts[0].grid,
            inner=torch.cat([part.inner for part in parts]),
            held_out=torch.cat([part.held_out for part in parts]),
            correlation=torch.cat([part.correlation for part in parts]),
            ridge=parts[0].ridge,
        )

    def within(self, grid: Grid) -> ScoreMaps:
        """The maps at the locations of a part of their grid."""
        wanted = torch.isin(torch.tensor(self.grid.positions()), torch.tensor(grid.positions()))
        return replace(self, grid=grid, inner=self.inner[:, wanted], held_out=self.held_out[:, wanted])

    def for_images(self, factor: float) -> ScoreMaps:
        """As they would be, on average, with ``factor`` times as many images."""
        return replace(self, inner=self.inner * factor, held_out=self.held_out * factor)

    @property
    def total(self) -> Tensor:
        """(U, Y * X) scores from all images."""
        return self.inner + self.held_out


def compute_score_maps(
    store: FeatureStore,
    responses: Tensor,
    grid: Grid,
    *,
    ridge: float | None = None,
    progress: bool = False,
) -> ScoreMaps:
    """Score maps of some neurons.

    Args:
        store: features of images in random order.
        responses: (N, U) float32 to the first N of them, of neurons in random order.
        grid: where.
        ridge: penalty per image; by default the best of those ``RIDGES`` that are tried for the first of these
            neurons, which ``RIDGE_RESPONSES`` come from.
        progress: show a progress bar.
    """
    n = len(responses)
    if n > store.images:
        raise ValueError(f"responses: expected at most {store.images} rows as the store has images, got {n}")
    y = responses - responses.mean(dim=0)
    positions = grid.positions()
    components = _components(store, positions, n)
    if ridge is None:
        ridge = _choose_ridge(store, components, y, positions)
    desc = "score maps" if progress else None
    inner, held_out = _correlations(store, components, y, positions, (ridge,), desc=desc)
    last = _edges(n)[FOLDS - 1]
    return ScoreMaps(
        grid=grid,
        inner=_score(inner[0], last),
        held_out=_score(held_out[0], n - last),
        correlation=inner[0].amax(dim=1),
        ridge=ridge,
    )


def _components(store: FeatureStore, positions: list[int], images: int) -> Tensor:
    """Directions in which the features vary most, (C, K) float32."""
    channels = store.channels
    components = max(LEAST_COMPONENTS, images // IMAGES_PER_COMPONENT)
    if channels <= components:
        return torch.eye(channels)
    total = torch.zeros(channels, channels)
    for position in positions[:: max(1, len(positions) // LOCATIONS_FOR_COMPONENTS)]:
        x = store.block(position, images).float()
        x = x - x.mean(dim=0)
        total += gram(x)
    _, directions = torch.linalg.eigh(total.double())
    leading: Tensor = directions[:, -components:].float()
    return leading


def _choose_ridge(store: FeatureStore, components: Tensor, y: Tensor, positions: list[int]) -> float:
    """Best for held-out responses at each neuron's best location: chosen for all neurons at once, from some of them."""
    pilot, few = positions[::RIDGE_STEP], y[:, : max(1, RIDGE_RESPONSES // len(y))]
    scores: list[float] = []
    while len(scores) < len(RIDGES):
        tried = RIDGES[len(scores) : len(scores) + RIDGES_AT_A_TIME]
        inner, held_out = _correlations(store, components, few, pilot, tried, desc=None)
        scores += held_out.gather(2, inner.argmax(dim=2, keepdim=True)).mean(dim=(1, 2)).tolist()
        if scores[-1] < max(scores):
            break
    return RIDGES[scores.index(max(scores))]


def _edges(n: int) -> list[int]:
    return [round(n * fold / FOLDS) for fold in range(FOLDS + 1)]


def _correlations(
    store: FeatureStore,
    components: Tensor,
    y: Tensor,
    positions: list[int],
    ridges: tuple[float, ...],
    *,
    desc: str | None,
) -> tuple[Tensor, Tensor]:
    """Held-out correlations, within all folds but the last and on the last, each (R, U, positions)."""
    n = len(y)
    edges = _edges(n)
    folds = _Folds(y, [slice(a, b) for a, b in pairwise(edges)])
    inner = torch.zeros(len(ridges), len(positions), y.shape[1])
    last = torch.zeros_like(inner)
    size = components.shape[1]
    weights = FOLDS * size * (y.shape[1] + size)
    at_once = max(1, min(FEATURE_VALUES // (n * store.channels), WEIGHT_VALUES // weights))

    def regress(start: int) -> int:
        part = positions[start : start + at_once]
        x = store.blocks(part, n)
        sums = folds.test((x - x.mean(dim=1, keepdim=True)) @ components, ridges)
        rows = slice(start, start + len(part))
        inner[:, rows] = _correlation(sums[:, :-1].sum(dim=1), edges[FOLDS - 1])
        last[:, rows] = _correlation(sums[:, -1], n - edges[FOLDS - 1])
        return len(part)

    with tqdm(total=len(positions), desc=desc, disable=desc is None) as bar, workers() as threads:
        for count in threads.map(regress, range(0, len(positions), at_once)):
            bar.update(count)
    return inner.transpose(1, 2).contiguous(), last.transpose(1, 2).contiguous()


class _Folds:
    """Ridge regressions of the same responses, each fold predicted from others.

    Every fold but the last is predicted from the others but the last; the last from all others.
    """

    def __init__(self, y: Tensor, parts: list[slice]) -> None:
        self.parts = parts
        self.y = [y[part] for part in parts]
        self.totals = torch.stack([part.sum(dim=0) for part in self.y])[:, None]
        self.powers = torch.stack([part.square().sum(dim=0) for part in self.y])[:, None]
        sizes = torch.tensor([float(part.stop - part.start) for part in parts])
        self.sizes = self._learned(sizes)  # images that each fold is predicted from

    @staticmethod
    def _learned(sums: Tensor) -> Tensor:
        """Sums over the images that each fold is predicted from, given those over each fold, (folds, ...)."""
        inner = sums[:-1].sum(dim=0)
        learned = inner - sums
        learned[-1] = inner
        return learned

    def test(self, x: Tensor, ridges: tuple[float, ...]) -> Tensor:
        """Sums over each fold of p, p^2, p y, y and y^2 for predictions p from x (P, N, C) at P locations.

        Returns:
            (R, folds, P, 5, U).
        """
        locations, _, size = x.shape
        folds, units = len(self.parts), self.y[0].shape[1]
        cross = torch.empty(folds, locations, size, units)
        # the last row is the features' sum, whose product with the weights is that of the predictions
        products = torch.empty(folds, locations, size + 1, size)
        for fold, (part, y) in enumerate(zip(self.parts, self.y, strict=True)):
            transposed = x[:, part].transpose(1, 2).contiguous()
            torch.sum(transposed, dim=2, out=products[fold, :, -1])
            products[fold, :, :-1] = gram(x[:, part])
            cross[fold] = (transposed.flatten(0, 1) @ y).view(locations, size, units)
        learned, targets = self._learned(products[:, :, :-1]), self._learned(cross)
        unit, out = torch.eye(size), []
        for ridge in ridges:
            penalised = learned + (ridge * self.sizes)[:, None, None, None] * unit
            # For many neurons the inverse costs an eighth of solving with the factor.
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(penalised.double())).float()
            weights = inverse @ targets  # (folds, P, C, U)
            there = products @ weights
            predicted, squared = there[:, :, -1], there[:, :, :-1].mul_(weights).sum(dim=2)
            product = weights.mul_(cross).sum(dim=2)
            totals, powers = self.totals.expand_as(product), self.powers.expand_as(product)
            out.append(torch.stack([predicted, squared, product, totals, powers], dim=2))
        return torch.stack(out)


def _correlation(sums: Tensor, n: int) -> Tensor:
    """Correlation from the sums of ``_Folds.test``, (..., 5, U); 0 where either side is constant."""
    p, pp, py, y, yy = sums.double().unbind(dim=-2)
    covariance = py - p * y / n
    variances = (pp - p * p / n) * (yy - y * y / n)
    return torch.where(variances > 1e-12, covariance / variances.clamp_min(1e-12).sqrt(), 0.0).float()


def _score(correlation: Tensor, n: int) -> Tensor:
    return -n / 2 * torch.log1p(-correlation.clamp(0.0, 0.9999).square())
