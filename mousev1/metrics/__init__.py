"""How well predictions meet recordings: scores per neuron and per population, with intervals."""

from mousev1.metrics.score_table import ScoreTable, score_table
from mousev1.metrics.unit_scores import (
    FractionOracle,
    ccnorm,
    correlation,
    correlation_to_average,
    fev,
    feve,
    fit_fraction_oracle,
    fraction_oracle,
    oracle_correlation,
    poisson_loss,
    single_trial_correlation,
)

__all__ = [
    "FractionOracle",
    "ScoreTable",
    "ccnorm",
    "correlation",
    "correlation_to_average",
    "fev",
    "feve",
    "fit_fraction_oracle",
    "fraction_oracle",
    "oracle_correlation",
    "poisson_loss",
    "score_table",
    "single_trial_correlation",
]
