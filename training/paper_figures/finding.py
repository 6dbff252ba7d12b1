"""One finding, and the curves that it is read from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from mousev1.metrics.intervals import Interval, mean_interval
from training.paper_figures.comparisons import Cells, Paired, Place, gather
from training.paper_figures.results import Results, Series

HOLDS, FAILS, UNDECIDED, UNKNOWN = "holds", "does not hold", "undecided", "not measured"
NOTHING = mean_interval([])


@dataclass(frozen=True)
class Finding:
    """Whether one of the paper's findings holds.

    Attributes:
        key: short name; ``training.paper_figures.published_values`` refers to it.
        claim: the finding.
        family: how readouts were fitted, or empty if nothing was measured.
        verdict: ``"holds"``, ``"does not hold"``, ``"undecided"`` or ``"not measured"``.
        effect: what the verdict rests on: a mean difference in the score; for data efficiency the share of
            images needed.
        places: number of combinations of neurons, images and the rest that were compared.
        in_favour: at how many of them the difference is positive.
        gain: relative gain with most neurons and images; for data efficiency the share of images.
        gain_at: neurons and images of that gain.
        note: what else a reader must know.
    """

    key: str
    claim: str
    family: str = ""
    verdict: str = UNKNOWN
    effect: Interval = NOTHING
    places: int = 0
    in_favour: int = 0
    gain: Interval = NOTHING
    gain_at: Place | None = None
    note: str = ""


def verdict_of(effect: Interval, *, margin: float = 0.0) -> str:
    """What a mean difference says; with a margin, a first condition that is hardly worse also holds."""
    if math.isnan(effect.low):
        return UNDECIDED
    if effect.low > -margin:
        return HOLDS
    return FAILS if effect.high < 0 else UNDECIDED


@dataclass(frozen=True)
class Family:
    """The curves of one way to fit readouts.

    Attributes:
        results: of one benchmark.
        score: column of results that is compared.
        family: ``training.paper_figures.results.RECIPE`` or ``CONVEX``.
    """

    results: Results
    score: str
    family: str

    def where(self, wanted: Callable[[Series], bool]) -> list[Series]:
        """The curves that answer to a description."""
        return self.results.where(lambda s: s.family == self.family and wanted(s))

    def direct(self, scope: str) -> tuple[list[Series], str]:
        """Cores trained on the scan itself; those of the other family, with a note, if need be."""
        own = self.where(lambda s: s.direct and s.scope == scope)
        if own:
            return own, ""
        other = self.results.where(lambda s: s.direct and s.scope == scope)
        return other, "direct models keep the readout they were trained with" if other else ""

    def cells(
        self,
        series: list[Series],
        context: Callable[[Series], tuple[object, ...]],
        reduce: Callable[..., float] = fmean,
        score: str | None = None,
    ) -> Cells:
        """Scores of some curves by place and partition; see ``training.paper_figures.comparisons.gather``."""
        return gather(self.results, series, score or self.score, context, reduce)

    def finding(
        self, key: str, claim: str, comparison: Paired, *, margin: float = 0.0, note: str = ""
    ) -> Finding:
        """What a comparison says about a claim."""
        if not comparison.places:
            return Finding(key, claim)
        place, gain = comparison.largest()
        return Finding(
            key=key,
            claim=claim,
            family=self.family,
            verdict=verdict_of(comparison.pooled, margin=margin),
            effect=comparison.pooled,
            places=comparison.places,
            in_favour=comparison.in_favour,
            gain=gain,
            gain_at=place,
            note=note,
        )
