"""One run of a benchmark, from drawn neurons to a row on disk."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

import mousev1
from mousev1.core.representation import FrozenCore
from mousev1.data.scan import Scan
from mousev1.fit.fitting import fit_scan
from mousev1.metrics.intervals import mean_of_defined
from mousev1.metrics.population_scores import Truth, pooled_scores
from mousev1.metrics.unit_scores import single_trial_correlation
from mousev1.model.response_model import FitRecord, ResponseModel
from training.pretraining.data import prepare_scan
from training.pretraining.frozen_core import train_readouts
from training.pretraining.run_folder import RESULT_FILE
from training.provenance import machine, now, versions
from training.simulation.study import read_truth
from training.transfer_benchmark.conditions_grid import Run
from training.transfer_benchmark.config import CONVEX, DIFF_CORE, DIRECT, READOUTS
from training.transfer_benchmark.cores import (
    digest,
    frozen_recipe,
    is_trained,
    load_core,
    needed_training,
    read_scan,
    threads_of_torch,
    train,
    training_folder,
)
from training.transfer_benchmark.plan import Plan
from training.transfer_benchmark.protocol import draw_images, draw_neurons
from training.transfer_benchmark.results_table import COLUMNS, SCORE_COLUMNS, Row, write_rows

if TYPE_CHECKING:
    from mousev1.core.network import CoreConfig


@dataclass(frozen=True)
class Origin:
    """What a row says of how it came about: the command that gives the benchmark again, and the code's commit."""

    command: str
    commit: str | None


@dataclass(frozen=True)
class Drawn:
    """The scans of a target with the neurons of a partition, and the truth behind them where it is known."""

    scans: list[Scan]
    truths: list[Truth | None]


@dataclass(frozen=True)
class FittedModels:
    """Models of a run, one per scan; the seconds they took, and epochs where there are any."""

    models: list[ResponseModel]
    seconds: float
    epochs: int | None


def row_file(plan: Plan, key: str) -> Path:
    """Where the row of a run goes."""
    return plan.out / "rows" / f"{key}.parquet"


def compute(plan: Plan, run: Run, identity: dict[str, Any], origin: Origin) -> None:
    """Compute a run and write its row."""
    with threads_of_torch(1):
        drawn = draw_target(plan, run)
        fitted = fit(plan, run, drawn.scans)
        row = _row(plan, run, identity, origin, drawn, fitted)
        write_rows([row], row_file(plan, row["key"]))


def draw_target(plan: Plan, run: Run) -> Drawn:
    """What a run is about, with all images."""
    target = plan.config.target(run.target)
    scans = [read_scan(file) for file in plan.files.scans[run.target]]
    truths: list[Truth | None] = [read_truth(file) for file in plan.files.truth[run.target]]
    index = draw_neurons(scans, run.partition, units=run.units, core_units=target.core_units).transfer
    return Drawn(
        [scan.select_units(rows) for scan, rows in zip(scans, index, strict=True)],
        [
            None if truth is None else truth.select_units(rows)
            for truth, rows in zip(truths or [None] * len(scans), index, strict=True)
        ],
    )


def fit(plan: Plan, run: Run, scans: list[Scan]) -> FittedModels:
    """The models of a run on scans with the neurons of its partition and all images."""
    if run.condition != DIFF_CORE:
        image_seed = plan.config.target(run.target).image_seed
        scans = draw_images(scans, run.images, run.partition, image_seed=image_seed)
    training = needed_training(plan, run)
    spent = 0.0
    if run.condition == DIRECT:
        assert training is not None
        trained = train(plan, training)
        spent = trained.seconds
        if run.method != CONVEX:
            return FittedModels(trained.models, spent, trained.details["epochs"])
    elif training is not None and not is_trained(plan, training):
        train(plan, training)
    if training is not None:
        folder = training_folder(plan, training) / "run"
        # As whoever gets the core would have it: with its prior on readouts.
        core: FrozenCore = mousev1.load_core(folder / "core")
        if run.condition == DIFF_CORE:
            spent = 3600 * json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))["hours"]
    else:
        core = load_core(plan, plan.config.entry(run.core), run.seed)
    started = time.perf_counter()
    if run.method == CONVEX:
        models, epochs = fit_convex(core, scans, run), None
    else:
        models, epochs = fit_recipe(plan, core, scans, run)
    return FittedModels(models, spent + time.perf_counter() - started, epochs)


def fit_convex(core: FrozenCore, scans: list[Scan], run: Run) -> list[ResponseModel]:
    """Gaussian readouts by the convex solver, which the validation tier does not influence."""
    if not READOUTS[run.readout]["cortex"]:
        scans = [replace(scan, positions=None) for scan in scans]
    options: dict[str, Any] = {"core": core, "constant_units": "mean", "seed": run.seed, "progress": False}
    if run.sharing:
        return mousev1.fit_matched_scans(scans, **options)
    return [fit_scan(scan, **options) for scan in scans]


def fit_recipe(plan: Plan, core: FrozenCore, scans: list[Scan], run: Run) -> tuple[list[ResponseModel], int]:
    """Readouts of any kind by the recipe of pretraining; returns models and epochs."""
    prepared = [prepare_scan(scan, cast("CoreConfig", core.config)) for scan in scans]
    fitted = train_readouts(core, prepared, frozen_recipe(plan, run))
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


def score(drawn: Drawn, models: list[ResponseModel]) -> dict[str, float | int | None]:
    """The columns of scores, over the neurons of all scans together; None where a score is undefined."""
    pairs = list(zip(drawn.scans, models, strict=True))
    scores = pooled_scores(
        [trial_rates(model, scan, "test") for scan, model in pairs], drawn.scans, drawn.truths
    )
    validation = [
        single_trial_correlation(trial_rates(model, scan, "validation"), scan.trials("validation").responses)
        for scan, model in pairs
        if "validation" in scan.tiers
    ]
    scores["validation_correlation"] = mean_of_defined(np.concatenate(validation)) if validation else math.nan
    return {
        column: scores[name] if math.isfinite(scores[name]) else None
        for column, name in SCORE_COLUMNS.items()
    }


def trial_rates(model: ResponseModel, scan: Scan, tier: str) -> npt.NDArray[np.float32]:
    """(T, U) predicted rates for the trials of a tier; each image is predicted once."""
    trials = scan.trials(tier)
    _, first, image = np.unique(trials.image_ids, return_index=True, return_inverse=True)
    rates: npt.NDArray[np.float32] = model.predict(trials.images[first])[image]
    return rates


def _row(
    plan: Plan, run: Run, identity: dict[str, Any], origin: Origin, drawn: Drawn, fitted: FittedModels
) -> Row:
    key, sha256 = digest(identity), identity["target"]["scans"]
    entry = None if run.condition == DIRECT else plan.config.entry(run.core)
    values = {
        **asdict(run),
        **score(drawn, fitted.models),
        **{name: json.dumps(found) for name, found in (("machine", machine()), ("versions", versions()))},
        "key": key,
        "benchmark": plan.config.name,
        "core_set": "" if entry is None else entry.core_set or entry.pretrained_on,
        "scope": plan.config.target(run.target).scope,
        "seconds": round(fitted.seconds, 3),
        "epochs": fitted.epochs,
        "simulated": plan.config.simulated,
        "scan": "+".join(scan.name for scan in drawn.scans),
        "data_sha256": "+".join(sha256),
        "core_hash": fitted.models[0].core.content_hash(),
        "config": json.dumps(identity, sort_keys=True),
        "command": f"{origin.command} --only key={key}",
        "commit": origin.commit,
        "date": now(),
    }
    return {name: values[name] for name in COLUMNS}
