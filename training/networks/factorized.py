"""The factorized readout: where a neuron looks, as a mask over the whole map, times what it weighs there.

Klindt et al. 2017, "Neural system identification for large populations separating 'what' and 'where'",
NeurIPS. With features f, a mask m over positions that has unit L2 norm and no negative entry, and feature
weights w, a neuron's rate is

    ELU(sum_c w_c sum_xy m_xy f_cxy + b) + 1.

Normalisation and initialisation are those of neuralpredictors' ``SpatialXFeatureLinear``, with which Lurz
et al. 2021 compare the Gaussian readout. The penalty, too, is meant to be the same, but for more than one
neuron version 0.3.0 multiplies the sums over all neurons instead of each neuron's own norms (a tensor of
shape (U, 1) times one of shape (U,)); weights of the penalty cannot be carried over. It also lets masks
become negative as long as they are trained; here they are projected after every step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mousev1.readout.gaussian import FeatureWeights, SharedFeatureWeights
from training.networks.maps import MapReadout, centre_of_mass, check_features

INIT_NOISE = 1e-3
NORM_OFFSET = 1e-6


class FactorizedReadout(MapReadout):
    """Rates of U neurons from a feature map of one size; masks (U, H, W) start random, from torch's generator.

    Example:
        >>> readout = FactorizedReadout(FeatureWeights(5, 64), 22, 50)
        >>> readout(torch.zeros(3, 64, 22, 50)).shape
        torch.Size([3, 5])
    """

    def __init__(self, weights: FeatureWeights | SharedFeatureWeights, height: int, width: int) -> None:
        super().__init__()
        self.weights = weights
        with torch.no_grad():
            self.units, self.channels = weights().shape
        self.mask = nn.Parameter(torch.empty(self.units, height, width).normal_(0.0, INIT_NOISE).abs_())
        self.bias = nn.Parameter(torch.zeros(self.units))

    def normalised_mask(self) -> Tensor:
        """(U, H, W) masks of unit L2 norm."""
        # vector_norm has a gradient of 0, not NaN, where a whole mask is 0.
        norm: Tensor = torch.linalg.vector_norm(self.mask, dim=(1, 2), keepdim=True)
        return self.mask / (norm + NORM_OFFSET)

    def drive(self, features: Tensor) -> Tensor:
        """What goes into the output nonlinearity, (N, U), from (N, C, H, W) features."""
        check_features(features, (self.channels, *self.mask.shape[1:]))
        masked = features.flatten(2) @ self.normalised_mask().flatten(1).T  # (N, C, U)
        weights: Tensor = self.weights()
        return (masked * weights.T).sum(dim=1) + self.bias

    def feature_l1(self) -> Tensor:
        """Penalty: L1 norm of every neuron's mask times that of its feature weights, summed over neurons.

        That is the L1 norm of the weights m_xy w_c of the whole map, hence of mask and features alike.
        """
        mask, weights = self.l1_norms()
        return (mask * weights).sum()

    def l1_norms(self) -> tuple[Tensor, Tensor]:
        """L1 norms of each neuron's normalised mask and of its feature weights, (U,) and (U,)."""
        weights: Tensor = self.weights()
        return self.normalised_mask().abs().sum(dim=(1, 2)), weights.abs().sum(dim=1)

    @torch.no_grad()
    def project_(self) -> None:
        """Set negative entries of the masks to 0; a training step of its own."""
        self.mask.clamp_(min=0.0)

    def mu(self) -> Tensor:
        """(U, 2) centres of mass (x, y) of the masks, from -1 to 1 over the map."""
        return centre_of_mass(self.mask)

    def extra_repr(self) -> str:
        """Sizes, for ``print(readout)``."""
        return f"units={self.units}, channels={self.channels}, map={tuple(self.mask.shape[1:])}"


def start_small(weights: FeatureWeights | SharedFeatureWeights) -> None:
    """Start feature weights as small random numbers, as the authors' library does, instead of all equal."""
    bank = weights if isinstance(weights, FeatureWeights) else weights.bank
    nn.init.normal_(bank.weight, std=INIT_NOISE)
