"""What each command of the command line does; every function returns its final line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mousev1.cli.common import check_free, read, same_units
from mousev1.cli.demo import run_demo
from mousev1.cli.prediction_files import write_csv, write_hdf5
from mousev1.compare.learning_curve import transfer_curve
from mousev1.compare.results import LearningCurve, combine
from mousev1.core.network import Core, InputContract
from mousev1.core.representation import as_core
from mousev1.data.images import Images, picture_files
from mousev1.data.io import read_scan
from mousev1.data.scan import Scan
from mousev1.fit.fitting import fit_scan
from mousev1.hub.checkpoint_import import import_checkpoint
from mousev1.hub.cores import largest_deviation, load_core
from mousev1.hub.model_cards import core_card
from mousev1.hub.model_files import load_model
from mousev1.insilico.extrapolation import LEVEL, measure_extrapolation
from mousev1.metrics.score_names import MODEL_SCORES
from mousev1.metrics.unit_scores import ScoreTable
from mousev1.model.response_model import ResponseModel
from mousev1.storage.artifact import CONFIG_FILE, read_kind
from mousev1.storage.atomic import replacing
from mousev1.storage.core_files import save_core

NO_FIGURE = "; no figure, because matplotlib is not installed: pip install matplotlib"


def fit(
    *,
    scan: Path,
    skip_tier: Sequence[str],
    core: str,
    out: Path,
    method: str,
    units: int | None,
    no_cortex: bool,
    pixels_per_degree: float | None,
    constant_units: str,
    seed: int,
    device: str,
    memory: float | None,
    include_core: bool,
    overwrite: bool,
    quiet: bool,
) -> str:
    """``mousev1 fit``: read, fit, score on the test trials, save."""
    check_free(out, overwrite)
    if memory is not None and not 0.0 < memory < math.inf:
        raise ValueError(f"--memory: expected gigabytes above 0, got {memory}; leave it out for no limit")
    loaded = load_core(core)
    recording = read(scan, skip_tier, progress=not quiet)
    if units is not None:
        if not 1 <= units <= recording.n_units:
            raise ValueError(f"--units: expected 1 to {recording.n_units}, the scan's neurons, got {units}")
        recording = recording.select_units(np.arange(units))
    if no_cortex:
        recording = replace(recording, positions=None)
    print(f"core: {describe_core(loaded)}")
    print(recording.summary())
    model = fit_scan(
        recording,
        core=loaded,
        method=method,
        pixels_per_degree=pixels_per_degree,
        constant_units=constant_units,
        seed=seed,
        device=device,
        memory=None if memory is None else round(memory * 1e9),
        progress=not quiet,
    )
    for note in model.record.notes:
        print(f"note: {note}")
    model.save(out, include_core=include_core or None, overwrite=overwrite)
    if len(recording.trials("test")):
        print("test trials:")
        print(_score(model, recording, "test", progress=not quiet).summary())
    return f"wrote {out}: a model of {model.n_units} neurons; use it with: mousev1 predict {out} IMAGES --out ..."


def predict(
    *,
    model: str,
    images: Sequence[Path],
    out: Path,
    pixels_per_degree: float | None,
    no_extrapolation: bool,
    device: str,
    overwrite: bool,
    quiet: bool,
) -> str:
    """``mousev1 predict``: responses to pictures, as HDF5 or CSV."""
    if out.suffix not in (".h5", ".csv"):
        raise ValueError(f"--out: expected a name ending in .h5 or .csv, got {out}")
    check_free(out, overwrite)
    fitted = load_model(model).to(device)
    judged = fitted.training_statistics is not None and not no_extrapolation
    names: list[str] = []
    rates, distances = [], []
    for source in images:
        files = None if source.suffix == ".npy" else picture_files(source)
        shown: Images = np.load(source, allow_pickle=False) if files is None else files
        found = fitted.predict(shown, pixels_per_degree=pixels_per_degree, progress=not quiet)
        names += [f"{source}[{i}]" for i in range(len(found))] if files is None else map(str, files)
        rates.append(found)
        if judged:
            far = measure_extrapolation(fitted, shown, units=[0], pixels_per_degree=pixels_per_degree)
            distances.append(far.image_distance)
    extrapolation = np.concatenate(distances) if judged else None
    unit_ids = fitted.unit_ids.cpu().numpy()
    with replacing(out) as staging:
        if out.suffix == ".h5":
            write_hdf5(staging, np.concatenate(rates), names, unit_ids, extrapolation)
        else:
            write_csv(staging, np.concatenate(rates), names, unit_ids)
    if extrapolation is not None and (extrapolation > 1).any():
        print(
            f"note: {int((extrapolation > 1).sum())} of {len(names)} images are farther from the training images than "
            f"{LEVEL:g}% of these, up to {extrapolation.max():.2g} times as far; predictions of them are extrapolation"
        )
    return f"wrote {out}: responses of {fitted.n_units} neurons to {len(names)} images"


def score(
    *,
    model: str,
    scan: Path,
    skip_tier: Sequence[str],
    tier: str,
    manifest: Path | None,
    out: Path | None,
    overwrite: bool,
    quiet: bool,
) -> str:
    """``mousev1 score``: recorded against predicted responses."""
    if out is not None:
        check_free(out, overwrite)
    if manifest is not None:
        from mousev1.cli.insilico import score_manifest

        return score_manifest(
            model=model, scan=scan, skip_tier=skip_tier, manifest=manifest, out=out, quiet=quiet
        )
    fitted = load_model(model)
    recording = same_units(read(scan, skip_tier, progress=not quiet), fitted)
    table = _score(fitted, recording, tier, progress=not quiet)
    print(table)
    if out is None:
        return f"scored {fitted.n_units} neurons on {tier} trials; --out FILE.csv writes the table"
    table.to_csv(out)
    return f"wrote {out}: scores of {fitted.n_units} neurons on {tier} trials"


def compare(
    *,
    scan: Path,
    skip_tier: Sequence[str],
    cores: Sequence[str] | None,
    images: Sequence[int] | None,
    units: int | None,
    partitions: int,
    no_cortex: bool,
    no_baselines: bool,
    simulated: bool,
    pixels_per_degree: float | None,
    seed: int,
    device: str,
    out: Path,
    overwrite: bool,
    quiet: bool,
) -> str:
    """``mousev1 compare``: cores and baselines on one scan, over the number of training images."""
    check_free(out, overwrite)
    loaded = [load_core(core) for core in cores or ["11-S"]]
    recording = read(scan, skip_tier, progress=not quiet)
    for core in loaded:
        print(f"core: {describe_core(core)}")
    print(recording.summary())
    curve = combine(
        [
            transfer_curve(
                core,
                recording,
                images=images,
                units=units,
                partitions=partitions,
                seed=seed,
                baselines=not (no_baselines or place),
                cortex=not no_cortex,
                simulated=simulated,
                pixels_per_degree=pixels_per_degree,
                device=device,
                progress=not quiet,
            )
            for place, core in enumerate(loaded)
        ]
    )
    print("\n\n".join(curve.table(score) for score in curve.headline))
    out.mkdir(parents=True, exist_ok=True)
    curve.to_csv(out / "curve.csv")
    tables = "\n\n".join(curve.table(score) for score in MODEL_SCORES if curve.defined(score))
    with replacing(out / "curve.txt") as staging:
        staging.write_text(tables + "\n", encoding="utf-8")
    drawn = _draw(curve, out / "curve.png")
    return f"wrote {out}: curve.csv, curve.txt" + (" and curve.png" if drawn else NO_FIGURE)


def insilico(**options: Any) -> str:
    """``mousev1 insilico``: tables, images and figures of neurons; see ``mousev1.cli.insilico``."""
    from mousev1.cli import insilico as commands

    return commands.insilico(**options)


def export(**options: Any) -> str:
    """``mousev1 export``: stimuli for an experiment; see ``mousev1.cli.insilico``."""
    from mousev1.cli import insilico as commands

    return commands.export(**options)


def import_(
    *,
    checkpoint: Path,
    out: Path,
    sha256: str | None,
    name: str | None,
    mean: float | None,
    std: float | None,
    session: str | None,
    overwrite: bool,
) -> str:
    """``mousev1 import``: a published checkpoint as a folder of ours."""
    check_free(out, overwrite)
    if (mean is None) != (std is None):
        raise ValueError("--mean, --std: expected both or neither; give both, 0 and 1 for raw images")
    contract = None if mean is None or std is None else InputContract(mean=mean, std=std)
    found = import_checkpoint(checkpoint, sha256=sha256, name=name, contract=contract, session=session)
    if isinstance(found, Core):
        save_core(found, out, card=core_card(found), overwrite=overwrite)
        return f"wrote {out}: core {describe_core(found)}; use it with --core {out}"
    found.save(out, include_core=True, overwrite=overwrite)
    return f"wrote {out}: a model of {found.n_units} neurons with core {describe_core(as_core(found.core, 'import'))}"


def info(*, what: str, verify: bool) -> str:
    """``mousev1 info``: what something is."""
    path = Path(what)
    if path.exists() and (path.is_file() or not (path / CONFIG_FILE).is_file()):
        return read_scan(path).summary()
    if path.exists() and read_kind(path) == "response-model":
        return describe_model(load_model(path))
    core = load_core(what)
    lines = [describe_core(core), f"content hash {core.content_hash()}"]
    if verify:
        lines.append(f"largest deviation from its probe features: {largest_deviation(core):.2g}")
    return "\n".join(lines)


def demo(*, out: Path, quiet: bool) -> str:
    """``mousev1 demo``: everything on the bundled example."""
    return run_demo(out, progress=not quiet)


def describe_core(core: Core) -> str:
    """One line about a core."""
    config, contract = core.config, core.config.input
    low, high = contract.value_range
    scaling = (
        "raw" if (contract.mean, contract.std) == (0, 1) else f"z-scored ({contract.mean}, {contract.std})"
    )
    return (
        f"{core.name} ({config.layers} layers, {config.hidden_channels} channels, kernels "
        f"{config.input_kernel} and {config.hidden_kernel}; images {low:g} to {high:g}, {scaling} inside, "
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


def _score(model: ResponseModel, scan: Scan, tier: str, *, progress: bool) -> ScoreTable:
    trials = scan.trials(tier)
    if not len(trials):
        raise ValueError(f"--tier: the scan has no {tier} trials, only {scan.tier_sizes}")
    return model.score(
        trials.images,
        trials.responses,
        trials.image_ids,
        pixels_per_degree=model.record.pixels_per_degree,
        progress=progress,
    )


def _draw(curve: LearningCurve, path: Path) -> bool:
    """Whether there is a matplotlib to draw the figure with."""
    try:
        from mousev1.plot import learning_curve

        learning_curve(curve).savefig(path, dpi=150)
    except ImportError:
        return False
    return True
