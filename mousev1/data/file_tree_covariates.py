"""What a published file tree holds about each trial: behaviour, pupil and the order of trials.

::

    data/behavior/<trial>.npy        (3,) pupil radius, its derivative, running; of another length: numbered
    data/pupil_center/<trial>.npy    (2,) horizontal and vertical position of the pupil
    meta/trials/trial_idx.npy        (T,) position of each trial in the session

The layout of the Sensorium competition (Willeke et al. 2022). All of these are optional, and a trial
without its file has NaN. What mousev1 writes has every covariate as it is under ``meta/mousev1/covariates``
too, since these files cannot name others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mousev1.data import npy
from mousev1.data.archive import Tree
from mousev1.data.validation import Array

EXACT = "meta/mousev1/covariates"
TRIAL_ORDER = "meta/trials/trial_idx.npy"
GROUPS = {
    "behavior": ("pupil_radius", "pupil_radius_derivative", "running"),
    "pupil_center": ("pupil_x", "pupil_y"),
}


def read_covariates(tree: Tree, numbers: NDArray[np.int64], n_trials: int, *, own: bool) -> dict[str, Array]:
    """Name to values in the trials ``numbers`` of a tree of ``n_trials``; ``own`` if mousev1 wrote it."""
    if own:
        files = [name for name in tree.children(EXACT) if name.endswith(".npy")]
        return {name[:-4]: _of_trials(tree, f"{EXACT}/{name}", n_trials)[numbers] for name in files}
    found: dict[str, Array] = {}
    if tree.has(TRIAL_ORDER):
        try:
            found["trial_order"] = _of_trials(tree, TRIAL_ORDER, n_trials)[numbers]
        except ValueError as error:
            warnings.warn(f"left out of covariates: {error}", stacklevel=5)
    for group, names in GROUPS.items():
        there = set(tree.children(f"data/{group}"))
        if not there & {f"{number}.npy" for number in numbers}:
            continue
        try:
            rows = _rows(tree, group, [f"{number}.npy" for number in numbers], there)
        except ValueError as error:
            warnings.warn(f"left out of covariates: {error}", stacklevel=5)
            continue
        known = names if rows.shape[1] == len(names) else [f"{group}_{i}" for i in range(rows.shape[1])]
        found |= {name: np.ascontiguousarray(rows[:, i]) for i, name in enumerate(known)}
    return found


def covariate_members(covariates: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Members of the file tree that hold covariates, for this library and for others."""
    for name, values in covariates.items():
        yield f"{EXACT}/{name}.npy", values
    for group, names in GROUPS.items():
        if set(names) <= set(covariates):
            rows = np.stack([covariates[name] for name in names], axis=1).astype(np.float32)
            for trial, row in enumerate(rows):
                yield f"data/{group}/{trial}.npy", row


def _of_trials(tree: Tree, member: str, n_trials: int) -> Array:
    values = npy.decode(tree.read(member), tree.where(member))
    if values.shape != (n_trials,) or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{tree.where(member)}: expected ({n_trials},) numbers as in tiers.npy, got {values.dtype} {values.shape}"
        )
    return values.astype(values.dtype.newbyteorder("="))


def _rows(tree: Tree, group: str, names: list[str], there: set[str]) -> NDArray[np.float32]:
    """(T, K) signals of a group; NaN in trials without a file."""
    rows: dict[int, Array] = {}
    for trial, name in enumerate(names):
        if name not in there:
            continue
        member = f"data/{group}/{name}"
        values = npy.decode(tree.read(member), tree.where(member))
        first = next(iter(rows.values()), values)
        if values.ndim != 1 or values.shape != first.shape or values.dtype.kind not in "biuf":
            raise ValueError(
                f"{tree.where(member)}: expected one number per signal as (K,), the same in all trials, got "
                f"{values.dtype} {values.shape}"
            )
        rows[trial] = values
    table = np.full((len(names), len(next(iter(rows.values())))), np.nan, np.float32)
    for trial, values in rows.items():
        table[trial] = values
    return table
