"""A scan: which images an animal saw, when, and how its neurons answered.

Everything is checked once, when a ``Scan`` is made; what takes a ``Scan`` need not check again.
Axes are written N images, T trials, C channels, H, W, U neurons, I distinct images.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mousev1.data.cleaning import settle_negatives
from mousev1.data.scan_fields import ScanFields
from mousev1.data.validation import (
    TIERS,
    Array,
    check_image_axes,
    check_response_axes,
    check_trial_image,
    checked_covariates,
    checked_image_ids,
    checked_images,
    checked_neuron_meta,
    checked_positions,
    checked_responses,
    checked_tiers,
    expect_length,
    expect_unique,
    in_order,
    trial_image_index,
    unit_rows,
    whole_numbers,
)
from mousev1.errors import listing

logger = logging.getLogger("mousev1")

COVARIATES = {
    "trial_order": "position of the trial in the session, a whole number",
    "trial_time": "onset of the trial in seconds on the recording's clock",
    "running": "running speed, mean over the response window, as recorded (cm/s where known)",
    "pupil_radius": "pupil radius, as recorded",
    "pupil_radius_derivative": "change of the pupil radius, as recorded",
    "pupil_x": "horizontal position of the pupil, as recorded",
    "pupil_y": "vertical position of the pupil, as recorded",
}
"""Names of ``Scan.covariates`` that mousev1 itself writes, and what they are."""

__all__ = [
    "COVARIATES",
    "TIERS",
    "Scan",
    "Trials",
    "trial_image_index",
]


@dataclass(frozen=True, eq=False)
class Trials:
    """The trials of one tier, in the order they are stored in.

    Attributes:
        images: (T, C, H, W) gray values shown in each trial; uint8 or float32 as in the scan.
        responses: (T, U) float32, at least 0, in the scan's own unit.
        image_ids: (T,) which image it was: equal ids are repeats of one image.
        covariates: name to (T,) values in these trials, as in ``Scan.covariates``.
    """

    images: Array
    responses: NDArray[np.float32]
    image_ids: Array
    covariates: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.responses)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Scan(ScanFields):
    """Responses of a population of neurons to images, validated.

    Arrays that already have the right type are kept, not copied: do not change them afterwards.

    Attributes:
        name: what the scan is called in messages and in the models fitted on it.
        images: (I, C, H, W) or (I, H, W) distinct images, uint8, or float32 (other numbers become
            float32), finite. Every image is shown in a trial.
        image_ids: (I,) whole numbers (int64) or strings, each once.
        trial_image: (T,) index into ``images`` of what each trial showed; ``trial_image_index`` finds
            it from ids.
        tiers: (T,) ``"train"``, ``"validation"`` or ``"test"``. All trials of an image are in one tier.
        responses: (T, U) at least 0, stored as float32; rounding below 0 (less than 1e-6 of a neuron's
            standard deviation) becomes 0. Neurons that never respond are allowed.
        unit_ids: (U,) whole numbers, each once.
        positions: (U, 3) or (U, 2) cortical positions in micrometres, stored as float32, or None.
        match_ids: (U,) whole numbers or None; neurons of two scans of an animal with the same number
            are the same neuron, and -1 means unmatched.
        animal_id: the animal, or None where unknown.
        neuron_meta: more about the neurons (area, layer, ...): name to array with U rows of numbers or
            strings.
        covariates: what else is known about each trial: name to (T,) numbers, NaN where a value is
            missing. Names in use are those of ``COVARIATES``; any other is kept too.

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

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name: expected a text of at least one letter, got {self.name!r}")
        if self.animal_id is not None and not isinstance(self.animal_id, str):
            raise TypeError(
                f"animal_id: expected a text or None, got {self.animal_id!r}; pass str(animal_id)"
            )

        def keep(field_name: str, value: object) -> None:
            object.__setattr__(self, field_name, value)

        check_image_axes(np.shape(self.images), np.size(self.image_ids))
        keep("images", checked_images(self.images))
        check_response_axes(np.shape(self.responses), np.size(self.trial_image))
        responses, notes = settle_negatives(self.responses)
        for note in notes:
            logger.warning("%s: %s", self.name, note)
        keep("responses", checked_responses(responses))
        keep("image_ids", checked_image_ids(self.image_ids))
        expect_unique("image_ids", self.image_ids, "give every distinct image one id and every image once")
        expect_length("image_ids", self.image_ids, self.n_images, "one per image of 'images'")
        keep("trial_image", whole_numbers("trial_image", self.trial_image))
        expect_length("trial_image", self.trial_image, self.n_trials, "one per row of 'responses'")
        check_trial_image(self.trial_image, self.n_images)
        keep("tiers", checked_tiers(self.tiers))
        expect_length("tiers", self.tiers, self.n_trials, "one per row of 'responses'")
        _check_one_tier_per_image(self)
        keep("unit_ids", whole_numbers("unit_ids", self.unit_ids))
        expect_length("unit_ids", self.unit_ids, self.n_units, "one per column of 'responses'")
        expect_unique("unit_ids", self.unit_ids, "a unit id names one neuron; number merged fields apart")
        if self.positions is not None:
            keep("positions", checked_positions(self.positions, self.n_units))
        if self.match_ids is not None:
            keep("match_ids", whole_numbers("match_ids", self.match_ids))
            expect_length("match_ids", self.match_ids, self.n_units, "one per column of 'responses'")
        keep("neuron_meta", checked_neuron_meta(self.neuron_meta, self.n_units))
        keep("covariates", checked_covariates(self.covariates, self.n_trials))

    @classmethod
    def from_arrays(
        cls,
        *,
        name: str,
        responses: ArrayLike,
        response_axes: str,
        images: ArrayLike,
        image_axes: str,
        tiers: ArrayLike,
        trial_image: ArrayLike | None = None,
        **more: Any,
    ) -> Scan:
        """A scan from arrays whose axes stand in any order and are named.

        Args:
            name: of the scan.
            responses: numbers with the axes ``response_axes``.
            response_axes: ``"trial neuron"`` in any order; or ``"image repeat neuron"`` in any order, where each image
                has its repeats (NaN for repeats that others have more of), or without ``repeat``.
            images: gray values with the axes ``image_axes``; masked arrays are refused.
            image_axes: ``image height width`` in any order, and ``channel`` if there is one.
            tiers: (T,) as in ``Scan``; one per image where responses are by image.
            trial_image: (T,) which image each trial showed, counted from 0; not with responses by image.
            more: further fields of ``Scan``; ids that are not given count from 0.

        Raises:
            ValueError: axes that do not fit the arrays, or contents that a ``Scan`` refuses.

        Example:
            >>> responses = np.ones((3, 2))  # 3 neurons, 2 trials
            >>> images = np.zeros((36, 64, 2), np.uint8)
            >>> Scan.from_arrays(name="mine", responses=responses, response_axes="neuron trial", images=images,
            ...     image_axes="height width image", tiers=["train", "test"], trial_image=[0, 1])
            Scan('mine': 3 neurons, 2 images, 2 trials (train 1, test 1))
        """
        pictures = in_order(
            "image_axes", images, image_axes, ("image", "channel", "height", "width"), ("channel",)
        )
        if "image" in response_axes.split():
            if trial_image is not None:
                raise ValueError("trial_image: expected None with responses by image; name that axis trial")
            table = in_order(
                "response_axes", responses, response_axes, ("image", "repeat", "neuron"), ("repeat",)
            )
            trial_image, repeat = np.nonzero(~np.isnan(table).all(axis=2))
            table, tiers = table[trial_image, repeat], np.asarray(tiers)[trial_image]
        else:
            table = in_order("response_axes", responses, response_axes, ("trial", "neuron"), ())
        if trial_image is None:
            raise ValueError(
                "trial_image: expected which image each trial showed, got None; give (T,) numbers from 0"
            )
        more = {"image_ids": np.arange(len(pictures)), "unit_ids": np.arange(table.shape[1]), **more}
        return cls(
            name=name,
            images=pictures,
            responses=table,
            tiers=np.asarray(tiers),
            trial_image=np.asarray(trial_image),
            **more,
        )

    @property
    def tier_sizes(self) -> dict[str, int]:
        """Number of trials in each tier that has any, in the order train, validation, test."""
        sizes = {tier: int(np.count_nonzero(self.tiers == tier)) for tier in TIERS}
        return {tier: size for tier, size in sizes.items() if size}

    def trials(self, tier: str) -> Trials:
        """Images, responses and image ids of every trial of a tier; no trials if the scan has none there.

        One copy of the tier is made, and none where its trials are stored side by side.

        Raises:
            ValueError: not the name of a tier.
        """
        if tier not in TIERS:
            raise ValueError(f"tier: expected one of {listing(TIERS)}, got {tier!r}")
        rows = _slice_if_contiguous(np.flatnonzero(self.tiers == tier))
        shown = self.trial_image[rows]
        return Trials(
            images=self.images[_slice_if_contiguous(shown)],
            responses=self.responses[rows],
            image_ids=self.image_ids[shown],
            covariates={name: values[rows] for name, values in self.covariates.items()},
        )

    def select_units(self, index: ArrayLike) -> Scan:
        """The same scan with some of its neurons.

        Args:
            index: positions of the neurons (not their ids) in the order wanted, or a (U,) mask.

        Raises:
            ValueError: none selected, selected twice, or out of range.
        """
        rows = unit_rows(np.asarray(index), self.n_units)
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
            path: ``.h5`` or ``.hdf5`` for the layout of ``mousev1.data.hdf5``; ``.zip``, or a name
                without an ending for a folder, for the published file tree.
            overwrite: replace a scan that is there.
            progress: show a progress bar.

        Raises:
            FileExistsError: something is there and ``overwrite`` is false, or it is not a scan.
            ValueError: an unknown ending.
        """
        from mousev1.data.io import write_scan

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
        for tier, size in self.tier_sizes.items():
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
        if self.covariates:
            lines.append(f"  about the trials: {', '.join(self.covariates)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        tiers = ", ".join(f"{tier} {size:,}" for tier, size in self.tier_sizes.items())
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
            and list(self.covariates) == list(other.covariates)
            and all(_same(self.covariates[name], other.covariates[name]) for name in self.covariates)
        )

    __hash__ = None  # type: ignore[assignment]


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
