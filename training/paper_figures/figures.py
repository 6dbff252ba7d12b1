"""Figures 3, 4 and 5 of Lurz et al. 2021 from the rows of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from mousev1.metrics.intervals import Interval
from training.paper_figures import palette
from training.paper_figures.comparisons import Comparison, scores_by_partition
from training.paper_figures.panels import Curve, Panel, draw
from training.paper_figures.results import (
    ACROSS,
    CONVEX,
    GAUSSIAN,
    GAUSSIAN_CORTEX,
    READOUT_NAMES,
    RECIPE,
    SCORE_NAMES,
    WITHIN,
    Results,
    intervals,
)
from training.transfer_benchmark.config import DIRECT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    "figure-3": "Direct training: readouts",
    "figure-4": "Generalisation within an animal",
    "figure-5": "Generalisation across animals",
}
"""Names of the figures, as in the paper, and what they show."""

VARIANT = ["readout", "sharing"]

Look = Callable[[Any], tuple[str, palette.Style]]
"""A row of a curve to the curve's label and style."""


def figures(results: Results, score: str) -> dict[str, Figure]:
    """The figures that there are rows for, by file name without ending.

    Args:
        results: of one benchmark.
        score: column of results.
    """
    drawn = {}
    for name, rows in figure_rows(results).items():
        scans = rows.groupby("scan")
        for number, (_, shown) in enumerate(scans, 1):
            drawn[f"{name}-{number}" if len(scans) > 1 else name] = _figure(name, results, shown, score)
    return drawn


def figure_rows(results: Results) -> dict[str, pd.DataFrame]:
    """The rows of every figure that there are any for."""
    rows = results.rows
    within, across = rows[rows["scope"] == WITHIN], rows[rows["scope"] == ACROSS]
    direct = within[within["direct"]] if within["direct"].any() else rows[rows["direct"]]
    # With and without cortical positions is what Figure 5 compares.
    readouts = direct.assign(readout=direct["readout"].str.removesuffix("-cortex"))[VARIANT].drop_duplicates()
    variants = within.loc[~within["direct"], VARIANT].drop_duplicates()
    found = {
        "figure-3": direct if len(readouts) > 1 else direct[:0],
        "figure-4": within.merge(variants),
        "figure-5": across if across["transferred"].any() else across[:0],
    }
    return {name: rows for name, rows in found.items() if len(rows)}


def _figure(name: str, results: Results, rows: pd.DataFrame, score: str) -> Figure:
    panels = {"figure-3": _figure_3, "figure-4": _figure_4, "figure-5": _figure_5}[name]
    kind = "simulated responses" if results.simulated else "recorded responses"
    bars = "bars: 95% intervals (Student's t)" if len(results.partitions) > 1 else "no intervals"
    return draw(
        panels(rows, score),
        title=f"{TITLES[name]} ({kind})",
        subtitle=f"{results.name}: {rows['scan'].iloc[0]}; {results.protocol(rows)}; {bars}",
    )


def _figure_3(rows: pd.DataFrame, score: str) -> list[list[Panel]]:
    """Columns: numbers of neurons. Rows: how readouts were fitted."""
    sharing = rows.groupby("readout")["sharing"].nunique()

    def look(row: Any) -> tuple[str, palette.Style]:
        label, style = READOUT_NAMES[row.readout], palette.READOUTS[row.readout]
        if sharing[row.readout] == 1:
            return label, style
        if row.sharing:
            return f"{label}; sharing", style
        return f"{label}; no sharing", palette.without_sharing(style)

    methods = _methods(rows)
    return [
        [
            _panel(
                _title(_neurons(units), method, methods),
                rows[(rows["fit_method"] == method) & (rows["units"] == units)],
                score,
                look,
            )
            for units in sorted(rows["units"].unique())
        ]
        for method in methods
    ]


def _figure_4(rows: pd.DataFrame, score: str) -> list[list[Panel]]:
    """Columns: numbers of neurons. Rows: readout and how it was fitted."""
    given = rows[~rows["direct"]]
    several = given["core"].nunique() > 1

    def look(row: Any) -> tuple[str, palette.Style]:
        label = f"{row.condition}, {row.core}" if several and not row.direct else row.condition
        return label, palette.CONDITIONS[row.condition]

    methods = _methods(given)
    grid = []
    for method in methods:
        for (readout, sharing), own in _with_direct(rows, method).groupby(VARIANT):
            what = _title(READOUT_NAMES[str(readout)] + (", sharing" if sharing else ""), method, methods)
            grid.append(
                [
                    _panel(f"{what}\n{_neurons(units)}", own[own["units"] == units], score, look)
                    for units in sorted(given["units"].unique())
                ]
            )
    return grid


def _figure_5(rows: pd.DataFrame, score: str) -> list[list[Panel]]:
    """Columns: with and without cortical positions, and what they add. Rows: how readouts were fitted."""
    transferred = rows[rows["transferred"]].sort_values("curve")
    methods = _methods(transferred)
    units = transferred["units"].max()
    styles = palette.core_styles(zip(transferred["core"], transferred["core_set"], strict=True))
    styles[DIRECT] = palette.CONDITIONS[DIRECT]
    grid = []
    for method in methods:
        own = _with_direct(rows, method)
        own = own[own["units"] == units]
        panels = [
            _panel(
                f"{_title(READOUT_NAMES[readout], method, methods)}\n{_neurons(units)}",
                own[own["readout"] == readout],
                score,
                lambda row: (row.core, styles[row.core]),
            )
            for readout in READOUT_NAMES
            if (transferred["readout"] == readout).any()
        ]
        grid.append([*panels, _gains(own, units, score, styles)])
    return grid


def _gains(rows: pd.DataFrame, units: int, score: str, styles: dict[str, palette.Style]) -> Panel:
    """What cortical positions add, paired by partition."""
    with_cortex, without = (
        scores_by_partition(rows[rows["readout"] == readout], score, ["core"])
        for readout in (GAUSSIAN_CORTEX, GAUSSIAN)
    )
    gains = Comparison.of(with_cortex, without).differences.rename(score).reset_index()
    points = {core: _points(own, score) for core, own in gains.groupby("core")}
    ordered = rows.sort_values("curve")["core"].unique()
    return Panel(
        f"what cortical positions add\n{_neurons(units)}",
        f"difference in {SCORE_NAMES[score]}",
        [Curve(core, styles[core], points[core]) for core in ordered if points.get(core)],
        zero=True,
    )


def _panel(title: str, rows: pd.DataFrame, score: str, look: Look) -> Panel:
    curves = [
        Curve(*look(own.iloc[0]), points)
        for _, own in rows.groupby("curve")
        if (points := _points(own, score))
    ]
    return Panel(title, SCORE_NAMES[score], curves)


def _points(rows: pd.DataFrame, score: str) -> dict[int, Interval]:
    means = intervals(rows, score, ["images"])
    return {int(n): mean for n, mean in zip(means.index, means, strict=True) if mean.count}


def _methods(rows: pd.DataFrame) -> list[str]:
    return [method for method in (RECIPE, CONVEX) if (rows["fit_method"] == method).any()]


def _with_direct(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """Rows of one way to fit readouts; direct training fitted the other way where there is none this way."""
    own = rows["fit_method"] == method
    return rows[own] if rows.loc[own, "direct"].any() else rows[own | rows["direct"]]


def _neurons(units: int) -> str:
    return f"{units:,} neurons"


def _title(what: str, method: str, methods: Sequence[str]) -> str:
    return f"{what}; {method}" if len(methods) > 1 else what
