"""The fast layers against torch's own: same sums, another order."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mousev1.core.network import Core, CoreConfig
from mousev1.readout.interpolation import sample_per_image
from training.pretraining.fast_convolutions import DepthwiseConvolution, speed_up_training


def relative_error(got, expected):
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("size", "side"), [((3, 5, 9, 12), 3), ((2, 4, 7, 6), 5), ((1, 2, 5, 4), 7)])
def test_the_depthwise_gradients_equal_torchs_in_double_precision(size, side):
    torch.manual_seed(0)
    x = torch.randn(size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(size[1], 1, side, side, dtype=torch.float64, requires_grad=True)
    back = torch.randn(size, dtype=torch.float64)
    fast = DepthwiseConvolution.apply(x, weight)
    plain = F.conv2d(x, weight, padding=side // 2, groups=size[1])
    assert torch.equal(fast, plain)
    for got, expected in zip(
        torch.autograd.grad(fast, (x, weight), back),
        torch.autograd.grad(plain, (x, weight), back),
        strict=True,
    ):
        assert relative_error(got, expected) < 1e-12


def test_a_sped_up_core_has_the_same_parameters_features_and_gradients():
    plain = Core.random(CoreConfig(hidden_channels=8, hidden_kernel=5), seed=1).thawed_copy().train()
    fast = speed_up_training(
        Core.random(CoreConfig(hidden_channels=8, hidden_kernel=5), seed=1).thawed_copy().train()
    )
    assert list(fast.state_dict()) == list(plain.state_dict())
    assert fast.content_hash() == plain.content_hash()
    images = torch.rand(6, 1, 36, 64, generator=torch.Generator().manual_seed(0)) * 255
    for core in (plain, fast):
        core(images).square().sum().backward()
    for (name, a), b in zip(fast.named_parameters(), plain.parameters(), strict=True):
        assert relative_error(a.grad, b.grad) < 1e-4, name
    for (name, a), b in zip(fast.named_buffers(), plain.buffers(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5), name


def test_sampling_per_image_equals_torchs_grid_sample_with_both_gradients():
    torch.manual_seed(0)
    features = torch.randn(4, 3, 6, 9, dtype=torch.float64, requires_grad=True)
    positions = (torch.rand(4, 11, 2, dtype=torch.float64) * 2 - 1).requires_grad_()
    back = torch.randn(4, 11, 3, dtype=torch.float64)
    ours = sample_per_image(features, positions)
    torchs = F.grid_sample(features, positions[:, :, None], align_corners=True)[..., 0].transpose(1, 2)
    assert torch.allclose(ours, torchs, atol=1e-12)
    for got, expected in zip(
        torch.autograd.grad(ours, (features, positions), back),
        torch.autograd.grad(torchs, (features, positions), back),
        strict=True,
    ):
        assert relative_error(got, expected) < 1e-12


def test_sampling_at_the_corners_gives_the_corner_pixels():
    features = torch.arange(12.0).reshape(1, 1, 3, 4)
    corners = torch.tensor([[[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]])
    assert sample_per_image(features, corners).flatten().tolist() == [0.0, 3.0, 8.0, 11.0]
