"""The neurons of a recording: which are usable, their ids, positions in micrometres, and what else is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mousev1.data.validation import Array
from mousev1.ingest.recording import Plane, Recording
from mousev1.ingest.report import Report
from mousev1.ingest.rig import Rig


def without_missing(recording: Recording, report: Report) -> Recording:
    """The recording without neurons that are NaN in more than half of the frames.

    Raises:
        ValueError: no neuron is left.
    """
    planes = []
    for plane in recording.planes:
        kept = np.isfinite(plane.traces).mean(axis=1) > 0.5
        report.count("neurons that are NaN in most frames, left out", int((~kept).sum()))
        planes.append(plane if kept.all() else _selected(plane, kept))
    if not any(len(plane.roi) for plane in planes):
        raise ValueError("neurons: none selected in the recording; lower min_probability (--min-probability)")
    return replace(recording, planes=tuple(planes))


def _selected(plane: Plane, kept: NDArray[np.bool_]) -> Plane:
    return replace(
        plane,
        traces=plane.traces[kept],
        roi=plane.roi[kept],
        centroids=None if plane.centroids is None else plane.centroids[kept],
        probability=None if plane.probability is None else plane.probability[kept],
    )


def responsive(training: NDArray[np.float32], report: Report) -> NDArray[np.bool_]:
    """(U,) neurons whose responses differ between training trials: no model can be fitted to the others."""
    if not len(training):
        raise ValueError(
            "tiers: no training images are left; check the log's tiers and which trials were dropped (report)"
        )
    alive = np.ptp(training, axis=0) > 0
    report.count("neurons with the same response in all training trials, left out", int((~alive).sum()))
    if not alive.any():
        raise ValueError(
            "responses: no neuron responds in any training trial; check the signal and the clocks"
        )
    return np.asarray(alive)


def describe_neurons(
    recording: Recording, rig: Rig, report: Report
) -> tuple[NDArray[np.int64], NDArray[np.float32] | None, dict[str, Array]]:
    """Ids, positions in micrometres, and what else is known of the neurons of all planes."""
    planes = recording.planes
    last, ids = 0, []
    for plane in planes:
        ids.append(plane.roi + last)
        last += plane.n_rois
    meta: dict[str, Array] = {
        "plane": np.concatenate([np.full(len(p.roi), i) for i, p in enumerate(planes)]),
        "roi": np.concatenate([p.roi for p in planes]),
    }
    if all(p.probability is not None for p in planes):
        meta["probability"] = np.concatenate([np.asarray(p.probability, np.float32) for p in planes])
    return np.concatenate(ids), _positions(recording, rig, report), meta


def _positions(recording: Recording, rig: Rig, report: Report) -> NDArray[np.float32] | None:
    planes = recording.planes
    depths = rig.plane_depths_um or tuple(p.depth_um for p in planes if p.depth_um is not None)
    if len(depths) == 1 < len(planes):
        report.notes.append(f"one depth for {len(planes)} planes is not used; give plane_depths_um")
        depths = ()
    if depths and len(depths) != len(planes):
        raise ValueError(f"plane_depths_um: expected {len(planes)}, one per plane, got {len(depths)}")
    parts = []
    for i, plane in enumerate(planes):
        scale = rig.um_per_pixel or plane.um_per_pixel
        if plane.centroids is None or scale is None:
            lacking = (
                "no centroids in the recording" if plane.centroids is None else "no um_per_pixel in the rig"
            )
            report.notes.append(f"positions: left out, {lacking}")
            return None
        xy = plane.centroids * np.asarray(scale)
        parts.append(np.column_stack([xy, np.full(len(xy), depths[i])]) if depths else xy)
    if not depths and len(planes) > 1:
        report.assumed.append(
            "depths of the planes are unknown: positions are x and y only (plane_depths_um)"
        )
    report.read.append(f"positions: x, y{', depth' if depths else ''} in micrometres")
    return np.concatenate(parts).astype(np.float32)
