"""How many images a transferred core needs for what direct training reaches with all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from mousev1.metrics.intervals import Interval, mean_interval
from training.paper_figures.comparisons import Size
from training.paper_figures.finding import FAILS, UNDECIDED, MethodRows, verdict_of
from training.paper_figures.results import GAUSSIAN, GAUSSIAN_CORTEX


def images_share(rows: MethodRows, core: str) -> tuple[dict[int, float], Size | None]:
    """Share of the images with which a core reaches the direct model's score with all of them.

    With the most neurons that both have; with cortical positions if there are such readouts. Gives the share by
    partition, infinite where the score is not reached, and neurons and images of the direct model; nothing if either
    was not measured.
    """
    direct, _ = rows.direct()
    for readout in (GAUSSIAN_CORTEX, GAUSSIAN):
        own = rows.where(f"transferred and core == {core!r} and readout == '{readout}'")
        same = direct[direct["readout"] == readout]
        reference = same if len(same) else direct
        common = set(own["units"]) & set(reference["units"])
        if not common:
            continue
        units = max(common)
        reference = reference[reference["units"] == units]
        full = reference["images"].max()
        measured = reference[reference["images"] == full].dropna(subset=[rows.score])
        goals = rows.scores(measured, [], "max").droplevel(["units", "images"])
        points = rows.scores(own[own["units"] == units], [], "max").droplevel("units").unstack("images")
        shares = {
            int(partition): images_needed(points.loc[partition].dropna().to_dict(), goals[partition]) / full
            for partition in goals.index.intersection(points.index)
        }
        return shares, Size(units, full)
    return {}, None


def share_interval(shares: Mapping[int, float]) -> tuple[Interval, str]:
    """Geometric mean of shares with its 95% interval (Student's t on logarithms), and the verdict."""
    missed = [math.isinf(share) for share in shares.values()]
    if any(missed):
        verdict = FAILS if all(missed) and len(shares) > 1 else UNDECIDED
        return Interval(math.inf, math.nan, math.nan, len(shares)), verdict
    saved = mean_interval(-math.log(share) for share in shares.values())
    mean, low, high = (math.exp(-end) for end in (saved.mean, saved.high, saved.low))
    return Interval(mean, low, high, saved.count), verdict_of(saved)


def images_needed(curve: Mapping[int, float], target: float) -> float:
    """Images at which a curve reaches a score, straight lines between its points over log images.

    The smallest number measured if that is enough already; infinity if the score is not reached.
    """
    counts = sorted(curve)
    if curve[counts[0]] >= target:
        return float(counts[0])
    for low, high in pairwise(counts):
        if curve[low] < target <= curve[high]:
            fraction = (target - curve[low]) / (curve[high] - curve[low])
            return float(low * (high / low) ** fraction)
    return math.inf
