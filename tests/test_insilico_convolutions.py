"""Gradients of a core's convolutions; the oracle is torch's own autograd in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mousev1.insilico.convolutions import depthwise_at, first_convolution


def random(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gradient(function, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Result, and gradient of a random sum of it."""
    x = x.clone().requires_grad_()
    out = function(x)
    return out.detach(), torch.autograd.grad((out * random(*out.shape)).sum(), x)[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_first_convolution_and_its_gradient_are_torchs(channels):
    x, weight, bias = random(2, channels, 11, 14), random(6, channels, 5, 5), random(6)
    out, slope = gradient(lambda x: first_convolution(x, weight, bias), x)
    expected, expected_slope = gradient(lambda x: F.conv2d(x, weight, bias), x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(slope, expected_slope)


@pytest.mark.parametrize(
    ("starts", "side"),
    [
        ([(0, 0), (2, 4), (1, 2), (0, 4)], 4),  # at the upper left, lower right, inside, upper right
        ([(1, 2)] * 4, 4),  # alike, with as many zeros before as behind: the convolution's own padding
        ([(0, 2)] * 4, 4),  # alike, with zeros on one side only
        ([(0, 0), (4, 6), (1, 2), (3, 1)], 2),  # few pixels of it
    ],
)
def test_a_depthwise_region_is_cut_from_the_whole_convolution_with_zeros_around_the_map(starts, side):
    x, weight = random(4, 3, 6, 8), random(3, 1, 5, 5)

    def whole(x: torch.Tensor) -> torch.Tensor:
        maps = F.conv2d(x, weight, padding=2, groups=3)
        regions = [m[:, r : r + side, c : c + side] for m, (r, c) in zip(maps, starts, strict=True)]
        return torch.stack(regions)

    out, slope = gradient(lambda x: depthwise_at(x, weight, starts, side, side), x)
    expected, expected_slope = gradient(whole, x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(slope, expected_slope)
