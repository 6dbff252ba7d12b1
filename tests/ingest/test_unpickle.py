"""Pickled arrays are read without running them. Oracle: numpy's own loading, and pickles made to do harm."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mousev1.ingest.unpickle import load_pickled, loads

OPS = {
    "fs": 15.0,
    "nplanes": np.int64(2),
    "tau": np.float32(0.7),
    "badframes": np.array([False, True]),
    "meanImg": np.arange(12.0, dtype="<f4").reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i2"),
    "data_path": ["a", "b"],
    "xrange": (1, 5),
    "nothing": None,
    "empty": np.zeros((0, 3)),
    "names": np.array(["ä", "bc"]),
    "inner": {"list": [{"x": np.arange(3)}], "flag": True, "big": 2**70, "raw": b"\x00\xff"},
    "save_path": Path("/data/mouse"),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(b, np.ndarray):
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and all(same(x, y) for x, y in zip(a.flat, b.flat, strict=True))
        )
    return (str(b) if isinstance(b, Path) else b) == a


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("names", ["numpy 2", "numpy 1"])
def test_what_suite2p_pickles_comes_back_as_numpy_gives_it(protocol: int, names: str) -> None:
    stat = np.array(
        [{"med": [3.0, 4.0], "xpix": np.arange(4), "overlap": np.zeros(4, bool)}] * 3, dtype=object
    )
    for value in (OPS, stat):
        data = pickle.dumps(value, protocol=protocol)
        if names == "numpy 1":
            data = data.replace(b"numpy._core", b"numpy.core") if protocol < 4 else renamed(data)
        assert same(loads(data), value)


def renamed(data: bytes) -> bytes:
    """The pickle with the module names of numpy 1: short texts carry their length before them."""
    for name in (b"multiarray", b"numeric"):
        new, old = b"numpy.core." + name, b"numpy._core." + name
        data = data.replace(b"\x8c" + bytes([len(old)]) + old, b"\x8c" + bytes([len(new)]) + new)
    frame = data.find(b"\x95")
    return data if frame < 0 else data[:frame] + data[frame + 9 :]  # frames are optional


def test_files_written_by_numpy_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "ops.npy", OPS, allow_pickle=True)  # type: ignore[arg-type]
    assert same(load_pickled(tmp_path / "ops.npy"), OPS)
    shared_rows = [[1, 2]] * 3
    rois = np.empty(2, object)
    rois[:] = [{"med": shared_rows}, {"med": shared_rows}]
    np.save(tmp_path / "stat.npy", rois, allow_pickle=True)
    assert same(load_pickled(tmp_path / "stat.npy"), rois)
    np.save(tmp_path / "plain.npy", np.arange(3))
    assert load_pickled(tmp_path / "plain.npy").tolist() == [0, 1, 2]


class Calls:
    """Pickles to a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def by_name(module: str, name: str, argument: str) -> bytes:
    return f"c{module}\n{name}\n(S'{argument}'\ntR.".encode()


MARK = "/tmp/mousev1-was-run"
HOSTILE = {
    "os.system": pickle.dumps(Calls(os.system, f"touch {MARK}")),
    "posix.system": by_name("posix", "system", f"touch {MARK}"),
    "eval": pickle.dumps(Calls(eval, "1")),
    "getattr": pickle.dumps(Calls(getattr, "a", "upper")),
    "import": by_name("builtins", "__import__", "os"),
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
    "numpy.load": by_name("numpy", "load", "x"),
    "subprocess": by_name("subprocess", "check_output", f"touch {MARK}"),
    "inside an array": pickle.dumps(np.array([Calls(os.system, f"touch {MARK}")], dtype=object)),
    "inst": b"(S'touch'\niposix\nsystem\n.",
    "obj": b"(cposix\nsystem\nS'touch'\no.",
    "newobj": b"\x80\x02cnumpy\ndtype\n(S'f8'\nt\x81.",
    "persistent": b"Pid\n.",
    "extension": b"\x82\x01.",
    "code as a type": pickle.dumps(Calls(np.dtype, "O,O")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_pickles_that_name_anything_else_are_refused_and_nothing_runs(name: str, tmp_path: Path) -> None:
    Path(MARK).unlink(missing_ok=True)
    with pytest.raises(ValueError, match="pickle"):
        loads(HOSTILE[name])
    file = tmp_path / "stat.npy"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    file.write_bytes(header.getvalue() + HOSTILE[name])
    with pytest.raises(ValueError, match=r"stat\.npy.*Only arrays, dicts, lists, numbers and texts are read"):
        load_pickled(file)
    assert not Path(MARK).exists()


def array_pickle(shape: bytes, kind: bytes = b"S'f8'\n", data: bytes = b"S''\n") -> bytes:
    """An array of any claimed shape, type and contents, in protocol 0."""
    dtype = b"cnumpy\ndtype\n(" + kind + b"I00\nI01\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    new = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    return new + b"(I1\n(" + shape + b"t" + dtype + b"I00\n" + data + b"tb."


def test_the_hand_made_array_pickle_is_sound_where_its_contents_fit() -> None:
    assert loads(array_pickle(b"I1\n", b"S'i2'\n", b"S'\\x05\\x00'\n")).tolist() == [5]


@pytest.mark.parametrize(
    "data",
    [
        array_pickle(b"I9999999999\n"),
        array_pickle(b"I9999999999\nI9999999999\n", b"S'O8'\n", b"(l"),
        array_pickle(b"I-1\n"),
        array_pickle(b"I1\n" * 99),
        array_pickle(b"I1\n", b"S'V8'\n", b"S'12345678'\n"),
        array_pickle(b"I1\n", b"S'f8,O'\n"),
        array_pickle(b"I1\n", b"S'S9999999999'\n"),
        b"\x80\x02]r" + struct.pack("<I", 2**31 - 1) + b".",
        b"\x80\x04B" + struct.pack("<I", 2**31 - 1) + b"x.",
        b"]" * 100_000 + b"a" * 99_999 + b".",
        b"cnumpy\ndtype\n(S'f8'\ntR(I3\nS'<'\nN(S'a'\nt(dNI-1\nI-1\nI63\ntb.",
        b"not a pickle",
        b"",
    ],
    ids=range(13),
)
def test_claims_of_huge_or_impossible_contents_are_refused_at_once(data: bytes) -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError, match="pickle"):
        loads(data)
    assert time.perf_counter() - start < 5


def test_lists_that_hold_each_other_a_billion_times_are_not_unfolded() -> None:
    bomb: list[Any] = [0]
    for _ in range(40):
        bomb = [bomb, bomb]
    start = time.perf_counter()
    found = loads(pickle.dumps(bomb))
    assert found[0] is found[1]
    assert time.perf_counter() - start < 5


def test_every_opcode_that_makes_objects_is_among_those_refused() -> None:
    from mousev1.ingest.unpickle import REFUSED_OPCODES

    makes = {
        opcode.name for opcode in pickletools.opcodes if "obj" in opcode.name.lower() or "EXT" in opcode.name
    }
    assert makes - {"NEXT_BUFFER"} <= REFUSED_OPCODES
