"""Figures 3, 4 and 5 of Lurz et al. 2021 from the rows of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
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
    """The figures that there are rows for, by file name without ending."""
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
    shown = rows if name == "figure-3" else rows[~rows["direct"]]
    methods = [method for method in (RECIPE, CONVEX) if (shown["fit_method"] == method).any()]
    grid = []
    for method in methods:
        own = rows["fit_method"] == method
        if not (own & rows["direct"]).any():
            # Direct training fitted the other way, where there is none this way.
            own |= rows["direct"]
        fitted_by = f"; {method}" if len(methods) > 1 else ""
        grid += panels(rows, rows[own], score, fitted_by)
    kind = "simulated responses" if results.simulated else "recorded responses"
    bars = "bars: 95% intervals (Student's t)" if len(results.partitions) > 1 else "no intervals"
    return draw(
        grid,
        title=f"{TITLES[name]} ({kind})",
        subtitle=f"{results.name}: {rows['scan'].iloc[0]}; {results.protocol(rows)}; {bars}",
    )


# Each of these gives the rows of panels of one way to fit readouts. Its arguments: all rows of the figure, for
# what methods share; the method's own; the score; and what to say of the method.


def _figure_3(rows: pd.DataFrame, own: pd.DataFrame, score: str, fitted_by: str) -> list[list[Panel]]:
    """Columns: numbers of neurons."""
    sharing = rows.groupby("readout")["sharing"].nunique()

    def look(row: Any) -> tuple[str, palette.Style]:
        label, style = READOUT_NAMES[row.readout], palette.READOUTS[row.readout]
        if sharing[row.readout] == 1:
            return label, style
        if row.sharing:
            return f"{label}; sharing", style
        return f"{label}; no sharing", palette.without_sharing(style)

    sizes = sorted(rows["units"].unique())
    return [[_panel(_neurons(n) + fitted_by, own[own["units"] == n], score, look) for n in sizes]]


def _figure_4(rows: pd.DataFrame, own: pd.DataFrame, score: str, fitted_by: str) -> list[list[Panel]]:
    """Columns: numbers of neurons. Rows: readouts."""
    transferred = rows[~rows["direct"]]
    several = transferred["core"].nunique() > 1

    def look(row: Any) -> tuple[str, palette.Style]:
        label = f"{row.condition}, {row.core}" if several and not row.direct else row.condition
        return label, palette.CONDITIONS[row.condition]

    grid = []
    for (readout, sharing), shown in own.groupby(VARIANT):
        title = READOUT_NAMES[str(readout)] + (", sharing" if sharing else "") + fitted_by
        sizes = sorted(transferred["units"].unique())
        grid.append(
            [_panel(f"{title}\n{_neurons(n)}", shown[shown["units"] == n], score, look) for n in sizes]
        )
    return grid


def _figure_5(rows: pd.DataFrame, own: pd.DataFrame, score: str, fitted_by: str) -> list[list[Panel]]:
    """Columns: with and without cortical positions, and what they add."""
    transferred = rows[rows["transferred"]].sort_values("curve")
    units = transferred["units"].max()
    own = own[own["units"] == units]
    styles = palette.core_styles(zip(transferred["core"], transferred["core_set"], strict=True))
    styles[DIRECT] = palette.CONDITIONS[DIRECT]
    panels = [
        _panel(
            f"{name}{fitted_by}\n{_neurons(units)}",
            own[own["readout"] == readout],
            score,
            lambda row: (row.core, styles[row.core]),
        )
        for readout, name in READOUT_NAMES.items()
        if (transferred["readout"] == readout).any()
    ]
    title = f"what cortical positions add\n{_neurons(units)}"
    gains = Panel(title, f"difference in {SCORE_NAMES[score]}", _gains(own, score, styles), zero=True)
    return [[*panels, gains]]


def _gains(rows: pd.DataFrame, score: str, styles: dict[str, palette.Style]) -> list[Curve]:
    """What cortical positions add, paired by partition."""
    with_cortex, without = (
        scores_by_partition(rows[rows["readout"] == readout], score, ["core"])
        for readout in (GAUSSIAN_CORTEX, GAUSSIAN)
    )
    gains = Comparison.of(with_cortex, without).differences.rename(score).reset_index()
    points = {core: _points(own, score) for core, own in gains.groupby("core")}
    ordered = rows.sort_values("curve")["core"].unique()
    return [Curve(core, styles[core], points[core]) for core in ordered if points.get(core)]


def _panel(title: str, rows: pd.DataFrame, score: str, look: Look) -> Panel:
    curves = [(own.iloc[0], _points(own, score)) for _, own in rows.groupby("curve")]
    return Panel(title, SCORE_NAMES[score], [Curve(*look(row), points) for row, points in curves if points])


def _points(rows: pd.DataFrame, score: str) -> dict[int, Interval]:
    means = intervals(rows, score, ["images"])
    return {int(n): mean for n, mean in zip(means.index, means, strict=True) if mean.count}


def _neurons(units: int) -> str:
    return f"{units:,} neurons"
