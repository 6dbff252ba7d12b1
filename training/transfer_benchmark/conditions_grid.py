"""From the grids of a benchmark's config to independent runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

from mousev1.errors import listing
from training.transfer_benchmark.config import DIFF_CORE, DIRECT, Grid
from training.transfer_benchmark.plan import Plan


@dataclass(frozen=True)
class Run:
    """One row to compute; the attributes are the columns of results of the same name."""

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


def expand(plan: Plan) -> list[Run]:
    """All runs, each once, in the order of the grids.

    Raises:
        ValueError: more images or neurons than there are, or sharing without matched scans.
    """
    found: dict[Run, None] = {}
    for grid in plan.config.grids:
        _check(plan, grid)
        found |= dict.fromkeys(_runs_of(plan, grid))
    return list(found)


def _runs_of(plan: Plan, grid: Grid) -> Iterator[Run]:
    seeds = plan.config.seeds if grid.seeds is None else grid.seeds
    partitions = plan.config.partitions if grid.partitions is None else grid.partitions
    total = _neurons(plan, grid.target)
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
            yield Run(
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


def _neurons(plan: Plan, target: str) -> int:
    """Number of neurons that readouts can be fitted to."""
    return plan.index.common_neurons(plan.files.scans[target]) - (plan.config.target(target).core_units or 0)


def _check(plan: Plan, grid: Grid) -> None:
    target, files = plan.config.target(grid.target), plan.files.scans[grid.target]
    truth, total = plan.files.truth[grid.target], _neurons(plan, grid.target)
    if truth and len(truth) != len(files):
        raise ValueError(
            f"targets.truth: expected one file per scan of '{target.name}' ({len(files)}), got {len(truth)}"
        )
    if any(grid.sharing) and len(files) < 2:
        raise ValueError(
            f"grids.sharing: expected several scans of the same neurons, '{target.name}' has one"
        )
    if total < 1 or max(grid.units) > total:
        raise ValueError(f"grids.units: expected at most {total} neurons of '{target.name}'")
    trained = {label: plan.files.core_scans[label] for label in grid.cores if label in plan.files.core_scans}
    for label, scans in trained.items():
        if target.core_units is None and {*files} & {*scans}:
            raise ValueError(
                f"targets.core_units: scans of '{target.name}' are in core set "
                f"'{plan.config.entry(label).core_set}'; say how many of their neurons the core may see"
            )
    for scans in trained.values() if grid.condition == DIFF_CORE else [files]:
        most = plan.index.training_images(scans)
        if max(grid.images) > most:
            raise ValueError(
                f"grids.images: expected at most {most:,} of {listing(path.name for path in scans)}, "
                f"got {max(grid.images):,}"
            )


def select(runs: Sequence[Run], key: Callable[[Run], str], only: Sequence[str]) -> list[Run]:
    """The runs that agree with all of some words like ``core=11-S``.

    Several values of one name are alternatives; ``key=`` takes the beginning of a key.

    Raises:
        ValueError: a word that is not of this form, an unknown name, or nothing that agrees.
    """
    names = [entry.name for entry in fields(Run)]
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
        run
        for run in runs
        if all(str(getattr(run, name)) in values for name, values in wanted.items())
        and (keys is None or key(run).startswith(tuple(keys)))
    ]
    if not chosen:
        raise ValueError(f"--only: no run agrees with {listing(only)}")
    return chosen
