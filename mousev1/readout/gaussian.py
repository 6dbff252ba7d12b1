"""The Gaussian readout: where each neuron looks, and what it weighs there.

Lurz et al. 2021, section 2.2. A neuron's rate is ELU(w . f(mu) + b) + 1, where f(mu) are the core's
features at its position mu, interpolated bilinearly. Positions are in the coordinates of
``torch.nn.functional.grid_sample``: (x, y), each from -1 (centre of the first pixel of the feature
map) to 1 (centre of the last). While training, every neuron's position is drawn anew for every
image from a Gaussian around mu, so that neurons find their position by gradient descent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousev1.readout.interpolation import sample_per_image, weigh_at


@dataclass(frozen=True)
class PositionNetworkConfig:
    """Shape of the network that predicts positions from cortex.

    Attributes:
        hidden_layers: 0 is an affine map, the paper's default.
        hidden_features: width of the hidden layers.
        final_tanh: squash the output to -1..1, as in the Sensorium models.
        init_scale: factor on the random orthonormal matrix an affine map starts from.
    """

    hidden_layers: int = 0
    hidden_features: int = 30
    final_tanh: bool = False
    init_scale: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.hidden_layers <= 16:
            raise ValueError(f"hidden_layers: expected 0 to 16, got {self.hidden_layers}")
        if not 1 <= self.hidden_features <= 4096:
            raise ValueError(f"hidden_features: expected 1 to 4096, got {self.hidden_features}")


class PositionNetwork(nn.Module):
    """Readout Position Network: cortical position in, position on the feature map out.

    Args:
        config: layers, tanh and initial scale.

    Shared by all neurons of an animal, because neighbours on cortex look at neighbouring pixels.
    Parameters start random, from torch's generator.
    """

    def __init__(self, config: PositionNetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config or PositionNetworkConfig()
        widths = [2, *[self.config.hidden_features] * self.config.hidden_layers, 2]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        if self.config.hidden_layers == 0:
            affine = self.layers[0]
            assert isinstance(affine, nn.Linear)
            nn.init.orthogonal_(affine.weight, gain=self.config.init_scale)
            nn.init.zeros_(affine.bias)

    def forward(self, cortex: Tensor) -> Tensor:
        """(U, 2) normalised cortical positions to (U, 2) positions on the feature map."""
        x = cortex
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else F.elu(x))
        return torch.tanh(x) if self.config.final_tanh else x


def normalise_cortex(positions: Tensor) -> Tensor:
    """Cortical positions without unit or origin, as the authors normalise them.

    Args:
        positions: (U, 2) or (U, 3), any unit of length; the first two columns are used.

    Returns:
        (U, 2) float32, centred on the mean neuron, the largest absolute coordinate 1.
    """
    plane = positions[:, :2].double()
    plane = plane - plane.mean(dim=0)
    return (plane / plane.abs().max().clamp_min(torch.finfo(torch.float64).tiny)).float()


class FreePositions(nn.Module):
    """One position per neuron, learned from responses alone ("no cortex").

    Args:
        units: number of neurons U.
        init_range: positions start uniformly within +- this.
    """

    def __init__(self, units: int, *, init_range: float = 0.3) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.empty(units, 2).uniform_(-init_range, init_range))

    def forward(self) -> Tensor:
        """(U, 2) positions, (x, y)."""
        return self.mu


class CortexPositions(nn.Module):
    """Positions predicted from cortex by a network that all neurons share.

    Args:
        cortex: (U, 2) normalised cortical positions, see ``normalise_cortex``.
        network: the position network.
    """

    cortex: Tensor

    def __init__(self, cortex: Tensor, network: PositionNetwork) -> None:
        super().__init__()
        if cortex.ndim != 2 or cortex.shape[1] != 2:
            raise ValueError(f"cortex: expected (U, 2), got {tuple(cortex.shape)}")
        self.register_buffer("cortex", cortex.float())
        self.network = network

    def forward(self) -> Tensor:
        """(U, 2) positions, (x, y)."""
        out: Tensor = self.network(self.cortex)
        return out


class FeatureWeights(nn.Module):
    """One vector of feature weights per neuron.

    Args:
        units: number of neurons U.
        channels: number of features C.
    """

    def __init__(self, units: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((units, channels), 1.0 / channels))

    def forward(self) -> Tensor:
        """(U, C) weights."""
        return self.weight


class SharedFeatureWeights(nn.Module):
    """Feature weights shared by recordings of the same neurons, with a scale per scan and neuron.

    Several readouts (one per scan) take the same ``bank``; which row a neuron of the scan uses is
    ``match_index``. The scale takes up what differs between days, as does the readout's own bias.

    Args:
        bank: weights of the matched neurons, (M, C).
        match_index: (U,) whole numbers below M.
    """

    match_index: Tensor

    def __init__(self, bank: FeatureWeights, match_index: Tensor) -> None:
        super().__init__()
        rows = bank.weight.shape[0]
        if match_index.ndim != 1 or match_index.is_floating_point():
            raise ValueError(f"match_index: expected (U,) whole numbers, got {tuple(match_index.shape)}")
        if match_index.numel() and not (int(match_index.min()) >= 0 and int(match_index.max()) < rows):
            raise ValueError(f"match_index: expected values from 0 to {rows - 1}")
        self.bank = bank
        self.register_buffer("match_index", match_index.long())
        self.scale = nn.Parameter(torch.ones(match_index.shape[0]))

    def forward(self) -> Tensor:
        """(U, C) weights."""
        shared: Tensor = self.bank()
        return self.scale[:, None] * shared[self.match_index]


class Readout(Protocol):
    """What prediction and scoring ask of a readout: (N, C, H, W) features in, rates (N, U) out.

    ``GaussianReadout`` is the one that fits give and that can be saved; ``training.networks`` has others.
    """

    units: int
    channels: int

    def __call__(self, features: Tensor) -> Tensor:
        """Rates, (N, U)."""

    def drive(self, features: Tensor) -> Tensor:
        """What goes into the output nonlinearity, (N, U)."""

    def mu(self) -> Tensor:
        """(U, 2) positions (x, y) on the map where neurons look, from -1 to 1."""


class GaussianReadout(nn.Module):
    """Rates of U neurons from a feature map.

    Args:
        positions: gives (U, 2) mean positions: ``FreePositions`` or ``CortexPositions``.
        weights: gives (U, C) feature weights: ``FeatureWeights`` or ``SharedFeatureWeights``.
        init_sigma: entries of each neuron's 2x2 sampling map start uniformly within +- this.

    Attributes:
        sigma: (U, 2, 2); a position is drawn as mu + sigma @ standard normal, so the covariance of
            a neuron's Gaussian is sigma @ sigma.T.
        bias: (U,).

    Example:
        >>> readout = GaussianReadout(FreePositions(5), FeatureWeights(5, 64)).eval()
        >>> readout(torch.zeros(3, 64, 22, 50)).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        positions: FreePositions | CortexPositions,
        weights: FeatureWeights | SharedFeatureWeights,
        *,
        init_sigma: float = 0.1,
    ) -> None:
        super().__init__()
        self.positions = positions
        self.weights = weights
        with torch.no_grad():
            units, self.channels = weights().shape
            located = positions().shape[0]
        if located != units:
            raise ValueError(f"positions: expected {units} neurons as in weights, got {located}")
        self.units = units
        self.sigma = nn.Parameter(torch.empty(units, 2, 2).uniform_(-init_sigma, init_sigma))
        self.bias = nn.Parameter(torch.zeros(units))

    def mu(self) -> Tensor:
        """(U, 2) mean positions (x, y), kept within the feature map (-1..1)."""
        out: Tensor = self.positions()
        return out.clamp(-1.0, 1.0)

    def sample_positions(self, images: int, *, generator: torch.Generator | None = None) -> Tensor:
        """One position per image and neuron, (N, U, 2), drawn from each neuron's Gaussian."""
        noise = torch.randn(
            images, self.units, 2, device=self.sigma.device, dtype=self.sigma.dtype, generator=generator
        )
        # Only the drawn position is held on the map: a mean beyond its edge keeps its gradient.
        mean: Tensor = self.positions()
        drawn = torch.einsum("uij,nuj->nui", self.sigma, noise) + mean
        return drawn.clamp(-1.0, 1.0)

    def drive(
        self, features: Tensor, *, generator: torch.Generator | None = None, mu: Tensor | None = None
    ) -> Tensor:
        """W . f(position) + b before the output nonlinearity, (N, U).

        Args:
            features: (N, C, H, W) from the core.
            generator: source of the sampled positions in training mode; torch's own by default.
            mu: (U, 2) positions on the features, if these are a part of the map; see ``region_around``.
        """
        if features.ndim != 4 or features.shape[1] != self.channels:
            raise ValueError(
                f"features: expected (N, {self.channels}, H, W), got {tuple(features.shape)}; "
                "a readout fits only the core that it was made for"
            )
        if self.training:
            weights: Tensor = self.weights()
            grid = self.sample_positions(features.shape[0], generator=generator)
            return (sample_per_image(features, grid) * weights).sum(dim=2) + self.bias
        return self.drive_at(features, self.mu() if mu is None else mu)

    def drive_at(self, features: Tensor, mu: Tensor) -> Tensor:
        """``drive`` at the mean positions mu (U, 2) on the features, whatever the mode."""
        return weigh_at(features, mu, self.weights()) + self.bias

    def forward(self, features: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Rates, (N, U), positive, in units of each neuron's response scale. See ``drive``."""
        return rate_from_drive(self.drive(features, generator=generator))

    def feature_l1(self) -> Tensor:
        """Sum of the absolute feature weights: the readout's regulariser in the paper."""
        weights: Tensor = self.weights()
        return weights.abs().sum()

    @torch.no_grad()
    def project_(self) -> None:
        """Move free positions back onto the feature map; a training step of its own."""
        if isinstance(self.positions, FreePositions):
            self.positions.mu.clamp_(-1.0, 1.0)

    def n_parameters(self) -> int:
        """Trainable numbers in this readout, as in the paper's Table 1.

        U * (C + 7) with free positions; U * (C + 5) plus the position network with cortex. With
        feature sharing the bank counts C for each of its neurons, and each unit adds a scale.
        """
        return sum(parameter.numel() for parameter in self.parameters())

    def n_parameters_per_unit(self) -> int:
        """The same without what neurons share: C + 7 with free positions, C + 5 with cortex."""
        own = [self.sigma, self.bias]
        if isinstance(self.positions, FreePositions):
            own.append(self.positions.mu)
        own.append(self.weights.weight if isinstance(self.weights, FeatureWeights) else self.weights.scale)
        return sum(math.prod(parameter.shape[1:]) for parameter in own)

    def extra_repr(self) -> str:
        """Sizes, for ``print(readout)``."""
        return f"units={self.units}, channels={self.channels}"


def as_gaussian(readout: Readout, purpose: str) -> GaussianReadout:
    """``readout`` itself if it is Gaussian; ``TypeError`` for what needs one position and weights there.

    Args:
        readout: of a model.
        purpose: what needs it, to begin the message with.
    """
    if isinstance(readout, GaussianReadout):
        return readout
    raise TypeError(
        f"{purpose}: expected a model with a GaussianReadout, got one with a {type(readout).__name__}; fit one on "
        "the model's core with mousev1.fit_readout"
    )


def rate_from_drive(drive: Tensor) -> Tensor:
    """ELU + 1: e^z below zero, z + 1 above; positive and convex in the Poisson loss."""
    return F.elu(drive) + 1.0
