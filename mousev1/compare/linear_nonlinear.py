"""What a representation must beat: a linear-nonlinear model of every neuron.

The rate of a neuron is f(w'x), x the pixels of a coarse version of the image. The filter w is the ridge
solution in closed form; the ridge is chosen per neuron by cross-validation over images. The point
nonlinearity f is the classical one of Chichilnisky 2001 (Network 12:199): the mean response where the
filter's output falls into a bin, made monotone, with straight lines between bins. It is estimated from
outputs for images that the filter was not fitted to, which a filter's own images would flatter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor
from torch.nn import functional as F

from mousev1.data.images import image_identities

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

PIXELS = 600
FOLDS = 5
RIDGES = tuple(10.0**power for power in range(-4, 3))
TRIALS_PER_BIN = 10
BINS = 10
UNITS_AT_A_TIME = 512
LEAST_RATE = 1e-3
"""Rates are at least this fraction of a neuron's mean response: a rate of zero would forbid any response."""


@dataclass(frozen=True, eq=False)
class LinearNonlinear:
    """Linear-nonlinear models of U neurons.

    Attributes:
        filters: (U, C, h, w) weights on the pixels of the coarse image.
        offset: (U,) output of the filter is ``filters`` times the coarse image plus this.
        knots: (U, B) outputs of the filter, rising, at which the nonlinearity is known.
        values: (U, B) rates there, never falling; straight lines between, constant beyond.
        ridge: (U,) the ridge that cross-validation chose, as a fraction of the mean variance of a pixel.
    """

    filters: FloatArray
    offset: FloatArray
    knots: FloatArray
    values: FloatArray
    ridge: FloatArray

    def drive(self, images: Array | Tensor) -> FloatArray:
        """Output of the filters, (N, U), for images (N, C, H, W)."""
        pixels = coarse(images).flatten(1).numpy()
        out: FloatArray = pixels @ self.filters.reshape(len(self.filters), -1).T + self.offset
        return out

    def predict(self, images: Array | Tensor) -> FloatArray:
        """Rates, (N, U), in the units of the responses, for images (N, C, H, W)."""
        drive = self.drive(images)
        rates = np.empty_like(drive)
        for unit, (knots, values) in enumerate(zip(self.knots, self.values, strict=True)):
            rates[:, unit] = np.interp(drive[:, unit], knots, values)
        return rates


def coarse(images: Array | Tensor) -> Tensor:
    """Images (N, C, H, W) averaged over squares so that about 600 pixels remain, as float32."""
    stack = torch.as_tensor(images)
    if stack.ndim != 4:
        raise ValueError(f"images: expected (N, C, H, W), got {tuple(stack.shape)}")
    _, channels, height, width = stack.shape
    side = max(1, round((channels * height * width / PIXELS) ** 0.5))
    # Some images at a time, because uint8 becomes float32.
    return torch.cat(
        [F.avg_pool2d(chunk.float(), min(side, height, width), ceil_mode=True) for chunk in stack.split(1024)]
    )


def fit_linear_nonlinear(
    images: Array | Tensor, responses: Array, *, image_ids: Array | None = None, seed: int = 0
) -> LinearNonlinear:
    """Fit a linear-nonlinear model to every neuron.

    Args:
        images: (N, C, H, W), one per trial.
        responses: (N, U), at least 0, any unit.
        image_ids: (N,) identity of the image of each trial; equal pictures are found if not given.
        seed: of the division of the images into folds.

    Raises:
        ValueError: wrong shapes, or fewer than five distinct images.
    """
    pixels = coarse(images)
    recorded = torch.as_tensor(np.ascontiguousarray(responses, dtype=np.float32))
    if recorded.ndim != 2 or len(recorded) != len(pixels):
        raise ValueError(
            f"responses: expected ({len(pixels)}, U), one row per image, got {tuple(recorded.shape)}"
        )
    ids = image_identities(torch.as_tensor(images)) if image_ids is None else np.asarray(image_ids)
    if ids.shape != (len(pixels),):
        raise ValueError(f"image_ids: expected ({len(pixels)},), one per image, got {ids.shape}")
    folds = _folds(ids, seed)
    x = pixels.flatten(1)
    spread = float(x.var(dim=0).mean().clamp_min(1e-12))
    ridges = np.array(RIDGES) * spread
    parts = [_fit_units(x, block, folds, ridges) for block in recorded.split(UNITS_AT_A_TIME, dim=1)]
    weights, offset, chosen, knots, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    return LinearNonlinear(
        filters=weights.reshape(len(weights), *pixels.shape[1:]),
        offset=offset,
        knots=knots,
        values=values,
        ridge=np.array(RIDGES, dtype=np.float32)[chosen],
    )


def _fit_units(x: Tensor, y: Tensor, folds: Array, ridges: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Filters (U, P), offsets, chosen ridges, knots and values of a block of neurons."""
    held_out = torch.empty(len(ridges), *y.shape)
    for fold in range(FOLDS):
        held = torch.from_numpy(folds == fold)
        solver = _Ridge.of(x[~held], y[~held])
        for i, ridge in enumerate(ridges):
            weights, offset = solver.solve(ridge)
            held_out[i, held] = x[held] @ weights + offset
    error = (held_out - y).square().mean(dim=1)  # (ridges, U)
    chosen = error.argmin(dim=0)
    drive = held_out.gather(0, chosen.expand(len(y), -1)[None])[0]
    solver = _Ridge.of(x, y)
    weights, offset = torch.empty(x.shape[1], y.shape[1]), torch.empty(y.shape[1])
    for i, ridge in enumerate(ridges):
        mine = chosen == i
        if mine.any():
            weights[:, mine], offset[mine] = (part[..., mine] for part in solver.solve(ridge))
    knots, values = _nonlinearity(drive.numpy(), y.numpy())
    return weights.T.numpy(), offset.numpy(), chosen.numpy(), knots, values


@dataclass(frozen=True)
class _Ridge:
    """One eigendecomposition gives the solution for every ridge."""

    vectors: Tensor
    variances: Tensor
    projected: Tensor
    mean_x: Tensor
    mean_y: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> _Ridge:
        mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
        centred = x - mean_x
        variances, vectors = torch.linalg.eigh((centred.T @ centred / len(x)).double())
        vectors = vectors.float()
        projected = vectors.T @ (centred.T @ (y - mean_y)) / len(x)
        return cls(vectors, variances.clamp_min(0.0).float(), projected, mean_x, mean_y)

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        """(P, U) weights and (U,) offsets."""
        weights = self.vectors @ (self.projected / (self.variances + ridge)[:, None])
        return weights, self.mean_y - self.mean_x @ weights


def _folds(ids: Array, seed: int) -> Array:
    """(N,) number of the fold of each trial; all trials of an image are in one."""
    distinct, which = np.unique(ids, return_inverse=True)
    if len(distinct) < FOLDS:
        raise ValueError(f"images: expected at least {FOLDS} distinct images, got {len(distinct)}")
    order = np.random.default_rng(seed).permutation(len(distinct))
    fold: Array = (order % FOLDS)[which]
    return fold


def _nonlinearity(drive: FloatArray, responses: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Knots and values, both (U, B): means of equally filled bins of the drive, made monotone."""
    trials, units = drive.shape
    bins = max(2, min(BINS, trials // TRIALS_PER_BIN))
    edges = np.linspace(0, trials, bins + 1).astype(int)
    counts = np.diff(edges).astype(np.float64)
    order = np.argsort(drive, axis=0, kind="stable")

    def binned(values: FloatArray) -> Array:
        ordered = np.take_along_axis(values, order, axis=0).astype(np.float64)
        means: Array = np.add.reduceat(ordered, edges[:-1], axis=0) / counts[:, None]
        return means.T

    knots, values = binned(drive), binned(responses)
    least = LEAST_RATE * responses.mean(axis=0, dtype=np.float64)
    for unit in range(units):
        monotone = isotonic_regression(values[unit], weights=counts).x
        values[unit] = np.maximum(monotone, least[unit])
    return knots.astype(np.float32), values.astype(np.float32)
