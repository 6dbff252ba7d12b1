"""Fitted models on disk: the readout alone, and which core it belongs to."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mousev1.core.feature_statistics import TrainingStatistics
from mousev1.core.representation import FrozenCore, Representation, as_core
from mousev1.errors import listing, reject_unknown_keys
from mousev1.hub.cores import is_reachable, is_repo_id, load_core
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.readout.gaussian import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
    PositionNetworkConfig,
    as_gaussian,
)
from mousev1.readout.posterior import WeightPosterior
from mousev1.storage.artifact import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    Artifact,
    build_on_meta,
    check_files,
    check_keys,
    fill,
    read_config,
    read_tensors,
    write_artifact,
)
from mousev1.storage.atomic import whole_version
from mousev1.storage.core_files import MODEL_CORE_FILE, core_from_parts

POSTERIOR_FILE = "posterior.safetensors"
STATISTICS_FILE = "training-statistics.safetensors"
OPTIONAL_FILES = (MODEL_CORE_FILE, POSTERIOR_FILE, STATISTICS_FILE)
UNIT_TENSORS = ("unit_ids", "response_scale")


def save_model(
    model: ResponseModel,
    folder: str | Path,
    *,
    include_core: bool | None = None,
    include_posterior: bool = True,
    card: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a fitted model as a folder.

    Args:
        model: what to save.
        folder: where to; see ``artifact.write_artifact`` for what may be there.
        include_core: put the core's weights in as well, so that the folder stands alone. By default
            only a core that could not be had again (it has no ``source``) is put in. Of a ``Representation`` only
            name, sizes and content hash are kept: a folder could not say how to build its module.
        include_posterior: keep what ``predict(return_std=True)`` needs, as much again as the readout.
        card: text of ``README.md``; none is written by default.
        overwrite: replace a model that is there.

    Raises:
        TypeError: the model's readout is not Gaussian.
        ValueError: the core is to be included and is a ``Representation``, or is not and could not be found again.
    """
    model.check_type()
    core, weights = _core_config(model.core, include_core)
    readout = _plain_readout(as_gaussian(model.readout, "save"))
    tensors: dict[str, Tensor] = {f"readout.{key}": value for key, value in readout.state_dict().items()}
    tensors |= {name: getattr(model, name) for name in UNIT_TENSORS}
    files = {WEIGHTS_FILE: tensors}
    if model.posterior is not None and include_posterior:
        files[POSTERIOR_FILE] = {"basis": model.posterior.basis, "variances": model.posterior.variances}
    if model.training_statistics is not None:
        files[STATISTICS_FILE] = model.training_statistics.tensors()
    if weights is not None:
        files[MODEL_CORE_FILE] = weights
    config = {
        "core": core,
        "readout": _readout_config(readout),
        "record": _record_config(model.record),
    }
    # A value that JSON cannot hold must fail before anything is written.
    json.dumps(config, allow_nan=False)
    texts = {} if card is None else {CARD_FILE: card}
    return write_artifact(folder, Artifact("response-model", config, files, texts), overwrite=overwrite)


def _core_config(
    core: FrozenCore, include_core: bool | None
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """What the config says about a core or a representation, and the weights to be put in, if any."""
    described: dict[str, Any] = {
        "name": core.name,
        "source": core.source,
        "revision": core.revision,
        "content_hash": core.content_hash(),
    }
    if isinstance(core, Representation):
        if include_core:
            raise ValueError(
                f"include_core: expected a mousev1 Core, got the representation {core.name!r}, whose code a folder "
                "cannot hold; pass include_core=False and keep the code that builds it: "
                "load_model(folder, core=representation)"
            )
        sizes = {"input_channels": core.config.input_channels, "hidden_channels": core.config.hidden_channels}
        return {**described, "representation": {"input": asdict(core.config.input), **sizes}}, None
    core = as_core(core, "save")
    if include_core is None:
        include_core = core.source is None
    if not include_core and core.source is None:
        raise ValueError(
            f"include_core: core {core.name!r} was not loaded from a name or folder, so the model could "
            "not find it again; pass include_core=True"
        )
    described["core"] = core.config.to_dict()
    if include_core and not is_reachable(core.source):
        described["source"] = None
    return described, core.state_dict() if include_core else None


def load_model(
    source: str | Path, *, core: FrozenCore | None = None, revision: str | None = None
) -> ResponseModel:
    """A fitted model from a folder written by ``ResponseModel.save``, or from the Hub.

    Args:
        source: the folder, or ``"owner/repo"`` on the Hub if there is no such folder.
        core: the core it was fitted on, if it is at hand; otherwise the one inside the folder is
            used, or the one that the model names is loaded. A model fitted on a ``Representation`` needs it.
        revision: branch, tag or commit of a Hub repository; the newest commit by default.

    Raises:
        FileNotFoundError: the folder, a file of it, or its core is missing.
        ValueError: damaged or foreign content, or a core other than the one it was fitted on.
        PermissionError: a private or gated repository.
        ConnectionError: the Hub failed; ``TimeoutError`` if it did not answer.
    """
    if Path(source).exists() or not is_repo_id(source):
        if revision is not None:
            raise ValueError(f"revision: a local folder has no revisions, got {revision!r} for {source}")
        return whole_version(Path(source), lambda folder: _load_folder(folder, core))
    from mousev1.hub.download import load_artifact

    names = (WEIGHTS_FILE, *OPTIONAL_FILES)
    return load_artifact(
        str(source), revision, "response-model", names, lambda folder: _load_folder(folder, core, shared=True)
    )


def _load_folder(folder: Path, core: FrozenCore | None, *, shared: bool = False) -> ResponseModel:
    """A model from a folder; of one that others shared, no path on this machine is followed."""
    config = read_config(folder, "response-model")
    path = folder / CONFIG_FILE
    check_keys(path, config, required={"core", "readout", "record"}, optional=set())
    check_files(folder, config, required={WEIGHTS_FILE}, optional=set(OPTIONAL_FILES))
    for key in ("core", "readout", "record"):
        if not isinstance(config[key], dict):
            raise ValueError(f"{path}: '{key}': expected an object, got {config[key]!r}")
    sizes = "representation" if "representation" in config["core"] else "core"
    check_keys(
        path, config["core"], required={"name", "source", "revision", "content_hash", sizes}, optional=set()
    )
    core = _resolve_core(folder, config, core, shared=shared)
    tensors = read_tensors(folder, WEIGHTS_FILE, config)
    own = {key: tensors.pop(key) for key in UNIT_TENSORS if key in tensors}
    if unknown := sorted(key for key in tensors if not key.startswith("readout.")):
        raise ValueError(f"{folder / WEIGHTS_FILE}: unknown tensors {listing(unknown)}")
    try:
        readout = build_readout(config["readout"])
        record = _read_record(config["record"])
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    readout_tensors = {key.removeprefix("readout."): value for key, value in tensors.items()}
    fill(readout, readout_tensors, source=str(folder / WEIGHTS_FILE))
    _check_units(own, readout.units, folder / WEIGHTS_FILE)
    readout.requires_grad_(False)
    posterior = _read_posterior(folder, config) if POSTERIOR_FILE in config["files"] else None
    statistics = _read_statistics(folder, config) if STATISTICS_FILE in config["files"] else None
    return ResponseModel(
        core, readout, record=record, posterior=posterior, training_statistics=statistics, **own
    )


def _read_posterior(folder: Path, config: dict[str, Any]) -> WeightPosterior:
    tensors = read_tensors(folder, POSTERIOR_FILE, config)
    if set(tensors) != {"basis", "variances"}:
        raise ValueError(
            f"{folder / POSTERIOR_FILE}: expected 'basis' and 'variances', got {listing(sorted(tensors))}"
        )
    return WeightPosterior(**tensors)


def _read_statistics(folder: Path, config: dict[str, Any]) -> TrainingStatistics:
    tensors, path = read_tensors(folder, STATISTICS_FILE, config), folder / STATISTICS_FILE
    expected = {f.name for f in fields(TrainingStatistics)}
    if set(tensors) != expected:
        raise ValueError(f"{path}: expected {listing(sorted(expected))}, got {listing(sorted(tensors))}")
    try:
        return TrainingStatistics(**tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _record_config(record: FitRecord) -> dict[str, Any]:
    """A record as JSON values; an undefined score, NaN, becomes null."""
    scores = {name: value if math.isfinite(value) else None for name, value in record.scores.items()}
    return {**asdict(record), "scores": scores, "notes": list(record.notes)}


def _read_record(values: dict[str, Any]) -> FitRecord:
    reject_unknown_keys("record", values, FitRecord)
    kinds = {"method": str, "settings": dict, "n_images": int, "scores": dict, "notes": list}
    for key, kind in kinds.items():
        if key in values and not isinstance(values[key], kind):
            raise ValueError(f"record: {key}: expected a {kind.__name__}, got {values[key]!r}")
    size = values.get("image_size")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(type(v) is int and v > 0 for v in size)
    ):
        raise ValueError(f"record: image_size: expected two positive whole numbers, got {size!r}")
    scores = {k: math.nan if v is None else float(v) for k, v in values.get("scores", {}).items()}
    own = {"scores": scores, "notes": tuple(values.get("notes", ())), "image_size": size and tuple(size)}
    return FitRecord(**{**values, **own})


def _check_units(tensors: dict[str, Tensor], units: int, path: Path) -> None:
    """Refuse ids and scales of the neurons that are missing, of a wrong kind or meaningless."""
    if missing := [name for name in UNIT_TENSORS if name not in tensors]:
        raise ValueError(f"{path}: missing {listing(missing)}")
    for name, dtype in zip(UNIT_TENSORS, (torch.int64, torch.float32), strict=True):
        tensor = tensors[name]
        if tensor.shape != (units,) or tensor.dtype != dtype:
            raise ValueError(
                f"{path}: '{name}': expected ({units},) {dtype}, got {tuple(tensor.shape)} {tensor.dtype}"
            )
    scale = tensors["response_scale"]
    if not bool((scale.isfinite() & (scale > 0)).all()):
        raise ValueError(f"{path}: 'response_scale': expected finite positive numbers")


def _resolve_core(
    folder: Path, config: dict[str, Any], core: FrozenCore | None, *, shared: bool
) -> FrozenCore:
    wanted = config["core"]
    if core is None and "representation" in wanted:
        raise ValueError(
            f"core: the model in {folder} was fitted on the representation {wanted['name']!r}, whose code it does not "
            f"hold; build the representation as before the fit (content hash {str(wanted['content_hash'])[:12]}...) "
            "and pass it in Python: mousev1.load_model(folder, core=representation)"
        )
    if core is None and MODEL_CORE_FILE in config["files"]:
        core = core_from_parts(wanted, read_tensors(folder, MODEL_CORE_FILE, config), source=str(folder))
        core.source, core.revision = wanted["source"], wanted["revision"]
        return core
    if core is None:
        origin = wanted["source"] or wanted["name"]
        if not isinstance(origin, str) or not isinstance(wanted["revision"], str | None):
            raise ValueError(f"{folder / CONFIG_FILE}: 'core': 'source' and 'revision' are not text")
        if shared and not is_reachable(origin):
            raise ValueError(
                f"{folder / CONFIG_FILE}: 'source' of the core: expected a known name or a repository, got {origin!r}; "
                "a shared model must not name files of this machine: if this is your own, pass it as core="
            )
        try:
            core = load_core(origin, revision=wanted["revision"])
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"core: the model in {folder} was fitted on core {wanted['name']!r}, which is not where it was "
                f"({error}); load it from elsewhere and pass it as core="
            ) from error
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
    if unknown := sorted(set(config) - {"units", "channels", "position_network"}):
        raise ValueError(f"readout: unknown keys {listing(unknown)}; a newer mousev1 may know more")
    units, channels = config.get("units"), config.get("channels")
    for name, value in (("units", units), ("channels", channels)):
        if type(value) is not int or not 1 <= value <= 10_000_000:
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
