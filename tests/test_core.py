"""The core against published features, hand-counted sizes and its own promise to stay frozen."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mousev1.core import identity
from mousev1.core.identity import content_digest
from mousev1.core.network import Core, CoreConfig, InputContract

SMALL = CoreConfig(hidden_channels=6, layers=3, input_kernel=5, hidden_kernel=3)


@pytest.mark.parametrize(
    ("config", "image", "expected"),
    [
        (CoreConfig(), (1, 36, 64), (64, 22, 50)),
        (CoreConfig(), (1, 15, 15), (64, 1, 1)),
        (CoreConfig(input_kernel=9, hidden_kernel=7), (1, 36, 64), (64, 28, 56)),
        (CoreConfig(hidden_channels=128), (1, 20, 30), (128, 6, 16)),
        (CoreConfig(input_channels=3, hidden_channels=8), (3, 36, 64), (8, 22, 50)),
    ],
)
def test_feature_map_has_the_size_that_valid_then_same_convolutions_give(config, image, expected):
    core = Core.random(config, seed=0)
    assert core(torch.zeros(2, *image)).shape == (2, *expected)
    assert config.feature_shape(*image[1:]) == expected


def test_11s_sizes_match_the_published_parameter_count():
    # 64*15*15 + 3 * (64*64 + 64*13*13 + 64*64) weights and 2*64 per batch norm, counted by hand
    assert sum(p.numel() for p in Core().parameters()) == 14400 + 3 * (4096 + 10816 + 4096) + 4 * 128
    assert CoreConfig().receptive_field == 51


def test_imported_11s_core_gives_the_features_of_the_authors_library(shared: Callable[[str], Path]):
    from mousev1.hub.checkpoint_import import import_checkpoint

    core = import_checkpoint(shared("weights/lurz_11s_core.pt"))
    assert isinstance(core, Core)
    golden = np.load(shared("golden/lurz_11s_core_features.npz"))
    with torch.no_grad():
        features = core(torch.from_numpy(golden["images"])[:, None].float())
    assert np.abs(features.numpy() - golden["features"]).max() < 1e-4


def test_input_contract_normalises_as_written():
    plain = Core.random(SMALL, seed=1)
    scaled = Core(
        CoreConfig(
            hidden_channels=6,
            layers=3,
            input_kernel=5,
            hidden_kernel=3,
            input=InputContract(mean=113, std=60),
        )
    )
    scaled.load_state_dict(plain.state_dict())
    scaled.freeze()
    images = torch.rand(2, 1, 12, 14) * 255
    torch.testing.assert_close(scaled(images), plain((images - 113) / 60))


def test_a_frozen_core_does_not_move_under_training():
    core = Core.random(SMALL, seed=2)
    before = copy.deepcopy(core.state_dict())
    torch.nn.Sequential(core).train()
    core.train()
    core(torch.rand(4, 1, 12, 12) * 255)
    assert not core.training
    assert not any(p.requires_grad for p in core.parameters())
    assert all(torch.equal(before[k], v) for k, v in core.state_dict().items())


def test_a_thawed_copy_trains_and_leaves_the_original_alone():
    core = Core.random(SMALL, seed=2)
    before = core.content_hash()
    twin = core.thawed_copy().train()
    twin(torch.rand(4, 1, 12, 12) * 255).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in twin.parameters())
    assert core.content_hash() == before != twin.content_hash()


def test_random_cores_depend_on_the_seed_alone_and_leave_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    a, b, c = Core.random(SMALL, seed=1), Core.random(SMALL, seed=1), Core.random(SMALL, seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert a.content_hash() == b.content_hash() != c.content_hash()


def test_content_hash_sees_config_as_well_as_weights():
    a = Core.random(SMALL, seed=1)
    other = CoreConfig(
        hidden_channels=6, layers=3, input_kernel=5, hidden_kernel=3, input=InputContract(mean=1.0)
    )
    assert a.content_hash() != Core.random(other, seed=1).content_hash()


def changed_in_place(core: Core) -> None:
    core.layers[0].conv.weight.mul_(1.5)


def changed_under_no_grad(core: Core) -> None:
    with torch.no_grad():
        core.layers[1].norm.bias[0] = 3.0


def loaded_from_a_state(core: Core) -> None:
    core.load_state_dict(Core.random(core.config, seed=5).state_dict())


def assigned_from_a_state(core: Core) -> None:
    core.load_state_dict(Core.random(core.config, seed=5).state_dict(), assign=True)


def given_another_statistic(core: Core) -> None:
    core.layers[0].norm.running_mean = torch.ones_like(core.layers[0].norm.running_mean)


def given_another_config(core: Core) -> None:
    core.config = replace(core.config, input=InputContract(mean=1.0))


def rounded_to_half_precision(core: Core) -> None:
    core.half().float()


@pytest.mark.parametrize(
    "change",
    [
        changed_in_place,
        changed_under_no_grad,
        loaded_from_a_state,
        assigned_from_a_state,
        given_another_statistic,
        given_another_config,
        rounded_to_half_precision,
    ],
)
def test_a_frozen_core_that_was_changed_after_all_reports_its_new_hash(
    change: Callable[[Core], None],
) -> None:
    core = Core.random(CoreConfig(hidden_channels=4, layers=2, input_kernel=3, hidden_kernel=3), seed=0)
    before = core.content_hash()
    change(core)
    after = core.content_hash()
    assert after != before
    assert after == content_digest(core.config.to_dict(), core.state_dict())  # oracle: hashed anew


def test_a_core_that_a_device_fails_to_take_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core.random(CoreConfig(hidden_channels=4, layers=2, input_kernel=3, hidden_kernel=3), seed=0)
    images = torch.rand(1, 1, 8, 8)
    expected, before = core(images), core.content_hash()
    convert, converted = torch.Tensor.to, []

    def run_out_of_memory(tensor: torch.Tensor, *arguments, **options) -> torch.Tensor:
        converted.append(tensor)
        if len(converted) > len(asked):
            raise RuntimeError("out of memory")
        return convert(tensor, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "to", run_out_of_memory)
    asked: list[int] = []
    for attempt in range(len(core.state_dict())):
        converted.clear()
        with pytest.raises(RuntimeError, match="out of memory"):
            core.to(torch.float64)
        asked.append(attempt)
    monkeypatch.undo()
    assert {tensor.dtype for tensor in core.state_dict().values()} == {torch.float32, torch.int64}
    assert core.content_hash() == before
    assert torch.equal(core(images), expected)


def test_copies_of_a_frozen_core_have_its_hash_until_they_are_trained() -> None:
    core = Core.random(CoreConfig(hidden_channels=4, layers=2, input_kernel=3, hidden_kernel=3), seed=0)
    before = core.content_hash()
    for twin in (copy.deepcopy(core), pickle.loads(pickle.dumps(core)), core.thawed_copy()):
        assert twin.content_hash() == before
        with torch.no_grad():
            twin.layers[0].conv.weight.add_(1.0)
        assert twin.content_hash() != before
    assert core.content_hash() == before


def test_a_frozen_core_hashes_its_weights_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    monkeypatch.setattr(identity, "content_digest", lambda *parts: computed.append(parts) or "digest")
    core = Core.random(CoreConfig(hidden_channels=4, layers=2, input_kernel=3, hidden_kernel=3), seed=0)
    assert {core.content_hash() for _ in range(3)} == {"digest"}
    assert len(computed) == 1


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(2, 3, 36, 64), r"expected \(N, 1, H, W\), got \(2, 3, 36, 64\)"),
        (torch.zeros(36, 64), r"expected \(N, 1, H, W\)"),
        (torch.zeros(1, 1, 14, 64), "at least 15 x 15"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_what_was_expected(images, says):
    with pytest.raises(ValueError, match=says):
        Core.random(seed=0)(images)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"layer": 4}, "unknown key 'layer'; valid keys are 'batch_norm_momentum'"),
        ({"input": {"men": 3}}, "unknown key 'men'"),
        ({"layers": 100_000}, "layers: expected a whole number from 1 to 64"),
        ({"layers": True}, "layers"),
        ({"hidden_kernel": 4}, "odd"),
        ({"input": {"std": 0}}, "std: expected a positive number"),
        ({"input": {"value_range": [255, 0]}}, "low < high"),
    ],
)
def test_configs_that_make_no_sense_are_refused(values, says):
    with pytest.raises(ValueError, match=says):
        CoreConfig.from_dict(values)


def test_config_survives_plain_values_and_cannot_be_changed():
    config = CoreConfig(hidden_channels=32, input=InputContract(mean=2.0, pixels_per_degree=1.1))
    assert CoreConfig.from_dict(config.to_dict()) == config
    with pytest.raises(FrozenInstanceError):
        config.layers = 2


def test_smoothness_of_a_single_peak_is_the_laplacian_by_hand():
    core = Core(CoreConfig(hidden_channels=1, layers=1, input_kernel=5))
    with torch.no_grad():
        core.layers[0].conv.weight.zero_()
        core.layers[0].conv.weight[0, 0, 2, 2] = 3.0
    # the Laplacian of a unit peak is 4 at the centre and -1 at four neighbours: 16 + 4 = 20
    assert core.smoothness().item() == pytest.approx(20.0)
