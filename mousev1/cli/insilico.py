"""What the in-silico commands of the command line do: parsed options in, the final line out."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.cli.common import check_free, note_numbered, read, same_units, score_tier
from mousev1.cli.demo import SCAN as BUNDLED
from mousev1.cli.unit_report import examine_units, write_report
from mousev1.data.io import read_scan
from mousev1.data.npy import read_npy
from mousev1.data.scan import Scan
from mousev1.hub.model_files import load_model
from mousev1.insilico.ascent import AscentSettings
from mousev1.insilico.class_scores import score_classes
from mousev1.insilico.experiment import Display, export_experiment
from mousev1.insilico.frame import Frame
from mousev1.insilico.manifest import read_manifest
from mousev1.insilico.units import best_units, modulation, units_with_ids
from mousev1.metrics.score_table import ScoreTable
from mousev1.model.response_model import ResponseModel
from mousev1.numerics.devices import usable_device
from mousev1.plot.figure import check_matplotlib
from mousev1.storage.table import check_parquet

RANKING_IMAGES = 200


def insilico(options: Namespace) -> str:
    """``mousev1 insilico``: tables, images and figures of neurons."""
    check_free(options.out, options.overwrite)
    # What is missing is reported now, not after the work.
    if not options.no_figures:
        check_matplotlib()
    if options.parquet:
        check_parquet()
    fitted = load_model(options.model).to(usable_device(options.device))
    frame = Frame.of_model(fitted)
    settings = AscentSettings(contrast=options.contrast, steps=options.steps, seeds=options.seeds)
    recording = None if options.scan is None else same_units(read(options), fitted)
    natural = _natural_images(fitted, frame, options.images, recording)
    scores = None if recording is None else _scores(fitted, recording)
    index = _chosen_units(fitted, options.units, options.best, natural, scores)
    found = examine_units(
        fitted, index, natural, ascent=settings, frame=frame, seed=options.seed, progress=not options.quiet
    )
    names = write_report(
        options.out,
        fitted,
        found,
        cortex=None if recording is None else recording.positions,
        scores=scores,
        title=options.title,
        figures=not options.no_figures,
        parquet=options.parquet,
    )
    outside = int((found.far > 1).sum())
    if outside:
        print(
            f"note: the most exciting images of {outside} of {len(index)} neurons are unlike the training images"
        )
    return f"wrote {options.out}: {len(index)} neurons, {', '.join(names)}"


def export(options: Namespace) -> str:
    """``mousev1 export``: stimuli for an experiment and what the model predicts of them."""
    check_free(options.out, options.overwrite)
    fitted = load_model(options.model).to(usable_device(options.device))
    frame = Frame.of_model(fitted)
    settings = AscentSettings(contrast=options.contrast, steps=options.steps, seeds=options.seeds)
    recording = None if options.scan is None else same_units(read(options), fitted)
    natural = _natural_images(fitted, frame, options.images, recording)
    scores = None if recording is None else _scores(fitted, recording)
    manifest = export_experiment(
        fitted,
        options.out,
        units=_chosen_units(fitted, options.units, options.best, natural, scores),
        gallery=natural,
        random_images=options.random_images,
        settings=settings,
        mask=options.mask,
        display=Display(gamma=options.gamma, magnify=options.magnify),
        frame=frame,
        seed=options.seed,
        overwrite=options.overwrite,
        progress=not options.quiet,
    )
    counts = ", ".join(f"{len(manifest.rows_of(name))} {name}" for name in manifest.class_names)
    neurons = len(manifest.unit_ids)
    return f"wrote {options.out}: {len(manifest)} images ({counts}) for {neurons} neurons and manifest.csv"


def score_manifest(options: Namespace) -> str:
    """``mousev1 score --manifest``: predicted against recorded responses per class of stimuli."""
    fitted, predicted = load_model(options.model), read_manifest(options.manifest)
    units_with_ids(fitted, predicted.unit_ids.tolist())
    recording = read(options)
    note_numbered(recording)
    table = score_classes(predicted, recording)
    print(table)
    if options.out is None:
        return f"scored {len(predicted.unit_ids)} neurons by class; --out FILE.csv writes the table"
    table.to_csv(options.out)
    return f"wrote {options.out}: scores of {len(table.classes)} classes of stimuli"


def _natural_images(
    model: ResponseModel, frame: Frame, paths: Sequence[Path], scan: Scan | None
) -> NDArray[Any]:
    """(N, H, W) images of the frame's size: those given, else the scan's, else the bundled ones."""
    if paths:
        parts = []
        for path in paths:
            source: Any = read_npy(path) if path.suffix == ".npy" else path
            parts.append(model.prepare(source)[:, 0].float().numpy())
        if len({part.shape[1:] for part in parts}) > 1:
            raise ValueError(
                f"--images: expected one size, got {', '.join(f'{p.shape[1]} x {p.shape[2]}' for p in parts)}"
            )
        natural = np.concatenate(parts)
    elif scan is not None:
        natural = model.prepare(scan.images)[:, 0].float().numpy()
    else:
        resolution = model.core.config.input.pixels_per_degree
        natural = model.to_frame(read_scan(BUNDLED).images, resolution)[:, 0].float().numpy()
        print(
            "note: no --images and no --scan, so the synthetic images that mousev1 brings stand for natural ones"
        )
    if natural.shape[1:] != (frame.height, frame.width):
        raise ValueError(
            f"images: expected {frame.height} x {frame.width} pixels as the core's frame, got "
            f"{natural.shape[1]} x {natural.shape[2]}; give pictures of that size by --images"
        )
    return natural


def _chosen_units(
    model: ResponseModel,
    units: Sequence[int] | None,
    best: int,
    natural: NDArray[Any],
    scores: ScoreTable | None,
) -> NDArray[np.int64]:
    if units:
        return units_with_ids(model, units)
    if scores is not None:
        return best_units(scores.single_trial_correlation, best)
    return best_units(modulation(model, natural[:RANKING_IMAGES]), best)


def _scores(model: ResponseModel, scan: Scan) -> ScoreTable | None:
    """On trials that the fit has not learned from; None if the scan has only those."""
    for tier in ("test", "validation"):
        if (scan.tiers == tier).any():
            return score_tier(model, scan, tier, progress=False)
    return None
