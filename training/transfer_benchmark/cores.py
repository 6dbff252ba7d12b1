"""Where the core of a run comes from: given by a source, random, or trained on some scans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mousev1.core.network import Core
from mousev1.core.representation import FrozenCore
from training.networks.representations import load_representation
from training.pretraining.config import PretrainConfig
from training.transfer_benchmark.conditions_grid import Run
from training.transfer_benchmark.config import DIFF_CORE, DIRECT, CoreEntry
from training.transfer_benchmark.plan import Plan


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
    """Cores and readouts trained end to end on some scans, which several runs may need.

    Attributes:
        images: number of training images, drawn from all scans together; 0 for all.
        partition: of images and neurons; 0 where nothing is drawn.
        neurons: None for all.
        image_seed: of a draw of images that all partitions share, or None.
    """

    files: tuple[Path, ...]
    recipe: PretrainConfig
    images: int = 0
    partition: int = 0
    neurons: NeuronDraw | None = None
    image_seed: int | None = None


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
