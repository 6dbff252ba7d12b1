"""Checks at the door of a ``Scan``: each returns the array in the type it is kept in, or says what is wrong.

An array that already has that type is returned as it is, not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mousev1.errors import listing

TIERS = ("train", "validation", "test")
Array = NDArray[Any]


def plain_array(name: str, values: ArrayLike) -> Array:
    """As an array without a mask, not copied; ``ValueError`` if values are masked, which would be used otherwise."""
    if not isinstance(values, np.ma.MaskedArray):
        return np.asarray(values)
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name}: expected every value, got a masked array with {int(np.ma.getmaskarray(values).sum()):,} of "
            f"{values.size:,} values masked; pass {name}.astype(float).filled(np.nan) where missing values are "
            "allowed or can be left out (responses, with drop=), else leave those rows out"
        )
    return np.asarray(values.data)


def check_image_axes(shape: tuple[int, ...], count: int) -> None:
    """Name stacks whose axes are in another order than (N, H, W), by the number of images that is expected.

    Raises:
        ValueError: (H, W, N), or (N, H*W).
    """
    if len(shape) == 3 and shape[0] != count == shape[2]:
        raise ValueError(
            f"images: expected (N, H, W) with N = {count}, got {shape}, which looks like (H, W, N); pass "
            "np.moveaxis(images, -1, 0)"
        )
    if len(shape) == 2 and shape[0] == count > 1:
        raise ValueError(
            f"images: expected (N, H, W) with N = {count}, got {shape}, which looks like one row of pixels each; pass "
            "images.reshape(len(images), H, W), with the height and width of your pictures"
        )


def check_response_axes(shape: tuple[int, ...], trials: int) -> None:
    """``ValueError`` for responses as (U, T), by the number of trials that is expected."""
    if len(shape) == 2 and shape[0] != trials == shape[1]:
        raise ValueError(f"responses: expected (T, U) with T = {trials}, got {shape}; pass responses.T")


def checked_images(images: ArrayLike) -> Array:
    """(I, C, H, W) as uint8 or float32; ``ValueError`` unless all gray values are finite."""
    array = plain_array("images", images)
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


def checked_responses(responses: ArrayLike, *, options: bool = False) -> NDArray[np.float32]:
    """(T, U) as float32, without a copy if it was; ``ValueError`` unless finite and at least 0.

    Args:
        responses: of any type of number.
        options: whether the caller's user can pass ``negatives`` and ``drop``, so that the remedy names them.
    """
    array = plain_array("responses", responses)
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
    leave_out = "leave those trials or neurons out"
    clip = "deconvolve, or clip at 0 if they are noise around 0, as of dF/F: np.clip(responses, 0, None)"
    if options:
        leave_out = "pass drop='trials' or drop='neurons' to leave those out"
        clip = "deconvolve, or pass negatives='clip' if they are noise around 0, as of dF/F"
    for what, remedy, test in (
        ("NaN", leave_out, np.isnan),
        ("infinite", leave_out, np.isinf),
        ("negative", clip, lambda row: row < 0),
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
    array = plain_array("image_ids", image_ids)
    if (
        array.dtype.kind in "OS"
        and array.size
        and all(isinstance(value, str | bytes) for value in array.flat)
    ):
        array = array.astype(str)
    if array.ndim != 1:
        raise ValueError(f"image_ids: expected one id per image as (N,), got {array.shape}")
    return array if array.dtype.kind == "U" else whole_numbers("image_ids", array)


def checked_positions(positions: ArrayLike, n_units: int) -> NDArray[np.float32]:
    """(U, 2) or (U, 3) as float32; ``ValueError`` unless finite and one row per neuron."""
    array = plain_array("positions", positions)
    if array.dtype.kind not in "uif":
        raise TypeError(f"positions: expected numbers in micrometres, got {array.dtype}")
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        transposed = array.ndim == 2 and array.shape[0] in (2, 3) and array.shape[1] == n_units
        hint = "it looks transposed" if transposed else "x and y on cortex, and depth if it is known"
        raise ValueError(f"positions: expected ({n_units}, 2) or ({n_units}, 3), got {array.shape}; {hint}")
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
            f"the first at index {bad[0]}; leave those neurons out (drop='neurons' where that can be passed), or "
            "pass None if positions are unknown"
        )
    return array


def check_trial_image(trial_image: NDArray[np.int64], n_images: int) -> None:
    """``ValueError`` unless every trial (T,) points at an image, and every image is pointed at."""
    bad = np.flatnonzero((trial_image < 0) | (trial_image >= n_images))
    if len(bad):
        raise ValueError(
            f"trial_image: expected indices from 0 to {n_images - 1} into 'images', got {len(bad)} others, the "
            f"first {trial_image[bad[0]]} in trial {bad[0]}; responses without their image cannot be used"
        )
    never = np.setdiff1d(np.arange(n_images), trial_image)
    if len(never):
        raise ValueError(
            f"images: expected every image to be shown in a trial, got {len(never)} of {n_images} without any "
            f"response, the first at index {never[0]}; drop them"
        )


def checked_tiers(tiers: ArrayLike) -> NDArray[np.str_]:
    """(T,) tier names as strings; ``ValueError`` for unknown ones."""
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


def checked_neuron_meta(meta: Mapping[str, ArrayLike], n_units: int) -> dict[str, Array]:
    """Arrays of U rows by name, sorted by name."""
    if not isinstance(meta, Mapping):
        raise TypeError(f"neuron_meta: expected a dict of arrays, got {type(meta).__name__}")
    checked = {}
    for name in sorted(meta):
        array = plain_array(f"neuron_meta[{name!r}]", meta[name])
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


def checked_covariates(covariates: Mapping[str, ArrayLike], n_trials: int) -> dict[str, Array]:
    """(T,) numbers by name, sorted by name; NaN stands for a missing value, infinity is refused."""
    if not isinstance(covariates, Mapping):
        raise TypeError(f"covariates: expected a dict of arrays, got {type(covariates).__name__}")
    checked = {}
    for name in sorted(covariates):
        array = plain_array(f"covariates[{name!r}]", covariates[name])
        if not isinstance(name, str) or not name or set(name) & set("/\\\0") or name.startswith("."):
            raise ValueError(f"covariates: expected names that can be file names, got {name!r}")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"covariates[{name!r}]: expected numbers, got {array.dtype}")
        expect_length(f"covariates[{name!r}]", array, n_trials, "one per trial")
        if array.dtype.kind == "f" and np.isinf(array).any():
            raise ValueError(
                f"covariates[{name!r}]: expected finite numbers, or NaN where a value is missing, got infinity"
            )
        checked[name] = array
    return checked


def trial_image_index(image_ids: ArrayLike, trial_image_ids: ArrayLike) -> NDArray[np.int64]:
    """Where in ``image_ids`` (I,) each of ``trial_image_ids`` (T,) is: ``trial_image`` of a ``Scan``.

    Raises:
        ValueError: a trial's id that no image has, or an id twice among the images.
    """
    ids, wanted = checked_image_ids(image_ids), checked_image_ids(trial_image_ids)
    expect_unique("image_ids", ids, "give every distinct image one id and every image once")
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


def in_order(
    name: str, array: ArrayLike, axes: str, wanted: tuple[str, ...], optional: tuple[str, ...]
) -> Array:
    """An array with its named axes in the order ``wanted``; an optional axis that it lacks gets length 1.

    ``axes`` has one name per axis, separated by spaces: ``"neuron trial"``.
    """
    values, given = plain_array(f"{name.removesuffix('_axes')}s", array), tuple(axes.split())
    missing = [axis for axis in wanted if axis not in given]
    if (
        len(given) != values.ndim
        or len(set(given)) < len(given)
        or set(given) - set(wanted)
        or set(missing) - set(optional)
    ):
        raise ValueError(
            f"{name}: expected a name for each axis of {values.shape}, once each, among {listing(wanted)}"
            f"{f' ({listing(optional)} may be missing)' if optional else ''}, got {axes!r}"
        )
    values = values.transpose([given.index(axis) for axis in wanted if axis in given])
    for axis in missing:
        values = np.expand_dims(values, wanted.index(axis))
    return values


def unit_rows(index: Array, n_units: int) -> NDArray[np.int64]:
    """Rows of the neurons that an index or a (U,) mask selects."""
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


def whole_numbers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Whole numbers as int64; floats are refused even where they are whole."""
    array = plain_array(name, values)
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


def expect_length(name: str, array: Array, length: int, meaning: str) -> None:
    """``ValueError`` unless an array is (length,)."""
    if array.shape != (length,):
        raise ValueError(
            f"{name}: expected ({length},), {meaning}, got {array.shape}; make the lengths agree"
        )


def expect_unique(name: str, array: Array, remedy: str) -> None:
    """``ValueError`` listing the values that come more than once."""
    values, counts = np.unique(array, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{name}: expected every id once, got {np.count_nonzero(counts > 1)} of them more than once: "
            f"{listing(values[counts > 1])}; {remedy}"
        )
