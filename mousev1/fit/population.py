"""The regression of ``glm`` for a whole population: cell by cell, with one prior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from mousev1.fit.features import FeatureStore
from mousev1.fit.glm import DISPERSION_RANGE, TOLERANCE, CellData, GlmFit, drives, fit_glm, side_by_side
from mousev1.fit.prior import WeightPrior
from mousev1.readout import bilinear_corners

# Values of one (N, B) array of a cell's neurons; a handful of them are alive at once.
CELL_VALUES = 1_000_000
LEAST_NEURONS_AT_ONCE = 16
# Sides of the groups of cells that are fitted together, and responses per group that make for enough work
# at a time; with less than that the next side is taken.
SIDES = {1: 100_000, 2: 20_000, 4: 0}
ROUGH = 1e-3  # tolerance while the prior is learned
# Values of one array of a chunk's matrices, and how many such arrays are alive at once.
MATRIX_VALUES, MATRIX_ARRAYS = 2_000_000, 8
KEPT_BYTES = 34_000_000  # most of the matrices that are kept from the prior's last round


def largest_side(images: int) -> int:
    """The largest of ``SIDES`` that groups can have for so many images: with one neuron each."""
    return next(side for side, enough in SIDES.items() if images > enough)


@dataclass(frozen=True)
class FitData:
    """Features and responses of the same trials.

    Attributes:
        store: features of N images.
        all_responses: (N, U), rows as the caller had them.
        scale: (U,) that each neuron's responses are divided by.
        order: (N,), row i of the store is row order[i] of ``all_responses``.
    """

    store: FeatureStore
    all_responses: Tensor
    scale: Tensor
    order: Tensor

    def responses(self, units: Tensor, images: int | None = None) -> Tensor:
        """Scaled responses (n, len(units)) float32 of some neurons to the first ``images`` of the store."""
        rows, table = self.order[:images], self.all_responses
        # A copy of whole rows or of whole columns comes first: the smaller one.
        by_row = len(rows) * table.shape[1] < len(table) * len(units)
        part = table[rows][:, units] if by_row else table[:, units][rows]
        return part.float() / self.scale[units]


@dataclass(frozen=True)
class PopulationFit:
    """Fits of many neurons, in the order asked for.

    Attributes:
        theta: (U, C + 1) float64, weights and bias on standardised features.
        dispersion: (U,).
        converged: (U,).
        basis: (C + 1, C + 1) float64; see ``posterior``.
        variances: (U, C + 1) float64, of theta's coordinates in the basis.
        information: (U, C + 1, C + 1) float64 of the likelihood, if it was to be kept.
    """

    theta: Tensor
    dispersion: Tensor
    converged: Tensor
    basis: Tensor
    variances: Tensor
    information: Tensor | None


class PopulationGlm:
    """Fits neurons under a prior that it learns from them.

    Args:
        data: features and responses.
        mu: (U, 2) float32 positions of all neurons, -1 to 1.
        prior: where the prior starts.

    Attributes:
        prior: the prior as learned so far.
    """

    def __init__(self, data: FitData, mu: Tensor, prior: WeightPrior) -> None:
        self.data, self.prior = data, prior
        store = data.store
        self.corners, self.mixing = bilinear_corners(mu, store.height, store.width)
        self.theta = torch.zeros(len(mu), store.channels + 1, dtype=torch.float64)
        self.dispersion = torch.ones(len(mu), dtype=torch.float64)
        self.started = torch.zeros(len(mu), dtype=torch.bool)
        # Matrices X'hX at ``theta``, (U, C + 1, C + 1) float32, while they serve again.
        self._kept: Tensor | None = None
        self.common = self._first_common(mu)

    def _first_common(self, mu: Tensor) -> Tensor:
        """X'X / N at a few neurons' places, with the constant 1 as last column."""
        pixels = self.corners[:: max(1, len(mu) // 8), 0].unique().tolist()
        n, channels = self.data.store.images, self.data.store.channels
        total = torch.zeros(channels + 1, channels + 1, dtype=torch.float64)
        for pixel in pixels:
            x = torch.cat([self.data.store.block(pixel).float(), torch.ones(n, 1)], dim=1)
            total += (x.T @ x).double()
        return total / (n * len(pixels))

    def learn_prior(
        self, units: Tensor, *, images: int, other: WeightPrior | None, keep: bool, progress: bool
    ) -> None:
        """Fit some neurons under the present prior, then move the prior to what they point to.

        Args:
            units: which neurons.
            images: use the first this many images only.
            other: a prior from elsewhere that stays part of the evidence.
            keep: the same neurons are fitted for good next; what was computed of them serves again, if it
                takes little memory and these are all images.
            progress: show a progress bar.
        """
        amount = torch.zeros(len(units), dtype=torch.float64)
        total = torch.zeros_like(self.common)
        self._kept = None
        all_images = images >= self.data.store.images
        few = len(self.theta) * self.common.numel() * 4 <= KEPT_BYTES
        kept = torch.zeros(len(self.theta), *self.common.shape) if keep and all_images and few else None
        for place, fit in self._cells(units, images, "prior" if progress else None, ROUGH):
            amount[place] = fit.curvature / fit.dispersion
            total += (fit.information / fit.curvature[:, None, None]).sum(dim=0)
            if kept is not None:
                kept[units[place]] = fit.information.float()
        self._kept = kept
        self.common = total / len(units)
        self.prior = self.prior.learn(self.theta[units], amount, self.common, other=other)

    def fit(self, units: Tensor, *, keep_information: bool = False, desc: str | None = None) -> PopulationFit:
        """Fit neurons for good.

        Args:
            units: which neurons.
            keep_information: give ``PopulationFit.information``.
            desc: title of a progress bar, or ``None`` for none.
        """
        size = len(self.common)
        basis, inverse = self._basis(units)
        out = PopulationFit(
            theta=torch.zeros(len(units), size, dtype=torch.float64),
            dispersion=torch.zeros(len(units), dtype=torch.float64),
            converged=torch.zeros(len(units), dtype=torch.bool),
            basis=basis,
            variances=torch.zeros(len(units), size, dtype=torch.float64),
            information=torch.zeros(len(units), size, size, dtype=torch.float64)
            if keep_information
            else None,
        )
        precision = self.prior.precision
        for place, fit in self._cells(units, self.data.store.images, desc, TOLERANCE):
            out.theta[place], out.dispersion[place] = fit.theta, fit.dispersion
            out.converged[place] = fit.converged
            information = fit.information / fit.dispersion[:, None, None]
            if out.information is not None:
                out.information[place] = information
            factor = torch.linalg.cholesky(information + precision)
            # the diagonal of W C W' for the inverse W of the basis, from C^-1 = L L'
            halves = torch.linalg.solve_triangular(factor, inverse.T.expand_as(factor), upper=False)
            out.variances[place] = halves.square().sum(dim=1)
        self._kept = None
        return out

    def drives(self, units: Tensor, images: int) -> Tensor:
        """Drives of fitted neurons for the first ``images`` of the store, (images, len(units))."""
        store, out = self.data.store, torch.zeros(images, len(units))
        for cell, pixels, mixing in self._by_cell(units, images):
            out[:, cell] = drives(side_by_side(store.blocks(pixels, images)), mixing, self.theta[units[cell]])
        return out

    def _basis(self, units: Tensor) -> tuple[Tensor, Tensor]:
        """V with V' S^-1 V = I and V' (average information) V diagonal, and its inverse.

        In this basis every neuron's posterior covariance is nearly diagonal, so that its variances
        along it are all that needs keeping.
        """
        root = torch.linalg.cholesky(self.prior.covariance)
        _, vectors = torch.linalg.eigh(root.T @ self.common @ root)
        basis = root @ vectors
        return basis, torch.linalg.inv(basis)

    def _by_cell(self, units: Tensor, images: int) -> Iterator[tuple[Tensor, list[int], Tensor]]:
        """Groups of neighbours: places within ``units``, pixels around them, and weights of those (B, P).

        A group lies between the same four pixels; where that makes for little work at a time, in a square
        of several such cells.
        """
        store = self.data.store
        first = self.corners[units, 0]
        rows, columns = first // store.width, first % store.width
        for side, enough in SIDES.items():
            keys = rows // side * side * store.width + columns // side * side
            if len(units) * images > enough * len(keys.unique()):
                break
        by_cell = torch.argsort(keys, stable=True)
        sizes = torch.unique_consecutive(keys[by_cell], return_counts=True)[1].tolist()
        for places in by_cell.split(sizes):
            pixels, at = self.corners[units[places]].unique(return_inverse=True)
            weights = torch.zeros(len(places), len(pixels)).scatter_add_(1, at, self.mixing[units[places]])
            yield places, pixels.tolist(), weights

    def _cells(
        self, units: Tensor, images: int, desc: str | None, tolerance: float
    ) -> Iterator[tuple[Tensor, GlmFit]]:
        """Fit cell by cell; yields (places within ``units``, their fit)."""
        store = self.data.store
        n = min(images, store.images)
        most = max(LEAST_NEURONS_AT_ONCE, min(CELL_VALUES // n, MATRIX_VALUES // self.common.numel()))
        precision = self.prior.precision
        with tqdm(total=len(units), desc=desc, disable=desc is None) as bar:
            for cell, pixels, mixing in self._by_cell(units, n):
                features = store.blocks(pixels, n)
                for place, weights in zip(cell.split(most), mixing.split(most), strict=True):
                    index = units[place]
                    y = self.data.responses(index, n)
                    theta, phi = self._start(index, y)
                    fit = fit_glm(
                        CellData(features, weights, y),
                        mean=self.prior.mean,
                        precision=precision,
                        common_information=self.common,
                        start=theta,
                        dispersion=phi,
                        information=None if self._kept is None else self._kept[index].double(),
                        tolerance=tolerance,
                    )
                    self.theta[index], self.dispersion[index] = fit.theta, fit.dispersion
                    self.started[index] = True
                    yield place, fit
                    bar.update(len(place))

    def _start(self, index: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where to start: no selectivity, and all of the variance noise; where fitted before, the last fit."""
        mean, variance = (part.double() for part in (y.mean(dim=0), y.var(dim=0, unbiased=False)))
        mean = mean.clamp_min(1e-3)
        theta = torch.zeros(len(index), len(self.common), dtype=torch.float64)
        theta[:, -1] = torch.where(mean < 1.0, mean.log(), mean - 1.0)
        started = self.started[index]
        return (
            torch.where(started[:, None], self.theta[index], theta),
            torch.where(started, self.dispersion[index], (variance / mean).clamp(*DISPERSION_RANGE)),
        )
