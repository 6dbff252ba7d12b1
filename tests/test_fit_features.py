"""The feature store holds what the core computes, whatever it is kept in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mousev1.core.crop import Region
from mousev1.core.inference import features_within, fuse
from mousev1.core.network import Core, CoreConfig
from mousev1.core.representation import Representation
from mousev1.fit import features as module
from mousev1.fit.features import compute_features, store_bytes
from mousev1.readout.standardisation import Standardisation

SMALL = CoreConfig(hidden_channels=6, layers=2, input_kernel=5, hidden_kernel=3)


def pictures(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 1, 10, 13), generator=generator, dtype=torch.uint8)


@pytest.fixture
def core() -> Core:
    return Core.random(SMALL, seed=0)


def test_blocks_are_standardised_features_position_by_position(core: Core) -> None:
    images = pictures(9)
    expected = core(images.float())
    with compute_features(core, images) as store:
        for row, column in [(0, 0), (2, 5), (5, 8)]:
            block = store.block(row * store.width + column).double()
            raw = block * store.standardisation.std + store.standardisation.mean
            # Oracle: the core; half precision rounds to 2^-11 of a value.
            tolerance = 2**-11 * block.abs().max() * store.standardisation.std + 1e-3
            assert ((raw - expected[:, :, row, column]).abs() <= tolerance).all()


def test_every_channel_has_mean_zero_and_unit_variance(core: Core) -> None:
    with compute_features(core, pictures(40)) as store:
        values = store.blocks(store.positions)
        assert values.mean(dim=(0, 1)).abs().max() < 1e-3
        assert (values.std(dim=(0, 1)) - 1).abs().max() < 1e-3


def test_disk_and_memory_hold_the_same_bits(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IMAGES_PER_WRITE", 8)
    images, order = pictures(21), torch.randperm(21, generator=torch.Generator().manual_seed(1))
    with (
        compute_features(core, images, order=order) as memory,
        compute_features(core, images, order=order, directory=tmp_path) as disk,
    ):
        assert memory.held() == (memory.held()[0], 0)
        assert disk.held() == (0, memory.held()[0])
        for position in memory.positions:
            assert torch.equal(memory.block(position), disk.block(position))
            assert torch.equal(memory.block(position)[:5], disk.block(position, 5))
        assert torch.equal(memory.first(5), torch.stack([disk.block(p, 5) for p in memory.positions]))
        assert torch.equal(memory.first(5), disk.first(5))


REGION = Region(1, 5, 3, 8)


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_a_region_holds_its_part_of_the_map(
    core: Core, on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IMAGES_PER_WRITE", 4)
    images, order = pictures(21), torch.randperm(21, generator=torch.Generator().manual_seed(1))
    directory = tmp_path if on_disk else None
    with (
        compute_features(core, images, order=order[:9]) as known,
        compute_features(core, images, order=order, known=known, region=REGION, directory=directory) as part,
        compute_features(core, images, order=order) as whole,
    ):
        assert part.standardisation is known.standardisation
        own = store_bytes(core, 21 - 9, 10, 13, REGION)
        assert own == 2 * 6 * 4 * 5 * 12
        before, _ = known.held()
        assert part.held() == ((before, own) if on_disk else (before + own, 0))
        pixels = [row * part.width + column for row in range(1, 5) for column in range(3, 8)]
        assert part.positions == pixels
        ratio = whole.standardisation.std / known.standardisation.std
        for position in pixels:
            # Oracle: the whole map of all images, standardised by others of them; halves are rounded.
            expected = whole.block(position).double() * ratio + (
                (whole.standardisation.mean - known.standardisation.mean) / known.standardisation.std
            )
            assert (part.block(position).double() - expected).abs().max() < 2**-9 * expected.abs().max()
            assert torch.equal(part.block(position)[:9], known.block(position))
            for images in (4, 9, 15):  # of the known ones, all of them, and more
                assert torch.equal(part.block(position, images), part.block(position)[:images])
            found = part.blocks([position], 15)[0]
            assert torch.equal(found, part.block(position)[:15].float())
        assert torch.equal(part.first(15), torch.stack([part.block(position, 15) for position in pixels]))
        with pytest.raises(IndexError, match="row 0, column 3"):
            part.block(3)


def test_other_networks_features_are_cut_to_the_region(core: Core) -> None:
    images = pictures(5)
    features = core(images.float())
    network = Representation(torch.nn.Conv2d(1, 4, 3), name="network")
    with torch.no_grad():
        assert torch.equal(features_within(network, images, REGION), network(images)[:, :, 1:5, 3:8])
        assert (features_within(fuse(core), images, REGION) - features[:, :, 1:5, 3:8]).abs().max() < 1e-3


def test_order_permutes_the_images(core: Core) -> None:
    images, order = pictures(5), torch.tensor([3, 0, 4, 1, 2])
    with compute_features(core, images) as plain, compute_features(core, images, order=order) as shuffled:
        assert torch.equal(shuffled.block(7), plain.block(7)[order])


def test_the_file_is_gone_afterwards(core: Core, tmp_path: Path) -> None:
    with compute_features(core, pictures(4), directory=tmp_path) as store:
        assert store.held()[1] == store_bytes(core, 4, 10, 13) == 2 * 6 * 6 * 9 * 4
    assert list(tmp_path.iterdir()) == []


def test_images_with_nan_are_refused(core: Core) -> None:
    images = pictures(3).float()
    images[1, 0, 4, 4] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        compute_features(core, images)


def test_standardisation_can_be_undone() -> None:
    standardisation = Standardisation(torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 3.0]).double())
    raw = torch.tensor([[2.0, 7.0], [0.3, 0.1]]).double()
    weights, bias = torch.tensor([[1.5, -0.5]]).double(), torch.tensor([0.25]).double()
    standardised = (raw - standardisation.mean) / standardisation.std
    raw_weights, raw_bias = standardisation.to_raw(weights, bias)
    # Oracle: both forms are the same function of an image.
    assert torch.allclose(raw @ raw_weights.T + raw_bias, standardised @ weights.T + bias)
    back = standardisation.from_raw(raw_weights, raw_bias)
    assert torch.allclose(back[0], weights)
    assert torch.allclose(back[1], bias)
