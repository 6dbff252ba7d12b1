"""The paper's findings, checked against the rows of a benchmark.

Each finding is a difference between two conditions at equal numbers of neurons and images, paired by
partition. It *holds* if the 95% interval of the mean difference over partitions (Student's t) is above
zero, *does not hold* if it is below, and is *undecided* otherwise, or with fewer than two partitions. Of
several model seeds the best by validation counts. Findings are not corrected for being many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from mousev1.metrics.intervals import mean_interval
from training.paper_figures.comparisons import Cells, Place, paired, pool
from training.paper_figures.data_efficiency import images_share, share_interval
from training.paper_figures.finding import FAILS, HOLDS, UNDECIDED, UNKNOWN, Family, Finding, verdict_of
from training.paper_figures.palette import is_imagenet_vgg, is_random
from training.paper_figures.results import (
    ACROSS,
    BEST_CORE,
    CONVEX,
    DIFF_CORE,
    GAUSSIAN,
    GAUSSIAN_CORTEX,
    RECIPE,
    Results,
    Series,
    Values,
)

MARGIN = 0.01
"""By how much cores of unmatched neurons may fall behind and matched neurons still not be needed."""


def findings(results: Results, score: str = "fraction_oracle") -> list[Finding]:
    """Every finding, for each way in which readouts were fitted.

    Args:
        results: of one benchmark.
        score: column of results that is compared.
    """
    checks: list[Callable[[Family], Iterator[Finding]]] = [
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
    present = {series.family for series in results.series}
    families = [family for family in (RECIPE, CONVEX) if family in present]
    found = []
    for check in checks:
        measured = [part for family in families for part in check(Family(results, score, family))]
        known = {part.key for part in measured if part.verdict != UNKNOWN}
        shown = [part for part in measured if part.verdict != UNKNOWN]
        # Once for what no family has.
        missing = {part.key: part for part in measured if part.key not in known}
        found += shown + list(missing.values())
    return found


def _readout(series: Series) -> tuple[object, ...]:
    return series.readout, series.sharing, series.scan


def _scan(series: Series) -> tuple[object, ...]:
    return (series.scan,)


# ---------------------------------------------------------------- readouts, Figure 3


def _gaussian_over_factorized(rows: Family) -> Iterator[Finding]:
    direct = rows.where(lambda s: s.direct)
    gaussian = [s for s in direct if s.readout in (GAUSSIAN, GAUSSIAN_CORTEX)]
    factorized = [s for s in direct if s.readout == "factorized"]
    yield rows.finding(
        "gaussian-over-factorized",
        "the Gaussian readout is better than the factorized one",
        paired(_best_variant(rows, gaussian), _best_variant(rows, factorized)),
        note="the best of each by validation, with or without sharing, with or without cortical positions",
    )


def _best_variant(rows: Family, series: list[Series]) -> Cells:
    """At every place, the curve with the best mean validation correlation."""
    best: dict[Place, tuple[float, Values]] = {}
    for curve in series:
        validation = rows.cells([curve], _scan, score="validation_correlation")
        for place, values in rows.cells([curve], _scan).items():
            how = mean_interval(validation.get(place, {}).values()).mean
            how = -math.inf if math.isnan(how) else how
            if place not in best or how > best[place][0]:
                best[place] = how, values
    return {place: values for place, (_, values) in best.items()}


def _sharing(rows: Family) -> Iterator[Finding]:
    def context(series: Series) -> tuple[object, ...]:
        return series.readout, series.scan

    for key, claim, readouts, helps in (
        ("sharing-helps-gaussian", "feature sharing helps the Gaussian readout", ("gaussian",), True),
        ("sharing-hurts-factorized", "feature sharing hurts the factorized readout", ("factorized",), False),
    ):
        kinds = (GAUSSIAN, GAUSSIAN_CORTEX) if readouts == ("gaussian",) else readouts
        shared, apart = (
            rows.cells(
                rows.where(lambda s: s.direct and s.readout in kinds and s.sharing is want),  # noqa: B023
                context,
            )
            for want in (True, False)
        )
        yield rows.finding(key, claim, paired(shared, apart) if helps else paired(apart, shared))


# ---------------------------------------------------------------- within an animal, Figure 4


def _best_core_over_diff_core(rows: Family) -> Iterator[Finding]:
    def context(series: Series) -> tuple[object, ...]:
        return series.readout, series.sharing, series.core, series.scan

    best = rows.cells(rows.where(lambda s: s.condition == BEST_CORE), context)
    diff = rows.cells(rows.where(lambda s: s.condition == DIFF_CORE), context)
    counts = {place.images for place in best.keys() & diff.keys()}
    note = ""
    if len(counts) > 1:
        best = {place: values for place, values in best.items() if place.images < max(counts)}
        note = f"without {max(counts):,} images, where both conditions use all of them"
    yield rows.finding(
        "best-core-over-diff-core",
        "a readout on few images with a core on all is better than a core on few with a readout on all",
        paired(best, diff),
        note=note,
    )


# ---------------------------------------------------------------- across animals, Figure 5


def _transferred(rows: Family, core_set: str) -> list[Series]:
    return rows.where(lambda s: s.transferred and s.core_set == core_set and not is_random(s.core))


def _labels(series: list[Series]) -> list[str]:
    return list(dict.fromkeys(curve.core for curve in series))


def _more_scans(rows: Family) -> Iterator[Finding]:
    direct_series, note = rows.direct(ACROSS)
    direct = rows.cells(direct_series, _readout)
    four = _transferred(rows, "4-S:matched") + _transferred(rows, "4-S:diff-animals")
    one = _transferred(rows, "1-S")
    eleven = _transferred(rows, "11-S")
    for label in _labels(eleven) or ["11-S"]:
        own = rows.cells([s for s in eleven if s.core == label], _readout)
        name = label if label == "11-S" else f"11-S ('{label}')"
        yield rows.finding(
            "11-S-over-4-S", f"{name} is better than 4-S", paired(own, rows.cells(four, _readout))
        )
        yield rows.finding(
            "11-S-over-1-S", f"{name} is better than 1-S", paired(own, rows.cells(one, _readout))
        )
        yield rows.finding(
            "11-S-over-direct", f"{name} is better than direct training", paired(own, direct), note=note
        )
    yield rows.finding(
        "4-S-over-direct",
        "4-S is better than direct training",
        paired(rows.cells(four, _readout), direct),
        note=note,
    )


def _matched_not_needed(rows: Family) -> Iterator[Finding]:
    matched = rows.cells(_transferred(rows, "4-S:matched"), _readout)
    different = rows.cells(_transferred(rows, "4-S:diff-animals"), _readout)
    yield rows.finding(
        "matched-not-needed",
        "matched neurons are not needed: 4-S:diff-animals is not worse than 4-S:matched",
        paired(different, matched),
        margin=MARGIN,
        note=f"the difference is 4-S:diff-animals minus 4-S:matched; it may be as low as -{MARGIN}",
    )


def _cortex_at_few_images(rows: Family) -> Iterator[Finding]:
    key, claim = "cortex-at-few-images", "cortical positions help, and most at few images"

    def context(series: Series) -> tuple[object, ...]:
        return series.core, series.core_set, series.sharing, series.scan

    trained = [s for s in rows.where(lambda s: s.transferred) if not is_random(s.core)]
    with_cortex = rows.cells([s for s in trained if s.readout == GAUSSIAN_CORTEX], context)
    without = rows.cells([s for s in trained if s.readout == GAUSSIAN], context)
    gains = paired(with_cortex, without).differences
    few: Cells = {}
    many: Cells = {}
    for units, label in {(place.units, place.context) for place in gains}:
        counts = sorted(p.images for p in gains if (p.units, p.context) == (units, label))
        if len(counts) > 1:
            # Compared with each other, whatever their numbers of images.
            few[Place(units, 0, label)] = gains[Place(units, counts[0], label)]
            many[Place(units, 0, label)] = gains[Place(units, counts[-1], label)]
    comparison = paired(few, many)
    if not comparison.places:
        yield Finding(key, claim)
        return
    at_few = mean_interval(pool(few).values())
    verdicts = {verdict_of(at_few), verdict_of(comparison.pooled)}
    counts = sorted({place.images for place in gains})
    yield Finding(
        key=key,
        claim=claim,
        family=rows.family,
        verdict=next(v for v in (FAILS, UNDECIDED, HOLDS) if v in verdicts),
        effect=comparison.pooled,
        places=comparison.places,
        in_favour=comparison.in_favour,
        note=f"gain at {counts[0]:,} images ({at_few}) minus gain at {counts[-1]:,} "
        f"({mean_interval(pool(many).values())}), over cores that are not random; both must be above zero",
    )


def _over_vgg(rows: Family) -> Iterator[Finding]:
    vgg = rows.cells(rows.where(lambda s: s.transferred and is_imagenet_vgg(s.core)), _readout)
    eleven = _transferred(rows, "11-S")
    for label in _labels(eleven) or ["11-S"]:
        own = rows.cells([s for s in eleven if s.core == label], _readout)
        name = label if label == "11-S" else f"11-S ('{label}')"
        yield rows.finding(
            "11-S-over-VGG16", f"{name} is better than VGG16 with ImageNet weights", paired(own, vgg)
        )


def _random_last(rows: Family) -> Iterator[Finding]:
    transferred = rows.where(lambda s: s.transferred)
    random = rows.cells([s for s in transferred if is_random(s.core)], _readout, max)
    others = rows.cells([s for s in transferred if not is_random(s.core)], _readout, min)
    yield rows.finding(
        "random-last",
        "cores with random weights come last",
        paired(others, random),
        note="the worst of the other transferred cores minus the best random one, in each partition; "
        "direct training is not among them",
    )


def _data_efficiency(rows: Family) -> Iterator[Finding]:
    eleven = _transferred(rows, "11-S")
    for label in _labels(eleven) or ["11-S"]:
        name = label if label == "11-S" else f"11-S ('{label}')"
        claim = f"{name} reaches the direct model's full-data score with fewer images"
        shares, target = images_share(rows.results, label, rows.score, rows.family)
        if not shares:
            yield Finding("data-efficiency", claim)
            continue
        effect, verdict = share_interval(shares)
        missed = sum(math.isinf(share) for share in shares.values())
        note = f"not reached in {missed} of {len(shares)} partitions" if missed else ""
        yield Finding(
            key="data-efficiency",
            claim=claim,
            family=rows.family,
            verdict=verdict,
            effect=effect,
            places=1,
            in_favour=int(effect.mean < 1),
            gain=effect,
            gain_at=target,
            note="; ".join(part for part in (note, rows.direct(ACROSS)[1]) if part),
        )
