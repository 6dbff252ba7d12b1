"""Responses as recordings have them, made ready for a ``Scan``: rounding, negative and missing values.

Deconvolution leaves values such as -6e-8 where it means 0; they become 0. What else is negative or missing is
refused until the caller says what to do with it. Whatever is changed is counted in a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mousev1.data.validation import TIERS, Array, checked_responses, plain_array
from mousev1.errors import check_choice, listing

ROUNDING = 1e-6
"""Negative values nearer to 0 than this, relative to the neuron's standard deviation, are rounding."""

NEGATIVES = ("error", "clip")
DROP = ("neurons", "trials")
NO_TIER = ("none", "")
UNITS_AT_A_TIME = 512

Fields = dict[str, Any]


@dataclass(frozen=True)
class Cleaning:
    """What to do with responses that cannot be used as they are.

    Attributes:
        negatives: ``"error"`` refuses negative responses, ``"clip"`` sets them to 0.
        drop: ``"neurons"`` or ``"trials"`` leaves out those with missing values; None refuses them.
    """

    negatives: str = "error"
    drop: str | None = None

    def __post_init__(self) -> None:
        check_choice("negatives", self.negatives, NEGATIVES)
        if self.drop is not None:
            check_choice("drop", self.drop, DROP)


def settle_negatives(responses: ArrayLike, negatives: str = "error") -> tuple[Array, tuple[str, ...]]:
    """Responses (T, U) with rounding below 0 set to 0, and notes.

    Args:
        responses: any numbers; what is no (T, U) array is left to ``checked_responses``.
        negatives: ``"clip"`` sets all negative values to 0.

    Returns:
        The array itself if nothing in it is negative, else a copy; other negative values remain.
    """
    array = plain_array("responses", responses)
    if array.dtype.kind not in "if" or array.ndim != 2 or 0 in array.shape:
        return array, ()
    if not np.fmin.reduce(array, axis=None) < 0:
        return array, ()
    below = array < 0
    count, least = int(below.sum()), float(np.fmin.reduce(array, axis=None))
    if (
        negatives == "error"
        and (array[below] < -ROUNDING * np.broadcast_to(_spread(array), array.shape)[below]).any()
    ):
        return array, ()
    why = "as asked" if negatives == "clip" else f"rounding, less than {ROUNDING:g} of a standard deviation"
    note = f"{count:,} of {array.size:,} responses were negative (down to {least:.2g}) and are 0 now: {why}"
    return np.where(below, array.dtype.type(0), array), (note,)


def missing_part(
    responses: Array, positions: Array | None, drop: str | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], tuple[str, ...]]:
    """Which trials (T,) and neurons (U,) stay when those with missing values are left out, and a note.

    Args:
        responses: (T, U).
        positions: (U, 2) or (U, 3), or None.
        drop: ``"neurons"``, ``"trials"`` or None. Only neurons can be left out for their position.

    Raises:
        ValueError: nothing would be left.
    """
    trials, neurons = np.ones(responses.shape[0], dtype=bool), np.ones(responses.shape[1], dtype=bool)
    if drop is None:
        return trials, neurons, ()
    if drop == "trials":
        trials = np.array([bool(np.isfinite(row).all()) for row in responses])
    else:
        for row in responses:
            neurons &= np.isfinite(row)
        if positions is not None:
            neurons &= np.isfinite(positions).all(axis=1)
    kept = trials if drop == "trials" else neurons
    lost = int((~kept).sum())
    if not kept.any():
        other = DROP[drop == "neurons"]
        raise ValueError(
            f"drop: all {len(kept):,} {drop} have a value that is not finite, so that none would be left; "
            f"try drop='{other}'"
        )
    if not lost:
        return trials, neurons, ()
    return trials, neurons, (f"left out {lost:,} of {len(kept):,} {drop}, whose values are not all finite",)


def clean_fields(fields: Fields, cleaning: Cleaning) -> tuple[Fields, tuple[str, ...]]:
    """The fields of a scan after cleaning, and notes.

    Raises:
        ValueError: negative or missing responses that remain.
    """
    responses, notes = settle_negatives(fields["responses"], cleaning.negatives)
    fields = {**fields, "responses": responses}
    if cleaning.drop is not None and responses.dtype.kind == "f" and _agree(fields):
        trials, neurons, lost = missing_part(responses, fields.get("positions"), cleaning.drop)
        fields = keep_neurons(keep_trials(fields, trials), neurons)
        notes += lost
    checked_responses(fields["responses"], options=True)
    return fields, notes


def keep_trials(fields: Fields, trials: NDArray[np.bool_]) -> Fields:
    """The fields of some trials (T,), and of the images that these show."""
    if trials.all():
        return fields
    shown, trial_image = np.unique(np.asarray(fields["trial_image"])[trials], return_inverse=True)
    return {
        **fields,
        "images": fields["images"][shown],
        "image_ids": np.asarray(fields["image_ids"])[shown],
        "trial_image": trial_image,
        "tiers": np.asarray(fields["tiers"])[trials],
        "responses": fields["responses"][trials],
        "covariates": {name: values[trials] for name, values in fields.get("covariates", {}).items()},
    }


def keep_neurons(fields: Fields, neurons: NDArray[np.bool_]) -> Fields:
    """The fields of some neurons (U,)."""
    if neurons.all():
        return fields
    per_neuron = {name: fields.get(name) for name in ("unit_ids", "positions", "match_ids")}
    return {
        **fields,
        "responses": fields["responses"][:, neurons],
        **{
            name: None if values is None else np.asarray(values)[neurons]
            for name, values in per_neuron.items()
        },
        "neuron_meta": {name: values[neurons] for name, values in fields.get("neuron_meta", {}).items()},
    }


def name_neurons(fields: Fields) -> tuple[Fields, tuple[str, ...]]:
    """The fields with whole numbers as unit ids: texts are kept as ``neuron_meta["unit_name"]``, missing ones counted.

    Texts that are whole numbers become these.
    """
    ids, units = fields.get("unit_ids"), np.shape(fields["responses"])[-1]
    if ids is None:
        note = f"no unit ids, so the {units:,} neurons are numbered from 0"
        return {**fields, "unit_ids": np.arange(units)}, (note,)
    array = plain_array("unit_ids", ids)
    if array.dtype.kind in "OS" and all(isinstance(value, str | bytes) for value in array.flat):
        array = array.astype(str)
    if array.dtype.kind != "U" or array.ndim != 1:
        return {**fields, "unit_ids": ids}, ()
    if all(text.isdecimal() and len(text) < 19 for text in array.tolist()):
        return {**fields, "unit_ids": array.astype(np.int64)}, ()
    if len(np.unique(array)) < len(array):
        raise ValueError("unit_ids: expected a name of its own for every neuron, got repeated ones")
    note = "unit ids are names, kept as neuron_meta['unit_name']; neurons are numbered from 0"
    meta = {**fields.get("neuron_meta", {}), "unit_name": array}
    return {**fields, "unit_ids": np.arange(len(array)), "neuron_meta": meta}, (note,)


def translate_tiers(fields: Fields, tiers: Mapping[str, str | None], where: str) -> Fields:
    """The fields with the tiers of a file translated, see ``translated_tiers``."""
    names = np.asarray(fields["tiers"])
    if names.dtype.kind not in "OSU" or names.ndim != 1 or not _agree(fields):
        return fields
    targets = translated_tiers(names.astype(str), tiers, where)
    return keep_trials({**fields, "tiers": targets}, targets != "")


def translated_tiers(
    names: NDArray[np.str_], tiers: Mapping[str, str | None], where: str
) -> NDArray[np.str_]:
    """(T,) tiers of a scan from those of a file; empty where the trial is left out.

    Args:
        names: (T,) tiers of the file.
        tiers: what those mean that are not train, validation and test: one of these, or None to leave them out.
        where: the file, for messages.

    Raises:
        ValueError: a tier that the file has not, one without a meaning, a meaning that is no tier, or no trial left.
    """
    meaning: dict[str, str | None] = {**{tier: tier for tier in TIERS}, **dict.fromkeys(NO_TIER), **tiers}
    wrong = [target for target in tiers.values() if target is not None and target not in TIERS]
    if wrong:
        raise ValueError(
            f"tiers: expected each to become one of {listing(TIERS)} or None, got {listing(wrong)}"
        )
    there, counts = np.unique(names, return_counts=True)
    absent = sorted(set(tiers) - set(there.tolist()))
    if absent:
        raise ValueError(f"tiers: {listing(absent)} not in this scan, whose tiers are {listing(there)}")
    unknown = {str(tier): int(n) for tier, n in zip(there, counts, strict=True) if tier not in meaning}
    if unknown:
        what = ", ".join(f"'{tier}' ({count} trials)" for tier, count in unknown.items())
        example = ", ".join(f"{tier!r}: None" for tier in unknown)
        raise ValueError(
            f"{where}: expected the tiers {listing(TIERS)}, got also {what}; "
            f"pass tiers={{{example}}} to leave those trials out, or the name of a tier instead of None"
        )
    targets = np.array([meaning[str(tier)] or "" for tier in names])
    if not (targets != "").any():
        raise ValueError(
            f"{where}: expected at least one trial in a tier, got none (tiers there: {listing(there) or 'none'})"
        )
    return targets


def _agree(fields: Fields) -> bool:
    """Whether arrays have the lengths of one scan; what has not is left to ``Scan``, which says what is wrong."""
    if np.ndim(fields["responses"]) != 2:
        return False
    trials, units = np.shape(fields["responses"])
    per_trial = [fields["trial_image"], fields["tiers"], *fields.get("covariates", {}).values()]
    per_neuron = [fields.get(name) for name in ("unit_ids", "positions", "match_ids")]
    return all(np.shape(values)[:1] == (trials,) for values in per_trial) and all(
        values is None or np.shape(values)[:1] == (units,)
        for values in (*per_neuron, *fields.get("neuron_meta", {}).values())
    )


def _spread(responses: Array) -> NDArray[np.float64]:
    """(U,) standard deviation of each neuron, over its finite values; a block at a time."""
    units = responses.shape[1]
    out = np.zeros(units)
    for start in range(0, units, UNITS_AT_A_TIME):
        block = np.ma.masked_invalid(responses[:, start : start + UNITS_AT_A_TIME].astype(np.float64))
        out[start : start + UNITS_AT_A_TIME] = np.ma.filled(block.std(axis=0), 0.0)
    return out
