"""The convolutions of a frozen core with gradients for their input alone, in the order that is quick on processors.

torch's own gradients serve training: they are slow where a kernel has many output channels and one input
channel, and for depthwise kernels. Both are convolutions again, and as such several times as fast. Times in
comments are per patch of the 11-S core, 22 x 38 features, on one thread of a Zen 5 server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FEW_PIXELS = 3
"""A transposed convolution does a third of the multiplications per second of one that keeps the size."""


def first_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution without padding: (B, C_in, H, W) to (B, C, h, w), channels last in memory."""
    out: Tensor = _FirstConvolution.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution with weights (C', C, 1, 1); the gradient has the memory layout of ``x``."""
    out: Tensor = _Pointwise.apply(x, weight[:, :, 0, 0], bias)  # type: ignore[no-untyped-call]
    return out


def depthwise_at(
    x: Tensor, weight: Tensor, starts: Sequence[Sequence[int]], height: int, width: int
) -> Tensor:
    """A region of a depthwise convolution that keeps the size of the map, another one for each sample.

    Args:
        x: (B, C, H, W), zero beyond its border.
        weight: (C, 1, k, k), k odd.
        starts: B pairs, first row and column of the region of the result, which lies within the map.
        height: rows of the regions.
        width: columns of the regions.

    Returns:
        (B, C, height, width).
    """
    out: Tensor = _DepthwiseAt.apply(x, weight, starts, height, width)  # type: ignore[no-untyped-call]
    return out


class _FirstConvolution(torch.autograd.Function):
    """The gradient of pixel (y, x) sums weight[c, dy, dx] g[c, y - dy, x - dx] over channels and kernel.

    Over c and dy this is a convolution with k output channels, one per dx, and the sum over dx adds up
    shifted maps: 0.27 ms, against 3.5 ms for torch's own and 0.8 ms for a matrix product and ``fold``.
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


class _Pointwise(torch.autograd.Function):
    """A matrix product on either side, so that no layout has to be converted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.channels_last = x.is_contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x.shape
        if ctx.channels_last:
            pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels).transpose(1, 2)
        else:
            pixels = x.flatten(2)
        matrices = weight.expand(batch, -1, -1)
        out = torch.bmm(matrices, pixels) if bias is None else torch.baddbmm(bias[:, None], matrices, pixels)
        return out.view(batch, -1, height, width)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        (gradient,) = gradients
        batch, _, height, width = gradient.shape
        flat = gradient.flatten(2)
        if ctx.channels_last:
            pixels = torch.matmul(flat.transpose(1, 2), weight)
            return pixels.view(batch, height, width, -1).permute(0, 3, 1, 2), None, None
        return torch.matmul(weight.T, flat).view(batch, -1, height, width), None, None


class _DepthwiseAt(torch.autograd.Function):
    """Forward on the pixels that the regions need.

    Backward is a convolution of the same size where regions are much of the map (0.22 ms, against 0.3 ms for a
    transposed one), and a transposed one where they are a few pixels of it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, starts: Sequence[Sequence[int]], height: int, width: int
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.starts = x.shape, starts
        margin = weight.shape[-1] // 2
        padded = F.pad(x, [margin] * 4)  # starts are those of the margin there
        needed = cut_regions(padded, starts, height + 2 * margin, width + 2 * margin)
        return F.conv2d(needed, weight, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight,) = ctx.saved_tensors
        (gradient,) = gradients
        margin, channels = weight.shape[-1] // 2, weight.shape[0]
        (height, width), (rows, columns) = gradient.shape[2:], ctx.shape[2:]
        if FEW_PIXELS * height * width < rows * columns:
            spread = F.conv_transpose2d(gradient, weight, groups=channels)
            padded = add_regions(
                spread, ctx.starts, (*ctx.shape[:2], rows + 2 * margin, columns + 2 * margin)
            )
            out = padded[:, :, margin : margin + rows, margin : margin + columns]
        else:
            out = add_regions(gradient, ctx.starts, ctx.shape)
            out = F.conv2d(out, weight.flip(2, 3), padding=margin, groups=channels)
        return out, None, None, None, None


def cut_regions(x: Tensor, starts: Sequence[Sequence[int]], height: int, width: int) -> Tensor:
    """One region per sample: (B or 1, C, H, W) and B pairs (row, column) to (B, C, height, width)."""
    out = x.new_empty(len(starts), x.shape[1], height, width)
    for i, (row, column) in enumerate(starts):
        out[i] = x[min(i, len(x) - 1), :, row : row + height, column : column + width]
    return out


def add_regions(regions: Tensor, starts: Sequence[Sequence[int]], shape: Sequence[int]) -> Tensor:
    """The transpose of ``cut_regions``: zeros of a shape (B or 1, C, H, W) with the regions added to them."""
    out = regions.new_zeros(*shape)
    height, width = regions.shape[2:]
    for i, (row, column) in enumerate(starts):
        out[min(i, len(out) - 1), :, row : row + height, column : column + width] += regions[i]
    return out
