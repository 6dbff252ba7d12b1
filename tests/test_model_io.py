"""Fitted models on disk: the readout alone, bound to its core; the oracle is the model that was saved."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from artifacts import CONFIG, files_of, same_tensors, tiny_core, tiny_model
from mousev1.core.feature_statistics import training_statistics
from mousev1.core.network import Core
from mousev1.hub.cores import load_core
from mousev1.hub.model_files import load_model, save_model
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.readout.gaussian import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
    PositionNetworkConfig,
)
from mousev1.storage.artifact import open_safetensors
from mousev1.storage.atomic import file_sha256
from mousev1.storage.core_files import save_core

PINNED = Path(__file__).parent / "data" / "model-v1"
IMAGES = np.random.default_rng(0).integers(0, 256, size=(4, 10, 12), dtype=np.uint8)


@pytest.fixture
def core(tmp_path: Path) -> Core:
    """A core that can be had again: it is in a folder."""
    return load_core(save_core(tiny_core(), tmp_path / "core"))


@pytest.fixture
def folder(core: Core, tmp_path: Path) -> Path:
    return save_model(tiny_model(core), tmp_path / "model")


def edit_config(folder: Path, **changes: Any) -> None:
    """Changes of ``config.json``; a double underscore leads into an object of it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        outer, _, inner = key.partition("__")
        (config[outer] if inner else config)[inner or outer] = value
    path.write_text(json.dumps(config))


def replace_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    """Other tensors, with a checksum that holds."""
    path = folder / "model.safetensors"
    tensors = {k: v for k, v in (open_safetensors(path) | changes).items() if v is not None}
    save_file(tensors, path)
    edit_config(folder, files={path.name: file_sha256(path)})


# ---------------------------------------------------------------- round trip


def test_model_comes_back_bit_for_bit_with_all_that_is_known_of_it(core: Core, folder: Path):
    model, loaded = tiny_model(core), load_model(folder)
    assert same_tensors(model, loaded)
    assert loaded.unit_ids.tolist() == [7, 3, 11, 5, 2]
    assert loaded.record == model.record
    assert np.array_equal(loaded.predict(IMAGES), model.predict(IMAGES))


def test_training_statistics_come_back_and_must_be_sound(core: Core, tmp_path: Path):
    model = tiny_model(core)
    model.training_statistics = training_statistics(core, torch.from_numpy(IMAGES)[:, None])
    folder = save_model(model, tmp_path / "model")
    loaded = load_model(folder).training_statistics
    assert loaded is not None
    for name, tensor in model.training_statistics.tensors().items():
        assert torch.equal(getattr(loaded, name), tensor)
    path = folder / "training-statistics.safetensors"
    files = json.loads((folder / "config.json").read_text())["files"]
    save_file({**loaded.tensors(), "mean": torch.full((4,), torch.nan)}, path)
    with pytest.raises(ValueError, match=r"training-statistics\.safetensors: truncated or altered"):
        load_model(folder)
    edit_config(folder, files=files | {path.name: file_sha256(path)})
    with pytest.raises(ValueError, match=r"training-statistics.*mean: expected finite float32"):
        load_model(folder)
    save_file({"mean": torch.zeros(4)}, path)
    edit_config(folder, files=files | {path.name: file_sha256(path)})
    with pytest.raises(ValueError, match=r"expected 'gray', 'image_quantiles', .* got 'mean'"):
        load_model(folder)


def test_readout_on_cortex_keeps_its_position_network(core: Core, tmp_path: Path):
    config = PositionNetworkConfig(hidden_layers=1, hidden_features=3, final_tanh=True)
    positions = CortexPositions(torch.randn(5, 2), PositionNetwork(config))
    readout = GaussianReadout(positions, FeatureWeights(5, CONFIG.hidden_channels))
    base = tiny_model(core)
    model = ResponseModel(
        core, readout, unit_ids=base.unit_ids, response_scale=base.response_scale, record=base.record
    )
    loaded = load_model(save_model(model, tmp_path / "model"))
    assert isinstance(loaded.readout.positions, CortexPositions)
    assert loaded.readout.positions.network.config == config
    assert np.array_equal(loaded.predict(IMAGES), model.predict(IMAGES))


def test_readout_of_a_thousand_neurons_on_64_channels_takes_300_kb(tmp_path: Path):
    core = Core.random(replace(CONFIG, hidden_channels=64), seed=0)
    core.source = "somewhere"
    readout = GaussianReadout(FreePositions(1000), FeatureWeights(1000, 64))
    model = ResponseModel(
        core,
        readout,
        unit_ids=np.arange(1000),
        response_scale=np.ones(1000, dtype=np.float32),
        record=FitRecord(method="made up"),
    )
    folder = save_model(model, tmp_path / "model")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 305_000


def test_model_with_its_core_inside_stands_alone(core: Core, tmp_path: Path):
    folder = save_model(tiny_model(core), tmp_path / "model", include_core=True)
    for path in (tmp_path / "core").iterdir():
        path.unlink()
    assert same_tensors(load_model(folder), tiny_model())


def test_core_without_a_source_is_put_inside_unasked(tmp_path: Path):
    folder = save_model(tiny_model(), tmp_path / "model")
    assert (folder / "core.safetensors").is_file()
    with pytest.raises(ValueError, match="include_core=True"):
        save_model(tiny_model(), tmp_path / "other", include_core=False)


def test_model_that_was_loaded_alone_can_be_saved_again(core: Core, tmp_path: Path):
    first = load_model(save_model(tiny_model(core), tmp_path / "one", include_core=True))
    second = load_model(save_model(first, tmp_path / "two"))
    assert same_tensors(first, second)


def test_pinned_folder_of_format_1_predicts_the_same_today():
    # If this fails, models that users have saved would change or no longer load: raise FORMAT_VERSION.
    digests = {name: hashlib.sha256(content).hexdigest()[:16] for name, content in files_of(PINNED).items()}
    assert digests == {
        "config.json": "01b29c95f2843123",
        "core.safetensors": "ac5d506203367877",
        "model.safetensors": "ec0cd29c57aa739e",
    }
    model = load_model(PINNED)
    assert model.record == FitRecord(method="made up", n_images=3, scores={"validation_correlation": 0.25})
    ramp = np.arange(120, dtype=np.float32).reshape(1, 10, 12)
    expected = [0.4149552, 0.6193893, 1.1498168, 1.2918199, 1.6073167]
    np.testing.assert_allclose(model.predict(ramp)[0], expected, rtol=1e-5)


# ---------------------------------------------------------------- the core it belongs to


def test_another_core_is_refused(folder: Path):
    with pytest.raises(ValueError, match="a readout means nothing on another core"):
        load_model(folder, core=tiny_core(seed=1))


def test_core_that_changed_in_its_place_is_refused(folder: Path, tmp_path: Path):
    save_core(tiny_core(seed=1), tmp_path / "core", overwrite=True)
    with pytest.raises(ValueError, match="a readout means nothing on another core"):
        load_model(folder)


def test_same_core_from_elsewhere_is_welcome(core: Core, folder: Path, tmp_path: Path):
    for path in (tmp_path / "core").iterdir():
        path.unlink()
    assert same_tensors(load_model(folder, core=tiny_core()), tiny_model(core))


# ---------------------------------------------------------------- strictness


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zeta": 1}, "unknown 'zeta'"),
        ({"readout": 3}, "'readout': expected an object"),
        ({"readout__pooling": 3}, "readout: unknown keys 'pooling'"),
        ({"readout__units": 0}, "units: expected a positive whole number"),
        ({"readout__units": True}, "units: expected a positive whole number"),
        ({"readout__units": 6}, r"has shape \(5,"),
        ({"readout__position_network": {"width": 3}}, "position network: unknown key 'width'"),
        ({"readout__position_network": {"hidden_layers": "a"}}, "config.json"),
        ({"record__mood": "good"}, "record: unknown key 'mood'"),
        ({"record__notes": 3}, "record: notes: expected a list"),
        ({"record__image_size": [36]}, "record: image_size: expected two positive whole numbers"),
        ({"core__size": 3}, "unknown 'size'"),
        ({"core__source": 3}, "'source' and 'revision' are not text"),
        ({"kind": "core"}, "expected a response-model, got a 'core'"),
        ({"files": {}}, "missing 'model.safetensors'"),
    ],
)
def test_config_that_is_not_exactly_right_is_refused(changes, message, folder):
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit_ids": None}, "missing 'unit_ids'"),
        ({"unit_ids": torch.zeros(5)}, "'unit_ids': expected .* torch.int64, got"),
        ({"response_scale": torch.ones(4)}, "'response_scale': expected"),
        ({"response_scale": torch.tensor([1.0, 1, 0, 1, 1])}, "expected finite positive numbers"),
        ({"response_scale": torch.tensor([1.0, 1, torch.nan, 1, 1])}, "expected finite positive numbers"),
        ({"mood": torch.zeros(1)}, "unknown tensors 'mood'"),
        ({"readout.mood": torch.zeros(1)}, "unknown 'mood'"),
        ({"readout.bias": None}, "missing 'bias'"),
    ],
)
def test_tensors_that_are_not_exactly_right_are_refused(changes, message, folder):
    replace_tensors(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_model(folder)


def test_undefined_score_stays_undefined(core: Core, tmp_path: Path):
    model = tiny_model(core)
    scores = {"validation_correlation": float("nan"), "other": 0.5}
    model.record = replace(model.record, scores=scores, image_size=(16, 24))
    loaded = load_model(save_model(model, tmp_path / "model"))
    assert np.isnan(loaded.record.scores["validation_correlation"])
    assert loaded.record.scores["other"] == 0.5
    assert loaded.record.image_size == (16, 24)


def test_setting_that_json_cannot_hold_fails_before_anything_is_written(core: Core, tmp_path: Path):
    model = tiny_model(core)
    model.record = replace(model.record, settings={"rate": float("inf")})
    with pytest.raises(ValueError, match="JSON"):
        save_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_folder_that_is_none_is_said_to_be_missing(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="found nothing there"):
        load_model(tmp_path / "nothing")
    with pytest.raises(ValueError, match="a local folder has no revisions"):
        load_model(tmp_path, revision="main")


@pytest.mark.parametrize("include_core", [True, False])
def test_the_folder_of_a_model_gives_its_core(core: Core, include_core, tmp_path: Path):
    save_model(tiny_model(core), tmp_path / "model", include_core=include_core)
    assert load_core(tmp_path / "model").content_hash() == core.content_hash()


def test_a_checkpoint_as_a_core_is_refused_with_the_command_that_imports_it(shared):
    with pytest.raises(ValueError, match=r"`mousev1 import .*lurz_11s_core\.pt --out FOLDER`"):
        load_core(shared("weights/lurz_11s_core.pt"))
