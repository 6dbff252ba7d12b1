"""Features at positions on the feature map, interpolated bilinearly."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mousev1.core.crop import Region


def bilinear_corners(mu: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The four pixels around each position and their weights.

    Args:
        mu: (U, 2) positions (x, y) from -1 to 1; beyond that they are held at the border.
        height: rows of the feature map.
        width: columns of the feature map.

    Returns:
        Flat indices into the H*W pixels, (U, 4), and weights that sum to one, (U, 4).
    """
    extent = mu.new_tensor([width - 1, height - 1])
    pixel = (mu.clamp(-1.0, 1.0) + 1.0) / 2.0 * extent
    low = torch.minimum(pixel.floor(), (extent - 1.0).clamp_min(0.0))
    fraction = pixel - low
    x0, y0 = low.long().unbind(dim=1)
    x1, y1 = (x0 + 1).clamp_max(width - 1), (y0 + 1).clamp_max(height - 1)
    fx, fy = fraction.unbind(dim=1)
    index = torch.stack([y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1], dim=1)
    weight = torch.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], dim=1)
    return index, weight


def region_around(mu: Tensor, height: int, width: int) -> tuple[Region, Tensor]:
    """The part of a feature map that some positions are read from, and these positions on it.

    Args:
        mu: (U, 2) positions (x, y) from -1 to 1 on the whole map.
        height: rows of the whole map.
        width: columns of the whole map.

    Returns:
        The region, and (U, 2) positions from -1 to 1 on the region.
    """
    corners, _ = bilinear_corners(mu, height, width)
    rows, columns = corners // width, corners % width
    region = Region(int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)
    # On the processor: some devices have no double precision, and a pixel must not round into its neighbour.
    position = mu.detach().cpu().double().clamp(-1.0, 1.0)
    extent = position.new_tensor([width - 1, height - 1])
    pixel = (position + 1.0) / 2.0 * extent - position.new_tensor([region.left, region.top])
    part = position.new_tensor([region.width - 1, region.height - 1]).clamp_min(1.0)
    return region, (pixel / part * 2.0 - 1.0).to(mu)


def sample_per_image(features: Tensor, positions: Tensor) -> Tensor:
    """Features at positions of each image's own, interpolated bilinearly; differentiable in both.

    Args:
        features: (N, C, H, W).
        positions: (N, U, 2) positions (x, y) from -1 to 1.

    Returns:
        (N, U, C).
    """
    n, channels, height, width = features.shape
    if features.device.type != "cpu":
        return F.grid_sample(features, positions[:, :, None], align_corners=True)[..., 0].transpose(1, 2)
    # On processors torch's grid_sample reads channel by channel, which misses the cache at nearly every
    # read: with 1,000 neurons, forward and backward take 5 times as long as sums of four whole rows.
    corner, weight = bilinear_corners(positions.reshape(-1, 2), height, width)
    first_pixel = torch.arange(n).repeat_interleave(positions.shape[1]) * (height * width)
    by_pixel = features.permute(0, 2, 3, 1).reshape(-1, channels)
    weight = weight.to(features.dtype)
    sampled = F.embedding_bag(corner + first_pixel[:, None], by_pixel, per_sample_weights=weight, mode="sum")
    return sampled.view(n, -1, channels)


def sample_at(features: Tensor, mu: Tensor) -> Tensor:
    """Features at one fixed position per neuron, interpolated bilinearly.

    Args:
        features: (N, C, H, W).
        mu: (U, 2) positions (x, y) from -1 to 1.

    Returns:
        (U, N, C).
    """
    n, channels, height, width = features.shape
    index, weight = bilinear_corners(mu, height, width)
    if n == 1 and features.requires_grad:
        # The gradient of one image comes back with strides that batch norm in evaluation mode mistakes for
        # another layout: with torch 2.13 it would be wrong everywhere below.
        features.register_hook(Tensor.contiguous)
    by_pixel = features.permute(2, 3, 0, 1).reshape(height * width, n * channels)
    sampled = F.embedding_bag(index, by_pixel, per_sample_weights=weight.to(features.dtype), mode="sum")
    return sampled.view(-1, n, channels)


def weigh_at(features: Tensor, mu: Tensor, weights: Tensor) -> Tensor:
    """Weighted features at one fixed position per neuron: w . f(mu) for every image.

    Neurons between the same four pixels share one matrix product, so that a feature is read once for all
    of them: 5,335 neurons take an eighth of the time of torch's grid_sample.

    Args:
        features: (N, C, H, W).
        mu: (U, 2) positions (x, y) from -1 to 1.
        weights: (U, C).

    Returns:
        (N, U).
    """
    height, width = features.shape[2:]
    corners, mixing = bilinear_corners(mu, height, width)
    # Only pixels that some neuron reads are put in order: for one patch of cortex, a tenth of them.
    pixels, rows = corners.unique(return_inverse=True)
    by_pixel = features.flatten(2)[:, :, pixels].transpose(1, 2).contiguous()  # (N, P, C)
    order = torch.argsort(rows[:, 0], stable=True)
    _, counts = torch.unique_consecutive(rows[order, 0], return_counts=True)
    spread = (mixing[order, :, None] * weights[order, None, :]).flatten(1)
    drives, start = [], 0
    for count in counts.tolist():
        patch = by_pixel[:, rows[order[start]]].flatten(1)
        drives.append(patch @ spread[start : start + count].T)
        start += count
    return torch.cat(drives, dim=1)[:, torch.argsort(order)]
