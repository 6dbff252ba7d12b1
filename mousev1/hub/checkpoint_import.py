"""Published checkpoints of the field, turned into ours; with ``core_checkpoint`` the only file that knows their names.

Three kinds are known: the core of Lurz et al. 2021 (a torch state dict), whole models as published
for Sensorium 2022 (core and Gaussian readout in one state dict), and either as safetensors. A state
dict does not say how images were scaled, so that is known per file by its checksum, or has to be given.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mousev1.core.network import Core, InputContract
from mousev1.errors import listing
from mousev1.hub.core_checkpoint import core_from_state, read_torch_state
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.readout.gaussian import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
    PositionNetworkConfig,
)
from mousev1.storage.artifact import fill, open_safetensors
from mousev1.storage.atomic import file_sha256


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint that its authors published: what its bytes cannot say."""

    name: str
    input: InputContract


Z_SCORED = InputContract(mean=113.0, std=60.0)

# by SHA-256 of the file
PUBLISHED = {
    "02af3094811e063a0266c6fb10702f2a2882d6b29cf4f8f82380d4bb36bc303f": PublishedCheckpoint(
        "11-S", InputContract()
    ),
    "7a87989732c34068fe10aaf1dd2c0421cb47cb1693b4f95a5e0e381632456173": PublishedCheckpoint(
        "sensorium-26872-17-20", Z_SCORED
    ),
    "cb4289d202bd340bc012139b4a361175787e2cf639f449500de580f00f024bd9": PublishedCheckpoint(
        "bashiri-1s-23555-39-24", Z_SCORED
    ),
}


def import_checkpoint(
    path: str | Path,
    *,
    sha256: str | None = None,
    name: str | None = None,
    contract: InputContract | None = None,
    session: str | None = None,
    final_tanh: bool | None = None,
) -> Core | ResponseModel:
    """A published checkpoint as a frozen core, or as a model if it holds a readout too.

    Args:
        path: the checkpoint: a torch state dict or a safetensors file. Pickled code is never run.
        sha256: refuse the file unless it has this checksum (64 hexadecimal digits).
        name: what to call the core; by default the published name, or the file's own.
        contract: how the core's images were scaled. Needed unless the file is a published one that
            mousev1 knows by its checksum; guessing would make every prediction silently wrong.
        session: which readout to take, if the checkpoint holds several.
        final_tanh: whether a position network ends in tanh, which leaves no trace in a state dict. By
            default one with a hidden layer does, as in the models published for Sensorium, and an
            affine map does not.

    Raises:
        FileNotFoundError: no such file.
        ValueError: wrong checksum, not a plain state dict, names or shapes that do not fit, or no
            contract for an unknown file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a checkpoint file, found none at {path}")
    digest = file_sha256(path)
    if sha256 is not None and digest != sha256.lower():
        raise ValueError(
            f"sha256: {path} has {digest}, expected {sha256.lower()}; the file is damaged or another one"
        )
    known = PUBLISHED.get(digest)
    if contract is None:
        if known is None:
            raise ValueError(
                f"contract: {path} is no checkpoint that mousev1 knows (SHA-256 {digest}), and its weights "
                "do not say how images were scaled; pass contract=InputContract(mean=..., std=...) or, on "
                "the command line, --mean and --std (0 and 1 for raw 0-255 images)"
            )
        contract = known.input
    name = name or (known.name if known else path.stem)
    state = _read_state(path)
    core_state = {key.removeprefix("core."): value for key, value in state.items() if key.startswith("core.")}
    if not core_state:
        return core_from_state(state, contract, name, source=str(path))
    core = core_from_state(core_state, contract, name, source=str(path))
    session, readout = _readout_state(state, session, path)
    return _import_model(core, readout, session, final_tanh, source=str(path))


def _readout_state(
    state: dict[str, Tensor], session: str | None, path: Path
) -> tuple[str, dict[str, Tensor]]:
    """One session and the tensors of its readout; ``ValueError`` if it is unclear which, or not there."""
    sessions = sorted({key.split(".")[1] for key in state if key.startswith("readout.")})
    if session is None and len(sessions) == 1:
        session = sessions[0]
    if session is None or session not in sessions:
        raise ValueError(
            f"session: expected one of the readouts in {path}, {listing(sessions)}, got {session!r}"
        )
    if foreign := sorted(key for key in state if not key.startswith(("core.", "readout."))):
        raise ValueError(f"{path}: parts that this library has no use for: {listing(foreign)}")
    prefix = f"readout.{session}."
    return session, {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def _read_state(path: Path) -> dict[str, Tensor]:
    with open(path, "rb") as handle:
        start = handle.read(9)
    # A safetensors file starts with the length of its JSON header, then the JSON.
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return open_safetensors(path)
    return read_torch_state(path, source=str(path))


def _import_model(
    core: Core, state: dict[str, Tensor], session: str, final_tanh: bool | None, *, source: str
) -> ResponseModel:
    where = f"{source}: readout {session!r}"
    if missing := sorted({"_features", "bias", "sigma"} - set(state)):
        raise ValueError(f"{where} lacks {listing(missing)}")
    units, channels = state["bias"].shape[0], state["_features"].shape[1]
    used = {"_features", "bias", "sigma"}
    network_state = {
        key.removeprefix("mu_transform."): value
        for key, value in state.items()
        if key.startswith("mu_transform.")
    }
    positions: FreePositions | CortexPositions
    if network_state and "source_grid" in state:
        positions = CortexPositions(
            state["source_grid"].reshape(units, 2), _import_network(network_state, final_tanh, where)
        )
        used |= {"source_grid", *(f"mu_transform.{key}" for key in network_state)}
        located = {f"positions.{key}": value for key, value in positions.state_dict().items()}
    elif "_mu" in state:
        positions = FreePositions(units)
        used.add("_mu")
        located = {"positions.mu": state["_mu"].reshape(units, 2)}
    else:
        raise ValueError(f"{where} has neither positions ('_mu') nor a network with its 'source_grid'")
    weights = state["_features"].reshape(channels, -1).T
    if "feature_sharing_index" in state and "scales" in state:
        weights = state["scales"].reshape(units, 1) * weights[state["feature_sharing_index"]]
        used |= {"feature_sharing_index", "scales"}
    if unknown := sorted(set(state) - used):
        raise ValueError(f"{where} has unknown tensors {listing(unknown)}")
    readout = GaussianReadout(positions, FeatureWeights(units, channels))
    ours = {
        "sigma": _full_sigma(state["sigma"], units),
        "bias": state["bias"],
        "weights.weight": weights,
        **located,
    }
    fill(readout, {key: value.clone().contiguous() for key, value in ours.items()}, source=where)
    readout.requires_grad_(False)
    return ResponseModel(
        core,
        readout,
        unit_ids=np.arange(units),
        response_scale=np.ones(units, dtype=np.float32),
        record=FitRecord(method="imported", settings={"file": Path(source).name, "session": session}),
    )


def _full_sigma(sigma: Tensor, units: int) -> Tensor:
    """The sampling map as (U, 2, 2), from a full, an uncorrelated or an isotropic Gaussian."""
    if sigma.numel() == units * 4:
        return sigma.reshape(units, 2, 2)
    return torch.diag_embed(sigma.reshape(units, -1).expand(units, 2))


def _import_network(state: dict[str, Tensor], final_tanh: bool | None, where: str) -> PositionNetwork:
    """Linear layers at even indices of a Sequential, ELU between them, and perhaps a tanh at the end."""
    indices = sorted({int(key.split(".")[0]) for key in state})
    widths = [state[f"{index}.weight"].shape[0] for index in indices]
    config = PositionNetworkConfig(
        hidden_layers=len(indices) - 1,
        hidden_features=widths[0] if len(indices) > 1 else 30,
        final_tanh=len(indices) > 1 if final_tanh is None else final_tanh,
    )
    network = PositionNetwork(config)
    renamed = {
        f"layers.{i}.{part}": state[f"{index}.{part}"].clone()
        for i, index in enumerate(indices)
        for part in ("weight", "bias")
    }
    fill(network, renamed, source=f"{where}: position network")
    return network
