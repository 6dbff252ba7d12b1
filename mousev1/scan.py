"""A scan: which images an animal saw, when, and how its neurons answered.

Everything is checked once, when a ``Scan`` is made; what takes a ``Scan`` need not check again.
Axes are written N images, T trials, C channels, H, W, U units (neurons), I distinct images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mousev1.errors import listing

TIERS = ("train", "validation", "test")
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Trials:
    """The trials of one tier, in the order they are stored in.

    Attributes:
        images: (T, C, H, W) gray values shown in each trial; uint8 or float32 as in the scan.
        responses: (T, U) float32, at least 0, in the scan's own unit.
        image_ids: (T,) which image it was: equal ids are repeats of one image.
    """

    images: Array
    responses: NDArray[np.float32]
    image_ids: Array

    def __len__(self) -> int:
        return len(self.responses)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Scan:
    """Responses of a population of neurons to images, validated.

    Arrays that already have the right type are kept, not copied: do not change them afterwards.

    Attributes:
        name: what the scan is called in messages and in the models fitted on it.
        images: (I, C, H, W) or (I, H, W) distinct images, uint8, or float32 (other numbers become
            float32). Images that no trial shows are allowed.
        image_ids: (I,) whole numbers (int64) or strings, each once.
        trial_image: (T,) index into ``images`` of what each trial showed; ``trial_image_index`` finds
            it from ids.
        tiers: (T,) ``"train"``, ``"validation"`` or ``"test"``. All trials of an image are in one tier.
        responses: (T, U) at least 0, stored as float32. Neurons that never respond are allowed.
        unit_ids: (U,) whole numbers, each once.
        positions: (U, 3) or (U, 2) cortical positions in micrometres, stored as float32, or None.
        match_ids: (U,) whole numbers or None; neurons of two scans of an animal with the same number
            are the same neuron, and -1 means unmatched.
        animal_id: the animal, or None where unknown.
        neuron_meta: more about the neurons (area, layer, ...): name to array with U rows of numbers or
            strings.

    Raises:
        ValueError: anything that breaks the above, naming the field and what to do.
        TypeError: an array of something other than numbers or strings.

    Example:
        >>> scan = Scan(
        ...     name="demo",
        ...     images=np.zeros((2, 1, 36, 64), np.uint8),
        ...     image_ids=[10, 11],
        ...     trial_image=[0, 1, 1],
        ...     tiers=["train", "test", "test"],
        ...     responses=[[0.0], [1.5], [1.0]],
        ...     unit_ids=[7],
        ... )
        >>> scan.trials("test").responses.shape
        (2, 1)
    """

    name: str
    images: Array
    image_ids: Array
    trial_image: NDArray[np.int64]
    tiers: NDArray[np.str_]
    responses: NDArray[np.float32]
    unit_ids: NDArray[np.int64]
    positions: NDArray[np.float32] | None = None
    match_ids: NDArray[np.int64] | None = None
    animal_id: str | None = None
    neuron_meta: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name: expected a text of at least one letter, got {self.name!r}")
        if self.animal_id is not None and not isinstance(self.animal_id, str):
            raise TypeError(
                f"animal_id: expected a text or None, got {self.animal_id!r}; pass str(animal_id)"
            )

        def keep(field_name: str, value: object) -> None:
            object.__setattr__(self, field_name, value)

        keep("images", _checked_images(self.images))
        keep("responses", checked_responses(self.responses))
        keep("image_ids", checked_image_ids(self.image_ids))
        _expect_unique("image_ids", self.image_ids, "give every distinct image one id and every image once")
        _expect_length("image_ids", self.image_ids, self.n_images, "one per image of 'images'")
        keep("trial_image", _whole_numbers("trial_image", self.trial_image))
        _expect_length("trial_image", self.trial_image, self.n_trials, "one per row of 'responses'")
        _check_trial_image(self.trial_image, self.n_images)
        keep("tiers", _checked_tiers(self.tiers))
        _expect_length("tiers", self.tiers, self.n_trials, "one per row of 'responses'")
        _check_one_tier_per_image(self)
        keep("unit_ids", _whole_numbers("unit_ids", self.unit_ids))
        _expect_length("unit_ids", self.unit_ids, self.n_units, "one per column of 'responses'")
        _expect_unique("unit_ids", self.unit_ids, "a unit id names one neuron; number merged fields apart")
        if self.positions is not None:
            keep("positions", checked_positions(self.positions, self.n_units))
        if self.match_ids is not None:
            keep("match_ids", _whole_numbers("match_ids", self.match_ids))
            _expect_length("match_ids", self.match_ids, self.n_units, "one per column of 'responses'")
        keep("neuron_meta", _checked_neuron_meta(self.neuron_meta, self.n_units))

    @property
    def n_images(self) -> int:
        """Number of distinct images, I."""
        return len(self.images)

    @property
    def n_trials(self) -> int:
        """Number of trials, T."""
        return len(self.responses)

    @property
    def n_units(self) -> int:
        """Number of neurons, U."""
        return self.responses.shape[1]

    def tier_sizes(self) -> dict[str, int]:
        """Number of trials in each tier that has any, in the order train, validation, test."""
        sizes = {tier: int(np.count_nonzero(self.tiers == tier)) for tier in TIERS}
        return {tier: size for tier, size in sizes.items() if size}

    def trials(self, tier: str) -> Trials:
        """Images, responses and image ids of every trial of a tier.

        One copy of the tier is made, and none where its trials are stored side by side.

        Raises:
            ValueError: no trial is in that tier.
        """
        sizes = self.tier_sizes()
        if tier not in sizes:
            raise ValueError(
                f"tier: expected one that scan '{self.name}' has ({listing(sizes)}), got {tier!r}"
            )
        rows = _slice_if_contiguous(np.flatnonzero(self.tiers == tier))
        shown = self.trial_image[rows]
        return Trials(
            images=self.images[_slice_if_contiguous(shown)],
            responses=self.responses[rows],
            image_ids=self.image_ids[shown],
        )

    def select_units(self, index: ArrayLike) -> Scan:
        """The same scan with some of its neurons.

        Args:
            index: positions of the neurons (not their ids) in the order wanted, or a (U,) mask.

        Raises:
            ValueError: none selected, selected twice, or out of range.
        """
        rows = _unit_rows(np.asarray(index), self.n_units)
        return replace(
            self,
            responses=self.responses[:, _slice_if_contiguous(rows)],
            unit_ids=self.unit_ids[rows],
            positions=None if self.positions is None else self.positions[rows],
            match_ids=None if self.match_ids is None else self.match_ids[rows],
            neuron_meta={name: values[rows] for name, values in self.neuron_meta.items()},
        )

    def write(self, path: str | Path, *, overwrite: bool = False, progress: bool = False) -> Path:
        """Write the scan so that ``mousev1.read_scan`` gives it back exactly; returns the path.

        Args:
            path: ``.h5`` or ``.hdf5`` for the layout of ``mousev1.formats.hdf5``; ``.zip``, or a name
                without an ending for a folder, for the published file tree.
            overwrite: replace a scan that is there.
            progress: show a progress bar.

        Raises:
            FileExistsError: something is there and ``overwrite`` is false, or it is not a scan.
            ValueError: an unknown ending.
        """
        from mousev1.formats import write_scan

        return write_scan(self, path, overwrite=overwrite, progress=progress)

    def summary(self) -> str:
        """Several lines for people: sizes, and images, trials and repeats of every tier."""
        height, width = self.images.shape[2:]
        lines = [
            f"Scan '{self.name}'" + (f" of animal {self.animal_id}" if self.animal_id else ""),
            f"  {self.n_units:,} neurons, {self.n_trials:,} trials, {self.n_images:,} distinct images of "
            f"{self.images.shape[1]} x {height} x {width} ({self.images.dtype})",
            f"  {'tier':<12}{'images':>8}{'trials':>8}  repeats",
        ]
        for tier, size in self.tier_sizes().items():
            _, repeats = np.unique(self.trial_image[self.tiers == tier], return_counts=True)
            low, high = repeats.min(), repeats.max()
            span = f"{low}" if low == high else f"{low} to {high}"
            lines.append(f"  {tier:<12}{len(repeats):>8,}{size:>8,}  {span}")
        have = [] if self.positions is None else [f"{self.positions.shape[1]}-d cortical positions"]
        have += (
            [] if self.match_ids is None else [f"{np.count_nonzero(self.match_ids >= 0):,} matched neurons"]
        )
        have += list(self.neuron_meta)
        lines.append(f"  about the neurons: {', '.join(have) or 'ids only'}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        tiers = ", ".join(f"{tier} {size:,}" for tier, size in self.tier_sizes().items())
        return (
            f"Scan({self.name!r}: {self.n_units:,} neurons, {self.n_images:,} images, "
            f"{self.n_trials:,} trials ({tiers}))"
        )

    def __eq__(self, other: object) -> bool:
        """Same values and same types of numbers everywhere, bit for bit."""
        if not isinstance(other, Scan):
            return NotImplemented
        arrays = (
            "images",
            "image_ids",
            "trial_image",
            "tiers",
            "responses",
            "unit_ids",
            "positions",
            "match_ids",
        )
        return (
            (self.name, self.animal_id) == (other.name, other.animal_id)
            and all(_same(getattr(self, name), getattr(other, name)) for name in arrays)
            and list(self.neuron_meta) == list(other.neuron_meta)
            and all(_same(self.neuron_meta[name], other.neuron_meta[name]) for name in self.neuron_meta)
        )

    __hash__ = None  # type: ignore[assignment]


def trial_image_index(image_ids: ArrayLike, trial_image_ids: ArrayLike) -> NDArray[np.int64]:
    """Where in ``image_ids`` (I,) each of ``trial_image_ids`` (T,) is: ``trial_image`` of a ``Scan``.

    Raises:
        ValueError: a trial's id that no image has, or an id twice among the images.
    """
    ids, wanted = checked_image_ids(image_ids), checked_image_ids(trial_image_ids)
    _expect_unique("image_ids", ids, "give every distinct image one id and every image once")
    if ids.dtype.kind != wanted.dtype.kind:
        raise ValueError(
            f"trial_image_ids: expected the same type as image_ids ({ids.dtype}), got {wanted.dtype}"
        )
    order = np.argsort(ids)
    found = np.searchsorted(ids, wanted, sorter=order)
    index = order[np.minimum(found, len(ids) - 1)] if len(ids) else np.zeros(len(wanted), np.int64)
    known = ids[index] == wanted if len(ids) else np.zeros(len(wanted), bool)
    if not known.all():
        raise ValueError(
            f"trial_image_ids: {np.count_nonzero(~known)} of {len(wanted)} trials show an image that is "
            f"not among image_ids: {listing(np.unique(wanted[~known]))}; add the images or drop the trials"
        )
    return index.astype(np.int64)


# ---------------------------------------------------------------- checks


def _checked_images(images: ArrayLike) -> Array:
    array = np.asarray(images)
    if array.dtype.kind not in "uif":
        raise TypeError(f"images: expected uint8 or float gray values, got {array.dtype}")
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or 0 in array.shape:
        raise ValueError(
            f"images: expected at least one image as (I, C, H, W) or (I, H, W), got {np.shape(images)}"
        )
    array = _as_float32("images", array) if array.dtype != np.uint8 else array
    if array.dtype == np.float32 and not np.isfinite(_extremes(array)).all():
        bad = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2, 3)))
        raise ValueError(
            f"images: expected finite gray values, got NaN or infinity in {len(bad)} of {len(array)} images, "
            f"the first at index {bad[0]}; drop or repair them"
        )
    return array


def checked_responses(responses: ArrayLike) -> NDArray[np.float32]:
    """(T, U) as float32, without a copy if it was; ``ValueError`` unless finite and at least 0."""
    array = np.asarray(responses)
    if array.dtype.kind not in "uif":
        raise TypeError(f"responses: expected numbers, got {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"responses: expected at least one trial and one neuron as (T, U), got {array.shape}"
        )
    array = _as_float32("responses", array)
    low, high = _extremes(array)
    # NaN fails both comparisons, so that one pass without temporaries clears sound data.
    if low >= 0 and high < np.inf:
        return array
    for what, remedy, test in (
        ("NaN", "drop those trials or neurons", np.isnan),
        ("infinite", "drop those trials or neurons", np.isinf),
        ("negative", "deconvolve, or clip at 0 if they are noise around 0", lambda row: row < 0),
    ):
        per_trial = np.array([np.count_nonzero(test(row)) for row in array])
        if per_trial.any():
            trial = int(np.flatnonzero(per_trial)[0])
            unit = int(np.flatnonzero(test(array[trial]))[0])
            raise ValueError(
                f"responses: expected finite numbers of at least 0, got {per_trial.sum():,} {what} values in "
                f"{np.count_nonzero(per_trial):,} of {len(array):,} trials, the first in trial {trial}, "
                f"neuron {unit}; {remedy}"
            )
    raise AssertionError("extremes and elements disagree")


def checked_image_ids(image_ids: ArrayLike) -> Array:
    """(N,) as int64 or strings; ``ValueError`` or ``TypeError`` for anything else."""
    array = np.asarray(image_ids)
    if (
        array.dtype.kind in "OS"
        and array.size
        and all(isinstance(value, str | bytes) for value in array.flat)
    ):
        array = array.astype(str)
    if array.ndim != 1:
        raise ValueError(f"image_ids: expected one id per image as (N,), got {array.shape}")
    return array if array.dtype.kind == "U" else _whole_numbers("image_ids", array)


def checked_positions(positions: ArrayLike, n_units: int) -> NDArray[np.float32]:
    """(U, 2) or (U, 3) as float32; ``ValueError`` unless finite and one row per neuron."""
    array = np.asarray(positions)
    if array.dtype.kind not in "uif":
        raise TypeError(f"positions: expected numbers in micrometres, got {array.dtype}")
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        raise ValueError(f"positions: expected (U, 2) or (U, 3), got {array.shape}")
    if len(array) != n_units:
        raise ValueError(
            f"positions: expected {n_units} rows, one per neuron (column of 'responses'), got {len(array)} "
            f"({'fewer' if len(array) < n_units else 'more'}); select the same neurons in both"
        )
    array = _as_float32("positions", array)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ValueError(
            f"positions: expected finite numbers, got NaN or infinity for {len(bad)} of {n_units} neurons, "
            f"the first at index {bad[0]}; drop those neurons, or pass None if positions are unknown"
        )
    return array


def _check_trial_image(trial_image: NDArray[np.int64], n_images: int) -> None:
    bad = np.flatnonzero((trial_image < 0) | (trial_image >= n_images))
    if len(bad):
        raise ValueError(
            f"trial_image: expected indices from 0 to {n_images - 1} into 'images', got {len(bad)} others, the "
            f"first {trial_image[bad[0]]} in trial {bad[0]}; responses without their image cannot be used"
        )


def _checked_tiers(tiers: ArrayLike) -> NDArray[np.str_]:
    array = np.asarray(tiers)
    if array.dtype.kind in "OS" and all(isinstance(value, str | bytes) for value in array.flat):
        array = array.astype(str)
    if array.dtype.kind != "U" or array.ndim != 1:
        raise TypeError(f"tiers: expected a list of names as (T,), got {array.dtype} {array.shape}")
    unknown = sorted(set(np.unique(array).tolist()) - set(TIERS))
    if unknown:
        raise ValueError(
            f"tiers: expected {listing(TIERS)}, got also {listing(unknown)}; rename or drop those trials"
        )
    return array


def _check_one_tier_per_image(scan: Scan) -> None:
    shown = np.stack(
        [np.isin(np.arange(scan.n_images), scan.trial_image[scan.tiers == tier]) for tier in TIERS]
    )
    shared = np.flatnonzero(shown.sum(axis=0) > 1)
    if len(shared):
        raise ValueError(
            f"tiers: expected all trials of an image in one tier, got {len(shared)} images in several, which "
            f"lets scores be measured on images fitted to: ids {listing(np.sort(scan.image_ids[shared]))}; "
            "move or drop their trials"
        )


def _checked_neuron_meta(meta: Mapping[str, ArrayLike], n_units: int) -> dict[str, Array]:
    if not isinstance(meta, Mapping):
        raise TypeError(f"neuron_meta: expected a dict of arrays, got {type(meta).__name__}")
    checked = {}
    for name in sorted(meta):
        array = np.asarray(meta[name])
        array = array.astype(str) if array.dtype.kind == "S" else array
        if not isinstance(name, str) or not name or set(name) & set("/\\\0") or name.startswith("."):
            raise ValueError(f"neuron_meta: expected names that can be file names, got {name!r}")
        if array.dtype.kind not in "biufU":
            raise TypeError(f"neuron_meta[{name!r}]: expected numbers or strings, got {array.dtype}")
        if array.ndim < 1 or len(array) != n_units:
            raise ValueError(
                f"neuron_meta[{name!r}]: expected {n_units} rows, one per neuron, got {array.shape}"
            )
        checked[name] = array
    return checked


def _unit_rows(index: Array, n_units: int) -> NDArray[np.int64]:
    if index.dtype == bool:
        if index.shape != (n_units,):
            raise ValueError(f"index: expected a mask of {n_units} neurons, got {index.shape}")
        index = np.flatnonzero(index)
    if index.ndim != 1 or not index.size or index.dtype.kind not in "iu":
        raise ValueError(
            f"index: expected positions of at least one neuron as whole numbers, or a mask with at least one "
            f"True, got {index.dtype} {index.shape}"
        )
    bad = index[(index < -n_units) | (index >= n_units)]
    if len(bad):
        raise ValueError(f"index: expected positions from 0 to {n_units - 1}, got {bad[0]}")
    return np.where(index < 0, index + n_units, index).astype(np.int64)


def _whole_numbers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind == "f" and array.size and (array == np.rint(array)).all():
        raise TypeError(f"{name}: expected whole numbers, got {array.dtype}; pass {name}.astype(int)")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected whole numbers, got {array.dtype}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected numbers below 2^63, got {array.max()}")
    return array.astype(np.int64, copy=False)


def _as_float32(name: str, array: Array) -> NDArray[np.float32]:
    if array.dtype.kind in "iu" and max(abs(int(array.min())), abs(int(array.max()))) > 2**24:
        raise ValueError(f"{name}: expected numbers that float32 holds exactly, got up to {array.max()}")
    with np.errstate(over="ignore"):  # becomes infinite, which the caller reports
        return array.astype(np.float32, copy=False)


def _extremes(array: Array) -> tuple[float, float]:
    with np.errstate(invalid="ignore"):
        return float(array.min()), float(array.max())


def _expect_length(name: str, array: Array, length: int, meaning: str) -> None:
    if array.shape != (length,):
        raise ValueError(
            f"{name}: expected ({length},), {meaning}, got {array.shape}; make the lengths agree"
        )


def _expect_unique(name: str, array: Array, remedy: str) -> None:
    values, counts = np.unique(array, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{name}: expected every id once, got {np.count_nonzero(counts > 1)} of them more than once: "
            f"{listing(values[counts > 1])}; {remedy}"
        )


def _slice_if_contiguous(index: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """The same rows as a slice where there is one, so that numpy gives a view instead of a copy."""
    if len(index) and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _same(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    if a.dtype.kind == b.dtype.kind == "U":
        return np.array_equal(a, b)
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
