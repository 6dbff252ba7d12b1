"""Scores of a transfer: means over neurons, each over those where it is defined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mousev1.data.scan import Scan
from mousev1.errors import listing
from mousev1.metrics.intervals import mean_of_defined
from mousev1.metrics.score_table import score_table
from mousev1.metrics.unit_scores import FEVE_NEEDS_FEV, correlation, fraction_oracle, poisson_loss

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
        """The truth of some of the neurons, given by their index."""
        return Truth(self.image_ids, self.rates[:, index], self.live[index])

    def of_images(self, image_ids: Array) -> Array:
        """(N, U) true rates for images with these ids."""
        row_of = {image: row for row, image in enumerate(self.image_ids.tolist())}
        if missing := [image for image in image_ids.tolist() if image not in row_of]:
            raise ValueError(
                f"truth: no rates of {len(missing)} images ({listing(missing, 5)}); give those of all test images"
            )
        rates: Array = self.rates[[row_of[image] for image in image_ids.tolist()]]
        return rates

    def correlation(self, rates: Array, image_ids: Array) -> float:
        """Mean correlation of predicted with true rates over the neurons that respond to images.

        Args:
            rates: (N, U) predicted, one row per image.
            image_ids: (N,) which images; each once, if they are to count alike.
        """
        return mean_of_defined(correlation(rates, self.of_images(image_ids))[self.live])


def transfer_scores(rates: Array, scan: Scan, truth: Truth | None = None) -> dict[str, Any]:
    """Scores of predicted rates on the test trials of one scan, see ``pooled_scores``.

    Args:
        rates: (T, U) for the test trials, in their order.
        scan: with the same U neurons, and the training trials that the model was fitted to.
        truth: of the same U neurons, if they are simulated.
    """
    return pooled_scores([rates], [scan], [truth])


def pooled_scores(
    rates: Sequence[Array], scans: Sequence[Scan], truths: Sequence[Truth | None]
) -> dict[str, Any]:
    """Scores over the neurons of several scans together, each mean over those where it is defined.

    Args:
        rates: per scan, (T, U) for its test trials, in their order.
        scans: with the same neurons, and the training trials that the models were fitted to.
        truths: per scan, of its neurons; None where the true rates are not known.

    Returns:
        The ``MODEL_SCORES`` of ``mousev1.metrics.score_names``, NaN where no neuron has one, and
        ``undefined_units``, the number of neurons without a single-trial correlation.
    """
    found: dict[str, list[Array]] = {}
    for predicted, scan, truth in zip(rates, scans, truths, strict=True):
        for name, values in _neuron_scores(predicted, scan, truth).items():
            found.setdefault(name, []).append(values)
    scores = {name: np.concatenate(values) for name, values in found.items()}
    single = scores["single_trial_correlation"]
    return {
        "fraction_oracle": fraction_oracle(single, scores.pop("oracle_correlation")),
        **{name: mean_of_defined(values) for name, values in scores.items()},
        "undefined_units": int(np.isnan(single).sum()),
    }


def _neuron_scores(rates: Array, scan: Scan, truth: Truth | None) -> dict[str, Array]:
    """The scores of each neuron of one scan, (U,), NaN where it has none."""
    test = scan.trials("test")
    table = score_table(rates, test.responses, test.image_ids, scan.unit_ids)
    true = np.full(scan.n_units, np.nan)
    if truth is not None:
        ids, first = np.unique(test.image_ids, return_index=True)
        true = np.where(truth.live, correlation(rates[first], truth.of_images(ids)), np.nan)
    # not scan.trials("train"), which would copy its images
    training_mean = scan.responses[scan.tiers == "train"].mean(axis=0)
    return {
        "single_trial_correlation": table.single_trial_correlation,
        "correlation_to_average": table.correlation_to_average,
        "oracle_correlation": table.oracle_correlation,
        "feve": np.where(table.fev > FEVE_NEEDS_FEV, table.feve, np.nan),
        "deviance_explained": deviance_explained(rates, test.responses, training_mean),
        "true_rate_correlation": true,
    }


def deviance_explained(rates: Array, responses: Array, mean: Array) -> Array:
    """Fraction of the Poisson deviance that rates remove, of what the mean response leaves, (U,).

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
