"""Scores of a transfer: means over neurons, each over those where it is defined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mousev1.data.scan import Scan
from mousev1.errors import listing
from mousev1.metrics.unit_scores import FEVE_NEEDS_FEV, correlation, poisson_loss, score_table

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Truth:
    """What only a simulation knows.

    Attributes:
        image_ids: (I,) images with known rates; all test images must be among them.
        rates: (I, U) noise-free responses, in any unit, one column per neuron of the scan.
        live: (U,) which neurons respond to images at all.
    """

    image_ids: Array
    rates: Array
    live: Array

    def select_units(self, index: Array) -> Truth:
        """The truth of some of the neurons, given by their place."""
        return Truth(self.image_ids, self.rates[:, index], self.live[index])

    def of_images(self, image_ids: Array) -> Array:
        """(N, U) true rates for images with these ids."""
        place = {image: row for row, image in enumerate(self.image_ids.tolist())}
        if missing := [image for image in image_ids.tolist() if image not in place]:
            raise ValueError(
                f"truth: no rates of {len(missing)} images ({listing(missing, 5)}); give those of all test images"
            )
        rates: Array = self.rates[[place[image] for image in image_ids.tolist()]]
        return rates

    def correlation(self, rates: Array, image_ids: Array) -> float:
        """Mean correlation of predicted with true rates over the neurons that respond to images.

        Args:
            rates: (N, U) predicted, one row per image.
            image_ids: (N,) which images; each once, if they are to count alike.
        """
        return mean_of_defined(correlation(rates, self.of_images(image_ids))[self.live])


def transfer_scores(rates: Array, scan: Scan, mean: Array, truth: Truth | None) -> dict[str, Any]:
    """Scores of predicted rates on the test trials of a scan, by the names of ``TransferRow``.

    Args:
        rates: (T, U) for the test trials, in their order.
        scan: with the same U neurons.
        mean: (U,) mean response of each neuron over the training trials.
        truth: of the same U neurons, or None.
    """
    test = scan.trials("test")
    table = score_table(rates, test.responses, test.image_ids, scan.unit_ids)
    true = math.nan
    if truth is not None:
        ids, first = np.unique(test.image_ids, return_index=True)
        true = truth.correlation(rates[first], ids)
    single = table.single_trial_correlation
    return {
        "single_trial_correlation": mean_of_defined(single),
        "correlation_to_average": mean_of_defined(table.correlation_to_average),
        "fraction_oracle": table.fraction_oracle,
        "feve": mean_of_defined(np.where(table.fev > FEVE_NEEDS_FEV, table.feve, np.nan)),
        "deviance_explained": mean_of_defined(deviance_explained(rates, test.responses, mean)),
        "true_rate_correlation": true,
        "undefined_units": int(np.isnan(single).sum()),
    }


def deviance_explained(rates: Array, responses: Array, mean: Array) -> Array:
    """Share of the Poisson deviance that rates remove, of what the mean response leaves, (U,).

    1 - (L(rates) - L(responses)) / (L(mean) - L(responses)) with the Poisson loss L: 1 for rates that
    equal every response, 0 for the mean response, below 0 for worse. It does not depend on the unit of
    the responses and is defined for constant predictions, where correlations are not.

    Args:
        rates: (T, U) predicted, positive.
        responses: (T, U) recorded.
        mean: (U,) mean response over the training trials.

    Returns:
        NaN where the mean leaves no deviance, or forbids a response that came (it is 0).
    """
    reference = poisson_loss(np.broadcast_to(mean, responses.shape), responses)
    best = poisson_loss(responses, responses)
    left = reference - best
    left[~(np.isfinite(left) & (left > 0))] = np.nan
    with np.errstate(invalid="ignore"):
        explained: Array = 1.0 - (poisson_loss(rates, responses) - best) / left
    return explained


def mean_of_defined(values: Array) -> float:
    """Mean over finite values; NaN without any."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else math.nan
