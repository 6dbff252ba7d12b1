"""One training that runs of a benchmark need, from drawn neurons and images to a folder on disk."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
from filelock import FileLock

import mousev1
from mousev1.data.scan import Scan
from training.pretraining.end_to_end import Direct, train_end_to_end, write_scans
from training.pretraining.run_folder import RESULT_FILE
from training.transfer_benchmark.cores import NeuronDraw, Training
from training.transfer_benchmark.identity import training_folder
from training.transfer_benchmark.plan import Plan
from training.transfer_benchmark.protocol import draw_images, draw_neurons


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
    with FileLock(folder.with_suffix(".lock")), _log(folder / "log.txt"), threads:
        files = _training_files(training, folder / "scans")
        return train_end_to_end(files, training.recipe, folder, figures=False)


def train_only(plan: Plan, training: Training) -> None:
    """Train, as work of its own: what comes of it stays on disk."""
    train(plan, training)


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


@contextlib.contextmanager
def _log(path: Path) -> Iterator[None]:
    """What is printed goes to a file."""
    with path.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        yield
