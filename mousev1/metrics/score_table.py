"""The scores of a model in one table, one row per neuron."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mousev1.metrics.intervals import mean_of_defined
from mousev1.metrics.unit_scores import (
    FEVE_NEEDS_FEV,
    Float,
    FractionOracle,
    ccnorm,
    correlation_to_average,
    fev,
    feve,
    fit_fraction_oracle,
    oracle_correlation,
    paired,
    single_trial_correlation,
)
from mousev1.storage.table import Table


@dataclass(frozen=True, eq=False)
class ScoreTable(Table):
    """Scores of a model, one row per neuron; NaN where a score is undefined for a neuron.

    Attributes:
        unit_ids: (U,) whole numbers.
        single_trial_correlation: (U,), see the function of that name.
        correlation_to_average: (U,), all NaN without repeated images, as are the columns below.
        oracle_correlation: (U,).
        fev: (U,) fraction of explainable variance.
        feve: (U,) fraction of explainable variance explained.
        ccnorm: (U,) correlation to average, corrected for the noise of these averages.
    """

    unit_ids: NDArray[Any]
    single_trial_correlation: Float
    correlation_to_average: Float
    oracle_correlation: Float
    fev: Float
    feve: Float
    ccnorm: Float

    def __post_init__(self) -> None:
        units = len(self.unit_ids)
        for name, column in self.columns.items():
            if column.shape != (units,):
                raise ValueError(f"{name}: expected ({units},), one per neuron, got {column.shape}")

    @property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Scores per neuron by name, read-only: ``unit_id``, ``single_trial_correlation``, ``correlation_to_average``,
        ``oracle_correlation``, ``fev``, ``feve``, ``ccnorm``.
        """
        scores = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "unit_ids"}
        return MappingProxyType({"unit_id": self.unit_ids, **scores})

    @property
    def fraction_oracle(self) -> float:
        """Slope of single-trial on oracle correlation over neurons, see ``fraction_oracle``."""
        return self._oracle_fit().slope

    def __getitem__(self, column: str) -> NDArray[Any]:
        """A column by name; ``KeyError`` lists the valid names."""
        columns = self.columns
        if column not in columns:
            raise KeyError(f"no column {column!r}; there are {', '.join(columns)}")
        return columns[column]

    def summary(self) -> str:
        """Mean of every score over the neurons where it is defined, with the number of the others.

        FEVE and CCnorm are averaged over neurons with a FEV above 0.15, because they mean nothing below.
        """
        columns = {
            "single-trial correlation": self.single_trial_correlation,
            "correlation to average": self.correlation_to_average,
            "oracle correlation": self.oracle_correlation,
            "FEV": self.fev,
            f"FEVE where FEV > {FEVE_NEEDS_FEV}": np.where(self.fev > FEVE_NEEDS_FEV, self.feve, np.nan),
            f"CCnorm where FEV > {FEVE_NEEDS_FEV}": np.where(self.fev > FEVE_NEEDS_FEV, self.ccnorm, np.nan),
        }
        lines = [f"{len(self)} neurons, means over neurons"]
        for label, values in columns.items():
            undefined = int((~np.isfinite(values)).sum())
            lines.append(_score_line(label, mean_of_defined(values), undefined))
        fit = self._oracle_fit()
        lines.append(_score_line("fraction oracle (slope)", fit.slope, fit.n_undefined))
        if len(self) and not np.isfinite(self.oracle_correlation).any():
            lines.append("  no score that needs repeats: no image was repeated, or no response varies")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns as lists of plain values, ready for JSON; ``None`` where undefined."""
        return {
            name: [None if isinstance(v, float) and not math.isfinite(v) else v for v in column.tolist()]
            for name, column in self.columns.items()
        }

    def __str__(self) -> str:
        shown = min(len(self), 5)
        heads = ["neuron", "single", "average", "oracle", "FEV", "FEVE", "CCnorm"]
        lines = ["".join(f"{head:>9}" for head in heads)] if shown else []
        scores = list(self.columns.values())[1:]
        for row in range(shown):
            numbers = "".join(f"{_number(column[row]):>9}" for column in scores)
            lines.append(f"{self.unit_ids[row]!s:>9}{numbers}")
        if len(self) > shown:
            lines.append(f"{'...':>9}")
        return "\n".join([*lines, self.summary()])

    def _oracle_fit(self) -> FractionOracle:
        return fit_fraction_oracle(self.single_trial_correlation, self.oracle_correlation)


def score_table(
    predictions: ArrayLike, responses: ArrayLike, image_ids: ArrayLike, unit_ids: ArrayLike
) -> ScoreTable:
    """All scores of a model on a set of trials.

    Args:
        predictions: (T, U) rates, in the units of the responses.
        responses: (T, U) recorded responses.
        image_ids: (T,) which image each trial showed; equal entries are repeats.
        unit_ids: (U,) names of the neurons.

    Raises:
        ValueError: if shapes do not fit each other; the message names the argument.
    """
    predicted, recorded = paired(predictions, responses)
    units = np.asarray(unit_ids)
    if units.shape != (recorded.shape[1],):
        raise ValueError(
            f"unit_ids: expected ({recorded.shape[1]},), one per column of responses, got {units.shape}"
        )
    return ScoreTable(
        unit_ids=units,
        single_trial_correlation=single_trial_correlation(predicted, recorded),
        correlation_to_average=correlation_to_average(predicted, recorded, image_ids),
        oracle_correlation=oracle_correlation(recorded, image_ids),
        fev=fev(recorded, image_ids),
        feve=feve(predicted, recorded, image_ids),
        ccnorm=ccnorm(predicted, recorded, image_ids),
    )


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"


def _score_line(label: str, value: float, undefined: int) -> str:
    note = f"   ({undefined} neuron{'s' * (undefined > 1)} left out)" if undefined else ""
    return f"  {label:<27}{_number(value):>7}{note}"
