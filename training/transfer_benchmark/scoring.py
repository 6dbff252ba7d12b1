"""How well models predict scans: one set of scores for every comparison of cores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mousev1.data.scan import Scan, Trials
from mousev1.metrics.population_scores import Truth as Truth
from mousev1.metrics.unit_scores import (
    correlation,
    correlation_to_average,
    fraction_oracle,
    oracle_correlation,
    single_trial_correlation,
)
from mousev1.model.response_model import ResponseModel

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Scores:
    """Means over the units where they are defined; None where there is no such unit.

    Attributes:
        single_trial_correlation: with single test trials.
        correlation_to_average: with the average over repeats of a test image.
        fraction_oracle: slope of single-trial on oracle correlation.
        undefined_units: number of units without a single-trial correlation.
        true_rate_correlation: with the true rates of test images, over units that respond to images; None
            where the truth is not known.
    """

    single_trial_correlation: float | None
    correlation_to_average: float | None
    fraction_oracle: float | None
    undefined_units: int
    true_rate_correlation: float | None


def read_truth(path: Path) -> Truth:
    """The truth behind a simulated scan, as ``training.simulation`` writes it or under older names."""
    with np.load(path) as arrays:
        simulation = "rate_image_id" in arrays
        ids, rates, dead = (
            ("rate_image_id", "rate", "silent") if simulation else ("test_image_id", "rate_test", "dead")
        )
        return Truth(arrays[ids], arrays[rates], ~arrays[dead])


def score_tests(
    scans: Sequence[Scan], models: Sequence[ResponseModel], truths: Sequence[Truth | None]
) -> Scores:
    """Scores on the test tier over all units of all scans, each with a model and a truth of its own."""
    single, average, oracle, true = [], [], [], []
    for scan, model, truth in zip(scans, models, truths, strict=True):
        test = scan.trials("test")
        image_ids, rates = predict_images(model, test)
        trial_rates = rates[np.searchsorted(image_ids, test.image_ids)]
        single.append(single_trial_correlation(trial_rates, test.responses))
        average.append(correlation_to_average(trial_rates, test.responses, test.image_ids))
        oracle.append(oracle_correlation(test.responses, test.image_ids))
        if truth is not None:
            true.append(correlation(rates, truth.of_images(image_ids))[truth.live])
    correlations, best = np.concatenate(single), np.concatenate(oracle)
    fraction = fraction_oracle(correlations, best)
    return Scores(
        single_trial_correlation=mean_defined(correlations),
        correlation_to_average=mean_defined(np.concatenate(average)),
        fraction_oracle=fraction if math.isfinite(fraction) else None,
        undefined_units=int(np.isnan(correlations).sum()),
        true_rate_correlation=mean_defined(np.concatenate(true)) if true else None,
    )


def validation_correlation(scans: Sequence[Scan], models: Sequence[ResponseModel]) -> float | None:
    """Mean correlation with single validation trials over all units of all scans."""
    found = []
    for scan, model in zip(scans, models, strict=True):
        trials = scan.trials("validation")
        if len(trials):
            image_ids, rates = predict_images(model, trials)
            found.append(correlation(rates[np.searchsorted(image_ids, trials.image_ids)], trials.responses))
    return mean_defined(np.concatenate(found)) if found else None


def predict_images(model: ResponseModel, trials: Trials) -> tuple[Array, Array]:
    """Ids (I,) of the distinct images of trials, ascending, and their predicted rates (I, U)."""
    image_ids, first = np.unique(trials.image_ids, return_index=True)
    return image_ids, model.predict(trials.images[first])


def mean_defined(values: Array) -> float | None:
    """Mean of the values that are finite, None if there are none."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else None
