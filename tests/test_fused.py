"""The fused core computes what the core computes."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import replace

import pytest
import torch

from mousev1.core.crop import Region
from mousev1.core.inference import CPU_IMAGES_AT_A_TIME, fuse
from mousev1.core.network import Core, CoreConfig, InputContract

SMALL = CoreConfig(
    hidden_channels=8, layers=3, input_kernel=5, hidden_kernel=3, input=InputContract(mean=113.0, std=60.0)
)


def lived_in(config: CoreConfig) -> Core:
    """A random core whose batch norms have scales, shifts and statistics worth folding."""
    core = Core.random(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    for module in core.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
            module.weight.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
            module.bias.copy_(torch.randn(module.num_features, generator=generator))
    return core


def pictures(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (n, 1, 12, 15), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("n", [1, CPU_IMAGES_AT_A_TIME, CPU_IMAGES_AT_A_TIME + 3])
def test_features_are_those_of_the_core(n: int) -> None:
    core = lived_in(SMALL)
    expected = core(pictures(n).float())  # oracle: the core itself
    got = fuse(core)(pictures(n))
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < 1e-4 * expected.abs().max().clamp_min(1.0)


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("channels", [8, 16])
def test_a_part_of_the_map_is_the_part_of_the_whole(layers: int, channels: int) -> None:
    config = replace(SMALL, layers=layers, hidden_channels=channels, hidden_kernel=5)
    core, images = lived_in(config), pictures(3)
    expected, fused = core(images.float()), fuse(core)  # oracle: the core itself
    height, width = expected.shape[2:]
    for top, bottom in itertools.combinations(range(height + 1), 2):
        for left, right in [(0, width), (0, 1), (2, 6), (5, width), (width - 1, width)]:
            region = Region(top, bottom, left, right)
            got = fused(images, region)
            assert got.shape[2:] == (region.height, region.width)
            assert (got - region.of(expected)).abs().max() < 1e-4


def test_channels_come_last_in_memory() -> None:
    assert fuse(lived_in(SMALL))(pictures(2)).permute(0, 2, 3, 1).is_contiguous()


def test_a_region_beyond_the_map_is_refused() -> None:
    with pytest.raises(ValueError, match="region: expected a part of the 8 x 11"):
        fuse(lived_in(SMALL))(pictures(1), Region(0, 9, 0, 2))
    with pytest.raises(ValueError, match="region: expected 0 <= top < bottom"):
        Region(3, 3, 0, 2)


def test_the_published_core_keeps_its_features_to_1e_5(shared) -> None:
    from mousev1.hub.checkpoint_import import import_checkpoint

    core = import_checkpoint(shared("weights/lurz_11s_core.pt"))
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (5, 1, 36, 64), generator=generator)
    assert (fuse(core)(images) - core(images.float())).abs().max() < 1e-5


CHANNELS = pytest.mark.parametrize("channels", [8, 16])  # 8 are padded in the layout of some processors


@CHANNELS
def test_features_are_those_of_the_core_with_and_without_padded_channels(channels: int) -> None:
    core = lived_in(replace(SMALL, hidden_channels=channels))
    expected = core(pictures(5).float())  # oracle: the core itself
    assert (fuse(core)(pictures(5)) - expected).abs().max() < 1e-4


@CHANNELS
def test_large_values_stay_finite(channels: int) -> None:
    core = lived_in(replace(SMALL, hidden_channels=channels))
    with torch.no_grad():
        core.layers[0].conv.weight.mul_(1e5)  # far beyond what an exponential holds
    expected = core(pictures(3).float())
    got = fuse(core)(pictures(3))
    assert expected.abs().max() > 1e3
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-2)


@CHANNELS
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_not_hidden(channels: int, value: float) -> None:
    core = lived_in(replace(SMALL, hidden_channels=channels))
    images = pictures(3).float()
    images[1, 0, 5, 5] = value
    got = fuse(core)(images)
    assert torch.equal(got.isfinite().flatten(1).all(dim=1), torch.tensor([True, False, True]))


def test_one_layer_is_enough() -> None:
    core = lived_in(replace(SMALL, layers=1, hidden_channels=16))
    assert (fuse(core)(pictures(3)) - core(pictures(3).float())).abs().max() < 1e-5


def test_processors_without_onednn_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    core = lived_in(SMALL)
    expected = fuse(core)(pictures(3))
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    fused = fuse(core)
    assert not fused.uses_onednn
    assert (fused(pictures(3)) - expected).abs().max() < 1e-5


def test_the_core_stays_as_it_was() -> None:
    core = lived_in(SMALL)
    before = core.content_hash()
    fuse(core)(pictures(3))
    assert core.content_hash() == before


def test_copies_and_pickles_work_after_use() -> None:
    fused = fuse(lived_in(SMALL))
    expected = fused(pictures(2))
    assert torch.equal(copy.deepcopy(fused)(pictures(2)), expected)
    assert torch.equal(pickle.loads(pickle.dumps(fused))(pictures(2)), expected)


def test_reduced_precision_is_close_and_opt_in() -> None:
    core = lived_in(SMALL)
    expected = core(pictures(4).float())
    got = fuse(core, dtype=torch.bfloat16)(pictures(4))
    assert got.dtype == torch.bfloat16
    error = (got.float() - expected).square().mean().sqrt() / expected.std()
    assert 1e-6 < error < 0.05


def test_a_core_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"core\.eval\(\)"):
        fuse(Core(SMALL))
