"""HDF5 files of others: only what is stored in the file itself, and no more than its size allows.

HDF5 can point to other files by external links, external storage and virtual datasets: a file could have what nobody
named read, and where the other file is absent, HDF5 gives zeros. Soft links could lead around what is checked here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mousev1.errors import printable
from mousev1.storage.reading import check_regular, check_unpacked

DAMAGE = (
    OSError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    UnicodeDecodeError,
)
"""What h5py lets through where the structure of a file is damaged."""
TEXTS_AT_A_TIME = 64


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file open for reading.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no regular file, not HDF5, or damaged where the block reads it.
    """
    check_regular(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"{printable(path)}: not a sound HDF5 file ({error}); truncated download or not HDF5 at all, fetch it again"
        ) from error
    with file:
        try:
            yield file
        except DAMAGE as error:
            raise ValueError(f"{printable(path)}: damaged ({error}); fetch or write it again") from error


def is_hdf5(path: Path) -> bool:
    """Whether a regular file is HDF5."""
    check_regular(path)
    return bool(h5py.is_hdf5(path))


def member(group: Any, name: str) -> Any:
    """The group or dataset under a name, such as ``neurons/unit_ids``; None if there is none.

    Raises:
        ValueError: a link that leads out of the file or around in it, or a dataset whose numbers are elsewhere.
    """
    for part in name.split("/"):
        if not isinstance(group, h5py.Group):
            return None
        link = group.get(part, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(
                f"{where(group, part)}: expected a dataset inside this file, got a {type(link).__name__}; copy what it "
                "leads to into the file"
            )
        group = group[part]
    if isinstance(group, h5py.Dataset):
        check_dataset(group)
    return group


def where(group: Any, name: str = "") -> str:
    """What to call a member in messages: file, group and name."""
    inside = "/".join(part for part in (str(group.name).strip("/"), name) if part)
    return f"{printable(group.file.filename)}: {printable(inside)}"


def check_dataset(dataset: Any) -> None:
    """``ValueError`` unless all numbers of a dataset are in its own file, in a size that belongs to it."""
    if dataset.is_virtual or dataset.external:
        raise ValueError(
            f"{where(dataset)}: expected a dataset inside this file, got one whose numbers are in other files; "
            "copy them into one file"
        )
    if dataset.shape is None:
        return
    stored = Path(dataset.file.filename).stat().st_size
    check_unpacked(where(dataset), dataset.size * dataset.dtype.itemsize, stored)
    if dataset.chunks is not None:
        sides = zip(dataset.shape, dataset.chunks, strict=True)
        expected = math.prod(-(-side // step) for side, step in sides)
        check_unpacked(where(dataset), math.prod(dataset.chunks) * dataset.dtype.itemsize, stored)
        # HDF5 reads a chunk that is not there as zeros, however many a damaged shape asks for.
        if dataset.id.get_num_chunks() != expected:
            raise ValueError(
                f"{where(dataset)}: expected {expected} chunks for {dataset.shape}, got {dataset.id.get_num_chunks()}; "
                "written in part or damaged, fetch or write it again"
            )
    elif dataset.size and dataset.id.get_storage_size() == 0:
        raise ValueError(f"{where(dataset)}: expected numbers, got a shape without any; write the file again")


def check_inside(file: Any) -> None:
    """``ValueError`` if anything in a file is stored elsewhere; soft links, which stay inside, are left alone."""
    seen, waiting = set(), [file]
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ValueError(
                    f"{where(group, name)}: leads to another file, {printable(link.filename)!r}; copy what is there "
                    "into this one"
                )
            if not isinstance(link, h5py.HardLink):
                continue
            inner = group[name]
            if isinstance(inner, h5py.Group):
                waiting.append(inner)
            elif isinstance(inner, h5py.Dataset):
                check_dataset(inner)


def texts(dataset: Any) -> NDArray[np.str_]:
    """A dataset of texts; ``ValueError`` if they unpack to more than the size of their file allows."""
    stored, decoded = Path(dataset.file.filename).stat().st_size, dataset.asstr()
    if not dataset.shape:
        return np.array(decoded[()], dtype=str)
    longest, parts = 1, []
    for start in range(0, len(dataset), TEXTS_AT_A_TIME):
        part = np.array(decoded[start : start + TEXTS_AT_A_TIME], dtype=str)
        longest = max(longest, part.dtype.itemsize)
        check_unpacked(where(dataset), dataset.size * longest, stored)
        parts.append(part)
    return np.concatenate(parts) if parts else np.empty(dataset.shape, dtype=str)
