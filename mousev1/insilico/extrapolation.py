"""Whether a model is asked about stimuli unlike any that it was fitted to.

A prediction rests on the features at the neuron's position. They are compared with the features that the
training images have anywhere (``mousev1.core.feature_statistics``): what lies farther out than 99% of them is
marked as extrapolation. Such a prediction need not be wrong, but nothing in the fit speaks for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mousev1.core.feature_statistics import TrainingStatistics
from mousev1.core.inference import fuse
from mousev1.data.images import Images
from mousev1.insilico.units import check_units
from mousev1.model.response_model import ResponseModel
from mousev1.readout.gaussian import as_gaussian
from mousev1.readout.interpolation import sample_at

LEVEL = 99.0
IMAGES_AT_A_TIME = 32


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """How far N stimuli are from the training images, for U neurons and as a whole.

    Attributes:
        unit_distance: (N, U) distance of the features at each neuron's position from those of the training
            images, as a multiple of the distance that ``level`` percent of those stay below: above 1 is
            outside.
        unit_percentile: (N, U) how many percent of the training images' features are nearer, 0 to 100.
        image_distance: (N,) root mean square distance over the whole map, as a multiple of that of whole
            training images.
        image_percentile: (N,) how many percent of the training images are nearer.
        level: percent of the training images' features that count as inside.
    """

    unit_distance: NDArray[np.float32]
    unit_percentile: NDArray[np.float32]
    image_distance: NDArray[np.float32]
    image_percentile: NDArray[np.float32]
    level: float

    @property
    def unit_outside(self) -> NDArray[np.bool_]:
        """(N, U) whether the prediction for a neuron is an extrapolation."""
        return np.asarray(self.unit_distance > 1.0)

    @property
    def image_outside(self) -> NDArray[np.bool_]:
        """(N,) whether the stimulus as a whole is unlike the training images."""
        return np.asarray(self.image_distance > 1.0)


@torch.no_grad()
def measure_extrapolation(
    model: ResponseModel,
    images: Images,
    *,
    units: object = None,
    statistics: TrainingStatistics | None = None,
    level: float = LEVEL,
    pixels_per_degree: float | None = None,
) -> Extrapolation:
    """Distances of stimuli from the training images in the core's feature space.

    Args:
        model: a fitted model.
        images: stimuli, as for ``model.predict``.
        units: (U,) indices of neurons; all by default.
        statistics: of the training images; those that the fit stored with the model by default.
        level: percent of the training images' features that count as inside, between 0 and 100.
        pixels_per_degree: resolution of these images; see ``model.prepare``.

    Raises:
        ValueError: a model without statistics of its training images, and none given.
    """
    statistics = statistics or model.training_statistics
    if statistics is None:
        raise ValueError(
            f"statistics: this model, made by {model.record.method!r}, was saved without those of its training "
            "images; pass mousev1.core.feature_statistics.training_statistics(model.core, images) of them"
        )
    if len(statistics.mean) != model.core.config.hidden_channels:
        raise ValueError(
            f"statistics: expected {model.core.config.hidden_channels} channels as the core has, got "
            f"{len(statistics.mean)}"
        )
    if not 0 < level < 100:
        raise ValueError(f"level: expected percent between 0 and 100, got {level}")
    index = check_units(units, model.n_units)
    stack = model.prepare(images, pixels_per_degree)
    statistics = statistics.to(model.device)
    fused = fuse(model.core)
    mu = as_gaussian(model.readout, "extrapolation").mu()[torch.from_numpy(index).to(model.device)]
    at_units, whole = [], []
    for part in stack.split(IMAGES_AT_A_TIME):
        maps = statistics.whiten(fused(part.to(model.device)))
        at_units.append(sample_at(maps, mu).norm(dim=2).T)
        whole.append(maps.square().sum(dim=1).mean(dim=(1, 2)).sqrt())
    unit_distance, image_distance = torch.cat(at_units), torch.cat(whole)
    return Extrapolation(
        unit_distance=(unit_distance / statistics.limit(level)).cpu().numpy(),
        unit_percentile=statistics.place_percentile(unit_distance).cpu().numpy(),
        image_distance=(image_distance / statistics.limit(level, whole_image=True)).cpu().numpy(),
        image_percentile=statistics.image_percentile(image_distance).cpu().numpy(),
        level=level,
    )
