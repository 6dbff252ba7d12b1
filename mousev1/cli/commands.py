"""What each command of the command line does: parsed options in, the final line out."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mousev1.cli.common import check_free, read, same_units, save_figure, score_tier
from mousev1.cli.demo import run_demo
from mousev1.cli.ingest import ingest
from mousev1.cli.insilico import export, insilico, score_manifest
from mousev1.cli.own_representation import own_representation
from mousev1.cli.prediction_files import write_csv, write_hdf5
from mousev1.compare.differences import core_pairs, difference_columns, difference_table
from mousev1.compare.learning_curve import transfer_curve
from mousev1.compare.results import combine
from mousev1.core.network import Core, InputContract
from mousev1.core.representation import Representation, as_core
from mousev1.data.images import Images
from mousev1.data.npy import read_npy
from mousev1.data.pictures import picture_files
from mousev1.fit.fitting import fit_scan
from mousev1.hub.checkpoint_import import import_checkpoint
from mousev1.hub.cores import largest_deviation, load_core
from mousev1.hub.model_cards import core_card
from mousev1.hub.model_files import load_model
from mousev1.insilico.extrapolation import LEVEL, measure_extrapolation
from mousev1.metrics.score_names import MODEL_SCORES
from mousev1.model.response_model import ResponseModel
from mousev1.numerics.devices import usable_device
from mousev1.plot import learning_curve
from mousev1.storage.artifact import CONFIG_FILE, read_kind
from mousev1.storage.atomic import replacing
from mousev1.storage.core_files import save_core
from mousev1.storage.table import write_csv as write_table

__all__ = ["compare", "demo", "export", "fit", "import_", "info", "ingest", "insilico", "predict", "score"]


def fit(options: Namespace) -> str:
    """``mousev1 fit``: read, fit, score on the test trials, save."""
    usable_device(options.device)
    check_free(options.out, options.overwrite)
    if options.memory is not None and not 0.0 < options.memory < math.inf:
        raise ValueError(
            f"--memory: expected gigabytes above 0, got {options.memory}; leave it out for no limit"
        )
    loaded = load_core(options.core)
    recording = read(options)
    if options.units is not None:
        if not 1 <= options.units <= recording.n_units:
            raise ValueError(
                f"--units: expected 1 to {recording.n_units}, the scan's neurons, got {options.units}"
            )
        recording = recording.select_units(np.arange(options.units))
    if options.no_cortex:
        recording = replace(recording, positions=None)
    print(f"core: {describe_core(loaded)}")
    print(recording.summary())
    model = fit_scan(
        recording,
        core=loaded,
        method=options.method,
        pixels_per_degree=options.pixels_per_degree,
        constant_units=options.constant_units,
        outlier_trials=options.outlier_trials,
        seed=options.seed,
        device=options.device,
        memory=None if options.memory is None else round(options.memory * 1e9),
        progress=not options.quiet,
    )
    for note in model.record.notes:
        print(f"note: {note}")
    model.save(options.out, include_core=options.include_core or None, overwrite=options.overwrite)
    if len(recording.trials("test")):
        print("test trials:")
        print(score_tier(model, recording, "test", progress=not options.quiet).summary())
    use = f"mousev1 predict {options.out} IMAGES --out ..."
    return f"wrote {options.out}: a model of {model.n_units} neurons; use it with: {use}"


def predict(options: Namespace) -> str:
    """``mousev1 predict``: responses to pictures, as HDF5 or CSV."""
    if options.out.suffix not in (".h5", ".csv"):
        raise ValueError(f"--out: expected a name ending in .h5 or .csv, got {options.out}")
    check_free(options.out, options.overwrite)
    fitted = load_model(options.model).to(usable_device(options.device))
    if options.std and fitted.posterior is None:
        raise ValueError(
            f"--std: the model, fitted by {fitted.record.method!r}, does not know how well its weights are known; fit "
            "it with --method convex and save it with its posterior, or leave --std out"
        )
    judged = fitted.training_statistics is not None and not options.no_extrapolation
    names: list[str] = []
    rates, spread, distances = [], [], []
    for source in options.images:
        files = None if source.suffix == ".npy" else picture_files(source)
        shown: Images = read_npy(source) if files is None else files
        if options.to_frame:
            stack = fitted.to_frame(shown, _resolution(options, fitted))
        else:
            stack = fitted.prepare(shown, options.pixels_per_degree)
        if options.std:
            found, std = fitted.predict(stack, return_std=True, progress=not options.quiet)
            spread.append(std)
        else:
            found = fitted.predict(stack, progress=not options.quiet)
        names += [f"{source}[{i}]" for i in range(len(found))] if files is None else map(str, files)
        rates.append(found)
        if judged:
            far = measure_extrapolation(fitted, stack, units=[0])
            distances.append(far.image_distance)
    extrapolation = np.concatenate(distances) if judged else None
    stds = np.concatenate(spread) if options.std else None
    unit_ids = fitted.unit_ids.cpu().numpy()
    with replacing(options.out) as staging:
        if options.out.suffix == ".h5":
            write_hdf5(staging, np.concatenate(rates), names, unit_ids, stds, extrapolation)
        else:
            write_csv(staging, np.concatenate(rates), names, unit_ids, stds)
    if extrapolation is not None and (extrapolation > 1).any():
        print(
            f"note: {int((extrapolation > 1).sum())} of {len(names)} images are farther from the training images than "
            f"{LEVEL:g}% of these, up to {extrapolation.max():.2g} times as far; predictions of them are extrapolation"
        )
    return f"wrote {options.out}: responses of {fitted.n_units} neurons to {len(names)} images"


def _resolution(options: Namespace, model: ResponseModel) -> float:
    """Of pictures to be brought into the frame: without it the wrong part of them would be cut out."""
    known: float | None = options.pixels_per_degree or model.record.pixels_per_degree
    if known is None:
        raise ValueError(
            "--to-frame: expected the resolution of the pictures, too; add --pixels-per-degree N, the picture's width "
            f"in pixels divided by its width in degrees ({model.core.config.input.pixels_per_degree:g} if it is the "
            "core's own)"
        )
    return known


def score(options: Namespace) -> str:
    """``mousev1 score``: recorded against predicted responses."""
    if options.out is not None:
        check_free(options.out, options.overwrite)
    if options.manifest is not None:
        return score_manifest(options)
    fitted = load_model(options.model)
    recording = same_units(read(options), fitted)
    if not len(recording.trials(options.tier)):
        raise ValueError(f"--tier: the scan has no {options.tier} trials, only {recording.tier_sizes}")
    table = score_tier(fitted, recording, options.tier, progress=not options.quiet)
    print(table)
    if options.out is None:
        return f"scored {fitted.n_units} neurons on {options.tier} trials; --out FILE.csv writes the table"
    table.to_csv(options.out)
    return f"wrote {options.out}: scores of {fitted.n_units} neurons on {options.tier} trials"


def compare(options: Namespace) -> str:
    """``mousev1 compare``: cores and baselines on one scan, over the number of training images."""
    usable_device(options.device)
    check_free(options.out, options.overwrite)
    loaded: list[Core | Representation] = [own_representation(text) for text in options.representations]
    loaded[:0] = [load_core(core) for core in options.cores or ([] if loaded else ["11-S"])]
    recording = read(options)
    for core in loaded:
        print(f"core: {describe_core(core)}")
    print(recording.summary())
    curve = combine(
        [
            transfer_curve(
                core,
                recording,
                images=options.images,
                units=options.units,
                partitions=options.partitions,
                seed=options.seed,
                baselines=not (options.no_baselines or number),
                cortex=not options.no_cortex,
                simulated=options.simulated,
                pixels_per_degree=options.pixels_per_degree,
                device=options.device,
                progress=not options.quiet,
            )
            for number, core in enumerate(loaded)
        ]
    )
    pairs = core_pairs(curve)

    def tables_of(scores: Sequence[str]) -> str:
        tables = [curve.table(score) for score in scores]
        return "\n\n".join([*tables, *(difference_table(curve, score) for score in scores if pairs)])

    print(tables_of(curve.headline))
    options.out.mkdir(parents=True, exist_ok=True)
    curve.to_csv(options.out / "curve.csv")
    if pairs:
        write_table(options.out / "differences.csv", difference_columns(curve))
    tables = tables_of([score for score in MODEL_SCORES if curve.defined(score)])
    with replacing(options.out / "curve.txt") as staging:
        staging.write_text(tables + "\n", encoding="utf-8")
    drawn = save_figure(options.out / "curve.png", lambda: learning_curve(curve))
    differences = ", differences.csv" if pairs else ""
    return f"wrote {options.out}: curve.csv{differences}, curve.txt{drawn}"


def import_(options: Namespace) -> str:
    """``mousev1 import``: a published checkpoint as a folder of ours."""
    check_free(options.out, options.overwrite)
    if (options.mean is None) != (options.std is None):
        raise ValueError("--mean, --std: expected both or neither; give both, 0 and 1 for raw images")
    contract = (
        None
        if options.mean is None or options.std is None
        else InputContract(mean=options.mean, std=options.std)
    )
    found = import_checkpoint(
        options.checkpoint,
        sha256=options.sha256,
        name=options.name,
        contract=contract,
        session=options.session,
    )
    if isinstance(found, Core):
        save_core(found, options.out, card=core_card(found), overwrite=options.overwrite)
        return f"wrote {options.out}: core {describe_core(found)}; use it with --core {options.out}"
    found.save(options.out, include_core=True, overwrite=options.overwrite)
    core = describe_core(as_core(found.core, "import"))
    return f"wrote {options.out}: a model of {found.n_units} neurons with core {core}"


def info(options: Namespace) -> str:
    """``mousev1 info``: what something is."""
    path = Path(options.what)
    if path.exists() and (path.is_file() or not (path / CONFIG_FILE).is_file()):
        return read(options, path).summary()
    if path.exists() and read_kind(path) == "response-model":
        return describe_model(load_model(path))
    core = load_core(options.what)
    lines = [describe_core(core), f"content hash {core.content_hash()}"]
    if options.verify:
        lines.append(f"largest deviation from its probe features: {largest_deviation(core):.2g}")
    return "\n".join(lines)


def demo(options: Namespace) -> str:
    """``mousev1 demo``: everything on the bundled example."""
    return run_demo(options.out, progress=not options.quiet)


def describe_core(core: Core | Representation) -> str:
    """One line about a core or a representation."""
    contract = core.config.input
    shape = f"{core.config.hidden_channels} channels"
    if isinstance(core, Core):
        config = core.config
        shape = f"{config.layers} layers, {shape}, kernels {config.input_kernel} and {config.hidden_kernel}"
    low, high = contract.value_range
    scaling = (
        "raw" if (contract.mean, contract.std) == (0, 1) else f"z-scored ({contract.mean}, {contract.std})"
    )
    return (
        f"{core.name} ({shape}; images {low:g} to {high:g}, {scaling} inside, "
        f"{contract.pixels_per_degree} pixels per degree, frame {contract.height} x {contract.width})"
    )


def describe_model(model: ResponseModel) -> str:
    """A few lines about a fitted model."""
    record = model.record
    lines = [
        f"model of {model.n_units} neurons, fitted by {record.method!r} to {record.n_images} images",
        f"core: {describe_core(as_core(model.core, 'info'))}",
        *(f"{name}: {value:.4f}" for name, value in record.scores.items()),
        *(f"note: {note}" for note in record.notes),
    ]
    return "\n".join(lines)
