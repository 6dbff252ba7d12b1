"""The task that ways to fit are compared on: one scan, core, neurons and training images; and how a fit is scored."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import mousev1
from mousev1 import metrics
from mousev1.core.network import Core
from mousev1.core.representation import as_core
from mousev1.fit.settings import SGDSettings
from mousev1.metrics.intervals import mean_of_defined
from mousev1.metrics.population_scores import Truth
from mousev1.model.response_model import ResponseModel
from training.measurements.peer import PeerFit, fit_peer
from training.simulation.study import read_truth

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Task:
    """What every method is given, and the trials that it is judged on.

    Attributes:
        core: the frozen core.
        scan: the chosen neurons of the scan.
        train_rows: which training trials to learn from.
        truth: true rates of the test images; None for real recordings.
        seed: of everything random.
        core_mode: ``"eval"`` freezes the core's batch norm, ``"train"`` lets it follow the batch.
        max_epochs: limit for the methods that train in epochs.
    """

    core: Core
    scan: mousev1.Scan
    train_rows: Array
    truth: Truth | None
    seed: int
    core_mode: Literal["eval", "train"] = "eval"
    max_epochs: int = 200

    @property
    def training(self) -> tuple[Array, Array, Array]:
        """Images, responses and image ids of the training trials to learn from."""
        train, rows = self.scan.trials("train"), self.train_rows
        return train.images[rows], train.responses[rows], train.image_ids[rows]

    @property
    def validation(self) -> tuple[Array, Array]:
        """Images and responses of the validation trials."""
        held = self.scan.trials("validation")
        return held.images, held.responses


def make_task(
    options: argparse.Namespace,
    units: int | None,
    images: int | None,
    **training: Any,
) -> Task:
    """Read scan and core, and choose neurons and training images by the seed.

    Fewer neurons (or images) of one seed are always among the more of the same seed; None is all. ``options`` has
    ``scan``, ``core``, ``seed`` and ``truth``; ``training`` is ``core_mode`` and ``max_epochs`` of ``Task``.
    """
    scan = mousev1.read_scan(options.scan)
    neurons = choose(scan.n_units, units, "units", options.seed)
    rows = choose(len(scan.trials("train")), images, "images", options.seed)
    truth = None if options.truth is None else read_truth(options.truth).select_units(neurons)
    core = read_core(options.core)
    return Task(core, scan.select_units(neurons), rows, truth, options.seed, **training)


def read_core(path: Path) -> Core:
    """The core of a published checkpoint (file), or one in mousev1's own format (folder)."""
    if path.is_dir():
        return mousev1.load_core(path)
    found = mousev1.import_checkpoint(path)
    return found if isinstance(found, Core) else as_core(found.core, str(path))


def choose(available: int, wanted: int | None, what: str, seed: int) -> Array:
    """So many of ``available`` indices, drawn by the seed, ascending; ``SystemExit`` if there are fewer."""
    if wanted is None:
        return np.arange(available)
    if not 1 <= wanted <= available:
        raise SystemExit(f"--{what}: expected 1 to {available}, as the scan has, got {wanted}")
    return np.sort(np.random.default_rng(seed).permutation(available)[:wanted])


def fit_ours(task: Task, **options: Any) -> ResponseModel:
    """A fit of mousev1, from arrays to a model; the convex one unless ``options`` say otherwise."""
    images, responses, image_ids = task.training
    return mousev1.fit_readout(
        images,
        responses,
        task.scan.positions,
        core=task.core,
        image_ids=image_ids,
        unit_ids=task.scan.unit_ids,
        constant_units="mean",
        seed=task.seed,
        **{"progress": sys.stderr.isatty(), **options},
    )


def fit_theirs(task: Task) -> PeerFit:
    """The published recipe with the authors' library."""
    images, responses, _ = task.training
    return fit_peer(
        task.core,
        (images, responses),
        task.validation,
        task.scan.positions,
        settings=recipe(task),
        seed=task.seed,
    )


def recipe(task: Task) -> SGDSettings:
    """The published recipe for a task. The authors' loader scales the loss with all trials of the file."""
    batchnorm = "batch" if task.core_mode == "train" else "frozen"
    return SGDSettings(batchnorm=batchnorm, max_epochs=task.max_epochs, loss_trials=len(task.scan.responses))


def score(task: Task, predict: Callable[[Array], Array], tier: str) -> dict[str, float | int | None]:
    """Mean scores over the neurons where they are defined; None where there is no such neuron."""
    trials = task.scan.trials(tier)
    ids, first, which = np.unique(trials.image_ids, return_index=True, return_inverse=True)
    rates = predict(trials.images[first])
    table = metrics.score_table(rates[which], trials.responses, trials.image_ids, task.scan.unit_ids)
    found = {
        "single_trial_correlation": mean_of_defined(table.single_trial_correlation),
        "correlation_to_average": mean_of_defined(table.correlation_to_average),
        "fraction_oracle": table.fraction_oracle,
        "undefined_units": int(np.isnan(table.single_trial_correlation).sum()),
    }
    if task.truth is not None and tier == "test":
        found["true_rate_correlation"] = task.truth.correlation(rates, ids)
    return {name: value if math.isfinite(value) else None for name, value in found.items()}
