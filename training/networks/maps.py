"""What readouts with a weight at every place of the feature map have in common."""

from __future__ import annotations

import torch
from torch import Tensor


def check_features(features: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless ``features`` are (N, *shape)."""
    if features.ndim != 4 or tuple(features.shape[1:]) != shape:
        expected = ", ".join(map(str, shape))
        raise ValueError(
            f"features: expected (N, {expected}), got {tuple(features.shape)}; this readout has a weight for every "
            "place of the map, so it fits only the core and the size of images that it was made for"
        )


@torch.no_grad()
def centre_of_mass(mass: Tensor) -> Tensor:
    """Where non-negative (U, H, W) maps have their weight, (U, 2) as (x, y) from -1 to 1; 0 for empty maps."""
    _, height, width = mass.shape
    x = torch.linspace(-1.0, 1.0, width, device=mass.device)
    y = torch.linspace(-1.0, 1.0, height, device=mass.device)
    total = mass.sum(dim=(1, 2)).clamp_min(torch.finfo(mass.dtype).tiny)
    return torch.stack([mass.sum(dim=1) @ x, mass.sum(dim=2) @ y], dim=1) / total[:, None]
