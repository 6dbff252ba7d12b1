"""A recorded session to a ``Scan``: the one function behind ``mousev1 ingest``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mousev1.core.network import InputContract
from mousev1.data.scan import Scan
from mousev1.ingest.behavior import trial_covariates
from mousev1.ingest.neurons import describe_neurons, responsive, without_missing
from mousev1.ingest.options import LogFormat, NeuronSelection
from mousev1.ingest.presentations import read_presentations
from mousev1.ingest.readers import Source, read_recording
from mousev1.ingest.recording import Float, Table
from mousev1.ingest.report import Report
from mousev1.ingest.responses import (
    ResponseWindow,
    choose_window,
    not_negative,
    repeat_reliability,
    trial_responses,
)
from mousev1.ingest.rig import Rig, read_rig
from mousev1.ingest.stimuli import Pictures, match_pictures, pictures_in_frame
from mousev1.ingest.tables import read_table
from mousev1.ingest.tiers import TierSplit, tiers_of
from mousev1.ingest.timing import clock_of, timed_planes


def read_session(  # noqa: PLR0913
    source: Source,
    *,
    log: str | Path | Table | None = None,
    pictures: Pictures = None,
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
    chosen, form, split = neurons or NeuronSelection(), log_format or LogFormat(), tiers or TierSplit()
    setup = read_rig(rig, report)
    recording = without_missing(read_recording(source, chosen, report), report)
    planes = timed_planes(recording, setup, frame_times, chosen, report)
    clock = clock_of(planes)
    table = _table(log) if log is not None else recording.log
    if table is None:
        raise ValueError(
            f"log: no presentations in {source}; give a table of them, log='stimulus_log.csv' (--log)"
        )
    presented = read_presentations(table, clock, report, columns=form.columns, time_unit=form.time_unit)
    shown = match_pictures(presented, pictures, recording, form, report)
    if window == "auto":
        window = choose_window(planes, shown.onset, shown.index, report, split.seed)
    window = window or ResponseWindow()
    kept, responses = trial_responses(planes, shown.onset, window, report)
    shown, responses = shown.take(kept), not_negative(responses, chosen.signal, report)
    tier = tiers_of(shown.index, shown.tier, shown.names, split, report)
    alive = responsive(responses[tier == "train"], report)
    unit_ids, positions, meta = describe_neurons(recording, setup, report)
    images, image_ids, trial_image = pictures_in_frame(shown, setup, contract or InputContract(), report)
    onset = shown.onset + window.lag
    tables = recording.behavior if behavior is None else (_table(behavior),)
    span = (onset + window.start, onset + window.stop)
    when = {"time_column": form.behavior_time, "time_unit": form.behavior_time_unit}
    behaviour = trial_covariates(tables, span, clock, report, **when)
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
        covariates={"trial_order": shown.order, "trial_time": onset, **behaviour},
    )
    _count(scan, window, report)
    return scan


def _table(given: str | Path | Table) -> Table:
    return read_table(given) if isinstance(given, str | Path) else given


def _count(scan: Scan, window: ResponseWindow, report: Report) -> None:
    """What the scan holds, for the report."""
    report.notes.append(
        f"responses: integrated from {window.start:g} to {window.stop:g} s after onset, lag {window.lag:g} s"
    )
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
