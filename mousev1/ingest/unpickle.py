"""Pickled arrays (``stat.npy``, ``ops.npy``) read without running anything they name.

A pickle is a program that may call whatever it can import. Here it can import nothing: the few names that
numpy's arrays, numbers and types need are answered by inert stand-ins, every other name is refused, and so are
the opcodes that make objects of classes. Arrays are built afterwards from plain bytes with their sizes checked,
never by numpy's own ``__setstate__``, which trusts what it is given.
"""

from __future__ import annotations

import ast
import io
import math
import pickle
import pickletools
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.data.npy import MAGIC, MAX_HEADER_BYTES, read_npy
from mousev1.errors import printable
from mousev1.storage.reading import check_regular

MAX_BYTES = 1 << 30
MAX_DEPTH = 50
MAX_DIMENSIONS = 32
PLAIN_TYPE = re.compile(r"[biufc?SU][0-9]{0,9}$")
REFUSED_OPCODES = {
    "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER",
}  # fmt: skip
PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}


def load_pickled(path: Path) -> Any:
    """The object or object array in an .npy file: dicts, lists, numbers, texts and arrays of these.

    Raises:
        ValueError: it names anything else, is damaged, or is larger than ``MAX_BYTES``.
    """
    size = check_regular(path)
    if size > MAX_BYTES:
        raise ValueError(f"{printable(path)}: {size:,} bytes, more than the {MAX_BYTES:,} that are unpickled")
    data = path.read_bytes()
    if data[:6] != MAGIC:
        raise ValueError(f"{path}: expected a NumPy .npy file; save it again")
    width = 2 if data[6:7] == b"\x01" else 4
    start = 8 + width
    stop = start + int.from_bytes(data[8:start], "little")
    try:
        if stop - start > MAX_HEADER_BYTES:
            raise ValueError("a header of that size is none")
        if "O" not in ast.literal_eval(data[start:stop].decode("latin1").strip())["descr"]:
            return read_npy(path)
        found = loads(data[stop:])
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"{path}: {error}. Only arrays, dicts, lists, numbers and texts are read, since anything else could run "
            "code; save it again with these only, e.g. np.save(path, {'fs': ops['fs'], 'nplanes': ops['nplanes']})"
        ) from error
    return found.item() if isinstance(found, np.ndarray) and found.shape == () else found


def loads(data: bytes) -> Any:
    """What a pickle of plain values holds; ``ValueError`` for every other."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in REFUSED_OPCODES:
                raise ValueError(f"it uses {opcode.name}, which makes objects of classes")
            # The memo is an array as long as its largest number, whoever chose it.
            if opcode.name in PUTS and int(argument or 0) > len(data):
                raise ValueError("its memo is larger than the file")
        return _resolve(_Restricted(io.BytesIO(data), encoding="latin1").load(), {}, 0)
    except Exception as error:  # a damaged pickle raises whatever its opcodes happen to hit
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"not a pickle of plain values ({kind}{error})") from error


class _Type:
    """Stands for ``numpy.dtype``: a type of plain numbers, texts, or objects."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in ("O", "O8") and not PLAIN_TYPE.match(code):
            raise ValueError(f"it has an array of the type {code!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        if any(part is not None for part in state[2:5]):
            raise ValueError("it has an array of structures")
        self.order = state[1] if state[1] in ("<", ">") else "="

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(object) if self.code[0] == "O" else np.dtype(self.order + self.code)


class _Array:
    """Stands for an array until everything in it is known."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = tuple(state)


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # New functions in each call: a pickle may set attributes of what it is given.
        def reconstruct(*_: object) -> _Array:
            return _Array()

        def frombuffer(data: bytes, kind: _Type, shape: tuple[int, ...], order: str = "C") -> _Array:
            if not isinstance(data, bytes | bytearray):  # bytes(10**10) would be as many zeros
                raise ValueError("it has an array without contents")
            array = _Array()
            array.state = (1, shape, kind, order == "F", bytes(data))
            return array

        def scalar(kind: _Type, data: bytes | str) -> Any:
            return _build((1, (), kind, False, data), {}, 0)[()]

        def encode(text: str, _: str = "latin1") -> bytes:
            return text.encode("latin1")

        def path(*parts: str) -> str:
            return str(PurePosixPath(*parts))

        def nothing() -> bytes:
            return b""

        module = module.replace("numpy._core", "numpy.core")
        allowed: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy.core.multiarray", "scalar"): scalar,
            ("numpy.core.numeric", "_frombuffer"): frombuffer,
            ("numpy", "ndarray"): "ndarray",
            ("numpy", "dtype"): type("_Type", (_Type,), {}),
            ("collections", "OrderedDict"): lambda: {},
            ("_codecs", "encode"): encode,
            ("__builtin__", "bytes"): nothing,
            **{("pathlib", kind): path for kind in ("PosixPath", "WindowsPath", "PurePosixPath")},
            **{("pathlib._local", kind): path for kind in ("PosixPath", "WindowsPath")},
        }
        if (module, name) not in allowed:
            raise ValueError(f"it names {module}.{name}")
        return allowed[module, name]


def _resolve(value: Any, done: dict[int, Any], depth: int) -> Any:
    """The value with stand-ins replaced by arrays; ``done`` keeps what was shared, and ends circles."""
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    if id(value) in done:
        return done[id(value)][1]
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        return value
    if isinstance(value, bytearray):
        return bytes(value)
    # The original is kept too, so that its id is not given to another object.
    if isinstance(value, list):
        new: Any = []
        done[id(value)] = (value, new)
        new.extend(_resolve(item, done, depth + 1) for item in value)
    elif isinstance(value, dict):
        new = {}
        done[id(value)] = (value, new)
        new.update({key: _resolve(item, done, depth + 1) for key, item in value.items()})
    elif isinstance(value, tuple):
        new = tuple(_resolve(item, done, depth + 1) for item in value)
    elif isinstance(value, set | frozenset):
        new = value
    elif isinstance(value, _Array):
        new = _build(value.state, done, depth)
    elif isinstance(value, _Type):
        new = str(value.dtype)
    else:
        raise ValueError(f"it holds a {type(value).__name__}")
    done[id(value)] = (value, new)
    return new


def _build(state: tuple[Any, ...], done: dict[int, Any], depth: int) -> NDArray[Any]:
    if len(state) != 5 or not isinstance(state[2], _Type) or not isinstance(state[1], tuple):
        raise ValueError("it has an array without contents")
    _, shape, kind, fortran, data = state
    if len(shape) > MAX_DIMENSIONS or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f"it has an array of shape {shape}")
    dtype, size = kind.dtype, math.prod(shape)
    if dtype.hasobject:
        if not isinstance(data, list) or len(data) != size:
            raise ValueError("it has an array of other contents than its shape says")
        array = np.empty(size, object)
        for i, item in enumerate(data):
            array[i] = _resolve(item, done, depth + 1)
    else:
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(data, bytes) or len(data) != size * dtype.itemsize:
            raise ValueError("it has an array of other contents than its shape says")
        array = np.frombuffer(data, dtype) if data else np.zeros(size, dtype)
    return array.reshape(shape, order="F" if fortran else "C")
