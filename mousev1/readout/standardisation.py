"""Channels of features on one scale, and weights on it turned into weights on raw features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Standardisation:
    """What was subtracted from and divided out of each channel.

    Attributes:
        mean: (C,) float64.
        std: (C,) float64, positive; 1 for a channel that never changes.
    """

    mean: Tensor
    std: Tensor

    def to_raw(self, weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (U, C) and bias (U,) on standardised features, for raw features instead."""
        raw = weights.double() / self.std
        return raw, bias.double() - raw @ self.mean

    def from_raw(self, weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of ``to_raw``."""
        raw = weights.double()
        return raw * self.std, bias.double() + raw @ self.mean
