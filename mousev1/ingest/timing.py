"""When every frame of every plane was taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mousev1.data.npy import read_npy
from mousev1.errors import listing
from mousev1.ingest.options import NeuronSelection
from mousev1.ingest.presentations import Clock
from mousev1.ingest.recording import Float, Recording
from mousev1.ingest.report import Report
from mousev1.ingest.responses import TimedPlane, above_baseline, timed, without_decay
from mousev1.ingest.rig import Rig
from mousev1.ingest.tables import read_table

USUAL_DECAY = 0.7  # seconds, suite2p's advice for GCaMP6f


def timed_planes(
    recording: Recording,
    rig: Rig,
    frame_times: str | Path | Float | None,
    chosen: NeuronSelection,
    report: Report,
) -> list[TimedPlane]:
    """Every plane with the times of its frames."""
    given = None if frame_times is None else _frame_times(frame_times)
    count = len(recording.planes)
    planes = []
    for number, plane in enumerate(recording.planes):
        n_frames = plane.traces.shape[1]
        times = given if given is not None else plane.times
        rate = _rate(rig.frame_rate, plane.rate, count, report)
        if times is None and rate is None:
            raise ValueError(
                "frame rate: not in the recording; give frames of each plane per second as frame_rate in the rig "
                "(--frame-rate)"
            )
        volumes = times if times is not None else np.arange(n_frames) / (rate or 1.0)
        if given is not None and count > 1 and len(given) >= count * n_frames:
            volumes, delay = given[number::count][:n_frames], 0.0
        else:
            delay = _delay(
                plane.delay if plane.times is None or given is not None else 0.0, number, count, rig, volumes
            )
        if len(volumes) != n_frames:
            raise ValueError(
                f"frame_times: expected {n_frames} as the frames of plane {number}, got {len(volumes)}"
            )
        found = timed(plane, volumes + delay, report)
        if chosen.signal == "fluorescence":
            found = _activity(found, plane.decay, chosen, report)
        planes.append(found)
    if count > 1:
        known = rig.plane_delays_s is not None or all(
            p.delay is not None or p.times is not None for p in recording.planes
        )
        delays = ", ".join(f"{1000 * (plane.start[0] - planes[0].start[0]):.1f}" for plane in planes)
        line = f"planes start at {delays} ms of a volume"
        (report.read if known else report.assumed).append(line + ("" if known else ": it is divided equally"))
    return planes


def _rate(given: float | None, known: float | None, count: int, report: Report) -> float | None:
    """Frames of a plane per second: as given, unless that is the rate of all planes together."""
    if given is None or known is None or abs(given / known - 1) < 1e-3:
        return known if given is None else given
    together = count > 1 and abs(given / known - count) < 1e-2 * count
    rate = known if together else given
    line = f"{rate:g} frames of each plane per second (rig {given:g}, recording {known:g})"
    if line not in report.assumed:
        report.assumed.append(line)
    return rate


def _activity(plane: TimedPlane, known: float | None, chosen: NeuronSelection, report: Report) -> TimedPlane:
    """Fluorescence as dF/F without its decay."""
    rate = 1.0 / float(np.median(plane.length))
    decay = chosen.decay if chosen.decay is not None else known
    if decay is None:
        decay = USUAL_DECAY
        report.assumed.append(f"fluorescence decays within {decay:g} s (decay, --decay)")
    relative = above_baseline(plane.traces, rate)
    if not decay:
        return replace(plane, traces=relative)
    # What is left of a bad frame is unknown.
    good = plane.good & np.concatenate([[True], plane.good[:-1]])
    return replace(plane, traces=without_decay(relative, rate, decay), good=good)


def _delay(own: float | None, number: int, count: int, rig: Rig, volumes: Float) -> float:
    if rig.plane_delays_s is not None:
        if len(rig.plane_delays_s) != count:
            raise ValueError(
                f"plane_delays_s: expected {count}, one per plane, got {len(rig.plane_delays_s)}"
            )
        return rig.plane_delays_s[number]
    return own if own is not None else number / count * float(np.median(np.diff(volumes)))


def _frame_times(source: str | Path | Float) -> Float:
    if not isinstance(source, str | Path):
        return np.asarray(source, float)
    if Path(source).suffix == ".npy":
        return np.asarray(read_npy(source), float).ravel()
    table = read_table(source)
    numeric = [name for name in table if table[name].dtype.kind == "f"]
    if len(numeric) != 1:
        raise ValueError(
            f"frame_times: expected one column of numbers in {source}, got {listing(numeric)}; keep one"
        )
    return table[numeric[0]]


def clock_of(planes: Sequence[TimedPlane]) -> Clock:
    """The clock that logs count on: frames of a plane are those of the first."""
    first = planes[0]
    return Clock(float(first.start[0]), max(plane.end for plane in planes), first.start, len(planes))
