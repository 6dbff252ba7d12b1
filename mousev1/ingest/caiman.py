"""CaImAn's results: ``estimates`` and ``params`` in HDF5, as ``CNMF.save`` writes them. One file is one plane.

``C`` (denoised) and ``S`` (deconvolved) are (components, frames); ``A`` is sparse, (pixels, components), with
pixels counted down columns; ``idx_components`` are the accepted ones; ``coordinates`` have ``CoM``, y and x.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mousev1.data.hdf5_access import is_hdf5, member, opened_hdf5
from mousev1.ingest.recording import Float, Plane, Recording
from mousev1.ingest.report import Report


def is_caiman(path: Path) -> bool:
    """Whether a file is HDF5 with CaImAn's estimates."""
    if not is_hdf5(path):
        return False
    with opened_hdf5(path) as file:
        return isinstance(member(file, "estimates"), h5py.Group)


def read_caiman(paths: Sequence[Path], report: Report, *, signal: str = "spikes") -> Recording:
    """Accepted components of every file: S for ``spikes``, C for ``fluorescence``."""
    planes = []
    for path in paths:
        with opened_hdf5(path) as file:
            planes.append(_plane(file, path, "S" if signal == "spikes" else "C", report))
    return Recording(name=paths[0].stem, planes=tuple(planes))


def _plane(file: Any, path: Path, signal: str, report: Report) -> Plane:
    estimates = member(file, "estimates")
    traces = _dataset(estimates, signal)
    if traces is None or traces.ndim != 2:
        raise ValueError(
            f"{path}: estimates/{signal} missing; run the deconvolution, or choose signal='fluorescence'"
        )
    accepted = _dataset(estimates, "idx_components")
    if accepted is None:
        report.assumed.append(f"{path.name}: no idx_components, so all {len(traces)} components are neurons")
        accepted = np.arange(len(traces))
    accepted = np.asarray(accepted, np.int64).ravel()
    rate = _dataset(file, "params/data/fr")
    pixel, decay = _dataset(file, "params/data/dxy"), _dataset(file, "params/data/decay_time")
    centroids = _centroids(estimates, len(traces))
    report.count("ROIs that are no neurons, left out", len(traces) - len(accepted))
    report.read.append(
        f"CaImAn {path.name}: {len(accepted)} of {len(traces)} components, {traces.shape[1]:,} frames, {signal}"
    )
    # (1, 1) is CaImAn's default, not a size.
    known = pixel is not None and pixel.size == 2 and not np.all(pixel == 1)
    return Plane(
        traces=np.asarray(traces[accepted], np.float32),
        roi=accepted,
        n_rois=len(traces),
        rate=None if rate is None else float(np.ravel(rate)[0]),
        centroids=None if centroids is None else centroids[accepted],
        decay=None if decay is None else float(np.ravel(decay)[0]),
        um_per_pixel=(float(pixel[0]), float(pixel[1])) if known and pixel is not None else None,
    )


def _dataset(group: Any, name: str) -> NDArray[Any] | None:
    """Numbers under a name; None where absent, or where CaImAn wrote ``NoneType``."""
    found = member(group, name)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "biuf":
        return None
    return np.asarray(found[()])


def _centroids(estimates: Any, count: int) -> Float | None:
    """(components, 2) x and y: the mean pixel of each footprint by weight, else the centres in ``coordinates``."""
    sides, parts = _dataset(estimates, "dims"), member(estimates, "A")
    if sides is not None and isinstance(parts, h5py.Group) and {"data", "indices", "indptr"} <= set(parts):
        weights, pixels, ends = (member(parts, name)[()] for name in ("data", "indices", "indptr"))
        component = np.repeat(np.arange(count), np.diff(ends))
        x, y = np.divmod(pixels, int(sides[0]))
        total = np.bincount(component, weights, count)
        return np.stack([np.bincount(component, weights * axis, count) / total for axis in (x, y)], axis=1)
    centers = [_center(entry) for _, entry in sorted(_entries(estimates), key=lambda pair: int(pair[0]))]
    return np.array(centers) if len(centers) == count else None


def _entries(estimates: Any) -> list[tuple[str, Any]]:
    group = member(estimates, "coordinates")
    return (
        [(key, member(group, key)) for key in group if key.isdecimal()]
        if isinstance(group, h5py.Group)
        else []
    )


def _center(entry: Any) -> tuple[float, float]:
    y, x = np.asarray(member(entry, "CoM")[()], float).ravel()
    return float(x), float(y)
