"""One scan in one HDF5 file: layout version 1.

Attributes of the root group::

    format            "mousev1 scan"
    format_version    1
    name              what the scan is called
    animal_id         text; absent if unknown

Datasets (T trials, C channels, H, W, U neurons, I distinct images; texts are UTF-8)::

    images                  (I, C, H, W) uint8 or float32, gray values
    image_ids               (I,) int64 or text, each once
    trials/image            (T,) int64, index into images of what was shown
    trials/tier             (T,) text: train, validation or test; all trials of an image in one tier
    responses               (T, U) float32, at least 0
    neurons/unit_ids        (U,) int64, each once
    neurons/positions       (U, 3) or (U, 2) float32, micrometres; optional
    neurons/match_ids       (U,) int64, -1 for unmatched; optional
    neurons/meta/<name>     (U, ...) numbers, booleans or text; optional, any number of them
    trials/covariates/<name>    (T,) numbers, NaN where missing; optional, any number of them

Files are written for HDF5 1.10 and later, images and responses with Fletcher-32 checksums, so that damage
is noticed. Readers accept files without them and other widths of numbers, as other programs write, and
refuse a newer version.
Other groups and datasets are left alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mousev1.data.hdf5_access import member, opened_hdf5, texts
from mousev1.data.scan_fields import ScanFields
from mousev1.errors import listing, printable

FORMAT = "mousev1 scan"
FORMAT_VERSION = 1
CHUNK_BYTES = 1 << 20

Array = NDArray[Any]


def read_hdf5(path: Path) -> dict[str, Any]:
    """The fields of the scan in an HDF5 file; see ``mousev1.read_scan``."""
    with opened_hdf5(path) as file:
        return _read_parts(file, path)


def _read_parts(file: Any, path: Path) -> dict[str, Any]:
    """The fields of the scan."""
    _check_format(file, path)
    optional = {field: f"neurons/{field}" for field in ("unit_ids", "positions", "match_ids")}
    return {
        "name": _text(file, "name") or path.stem,
        "animal_id": _text(file, "animal_id"),
        "images": _numbers(file, "images", path),
        "image_ids": _load(file, "image_ids", path),
        "trial_image": _load(file, "trials/image", path),
        "tiers": _load(file, "trials/tier", path),
        "responses": _numbers(file, "responses", path),
        **{
            field: _load(file, name, path)
            for field, name in optional.items()
            if member(file, name) is not None
        },
        "neuron_meta": {
            name: _load(file, f"neurons/meta/{name}", path) for name in _names(file, "neurons/meta")
        },
        "covariates": {
            name: _load(file, f"trials/covariates/{name}", path) for name in _names(file, "trials/covariates")
        },
    }


def _check_format(file: Any, path: Path) -> None:
    found = _text(file, "format")
    if found != FORMAT:
        if {"images", "responses", "item_info"} <= set(file):
            raise ValueError(
                f"{path}: this is the older HDF5 layout of neuralpredictors; convert it to a folder with its "
                "convert_static_h5_dataset_to_folder and read that"
            )
        raise ValueError(
            f"{path}: not a scan: expected the attribute format={FORMAT!r}, got {found!r} and "
            f"the entries {listing(file) or 'none'}; mousev1.data.hdf5 describes the layout"
        )
    version = file.attrs.get("format_version")
    if not isinstance(version, int | np.integer):
        raise ValueError(f"{path}: expected a whole number as the attribute format_version, got {version!r}")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: format version {version} is newer than this mousev1 reads ({FORMAT_VERSION}); "
            "upgrade with `pip install -U mousev1`"
        )


def _dataset(file: Any, name: str, path: Path) -> Any:
    dataset = member(file, name)
    if dataset is None:
        raise ValueError(f"{path}: {name}: missing; mousev1.data.hdf5 describes the layout")
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{path}: {printable(name)}: expected a dataset inside this file, got {dataset!r}")
    return dataset


def _names(file: Any, group: str) -> list[str]:
    """Names in a group of any number of datasets; none where it is absent."""
    found = member(file, group)
    return list(found) if isinstance(found, h5py.Group) else []


def _load(file: Any, name: str, path: Path) -> Array:
    dataset = _dataset(file, name, path)
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return texts(dataset)
    if dataset.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {printable(name)}: expected numbers or text, got {dataset.dtype}")
    return np.asarray(dataset[()])


def _numbers(file: Any, name: str, path: Path) -> Array:
    """A large dataset as uint8 or float32, converted while it is read."""
    dataset = _dataset(file, name, path)
    if dataset.dtype.kind not in "uif":
        raise ValueError(f"{path}: {name}: expected numbers, got {dataset.dtype}")
    array = np.empty(dataset.shape, np.uint8 if dataset.dtype == np.uint8 else np.float32)
    if array.size:
        dataset.read_direct(array)
    return array


def write_hdf5(scan: ScanFields, staging: Path) -> None:
    """Write a scan to a new HDF5 file."""
    # From this version on HDF5 has checksums over its own structure, too.
    with h5py.File(staging, "w", libver=("v110", "v110")) as file:
        for name, text in {"format": FORMAT, "name": scan.name, "animal_id": scan.animal_id}.items():
            if text is not None:
                file.attrs[name] = _fixed_length(np.array(text))
        file.attrs["format_version"] = FORMAT_VERSION
        arrays: dict[str, Array | None] = {
            "images": scan.images,
            "image_ids": scan.image_ids,
            "trials/image": scan.trial_image,
            "trials/tier": scan.tiers,
            "responses": scan.responses,
            "neurons/unit_ids": scan.unit_ids,
            "neurons/positions": scan.positions,
            "neurons/match_ids": scan.match_ids,
            **{f"neurons/meta/{name}": values for name, values in scan.neuron_meta.items()},
            **{f"trials/covariates/{name}": values for name, values in scan.covariates.items()},
        }
        for name, array in arrays.items():
            if array is None:
                continue
            if array.dtype.kind == "U":
                file.create_dataset(name, data=_fixed_length(array))
            elif name in ("images", "responses"):
                # Chunks of one length: HDF5 stores the last one in full, however few rows it has.
                rows = math.ceil(len(array) / math.ceil(array.nbytes / CHUNK_BYTES))
                file.create_dataset(name, data=array, chunks=(rows, *array.shape[1:]), fletcher32=True)
            else:
                file.create_dataset(name, data=array)


def _fixed_length(text: Array) -> Array:
    """Text as UTF-8 of one length: texts of any length live in a heap that HDF5 keeps no checksum of."""
    encoded = np.char.encode(text, "utf-8")
    return encoded.astype(h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize)))


def _text(file: Any, name: str) -> str | None:
    """A text attribute of the root group, None if it is not there."""
    value = file.attrs.get(name)
    return None if value is None else value.decode("utf-8") if isinstance(value, bytes) else str(value)
