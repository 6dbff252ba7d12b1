"""The part of the image that a neuron can see, and only the arithmetic that reaches it.

A neuron reads four neighbouring features; four layers below lies a region of the image (52 of 64 columns for
11-S). When every neuron has images of its own (its gradient, its most exciting image, gratings at its own
position), the features anywhere else are never read, so they are not computed: less than half of the work of
the whole map. Results are those of the whole model, including the zero padding at the map's border.

Layer by layer upwards, regions shrink by the kernel's margin. They are kept inside the map (shifted, not
cut, so that all neurons of a batch have regions of one size), and what a kernel reaches beyond the map is zero,
as in the core.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousev1.core.inference import fuse
from mousev1.core.representation import as_core
from mousev1.insilico.convolutions import add_regions, cut_regions, depthwise_at, first_convolution, pointwise
from mousev1.model.response_model import ResponseModel
from mousev1.readout.gaussian import as_gaussian
from mousev1.readout.interpolation import bilinear_corners


class LocalView(nn.Module):
    """Each neuron's own features, from patches of the image that it sees; differentiable in the patches.

    Args:
        model: a fitted model of a ``Core`` with a Gaussian readout, which are copied.
        height: rows of the whole images.
        width: columns of the whole images.

    Attributes:
        patch_height, patch_width: size of a patch in pixels.
        origin: (U, 2) row and column of each neuron's patch in the image.
        weights: (U, C) feature weights.
        bias: (U,).
    """

    origin: Tensor
    weights: Tensor
    bias: Tensor
    corner: Tensor
    shift: Tensor

    def __init__(self, model: ResponseModel, *, height: int, width: int) -> None:
        super().__init__()
        core = as_core(model.core, "LocalView")
        readout, config = as_gaussian(model.readout, "LocalView"), core.config
        _, rows, columns = config.feature_shape(height, width)
        self.margin = config.hidden_kernel // 2
        fused = fuse(core)
        self.depth = config.layers
        for i in range(fused.n_stages):
            self.register_buffer(f"weight_{i}", fused.get_buffer(f"weight_{i}"))
            self.register_buffer(f"bias_{i}", fused.get_buffer(f"bias_{i}"))
        with torch.no_grad():
            mu = readout.mu()
            self.register_buffer("weights", readout.weights().detach().clone())
            self.register_buffer("bias", readout.bias.detach().clone())
        index, corner = bilinear_corners(mu, rows, columns)
        ends = [index[:, 0] // columns, index[:, 0] % columns]
        sides = [[min(2, extent)] for extent in (rows, columns)]
        starts = [
            [
                end.clamp_max(extent - min(2, extent))
                for end, extent in zip(ends, (rows, columns), strict=True)
            ]
        ]
        # from the top layer down to the first: sizes and starts (U,) of the regions on the map
        for _ in range(config.layers - 1):
            here = []
            for axis, extent in enumerate((rows, columns)):
                side = min(extent, sides[axis][-1] + 2 * self.margin)
                sides[axis].append(side)
                here.append((starts[-1][axis] - self.margin).clamp(0, extent - side))
            starts.append(here)
        self.sizes = list(zip(*sides, strict=True))[::-1]
        starts = starts[::-1]
        self.register_buffer("origin", torch.stack(starts[0], dim=1))
        # (layers - 1, U, 2) where each region starts in the one below
        steps = [
            torch.stack([up[axis] - down[axis] for axis in (0, 1)], dim=1) for down, up in pairwise(starts)
        ]
        self.register_buffer("shift", torch.stack(steps) if steps else index.new_zeros(0, len(mu), 2))
        top = torch.stack(starts[-1], dim=1)
        pixel = (index // columns - top[:, :1]) * self.sizes[-1][1] + index % columns - top[:, 1:]
        weight = corner.new_zeros(len(mu), self.sizes[-1][0] * self.sizes[-1][1])
        self.register_buffer("corner", weight.scatter_add_(1, pixel, corner))
        self.patch_height = self.sizes[0][0] + config.input_kernel - 1
        self.patch_width = self.sizes[0][1] + config.input_kernel - 1

    def cut(self, images: Tensor, units: Tensor) -> Tensor:
        """Patches of whole images, one per neuron: (B, C_in, H, W) or (1, C_in, H, W) to (B, C_in, h, w)."""
        size = (self.patch_height, self.patch_width)
        out: Tensor = _Cut.apply(images, self.origin[units], *size)  # type: ignore[no-untyped-call]
        return out

    def put(self, patches: Tensor, units: Tensor, whole: Tensor) -> Tensor:
        """Patches (B, C_in, h, w) put into copies of ``whole``, (C_in, H, W) or (B, C_in, H, W)."""
        out = whole.expand(len(patches), *whole.shape[-3:]).clone()
        for image, patch, (row, column) in zip(out, patches, self.origin[units].tolist(), strict=True):
            image[:, row : row + self.patch_height, column : column + self.patch_width] = patch
        return out

    def forward(self, patches: Tensor, units: Tensor) -> Tensor:
        """Features at each neuron's position, from one patch each.

        Args:
            patches: (B, C_in, h, w) gray values.
            units: (B,) index of the neuron that sees each patch.

        Returns:
            (B, C), the features that the readout weighs, with gradients.
        """
        x = F.elu(first_convolution(patches, self._weight(0), self._bias(0)), inplace=True)
        for layer in range(self.depth - 1):
            stage = 1 + 3 * layer
            x = pointwise(x, self._weight(stage))
            starts = self.shift[layer, units].tolist()
            x = depthwise_at(x, self._weight(stage + 1), starts, *self.sizes[layer + 1])
            x = F.elu(pointwise(x, self._weight(stage + 2), self._bias(stage + 2)))
        sampled: Tensor = (x.flatten(2) * self.corner[units][:, None]).sum(dim=2)
        return sampled

    def drive(self, patches: Tensor, units: Tensor) -> Tensor:
        """W . f(mu) + b of each neuron at its own patch, (B,)."""
        features: Tensor = self(patches, units)
        return (features * self.weights[units]).sum(dim=1) + self.bias[units]

    def _weight(self, stage: int) -> Tensor:
        return self.get_buffer(f"weight_{stage}")

    def _bias(self, stage: int) -> Tensor:
        return self.get_buffer(f"bias_{stage}")


class _Cut(torch.autograd.Function):
    """``cut_regions`` with gradients.

    Indexing would do the same, but its gradient is summed element by element, and that of slices
    allocates the whole input once per sample.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, starts: Tensor, height: int, width: int) -> Tensor:
        ctx.shape, ctx.starts = x.shape, starts.tolist()
        return cut_regions(x, ctx.starts, height, width)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return add_regions(gradients[0], ctx.starts, ctx.shape), None, None, None
