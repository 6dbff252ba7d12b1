"""The fields of a scan, as ``mousev1.data.scan`` documents and checks them; what writes files knows no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mousev1.data.validation import Array


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ScanFields:
    """What a scan holds; see ``mousev1.Scan``."""

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
    covariates: Mapping[str, Array] = field(default_factory=dict)

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
        return int(self.responses.shape[1])
