"""Where the core of a run comes from: given by a source, random, or trained on some scans, with a folder for each."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock

import mousev1
from mousev1.core.network import Core
from mousev1.core.representation import FrozenCore
from mousev1.data.scan import Scan
from training.networks.representations import load_representation
from training.pretraining.config import PretrainConfig
from training.pretraining.end_to_end import Direct, train_end_to_end, write_scans
from training.pretraining.run_folder import RESULT_FILE
from training.transfer_benchmark.conditions_grid import Run
from training.transfer_benchmark.config import DIFF_CORE, DIRECT, CoreEntry
from training.transfer_benchmark.plan import Plan
from training.transfer_benchmark.protocol import draw_images, draw_neurons


@dataclass(frozen=True)
class NeuronDraw:
    """Which neurons of some scans of the same neurons take part in a training.

    ``units`` are fitted with readouts and ``core_units``, if any, kept for cores; ``of_core`` says which take part.
    """

    files: tuple[Path, ...]
    units: int
    core_units: int | None
    of_core: bool


@dataclass(frozen=True)
class Training:
    """Cores and readouts trained end to end on some scans, which several runs may need."""

    files: tuple[Path, ...]
    recipe: PretrainConfig
    images: int = 0  # number of training images, drawn from all scans together; 0 for all
    partition: int = 0  # of images and neurons; 0 where nothing is drawn
    neurons: NeuronDraw | None = None  # None for all
    image_seed: int | None = None  # of a draw of images that all partitions share, or None


def needed_training(plan: Plan, run: Run) -> Training | None:
    """What has to be trained before a run can be computed; None if nothing has."""
    config, target = plan.config, plan.config.target(run.target)
    files = tuple(plan.files.scans[run.target])
    if run.condition == DIRECT:
        recipe = config.recipe(
            DIRECT, seed=run.seed, readout=run.readout, share_features=run.sharing, images=run.images
        )
        neurons = NeuronDraw(files, run.units, target.core_units, of_core=False)
        return Training(files, recipe, run.images, run.partition, neurons, target.image_seed)
    entry = config.entry(run.core)
    if entry.core_set is None:
        return None
    scans = tuple(plan.files.core_scans[run.core])
    recipe = config.recipe("pretraining", seed=run.seed, share_features=entry.share_features)
    images = run.images if run.condition == DIFF_CORE else 0
    if images == plan.index.training_images(scans):
        images = 0
    kept = None
    if {*scans} & {*files}:
        kept = NeuronDraw(files, run.units, target.core_units, of_core=True)
    return Training(scans, recipe, images, run.partition if images or kept else 0, kept)


def frozen_recipe(plan: Plan, run: Run) -> PretrainConfig:
    """How a run's readout is trained on its frozen core."""
    images = run.images
    if run.condition == DIFF_CORE:
        images = plan.index.training_images(plan.files.scans[run.target])
    return plan.config.recipe(
        "frozen", seed=run.seed, readout=run.readout, share_features=run.sharing, images=images
    )


def load_core(plan: Plan, entry: CoreEntry, seed: int) -> FrozenCore:
    """A core that is not trained here, frozen."""
    if entry.random:
        return Core.random(plan.config.core, seed=seed)
    assert entry.source is not None
    beside = plan.config_folder / entry.source
    return load_representation(str(beside) if beside.exists() else entry.source, seed=seed)


def training_identity(plan: Plan, training: Training) -> dict[str, Any]:
    """Everything that decides what comes of a training."""
    recipe = training.recipe.to_dict()
    del recipe["scans"], recipe["name"]
    draw = training.neurons
    return {
        "scans": contents(plan, training.files),
        "recipe": recipe,
        "images": training.images,
        "partition": training.partition,
        "neurons": None if draw is None else {**asdict(draw), "files": contents(plan, draw.files)},
        **given("image_seed", training.image_seed),
    }


def training_folder(plan: Plan, training: Training) -> Path:
    """Where a training lives."""
    return plan.out / "cores" / f"{training.recipe.name}-{digest(training_identity(plan, training))}"


def digest(values: dict[str, Any]) -> str:
    """A short name for plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def given(name: str, value: int | None) -> dict[str, int]:
    """An entry only where a value is given, so that keys are those of before there was the setting."""
    return {} if value is None else {name: value}


def contents(plan: Plan, files: Sequence[Path]) -> list[str]:
    """SHA-256 of each file."""
    return [plan.index.sha256(file) for file in files]


@functools.lru_cache(maxsize=4)
def read_scan(path: Path) -> Scan:
    """A scan of the benchmark, kept for the next run of this process."""
    return mousev1.read_scan(path)


@contextlib.contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    """So many for a while. Results depend on it in the last digits, and processes must not compete."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_trained(plan: Plan, training: Training) -> bool:
    """Whether a training has come to its end."""
    return (training_folder(plan, training) / "run" / RESULT_FILE).is_file()


def train(plan: Plan, training: Training) -> Direct:
    """Train, or go on where that stopped, or read what it gave. One process at a time; others wait."""
    folder = training_folder(plan, training)
    folder.mkdir(parents=True, exist_ok=True)
    threads = threads_of_torch(training.recipe.compute.threads or 1)
    log = (folder / "log.txt").open("a", encoding="utf-8")
    with FileLock(folder.with_suffix(".lock")), log, contextlib.redirect_stdout(log), threads:
        files = _training_files(training, folder / "scans")
        return train_end_to_end(files, training.recipe, folder, figures=False)


def _training_files(training: Training, folder: Path) -> Sequence[Path]:
    if not training.images and training.neurons is None:
        return training.files
    scans = [read_scan(file) for file in training.files]
    if training.neurons is not None:
        scans = _select_neurons(scans, training)
    if training.images:
        scans = draw_images(scans, training.images, training.partition, image_seed=training.image_seed)
    return write_scans(scans, folder)


def _select_neurons(scans: list[Scan], training: Training) -> list[Scan]:
    draw = cast(NeuronDraw, training.neurons)
    neurons = draw_neurons(
        [read_scan(file) for file in draw.files],
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
