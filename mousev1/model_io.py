"""Fitted models on disk: the readout alone, and which core it belongs to."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mousev1.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Artifact,
    build_on_meta,
    check_keys,
    core_from_parts,
    fill,
    read_config,
    read_tensors,
    write_artifact,
)
from mousev1.core import Core
from mousev1.errors import reject_unknown_keys
from mousev1.model import FitRecord, ResponseModel
from mousev1.readout import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
    PositionNetworkConfig,
)

CORE_FILE = "core.safetensors"
UNIT_TENSORS = ("unit_ids", "response_scale")


def save_model(
    model: ResponseModel,
    folder: str | Path,
    *,
    include_core: bool | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a fitted model as a folder.

    Args:
        model: what to save.
        folder: where to; see ``checkpoint.write_artifact`` for what may be there.
        include_core: put the core's weights in as well, so that the folder stands alone. By default
            only a core that could not be had again (it has no ``source``) is put in.
        overwrite: replace a model that is there.
    """
    core = model.core
    if include_core is None:
        include_core = core.source is None
    if not include_core and core.source is None:
        raise ValueError(
            f"include_core: core {core.name!r} was not loaded from a name or folder, so the model could "
            "not find it again; pass include_core=True"
        )
    readout = _plain_readout(model.readout)
    tensors: dict[str, Tensor] = {f"readout.{key}": value for key, value in readout.state_dict().items()}
    tensors |= {name: getattr(model, name) for name in UNIT_TENSORS}
    files = {WEIGHTS_FILE: tensors}
    if include_core:
        files[CORE_FILE] = core.state_dict()
    config = {
        "core": {
            "name": core.name,
            "source": core.source,
            "revision": core.revision,
            "content_hash": core.content_hash(),
            "core": core.config.to_dict(),
        },
        "readout": _readout_config(readout),
        "record": asdict(model.record),
    }
    # A value that JSON cannot hold must fail before anything is written.
    json.dumps(config, allow_nan=False)
    return write_artifact(folder, Artifact("response-model", config, files), overwrite=overwrite)


def load_model(folder: str | Path, *, core: Core | None = None) -> ResponseModel:
    """A fitted model from a folder written by ``ResponseModel.save``.

    Args:
        folder: the folder.
        core: the core it was fitted on, if it is at hand; otherwise the one inside the folder is
            used, or the one that the model names is loaded.

    Raises:
        FileNotFoundError: the folder, a file of it, or its core is missing.
        ValueError: damaged or foreign content, or a core other than the one it was fitted on.
    """
    folder = Path(folder)
    config = read_config(folder, "response-model")
    path = folder / CONFIG_FILE
    check_keys(path, config, required={"core", "readout", "record"}, optional=set())
    check_keys(
        path, config["core"], required={"name", "source", "revision", "content_hash", "core"}, optional=set()
    )
    core = _resolve_core(folder, config, core)
    tensors = read_tensors(folder, WEIGHTS_FILE, config)
    own = {key: tensors.pop(key) for key in UNIT_TENSORS if key in tensors}
    readout_tensors = {key.removeprefix("readout."): value for key, value in tensors.items()}
    readout = build_readout(config["readout"])
    fill(readout, readout_tensors, source=str(folder / WEIGHTS_FILE))
    if missing := [name for name in UNIT_TENSORS if name not in own]:
        raise ValueError(f"{folder / WEIGHTS_FILE}: missing {', '.join(missing)}")
    reject_unknown_keys("record", config["record"], FitRecord)
    record = FitRecord(**{**config["record"], "notes": tuple(config["record"].get("notes", ()))})
    readout.requires_grad_(False)
    return ResponseModel(core, readout, record=record, **own)


def _resolve_core(folder: Path, config: dict[str, Any], core: Core | None) -> Core:
    wanted = config["core"]
    if core is None and CORE_FILE in config["files"]:
        core = core_from_parts(wanted, read_tensors(folder, CORE_FILE, config), source=str(folder))
        core.source, core.revision = wanted["source"], wanted["revision"]
        return core
    if core is None:
        from mousev1.hub import load_core

        core = load_core(wanted["source"] or wanted["name"], revision=wanted["revision"])
    if core.content_hash() != wanted["content_hash"]:
        raise ValueError(
            f"core: the model in {folder} was fitted on core {wanted['name']!r} with content hash "
            f"{wanted['content_hash'][:12]}..., got {core.name!r} with {core.content_hash()[:12]}...; "
            "a readout means nothing on another core: pass the right one as core="
        )
    return core


def _plain_readout(readout: GaussianReadout) -> GaussianReadout:
    """The same readout with feature weights of its own; sharing ends with training."""
    if isinstance(readout.weights, FeatureWeights):
        return readout
    units, channels = readout.units, readout.channels
    plain = GaussianReadout(readout.positions, FeatureWeights(units, channels))
    with torch.no_grad():
        assert isinstance(plain.weights, FeatureWeights)
        plain.weights.weight.copy_(readout.weights())
        plain.sigma.copy_(readout.sigma)
        plain.bias.copy_(readout.bias)
    return plain


def _readout_config(readout: GaussianReadout) -> dict[str, Any]:
    config: dict[str, Any] = {"units": readout.units, "channels": readout.channels}
    if isinstance(readout.positions, CortexPositions):
        config["position_network"] = asdict(readout.positions.network.config)
    return config


def build_readout(config: dict[str, Any]) -> GaussianReadout:
    """An empty readout (on the meta device) of the sizes in a config."""
    units, channels = config.get("units"), config.get("channels")
    for name, value in (("units", units), ("channels", channels)):
        if not isinstance(value, int) or not 1 <= value <= 10_000_000:
            raise ValueError(f"readout: {name}: expected a positive whole number, got {value!r}")
    assert isinstance(units, int)
    assert isinstance(channels, int)

    def build() -> GaussianReadout:
        positions: FreePositions | CortexPositions
        if "position_network" in config:
            reject_unknown_keys("position network", config["position_network"], PositionNetworkConfig)
            network = PositionNetwork(PositionNetworkConfig(**config["position_network"]))
            positions = CortexPositions(torch.zeros(units, 2), network)
        else:
            positions = FreePositions(units)
        return GaussianReadout(positions, FeatureWeights(units, channels))

    readout = build_on_meta(build)
    assert isinstance(readout, GaussianReadout)
    return readout
