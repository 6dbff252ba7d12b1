"""MATLAB files, v5 (scipy) and v7.3 (HDF5), to named variables; structures become dicts, cells become lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mousev1.ingest.named_arrays import recording_of
from mousev1.ingest.recording import Recording
from mousev1.ingest.report import Report

MAX_DEPTH = 20


def read_matlab(path: Path, report: Report, *, signal: str = "spikes") -> Recording:
    """The recording in a ``.mat`` file; ``named_arrays`` lists the names of variables.

    Raises:
        ValueError: not a MATLAB file, or without traces.
        ModuleNotFoundError: v5 without scipy.
    """
    variables = _read_v73(path) if h5py.is_hdf5(path) else _read_v5(path)
    return recording_of(variables, path.stem, report, signal=signal, matlab=True)


def _read_v5(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path}: MATLAB files before v7.3 need scipy: pip install scipy"
        ) from error
    try:
        found = loadmat(path, simplify_cells=True)
    except (ValueError, TypeError, OSError, NotImplementedError) as error:
        raise ValueError(f"{path}: not a sound MATLAB file ({error}); save it again") from error
    return {name: value for name, value in found.items() if not name.startswith("__")}


def _read_v73(path: Path) -> dict[str, Any]:
    with h5py.File(path, "r") as file:
        return {name: _value(file, file[name], 0) for name in file if not name.startswith("#")}


def _value(file: Any, item: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(
            f"structures nested more than {MAX_DEPTH} deep; save the variables at the top of the file"
        )
    if isinstance(item, h5py.Group):
        fields = {name: _value(file, item[name], depth + 1) for name in item}
        return fields
    kind = item.attrs.get("MATLAB_class", b"")
    if item.attrs.get("MATLAB_empty", 0):
        return np.empty(0)
    if item.dtype == h5py.ref_dtype:
        return [_value(file, file[reference], depth + 1) for reference in np.ravel(item[()].T, order="F")]
    array = np.asarray(item[()]).T
    if kind == b"char":
        return "".join(chr(code) for code in np.ravel(array, order="F"))
    return np.squeeze(array) if array.ndim == 2 and 1 in array.shape else array
