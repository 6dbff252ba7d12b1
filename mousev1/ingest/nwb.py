"""NWB 2 files, through pynwb: response series, segmentation, presentations, pictures, behaviour and pupil."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.data.hdf5_access import check_inside, opened_hdf5
from mousev1.data.pictures import natural_key
from mousev1.errors import listing
from mousev1.ingest.behavior import recognised
from mousev1.ingest.recording import Float, Plane, Recording, Table
from mousev1.ingest.report import Report
from mousev1.ingest.tables import as_column, find_column

SPIKES = re.compile(r"spk|spike|deconv|event", re.IGNORECASE)
NOT_A_SIGNAL = re.compile(r"neuropil|fneu|background", re.IGNORECASE)
MICROMETRES = {
    "meters": 1e6,
    "metres": 1e6,
    "m": 1e6,
    "micrometers": 1.0,
    "micrometres": 1.0,
    "um": 1.0,
    "microns": 1.0,
}


def read_nwb(path: Path, report: Report, *, signal: str = "spikes", series: str | None = None) -> Recording:
    """The recording in an NWB file.

    ``signal="spikes"`` takes series whose name or container speaks of spikes, deconvolution or events,
    ``"fluorescence"`` those in ``DfOverF``, else in ``Fluorescence``; ``series`` is the name of one, or of its
    container, where several fit.

    Raises:
        ValueError: no such series, or several that are not planes of one recording.
        ModuleNotFoundError: pynwb is not installed.
    """
    try:
        from pynwb import NWBHDF5IO
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("NWB files need pynwb: pip install 'mousev1[nwb]'") from error
    with opened_hdf5(path) as contents:
        check_inside(contents)
    with NWBHDF5IO(str(path), "r", load_namespaces=True) as io:
        file = io.read()
        chosen = _response_series(file, signal, series)
        planes = [_plane(one, report) for one in chosen]
        log, pictures = _stimuli(file, report)
        behavior = tuple(_behavior(file, {one.object_id for one in chosen}))
        name = str(file.identifier) if file.session_id is None else str(file.session_id)
    return Recording(
        name=name, planes=tuple(planes), log=log, pictures=pictures, behavior=behavior, index_base=0
    )


def _response_series(file: Any, signal: str, given: str | None) -> list[Any]:
    """The series of each plane, in natural order of names."""
    everything = [one for one in file.objects.values() if type(one).__name__ == "RoiResponseSeries"]
    kinds: dict[str, list[Any]] = {"spikes": [], "DfOverF": [], "Fluorescence": [], "other": []}
    for one in everything:
        if given is not None:
            if given in (one.name, one.parent.name):
                kinds["spikes"].append(one)
        elif SPIKES.search(one.name) or SPIKES.search(one.parent.name):
            kinds["spikes"].append(one)
        elif not NOT_A_SIGNAL.search(one.name + one.parent.name):
            kind = type(one.parent).__name__
            kinds[kind if kind in kinds else "other"].append(one)
    order = ("spikes",) if signal == "spikes" or given is not None else ("DfOverF", "Fluorescence", "other")
    chosen: list[Any] = next((kinds[kind] for kind in order if kinds[kind]), [])
    names = [f"{one.parent.name}/{one.name}" for one in everything]
    rois = [(one.rois.table.object_id, *np.asarray(one.rois.data[:]).tolist()) for one in chosen]
    if not chosen or len(set(rois)) < len(rois):
        raise ValueError(
            f"nwb: {'several' if chosen else 'no'} response series for {signal}; the file has "
            f"{listing(names) or 'none'}: name one or its container (--series NAME), or choose --signal fluorescence"
        )
    return sorted(chosen, key=lambda one: natural_key(one.name))


def _plane(series: Any, report: Report) -> Plane:
    data = np.asarray(series.data[:], np.float32)
    rows = np.asarray(series.rois.data[:], np.int64)
    traces = (data[:, None] if data.ndim == 1 else data).T
    table = series.rois.table
    selected = _selected(table, rows)
    imaging = table.imaging_plane
    times = None
    if series.timestamps is not None:
        times = np.asarray(series.timestamps[:], float)
    elif series.rate:
        times = (series.starting_time or 0.0) + np.arange(traces.shape[1]) / float(series.rate)
    spacing = None if imaging.grid_spacing is None else np.asarray(imaging.grid_spacing[:], float)
    unit = MICROMETRES.get(str(imaging.grid_spacing_unit).lower())
    scale = None if spacing is None or unit is None else (float(spacing[0]) * unit, float(spacing[1]) * unit)
    report.count("ROIs that are no neurons, left out", int((~selected).sum()))
    report.read.append(
        f"nwb {series.parent.name}/{series.name}: {selected.sum()} of {len(rows)} ROIs, {traces.shape[1]:,} frames"
    )
    centroids = _centroids(table, rows)
    return Plane(
        traces=traces[selected],
        roi=np.asarray(table.id[:], np.int64)[rows][selected],
        n_rois=len(rows) if len(rows) == len(table) else 0,
        times=times,
        centroids=None if centroids is None else centroids[selected],
        um_per_pixel=scale,
    )


def _selected(table: Any, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(U,) ROIs that the file says are neurons; all where it has no such column."""
    name = next((c for c in table.colnames if c.lower() in ("iscell", "accepted", "is_cell")), None)
    if name is None:
        return np.ones(len(rows), bool)
    values = np.asarray(table[name].data[:], float)[rows]
    return np.asarray(values.reshape(len(rows), -1)[:, 0] > 0.5)


def _centroids(table: Any, rows: NDArray[np.int64]) -> Float | None:
    """(U, 2) x and y in pixels: a column of centroids, else the mean of each mask by weight."""
    column = next((c for c in table.colnames if c.lower() in ("centroid", "centroids")), None)
    if column is not None:
        return np.asarray(table[column].data[:], float)[rows, :2]
    if "image_mask" in table.colnames:
        # As NWB has it, the first axis of a mask is x.
        return np.array([_mean_pixel(*_nonzero(np.asarray(table["image_mask"][int(row)]))) for row in rows])
    mask = next((name for name in ("pixel_mask", "voxel_mask") if name in table.colnames), None)
    if mask is None:
        return None
    centers = []
    for row in rows:
        pixels = np.asarray([tuple(pixel) for pixel in table[mask][int(row)]], float)
        centers.append(_mean_pixel(pixels[:, :2], pixels[:, -1]))
    return np.array(centers)


def _nonzero(mask: NDArray[Any]) -> tuple[Float, Float]:
    where = np.argwhere(mask)
    return where.astype(float), mask[tuple(where.T)].astype(float)


def _mean_pixel(xy: Float, weight: Float) -> Float:
    return np.asarray(np.average(xy, axis=0, weights=weight))


def _stimuli(file: Any, report: Report) -> tuple[Table | None, Mapping[str, NDArray[Any]]]:
    """Columns of the presentations, and pictures by name."""
    pictures, order = _pictures(file)
    for one in file.stimulus.values():
        if type(one).__name__ == "IndexSeries":
            index = np.asarray(one.data[:], np.int64)
            times = _times(one, len(index))
            target = one.indexed_images if one.indexed_images is not None else one.indexed_timeseries
            names = order.get(target.object_id)
            if names is None or (len(index) and index.max() >= len(names)):
                raise ValueError(
                    f"nwb: {one.name} indexes {target.name}, which holds no such pictures; give --log and --pictures"
                )
            report.read.append(f"nwb: presentations from {one.name}, pictures from {target.name}")
            return {"onset_s": times, "image": np.array([names[i] for i in index])}, {
                name: pictures[name] for name in names
            }
    tables = [one for one in file.objects.values() if type(one).__name__ == "TimeIntervals"]
    for table in sorted(tables, key=lambda one: one.name not in ("presentations", "stimuli", "trials")):
        columns = {
            ("onset_s" if name == "start_time" else name): as_column(_plain(table[name]))
            for name in table.colnames
            if name not in ("timeseries", "timeseries_index", "tags", "tags_index")
        }
        if find_column(columns, "image") is not None:
            report.read.append(f"nwb: presentations from the table {table.name}")
            return columns, pictures
    return None, pictures


def _plain(column: Any) -> list[Any]:
    """Values of a column; a picture that is referred to is its name."""
    return [getattr(value, "name", value) for value in column[:]]


def _pictures(file: Any) -> tuple[dict[str, NDArray[Any]], dict[str, list[str]]]:
    """Pictures by name, and the names of each container by its id, in the order that indices count."""
    pictures: dict[str, NDArray[Any]] = {}
    order: dict[str, list[str]] = {}
    for one in (*file.stimulus_template.values(), *file.stimulus.values()):
        if type(one).__name__ == "Images":
            listed = one.order_of_images.data[:] if one.order_of_images is not None else one.images.values()
            images = {image.name: _upright(np.asarray(image.data[:])) for image in listed}
        elif type(one).__name__ in ("ImageSeries", "OpticalSeries") and one.external_file is None:
            images = {f"{one.name}_{i}": _upright(np.asarray(frame)) for i, frame in enumerate(one.data[:])}
        else:
            continue
        order[one.object_id] = list(images)
        pictures |= images
    return pictures, order


def _upright(image: NDArray[Any]) -> NDArray[Any]:
    """(H, W) from NWB's images, which pynwb and neuroconv write as (H, W), as every picture file is."""
    return image[..., :3] if image.ndim == 3 and image.shape[-1] == 4 else image


def _times(series: Any, count: int) -> Float:
    if series.timestamps is not None:
        return np.asarray(series.timestamps[:], float)
    return float(series.starting_time or 0.0) + np.arange(count) / float(series.rate)


def _behavior(file: Any, used: set[str]) -> Iterable[Table]:
    """One table per series of behaviour or pupil: those of a module ``behavior``, and others named as such."""
    for one in file.objects.values():
        if one.object_id in used or type(one).__name__ not in ("TimeSeries", "SpatialSeries"):
            continue
        name = f"{one.parent.name} {one.name}" if one.parent is not None else one.name
        inside = _ancestors(one) & {"behavior", "behaviour", "eye_tracking"}
        known = recognised(name)[0] in ("running", "pupil_radius", "pupil_x", "pupil_y")
        data = one.data
        if not (inside or known) or getattr(data, "ndim", 1) > 2:
            continue
        values = np.asarray(data[:], float) * float(one.conversion) + float(one.offset)
        columns = values[:, None] if values.ndim == 1 else values
        axes = (
            [""]
            if columns.shape[1] == 1
            else [f" {axis}" for axis in ("x", "y", "z", *range(3, 99))[: columns.shape[1]]]
        )
        own = recognised(one.name)[0] in ("running", "pupil_radius", "pupil_x", "pupil_y") or not known
        label = one.name if own else name
        yield {
            "time_s": _times(one, len(values)),
            **{f"{label}{axis}": columns[:, i] for i, axis in enumerate(axes)},
        }


def _ancestors(one: Any) -> set[str]:
    names = set()
    while one is not None:
        names.add(str(one.name).lower())
        one = one.parent
    return names
