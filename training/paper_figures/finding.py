"""One finding, and the rows that it is read from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mousev1.metrics.intervals import Interval, mean_interval
from training.paper_figures.comparisons import Comparison, Size, scores_by_partition
from training.paper_figures.results import ACROSS, Results

HOLDS, FAILS, UNDECIDED, UNKNOWN = "holds", "does not hold", "undecided", "not measured"
NOTHING = mean_interval([])


@dataclass(frozen=True)
class Finding:
    """Whether one of the paper's findings holds."""

    key: str  # short name; ``training.paper_figures.published_values`` refers to it
    claim: str  # the finding
    fit_method: str = ""  # how readouts were fitted, or empty if nothing was measured
    verdict: str = UNKNOWN  # ``"holds"``, ``"does not hold"``, ``"undecided"`` or ``"not measured"``
    # what the verdict rests on: a mean difference in the score; for data efficiency the share of images needed
    effect: Interval = NOTHING
    compared: int = 0  # number of combinations of neurons, images and the rest that were compared
    in_favour: int = 0  # for how many of them the difference is positive
    # relative gain with most neurons and images; for data efficiency the share of images
    gain: Interval = NOTHING
    gain_at: Size | None = None  # neurons and images of that gain
    note: str = ""  # what else a reader must know


def verdict_of(effect: Interval, *, margin: float = 0.0) -> str:
    """The verdict on a mean difference; with a margin, a first condition that is hardly worse also holds."""
    if math.isnan(effect.low):
        return UNDECIDED
    if effect.low > -margin:
        return HOLDS
    return FAILS if effect.high < 0 else UNDECIDED


@dataclass(frozen=True)
class MethodRows:
    """Rows of one way to fit readouts (``RECIPE`` or ``CONVEX``), and the column of results that is compared."""

    results: Results
    score: str
    fit_method: str

    def where(self, query: str) -> pd.DataFrame:
        """Rows that answer to a query of pandas, of readouts that were fitted this way."""
        return self.results.rows.query(f"fit_method == '{self.fit_method}' and {query}")

    def direct(self) -> tuple[pd.DataFrame, str]:
        """Across animals, cores trained on the scan itself; fitted the other way, with a note, if need be."""
        query = f"direct and scope == '{ACROSS}'"
        if len(own := self.where(query)):
            return own, ""
        other = self.results.rows.query(query)
        return other, "direct models keep the readout they were trained with" if len(other) else ""

    def scores(self, rows: pd.DataFrame | str, context: Sequence[str], reduce: str = "mean") -> pd.Series:
        """Scores of some rows, or of what answers to a query; see ``comparisons.scores_by_partition``."""
        rows = self.where(rows) if isinstance(rows, str) else rows
        return scores_by_partition(rows, self.score, context, reduce)

    def finding(
        self, key: str, claim: str, comparison: Comparison, *, margin: float = 0.0, note: str = ""
    ) -> Finding:
        """What a comparison says about a claim."""
        if not comparison.count:
            return Finding(key, claim)
        verdict, (size, gain) = verdict_of(comparison.pooled, margin=margin), comparison.largest()
        counts = comparison.count, comparison.in_favour
        return Finding(key, claim, self.fit_method, verdict, comparison.pooled, *counts, gain, size, note)
