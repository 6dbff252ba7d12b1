"""Results of a benchmark as curves: best seed per partition, values by partition, intervals over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mousev1.metrics.intervals import Interval, mean_interval
from training.transfer_benchmark.protocol import best_per_partition

Row = dict[str, Any]

DIRECT = "direct"
BEST_CORE, DIFF_CORE = "best-core/diff-readout", "diff-core/best-readout"
WITHIN, ACROSS = "within-animal", "across-animals"
GAUSSIAN, GAUSSIAN_CORTEX = "gaussian", "gaussian-cortex"

RECIPE, CONVEX = "published recipe", "convex solver"

SCORES = {
    "fraction_oracle": "fraction oracle",
    "test_correlation": "correlation with single trials",
    "correlation_to_average": "correlation with the average over repeats",
    "true_rate_correlation": "correlation with the true rate",
}
"""Scores that are drawn and tabulated: column of results to what figures call it."""

READOUT_NAMES = {
    "gaussian-cortex": "Gaussian, with cortical positions",
    "gaussian": "Gaussian, without cortical positions",
    "factorized": "factorized",
    "fully-connected": "fully connected",
}


@dataclass(frozen=True, order=True)
class Series:
    """What one curve stands for: all that rows share but images, neurons, seed and partition."""

    scope: str
    condition: str
    core: str
    core_set: str
    readout: str
    sharing: bool
    method: str
    scan: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Series:
        """The series that a row belongs to.

        Frozen cores on another animal's scan are ``best-core/diff-readout`` by another name.
        """
        condition = BEST_CORE if row["condition"] == "transfer" else row["condition"]
        return cls(
            scope=row["scope"],
            condition=condition,
            core=DIRECT if condition == DIRECT else row["core"],
            core_set=row["core_set"].replace(" ", "-"),
            readout=row["readout"],
            sharing=bool(row["sharing"]),
            method=row["method"],
            scan=row["scan"],
        )

    @property
    def family(self) -> str:
        """How readouts were fitted: by the published recipe, frozen or end to end, or by the convex solver."""
        return CONVEX if self.method == "convex" else RECIPE

    @property
    def direct(self) -> bool:
        """Whether the core was trained on the scan that is predicted."""
        return self.condition == DIRECT

    @property
    def transferred(self) -> bool:
        """Whether a core of other animals was used."""
        return self.scope == ACROSS and not self.direct


Values = dict[int, float]
"""Partition to score."""


@dataclass(frozen=True)
class Results:
    """Rows of one benchmark, the best seed by validation of each partition.

    Attributes:
        name: of the benchmark.
        simulated: whether the responses are.
        rows: best seeds only.
        all_rows: every row.
    """

    name: str
    simulated: bool
    rows: tuple[Row, ...]
    all_rows: tuple[Row, ...]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Results:
        """The results of the rows of one benchmark.

        Raises:
            ValueError: no rows, or rows of several benchmarks.
        """
        names = {(row["benchmark"], bool(row["simulated"])) for row in rows}
        if len(names) != 1:
            raise ValueError(f"rows: expected those of one benchmark, got those of {sorted(names) or 'none'}")
        ((name, simulated),) = names
        return cls(name, simulated, tuple(best_per_partition(rows)), tuple(rows))

    @cached_property
    def _cells(self) -> dict[tuple[Series, int, int], dict[int, Row]]:
        cells: dict[tuple[Series, int, int], dict[int, Row]] = {}
        for row in self.rows:
            cells.setdefault((Series.of(row), row["images"], row["units"]), {})[row["partition"]] = row
        return cells

    @cached_property
    def series(self) -> tuple[Series, ...]:
        """All curves, in the order of the rows."""
        return tuple(dict.fromkeys(series for series, _, _ in self._cells))

    def where(self, wanted: Callable[[Series], bool]) -> list[Series]:
        """The curves that answer to a description."""
        return [series for series in self.series if wanted(series)]

    def images(self, series: Iterable[Series], units: int | None = None) -> list[int]:
        """Numbers of training images of some curves, rising."""
        wanted = set(series)
        return sorted({n for s, n, u in self._cells if s in wanted and units in (None, u)})

    def units(self, series: Iterable[Series]) -> list[int]:
        """Numbers of neurons of some curves, rising."""
        wanted = set(series)
        return sorted({u for s, _, u in self._cells if s in wanted})

    def values(self, series: Series, images: int, units: int, score: str) -> Values:
        """Score by partition, where it is defined."""
        rows = self._cells.get((series, images, units), {})
        return {
            partition: float(row[score])
            for partition, row in sorted(rows.items())
            if row[score] is not None and math.isfinite(row[score])
        }

    def interval(self, series: Series, images: int, units: int, score: str) -> Interval:
        """Mean and 95% interval over partitions."""
        return mean_interval(self.values(series, images, units, score).values())

    @property
    def partitions(self) -> list[int]:
        """Numbers of all partitions."""
        return sorted({row["partition"] for row in self.rows})

    @property
    def source(self) -> str:
        """What the data are, for tables and titles: ours are never taken for the paper's."""
        return "ours, simulated" if self.simulated else "ours, real data"

    def protocol(self, series: Iterable[Series] | None = None) -> str:
        """What a number stands for, in words: of some curves, or of all."""
        wanted = set(self.series if series is None else series)
        seeds: dict[tuple[Series, int, int], dict[int, set[int]]] = {}
        for row in self.all_rows:
            place = (Series.of(row), row["images"], row["units"])
            if place[0] in wanted:
                seeds.setdefault(place, {}).setdefault(row["partition"], set()).add(row["seed"])
        partitions = _span(len(found) for found in seeds.values())
        tried = _span(len(some) for found in seeds.values() for some in found.values())
        over = "one partition" if partitions == "1" else f"means over {partitions} partitions"
        chosen = "one seed" if tried == "1" else f"the best of {tried} seeds by validation"
        return f"{over}, {chosen}" + ("" if partitions == "1" else " in each")

    def scores(self) -> list[str]:
        """Columns of ``SCORES`` that have any value."""
        return [score for score in SCORES if any(row[score] is not None for row in self.rows)]


def by_benchmark(rows: Iterable[Row]) -> list[Results]:
    """Results of each benchmark among the rows, simulated and real data apart."""
    groups: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["benchmark"], bool(row["simulated"])), []).append(row)
    return [Results.of(group) for group in groups.values()]


def _span(counts: Iterable[int]) -> str:
    """Numbers as "3", or "1 to 3" where they differ."""
    found = sorted(set(counts))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]} to {found[-1]}"
