"""The regression of ``glm`` for a whole population: neighbours together, with one prior."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mousev1.fit.features import FeatureStore
from mousev1.fit.glm import COMMON_STEPS, DISPERSION_RANGE, WARM_STEPS, Common, GlmData, GlmProblem
from mousev1.fit.newton import GlmFit, fit_glm
from mousev1.fit.prior import WeightPrior
from mousev1.fit.regressors import OwnFeatures, Regressors, SharedFeatures
from mousev1.numerics.arithmetic import gram, variance
from mousev1.numerics.workers import Result, workers
from mousev1.readout.interpolation import bilinear_corners

# Most values of the features (B, N, C), of the drives (B, N) and of the matrices (B, C + 1, C + 1) of neurons that
# are fitted together, and least number of them.
FEATURE_VALUES, DRIVE_VALUES, MATRIX_VALUES, LEAST_NEURONS_AT_ONCE = 3_000_000, 250_000, 1_000_000, 2
# Neurons share tables of features if there are so many between the same four pixels, on average: with 1,000 images on
# 2 cores with 32 MB of cache, tables of their own took less with 12, and shared ones with 23.
SHARED_FROM = 16
INFORMATION_UNITS = 50  # neurons whose information is averaged


def neurons_at_once(images: int, channels: int, *, shared: bool) -> int:
    """How many neurons are fitted together, with tables of their own or shared ones."""
    values = DRIVE_VALUES // images if shared else FEATURE_VALUES // (images * channels)
    return max(LEAST_NEURONS_AT_ONCE, min(values, MATRIX_VALUES // (channels + 1) ** 2))


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
        return self.responses_by_unit(units, images).T.contiguous()

    def responses_by_unit(self, units: Tensor, images: int | None = None) -> Tensor:
        """The same by neuron, (len(units), n)."""
        rows, table = self.order[:images], self.all_responses
        # A copy of whole rows or of whole columns comes first: the smaller one.
        if len(rows) * table.shape[1] < len(table) * len(units):
            part = table.index_select(0, rows).T.index_select(0, units)
        else:
            part = table.T.index_select(0, units).index_select(1, rows)
        return part.float() / self.scale[units, None]


class PopulationGlm:
    """Fits neurons under a prior that it learns from them.

    Args:
        data: features and responses.
        mu: (U, 2) float32 positions of all neurons, -1 to 1.
        prior: where the prior starts.

    Attributes:
        prior: the prior as learned so far.
        determined: by the neurons that it was last learned from; see ``WeightPrior.determined``.
    """

    def __init__(self, data: FitData, mu: Tensor, prior: WeightPrior) -> None:
        self.data, self.prior = data, prior
        store = data.store
        self.corners, self.mixing = bilinear_corners(mu, store.height, store.width)
        self.theta = torch.zeros(len(mu), store.channels + 1, dtype=torch.float64)
        self.dispersion = torch.ones(len(mu), dtype=torch.float64)
        self.started = torch.zeros(len(mu), dtype=torch.bool)
        self.determined = 0.0
        self.information = self._first_information()

    def _first_information(self) -> Tensor:
        """X'X / N at a few neurons' pixels, with the constant 1 as last column."""
        pixels = self.corners[:: max(1, len(self.corners) // 8), 0].unique().tolist()
        n, channels = self.data.store.images, self.data.store.channels
        total = torch.zeros(channels + 1, channels + 1, dtype=torch.float64)
        for pixel in pixels:
            x = torch.cat([self.data.store.block(pixel).float(), torch.ones(n, 1)], dim=1)
            total += gram(x).double()
        return total / (n * len(pixels))

    @property
    def common(self) -> Common:
        """What the neurons have in common, as far as it is known by now."""
        return Common(self.prior, self.information)

    def learn_prior(self, units: Tensor, *, images: int, other: WeightPrior | None, progress: bool) -> None:
        """Fit some neurons roughly under the present prior, then learn the prior from them.

        Args:
            units: which neurons, in random order.
            images: use the first this many images only.
            other: a prior from elsewhere that stays part of the evidence.
            progress: show a progress bar.
        """
        amount = torch.zeros(len(units), dtype=torch.float64)
        gradient = torch.zeros(len(units), len(self.information), dtype=torch.float64)
        information = torch.zeros_like(self.information)
        desc = "prior" if progress else None

        def approach(rows: Tensor, index: Tensor, problem: GlmProblem) -> Tensor:
            start = self._start(index, problem.data.responses)
            near = problem.approach_on_half_first(*start, fitted=self.started[index])
            self._keep(index, near.theta, near.dispersion)
            amount[rows] = problem.curvature(near.output) / near.dispersion
            gradient[rows] = problem.gradient(near)
            few = (rows < INFORMATION_UNITS).nonzero()[:, 0]
            own = problem.information(near.output, few)
            return (own / own[:, -1:, -1:]).sum(dim=0, dtype=torch.float64)

        for own in self._solve(approach, units, images, self.common, desc):
            information += own
        self.information = information / min(len(units), INFORMATION_UNITS)
        self.determined = self.prior.determined(amount, self.information)
        theta = self.theta[units]
        learned = self.prior.learn(theta, gradient, amount, self.information, other=other)
        self.prior, self.theta[units] = learned

    def fit(
        self, units: Tensor, *, drive_images: int, keep_information: bool = False, desc: str | None = None
    ) -> GlmFit:
        """Fit neurons for good.

        Args:
            units: which neurons; they come in this order.
            drive_images: how many images to give ``GlmFit.drive`` for.
            keep_information: give ``GlmFit.information``.
            desc: title of a progress bar, or ``None`` for none.
        """
        # The same for all, so that a neuron's fit does not depend on which others it is computed with.
        steps = WARM_STEPS if bool(self.started[units].all()) else COMMON_STEPS
        common, size = self.common, len(self.information)
        result = GlmFit.empty(len(units), size, drive_images, keep_information=keep_information)

        def solve(rows: Tensor, index: Tensor, problem: GlmProblem) -> None:
            theta, phi = self._start(index, problem.data.responses)
            fit = fit_glm(
                problem, start=theta, dispersion=phi, steps=steps, keep_information=keep_information
            )
            self._keep(index, fit.theta, fit.dispersion)
            result.put(rows, fit)

        deque(self._solve(solve, units, self.data.store.images, common, desc), 0)
        return result

    def _solve(
        self,
        function: Callable[[Tensor, Tensor, GlmProblem], Result],
        units: Tensor,
        images: int,
        common: Common,
        desc: str | None,
    ) -> Iterator[Result]:
        """``function`` of a few neighbours at a time: their rows in ``units``, their numbers, what is to be solved."""
        images = min(images, self.data.store.images)
        groups, at_once, features_of = self._groups(units, images)

        def solve(group: Tensor) -> tuple[int, list[Result]]:
            chunks, results = group.split(at_once), []
            for rows, features in zip(
                chunks, features_of([units[rows] for rows in chunks], images), strict=True
            ):
                index = units[rows]
                data = GlmData(features, self.data.responses_by_unit(index, images))
                results.append(function(rows, index, GlmProblem(data, common)))
            return len(group), results

        with tqdm(total=len(units), desc=desc, disable=desc is None) as bar, workers() as threads:
            for count, results in threads.map(solve, groups):
                bar.update(count)
                yield from results

    def _groups(
        self, units: Tensor, images: int
    ) -> tuple[Sequence[Tensor], int, Callable[[list[Tensor], int], Iterator[Regressors]]]:
        """Rows within ``units`` of neighbours that read features together, how many are fitted at once, and how."""
        # Neurons between the same four pixels share what is read.
        cells = self.corners[units, 0]
        _, which, sizes = torch.unique(cells, return_inverse=True, return_counts=True)
        channels = self.data.store.channels
        shared = len(units) >= SHARED_FROM * len(sizes)
        at_once = neurons_at_once(images, channels, shared=shared)
        if shared:
            # Pixel cells of the same size follow each other, so that they share a batch of products.
            near = torch.argsort(sizes[which] * (int(cells.max()) + 1) + cells, stable=True)
            most_cells = max(1, FEATURE_VALUES // (images * 4 * channels))
        else:
            near = torch.argsort(cells, stable=True)  # row by row of pixels
            most_cells = len(units)
        sizes = torch.unique_consecutive(cells[near], return_counts=True)[1]
        groups = near.split(_gathered(sizes.tolist(), at_once, most_cells))
        return groups, at_once, self._shared if shared else self._own

    def _own(self, chunks: list[Tensor], images: int) -> Iterator[OwnFeatures]:
        pixels, rows = self.corners[torch.cat(chunks)].unique(return_inverse=True)
        table = self.data.store.blocks(pixels.tolist(), images).flatten(1)
        for index, corners in zip(chunks, rows.split([len(chunk) for chunk in chunks]), strict=True):
            mixed = F.embedding_bag(corners, table, per_sample_weights=self.mixing[index], mode="sum")
            yield OwnFeatures(mixed.view(len(index), images, -1))

    def _shared(self, chunks: list[Tensor], images: int) -> Iterator[SharedFeatures]:
        pixels, cells = torch.unique_consecutive(self.corners[torch.cat(chunks)], dim=0, return_inverse=True)
        store = self.data.store
        tables = torch.empty(len(pixels), images, 4, store.channels)
        for table, four in zip(tables, pixels.tolist(), strict=True):
            for pixel, position in enumerate(four):
                store.read(position, table[:, pixel])
        tables = tables.flatten(2)
        for index, which in zip(chunks, cells.split([len(chunk) for chunk in chunks]), strict=True):
            yield SharedFeatures(tables, which, self.mixing[index])

    def _keep(self, index: Tensor, theta: Tensor, dispersion: Tensor) -> None:
        self.theta[index], self.dispersion[index], self.started[index] = theta, dispersion, True

    def _start(self, index: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where to start: no selectivity, and all of the variance noise; where fitted before, the last fit."""
        started = self.started[index]
        if bool(started.all()):
            return self.theta[index], self.dispersion[index]
        mean = y.mean(dim=1).double().clamp_min(1e-3)
        theta = torch.zeros(len(index), len(self.information), dtype=torch.float64)
        theta[:, -1] = torch.where(mean < 1.0, mean.log(), mean - 1.0)
        return (
            torch.where(started[:, None], self.theta[index], theta),
            torch.where(
                started, self.dispersion[index], (variance(y, dim=1) / mean).clamp(*DISPERSION_RANGE)
            ),
        )


def _gathered(sizes: list[int], most: int, most_cells: int) -> list[int]:
    """Sizes of groups of pixel cells in a row: so many neurons at most, unless one cell has more, and so many cells."""
    out: list[int] = []
    cells = 0
    for size in sizes:
        if out and out[-1] + size <= most and cells < most_cells:
            out[-1] += size
            cells += 1
        else:
            out.append(size)
            cells = 1
    return out
