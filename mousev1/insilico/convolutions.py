"""Steps of a frozen core with gradients for their input alone, where torch's own are slow on processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def first_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution without padding: (B, C_in, H, W) to (B, C, h, w), channels last in memory."""
    out: Tensor = _FirstConvolution.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def depthwise_at(
    x: Tensor, weight: Tensor, starts: Sequence[Sequence[int]], height: int, width: int
) -> Tensor:
    """A region (B, C, height, width) of a depthwise convolution that keeps the size of the map.

    Kernels (C, 1, k, k) are odd, and ``x`` (B, C, H, W) is zero beyond its border. ``starts`` are B pairs, first row
    and column of each sample's region, which lies within the map.
    """
    margin = weight.shape[-1] // 2
    padded = F.pad(x, [margin] * 4)  # starts are those of the margin there
    needed = cut_regions(padded, starts, height + 2 * margin, width + 2 * margin)
    return F.conv2d(needed, weight, groups=x.shape[1])


def cut_regions(x: Tensor, starts: Sequence[Sequence[int]], height: int, width: int) -> Tensor:
    """One region per sample: (B or 1, C, H, W) and B pairs (row, column) to (B, C, height, width)."""
    out: Tensor = _CutRegions.apply(x, starts, height, width)  # type: ignore[no-untyped-call]
    return out


class _FirstConvolution(torch.autograd.Function):
    """The gradient of pixel (y, x) sums weight[c, dy, dx] g[c, y - dy, x - dx] over channels and kernel.

    Over c and dy this is a convolution with k output channels, one per dx, and the sum over dx adds up
    shifted maps: per patch of 11-S 0.27 ms on one thread, against 3.5 ms for torch's own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.size = x.shape
        return F.conv2d(x, weight.contiguous(memory_format=torch.channels_last), bias).contiguous(
            memory_format=torch.channels_last
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        batch, inputs, height, width = ctx.size
        side = weight.shape[-1]
        # (C, C_in, dy, dx) to (C_in dx, C, dy, 1), rows upside down as in every transposed convolution
        by_column = weight.flip(2).permute(1, 3, 0, 2).reshape(inputs * side, weight.shape[0], side, 1)
        maps = F.conv2d(gradients[0], by_column, padding=(side - 1, 0))
        maps = maps.view(batch, inputs, side, height, width - side + 1)
        out = maps.new_zeros(batch, inputs, height, width)
        for shift in range(side):
            out[..., shift : shift + maps.shape[-1]] += maps[:, :, shift]
        return out, None, None


class _CutRegions(torch.autograd.Function):
    """Indexing would do the same, but its gradient is summed element by element, and that of slices allocates the
    whole input once per sample.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, starts: Sequence[Sequence[int]], height: int, width: int) -> Tensor:
        ctx.shape, ctx.starts = x.shape, starts
        out = x.new_empty(len(starts), x.shape[1], height, width)
        for i, (row, column) in enumerate(starts):
            out[i] = x[min(i, len(x) - 1), :, row : row + height, column : column + width]
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        out = gradients[0].new_zeros(ctx.shape)
        height, width = gradients[0].shape[2:]
        for i, (row, column) in enumerate(ctx.starts):
            region = out[min(i, len(out) - 1), :, row : row + height, column : column + width]
            region += gradients[0][i]
        return out, None, None, None
