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

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousev1.core.inference import fuse
from mousev1.core.representation import as_core
from mousev1.insilico.convolutions import cut_regions, depthwise_at, first_convolution
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
        margin = config.hidden_kernel // 2
        self.fused = fuse(core)
        self.depth = config.layers
        with torch.no_grad():
            mu = readout.mu()
            self.register_buffer("weights", readout.weights().detach().clone())
            self.register_buffer("bias", readout.bias.detach().clone())
        index, corner = bilinear_corners(mu, rows, columns)
        # from the top layer down to the first: sizes and starts (U, 2) of the regions on the map
        extent = torch.tensor([rows, columns], device=index.device)
        corners = torch.stack([index[:, 0] // columns, index[:, 0] % columns], dim=1)
        sizes = [extent.clamp_max(2)]
        starts = [torch.minimum(corners, extent - sizes[0])]
        for _ in range(config.layers - 1):
            sizes.append(torch.minimum(extent, sizes[-1] + 2 * margin))
            starts.append(torch.minimum((starts[-1] - margin).clamp_min(0), extent - sizes[-1]))
        self.sizes, starts = [size.tolist() for size in sizes[::-1]], starts[::-1]
        self.register_buffer("origin", starts[0])
        # (layers - 1, U, 2) where each region starts in the one below
        steps = [above - below for below, above in pairwise(starts)]
        self.register_buffer("shift", torch.stack(steps) if steps else index.new_zeros(0, len(mu), 2))
        top, left = starts[-1].T[:, :, None]
        pixel = (index // columns - top) * self.sizes[-1][1] + index % columns - left
        weight = corner.new_zeros(len(mu), self.sizes[-1][0] * self.sizes[-1][1])
        self.register_buffer("corner", weight.scatter_add_(1, pixel, corner))
        self.patch_height = self.sizes[0][0] + config.input_kernel - 1
        self.patch_width = self.sizes[0][1] + config.input_kernel - 1

    def cut(self, images: Tensor, units: Tensor) -> Tensor:
        """Patches of whole images, one per neuron: (B, C_in, H, W) or (1, C_in, H, W) to (B, C_in, h, w)."""
        return cut_regions(images, self.origin[units].tolist(), self.patch_height, self.patch_width)

    def put(self, patches: Tensor, units: Tensor, whole: Tensor) -> Tensor:
        """Patches (B, C_in, h, w) put into copies of ``whole``, (C_in, H, W) or (B, C_in, H, W)."""
        out = whole.expand(len(patches), *whole.shape[-3:]).clone()
        for image, patch, (row, column) in zip(out, patches, self.origin[units].tolist(), strict=True):
            image[:, row : row + self.patch_height, column : column + self.patch_width] = patch
        return out

    def forward(self, patches: Tensor, units: Tensor) -> Tensor:
        """(B, C) features that the readouts of neurons (B,) weigh, each from its own patch (B, C_in, h, w)."""
        x = F.elu(first_convolution(patches, self._weight(0), self._bias(0)), inplace=True)
        for layer in range(self.depth - 1):
            stage = 1 + 3 * layer
            x = F.conv2d(x, self._weight(stage))
            starts = self.shift[layer, units].tolist()
            x = depthwise_at(x, self._weight(stage + 1), starts, *self.sizes[layer + 1])
            x = F.elu(F.conv2d(x, self._weight(stage + 2), self._bias(stage + 2)))
        sampled: Tensor = (x.flatten(2) * self.corner[units][:, None]).sum(dim=2)
        return sampled

    def drive(self, patches: Tensor, units: Tensor) -> Tensor:
        """W . f(mu) + b of each neuron at its own patch, (B,)."""
        features: Tensor = self(patches, units)
        return (features * self.weights[units]).sum(dim=1) + self.bias[units]

    def _weight(self, stage: int) -> Tensor:
        return self.fused.get_buffer(f"weight_{stage}")

    def _bias(self, stage: int) -> Tensor:
        return self.fused.get_buffer(f"bias_{stage}")
