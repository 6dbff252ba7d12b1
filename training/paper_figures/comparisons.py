"""Differences between conditions, paired by partition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mousev1.metrics.intervals import Interval, mean_interval
from training.paper_figures.results import Results, Series, Values


class Place(NamedTuple):
    """Where two conditions are compared: equal numbers of neurons and images, and whatever else must agree."""

    units: int
    images: int
    context: tuple[object, ...]


Cells = dict[Place, Values]


def gather(
    results: Results,
    series: Iterable[Series],
    score: str,
    context: Callable[[Series], tuple[object, ...]],
    reduce: Callable[[Iterable[float]], float],
) -> Cells:
    """Scores of some curves by place and partition.

    Args:
        results: of one benchmark.
        series: the curves.
        score: a column of results.
        context: what must agree between conditions that are compared.
        reduce: makes one number of several curves at one place, in partitions where all have a score.
    """
    found: dict[Place, list[Values]] = {}
    for curve in series:
        for units in results.units([curve]):
            for images in results.images([curve], units):
                values = results.values(curve, images, units, score)
                found.setdefault(Place(units, images, context(curve)), []).append(values)
    return {place: merged(parts, reduce) for place, parts in found.items()}


def merged(parts: list[Values], reduce: Callable[[Iterable[float]], float]) -> Values:
    """One value per partition that is in all parts."""
    common = sorted(set.intersection(*(set(part) for part in parts)))
    return {partition: reduce(part[partition] for part in parts) for partition in common}


@dataclass(frozen=True)
class Paired:
    """One condition against another at every place where both were measured.

    Attributes:
        differences: first minus second, by place and partition.
        ratios: first divided by second, by place and partition, where the second is positive.
    """

    differences: Cells
    ratios: Cells

    @property
    def pooled(self) -> Interval:
        """Mean difference over places, and its 95% interval over partitions."""
        return mean_interval(pool(self.differences).values())

    @property
    def places(self) -> int:
        """Number of places that were compared."""
        return len(self.differences)

    @property
    def in_favour(self) -> int:
        """At how many of them the mean difference is positive."""
        return sum(mean_interval(values.values()).mean > 0 for values in self.differences.values())

    def largest(self) -> tuple[Place | None, Interval]:
        """Relative gain (first / second - 1) where there are most neurons and, of these, most images."""
        if not self.ratios:
            return None, mean_interval([])
        top = max(self.ratios, key=lambda place: place[:2])
        at_top = {place: values for place, values in self.ratios.items() if place[:2] == top[:2]}
        return top, mean_interval(ratio - 1.0 for ratio in pool(at_top).values())


def paired(first: Cells, second: Cells) -> Paired:
    """Differences at common places in common partitions."""
    differences: Cells = {}
    ratios: Cells = {}
    for place in sorted(first.keys() & second.keys(), key=str):
        a, b = first[place], second[place]
        common = sorted(a.keys() & b.keys())
        if common:
            differences[place] = {p: a[p] - b[p] for p in common}
        if positive := {p: a[p] / b[p] for p in common if b[p] > 0}:
            ratios[place] = positive
    return Paired(differences, ratios)


def pool(cells: Mapping[Place, Values]) -> Values:
    """Mean over places in each partition, so that every partition has the same places.

    Places with one partition are left out if others have more, because they tell nothing of how
    partitions differ.
    """
    parts = [values for values in cells.values() if len(values) > 1] or list(cells.values())
    return merged(parts, lambda values: mean_interval(values).mean) if parts else {}
