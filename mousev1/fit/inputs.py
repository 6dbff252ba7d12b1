"""The checks at the door of a fit: after them every array has the right shape, range and meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mousev1.core.representation import FrozenCore
from mousev1.data.images import Images, image_identities, prepare_images
from mousev1.data.scan import checked_positions, checked_responses
from mousev1.errors import listing

Array = npt.NDArray[Any]

MIN_IMAGES = 10
UNITS_AT_A_TIME = 512


@dataclass(frozen=True)
class FitInputs:
    """Checked data of a fit.

    Attributes:
        images: (N, C_in, H, W) gray values in the core's range, one row per trial.
        responses: (N, U) float32, in the user's units.
        identities: (N,) which rows show the same image.
        cortex: (U, 2) or (U, 3) positions, or None.
        validation: images and responses held out by the user, or None.
    """

    images: Tensor
    responses: Tensor
    identities: Array
    cortex: Tensor | None
    validation: tuple[Tensor, Tensor] | None


def check_inputs(
    core: FrozenCore,
    images: Images,
    responses: Array,
    positions: Array | None,
    *,
    image_ids: Array | None,
    validation: tuple[Images, Array] | None,
    pixels_per_degree: float | None,
) -> FitInputs:
    """Check and convert what a user gave to ``fit_readout``; raises as documented there."""
    config = core.config

    def prepared(pictures: Images) -> Tensor:
        stack = prepare_images(
            pictures, config.input, channels=config.input_channels, pixels_per_degree=pixels_per_degree
        )
        config.feature_shape(stack.shape[2], stack.shape[3])
        return stack

    stack = prepared(images)
    recorded = check_responses("responses", responses, rows=len(stack))
    if len(stack) < MIN_IMAGES:
        raise ValueError(f"images: expected at least {MIN_IMAGES} to fit a readout, got {len(stack)}")
    identities = image_identities(stack) if image_ids is None else np.asarray(image_ids)
    if identities.shape != (len(stack),):
        raise ValueError(f"image_ids: expected ({len(stack)},), one per image, got {identities.shape}")
    held_out = None
    if validation is not None:
        held_images = prepared(validation[0])
        held_out = (
            held_images,
            check_responses("validation", validation[1], rows=len(held_images), units=recorded.shape[1]),
        )
        _check_disjoint(stack, held_images)
    return FitInputs(stack, recorded, identities, check_positions(positions, recorded.shape[1]), held_out)


def check_responses(name: str, responses: Array, *, rows: int, units: int | None = None) -> Tensor:
    """(N, U) finite, non-negative responses as float32, one row per image."""
    shape = np.shape(responses)
    if len(shape) != 2 or shape[0] != rows or (units is not None and shape[1] != units):
        hint = "; it looks transposed" if len(shape) == 2 and shape[1] == rows else ""
        raise ValueError(
            f"{name}: expected ({rows}, {'U' if units is None else units}), one row per image and one column "
            f"per neuron, got {shape}{hint}"
        )
    return torch.from_numpy(np.ascontiguousarray(checked_responses(responses)))


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
    scale = torch.cat([block.double().std(dim=0) for block in responses.split(UNITS_AT_A_TIME, dim=1)])
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
