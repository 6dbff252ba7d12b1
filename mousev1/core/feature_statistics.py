"""What the training images look like to the core, small enough to travel with a model.

The features of all training images at all locations are described by their mean m and covariance S (C x C).
A feature vector f, at a location of some stimulus, is as far from them as

    distance(f) = sqrt((f - m)' S^-1 (f - m) / C),

the Mahalanobis distance per channel (Lee et al. 2018, NeurIPS, use it to find inputs unlike the training
set). Features are no Gaussians, so that the distance is judged by that of the training images themselves: by
its quantiles over locations, and, for a whole image, by the quantiles of its root mean square over
locations.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from mousev1.core.inference import fuse
from mousev1.core.network import Core
from mousev1.core.representation import FrozenCore
from mousev1.numerics.workers import workers

IMAGES = 128
"""Images that statistics are computed from; more change the quantiles by less than their scatter."""

LOCATIONS_AT_A_TIME = 32
"""Locations whose features are summed in one go, in the cache."""

LEVELS = 201
"""Quantiles kept: 0, 0.5, ... 100 percent."""

SMALLEST_VARIANCE = 1e-4
"""Directions of less variance than this, relative to the largest, count as having that much."""


@dataclass(frozen=True, eq=False)
class TrainingStatistics:
    """Distances of features from those of the training images.

    Attributes:
        mean: (C,) float32, mean of the features over images and locations.
        whitening: (C, C) float32, W with W W' = S^-1 / C: distance(f) = |(f - mean) W|.
        place_quantiles: (Q,) float32, distances at single locations, at evenly spaced quantiles from 0 to 1.
        image_quantiles: (Q,) float32, root mean square distances of whole images, likewise.
        gray: (2,) float32, mean gray value of the training images, and the mean over images of the standard
            deviation of their pixels.
    """

    mean: Tensor
    whitening: Tensor
    place_quantiles: Tensor
    image_quantiles: Tensor
    gray: Tensor

    def __post_init__(self) -> None:
        channels = len(self.mean) if self.mean.ndim == 1 else -1
        levels = len(self.place_quantiles) if self.place_quantiles.ndim == 1 else -1
        shapes = {
            "mean": (channels,),
            "whitening": (channels, channels),
            "place_quantiles": (levels,),
            "image_quantiles": (levels,),
            "gray": (2,),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value.shape != shape or value.dtype != torch.float32 or not bool(value.isfinite().all()):
                raise ValueError(
                    f"training statistics: {name}: expected finite float32 {shape}, got {value.dtype} "
                    f"{tuple(value.shape)}"
                )
        if levels < 2:
            raise ValueError(f"training statistics: expected at least two quantiles, got {levels}")

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, as it is stored."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def to(self, device: torch.device) -> TrainingStatistics:
        """The same on another device."""
        return TrainingStatistics(**{name: value.to(device) for name, value in self.tensors().items()})

    def whiten(self, features: Tensor) -> Tensor:
        """Feature maps (N, C, H, W) to maps of the same shape whose norm over channels is the distance."""
        maps = torch.einsum("ncp,cd->ndp", features.flatten(2), self.whitening)
        return (maps - (self.mean @ self.whitening)[:, None]).view(features.shape)

    def place_percentile(self, distance: Tensor) -> Tensor:
        """How many percent of the training images' locations are nearer, 0 to 100."""
        return _percentile(distance, self.place_quantiles)

    def image_percentile(self, distance: Tensor) -> Tensor:
        """How many percent of the training images are nearer, 0 to 100."""
        return _percentile(distance, self.image_quantiles)

    def limit(self, level: float, *, whole_image: bool = False) -> float:
        """The distance that ``level`` percent of the training images' locations (or images) stay below."""
        quantiles = self.image_quantiles if whole_image else self.place_quantiles
        return float(_quantiles(quantiles, torch.tensor([level / 100], device=quantiles.device))[0])


def has_training_statistics(core: FrozenCore) -> bool:
    """Whether models on this network hold statistics: only on a ``Core``, as the covariance of a network with many
    channels would be larger than the readout.
    """
    return isinstance(core, Core)


@torch.no_grad()
def training_statistics(core: FrozenCore, images: Tensor) -> TrainingStatistics:
    """Statistics of training images, from at most ``IMAGES`` of them, evenly spread.

    Args:
        core: frozen.
        images: (N, C_in, H, W), gray values in the core's value range, any real type.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images: expected at least one image as (N, C, H, W), got {tuple(images.shape)}")
    chosen = torch.linspace(0, len(images) - 1, min(len(images), IMAGES)).round().long()
    shown = images[chosen]
    features = fuse(core)(shown.to(core.device)).cpu()  # some devices have no double precision
    return statistics_of(features.flatten(2).permute(2, 0, 1), shown.cpu())


@torch.no_grad()
def statistics_of(
    features: Tensor, images: Tensor, *, mean: Tensor | None = None, std: Tensor | None = None
) -> TrainingStatistics:
    """Statistics of images whose features are known; all in main memory.

    Args:
        features: (P, n, C) of any precision, at all P locations.
        images: (n, C_in, H, W), gray values in the core's value range, any real type.
        mean: (C,) that was subtracted from the features; 0 by default.
        std: (C,) that they were divided by after that; 1 by default.
    """
    locations, count, size = features.shape
    parts = features.split(LOCATIONS_AT_A_TIME)
    # Sums of single precision over a part, around a value near the mean, of double precision over the parts.
    pivot = parts[0].float().mean(dim=(0, 1))
    total = torch.zeros(size, dtype=torch.float64)
    products = torch.zeros(size, size, dtype=torch.float64)

    def moments(part: Tensor) -> tuple[Tensor, Tensor]:
        away = (part.float() - pivot).flatten(0, 1)
        return away.sum(dim=0), away.T @ away

    with workers() as threads:
        for part_sum, part_products in threads.map(moments, parts):
            total += part_sum
            products += part_products
    total /= locations * count
    scale = torch.ones_like(total) if std is None else std.double()
    covariance = (products / (locations * count) - total[:, None] * total) * scale * scale[:, None]
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp_min(SMALLEST_VARIANCE * float(values[-1].clamp_min(1e-30)))
    whitening = vectors * (values * size).rsqrt()
    centre = pivot + total
    whiten = (scale[:, None] * whitening).float()
    offset = -(centre.float() @ whiten)

    def squared_distances(part: Tensor) -> Tensor:
        whitened = (part.float().flatten(0, 1) @ whiten).add_(offset)
        squared: Tensor = whitened.square_().sum(dim=1).view(-1, count)
        return squared

    with workers() as threads:
        distances = torch.cat(list(threads.map(squared_distances, parts)))
    gray = images.flatten(1).float()
    levels = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
    return TrainingStatistics(
        mean=(centre * scale + (0.0 if mean is None else mean)).float(),
        whitening=whitening.float(),
        place_quantiles=_quantiles(_sorted(distances.flatten().sqrt()), levels).float(),
        image_quantiles=_quantiles(_sorted(distances.mean(dim=0).sqrt()), levels).float(),
        gray=torch.stack([gray.mean(), gray.std(dim=1, correction=0).mean()]),
    )


def _sorted(values: Tensor) -> Tensor:
    """By numpy, whose sort takes a tenth of the time of torch's."""
    return torch.from_numpy(np.sort(values.numpy()))


def _quantiles(ordered: Tensor, levels: Tensor) -> Tensor:
    """Quantiles of sorted values (torch.quantile takes no more than 16 million)."""
    rank = levels * (len(ordered) - 1)
    low = rank.floor().long()
    high = (low + 1).clamp_max(len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], (rank - low).to(ordered.dtype))


def _percentile(values: Tensor, quantiles: Tensor) -> Tensor:
    """Percentile of values among quantiles, interpolated."""
    flat = values.flatten().contiguous()
    high = torch.searchsorted(quantiles, flat).clamp(1, len(quantiles) - 1)
    below, above = quantiles[high - 1], quantiles[high]
    fraction = ((flat - below) / (above - below).clamp_min(1e-30)).clamp(0.0, 1.0)
    return ((high - 1 + fraction) * (100.0 / (len(quantiles) - 1))).view(values.shape)
