"""What can be fitted but is seldom meant: a fit says so in its notes, and goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mousev1.data.images import image_identities

Array = npt.NDArray[Any]

EXTREME = 1000.0
"""A trial whose responses are this many times those of the median trial is named."""
FIRST_TRIALS = 200
"""Neurons that differ in these are not compared any further."""


def notes_on(images: Tensor, responses: Tensor, identities: Array | None) -> tuple[str, ...]:
    """Sentences on uniform images, equal images under own ids, an extreme trial, and equal neurons.

    Args:
        images: (N, C, H, W), one per trial.
        responses: (N, U).
        identities: (N,) ids that the user gave to the images, or None if they were found by content.

    Raises:
        ValueError: all images are the same.
    """
    flat = images.flatten(1)
    if bool((flat == flat[:1]).all()):
        raise ValueError(
            f"images: all {len(images)} are the same picture, so there is nothing to fit; pass the picture that "
            "each trial showed"
        )
    notes = [
        _uniform(flat),
        _equal_pictures(images, identities),
        _extreme(responses),
        _equal_neurons(responses),
    ]
    return tuple(note for note in notes if note)


def _uniform(flat: Tensor) -> str:
    uniform = np.flatnonzero((flat.amin(dim=1) == flat.amax(dim=1)).cpu().numpy())
    if not len(uniform):
        return ""
    return (
        f"{len(uniform)} of {len(flat)} images are uniform, the first in row {uniform[0]} (gray value "
        f"{float(flat[uniform[0], 0]):g}); leave them out if the animal saw something else"
    )


def _equal_pictures(images: Tensor, identities: Array | None) -> str:
    if identities is None:
        return ""
    _, first = np.unique(identities, return_index=True)
    count = len(first) - len(np.unique(image_identities(images[torch.from_numpy(first)])))
    if not count:
        return ""
    return f"{count} images equal another one under an id of their own; give repeats one id, or no ids at all"


def _extreme(responses: Tensor) -> str:
    total = responses.double().sum(dim=1)
    usual = float(total.median())
    if usual <= 0 or float(total.max()) < EXTREME * usual:
        return ""
    row = int(total.argmax())
    return (
        f"responses in row {row} are {float(total[row]) / usual:,.0f} times those of the median trial; "
        "leave it out if it is an artefact"
    )


def _equal_neurons(responses: Tensor) -> str:
    columns = responses.T.cpu().numpy()
    varied = np.flatnonzero((columns != columns[:, :1]).any(axis=1))
    start = np.ascontiguousarray(columns[varied, :FIRST_TRIALS])
    _, group, counts = np.unique(start, axis=0, return_inverse=True, return_counts=True)
    alike = varied[counts[group.ravel()] > 1]
    if not len(alike):
        return ""
    _, first, sizes = np.unique(columns[alike], axis=0, return_index=True, return_counts=True)
    copies = int((sizes - 1).sum())
    if not copies:
        return ""
    one = int(alike[first[sizes > 1][0]])
    return f"{copies} neurons are copies of others, as one in column {one}; leave out what was merged twice"
