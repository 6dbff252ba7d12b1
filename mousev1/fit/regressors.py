"""Features at the locations of some neurons, and the products of a regression on them.

Between the same four pixels (in one pixel cell) the features of a neuron are a mixture of four tables.
``SharedFeatures`` never makes that mixture: with the weights mixed instead, all neurons of a pixel cell share one
product of matrices with its tables, which is several times faster than one product with a vector for each. Where
neurons are few in a pixel cell, ``OwnFeatures`` holds the mixture of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

SCRATCH_VALUES = 375_000  # fit in the cache


class Regressors(Protocol):
    """Features x of B neurons for N images, C each."""

    def drive(self, theta: Tensor) -> Tensor:
        """X w + b, (B, N) float32, for theta = (w, b), (B, C + 1)."""

    def weighted_sum(self, slope: Tensor) -> Tensor:
        """X' s, (B, C) float32, for s (B, N) float32."""

    def only(self, keep: Tensor) -> Regressors:
        """Of some of the neurons, given by a mask or by increasing numbers."""

    def first(self, images: int) -> Regressors:
        """For the first images only, without a copy."""

    def scaled(self, factors: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """A few neurons at a time, which they are and their features (b, N, C) times factors (B, N).

        They are overwritten by the next ones.
        """

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, N, C)."""


@dataclass(frozen=True)
class OwnFeatures:
    """A table for each neuron.

    Attributes:
        values: (B, N, C) float32.
    """

    values: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """See ``Regressors``."""
        units, images, channels = self.values.shape
        return units, images, channels

    def drive(self, theta: Tensor) -> Tensor:
        """See ``Regressors``."""
        theta = theta.float()
        # With the vector on the left the product is several times faster.
        return torch.baddbmm(theta[:, None, -1:], theta[:, None, :-1], self.values.transpose(1, 2))[:, 0]

    def weighted_sum(self, slope: Tensor) -> Tensor:
        """See ``Regressors``."""
        return torch.bmm(slope[:, None], self.values)[:, 0]

    def first(self, images: int) -> OwnFeatures:
        """See ``Regressors``."""
        return OwnFeatures(self.values[:, :images])

    def only(self, keep: Tensor) -> OwnFeatures:
        """See ``Regressors``."""
        return OwnFeatures(self.values[keep])

    def scaled(self, factors: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """See ``Regressors``."""
        scratch = _scratch(self)
        for start in range(0, len(self.values), len(scratch)):
            values = self.values[start : start + len(scratch)]
            rows = slice(start, start + len(values))
            yield rows, torch.mul(values, factors[rows, :, None], out=scratch[: len(values)])


@dataclass(frozen=True)
class SharedFeatures:
    """Tables of the pixel cells between four pixels, and where in its pixel cell each neuron is.

    Attributes:
        tables: (pixel cells, N, 4 C) float32, for each pixel cell the features at its four pixels side by side.
        cells: (B,) which table, not decreasing.
        mixing: (B, 4) float32, weights of the four pixels.
    """

    tables: Tensor
    cells: Tensor
    mixing: Tensor

    @cached_property
    def _cells(self) -> list[tuple[int, slice]]:
        """Each table that is used, and the neurons that use it."""
        found, counts = torch.unique_consecutive(self.cells, return_counts=True)
        stops = counts.cumsum(dim=0)
        starts = stops - counts
        return [
            (cell, slice(start, stop))
            for cell, start, stop in zip(found.tolist(), starts.tolist(), stops.tolist(), strict=True)
        ]

    @cached_property
    def _runs(self) -> list[tuple[Tensor, slice]]:
        """Tables next to each other that are used by as many neurons each, and these neurons."""
        out: list[tuple[slice, slice]] = []
        for cell, rows in self._cells:
            size = rows.stop - rows.start
            if out:
                tables, before = out[-1]
                each = (before.stop - before.start) // (tables.stop - tables.start)
                if tables.stop == cell and each == size:
                    out[-1] = (slice(tables.start, cell + 1), slice(before.start, rows.stop))
                    continue
            out.append((slice(cell, cell + 1), rows))
        return [(self.tables[tables], rows) for tables, rows in out]

    @property
    def shape(self) -> tuple[int, int, int]:
        """See ``Regressors``."""
        _, images, width = self.tables.shape
        return len(self.cells), images, width // 4

    def drive(self, theta: Tensor) -> Tensor:
        """See ``Regressors``."""
        theta = theta.float()
        weights = (self.mixing[:, :, None] * theta[:, None, :-1]).flatten(1)
        out = torch.empty(self.shape[:2])
        for tables, rows in self._runs:
            count = len(tables)
            torch.bmm(
                weights[rows].unflatten(0, (count, -1)),
                tables.transpose(1, 2),
                out=out[rows].unflatten(0, (count, -1)),
            )
        return out.add_(theta[:, -1:])

    def weighted_sum(self, slope: Tensor) -> Tensor:
        """See ``Regressors``."""
        units, _, channels = self.shape
        out = torch.empty(units, 4 * channels)
        for tables, rows in self._runs:
            count = len(tables)
            torch.bmm(slope[rows].unflatten(0, (count, -1)), tables, out=out[rows].unflatten(0, (count, -1)))
        return (self.mixing[:, None] @ out.view(units, 4, channels))[:, 0]

    def first(self, images: int) -> SharedFeatures:
        """See ``Regressors``."""
        return SharedFeatures(self.tables[:, :images], self.cells, self.mixing)

    def only(self, keep: Tensor) -> SharedFeatures:
        """See ``Regressors``."""
        return SharedFeatures(self.tables, self.cells[keep], self.mixing[keep])

    def scaled(self, factors: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """See ``Regressors``."""
        _, images, channels = self.shape
        scratch = _scratch(self)
        for cell, rows in self._cells:
            pixels = self.tables[cell].view(images, 4, channels).transpose(0, 1).reshape(4, -1)
            parts = math.ceil((rows.stop - rows.start) / len(scratch))
            for part in torch.arange(rows.start, rows.stop).tensor_split(parts):
                some = slice(int(part[0]), int(part[-1]) + 1)
                values = scratch[: len(part)]
                torch.mm(self.mixing[some], pixels, out=values.flatten(1))
                yield some, values.mul_(factors[some, :, None])


def _scratch(features: Regressors) -> Tensor:
    """Room for a few neurons' features; made once, because clearing new memory takes as long as a product."""
    units, images, channels = features.shape
    return torch.empty(max(1, min(units, SCRATCH_VALUES // (images * channels))), images, channels)
