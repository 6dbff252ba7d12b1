"""Published checkpoints against rates computed with the authors' own library, and damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mousev1.core.network import Core, CoreConfig, InputContract
from mousev1.hub.checkpoint_import import import_checkpoint
from mousev1.model.response_model import ResponseModel

RAW = InputContract()


def legacy_core(hidden: int = 4, layers: int = 3) -> dict[str, torch.Tensor]:
    """A tiny core under the published names."""
    torch.manual_seed(0)
    state = {"_input_weights_regularizer.laplace.filter": torch.zeros(1, 1, 3, 3)}
    shapes = {0: {"conv": (hidden, 1, 5, 5)}}
    shapes |= {
        i: {
            "ds_conv.in_depth_conv": (hidden, hidden, 1, 1),
            "ds_conv.spatial_conv": (hidden, 1, 3, 3),
            "ds_conv.out_depth_conv": (hidden, hidden, 1, 1),
        }
        for i in range(1, layers)
    }
    for i, convolutions in shapes.items():
        for name, shape in convolutions.items():
            state[f"features.layer{i}.{name}.weight"] = torch.randn(shape)
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"features.layer{i}.norm.{name}"] = torch.rand(hidden)
        state[f"features.layer{i}.norm.num_batches_tracked"] = torch.tensor(3)
    return state


def legacy_model(readout: dict[str, torch.Tensor], session: str = "1-2-3") -> dict[str, torch.Tensor]:
    state = {f"core.{key}": value for key, value in legacy_core().items()}
    return state | {f"readout.{session}.{key}": value for key, value in readout.items()}


def free_readout(units: int = 5, sigma: tuple[int, ...] = (2, 2)) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "_features": torch.randn(1, 4, 1, units),
        "bias": torch.randn(units),
        "sigma": torch.rand(1, units, *sigma),
        "_mu": torch.rand(1, units, 1, 2) - 0.5,
    }


def written(tmp_path: Path, state: object) -> Path:
    path = tmp_path / "model.pth"
    torch.save(state, path)
    return path


def test_a_published_model_predicts_what_its_authors_library_predicts(shared: Callable[[str], Path]):
    model = import_checkpoint(shared("weights/sensorium_sota_model.pth"))
    golden = np.load(shared("golden/sensorium_sota_rates.npz"))
    assert isinstance(model, ResponseModel)
    assert model.n_units == 7776
    assert np.abs(model.predict(golden["images"]) - golden["rates"]).max() < 1e-4
    assert np.abs(model.readout.mu().detach().numpy() - golden["mu"]).max() < 1e-4
    assert model.core.config.input == InputContract(mean=113.0, std=60.0)


def test_a_real_single_scan_core_imports_from_safetensors(shared: Callable[[str], Path]):
    core = import_checkpoint(shared("weights/bashiri_1s_core.safetensors"))
    assert isinstance(core, Core)
    assert core.config == CoreConfig(input=InputContract(mean=113.0, std=60.0))
    assert core.frozen


def test_sizes_are_read_from_the_tensors(tmp_path):
    core = import_checkpoint(written(tmp_path, legacy_core(hidden=4, layers=3)), contract=RAW)
    assert core.config == CoreConfig(hidden_channels=4, layers=3, input_kernel=5, hidden_kernel=3)
    assert core.name == "model"


def test_an_unknown_checkpoint_without_a_contract_is_refused_rather_than_guessed(tmp_path):
    with pytest.raises(ValueError, match=r"do not say how images were scaled; pass contract="):
        import_checkpoint(written(tmp_path, legacy_core()))


def test_shared_features_are_materialised_with_their_scales(tmp_path):
    readout = free_readout(units=3)
    bank = torch.randn(1, 4, 1, 2)
    index, scales = torch.tensor([1, 0, 1]), torch.tensor([2.0, 3.0, 4.0])
    readout |= {"_features": bank, "feature_sharing_index": index, "scales": scales.reshape(1, 1, 1, 3)}
    model = import_checkpoint(written(tmp_path, legacy_model(readout)), contract=RAW)
    expected = torch.stack([2 * bank[0, :, 0, 1], 3 * bank[0, :, 0, 0], 4 * bank[0, :, 0, 1]])
    torch.testing.assert_close(model.readout.weights(), expected)


@pytest.mark.parametrize("sigma", [(1, 1), (1, 2)])
def test_simpler_gaussians_become_diagonal_maps(tmp_path, sigma):
    readout = free_readout(units=3, sigma=sigma)
    model = import_checkpoint(written(tmp_path, legacy_model(readout)), contract=RAW)
    diagonal = readout["sigma"].reshape(3, -1).expand(3, 2)
    torch.testing.assert_close(model.readout.sigma, torch.diag_embed(diagonal))


def test_one_of_several_readouts_has_to_be_named(tmp_path):
    state = legacy_model(free_readout(3), "a") | legacy_model(free_readout(6), "b")
    path = written(tmp_path, state)
    with pytest.raises(ValueError, match=r"session: expected one of the readouts .* 'a', 'b', got None"):
        import_checkpoint(path, contract=RAW)
    assert import_checkpoint(path, contract=RAW, session="b").n_units == 6


def test_the_tanh_of_a_position_network_can_be_told(tmp_path):
    readout = free_readout(3)
    del readout["_mu"]
    readout |= {
        "source_grid": torch.tensor([[0.0, 0.5], [1.0, -1.0], [0.2, 0.1]]),
        "mu_transform.0.weight": 0.7 * torch.eye(2),
        "mu_transform.0.bias": torch.zeros(2),
    }
    path = written(tmp_path, legacy_model(readout))
    plain = import_checkpoint(path, contract=RAW)
    squashed = import_checkpoint(path, contract=RAW, final_tanh=True)
    torch.testing.assert_close(plain.readout.mu(), 0.7 * readout["source_grid"])
    torch.testing.assert_close(squashed.readout.mu(), torch.tanh(0.7 * readout["source_grid"]))


def _without(state, key):
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (_without(legacy_core(), "features.layer1.norm.bias"), "missing 'layers.1.norm.bias'"),
        (legacy_core() | {"extra": torch.zeros(1)}, "unknown 'extra'"),
        (
            legacy_core() | {"features.layer2.norm.weight": torch.zeros(9)},
            r"'layers.2.norm.weight' has shape \(9,\), expected \(4,\)",
        ),
        (legacy_core() | {"features.layer2.norm.weight": torch.full((4,), torch.nan)}, "NaN"),
        ({"weight": torch.zeros(2)}, "not a core of the kind this library knows"),
        (legacy_model(_without(free_readout(), "bias")), "lacks 'bias'"),
        (legacy_model(_without(free_readout(), "_mu")), "has neither positions"),
        (legacy_model(free_readout() | {"odd": torch.zeros(1)}), "unknown tensors 'odd'"),
        (legacy_model(free_readout()) | {"shifter.w": torch.zeros(1)}, "no use for: 'shifter.w'"),
        ([torch.zeros(2)], "expected a state dict"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused_by_name(tmp_path, state, says):
    with pytest.raises(ValueError, match=says):
        import_checkpoint(written(tmp_path, state), contract=RAW)


def test_another_file_than_the_expected_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"sha256: .* expected 0123"):
        import_checkpoint(written(tmp_path, legacy_core()), contract=RAW, sha256="0123")


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = written(tmp_path, legacy_core())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="truncated"):
        import_checkpoint(path, contract=RAW)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a checkpoint file"):
        import_checkpoint(tmp_path / "none.pth")
