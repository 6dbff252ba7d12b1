"""What readouts with a weight at every position of the feature map have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mousev1.readout.gaussian import rate_from_drive


class MapReadout(nn.Module):
    """Rates of U neurons from a feature map of one size."""

    def drive(self, features: Tensor) -> Tensor:
        """What goes into the output nonlinearity, (N, U), from (N, C, H, W) features."""
        raise NotImplementedError

    def forward(self, features: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Rates, (N, U), positive, in units of each neuron's response scale; nothing here is random."""
        return rate_from_drive(self.drive(features))

    def project_(self) -> None:
        """Bring weights back to what is allowed; here nothing, every weight is."""

    def n_parameters(self) -> int:
        """Trainable numbers; with sharing as for the Gaussian readout."""
        return sum(parameter.numel() for parameter in self.parameters())


def check_features(features: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless ``features`` are (N, *shape)."""
    if features.ndim != 4 or tuple(features.shape[1:]) != shape:
        expected = ", ".join(map(str, shape))
        raise ValueError(
            f"features: expected (N, {expected}), got {tuple(features.shape)}; this readout has a weight for every "
            "position of the map, so it fits only the core and the size of images that it was made for"
        )


@torch.no_grad()
def centre_of_mass(mass: Tensor) -> Tensor:
    """Where non-negative (U, H, W) maps have their weight, (U, 2) as (x, y) from -1 to 1; 0 for empty maps."""
    _, height, width = mass.shape
    x = torch.linspace(-1.0, 1.0, width, device=mass.device)
    y = torch.linspace(-1.0, 1.0, height, device=mass.device)
    total = mass.sum(dim=(1, 2)).clamp_min(torch.finfo(mass.dtype).tiny)
    return torch.stack([mass.sum(dim=1) @ x, mass.sum(dim=2) @ y], dim=1) / total[:, None]
