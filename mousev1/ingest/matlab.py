"""MATLAB files, v5 (scipy) and v7.3 (HDF5), to named variables; structures become dicts, cells become lists."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from mousev1.data.hdf5_access import check_dataset, is_hdf5, member, opened_hdf5, where
from mousev1.errors import printable
from mousev1.ingest.named_arrays import recording_of
from mousev1.ingest.recording import Recording
from mousev1.ingest.report import Report
from mousev1.storage.reading import check_regular, check_unpacked

MAX_DEPTH = 20
# Of the format before v7.3: bytes of the header, and the type of an element that is compressed.
V5_HEADER, V5_COMPRESSED = 128, 15
BLOCK = 1 << 14
# Of the header of an object in HDF5, at least.
BYTES_PER_VALUE = 64


def read_matlab(path: Path, report: Report, *, signal: str = "spikes") -> Recording:
    """The recording in a ``.mat`` file; ``named_arrays`` lists the names of variables.

    Raises:
        ValueError: not a MATLAB file, or without traces.
        ModuleNotFoundError: v5 without scipy.
    """
    variables = _read_v73(path) if is_hdf5(path) else _read_v5(path)
    return recording_of(variables, path.stem, report, signal=signal, matlab=True)


def _read_v5(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path}: MATLAB files before v7.3 need scipy: pip install scipy"
        ) from error
    try:
        _check_compressed(path)
        found = loadmat(path, simplify_cells=True)
    except Exception as error:  # the reader fails in many ways on a file that is damaged
        raise ValueError(f"{printable(path)}: not a sound MATLAB file ({error}); save it again") from error
    return {name: value for name, value in found.items() if not name.startswith("__")}


def _check_compressed(path: Path) -> None:
    """Count what the compressed variables of a v5 file unpack to, keeping nothing of it."""
    size = check_regular(path)
    unpacked, at = 0, V5_HEADER
    with open(path, "rb") as file:
        file.seek(V5_HEADER - 2)
        order: Literal["little", "big"] = "little" if file.read(2) == b"IM" else "big"
        while at + 8 <= size:
            file.seek(at)
            kind, length = (int.from_bytes(file.read(4), order) for _ in range(2))
            if kind == V5_COMPRESSED:
                unpacker, left = zlib.decompressobj(), length
                while left > 0 and (packed := file.read(min(left, BLOCK))):
                    left -= len(packed)
                    while packed and not unpacker.eof:
                        unpacked += len(unpacker.decompress(packed, 64 * BLOCK))
                        packed = unpacker.unconsumed_tail
                        check_unpacked(printable(path), unpacked, size)
            at += 8 + length


class _Variables:
    """Reads values of a v7.3 file, no more of them than a file of its size has."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.stored = Path(file.filename).stat().st_size
        self.values, self.bytes = 0, 0

    def read(self, item: Any, depth: int) -> Any:
        """A structure as a dict, a cell array as a list, numbers as an array, characters as a text."""
        if depth > MAX_DEPTH:
            raise ValueError(
                f"structures nested more than {MAX_DEPTH} deep; save the variables at the top of the file"
            )
        self.values += 1
        # One value may stand in many cells, and these in many others.
        if self.values > self.stored // BYTES_PER_VALUE:
            raise ValueError(f"{where(item)}: more values than a file of its size can hold; save it again")
        if isinstance(item, h5py.Group):
            return {name: self.read(member(item, name), depth + 1) for name in item}
        check_dataset(item)
        kind = item.attrs.get("MATLAB_class", b"")
        if item.attrs.get("MATLAB_empty", 0):
            return np.empty(0)
        self.bytes += item.size * item.dtype.itemsize
        check_unpacked(where(item), self.bytes, self.stored)
        if item.dtype == h5py.ref_dtype:
            cells = np.ravel(item[()].T, order="F")
            return [self.read(self.file[reference], depth + 1) for reference in cells]
        if item.dtype.kind not in "biufVc":
            raise ValueError(f"{where(item)}: expected numbers or text, got {item.dtype}")
        array = np.asarray(item[()]).T
        if kind == b"char":
            return "".join(chr(code) for code in np.ravel(array, order="F"))
        return np.squeeze(array) if array.ndim == 2 and 1 in array.shape else array


def _read_v73(path: Path) -> dict[str, Any]:
    with opened_hdf5(path) as file:
        variables = _Variables(file)
        return {name: variables.read(member(file, name), 0) for name in file if not name.startswith("#")}
