"""A core and the readouts of some scans trained end to end, as one step of a comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mousev1
from mousev1.core.network import Core
from mousev1.data.scan import Scan
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.numerics.process_settings import GIBI, tune_process
from training.pretraining.config import PretrainConfig
from training.pretraining.data import prepare_scan
from training.pretraining.distributed import start_processes
from training.pretraining.loop import train
from training.pretraining.model import build_model
from training.pretraining.run_folder import RESULT_FILE, RunFolder


@dataclass(frozen=True)
class Direct:
    """What came of it: per scan the frozen core with the readout trained with it; seconds; epochs and correlation."""

    models: list[ResponseModel]
    seconds: float
    details: dict[str, Any]


def train_end_to_end(
    files: Sequence[Path], recipe: PretrainConfig, folder: Path, *, figures: bool = True
) -> Direct:
    """Train with the recipe of pretraining, or go on where that stopped, or read what it gave.

    Scans need tiers train and validation, on which training stops; the folder is of this training and no other.
    """
    tune_process(largest=GIBI, kept=2 * GIBI - 1)
    recorded = [mousev1.read_scan(file) for file in files]
    scans = [
        prepare_scan(scan, recipe.core, origin=str(file)) for scan, file in zip(recorded, files, strict=True)
    ]
    run = RunFolder(folder / "run")
    run.begin(recipe, scans, files)
    if not run.finished:
        train(recipe, scans, run, start_processes(recipe.compute.device), figures=figures)

    trained = build_model(recipe, scans)
    trained.load_state_dict(run.load_best())
    trained.requires_grad_(False)
    core = Core(recipe.core, name=recipe.name)
    core.load_state_dict(trained.core.state_dict())
    core.freeze()
    result = json.loads((run.path / RESULT_FILE).read_text(encoding="utf-8"))
    models = [
        ResponseModel(
            core,
            trained.readout(number),
            unit_ids=recorded[number].unit_ids,
            response_scale=scan.response_scale,
            record=FitRecord(method="training.pretraining", n_images=len(scan.train)),
        )
        for number, scan in enumerate(scans)
    ]
    details = {
        "epochs": result["epoch"],
        "best_epoch": result["best_epoch"],
        "validation_correlation": result["best"],
    }
    return Direct(models, 3600 * result["hours"], details)


def write_scans(scans: Sequence[Scan], folder: Path) -> list[Path]:
    """Write scans for a training, unless they are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / ("scan.h5" if turn == 1 else f"scan-{turn}.h5") for turn in range(1, len(scans) + 1)]
    for scan, file in zip(scans, files, strict=True):
        if not file.exists():
            scan.write(file)
    return files
