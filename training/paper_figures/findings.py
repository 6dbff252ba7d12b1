"""The paper's findings, checked against the rows of a benchmark.

Each finding is a difference between two conditions at equal numbers of neurons and images, paired by
partition. It *holds* if the 95% interval of the mean difference over partitions (Student's t) is above
zero, *does not hold* if it is below, and is *undecided* otherwise, or with fewer than two partitions. Of
several model seeds the best by validation counts. Findings are not corrected for being many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pandas as pd

from mousev1.metrics.intervals import mean_interval
from training.paper_figures.comparisons import Comparison, pool
from training.paper_figures.data_efficiency import images_share, share_interval
from training.paper_figures.finding import FAILS, HOLDS, UNDECIDED, UNKNOWN, Finding, MethodRows, verdict_of
from training.paper_figures.results import CONVEX, GAUSSIAN, GAUSSIAN_CORTEX, RECIPE, Results
from training.transfer_benchmark.config import BEST_CORE, DIFF_CORE

MARGIN = 0.01
"""By how much cores of unmatched neurons may fall behind and matched neurons still not be needed."""

READOUT = ["readout", "sharing", "scan"]

# Queries of ``Results.rows``.
GAUSSIANS = f"direct and readout in ['{GAUSSIAN}', '{GAUSSIAN_CORTEX}']"
FACTORIZED = "direct and readout == 'factorized'"
TRAINED = "transferred and not random"
ONE, ELEVEN = f"{TRAINED} and core_set == '1-S'", f"{TRAINED} and core_set == '11-S'"
MATCHED, DIFFERENT = (
    f"{TRAINED} and core_set == '4-S:matched'",
    f"{TRAINED} and core_set == '4-S:diff-animals'",
)
FOUR = f"{TRAINED} and core_set in ['4-S:matched', '4-S:diff-animals']"


def findings(results: Results, score: str = "fraction_oracle") -> list[Finding]:
    """Every finding in a column of results, for each way in which readouts were fitted."""
    checks: list[Callable[[MethodRows], Iterator[Finding]]] = [
        _gaussian_over_factorized,
        _sharing,
        _best_core_over_diff_core,
        _more_scans,
        _matched_not_needed,
        _cortex_at_few_images,
        _over_vgg,
        _random_last,
        _data_efficiency,
    ]
    methods = [method for method in (RECIPE, CONVEX) if method in set(results.rows["fit_method"])]
    found: list[Finding] = []
    for check in checks:
        parts = [part for method in methods for part in check(MethodRows(results, score, method))]
        measured = [part for part in parts if part.verdict != UNKNOWN]
        known = {part.key for part in measured}
        # Once for what was measured in neither way.
        found += [*measured, *{part.key: part for part in parts if part.key not in known}.values()]
    return found


# ---------------------------------------------------------------- readouts, Figure 3


def _gaussian_over_factorized(rows: MethodRows) -> Iterator[Finding]:
    best = (rows.scores(_best_curves(rows.where(query)), ["scan"]) for query in (GAUSSIANS, FACTORIZED))
    yield rows.finding(
        "gaussian-over-factorized",
        "the Gaussian readout is better than the factorized one",
        Comparison.of(*best),
        note="the best of each by validation, with or without sharing, with or without cortical positions",
    )


def _best_curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each scan and number of neurons and images, the curve with the best mean validation correlation."""
    at = ["units", "images", "scan"]
    means = rows.groupby([*at, "curve"])["validation_correlation"].transform("mean").fillna(-math.inf)
    ranked = rows.assign(mean=means).sort_values("mean", ascending=False, kind="stable")
    return ranked[ranked["curve"] == ranked.groupby(at)["curve"].transform("first")]


def _sharing(rows: MethodRows) -> Iterator[Finding]:
    def effect(readouts: str) -> tuple[pd.Series, pd.Series]:
        shared, apart = f"{readouts} and sharing", f"{readouts} and not sharing"
        return rows.scores(shared, ["readout", "scan"]), rows.scores(apart, ["readout", "scan"])

    shared, apart = effect(GAUSSIANS)
    claim = "feature sharing helps the Gaussian readout"
    yield rows.finding("sharing-helps-gaussian", claim, Comparison.of(shared, apart))
    shared, apart = effect(FACTORIZED)
    claim = "feature sharing hurts the factorized readout"
    yield rows.finding("sharing-hurts-factorized", claim, Comparison.of(apart, shared))


# ---------------------------------------------------------------- within an animal, Figure 4


def _best_core_over_diff_core(rows: MethodRows) -> Iterator[Finding]:
    best = rows.scores(f"condition == '{BEST_CORE}'", [*READOUT, "core"])
    diff = rows.scores(f"condition == '{DIFF_CORE}'", [*READOUT, "core"])
    counts = Comparison.of(best, diff).differences.index.unique("images")
    note = ""
    if len(counts) > 1:
        best = best[best.index.get_level_values("images") < counts.max()]
        note = f"without {counts.max():,} images, where both conditions use all of them"
    yield rows.finding(
        "best-core-over-diff-core",
        "a readout on few images with a core on all is better than a core on few with a readout on all",
        Comparison.of(best, diff),
        note=note,
    )


# ---------------------------------------------------------------- across animals, Figure 5


def _eleven_scans(rows: MethodRows) -> Iterator[tuple[str, str, pd.Series]]:
    """Label, name in claims and scores of every core of 11 scans; no scores if there is no such core."""
    eleven = rows.where(ELEVEN)
    for label in list(eleven["core"].unique()) or ["11-S"]:
        name = label if label == "11-S" else f"11-S ('{label}')"
        yield label, name, rows.scores(eleven[eleven["core"] == label], READOUT)


def _more_scans(rows: MethodRows) -> Iterator[Finding]:
    direct_rows, note = rows.direct()
    direct = rows.scores(direct_rows, READOUT)
    one, four = rows.scores(ONE, READOUT), rows.scores(FOUR, READOUT)
    for _, name, own in _eleven_scans(rows):
        yield rows.finding("11-S-over-4-S", f"{name} is better than 4-S", Comparison.of(own, four))
        yield rows.finding("11-S-over-1-S", f"{name} is better than 1-S", Comparison.of(own, one))
        claim = f"{name} is better than direct training"
        yield rows.finding("11-S-over-direct", claim, Comparison.of(own, direct), note=note)
    claim = "4-S is better than direct training"
    yield rows.finding("4-S-over-direct", claim, Comparison.of(four, direct), note=note)


def _matched_not_needed(rows: MethodRows) -> Iterator[Finding]:
    yield rows.finding(
        "matched-not-needed",
        "matched neurons are not needed: 4-S:diff-animals is not worse than 4-S:matched",
        Comparison.of(rows.scores(DIFFERENT, READOUT), rows.scores(MATCHED, READOUT)),
        margin=MARGIN,
        note=f"the difference is 4-S:diff-animals minus 4-S:matched; it may be as low as -{MARGIN}",
    )


def _cortex_at_few_images(rows: MethodRows) -> Iterator[Finding]:
    key, claim = "cortex-at-few-images", "cortical positions help, and most at few images"
    context = ["core", "core_set", "sharing", "scan"]
    with_cortex, without = (
        rows.scores(f"{TRAINED} and readout == '{readout}'", context)
        for readout in (GAUSSIAN_CORTEX, GAUSSIAN)
    )
    gains = Comparison.of(with_cortex, without).differences
    images = gains.index.get_level_values("images").to_series(index=gains.index)
    of_curve = images.groupby(level=["units", *context])
    fewest, most = of_curve.transform("min"), of_curve.transform("max")
    # Compared with each other, whatever their numbers of images.
    few, many = (gains[(images == end) & (fewest < most)].droplevel("images") for end in (fewest, most))
    growth = Comparison.of(few, many)
    if not growth.count:
        yield Finding(key, claim)
        return
    at_few, at_many = mean_interval(pool(few)), mean_interval(pool(many))
    verdicts = {verdict_of(at_few), verdict_of(growth.pooled)}
    verdict = next(v for v in (FAILS, UNDECIDED, HOLDS) if v in verdicts)
    note = (
        f"gain at {images.min():,} images ({at_few}) minus gain at {images.max():,} ({at_many}), over cores "
        "that are not random; both must be above zero"
    )
    counts = growth.count, growth.in_favour
    yield Finding(key, claim, rows.fit_method, verdict, growth.pooled, *counts, note=note)


def _over_vgg(rows: MethodRows) -> Iterator[Finding]:
    vgg = rows.scores("transferred and kind == 'VGG16'", READOUT)
    for _, name, own in _eleven_scans(rows):
        claim = f"{name} is better than VGG16 with ImageNet weights"
        yield rows.finding("11-S-over-VGG16", claim, Comparison.of(own, vgg))


def _random_last(rows: MethodRows) -> Iterator[Finding]:
    random = rows.scores("transferred and random", READOUT, "max")
    yield rows.finding(
        "random-last",
        "cores with random weights come last",
        Comparison.of(rows.scores(TRAINED, READOUT, "min"), random),
        note="the worst of the other transferred cores minus the best random one, in each partition; "
        "direct training is not among them",
    )


def _data_efficiency(rows: MethodRows) -> Iterator[Finding]:
    key = "data-efficiency"
    for label, name, _ in _eleven_scans(rows):
        claim = f"{name} reaches the direct model's full-data score with fewer images"
        shares, size = images_share(rows, label)
        if not shares:
            yield Finding(key, claim)
            continue
        effect, verdict = share_interval(shares)
        missed = sum(math.isinf(share) for share in shares.values())
        notes = [f"not reached in {missed} of {len(shares)} partitions"] * bool(missed) + [rows.direct()[1]]
        in_favour, note = int(effect.mean < 1), "; ".join(note for note in notes if note)
        yield Finding(key, claim, rows.fit_method, verdict, effect, 1, in_favour, effect, size, note)
