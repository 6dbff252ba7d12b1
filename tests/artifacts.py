"""A tiny core and a tiny fitted model, for tests of what is saved, shared and loaded."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
import torch

from mousev1.core.network import Core, CoreConfig, InputContract
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.readout.gaussian import FeatureWeights, FreePositions, GaussianReadout
from mousev1.storage.core_files import save_core

CONFIG = CoreConfig(
    hidden_channels=4,
    layers=2,
    input_kernel=3,
    hidden_kernel=3,
    input=InputContract(mean=100.0, std=50.0, height=10, width=12),
)


def tiny_core(seed: int = 0) -> Core:
    """A core of 4 channels with 3x3 kernels, about 1 kB of weights."""
    core = Core.random(CONFIG, seed=seed)
    core.name = "tiny"
    return core


def tiny_model(core: Core | None = None, *, units: int = 5) -> ResponseModel:
    """A readout of a few units with numbers of its own."""
    core = core or tiny_core()
    readout = GaussianReadout(FreePositions(units), FeatureWeights(units, CONFIG.hidden_channels))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in readout.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
    readout.requires_grad_(False)
    return ResponseModel(
        core,
        readout,
        unit_ids=[7, 3, 11, 5, 2][:units],
        response_scale=torch.linspace(0.5, 2.0, units),
        record=FitRecord(method="made up", n_images=3, scores={"validation_correlation": 0.25}),
    )


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def core_files(core: Core) -> dict[str, bytes]:
    """What ``save_core`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        return files_of(save_core(core, Path(folder) / "core"))


def same_tensors(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Whether two modules hold the same numbers, bit for bit, under the same names."""
    first, second = a.state_dict(), b.state_dict()
    return list(first) == list(second) and all(torch.equal(first[key], second[key]) for key in first)


def watch_hashing(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What SHA-256 is given from now on."""
    hashed: list[bytes] = []
    sha256 = hashlib.sha256

    class Watched:
        def __init__(self, data: bytes = b"") -> None:
            self.digest = sha256()
            self.update(data)

        def update(self, data: bytes) -> None:
            hashed.append(data)
            self.digest.update(data)

        def hexdigest(self) -> str:
            return self.digest.hexdigest()

    monkeypatch.setattr(hashlib, "sha256", Watched)
    return hashed
