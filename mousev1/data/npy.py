"""The .npy format for many tiny files: no pickle ever, and each distinct header is parsed once.

A scan is more than ten thousand files of a few kilobytes; numpy's own reader spends most of its time
on headers that are all the same.
"""

from __future__ import annotations

import ast
import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000


def decode(data: bytes, where: str) -> NDArray[Any]:
    """The array in the bytes of an .npy file, read-only and without a copy.

    Args:
        data: the whole file.
        where: what to call it in messages.

    Raises:
        ValueError: truncated, not .npy, or pickled Python objects.
    """
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
        dtype, fortran, shape, size = _parse(data[start:stop])
    except (ValueError, SyntaxError, TypeError, KeyError) as error:
        raise ValueError(f"{where}: not a sound .npy header ({error}); fetch or save it again") from error
    if dtype.hasobject:
        raise ValueError(
            f"{where}: holds pickled Python objects, which are never loaded because they can run code; "
            "save it again as numbers or strings, e.g. np.save(path, array.astype(str))"
        )
    if dtype.kind not in "biufUS":
        raise ValueError(f"{where}: expected numbers or strings, got {dtype}")
    if len(data) - stop != size:
        raise ValueError(
            f"{where}: expected {size} bytes for {dtype} {shape}, got {len(data) - stop}; "
            "truncated or altered, fetch or save it again"
        )
    flat = np.frombuffer(data, dtype, offset=stop)
    return flat.reshape(shape, order="F" if fortran else "C")


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
