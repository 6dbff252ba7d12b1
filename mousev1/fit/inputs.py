"""The checks at the door of a fit: after them every array has the right shape, range and meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mousev1.core.representation import FrozenCore
from mousev1.data.cleaning import Cleaning, missing_part, settle_negatives
from mousev1.data.images import Images, check_ids, image_identities, prepare_images
from mousev1.data.validation import check_image_axes, checked_positions, checked_responses, plain_array
from mousev1.errors import listing
from mousev1.fit.plausibility import notes_on
from mousev1.numerics.workers import workers

Array = npt.NDArray[Any]

MIN_IMAGES = 10
UNITS_AT_A_TIME = 128
AS_IT_IS = Cleaning()


@dataclass(frozen=True)
class FitInputs:
    """Checked data of a fit.

    Attributes:
        images: (N, C_in, H, W) gray values in the core's range, one row per trial.
        responses: (N, U) float32, in the user's units.
        identities: (N,) which rows show the same image.
        cortex: (U, 2) or (U, 3) positions, or None.
        validation: images and responses held out by the user, or None.
        neurons: (U,) which columns of the user's responses these are.
        notes: what was changed, and what is seldom meant.
    """

    images: Tensor
    responses: Tensor
    identities: Array
    cortex: Tensor | None
    validation: tuple[Tensor, Tensor] | None
    neurons: Array
    notes: tuple[str, ...]


def check_inputs(
    core: FrozenCore,
    images: Images,
    responses: Array,
    positions: Array | None,
    *,
    image_ids: Array | None,
    validation: tuple[Images, Array] | None,
    pixels_per_degree: float | None,
    cleaning: Cleaning = AS_IT_IS,
) -> FitInputs:
    """Check and convert what a user gave to ``fit_readout``; raises as documented there."""
    config = core.config

    def prepared(pictures: Images) -> Tensor:
        stack = prepare_images(
            pictures, config.input, channels=config.input_channels, pixels_per_degree=pixels_per_degree
        )
        config.feature_shape(stack.shape[2], stack.shape[3])
        return stack

    if isinstance(images, np.ndarray | Tensor) and np.ndim(responses):
        check_image_axes(tuple(images.shape), np.shape(responses)[0])
    stack = prepared(images)
    given = _settled("responses", responses, cleaning, rows=len(stack))
    held = held_stack = None
    if validation is not None:
        held_stack = prepared(validation[0])
        held = _settled(
            "validation", validation[1], cleaning, rows=len(held_stack), units=given.responses.shape[1]
        )
    ids = _checked_ids(image_ids, len(stack))
    neurons = _neurons_left(given.responses, None if held is None else held.responses, positions, cleaning)
    rows, recorded, notes = _trials_left(given, neurons, cleaning)
    if len(rows) < len(stack):
        stack, ids = stack[rows], ids if ids is None else ids[rows]
    if len(stack) < MIN_IMAGES:
        raise ValueError(f"images: expected at least {MIN_IMAGES} to fit a readout, got {len(stack)}")
    if ids is not None:
        check_ids(stack, ids)
    held_out = None
    if held is not None and held_stack is not None:
        held_rows, held_responses, more = _trials_left(held, neurons, cleaning)
        kept = held_stack if len(held_rows) == len(held_stack) else held_stack[held_rows]
        held_out = (kept, held_responses)
        _check_disjoint(stack, held_out[0])
        notes += more
    units = given.responses.shape[1]
    if len(neurons) < units:
        notes += (f"left out {units - len(neurons):,} of {units:,} neurons, whose values are not all finite",)
    if positions is not None and len(neurons) < units:
        positions = np.asarray(positions)[neurons]
    return FitInputs(
        images=stack,
        responses=recorded,
        identities=image_identities(stack) if ids is None else ids,
        cortex=check_positions(positions, len(neurons)),
        validation=held_out,
        neurons=neurons,
        notes=(*notes, *notes_on(stack, recorded, ids)),
    )


def _checked_ids(image_ids: Array | None, images: int) -> Array | None:
    ids = None if image_ids is None else plain_array("image_ids", image_ids)
    if ids is not None and ids.shape != (images,):
        raise ValueError(f"image_ids: expected ({images},), one per image, got {ids.shape}")
    return ids


class _Settled(NamedTuple):
    """Responses (N, U) without rounding below 0, and a note if there was any."""

    responses: Array
    notes: tuple[str, ...]


def _settled(
    name: str, responses: Array, cleaning: Cleaning, *, rows: int, units: int | None = None
) -> _Settled:
    shape = np.shape(responses)
    if len(shape) != 2 or shape[0] != rows or (units is not None and shape[1] != units):
        hint = f"; it looks transposed: pass {name}.T" if len(shape) == 2 and shape[1] == rows else ""
        raise ValueError(
            f"{name}: expected ({rows}, {'U' if units is None else units}), one row per image and one column "
            f"per neuron, got {shape}{hint}"
        )
    return _Settled(*settle_negatives(responses, cleaning.negatives))


def _neurons_left(responses: Array, held: Array | None, positions: Array | None, cleaning: Cleaning) -> Array:
    """Indices of the neurons that are fitted."""
    units = responses.shape[1]
    if cleaning.drop != "neurons" or responses.dtype.kind != "f":
        return np.arange(units)
    known = None if positions is None else plain_array("positions", positions)
    if known is not None and (known.ndim != 2 or len(known) != units):
        known = None  # named by the check that follows
    _, neurons, _ = missing_part(responses, known, "neurons")
    if held is not None:
        neurons &= missing_part(held, None, "neurons")[1]
    if not neurons.any():
        raise ValueError("drop: no neuron has all of its values; pass drop='trials' instead")
    return np.flatnonzero(neurons)


def _trials_left(
    given: _Settled, neurons: Array, cleaning: Cleaning
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Rows that are fitted, their responses (N', U') as float32, and notes."""
    responses = given.responses if len(neurons) == given.responses.shape[1] else given.responses[:, neurons]
    rows, notes = np.arange(len(responses)), given.notes
    if cleaning.drop == "trials" and responses.dtype.kind == "f":
        trials, _, lost = missing_part(responses, None, "trials")
        rows, notes = np.flatnonzero(trials), notes + lost
        responses = responses if trials.all() else responses[rows]
    recorded = torch.from_numpy(np.ascontiguousarray(checked_responses(responses, options=True)))
    return torch.from_numpy(rows), recorded, notes


def check_positions(positions: Array | None, units: int) -> Tensor | None:
    """(U, 2) or (U, 3) finite cortical positions as float32, or None."""
    if positions is None:
        return None
    array = checked_positions(positions, units)
    if units > 1 and not np.ptp(array[:, :2], axis=0).any():
        raise ValueError(
            "positions: all neurons have the same position; pass None to fit without cortical positions"
        )
    return torch.from_numpy(np.ascontiguousarray(array))


def response_scale(responses: Tensor) -> tuple[Tensor, Array]:
    """Standard deviation of each neuron over trials (1 where it is constant), and the constant ones.

    Returns:
        (U,) float32 scale, and the indices of the constant neurons.
    """
    constant = (responses == responses[0]).all(dim=0)
    # A block of neurons at a time: float64 copies of all responses would not fit where they just do.
    with workers() as threads:
        blocks = responses.split(UNITS_AT_A_TIME, dim=1)
        scale = torch.cat(list(threads.map(lambda block: block.double().std(dim=0), blocks)))
    return torch.where(constant, 1.0, scale).float(), np.flatnonzero(constant.numpy())


def split_by_identity(identities: Array, fraction: float, seed: int) -> tuple[Array, Array]:
    """Rows for training and for validation, so that no image is in both.

    Args:
        identities: (N,) identity of the image in each row.
        fraction: fraction of the distinct images for validation, 0 to 1.
        seed: of the choice.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"validation_fraction: expected between 0 and 1, got {fraction}")
    distinct, which = np.unique(identities, return_inverse=True)
    count = min(max(2, round(fraction * len(distinct))), len(distinct) - 2)
    if count < 2:
        raise ValueError(f"images: {len(distinct)} distinct images cannot be split for validation; give more")
    chosen = np.random.default_rng(seed).choice(len(distinct), size=count, replace=False)
    held = np.isin(which, chosen)
    return np.flatnonzero(~held), np.flatnonzero(held)


def _check_disjoint(train: Tensor, validation: Tensor) -> None:
    both = np.intersect1d(image_identities(train), image_identities(validation))
    if len(both):
        raise ValueError(
            f"validation: {len(both)} of its images are also among the training images "
            f"({listing(both.tolist(), 5)}); a score on them would mean nothing: leave them out of one"
        )
