"""A recording as named arrays: a folder of ``.npy`` files, an ``.npz``, or the variables of a ``.mat``.

Names in use (case does not matter; a name may stand in a structure, as ``ops.fs`` does)::

    spks, spikes, S, deconvolved, events       (U, F) or (F, U) deconvolved activity
    F with Fneu, C, dff, fluorescence, traces  the same of fluorescence
    fs, fr, frame_rate                         frames of each plane per second; or frame_times (F,)
    centroids (U, 2) x, y in pixels; stat (suite2p's); positions_um (U, 2) or (U, 3)
    um_per_pixel, iscell, plane (U,) number of the plane of each neuron, plane_delays_s, plane_depths_um
    log, stimulus, trials                      a structure of columns; or columns ``onset``, ``image`` by themselves
    pictures, images, stimuli                  (N, H, W), in MATLAB (H, W, N); with picture_names, or counted
    behavior                                   a structure of columns
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.data.archive import opened_zip, read_member
from mousev1.data.npy import decode, read_npy
from mousev1.errors import listing, printable
from mousev1.ingest.recording import Float, Plane, Recording, Table
from mousev1.ingest.report import Report
from mousev1.ingest.suite2p import NEUROPIL, centroid
from mousev1.ingest.tables import as_column, find_column

NAMES: Mapping[str, tuple[str, ...]] = {
    "spikes": ("spks", "spikes", "s", "deconvolved", "deconv", "events"),
    "fluorescence": ("f", "dff", "df_f", "fluorescence", "c", "traces", "calcium"),
    "neuropil": ("fneu", "neuropil"),
    "rate": ("fs", "fr", "frame_rate", "framerate", "rate"),
    "times": ("frame_times", "frame_time", "times", "timestamps", "t"),
    "centroids": ("centroids", "centroid", "centroids_px", "xy"),
    "positions": ("positions_um", "positions", "xyz", "xyz_um"),
    "um_per_pixel": ("um_per_pixel", "um_per_px", "pixel_size_um"),
    "selected": ("iscell", "selected", "accepted"),
    "plane": ("plane", "planes", "plane_index", "iplane"),
    "delays": ("plane_delays_s",),
    "depths": ("plane_depths_um", "depths_um"),
    "log": ("log", "stimulus_log", "stimulus", "trials", "presentations"),
    "pictures": ("pictures", "images", "stimuli"),
    "picture_names": ("picture_names", "image_names", "names"),
    "behavior": ("behavior", "behaviour"),
}


def read_named_arrays(path: Path, report: Report, *, signal: str = "spikes") -> Recording:
    """The recording in a folder of ``.npy`` files or an ``.npz``."""
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        variables = {file.stem: read_npy(file) for file in files}
    else:
        with opened_zip(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            variables = {
                name.removesuffix(".npy"): decode(
                    read_member(archive, name), f"{printable(path)}: {printable(name)}"
                )
                for name in names
            }
    return recording_of(variables, path.stem, report, signal=signal)


def recording_of(
    variables: Mapping[str, Any], name: str, report: Report, *, signal: str = "spikes", matlab: bool = False
) -> Recording:
    """A recording from variables by name; MATLAB's have pictures along the last axis and count from 1.

    Raises:
        ValueError: no traces among them, or arrays that disagree on the number of neurons.
    """
    found = _by_meaning(variables)
    if signal not in found:
        raise ValueError(
            f"{name}: no {signal} among {listing(variables)}; name them one of {listing(NAMES[signal])}, or choose "
            "the other signal (--signal)"
        )
    traces, centroids = np.asarray(found[signal], np.float32), _centroids(found, variables)
    plane = np.ravel(found["plane"]).astype(np.int64) if "plane" in found else None
    counts = [len(values) for values in (centroids, plane, found.get("selected")) if values is not None]
    # Frames are the longer axis where nothing else says how many neurons there are.
    if traces.shape[0] != (counts[0] if counts else min(traces.shape)):
        traces = traces.T
    if signal == "fluorescence" and "neuropil" in found:
        neuropil = np.asarray(found["neuropil"], np.float32)
        traces = traces - np.float32(NEUROPIL) * (neuropil if neuropil.shape == traces.shape else neuropil.T)
    if traces.ndim != 2 or any(count != len(traces) for count in counts):
        raise ValueError(
            f"{name}: expected one row of traces, centroids, plane per neuron, got {traces.shape} and {counts}"
        )
    kept = np.ones(len(traces), bool)
    if "selected" in found:
        kept = np.asarray(found["selected"]).reshape(len(traces), -1)[:, 0] > 0.5
    report.count("ROIs that are no neurons, left out", int((~kept).sum()))
    report.read.append(
        f"{name}: {kept.sum()} of {len(traces)} neurons, {traces.shape[1]:,} frames, {signal}; "
        + ", ".join(found)
    )
    return Recording(
        name=name,
        planes=_planes(found, traces, centroids, kept, plane),
        log=_log(found, variables),
        pictures=_pictures(found, matlab),
        behavior=(_table(found["behavior"]),) if "behavior" in found else (),
        index_base=1 if matlab else 0,
    )


def _by_meaning(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Meaning to value: a variable's own name before the names of fields inside structures."""
    own = {key.lower(): value for key, value in variables.items()}
    inner: dict[str, Any] = {}
    for key in ("ops", "estimates", "rig", "data", "params"):
        if isinstance(own.get(key), Mapping):
            inner |= {name.lower(): value for name, value in own[key].items()}
    found: dict[str, Any] = {}
    for values in (own, inner):
        for meaning, names in NAMES.items():
            match = next((name for name in names if name in values), None)
            if match is not None and meaning not in found and np.size(values[match]):
                found[meaning] = values[match]
    return found


def _centroids(found: Mapping[str, Any], variables: Mapping[str, Any]) -> Float | None:
    if "centroids" in found or "positions" in found:
        return np.asarray(found["centroids" if "centroids" in found else "positions"], float)
    stat = variables.get("stat")
    return None if stat is None else np.array([centroid(roi) for roi in np.ravel(stat)], float)


def _planes(
    found: Mapping[str, Any],
    traces: Float,
    xy: Float | None,
    kept: NDArray[np.bool_],
    plane: NDArray[np.int64] | None,
) -> tuple[Plane, ...]:
    numbers = [None] if plane is None else np.unique(plane)
    delays, depths = (np.ravel(found[name]) if name in found else None for name in ("delays", "depths"))
    scale = np.broadcast_to(np.ravel(found["um_per_pixel"]), 2) if "um_per_pixel" in found else None
    if "centroids" not in found and "positions" in found:
        scale = np.ones(2)
    planes = []
    for i, number in enumerate(numbers):
        rows = np.flatnonzero(kept if number is None or plane is None else kept & (plane == number))
        depth = None if depths is None else float(depths[i])
        if xy is not None and xy.shape[1] == 3:
            depth = float(np.mean(xy[rows, 2]))
        planes.append(
            Plane(
                traces=traces[rows],
                roi=rows,
                times=np.ravel(found["times"]).astype(float) if "times" in found else None,
                rate=float(np.ravel(found["rate"])[0]) if "rate" in found else None,
                delay=None if delays is None else float(delays[i]),
                centroids=None if xy is None else xy[rows, :2],
                um_per_pixel=None if scale is None else (float(scale[0]), float(scale[1])),
                depth_um=depth,
            )
        )
    return tuple(planes)


def _log(found: Mapping[str, Any], variables: Mapping[str, Any]) -> Table | None:
    """The structure of presentations, or vectors of one length that are named like its columns."""
    given = found.get("log")
    if isinstance(given, Mapping | list) or (isinstance(given, np.ndarray) and given.dtype == object):
        return _table(given)
    taken = {name for names in NAMES.values() for name in names}
    lists = {
        name: np.asarray(value)
        for name, value in variables.items()
        if isinstance(value, np.ndarray | list) and name.lower() not in taken
    }
    vectors = {
        name: as_column(np.ravel(one)) for name, one in lists.items() if 1 < one.size == max(one.shape)
    }
    onset = find_column(vectors, "onset")
    if onset is None:
        return None
    return {name: values for name, values in vectors.items() if len(values) == len(vectors[onset])}


def _table(values: Any) -> dict[str, NDArray[Any]]:
    """Columns from a structure of arrays or an array of structures."""
    if not isinstance(values, Mapping):
        rows = list(np.ravel(values))
        if not rows or not all(isinstance(row, Mapping) for row in rows):
            raise ValueError("expected a structure of columns as log or behavior; save it as one")
        values = {name: [row.get(name) for row in rows] for name in rows[0]}
    return {
        name: as_column(np.ravel(column) if not isinstance(column, list) else column)
        for name, column in values.items()
    }


def _pictures(found: Mapping[str, Any], matlab: bool) -> dict[str, NDArray[Any]]:
    if "pictures" not in found:
        return {}
    array = np.asarray(found["pictures"])
    if array.ndim not in (3, 4):
        raise ValueError(f"pictures: expected (N, H, W), in MATLAB (H, W, N), got {array.shape}")
    array = np.moveaxis(array, -1, 0) if matlab else array
    base = 1 if matlab else 0
    names = [str(text) for text in np.ravel(found["picture_names"])] if "picture_names" in found else []
    if names and len(names) != len(array):
        raise ValueError(f"picture_names: expected {len(array)}, one per picture, got {len(names)}")
    return {(names[i] if names else str(i + base)): array[i] for i in range(len(array))}
