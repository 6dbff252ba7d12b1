"""How many images a transferred core needs for what direct training reaches with all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from mousev1.metrics.intervals import Interval, mean_interval
from training.paper_figures.comparisons import Place, merged
from training.paper_figures.finding import FAILS, HOLDS, UNDECIDED, Family
from training.paper_figures.results import ACROSS, GAUSSIAN, GAUSSIAN_CORTEX, Results, Values


def images_share(
    results: Results, core: str, score: str, family: str
) -> tuple[dict[int, float], Place | None]:
    """Share of the images with which a core reaches the direct model's score with all of them.

    With the most neurons that both have; with cortical positions if there are such readouts.

    Args:
        results: of one benchmark.
        core: label.
        score: column of results.
        family: how readouts were fitted.

    Returns:
        Share by partition, infinite where the score is not reached, and neurons and images of the direct
        model; nothing if either was not measured.
    """
    rows = Family(results, score, family)
    direct, _ = rows.direct(ACROSS)
    own = rows.where(lambda s: s.transferred and s.core == core)
    for readout in (GAUSSIAN_CORTEX, GAUSSIAN):
        curves = [s for s in own if s.readout == readout]
        reference = [s for s in direct if s.readout == readout] or direct
        common = set(results.units(curves)) & set(results.units(reference))
        if not common:
            continue
        units = max(common)
        full = max(results.images(reference, units))
        targets = [results.values(s, full, units, score) for s in reference]
        goal = merged([part for part in targets if part] or [{}], max)
        counts = results.images(curves, units)
        points = {n: merged([results.values(s, n, units, score) for s in curves], max) for n in counts}
        shares = {}
        for partition, target in goal.items():
            curve = {n: values[partition] for n, values in points.items() if partition in values}
            if curve:
                shares[partition] = images_needed(curve, target) / full
        return shares, Place(units, full, ())
    return {}, None


def share_interval(shares: Values) -> tuple[Interval, str]:
    """Geometric mean of shares with its 95% interval (Student's t on logarithms), and the verdict."""
    if any(math.isinf(share) for share in shares.values()):
        all_missed = all(math.isinf(share) for share in shares.values())
        verdict = FAILS if all_missed and len(shares) > 1 else UNDECIDED
        return Interval(math.inf, math.nan, math.nan, len(shares)), verdict
    logs = mean_interval(math.log(share) for share in shares.values())
    effect = Interval(math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high), logs.count)
    if math.isnan(effect.low):
        return effect, UNDECIDED
    if effect.high < 1:
        return effect, HOLDS
    return effect, FAILS if effect.low > 1 else UNDECIDED


def images_needed(curve: Mapping[int, float], target: float) -> float:
    """Images at which a curve reaches a score, straight lines between its points over log images.

    Args:
        curve: number of images to score.
        target: the score.

    Returns:
        The smallest number measured if that is enough already; infinity if the score is not reached.
    """
    counts = sorted(curve)
    if curve[counts[0]] >= target:
        return float(counts[0])
    for low, high in pairwise(counts):
        if curve[low] < target <= curve[high]:
            share = (target - curve[low]) / (curve[high] - curve[low])
            return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    return math.inf
