"""A scan as the published file tree, which ``mousev1.data.file_tree`` describes and reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from mousev1.data import npy
from mousev1.data.archive import write_folder, write_zip
from mousev1.data.file_tree import FORMAT, FORMAT_VERSION, IMAGE_ORDER, MARKER
from mousev1.data.file_tree_covariates import covariate_members
from mousev1.data.scan_fields import ScanFields
from mousev1.data.validation import Array
from mousev1.errors import listing

UNITS_PER_BLOCK = 256


def write_file_tree(scan: ScanFields, target: Path, staging: Path, *, progress: bool = False) -> None:
    """Write a scan as a folder, or a zip if ``target`` ends so, to ``staging``, which becomes ``target``."""
    members = _members(scan, progress)
    if target.suffix.lower() == ".zip":
        # neuralpredictors extracts x.zip and then expects a folder x.
        write_zip(staging, members, top=target.stem)
    else:
        write_folder(staging, members)


def _members(scan: ScanFields, progress: bool) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file of the tree."""
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": scan.name,
        "animal_id": scan.animal_id,
    }
    yield MARKER, (json.dumps(header, indent=2) + "\n").encode()
    extra: dict[str, Array] = {IMAGE_ORDER: scan.image_ids}
    trials = {
        "tiers": scan.tiers,
        "frame_image_id": scan.image_ids[scan.trial_image],
        # The Sensorium loaders ask for these two.
        "frame_image_class": np.full(scan.n_trials, "image"),
        "trial_idx": scan.covariates.get("trial_order", np.arange(scan.n_trials)),
    }
    for group, arrays in (("trials", trials), ("neurons", _neuron_files(scan))):
        extra |= {f"meta/{group}/{name}.npy": array for name, array in arrays.items()}
    for name, array in {**extra, **_statistics(scan), **dict(covariate_members(scan.covariates))}.items():
        yield name, npy.encode(array)
    numbers = tqdm(range(scan.n_trials), desc="Writing trials", unit="trial", disable=not progress)
    for trial in numbers:
        yield f"data/images/{trial}.npy", npy.encode(scan.images[scan.trial_image[trial]])
        yield f"data/responses/{trial}.npy", npy.encode(scan.responses[trial])


def _neuron_files(scan: ScanFields) -> dict[str, Array]:
    files: dict[str, Array] = {"unit_ids": scan.unit_ids}
    if scan.positions is not None:
        files["cell_motor_coordinates"] = scan.positions
    if scan.match_ids is not None:
        files["multi_match_id"] = scan.match_ids
    if scan.animal_id is not None:
        is_number = scan.animal_id.isdecimal() and len(scan.animal_id) < 19
        files["animal_ids"] = np.full(scan.n_units, int(scan.animal_id) if is_number else scan.animal_id)
    taken = sorted(set(files) & set(scan.neuron_meta))
    if taken:
        raise ValueError(
            f"neuron_meta: the names {listing(taken)} are taken by the file tree; rename them, or write .h5"
        )
    return files | dict(scan.neuron_meta)


def _statistics(scan: ScanFields) -> dict[str, Array]:
    """What neuralpredictors' NeuroNormalizer asks for, over all trials and over the training trials."""
    files: dict[str, Array] = {}
    for source, rows in (
        ("all", np.arange(scan.n_trials)),
        ("train", np.flatnonzero(scan.tiers == "train")),
    ):
        if not len(rows):
            continue
        shown = scan.images[scan.trial_image[rows]].reshape(1, -1)
        for name, values in _summaries(shown).items():
            files[f"meta/statistics/images/{source}/{name}.npy"] = values.reshape(())
        blocks = [
            _summaries(scan.responses[rows, start : start + UNITS_PER_BLOCK].T)
            for start in range(0, scan.n_units, UNITS_PER_BLOCK)
        ]
        for name in blocks[0]:
            values = np.concatenate([block[name] for block in blocks])
            files[f"meta/statistics/responses/{source}/{name}.npy"] = values
    return files


def _summaries(rows: Array) -> dict[str, NDArray[np.float32]]:
    """Mean, standard deviation, extremes and median of every row, as float32."""
    rows = np.ascontiguousarray(rows)
    values = {
        "mean": rows.mean(axis=1, dtype=np.float64),
        "std": rows.std(axis=1, dtype=np.float64),
        "min": rows.min(axis=1),
        "max": rows.max(axis=1),
        "median": np.median(rows, axis=1),
    }
    return {name: value.astype(np.float32) for name, value in values.items()}
