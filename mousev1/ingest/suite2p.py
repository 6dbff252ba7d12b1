"""suite2p's output: a folder with ``plane0``, ``plane1``, ...; one of these; or ``combined``.

Axes and keys as in suite2p's documentation: ``F``, ``Fneu``, ``spks`` (ROIs, frames), ``iscell`` (ROIs, 2: selected,
probability), ``stat`` (per ROI ``med``: y and x in pixels), ``ops`` (``fs``: volumes per second, ``nplanes``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.data.npy import read_npy
from mousev1.data.pictures import natural_key
from mousev1.errors import listing
from mousev1.ingest.recording import Float, Plane, Recording
from mousev1.ingest.report import Report
from mousev1.ingest.unpickle import load_pickled

NEUROPIL = 0.7


def is_suite2p(path: Path) -> bool:
    """Whether a folder is suite2p's output, or holds it."""
    return path.is_dir() and bool(_plane_folders(path))


def read_suite2p(
    path: Path, report: Report, *, signal: str = "spikes", min_probability: float | None = None
) -> Recording:
    """Planes of a suite2p folder.

    ``signal="spikes"`` takes ``spks``, ``"fluorescence"`` F - 0.7 Fneu; with ``min_probability``, ROIs are selected by
    the probability in ``iscell`` instead of by suite2p's own choice.
    """
    folders = _plane_folders(path)
    planes: list[Plane] = []
    for folder in folders:
        planes += _read_folder(folder, signal, min_probability, report)
    # ROIs count on from plane to plane, as in suite2p's combined view.
    return Recording(name=_name(path), planes=tuple(planes))


def _plane_folders(path: Path) -> list[Path]:
    for root in (path, path / "suite2p"):
        if (root / "stat.npy").is_file() or (root / "ops.npy").is_file():
            return [root]
        if root.is_dir():
            planes = [p for p in root.iterdir() if p.name.startswith("plane") and (p / "F.npy").is_file()]
            if planes:
                return sorted(planes, key=lambda p: natural_key(p.name))
            if (root / "combined" / "F.npy").is_file():
                return [root / "combined"]
    return []


def _name(path: Path) -> str:
    parts = [part for part in path.resolve().parts if not part.startswith(("suite2p", "plane", "combined"))]
    return parts[-1] if parts[-1:] and parts[-1] != "/" else "suite2p"


def _read_folder(folder: Path, signal: str, least: float | None, report: Report) -> list[Plane]:
    traces = _traces(folder, signal)
    ops = _ops(folder)
    stat = load_pickled(folder / "stat.npy") if (folder / "stat.npy").is_file() else None
    if stat is not None and len(stat) != len(traces):
        raise ValueError(f"{folder}: expected one entry of stat.npy per ROI ({len(traces)}), got {len(stat)}")
    kept, probability = _selected(folder, len(traces), least, report)
    on_plane = (
        np.array([int(roi.get("iplane", 0)) for roi in stat])
        if stat is not None
        else np.zeros(len(traces), int)
    )
    centroids = None if stat is None else np.array([centroid(roi) for roi in stat], float)
    n_planes = int(on_plane.max()) + 1 if folder.name == "combined" else 1
    if centroids is not None and n_planes > 1:
        n_planes = max(n_planes, int(ops.get("nplanes", n_planes)))
        centroids %= _tile(int(ops["Lx"]), int(ops["Ly"]), centroids, on_plane, n_planes)
    bad = np.asarray(ops.get("badframes", np.zeros(0, bool)), bool)
    rate = float(ops["fs"]) if "fs" in ops else None
    report.read.append(
        f"suite2p {folder.name}: {kept.sum()} of {len(traces)} ROIs, {traces.shape[1]:,} frames"
        + (f" at {rate:g} Hz" if rate else "")
    )
    delay = ops.get("plane_delay_s")
    planes = []
    for plane in range(n_planes) if n_planes > 1 else [None]:
        rows = np.flatnonzero(kept & ((on_plane == plane) if plane is not None else True))
        planes.append(
            Plane(
                traces=np.asarray(traces[rows], np.float32),
                roi=rows,
                n_rois=0 if plane is not None else len(traces),
                rate=rate,
                delay=None if delay is None else float(np.ravel(delay)[plane or 0]),
                centroids=None if centroids is None else centroids[rows],
                good_frames=~bad if len(bad) == traces.shape[1] else None,
                decay=float(ops["tau"]) if "tau" in ops else None,
                probability=None if probability is None else probability[rows],
            )
        )
    return planes


def _traces(folder: Path, signal: str) -> Float:
    def load(name: str) -> Float:
        file = folder / f"{name}.npy"
        if not file.is_file():
            raise ValueError(
                f"{file}: missing, needed for signal={signal!r}; run that step of suite2p, or choose the other of "
                "'spikes' and 'fluorescence' (--signal)"
            )
        array = read_npy(file, mapped=True)
        if array.ndim != 2 or array.dtype.kind not in "uif":
            raise ValueError(f"{file}: expected (ROIs, frames) numbers, got {array.dtype} {array.shape}")
        return np.asanyarray(array)

    if signal == "spikes":
        return load("spks")
    fluorescence, neuropil = load("F"), load("Fneu")
    if fluorescence.shape != neuropil.shape:
        raise ValueError(
            f"{folder}: F {fluorescence.shape} and Fneu {neuropil.shape} are not of one run; run suite2p again"
        )
    return np.asarray(fluorescence - np.float32(NEUROPIL) * neuropil)


def _ops(folder: Path) -> Mapping[str, Any]:
    file = folder / "ops.npy"
    ops = load_pickled(file) if file.is_file() else {}
    if not isinstance(ops, dict):
        raise ValueError(f"{file}: expected a dict, got {type(ops).__name__}; it is not suite2p's")
    return ops


def _selected(
    folder: Path, n_rois: int, least: float | None, report: Report
) -> tuple[NDArray[np.bool_], Float | None]:
    file = folder / "iscell.npy"
    if not file.is_file():
        report.assumed.append(f"{folder.name}: no iscell.npy, so all {n_rois} ROIs are neurons")
        report.count("ROIs that are no neurons, left out", 0)
        return np.ones(n_rois, bool), None
    table = read_npy(file)
    table = table[:, None] if table.ndim == 1 else table
    if len(table) != n_rois:
        raise ValueError(f"{file}: expected one row per ROI ({n_rois}), got {len(table)}")
    probability = table[:, 1].astype(float) if table.shape[1] > 1 else None
    if least is not None and probability is None:
        raise ValueError(f"{file}: no probabilities; leave min_probability out (--min-probability)")
    kept = table[:, 0] > 0.5 if least is None or probability is None else probability >= least
    report.count("ROIs that are no neurons, left out", int((~kept).sum()))
    return kept, probability


def centroid(roi: Mapping[str, Any]) -> tuple[float, float]:
    """Pixel of the centre, x and y: the median that suite2p keeps, else the mean of the pixels by their weight."""
    if "med" in roi:
        return float(roi["med"][1]), float(roi["med"][0])
    if missing := sorted({"xpix", "ypix"} - set(roi)):
        raise ValueError(f"stat.npy: expected 'med' or pixels of every ROI, missing {listing(missing)}")
    weight = np.asarray(roi.get("lam", np.ones(len(roi["xpix"]))), float)
    return float(np.average(roi["xpix"], weights=weight)), float(np.average(roi["ypix"], weights=weight))


def _tile(
    width: int, height: int, xy: Float, on_plane: NDArray[np.int64], n_planes: int
) -> tuple[float, float]:
    """Width and height of one plane in the mosaic of ``combined``, which suite2p keeps about square."""
    fits = []
    for across in range(1, n_planes + 1):
        down = math.ceil(n_planes / across)
        one = width // across, height // down
        column, row = (xy // one).astype(int).T
        if width % across == 0 and height % down == 0 and np.array_equal(row * across + column, on_plane):
            fits.append(one)
    if not fits:
        raise ValueError(
            f"combined: {n_planes} planes do not tile {width} x {height} pixels; give the folder above it"
        )
    best = min(fits, key=lambda one: abs(math.log(one[0] / one[1])))
    return float(best[0]), float(best[1])
