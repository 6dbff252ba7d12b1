"""The .npy format for many tiny files: no pickle ever, and each distinct header is parsed once.

A scan is more than ten thousand files of a few kilobytes; numpy's own reader spends most of its time
on headers that are all the same.
"""

from __future__ import annotations

import ast
import io
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mousev1.errors import printable
from mousev1.storage.reading import check_regular

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000
MAX_DIMENSIONS, MAX_SIDE = 32, 2**48


def decode(data: bytes, where: str) -> NDArray[Any]:
    """The array in the bytes of an .npy file, read-only and without a copy.

    Args:
        data: the whole file.
        where: what to call it in messages.

    Raises:
        ValueError: truncated, not .npy, or pickled Python objects.
    """
    dtype, fortran, shape, start = _header_of(data, len(data), where)
    flat = np.frombuffer(data, dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")


def read_npy(path: str | Path, *, mapped: bool = False) -> NDArray[Any]:
    """The array in an .npy file, whose size must be what its header says before any memory is taken.

    Args:
        path: of the file.
        mapped: leave it on the disk, read-only.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no regular file, truncated, not .npy, pickled Python objects, or more than fits into memory.
    """
    size, name = check_regular(path), printable(path)
    with open(path, "rb") as file:
        dtype, fortran, shape, start = _header_of(file.read(12 + MAX_HEADER_BYTES), size, name)
    order: Literal["F", "C"] = "F" if fortran else "C"
    if mapped and size > start:
        return np.memmap(path, dtype, "r", offset=start, shape=shape, order=order)
    try:
        return np.fromfile(path, dtype, offset=start).reshape(shape, order=order)
    except MemoryError as error:
        raise ValueError(
            f"{name}: {size:,} bytes do not fit into memory; select a part and save it"
        ) from error


def _header_of(data: bytes, size: int, where: str) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """Type, whether in Fortran's order, shape, and where the numbers begin, in a file of ``size`` bytes."""
    if data[:6] != MAGIC:
        raise ValueError(f"{where}: expected a NumPy .npy file, got something else; fetch or save it again")
    width = 2 if data[6:7] == b"\x01" else 4
    start = 8 + width
    stop = start + int.from_bytes(data[8:start], "little")
    if stop - start > MAX_HEADER_BYTES:
        raise ValueError(f"{where}: a header of {stop - start} bytes is no sound .npy header; refused")
    if len(data) < stop:
        raise ValueError(f"{where}: truncated inside its header; fetch or save it again")
    try:
        dtype, fortran, shape, claimed = _parse(data[start:stop])
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}: not a sound .npy header ({error}); fetch or save it again") from error
    if dtype.hasobject:
        raise ValueError(
            f"{where}: holds pickled Python objects, which are never loaded because they can run code; "
            "save it again as numbers or strings, e.g. np.save(path, array.astype(str))"
        )
    if dtype.kind not in "biufUS":
        raise ValueError(f"{where}: expected numbers or strings, got {dtype}")
    if size - stop != claimed:
        raise ValueError(
            f"{where}: expected {claimed} bytes for {dtype} {shape}, got {size - stop}; "
            "truncated or altered, fetch or save it again"
        )
    return dtype, fortran, shape, stop


@lru_cache(maxsize=256)
def _parse(header: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    values = ast.literal_eval(header.decode("latin1").strip())
    if not isinstance(values, dict) or set(values) != {"descr", "fortran_order", "shape"}:
        raise ValueError("expected the keys descr, fortran_order and shape")
    shape = values["shape"]
    if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f"shape {shape!r}")
    if not isinstance(values["descr"], str):
        raise ValueError("structured arrays are not used by scans")
    dtype = np.dtype(values["descr"])
    if len(shape) > MAX_DIMENSIONS or not dtype.itemsize or any(side > MAX_SIDE for side in shape):
        raise ValueError(f"type {dtype} and shape {shape!r}")
    size = dtype.itemsize
    for side in shape:
        size *= side
    return dtype, bool(values["fortran_order"]), shape, size


def encode(array: NDArray[Any]) -> bytes:
    """The bytes of an .npy file holding an array, in C order."""
    return _header(array.dtype, array.shape) + array.tobytes()


@lru_cache(maxsize=256)
def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    description = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": description, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()
