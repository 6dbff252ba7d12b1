"""What a worker does for a benchmark: one training, or one cell from drawn neurons to a row on disk."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from filelock import FileLock

import mousev1
from mousev1.core.representation import FrozenCore
from mousev1.data.scan import Scan
from mousev1.model.response_model import FitRecord, ResponseModel
from training.pretraining.data import prepare_scan
from training.pretraining.end_to_end import Direct, train_end_to_end, write_scans
from training.pretraining.frozen_core import train_readouts
from training.pretraining.run_folder import RESULT_FILE
from training.provenance import machine, now, versions
from training.transfer_benchmark.conditions_grid import Cell, NeuronDraw, Plan, Training, load_core
from training.transfer_benchmark.config import CONVEX, DIFF_CORE, DIRECT, READOUTS
from training.transfer_benchmark.protocol import draw_images, draw_neurons
from training.transfer_benchmark.results_table import Row, write_rows
from training.transfer_benchmark.scoring import Truth, read_truth, score_tests, validation_correlation

if TYPE_CHECKING:
    from mousev1.core.network import CoreConfig


@dataclass(frozen=True)
class Origin:
    """What a row says of how it came about.

    Attributes:
        command: that gives the benchmark again.
        commit: of the code.
    """

    command: str
    commit: str | None


@dataclass(frozen=True)
class Drawn:
    """The scans of a target with the neurons of a partition, and the truth behind them where it is known."""

    scans: list[Scan]
    truths: list[Truth | None]


@functools.lru_cache(maxsize=4)
def _read_scan(path: Path) -> Scan:
    return mousev1.read_scan(path)


def draw_target(plan: Plan, cell: Cell) -> Drawn:
    """What a cell is about, with all images."""
    target = plan.config.target(cell.target)
    scans = [_read_scan(file) for file in plan.target_files(target)]
    truths: Sequence[Truth | None] = [read_truth(file) for file in plan.truth_files(target)]
    index = draw_neurons(scans, cell.partition, units=cell.units, core_units=target.core_units).transfer
    return Drawn(
        [scan.select_units(rows) for scan, rows in zip(scans, index, strict=True)],
        [
            None if truth is None else truth.select_units(rows)
            for truth, rows in zip(truths or [None] * len(scans), index, strict=True)
        ],
    )


# ---------------------------------------------------------------- trainings


def is_trained(plan: Plan, training: Training) -> bool:
    """Whether a training has come to its end."""
    return (plan.training_folder(training) / "run" / RESULT_FILE).is_file()


def train(plan: Plan, training: Training) -> Direct:
    """Train, or go on where that stopped, or read what it gave. One process at a time; others wait."""
    folder = plan.training_folder(training)
    folder.mkdir(parents=True, exist_ok=True)
    threads = _threads(training.recipe.compute.threads or 1)
    with FileLock(folder.with_suffix(".lock")), _log(folder / "log.txt"), threads:
        files = _training_files(training, folder / "scans")
        return train_end_to_end(files, training.recipe, folder, figures=False)


def train_only(plan: Plan, training: Training) -> None:
    """Train, as work of its own: what comes of it stays on disk."""
    train(plan, training)


def _training_files(training: Training, folder: Path) -> Sequence[Path]:
    if not training.images and training.neurons is None:
        return training.files
    scans = [_read_scan(file) for file in training.files]
    if training.neurons is not None:
        scans = _select_neurons(scans, training)
    if training.images:
        scans = draw_images(scans, training.images, training.partition, image_seed=training.image_seed)
    return write_scans(scans, folder)


def _select_neurons(scans: list[Scan], training: Training) -> list[Scan]:
    draw = cast(NeuronDraw, training.neurons)
    neurons = draw_neurons(
        [_read_scan(file) for file in draw.files],
        training.partition,
        units=draw.units,
        core_units=draw.core_units,
    )
    rows = neurons.core if draw.of_core else neurons.transfer
    assert rows is not None
    chosen = dict(zip(draw.files, rows, strict=True))
    return [
        scan.select_units(chosen[file]) if file in chosen else scan
        for file, scan in zip(training.files, scans, strict=True)
    ]


@contextlib.contextmanager
def _log(path: Path) -> Iterator[None]:
    """What is printed goes to a file."""
    with path.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        yield


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of torch. Results depend on it in the last digits, and processes must not compete."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- cells


@dataclass(frozen=True)
class Fitted:
    """Models of a cell, one per scan."""

    models: list[ResponseModel]
    seconds: float
    epochs: int | None


def cell_file(plan: Plan, key: str) -> Path:
    """Where the row of a cell goes."""
    return plan.out / "cells" / f"{key}.parquet"


def compute(plan: Plan, cell: Cell, origin: Origin) -> None:
    """Compute a cell and write its row."""
    with _threads(1):
        drawn = draw_target(plan, cell)
        fitted = fit(plan, cell, drawn.scans)
        key = plan.key(cell)
        write_rows([_row(plan, cell, key, drawn, fitted, origin)], cell_file(plan, key))


def fit(plan: Plan, cell: Cell, scans: list[Scan]) -> Fitted:
    """The models of a cell.

    Args:
        plan: of the benchmark.
        cell: which one.
        scans: with the neurons of its partition and all images.
    """
    if cell.condition != DIFF_CORE:
        image_seed = plan.config.target(cell.target).image_seed
        scans = draw_images(scans, cell.images, cell.partition, image_seed=image_seed)
    training = plan.training(cell)
    spent = 0.0
    if cell.condition == DIRECT:
        assert training is not None
        trained = train(plan, training)
        spent = trained.seconds
        if cell.method != CONVEX:
            return Fitted(trained.models, spent, trained.details["epochs"])
    elif training is not None and not is_trained(plan, training):
        train(plan, training)
    if training is not None:
        run = plan.training_folder(training) / "run"
        # As whoever gets the core would have it: with its prior on readouts.
        core: FrozenCore = mousev1.load_core(run / "core")
        if cell.condition == DIFF_CORE:
            spent = 3600 * json.loads((run / RESULT_FILE).read_text(encoding="utf-8"))["hours"]
    else:
        core = load_core(plan, plan.config.entry(cell.core), cell.seed)
    started = time.perf_counter()
    if cell.method == CONVEX:
        models, epochs = fit_convex(core, scans, cell), None
    else:
        models, epochs = fit_recipe(plan, core, scans, cell)
    return Fitted(models, spent + time.perf_counter() - started, epochs)


def fit_convex(core: FrozenCore, scans: list[Scan], cell: Cell) -> list[ResponseModel]:
    """Gaussian readouts by the convex solver, which the validation tier does not influence."""
    if not READOUTS[cell.readout]["cortex"]:
        scans = [replace(scan, positions=None) for scan in scans]
    if cell.sharing:
        return mousev1.fit_matched_scans(
            scans,
            core=core,
            constant_units="mean",
            seed=cell.seed,
            progress=False,
        )
    models = []
    for scan in scans:
        trials = scan.trials("train")
        models.append(
            mousev1.fit_readout(
                trials.images,
                trials.responses,
                scan.positions,
                core=core,
                image_ids=trials.image_ids,
                unit_ids=scan.unit_ids,
                constant_units="mean",
                seed=cell.seed,
                progress=False,
            )
        )
    return models


def fit_recipe(
    plan: Plan, core: FrozenCore, scans: list[Scan], cell: Cell
) -> tuple[list[ResponseModel], int]:
    """Readouts of any kind by the recipe of pretraining; returns models and epochs."""
    recipe = plan.frozen_recipe(cell)
    prepared = [prepare_scan(scan, cast("CoreConfig", core.config)) for scan in scans]
    fitted = train_readouts(core, prepared, recipe)
    models = [
        ResponseModel(
            core,
            readout,
            unit_ids=scan.unit_ids,
            response_scale=seen.response_scale,
            record=FitRecord(method="training.pretraining.frozen_core", n_images=len(seen.train)),
        )
        for readout, scan, seen in zip(fitted.readouts, scans, prepared, strict=True)
    ]
    return models, fitted.epochs


def _row(plan: Plan, cell: Cell, key: str, drawn: Drawn, fitted: Fitted, origin: Origin) -> Row:
    config, target = plan.config, plan.config.target(cell.target)
    scores = score_tests(drawn.scans, fitted.models, drawn.truths)
    entry = None if cell.condition == DIRECT else config.entry(cell.core)
    identity = plan.identity(cell)
    scans = identity["target"]["scans"]
    return {
        "key": key,
        "benchmark": config.name,
        "condition": cell.condition,
        "core": cell.core,
        "core_set": "" if entry is None else entry.core_set or entry.pretrained_on,
        "scope": target.scope,
        "readout": cell.readout,
        "sharing": cell.sharing,
        "method": cell.method,
        "images": cell.images,
        "units": cell.units,
        "seed": cell.seed,
        "partition": cell.partition,
        "validation_correlation": validation_correlation(drawn.scans, fitted.models),
        "test_correlation": scores.single_trial_correlation,
        "correlation_to_average": scores.correlation_to_average,
        "fraction_oracle": scores.fraction_oracle,
        "true_rate_correlation": scores.true_rate_correlation,
        "undefined_units": scores.undefined_units,
        "seconds": round(fitted.seconds, 3),
        "epochs": fitted.epochs,
        "simulated": config.simulated,
        "scan": "+".join(scan.name for scan in drawn.scans),
        "data_sha256": scans[0] if len(scans) == 1 else "+".join(scans),
        "core_hash": fitted.models[0].core.content_hash(),
        "config": json.dumps(identity, sort_keys=True),
        "command": f"{origin.command} --only key={key}",
        "commit": origin.commit,
        "date": now(),
        "machine": json.dumps(machine()),
        "versions": json.dumps(versions()),
    }
