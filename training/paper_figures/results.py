"""Results of a benchmark as tables: the best seed per partition, and intervals over partitions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mousev1.metrics import score_names
from mousev1.metrics.intervals import mean_interval
from training.paper_figures import palette
from training.transfer_benchmark.config import BEST_CORE, DIRECT
from training.transfer_benchmark.protocol import best_per_partition

WITHIN, ACROSS = "within-animal", "across-animals"
GAUSSIAN, GAUSSIAN_CORTEX = "gaussian", "gaussian-cortex"

RECIPE, CONVEX = "published recipe", "convex solver"
"""How readouts were fitted: by the published recipe, frozen or end to end, or by the convex solver."""

SCORE_NAMES = score_names.SCORES | {"test_correlation": score_names.SCORES["single_trial_correlation"]}
DRAWN = ("fraction_oracle", "test_correlation", "correlation_to_average", "true_rate_correlation")
"""Columns of results that are drawn and tabulated."""

READOUT_NAMES = {
    "gaussian-cortex": "Gaussian, with cortical positions",
    "gaussian": "Gaussian, without cortical positions",
    "factorized": "factorized",
    "fully-connected": "fully connected",
}


@dataclass(frozen=True)
class Results:
    """Rows of one benchmark: all of them, and the best seed by validation of each partition, with ``of``'s columns."""

    name: str
    simulated: bool
    rows: pd.DataFrame
    all_rows: pd.DataFrame

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Results:
        """The results of the rows of one benchmark.

        Added to the columns of ``results_table`` are ``curve`` (one number for all rows that differ only in images,
        neurons, seed and partition, rising in the order of tables and legends), ``direct`` (the core was trained on the
        scan that is predicted), ``transferred`` (the core is one of other animals), ``fit_method`` (``RECIPE`` or
        ``CONVEX``), ``kind`` (of core: a key of ``palette.CORES``, or empty) and ``random`` (its weights are).

        Raises:
            ValueError: no rows, or rows of several benchmarks.
        """
        names = {(row["benchmark"], bool(row["simulated"])) for row in rows}
        if len(names) != 1:
            raise ValueError(f"rows: expected those of one benchmark, got those of {sorted(names) or 'none'}")
        ((name, simulated),) = names
        return cls(name, simulated, _tabulated(best_per_partition(rows)), _tabulated(rows))

    @property
    def partitions(self) -> list[int]:
        """Numbers of all partitions."""
        return sorted(self.rows["partition"].unique())

    @property
    def source(self) -> str:
        """What the data are, for tables and titles: ours are never taken for the paper's."""
        return "ours, simulated" if self.simulated else "ours, real data"

    def protocol(self, rows: pd.DataFrame | None = None) -> str:
        """What a number stands for, in words: of the curves of some rows, or of all."""
        curves = (self.rows if rows is None else rows)["curve"].unique()
        point = ["curve", "images", "units"]
        own = self.all_rows[self.all_rows["curve"].isin(curves)]
        seeds = own.groupby([*point, "partition"])["seed"].nunique()
        partitions, tried = _span(seeds.groupby(level=point).size()), _span(seeds)
        over = "one partition" if partitions == "1" else f"means over {partitions} partitions"
        chosen = "one seed" if tried == "1" else f"the best of {tried} seeds by validation"
        return f"{over}, {chosen}" + ("" if partitions == "1" else " in each")

    def scores(self) -> list[str]:
        """Those of ``DRAWN`` that have any value."""
        return [score for score in DRAWN if self.rows[score].notna().any()]


def by_benchmark(rows: Iterable[Mapping[str, Any]]) -> list[Results]:
    """Results of each benchmark among the rows, simulated and real data apart."""
    groups: dict[tuple[str, bool], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["benchmark"], bool(row["simulated"])), []).append(row)
    return [Results.of(group) for group in groups.values()]


def intervals(rows: pd.DataFrame, score: str, by: list[str]) -> pd.Series:
    """Mean and 95% interval over partitions (``Interval``) of each group of rows."""
    return rows.groupby(by)[score].apply(mean_interval)


def _tabulated(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame([dict(row) for row in rows])
    scores = ["validation_correlation", *DRAWN]
    table[scores] = table[scores].astype(float).replace([math.inf, -math.inf], math.nan)
    # Frozen cores on another animal's scan are best-core/diff-readout by another name.
    table["condition"] = table["condition"].replace("transfer", BEST_CORE)
    table["direct"] = table["condition"] == DIRECT
    table["core"] = table["core"].where(~table["direct"], DIRECT)
    table["core_set"] = table["core_set"].str.replace(" ", "-")
    table["transferred"] = (table["scope"] == ACROSS) & ~table["direct"]
    table["fit_method"] = [CONVEX if method == "convex" else RECIPE for method in table["method"]]
    labels = zip(table["core"], table["core_set"], strict=True)
    table["kind"] = [palette.kind_of_core(*label) or "" for label in labels]
    table["random"] = table["kind"].str.startswith("random")
    order = [
        table["condition"].map(_ranks(palette.CONDITIONS)),
        table["kind"].map(_ranks([*palette.CORES, ""])),
        table["core"],
        table["readout"].map(_ranks(READOUT_NAMES)),
        ~table["sharing"],
        *(table[name] for name in ("method", "core_set", "scope", "scan")),
    ]
    table["curve"] = table.groupby(order).ngroup()
    return table


def _ranks(names: Iterable[str]) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(names)}


def _span(counts: pd.Series) -> str:
    """Numbers as "3", or "1 to 3" where they differ."""
    low, high = counts.min(), counts.max()
    return f"{low}" if low == high else f"{low} to {high}"
