"""How well weights are known: covariances in a form small enough to be saved with a model.

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
    from mousev1.readout.standardisation import Standardisation


@dataclass(frozen=True)
class WeightPosterior:
    """Covariances V diag(v_u) V' of (weights, bias) on raw core features.

    Attributes:
        basis: (C + 1, K) float32, V. A fit gives C + 1 columns, and a last one along the bias alone
            whose variance is the model error of the features.
        variances: (U, K) float32, v_u; zero for neurons that were not fitted.
    """

    basis: Tensor
    variances: Tensor

    @classmethod
    def on_raw_features(
        cls, basis: Tensor, variances: Tensor, standardisation: Standardisation, model_error: Tensor
    ) -> WeightPosterior:
        """From a basis for standardised features; see ``Standardisation.to_raw``.

        Args:
            basis: (C + 1, C + 1).
            variances: (U, C + 1).
            standardisation: of the features.
            model_error: (U,) variance of the drive that no weights account for.
        """
        raw = torch.cat([basis, torch.zeros_like(basis[:, :1])], dim=1)
        raw[:-1] /= standardisation.std[:, None]
        raw[-1] -= standardisation.mean @ raw[:-1]
        raw[-1, -1] = 1.0
        return cls(raw.float(), torch.cat([variances, model_error[:, None]], dim=1).float())

    def __post_init__(self) -> None:
        if self.basis.ndim != 2 or self.variances.ndim != 2 or self.basis.shape[1] != self.variances.shape[1]:
            raise ValueError(
                f"posterior: expected a basis (C + 1, K) and variances (U, K), got "
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
            sampled: (U, N, C) features at each neuron's position (``mousev1.readout.interpolation.sample_at``).

        Returns:
            (N, U).
        """
        along = sampled @ self.basis[:-1] + self.basis[-1]
        return torch.einsum("unk,uk->nu", along.square(), self.variances)


def rate_std(drive: Tensor, drive_variance: Tensor) -> Tensor:
    """Standard deviation of the rate ELU(z) + 1 for a normal drive z ~ N(drive, drive_variance).

    Exact: with s^2 the variance, Phi and phi the normal distribution and density, and t = drive / s,

        E r   = exp(m + s^2/2) Phi(-t - s) + (1 + m) Phi(t) + s phi(t),
        E r^2 = exp(2m + 2s^2) Phi(-t - 2s) + ((1 + m)^2 + s^2) Phi(t) + s (2 + m) phi(t).
    """
    m, variance = drive.double(), drive_variance.double()
    s = variance.sqrt().clamp_min(1e-9)
    t = m / s
    density = torch.exp(-0.5 * t.square()) / (2.0 * torch.pi) ** 0.5
    above = torch.special.ndtr(t)
    # exp(a) Phi(-b) in logarithms: the factors alone overflow.
    below = torch.exp(m + variance / 2 + torch.special.log_ndtr(-t - s))
    below_squared = torch.exp(2 * m + 2 * variance + torch.special.log_ndtr(-t - 2 * s))
    mean = below + (1 + m) * above + s * density
    second = below_squared + ((1 + m).square() + variance) * above + s * (2 + m) * density
    std: Tensor = (second - mean.square()).clamp_min(0.0).sqrt().to(drive.dtype)
    return std
