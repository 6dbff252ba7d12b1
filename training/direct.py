"""A core and its readout trained end to end on one scan alone: what a pretrained core has to beat."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mousev1.allocator import GIBI, keep_freed_memory
from mousev1.core import Core
from mousev1.model import FitRecord, ResponseModel
from mousev1.scan import Scan
from training.config import PretrainConfig
from training.data import load_scan
from training.distributed import start_processes
from training.pretrain import build_model, train
from training.run_folder import BEST_FILE, RESULT_FILE, RunFolder


@dataclass(frozen=True)
class Direct:
    """What came of it.

    Attributes:
        model: the core, frozen, with the readout that was trained with it.
        seconds: of training.
        details: epochs and validation correlation.
    """

    model: ResponseModel
    seconds: float
    details: dict[str, Any]


def train_direct(scan: Scan, recipe: PretrainConfig, folder: Path) -> Direct:
    """Train with the recipe of pretraining, or go on where that stopped, or read what it gave.

    Args:
        scan: with tiers train and validation; training stops on the latter.
        recipe: its ``scans`` are not looked at.
        folder: of this training and no other; the scan is written to it.
    """
    file = folder / "scan.h5"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        scan.write(file)
    keep_freed_memory(largest=GIBI, kept=2 * GIBI - 1)
    scans = [load_scan(file, recipe.core)]
    run = RunFolder(folder / "run")
    run.begin(recipe, scans, [file])
    if not run.finished:
        train(recipe, scans, run, start_processes(recipe.compute.device))

    trained = build_model(recipe, scans)
    trained.load_state_dict(torch.load(run.path / BEST_FILE, map_location="cpu", weights_only=True))
    trained.requires_grad_(False)
    core = Core(recipe.core, name=recipe.name)
    core.load_state_dict(trained.core.state_dict())
    result = json.loads((run.path / RESULT_FILE).read_text(encoding="utf-8"))
    details = {
        "epochs": result["epoch"],
        "best_epoch": result["best_epoch"],
        "validation_correlation": result["best"],
    }
    model = ResponseModel(
        core.freeze(),
        trained.readout(0),
        unit_ids=scan.unit_ids,
        response_scale=scans[0].response_scale,
        record=FitRecord(method="training.pretrain", n_images=len(scans[0].train)),
    )
    return Direct(model, 3600 * result["hours"], details)
