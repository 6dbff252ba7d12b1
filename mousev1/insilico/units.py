"""Which neurons to ask about: by their ids, or those that a model knows best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.data.images import Images
from mousev1.errors import listing
from mousev1.insilico.frame import Frame
from mousev1.model.response_model import ResponseModel


def check_request(
    model: ResponseModel, units: object, frame: Frame | None
) -> tuple[NDArray[np.int64], Frame]:
    """Indices of the neurons asked for, and the frame; by default all of them, and the frame of the fit's images."""
    channels = model.core.config.input_channels
    if channels != 1:
        raise ValueError(f"model: expected a core of gray images, got one of {channels} channels")
    return check_units(units, model.n_units), frame or Frame.of_model(model)


def check_units(units: object, n_units: int) -> NDArray[np.int64]:
    """Indices of neurons (row numbers in the model, not ids), checked; all of them for ``None``."""
    if units is None:
        return np.arange(n_units)
    index = np.atleast_1d(np.asarray(units))
    if index.ndim != 1 or index.dtype.kind not in "iu" or not len(index):
        raise ValueError(
            f"units: expected a list of whole numbers, indices of neurons from 0, got {units!r}; "
            "np.flatnonzero turns a mask into one"
        )
    bad = index[(index < 0) | (index >= n_units)]
    if len(bad):
        raise ValueError(
            f"units: expected indices from 0 to {n_units - 1}, as the model has {n_units} neurons, got "
            f"{int(bad[0])}; unit ids become indices by np.flatnonzero(np.isin(model.unit_ids, ids))"
        )
    return index.astype(np.int64)


def units_with_ids(model: ResponseModel, unit_ids: Sequence[int]) -> NDArray[np.int64]:
    """Indices of the neurons with these ids in the model, in their order."""
    have = {int(unit): row for row, unit in enumerate(model.unit_ids.tolist())}
    if not len(unit_ids):
        raise ValueError("units: expected at least one unit id, got none")
    if missing := [int(unit) for unit in unit_ids if int(unit) not in have]:
        raise ValueError(
            f"units: the model has no neuron with unit id {listing(missing, 5)}; its {model.n_units} unit ids are "
            f"{listing(sorted(have), 10)}"
        )
    return np.array([have[int(unit)] for unit in unit_ids], dtype=np.int64)


def modulation(model: ResponseModel, images: Images) -> NDArray[np.float64]:
    """How strongly images modulate each neuron's predicted rate, (U,): variance over mean.

    Rates are those of the readout, in which fits are done and single trials of a neuron scatter with a variance of
    the order of their mean: the more its rate varies against that, the better single trials can be predicted. It
    needs no recordings; where there are some, scores on them are to be preferred.
    """
    rates = model.predict(images).astype(np.float64) / model.response_scale.cpu().numpy()
    return np.asarray(rates.var(axis=0) / np.maximum(rates.mean(axis=0), 1e-12))


def best_units(scores: NDArray[np.floating[Any]], count: int) -> NDArray[np.int64]:
    """Indices of the neurons with the highest scores (U,), the best first; undefined scores come last."""
    if count < 1:
        raise ValueError(f"count: expected at least 1 unit, got {count}")
    values = np.where(np.isfinite(scores), scores, -np.inf)
    return np.argsort(-values, kind="stable")[:count].astype(np.int64)
