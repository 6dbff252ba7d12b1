"""A recorded session to a ``Scan``: the one function behind ``mousev1 ingest``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mousev1.core.network import InputContract
from mousev1.data.scan import Scan
from mousev1.data.validation import Array
from mousev1.errors import check_choice, listing
from mousev1.ingest.behavior import trial_covariates
from mousev1.ingest.caiman import is_caiman, read_caiman
from mousev1.ingest.matlab import read_matlab
from mousev1.ingest.named_arrays import read_named_arrays
from mousev1.ingest.nwb import read_nwb
from mousev1.ingest.pictures import LUMINANCE, find_pictures, match, read_gray
from mousev1.ingest.presentations import Clock, Presentations, read_presentations
from mousev1.ingest.recording import SIGNALS, Float, Recording, Table
from mousev1.ingest.report import Report
from mousev1.ingest.responses import (
    ResponseWindow,
    TimedPlane,
    above_baseline,
    choose_window,
    repeat_reliability,
    timed,
    trial_responses,
)
from mousev1.ingest.rig import Rig, read_rig
from mousev1.ingest.screen import in_frame, placement
from mousev1.ingest.suite2p import is_suite2p, read_suite2p
from mousev1.ingest.tables import read_table
from mousev1.ingest.tiers import TierSplit, given_tiers, split_tiers

Source = str | Path | Sequence[str | Path]


@dataclass(frozen=True, kw_only=True)
class LogFormat:
    """How to read logs whose columns are not recognised.

    Attributes:
        columns: ``onset``, ``image``, ``duration``, ``offset`` or ``tier`` to the name of its column.
        time_unit: ``s``, ``ms`` or ``frames``, for onsets.
        index_base: number of the first picture, where the log has numbers that count pictures in natural order.
        ignore_tiers: divide images anew where the log has tiers.
        behavior_time: column of times in the table of behaviour.
        behavior_time_unit: its unit.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    time_unit: str | None = None
    index_base: int | None = None
    ignore_tiers: bool = False
    behavior_time: str | None = None
    behavior_time_unit: str | None = None


@dataclass(frozen=True, kw_only=True)
class NeuronSelection:
    """Which traces of which neurons.

    Attributes:
        signal: ``spikes`` (deconvolved) or ``fluorescence``: F - 0.7 Fneu or CaImAn's C, as dF/F above a slow baseline.
        min_probability: select ROIs by probability instead of by the file's own choice (suite2p).
        series: name of the response series of an NWB file, where several fit.
    """

    signal: str = "spikes"
    min_probability: float | None = None
    series: str | None = None

    def __post_init__(self) -> None:
        check_choice("signal", self.signal, SIGNALS)


def read_session(
    source: Source,
    *,
    log: str | Path | Table | None = None,
    pictures: str | Path | Mapping[str, NDArray[Any]] | None = None,
    behavior: str | Path | Table | None = None,
    rig: str | Path | Mapping[str, Any] | Rig | None = None,
    frame_times: str | Path | Float | None = None,
    window: ResponseWindow | Literal["auto"] | None = None,
    neurons: NeuronSelection | None = None,
    log_format: LogFormat | None = None,
    tiers: TierSplit | None = None,
    contract: InputContract | None = None,
    name: str | None = None,
    animal_id: str | None = None,
    report: Report | None = None,
) -> Scan:
    """A validated scan from what lies on a lab's disk.

    Args:
        source: a suite2p folder, an ``.nwb`` file, CaImAn's ``.hdf5``, a ``.mat`` (v5 or v7.3), a folder of arrays or
            an ``.npz``; several files of CaImAn are planes of one volume.
        log: table of presentations (CSV, TSV, Parquet or columns): onset, image, and optionally duration and tier.
            Not needed where the source holds it.
        pictures: folder of pictures, an (N, H, W) ``.npy``, or name to array. Pictures never shown are left out.
        behavior: table with times and any signals: running, pupil radius and position, ...
        rig: JSON file, dict or ``Rig``: size and distance of the screen, pixel size of the microscope.
        frame_times: start of every frame in seconds, of volumes or of all planes in turn; ``.npy`` or a table.
        window: the time after onset that responses are integrated over, 50 to 550 ms unless given; ``"auto"``
            chooses window and lag by repeat reliability on half of the repeats.
        neurons: which traces of which neurons.
        log_format: how to read logs whose columns are not recognised.
        tiers: how images without a tier in the log are divided.
        contract: the core's frame and resolution, those of 11-S unless given.
        name: of the scan; the source's otherwise.
        animal_id: the animal, if it is to be kept.
        report: filled with what was read, assumed, dropped and counted.

    Returns:
        Responses of the selected neurons in every sound trial, pictures as uint8 in the core's frame, positions in
        micrometres where pixel size is known, and per trial order, time and behaviour as covariates.

    Raises:
        FileNotFoundError: a path that leads nowhere.
        ValueError: something missing or contradictory; the message says what and how to give it.
    """
    report = report if report is not None else Report()
    chosen, form = neurons or NeuronSelection(), log_format or LogFormat()
    contract = contract or InputContract()
    setup = read_rig(rig, report)
    recording = read_recording(source, chosen, report)
    if not any(len(plane.roi) for plane in recording.planes):
        raise ValueError("neurons: none selected in the recording; lower min_probability (--min-probability)")
    planes = _timed_planes(recording, setup, frame_times, chosen.signal, report)
    clock = _clock(planes)
    table = read_table(log) if isinstance(log, str | Path) else log if log is not None else recording.log
    if table is None:
        raise ValueError(
            f"log: no presentations in {source}; give a table of them, log='stimulus_log.csv' (--log)"
        )
    shown = read_presentations(table, clock, report, columns=form.columns, time_unit=form.time_unit)
    library: Mapping[str, Any] = recording.pictures
    if pictures is not None:
        library = find_pictures(pictures) if isinstance(pictures, str | Path) else pictures
    index, shown, names = _matched(
        shown, library, form, recording.index_base if pictures is None else None, report
    )

    if window == "auto":
        window = choose_window(planes, shown.onset, index, report, (tiers or TierSplit()).seed)
    window = window or ResponseWindow()
    sorted_ = trial_responses(planes, shown.onset, window, report)
    index, responses, onset = index[sorted_.kept], sorted_.responses, shown.onset[sorted_.kept] + window.lag
    tier = _tier(index, shown, sorted_.kept, form, tiers or TierSplit(), names, report)
    if not (tier != "").all():
        report.count("trials without a tier in the log, dropped", int((tier == "").sum()))
        index, responses, onset, tier = (values[tier != ""] for values in (index, responses, onset, tier))
    responses = _not_negative(responses, chosen.signal, report)
    alive = _alive(responses[tier == "train"], report)

    behaviour = (
        [read_table(behavior) if isinstance(behavior, str | Path) else behavior]
        if behavior
        else recording.behavior
    )
    covariates: dict[str, Array] = {"trial_order": np.arange(len(onset)), "trial_time": onset}
    covariates |= trial_covariates(
        [t for t in behaviour if t is not None], onset + window.start, onset + window.stop, clock, report,
        time_column=form.behavior_time, time_unit=form.behavior_time_unit,
    )  # fmt: skip
    images, image_ids, trial_image = _seen(index, library, names, setup, contract, report)
    unit_ids, positions, meta = _neurons(recording, setup, report)
    report.notes.append(
        f"responses: integrated from {window.start:g} to {window.stop:g} s after onset, lag {window.lag:g} s"
    )
    scan = Scan(
        name=name or recording.name,
        images=images,
        image_ids=image_ids,
        trial_image=trial_image,
        tiers=tier,
        responses=responses[:, alive],
        unit_ids=unit_ids[alive],
        positions=None if positions is None else positions[alive],
        animal_id=animal_id,
        neuron_meta={key: values[alive] for key, values in meta.items()},
        covariates=covariates,
    )
    _count(scan, report)
    return scan


def read_recording(source: Source, chosen: NeuronSelection, report: Report) -> Recording:
    """The recording in a file or folder, by what it is.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: nothing that is known.
    """
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"source: expected a recording, found nothing at {path}")
    first = paths[0]
    if all(path.is_file() and is_caiman(path) for path in paths):
        return read_caiman(paths, report, signal=chosen.signal)
    if len(paths) > 1:
        raise ValueError("source: only files of CaImAn may be several, one per plane; give one path")
    if is_suite2p(first):
        return read_suite2p(first, report, signal=chosen.signal, min_probability=chosen.min_probability)
    suffix = "folder" if first.is_dir() else first.suffix.lower()
    readers: dict[str, Callable[[], Recording]] = {
        ".nwb": lambda: read_nwb(first, report, signal=chosen.signal, series=chosen.series),
        ".mat": lambda: read_matlab(first, report, signal=chosen.signal),
        ".npz": lambda: read_named_arrays(first, report, signal=chosen.signal),
        "folder": lambda: read_named_arrays(first, report, signal=chosen.signal),
    }
    if suffix not in readers:
        raise ValueError(
            f"source: expected a suite2p folder, .nwb, CaImAn's .hdf5, .mat, .npz or a folder of arrays, got {first}"
        )
    return readers[suffix]()


def _timed_planes(
    recording: Recording, rig: Rig, frame_times: str | Path | Float | None, signal: str, report: Report
) -> list[TimedPlane]:
    """Every plane with the times of its frames."""
    given = None if frame_times is None else _frame_times(frame_times)
    count = len(recording.planes)
    planes = []
    for number, plane in enumerate(recording.planes):
        n_frames = plane.traces.shape[1]
        times = given if given is not None else plane.times
        rate = rig.frame_rate or plane.rate
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
        if signal == "fluorescence":
            traces = above_baseline(found.traces, 1.0 / float(np.median(found.length)))
            found = TimedPlane(traces, found.start, found.length, found.good)
        planes.append(found)
    if count > 1:
        known = rig.plane_delays_s is not None or all(
            p.delay is not None or p.times is not None for p in recording.planes
        )
        delays = ", ".join(f"{1000 * (plane.start[0] - planes[0].start[0]):.1f}" for plane in planes)
        line = f"planes start at {delays} ms of a volume"
        (report.read if known else report.assumed).append(line + ("" if known else ": it is divided equally"))
    return planes


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
        return np.asarray(np.load(source, allow_pickle=False), float).ravel()
    table = read_table(source)
    numeric = [name for name in table if table[name].dtype.kind == "f"]
    if len(numeric) != 1:
        raise ValueError(
            f"frame_times: expected one column of numbers in {source}, got {listing(numeric)}; keep one"
        )
    return table[numeric[0]]


def _clock(planes: Sequence[TimedPlane]) -> Clock:
    first = planes[0]
    return Clock(float(first.start[0]), max(plane.end for plane in planes), first.start, len(planes))


def _matched(
    shown: Presentations, library: Mapping[str, Any], form: LogFormat, base: int | None, report: Report
) -> tuple[NDArray[np.int64], Presentations, list[str]]:
    """Index of the picture of each presentation that showed one, those presentations, and all names."""
    if not library:
        raise ValueError(
            "pictures: none in the recording; give a folder of them, pictures='stimuli' (--pictures)"
        )
    names = list(library)
    numbers = shown.image.dtype.kind in "iuf"
    index_base = form.index_base if form.index_base is not None else base if numbers else None
    index, blanks, how = match(shown.image, names, index_base=index_base)
    for text, count in blanks.items():
        report.count(f"presentations of a blank screen ({text!r}), left out", count)
    pictured = index >= 0
    report.read.append(f"pictures: {len(names):,}, matched to the log {how}")
    report.count("pictures never shown, left out", len(names) - len(np.unique(index[pictured])))
    tier = None if shown.tier is None else shown.tier[pictured]
    return index[pictured], Presentations(shown.onset[pictured], shown.image[pictured], tier), names


def _tier(
    index: NDArray[np.int64], shown: Presentations, kept: NDArray[np.bool_], form: LogFormat, split: TierSplit,
    names: list[str], report: Report,
) -> NDArray[np.str_]:  # fmt: skip
    if shown.tier is None or form.ignore_tiers:
        return split_tiers(index, split, report)
    report.notes.append("tiers: as in the log")
    return given_tiers(index, shown.tier[kept], names)


def _not_negative(responses: NDArray[np.float32], signal: str, report: Report) -> NDArray[np.float32]:
    negative = responses < 0
    if negative.any():
        report.notes.append(
            f"{negative.sum():,} responses ({negative.mean():.2%}) below 0, down to {responses.min():.3g}, became 0"
            + (" (fluorescence below its baseline)" if signal == "fluorescence" else "")
        )
    return np.maximum(responses, 0)


def _alive(training: NDArray[np.float32], report: Report) -> NDArray[np.bool_]:
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


def _seen(
    index: NDArray[np.int64], library: Mapping[str, Any], names: list[str], rig: Rig, contract: InputContract,
    report: Report,
) -> tuple[NDArray[np.uint8], NDArray[np.str_], NDArray[np.int64]]:  # fmt: skip
    """Pictures that were shown, in the core's frame, with their names, and which of them each trial showed."""
    used, trial_image = np.unique(index, return_inverse=True)
    pictures = (read_gray(library[names[i]], names[i]) for i in used)
    first = read_gray(library[names[used[0]]], names[used[0]])
    where = placement(rig, (first.shape[0], first.shape[1]), contract, report)
    frames = []
    for picture, i in zip(pictures, used, strict=True):
        if picture.shape != first.shape and where.width_deg is None:
            raise ValueError(
                f"pictures: expected {first.shape} as the first, got {picture.shape} in {names[i]}"
            )
        frames.append(in_frame(picture, where, contract))
    report.notes.append(f"pictures: {LUMINANCE}")
    return np.stack(frames), np.array([names[i] for i in used]), trial_image.astype(np.int64)


def _neurons(
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


def _count(scan: Scan, report: Report) -> None:
    report.count("neurons in the scan", scan.n_units)
    report.count("trials in the scan", scan.n_trials)
    report.count("images in the scan", scan.n_images)
    for tier, size in scan.tier_sizes.items():
        images = len(np.unique(scan.trial_image[scan.tiers == tier]))
        report.count(f"trials in {tier} ({images:,} images)", size)
    test = scan.tiers == "test"
    if test.any() and np.bincount(scan.trial_image[test]).max() > 1:
        found = repeat_reliability(scan.responses[test], scan.trial_image[test])
        report.notes.append(f"repeat reliability of the test trials: {found:.3f} (mean over neurons)")
