"""How well weights are known, small enough to travel with a model.

The Laplace approximation gives every neuron a (C + 1, C + 1) covariance of its weights and bias:
17 kB for 64 channels, sixty times the weights themselves. But neurons of one population share a
prior, and their information matrices are nearly multiples of each other, so that one basis V makes
all of them nearly diagonal:  covariance_u = V diag(v_u) V'.  What is kept is V once and v_u.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mousev1.fit.features import Standardisation


@dataclass(frozen=True)
class WeightPosterior:
    """Covariances V diag(v_u) V' of (weights, bias) on raw core features.

    Attributes:
        basis: (C + 1, C + 1) float32, V.
        variances: (U, C + 1) float32, v_u; zero for neurons that were not fitted.
    """

    basis: Tensor
    variances: Tensor

    @classmethod
    def on_raw_features(
        cls, basis: Tensor, variances: Tensor, standardisation: Standardisation
    ) -> WeightPosterior:
        """From a basis for standardised features; see ``Standardisation.to_raw``."""
        raw = basis.clone()
        raw[:-1] = basis[:-1] / standardisation.std[:, None]
        raw[-1] = basis[-1] - standardisation.mean @ raw[:-1]
        return cls(raw.float(), variances.float())

    def __post_init__(self) -> None:
        size, units = self.basis.shape[0], self.variances.shape[0]
        if self.basis.shape != (size, size) or self.variances.shape != (units, size):
            raise ValueError(
                f"posterior: expected a basis (C + 1, C + 1) and variances (U, C + 1), got "
                f"{tuple(self.basis.shape)} and {tuple(self.variances.shape)}"
            )

    def covariance(self, unit: int) -> Tensor:
        """(C + 1, C + 1) of one neuron."""
        return (self.basis * self.variances[unit]) @ self.basis.T

    def select(self, units: Tensor) -> WeightPosterior:
        """The same for some of the neurons, by index."""
        return WeightPosterior(self.basis, self.variances[units])

    def to(self, device: torch.device) -> WeightPosterior:
        """The same on another device."""
        return WeightPosterior(self.basis.to(device), self.variances.to(device))

    def drive_variance(self, sampled: Tensor) -> Tensor:
        """Variance of the drive w . f + b.

        Args:
            sampled: (U, N, C) features at each neuron's position (``mousev1.readout.sample_at``).

        Returns:
            (N, U).
        """
        along = sampled @ self.basis[:-1] + self.basis[-1]
        return torch.einsum("unk,uk->nu", along.square(), self.variances)


def rate_std(drive: Tensor, drive_variance: Tensor) -> Tensor:
    """Standard deviation of ELU(drive) + 1 for a normal drive, to first order: slope times sd."""
    return drive_variance.sqrt() * torch.exp(drive.clamp_max(0.0))
