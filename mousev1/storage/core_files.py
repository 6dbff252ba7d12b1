"""Cores on disk: config, weights, self-test and what is known of readouts before a fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mousev1.core.network import Core, CoreConfig
from mousev1.core.self_test import make_probe
from mousev1.errors import listing
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

PROBE_FILE = "probe.safetensors"


PRIOR_FILE = "prior.safetensors"


MODEL_CORE_FILE = "core.safetensors"  # the weights of a core inside of a model's folder


def save_core(core: Core, folder: str | Path, *, card: str | None = None, overwrite: bool = False) -> Path:
    """Write a core with its probe and, if it has one, its prior on readouts.

    Args:
        core: what to save.
        folder: where to; see ``write_artifact`` for what may be there.
        card: text of ``README.md``; none is written if not given.
        overwrite: replace a core that is there.
    """
    tensors = {WEIGHTS_FILE: core.state_dict(), PROBE_FILE: core.probe or make_probe(core)}
    if core.readout_prior is not None:
        tensors[PRIOR_FILE] = core.readout_prior
    artifact = Artifact(
        kind="core",
        config={"name": core.name, "content_hash": core.content_hash(), "core": core.config.to_dict()},
        tensors=tensors,
        texts={} if card is None else {CARD_FILE: card},
    )
    return write_artifact(folder, artifact, overwrite=overwrite)


def load_core_folder(folder: str | Path) -> Core:
    """A frozen core from a folder written by ``save_core``.

    Raises:
        FileNotFoundError: the folder or a file of it is missing.
        ValueError: anything in it that is not exactly what the config promises.
    """
    return whole_version(Path(folder), _load)


def _load(folder: Path) -> Core:
    config = read_config(folder, "core")
    check_keys(folder / CONFIG_FILE, config, required={"name", "content_hash", "core"}, optional=set())
    check_files(folder, config, required={WEIGHTS_FILE}, optional={PROBE_FILE, PRIOR_FILE})
    core = core_from_parts(config, read_tensors(folder, WEIGHTS_FILE, config), source=str(folder))
    if PROBE_FILE in config["files"]:
        core.probe = _checked_probe(core, read_tensors(folder, PROBE_FILE, config), folder / PROBE_FILE)
    if PRIOR_FILE in config["files"]:
        core.readout_prior = read_tensors(folder, PRIOR_FILE, config)
        _check_finite(core.readout_prior, folder / PRIOR_FILE)
    return core


def load_core_of_model(folder: str | Path) -> Core | str:
    """The core inside of a fitted model's folder, or the name of the source it came from if it is not in there."""
    folder = Path(folder)
    config = read_config(folder, "response-model")
    described = config.get("core")
    if isinstance(described, dict) and "representation" in described:
        raise ValueError(
            f"core: the model in {folder} was fitted on the representation {described.get('name')!r}, whose code "
            "it does not hold; build the representation again and use that"
        )
    if not isinstance(described, dict) or not {"name", "content_hash", "core", "source"} <= set(described):
        raise ValueError(f"{folder / CONFIG_FILE}: no description of a core; save the model again")
    if MODEL_CORE_FILE not in config["files"]:
        return str(described["source"] or described["name"])
    tensors = read_tensors(folder, MODEL_CORE_FILE, config)
    return core_from_parts(described, tensors, source=str(folder))


def core_from_parts(config: dict[str, Any], tensors: dict[str, Tensor], *, source: str) -> Core:
    """A frozen core from the ``name``, ``core`` and ``content_hash`` of a config and its tensors."""
    for key, kind in (("name", str), ("content_hash", str), ("core", dict)):
        if not isinstance(config[key], kind):
            raise ValueError(f"{source}: '{key}': expected a {kind.__name__}, got {config[key]!r}")
    try:
        core_config = CoreConfig.from_dict(config["core"])
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{source}: no sound core config: {error}") from error
    core = build_on_meta(lambda: Core(core_config, name=config["name"]))
    assert isinstance(core, Core)
    fill(core, tensors, source=source)
    core.freeze()
    if core.content_hash() != config["content_hash"]:
        raise ValueError(
            f"{source}: config and weights do not belong together (content hash {core.content_hash()}, "
            f"expected {config['content_hash']}); fetch or save the artifact again"
        )
    return core


def _checked_probe(core: Core, probe: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    if set(probe) != {"images", "features"} or probe["images"].ndim != 4:
        raise ValueError(
            f"{path}: expected 'images' (N, C_in, H, W) and 'features', got {listing(sorted(probe))}"
        )
    count, channels, height, width = probe["images"].shape
    expected = (count, *core.config.feature_shape(height, width))
    right_kind = probe["images"].dtype == probe["features"].dtype == torch.float32
    if channels != core.config.input_channels or probe["features"].shape != expected or not right_kind:
        raise ValueError(
            f"{path}: images {tuple(probe['images'].shape)} and features {tuple(probe['features'].shape)} do not "
            f"fit the core, which makes {expected} float32 of such images"
        )
    _check_finite(probe, path)
    return probe


def _check_finite(tensors: dict[str, Tensor], path: Path) -> None:
    bad = [key for key, value in tensors.items() if not bool(value.isfinite().all())]
    if bad or not tensors:
        raise ValueError(f"{path}: expected finite numbers, got {listing(sorted(bad)) or 'no tensor at all'}")
