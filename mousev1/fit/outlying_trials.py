"""Trials in which the whole population responds as in no other: a flash of light, a dropped frame, a moved brain.

One such trial outweighs all others in every sum that a fit takes. With the typical response s_u of neuron u, the
mean of its responses up to their 80th percentile, the level of a trial is

    l_n = mean over u of log(1 + y_nu / s_u),

to which no neuron alone contributes much however large its response. A trial is an outlier if its level is many
robust standard deviations (from the median absolute deviation) from the median of all, and if a tenth of the
neurons or more go along: respond several times their typical response, or for a silent trial nearly all of
them hardly any. Shared changes of gain widen the spread of levels, and so are no outliers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mousev1.errors import listing
from mousev1.fit.inputs import FitInputs

Array = npt.NDArray[np.float64]

LEAST_NEURONS = 5  # that can say what the population does
MOST_NEURONS = 500  # that are asked
TYPICAL_QUANTILE = 0.8
FAR = 8.0  # standard deviations
LARGE, SMALL = 5.0, 0.2  # in typical responses
GO_ALONG = 0.1
MOST_OUTLIERS = 0.25  # of trials: more are a state of the animal, not an accident
TO_NORMAL = 1.4826  # standard deviations in a median absolute deviation, of a normal distribution


@dataclass(frozen=True)
class TrialLevels:
    """What is usual for a population.

    Attributes:
        neurons: (K,) numbers of those asked.
        typical: (K,) their typical responses, positive.
        median: of the trials' levels.
        spread: their robust standard deviation.
    """

    neurons: npt.NDArray[np.int64]
    typical: Array
    median: float
    spread: float

    @classmethod
    def of(cls, responses: Tensor) -> TrialLevels | None:
        """From responses (N, U), non-negative; None where too few neurons respond to tell."""
        step = max(1, -(-responses.shape[1] // MOST_NEURONS))
        neurons = np.arange(0, responses.shape[1], step)
        y = responses[:, ::step].double().numpy()
        rank = round(TYPICAL_QUANTILE * (len(y) - 1))
        most = np.partition(y, rank, axis=0)[rank]
        typical = np.minimum(y, most).mean(axis=0)
        typical = np.where(typical > 0, typical, y.mean(axis=0))
        asked = typical > 0
        if asked.sum() < LEAST_NEURONS:
            return None
        logarithms = np.log1p(y[:, asked] / typical[asked])
        levels = logarithms.mean(axis=1)
        median = float(np.median(levels))
        # what is left if neurons respond independently of each other and of the image
        alone = float(np.sqrt(logarithms.var(axis=0).sum()) / asked.sum())
        spread = max(TO_NORMAL * float(np.median(np.abs(levels - median))), alone)
        return cls(neurons[asked], typical[asked], median, spread)

    def outlying(self, responses: Tensor) -> npt.NDArray[np.int64]:
        """Rows of the outliers among trials (N, U) of the same neurons; none if they are too many to be accidents."""
        ratio = responses[:, self.neurons].double().numpy() / self.typical
        away = (np.log1p(ratio).mean(axis=1) - self.median) / max(self.spread, 1e-12)
        high = (away > FAR) & ((ratio > LARGE).mean(axis=1) >= GO_ALONG)
        low = (away < -FAR) & ((ratio > SMALL).mean(axis=1) < GO_ALONG)
        rows = np.flatnonzero(high | low)
        return rows if len(rows) <= MOST_OUTLIERS * len(ratio) else rows[:0]


def without_outlying_trials(data: FitInputs) -> FitInputs:
    """The same without the trials that are outliers, of training and of validation, which its notes then name."""
    levels = TrialLevels.of(data.responses)
    if levels is None:
        return data
    rows = levels.outlying(data.responses)
    if len(rows):
        kept = np.setdiff1d(np.arange(len(data.responses)), rows)
        data = replace(
            data,
            images=data.images[kept],
            responses=data.responses[kept],
            identities=data.identities[kept],
            notes=(*data.notes, _note(rows, len(data.responses), "training")),
        )
    if data.validation is not None:
        images, responses = data.validation
        rows = levels.outlying(responses)
        if len(rows):
            kept = np.setdiff1d(np.arange(len(responses)), rows)
            data = replace(
                data,
                validation=(images[kept], responses[kept]),
                notes=(*data.notes, _note(rows, len(responses), "validation")),
            )
    return data


def _note(rows: npt.NDArray[np.int64], trials: int, tier: str) -> str:
    return (
        f"{len(rows)} of {trials} {tier} trials are outliers (rows {listing(rows.tolist(), 10)}): the population "
        "responds as in no other trial; they are left out, outlier_trials='keep' keeps them"
    )
