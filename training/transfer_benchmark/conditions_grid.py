"""From a benchmark's config to independent cells, the trainings they need, and a key for each.

A key is a digest of everything that decides the result: what is asked for, the recipes, and the content of
scans and cores. Equal keys mean the same computation, so that a result once there need not be computed again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mousev1.core.network import Core
from mousev1.core.representation import FrozenCore
from mousev1.errors import listing
from training.networks.representations import REPRESENTATIONS, load_representation
from training.pretraining.config import PretrainConfig, find_scans
from training.transfer_benchmark.config import (
    DIFF_CORE,
    DIRECT,
    SGD,
    BenchmarkConfig,
    CoreEntry,
    Grid,
    Target,
)
from training.transfer_benchmark.scan_index import Survey


@dataclass(frozen=True)
class Cell:
    """One number to compute; the attributes are the columns of results of the same name."""

    condition: str
    target: str
    core: str
    readout: str
    sharing: bool
    method: str
    images: int
    units: int
    seed: int
    partition: int

    def __str__(self) -> str:
        """For messages."""
        shared = ", shared" * self.sharing
        return (
            f"{self.condition}, {self.core}, {self.readout}{shared} ({self.method}), {self.images:,} images, "
            f"{self.units:,} neurons of {self.target}, seed {self.seed}, partition {self.partition}"
        )


@dataclass(frozen=True)
class NeuronDraw:
    """Which neurons of some scans take part in a training.

    Attributes:
        files: scans that show the same neurons.
        units: number of neurons that readouts are fitted to.
        core_units: number of neurons kept for cores, or None.
        of_core: take part those kept for cores, or those for readouts.
    """

    files: tuple[Path, ...]
    units: int
    core_units: int | None
    of_core: bool


@dataclass(frozen=True)
class Training:
    """Cores and readouts trained end to end on some scans, which several cells may need.

    Attributes:
        files: the scans.
        recipe: with the seed.
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


@dataclass(frozen=True)
class Plan:
    """A benchmark whose files were found and looked at.

    Attributes:
        config: of the benchmark.
        config_folder: where the config lies; paths may be relative to it.
        out: folder of results.
        survey: what the scans contain.
        cores: label to content hash of given cores, looked up once; None for one that cannot be had.
    """

    config: BenchmarkConfig
    config_folder: Path
    out: Path
    survey: Survey
    cores: dict[str, str | None] = field(default_factory=dict)

    # ------------------------------------------------------------ files

    def target_files(self, target: Target) -> list[Path]:
        """Scans of a target."""
        return find_scans(target.scans, self.config_folder)

    def truth_files(self, target: Target) -> list[Path]:
        """Truth behind the scans of a target, in their order; empty for real recordings."""
        return find_scans(target.truth, self.config_folder) if target.truth else []

    def core_files(self, entry: CoreEntry) -> list[Path]:
        """Scans that a core is pretrained on."""
        assert entry.core_set is not None
        return find_scans(self.config.core_sets[entry.core_set], self.config_folder)

    # ------------------------------------------------------------ cells

    def cells(self) -> list[Cell]:
        """All cells, each once, in the order of the grids.

        Raises:
            ValueError: more images or neurons than there are, or sharing without matched scans.
        """
        found: dict[Cell, None] = {}
        for grid in self.config.grids:
            self._check(grid)
            found |= dict.fromkeys(self._expand(grid))
        return list(found)

    def _expand(self, grid: Grid) -> Iterator[Cell]:
        target = self.config.target(grid.target)
        seeds = self.config.seeds if grid.seeds is None else grid.seeds
        partitions = self.config.partitions if grid.partitions is None else grid.partitions
        total = self._units(target)
        for partition, seed, units, images, readout, sharing, core in itertools.product(
            partitions,
            seeds,
            grid.units,
            grid.images,
            grid.readouts,
            grid.sharing,
            grid.cores or (DIRECT,),
        ):
            for method in grid.methods_of(readout):
                yield Cell(
                    condition=grid.condition,
                    target=grid.target,
                    core=core,
                    readout=readout,
                    sharing=sharing,
                    method=method,
                    images=images,
                    units=units or total,
                    seed=seed,
                    partition=partition,
                )

    def _units(self, target: Target) -> int:
        """Neurons that readouts can be fitted to."""
        return self.survey.common_units(self.target_files(target)) - (target.core_units or 0)

    def _check(self, grid: Grid) -> None:
        target = self.config.target(grid.target)
        files, total = self.target_files(target), self._units(target)
        if target.truth and len(self.truth_files(target)) != len(files):
            raise ValueError(
                f"targets.truth: expected one file per scan of '{target.name}' ({len(files)}), got "
                f"{len(self.truth_files(target))}"
            )
        if any(grid.sharing) and len(files) < 2:
            raise ValueError(
                f"grids.sharing: expected several scans of the same neurons, '{target.name}' has one"
            )
        if total < 1 or max(grid.units) > total:
            raise ValueError(f"grids.units: expected at most {total} neurons of '{target.name}'")
        sets = [files] if grid.condition != DIFF_CORE else []
        for label in grid.cores:
            entry = self.config.entry(label)
            if entry.core_set is None:
                continue
            if grid.condition == DIFF_CORE:
                sets.append(self.core_files(entry))
            if target.core_units is None and {*files} & {*self.core_files(entry)}:
                raise ValueError(
                    f"targets.core_units: scans of '{target.name}' are in core set '{entry.core_set}'; say how "
                    "many of their neurons the core may see"
                )
        for scans in sets:
            most = sum(self.survey.training_images(file) for file in scans)
            if max(grid.images) > most:
                raise ValueError(
                    f"grids.images: expected at most {most:,} of {listing(path.name for path in scans)}, "
                    f"got {max(grid.images):,}"
                )

    # ------------------------------------------------------------ trainings

    def training(self, cell: Cell) -> Training | None:
        """What has to be trained before a cell can be computed; None if nothing has."""
        config, target = self.config, self.config.target(cell.target)
        files = tuple(self.target_files(target))
        if cell.condition == DIRECT:
            recipe = config.recipe(
                DIRECT,
                seed=cell.seed,
                readout=cell.readout,
                share_features=cell.sharing,
                images=cell.images,
            )
            neurons = NeuronDraw(files, cell.units, target.core_units, of_core=False)
            return Training(files, recipe, cell.images, cell.partition, neurons, target.image_seed)
        entry = config.entry(cell.core)
        if entry.core_set is None:
            return None
        scans = tuple(self.core_files(entry))
        recipe = config.recipe("pretraining", seed=cell.seed, share_features=entry.share_features)
        images = cell.images if cell.condition == DIFF_CORE else 0
        if images == sum(self.survey.training_images(file) for file in scans):
            images = 0
        kept = None
        if {*scans} & {*files}:
            kept = NeuronDraw(files, cell.units, target.core_units, of_core=True)
        return Training(scans, recipe, images, cell.partition if images or kept else 0, kept)

    def training_folder(self, training: Training) -> Path:
        """Where a training lives."""
        return self.out / "cores" / f"{training.recipe.name}-{digest(self.training_identity(training))}"

    # ------------------------------------------------------------ identities

    def training_identity(self, training: Training) -> dict[str, Any]:
        """Everything that decides what comes of a training."""
        recipe = training.recipe.to_dict()
        del recipe["scans"], recipe["name"]
        draw = training.neurons
        fixed = {} if training.image_seed is None else {"image_seed": training.image_seed}
        return {
            **fixed,
            "scans": self._sha256(training.files),
            "recipe": recipe,
            "images": training.images,
            "partition": training.partition,
            "neurons": None if draw is None else {**asdict(draw), "files": self._sha256(draw.files)},
        }

    def identity(self, cell: Cell) -> dict[str, Any]:
        """Everything that decides the row of a cell."""
        config, target = self.config, self.config.target(cell.target)
        values: dict[str, Any] = {
            "benchmark": config.name,
            "cell": asdict(cell),
            "target": {
                "scope": target.scope,
                "scans": self._sha256(self.target_files(target)),
                "truth": self._sha256(self.truth_files(target)),
                "core_units": target.core_units,
                **({} if target.image_seed is None else {"image_seed": target.image_seed}),
            },
        }
        training = self.training(cell)
        if training is not None:
            values["training"] = self.training_identity(training)
        else:
            values["core"] = self._core_identity(config.entry(cell.core), cell.seed)
        if cell.method == SGD:
            recipe = self.frozen_recipe(cell).to_dict()
            values["recipe"] = {key: recipe[key] for key in ("seed", "readout", "optimisation", "compute")}
        return values

    def frozen_recipe(self, cell: Cell) -> PretrainConfig:
        """How a cell's readout is trained on its frozen core."""
        images = cell.images
        if cell.condition == DIFF_CORE:
            files = self.target_files(self.config.target(cell.target))
            images = sum(self.survey.training_images(file) for file in files)
        return self.config.recipe(
            "frozen",
            seed=cell.seed,
            readout=cell.readout,
            share_features=cell.sharing,
            images=images,
        )

    def key(self, cell: Cell) -> str:
        """Name of a cell's file, equal for cells that mean the same computation."""
        return digest(self.identity(cell))

    def _core_identity(self, entry: CoreEntry, seed: int) -> dict[str, Any]:
        if entry.random:
            return {"random": self.config.core.to_dict(), "seed": seed}
        if entry.source in REPRESENTATIONS:
            return {"source": entry.source, "seed": seed}
        return {"source": entry.source, "content_hash": self._content_hash(entry)}

    def _content_hash(self, entry: CoreEntry) -> str | None:
        if entry.label not in self.cores:
            try:
                self.cores[entry.label] = load_core(self, entry, 0).content_hash()
            except (OSError, ValueError, ImportError):
                # Its cells say why when they are computed.
                self.cores[entry.label] = None
        return self.cores[entry.label]

    def _sha256(self, files: Sequence[Path]) -> list[str]:
        return [self.survey.sha256(file) for file in files]


def load_core(plan: Plan, entry: CoreEntry, seed: int) -> FrozenCore:
    """A core that is not trained here, frozen."""
    if entry.random:
        return Core.random(plan.config.core, seed=seed)
    assert entry.source is not None
    beside = plan.config_folder / entry.source
    return load_representation(str(beside) if beside.exists() else entry.source, seed=seed)


def digest(values: dict[str, Any]) -> str:
    """A short name for plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def select(cells: Sequence[Cell], plan: Plan, only: Sequence[str]) -> list[Cell]:
    """The cells that agree with all of some words like ``core=11-S``.

    Several values of one name are alternatives; ``key=`` takes the beginning of a key.

    Raises:
        ValueError: a word that is not of this form, an unknown name, or nothing that agrees.
    """
    names = [entry.name for entry in fields(Cell)]
    wanted: dict[str, set[str]] = {}
    for word in only:
        name, equals, value = word.partition("=")
        if not equals or name not in (*names, "key"):
            raise ValueError(
                f"--only: expected NAME=VALUE with a name of {listing([*names, 'key'])}, got '{word}'"
            )
        wanted.setdefault(name, set()).add(value)
    keys = wanted.pop("key", None)
    chosen = [
        cell
        for cell in cells
        if all(str(getattr(cell, name)) in values for name, values in wanted.items())
        and (keys is None or plan.key(cell).startswith(tuple(keys)))
    ]
    if not chosen:
        raise ValueError(f"--only: no cell agrees with {listing(only)}")
    return chosen
