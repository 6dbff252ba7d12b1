"""Files made to do harm: refused without running code and without taking memory.

Every case runs in one further process, which reports what was raised, how much its peak memory rose,
and how long it took. The oracles are the marker file that a payload would have made, and that peak.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts import tiny_core, tiny_model
from mousev1.hub.model_files import save_model
from mousev1.storage.artifact import read_kind
from mousev1.storage.atomic import file_sha256
from mousev1.storage.core_files import load_core_folder, save_core

MEMORY_ALLOWED = 60_000_000
SECONDS_ALLOWED = 10.0

RUN = """
import json, resource, sys, time
import torch
from pathlib import Path
from mousev1.storage import artifact as checkpoint
from mousev1.hub import cores as hub
from mousev1.hub import checkpoint_import as legacy
from mousev1.hub import model_files as model_io
from mousev1.storage.core_files import save_core
from mousev1.core.network import Core, CoreConfig, InputContract

torch.set_num_threads(1)
actions = {
    "core": hub.load_core,
    "model": model_io.load_model,
    "checkpoint": lambda path: legacy.import_checkpoint(path, contract=InputContract()),
    "safetensors": lambda path: checkpoint.open_safetensors(Path(path)),
}
# imports and first uses are no part of what a file costs
warm = CoreConfig(hidden_channels=2, layers=2, input_kernel=3, hidden_kernel=3)
hub.load_core(save_core(Core.random(warm, seed=0), Path(sys.argv[1]) / "warm"), verify=True)
for line in sys.stdin:
    name, action, path = json.loads(line)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        actions[action](path)
        raised, message = None, ""
    except Exception as error:
        raised, message = type(error).__name__, str(error)
    peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(json.dumps([name, raised, message, peak, time.perf_counter() - start]), flush=True)
"""


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.marker,))


def edited(folder: Path, **changes: Any) -> Path:
    """A folder whose config has other values; a double underscore leads into an object of it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        outer, _, inner = key.partition("__")
        (config[outer] if inner else config)[inner or outer] = value
    path.write_text(json.dumps(config))
    return folder


def with_weights(folder: Path, content: bytes) -> Path:
    """A folder with other bytes for its weights, and the checksum that goes with them."""
    path = folder / "model.safetensors"
    path.write_bytes(content)
    files = json.loads((folder / "config.json").read_text())["files"]
    return edited(folder, files=files | {path.name: file_sha256(path)})


def safetensors(header: dict[str, Any], data: bytes = b"") -> bytes:
    """The bytes of a safetensors file with this header."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def lying(key: str, shape: list[int]) -> bytes:
    """A tensor that says it is larger than the file."""
    return safetensors({key: {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}, b"\0" * 4)


def huge_header(path: Path) -> Path:
    """A file of 2 GB that is one header, without holes filled on disk."""
    with open(path, "wb") as handle:
        handle.write((2_000_000_000).to_bytes(8, "little") + b"{")
        handle.truncate(2_000_000_100)
    return path


def make_cases(root: Path) -> dict[str, tuple[str, Path]]:
    """Name to what is done with it, and the file or folder."""
    number = iter(range(1000))

    def core(**changes: Any) -> Path:
        return edited(save_core(tiny_core(), root / f"core{next(number)}"), **changes)

    def model(**changes: Any) -> Path:
        saved = save_model(tiny_model(), root / f"model{next(number)}", include_core=True)
        return edited(saved, **changes)

    def file(name: str, content: bytes) -> Path:
        (root / name).write_bytes(content)
        return root / name

    marker = root / "ran"
    torch.save({"features.layer0.conv.weight": Payload(marker)}, root / "payload.pt")
    torch.save(Payload(marker), root / "legacy.pt", _use_new_zipfile_serialization=False)
    key, repeated = "features.layer0.conv.weight", torch.zeros(1).expand(64, 1, 3001, 3001)
    torch.save({key: repeated}, root / "repeated.pt")
    torch.save({key: repeated}, root / "old-repeated.pt", _use_new_zipfile_serialization=False)
    torch.save({key: torch.zeros(50_000_000)}, root / "zeros.pt")
    with (
        zipfile.ZipFile(root / "zeros.pt") as plain,
        zipfile.ZipFile(root / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    boundless = {"hidden_channels": 4096, "layers": 64, "input_kernel": 255, "hidden_kernel": 255}
    return {
        "pickle with a payload": ("checkpoint", file("payload.pkl", pickle.dumps(Payload(marker)))),
        "torch file with a payload": ("checkpoint", root / "payload.pt"),
        "old torch file with a payload": ("checkpoint", root / "legacy.pt"),
        "torch file that repeats a number": ("checkpoint", root / "repeated.pt"),
        "old torch file that repeats a number": ("checkpoint", root / "old-repeated.pt"),
        "torch file that unpacks to much": ("checkpoint", root / "packed.pt"),
        "pickle called safetensors": (
            "checkpoint",
            file("payload.safetensors", pickle.dumps(Payload(marker))),
        ),
        "pickle as weights of a core": ("core", with_weights(core(), pickle.dumps(Payload(marker)))),
        "header that claims 2 GB": (
            "core",
            with_weights(core(), (2_000_000_000).to_bytes(8, "little") + b"{}" * 50),
        ),
        "header of 2 GB": ("safetensors", huge_header(root / "huge.safetensors")),
        "header beyond any size": ("core", with_weights(core(), b"\xff" * 100)),
        "tensor larger than its file": (
            "core",
            with_weights(core(), lying("layers.0.conv.weight", [1_000_000, 1_000_000])),
        ),
        "a billion layers": ("core", core(core={"layers": 10**9})),
        "a billion channels": ("core", core(core={"hidden_channels": 10**9})),
        "a layer count beyond 64 bits": ("core", core(core={"layers": 10**30})),
        "the largest core allowed": ("core", core(core=boundless)),
        "the largest frame": ("core", core(core__input={"height": 10**12, "width": 10**12})),
        "gray values beyond any number": ("core", core(core__input={"value_range": [0, 10**400]})),
        "a score beyond any number": ("model", model(record__scores={"validation_correlation": 10**400})),
        "a billion neurons": ("model", model(readout__units=10**9)),
        "the most neurons allowed": ("model", model(readout__units=10**7)),
        "a billion hidden layers": (
            "model",
            model(readout__position_network={"hidden_layers": 10**9}),
        ),
        "a billion hidden features": (
            "model",
            model(readout__position_network={"hidden_layers": 2, "hidden_features": 10**9}),
        ),
        "config of brackets": ("core", deep(core())),
        "config of 20 MB": ("core", long(core())),
        "file outside of the folder": ("core", core(files={"../../etc/passwd": "0" * 64})),
    }


def deep(folder: Path) -> Path:
    (folder / "config.json").write_text("[" * 1_000_000)
    return folder


def long(folder: Path) -> Path:
    (folder / "config.json").write_text('{"format_version": 1, "x": "' + "a" * 20_000_000 + '"}')
    return folder


# what the message has to say, besides that it is a ValueError
CASES = {
    "pickle with a payload": "files that need code to load are refused",
    "torch file with a payload": "files that need code to load are refused",
    "old torch file with a payload": "files that need code to load are refused",
    "torch file that repeats a number": "so that numbers repeat; refused",
    "old torch file that repeats a number": "so that numbers repeat; refused",
    "torch file that unpacks to much": "unpacks to 200",
    "pickle called safetensors": "not a sound safetensors file",
    "pickle as weights of a core": "not a sound safetensors file",
    "header that claims 2 GB": "a header of 2000000000 bytes in a file of 108",
    "header of 2 GB": "not a sound safetensors file",
    "header beyond any size": "not a sound safetensors file",
    "tensor larger than its file": "not a sound safetensors file",
    "a billion layers": "layers: expected a whole number from 1 to 64",
    "a billion channels": "hidden_channels: expected a whole number from 1 to 4096",
    "a layer count beyond 64 bits": "layers: expected a whole number from 1 to 64",
    "the largest core allowed": "tensors do not fit the config",
    "the largest frame": "config and weights do not belong together",
    "gray values beyond any number": "int too large to convert to float",
    "a score beyond any number": "int too large to convert to float",
    "a billion neurons": "units: expected a positive whole number",
    "the most neurons allowed": "tensors do not fit the config",
    "a billion hidden layers": "hidden_layers: expected 0 to 16",
    "a billion hidden features": "hidden_features: expected 1 to 4096",
    "config of brackets": "not valid JSON",
    "config of 20 MB": "is too large for a config; refused",
    "file outside of the folder": "unknown '../../etc/passwd'",
}


@dataclass(frozen=True)
class Outcome:
    """What a hostile file did: exception, message, rise of the peak memory in bytes, seconds."""

    raised: str | None
    message: str
    peak: int
    seconds: float


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def outcomes(root: Path) -> dict[str, Outcome]:
    cases = make_cases(root)
    assert set(cases) == set(CASES)
    lines = [json.dumps([name, action, str(path)]) for name, (action, path) in cases.items()]
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(root)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return {name: Outcome(*rest) for name, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", CASES)
def test_hostile_file_is_refused_at_once_and_without_memory(name: str, outcomes: dict[str, Outcome]):
    outcome = outcomes[name]
    assert outcome.raised == "ValueError", outcome
    assert CASES[name] in outcome.message
    assert outcome.peak < MEMORY_ALLOWED
    assert outcome.seconds < SECONDS_ALLOWED


def test_no_payload_ran(outcomes: dict[str, Outcome], root: Path):
    assert len(outcomes) == len(CASES)
    assert not (root / "ran").exists()
    # the payload does work where pickles are trusted
    pickle.loads((root / "payload.pkl").read_bytes())
    assert (root / "ran").exists()
    (root / "ran").unlink()


def test_zip_with_names_that_lead_outside_writes_nothing(tmp_path: Path):
    from mousev1.data.io import read_scan

    inside = tmp_path / "inside"
    inside.mkdir()
    with zipfile.ZipFile(inside / "scan.zip", "w") as archive:
        archive.writestr("scan/../../escaped.npy", b"payload")
        archive.writestr("scan/config.json", "{}")
    with pytest.raises(ValueError, match="points outside of the zip"):
        read_scan(inside / "scan.zip")
    assert not (tmp_path / "escaped.npy").exists()
    assert [path.name for path in inside.iterdir()] == ["scan.zip"]


def test_a_config_that_is_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path):
    folder = save_core(tiny_core(), tmp_path / "core")
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(FileNotFoundError, match=r"no config\.json in this folder"):
        load_core_folder(folder)
    assert read_kind(folder) is None
    with pytest.raises(FileExistsError, match="replaces only a folder written by mousev1"):
        save_core(tiny_core(), folder, overwrite=True)
