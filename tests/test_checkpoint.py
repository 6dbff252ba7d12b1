"""Cores on disk: bit for bit, strict to read, written whole or not at all.

Oracles are the saved numbers themselves, the pinned bytes of ``tests/data``, and a killed process.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from artifacts import CONFIG, files_of, same_tensors, tiny_core, watch_hashing
from mousev1.core.network import Core
from mousev1.hub.cores import largest_deviation, load_core
from mousev1.storage import artifact as checkpoint
from mousev1.storage.artifact import open_safetensors, read_config
from mousev1.storage.atomic import file_sha256, replacing
from mousev1.storage.core_files import load_core_folder, save_core

PINNED = Path(__file__).parent / "data" / "core-v1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_core(tiny_core(), tmp_path / "core")


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def replace_tensors(folder: Path, name: str, tensors: dict[str, torch.Tensor]) -> None:
    """Other tensors, with a checksum that holds."""
    save_file(tensors, folder / name)
    files = json.loads((folder / "config.json").read_text())["files"]
    edit_config(folder, files=files | {name: file_sha256(folder / name)})


# ---------------------------------------------------------------- round trip


def test_core_comes_back_bit_for_bit_frozen_and_with_its_name(folder: Path):
    core, loaded = tiny_core(), load_core_folder(folder)
    assert same_tensors(core, loaded)
    assert loaded.config == core.config
    assert (loaded.name, loaded.frozen, loaded.training) == ("tiny", True, False)
    assert loaded.content_hash() == core.content_hash()


def test_folder_is_complete_and_readable_by_others(folder: Path):
    assert set(files_of(folder)) == {"config.json", "model.safetensors", "probe.safetensors"}
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_same_core_gives_the_same_bytes(tmp_path: Path, folder: Path):
    assert files_of(save_core(load_core_folder(folder), tmp_path / "again")) == files_of(folder)


def test_core_in_training_is_saved_as_it_predicts_afterwards(tmp_path: Path):
    core = Core(CONFIG, name="young").train()
    before = {key: value.clone() for key, value in core.state_dict().items()}
    loaded = load_core(save_core(core, tmp_path / "core"), verify=True)
    assert core.training
    assert all(torch.equal(before[key], value) for key, value in core.state_dict().items())
    assert same_tensors(core, loaded)


def test_prior_of_readouts_comes_along(tmp_path: Path):
    core = tiny_core()
    core.readout_prior = {"mean": torch.arange(4.0), "covariance": torch.eye(4)}
    loaded = load_core_folder(save_core(core, tmp_path / "core"))
    assert loaded.readout_prior is not None
    assert {key: value.tolist() for key, value in loaded.readout_prior.items()} == {
        "mean": [0.0, 1.0, 2.0, 3.0],
        "covariance": torch.eye(4).tolist(),
    }


def test_thawed_copy_leaves_behind_what_describes_the_old_features(folder: Path):
    twin = load_core_folder(folder).thawed_copy()
    assert twin.probe is None
    assert twin.readout_prior is None


def test_pinned_folder_of_format_1_loads_and_is_written_the_same_today(tmp_path: Path):
    # If this fails, folders that users have saved would change or no longer load: raise FORMAT_VERSION.
    digests = {name: hashlib.sha256(content).hexdigest()[:16] for name, content in files_of(PINNED).items()}
    assert digests == {
        "README.md": "d7186efa7ae7e56d",
        "config.json": "5a9811db2551b952",
        "model.safetensors": "ac5d506203367877",
        "prior.safetensors": "dfdc0489ff2ac87c",
        "probe.safetensors": "4ffecb9271243fb2",
    }
    core = load_core(PINNED, verify=True)
    assert core.content_hash() == "8be26dc6567303e888dc5897f36fd62e0f8c6540052f05691c04377f3d6d8eab"
    card = (PINNED / "README.md").read_text(encoding="utf-8")
    assert files_of(save_core(core, tmp_path / "again", card=card)) == files_of(PINNED)


# ---------------------------------------------------------------- self-test


def test_probe_of_a_sound_core_deviates_by_rounding_alone(folder: Path):
    assert largest_deviation(load_core(folder, verify=True)) < 1e-6


def test_features_other_than_the_stored_ones_are_noticed(folder: Path):
    probe = open_safetensors(folder / "probe.safetensors")
    probe["features"][0, 0, 0, 0] += 0.01 * probe["features"].abs().max()
    replace_tensors(folder, "probe.safetensors", probe)
    core = load_core(folder)
    # 0.01 of the largest feature, unless the changed one became the largest itself
    assert largest_deviation(core) == pytest.approx(0.01, rel=0.02)
    with pytest.raises(ValueError, match=r"verify: features of core 'tiny' deviate by 0\.01"):
        load_core(folder, verify=True)


def test_core_without_a_probe_cannot_be_verified(folder: Path):
    files = json.loads((folder / "config.json").read_text())["files"]
    del files["probe.safetensors"]
    edit_config(folder, files=files)
    with pytest.raises(ValueError, match="core 'tiny' came without a probe"):
        load_core(folder, verify=True)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ({"images": torch.zeros(2, 1, 7, 7)}, "expected 'images'"),
        (
            {"images": torch.zeros(2, 3, 7, 7), "features": torch.zeros(2, 4, 5, 5)},
            "do not fit the core, which makes",
        ),
        (
            {"images": torch.zeros(2, 1, 7, 7), "features": torch.zeros(2, 4, 5, 5).double()},
            "do not fit the core, which makes",
        ),
        (
            {"images": torch.zeros(2, 1, 7, 7), "features": torch.zeros(2, 4, 6, 6)},
            "do not fit the core, which makes",
        ),
        (
            {"images": torch.zeros(2, 1, 7, 7), "features": torch.full((2, 4, 5, 5), torch.nan)},
            "expected finite numbers, got 'features'",
        ),
    ],
)
def test_probe_that_does_not_fit_is_refused(probe, message, folder):
    replace_tensors(folder, "probe.safetensors", probe)
    with pytest.raises(ValueError, match=message):
        load_core(folder)


# ---------------------------------------------------------------- strictness


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "probe.safetensors"])
def test_missing_file_is_named(name: str, folder: Path):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_core_folder(folder)


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_truncated_weights_are_refused(cut: int, folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"model.safetensors: truncated or altered"):
        load_core_folder(folder)


def test_weights_of_another_core_are_refused(folder: Path):
    replace_tensors(folder, "model.safetensors", tiny_core(seed=1).state_dict())
    with pytest.raises(ValueError, match="config and weights do not belong together"):
        load_core_folder(folder)


def test_missing_extra_and_misshapen_tensors_are_listed_sorted(folder: Path):
    tensors = tiny_core().state_dict()
    for key in ("layers.1.norm.weight", "layers.0.conv.weight"):
        del tensors[key]
    tensors |= {"zeta": torch.zeros(1), "alpha": torch.zeros(1), "layers.1.norm.bias": torch.zeros(3)}
    replace_tensors(folder, "model.safetensors", tensors)
    with pytest.raises(ValueError, match="tensors do not fit") as raised:
        load_core_folder(folder)
    text = str(raised.value)
    assert "missing 'layers.0.conv.weight', 'layers.1.norm.weight'" in text
    assert "unknown 'alpha', 'zeta'" in text
    assert "'layers.1.norm.bias' has shape (3,), expected (4,)" in text


@pytest.mark.parametrize(
    ("value", "message"),
    [(torch.full((4,), torch.nan), "NaN or infinite"), (torch.zeros(4).double(), "torch.float64")],
)
def test_meaningless_numbers_are_refused(value, message, folder):
    replace_tensors(folder, "model.safetensors", tiny_core().state_dict() | {"layers.1.norm.bias": value})
    with pytest.raises(ValueError, match=message):
        load_core_folder(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zeta": 1, "alpha": 2}, "unknown 'alpha', 'zeta'"),
        ({"name": ..., "core": ...}, "missing 'core', 'name'"),
        ({"name": 3}, "'name': expected a str, got 3"),
        ({"core": [1]}, "'core': expected a dict"),
        ({"core": {"layers": "4"}}, "layers: expected a whole number"),
        ({"core": {"depth": 4}}, "unknown key 'depth'; valid keys are"),
        ({"core": {"input": {"std": "a"}}}, "no sound core config"),
        ({"core": {"input": {"gamma": 2}}}, "input contract: unknown key 'gamma'"),
        ({"format_version": 2}, "newer than this mousev1 reads"),
        ({"format_version": True}, "format_version: expected a whole number"),
        ({"format_version": 0}, "format_version: expected a whole number"),
        ({"format_version": ...}, "not a file written by mousev1"),
        ({"kind": "response-model"}, "expected a core, got a 'response-model'"),
        ({"files": []}, "no list of files"),
        ({"files": {}}, "'files' does not fit this format: missing 'model.safetensors'"),
        ({"files": {"model.safetensors": "0", "../x": "0"}}, r"unknown '\.\./x'"),
        ({"content_hash": "0" * 64}, "do not belong together"),
    ],
)
def test_config_that_is_not_exactly_right_is_refused(changes, message, folder):
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_core_folder(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": NaN}', "\x00", "[" * 100_000])
def test_config_that_is_no_json_object_is_refused(text: str, folder: Path):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json"):
        read_config(folder, "core")


# ---------------------------------------------------------------- writing


def test_existing_folder_is_kept_unless_overwriting_is_asked_for(folder: Path):
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_core(tiny_core(1), folder)
    assert same_tensors(load_core_folder(folder), tiny_core(0))
    save_core(tiny_core(1), folder, overwrite=True)
    assert same_tensors(load_core_folder(folder), tiny_core(1))


def test_overwriting_keeps_foreign_files_and_drops_stale_ones(tmp_path: Path):
    core = tiny_core()
    core.readout_prior = {"mean": torch.zeros(4)}
    folder = save_core(core, tmp_path / "core")
    (folder / "notes.txt").write_text("mine")
    save_core(tiny_core(1), folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / "prior.safetensors").exists()


def test_folder_of_something_else_is_never_overwritten(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="only a folder written by mousev1"):
        save_core(tiny_core(), tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_failed_write_leaves_the_old_folder_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch):
    before = files_of(folder)

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_core(tiny_core(1), folder, overwrite=True)
    assert files_of(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


KILLED_WHILE_WRITING = """
import os, signal, sys
from mousev1.core import network as core
from mousev1.storage import artifact as checkpoint, core_files
write = checkpoint.save_file
written = []
def write_then_die(tensors, path, **options):
    write(tensors, path, **options)
    written.append(path)
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.save_file = write_then_die
other = core.Core.random(core_files.load_core_folder(sys.argv[1]).config, seed=9)
core_files.save_core(other, sys.argv[1], overwrite=True)
"""


def test_process_killed_while_writing_leaves_the_old_core(folder: Path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(folder)], timeout=120, env=os.environ
    )
    assert done.returncode == -signal.SIGKILL
    assert same_tensors(load_core_folder(folder), tiny_core())


def test_replacing_puts_files_and_folders_in_place_or_nothing(tmp_path: Path):
    target = tmp_path / "file"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as staging:
            staging.write_text("half")
            raise KeyError("on the way")

    with pytest.raises(KeyError):
        fail()
    assert target.read_text() == "old"
    with replacing(target) as staging:
        staging.write_text("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_loading_does_not_import_torchs_compiler(tmp_path):
    folder = save_core(tiny_core(), tmp_path / "core")
    script = (
        f"import sys, mousev1; mousev1.load_core({str(folder)!r}); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_loading_hashes_every_byte_once_for_its_file_and_once_for_the_cores_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = tiny_core()
    core.readout_prior = {"mean": torch.zeros(4)}
    folder = save_core(core, tmp_path / "core")
    sizes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    weights = sum(tensor.nbytes for tensor in core.state_dict().values())
    hashed = watch_hashing(monkeypatch)
    loaded = load_core(folder, verify=True)
    described = sum(len(data) for data in hashed if data.startswith((b"{", b"layers.")))
    assert sum(map(len, hashed)) == sizes + weights + described
    assert described < 2000
    before = len(hashed)
    assert loaded.content_hash() == core.content_hash()
    loaded.content_hash()
    assert len(hashed) == before
