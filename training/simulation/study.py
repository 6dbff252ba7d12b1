"""A folder of simulated scans: written one by one, each whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from mousev1.metrics.population_scores import Truth
from training.provenance import data_sha256, versions, write_json
from training.simulation.config import FILE_SUFFIXES, SimulationConfig
from training.simulation.scans import SimulatedTruth, simulate_scan, summarise
from training.simulation.settings import DEAD_LEAVES

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1


def simulate_study(
    config: SimulationConfig, out: str | Path, *, report: Callable[[str], None] = print
) -> Path:
    """Simulate every scan of a config that the folder does not have yet; returns the path of the manifest.

    Writes ``<scan>.h5`` (or the config's file format), ``<scan>.truth.npz`` and, after each scan,
    ``manifest.json`` with the config, versions, and the SHA-256 of every file. Stopped at any instant
    and started again, it finishes with the bytes of an undisturbed run. ``report`` gets a line per scan.

    Raises:
        FileExistsError: the folder holds scans of another config.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    manifest = _open_manifest(out, config)
    for turn, name in enumerate(config.scans, start=1):
        done = manifest["scans"].get(name)
        prefix = f"[{turn}/{len(config.scans)}] {name}: "
        if done and all(_is_intact(out / file, sha256) for file, sha256 in done["sha256"].items()):
            report(f"{prefix}already there")
            continue
        start = time.perf_counter()
        scan, truth = simulate_scan(name, config)
        files = [out / f"{name}{FILE_SUFFIXES[config.file_format]}", out / f"{name}.truth.npz"]
        partial = out / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        scan.write(partial / files[0].name)
        write_truth(truth, partial / files[1].name)
        for file in files:
            if file.is_dir():
                shutil.rmtree(file)
            os.replace(partial / file.name, file)
        partial.rmdir()
        summary = summarise(scan, truth)
        manifest["scans"][name] = {
            "units": scan.n_units,
            "images": scan.n_images,
            "trials": scan.n_trials,
            "sha256": {file.name: data_sha256(file) for file in files},
            # JSON has no NaN.
            **{key: round(value, 4) if math.isfinite(value) else None for key, value in summary.items()},
        }
        write_json(out / MANIFEST, manifest)
        report(
            f"{prefix}{scan.n_units:,} neurons, {scan.n_images:,} images, {scan.n_trials:,} trials, "
            f"oracle {summary['oracle']:.3f}, {time.perf_counter() - start:.1f} s, wrote {files[0]}"
        )
    return out / MANIFEST


def write_truth(truth: SimulatedTruth, path: Path) -> None:
    """Write ``<scan>.truth.npz``; unlike ``numpy.savez``, the same truth gives the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in truth.to_arrays().items():
            info = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(info, "w", force_zip64=True) as member:
                npy.write_array(member, np.ascontiguousarray(values), allow_pickle=False)


def read_truth(path: Path) -> Truth:
    """The true rates of a simulated scan, as ``write_truth`` writes them or under older names."""
    with np.load(path) as arrays:
        simulation = "rate_image_id" in arrays
        ids, rates, dead = (
            ("rate_image_id", "rate", "silent") if simulation else ("test_image_id", "rate_test", "dead")
        )
        return Truth(arrays[ids], arrays[rates], ~arrays[dead])


def config_sha256(config: SimulationConfig) -> str:
    """SHA-256 of everything that decides the content of a scan: not which scans, nor where pictures lie."""
    values = config.to_dict()
    del values["scans"]
    if config.stimuli.source != DEAD_LEAVES:
        values["stimuli"]["source"] = data_sha256(Path(config.stimuli.source))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _is_intact(path: Path, sha256: str) -> bool:
    return path.exists() and data_sha256(path) == sha256


def _open_manifest(out: Path, config: SimulationConfig) -> dict[str, Any]:
    """The manifest of the folder, new if there is none."""
    path = out / MANIFEST
    fresh: dict[str, Any] = {
        "format": "mousev1 simulation",
        "format_version": MANIFEST_VERSION,
        "command": "python -m training.simulation CONFIG.toml --out DIR",
        "config_sha256": config_sha256(config),
        "seed": config.seed,
        "config": config.to_dict(),
        "versions": versions("pillow", "h5py"),
        "scans": {},
    }
    if not path.exists():
        return fresh
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("config_sha256") != fresh["config_sha256"]:
        raise FileExistsError(
            f"out: {out} holds scans of another config (see {path}); give another folder, or remove this one"
        )
    return {**fresh, "scans": manifest["scans"]}
