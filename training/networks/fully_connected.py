"""The fully connected readout: one weight per neuron, channel and position of the feature map.

The most general linear readout, and the largest: U * C * H * W weights, 70,400 per neuron on the 11-S
core. It is here to be compared with at small sizes (Lurz et al. 2021, section 2.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.maps import MapReadout, centre_of_mass, check_features

INIT_NOISE = 1e-3


class FullyConnectedReadout(MapReadout):
    """Rates of U neurons from a feature map of one size, with weights (U, C, H, W) that start as small random numbers.

    Example:
        >>> readout = FullyConnectedReadout(5, 8, 6, 7)
        >>> readout(torch.zeros(3, 8, 6, 7)).shape
        torch.Size([3, 5])
    """

    def __init__(self, units: int, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.units, self.channels = units, channels
        self.weight = nn.Parameter(torch.empty(units, channels, height, width).normal_(0.0, INIT_NOISE))
        self.bias = nn.Parameter(torch.zeros(units))

    def drive(self, features: Tensor) -> Tensor:
        """What goes into the output nonlinearity, (N, U), from (N, C, H, W) features."""
        check_features(features, tuple(self.weight.shape[1:]))
        return F.linear(features.flatten(1), self.weight.flatten(1), self.bias)

    def feature_l1(self) -> Tensor:
        """Penalty: sum of all absolute weights."""
        return self.weight.abs().sum()

    def mu(self) -> Tensor:
        """(U, 2) centres of mass (x, y) of the absolute weights, from -1 to 1 over the map."""
        return centre_of_mass(self.weight.abs().sum(dim=1))

    def extra_repr(self) -> str:
        """Sizes, for ``print(readout)``."""
        return f"units={self.units}, weights={tuple(self.weight.shape[1:])}"
