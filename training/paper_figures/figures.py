"""Figures 3, 4 and 5 of Lurz et al. 2021 from the rows of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mousev1.metrics.intervals import mean_interval
from training.paper_figures import palette
from training.paper_figures.panels import Curve, Panel, draw
from training.paper_figures.results import (
    ACROSS,
    CONVEX,
    DIRECT,
    GAUSSIAN,
    GAUSSIAN_CORTEX,
    READOUT_NAMES,
    RECIPE,
    SCORES,
    WITHIN,
    Results,
    Series,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    "figure-3": "Direct training: readouts",
    "figure-4": "Generalisation within an animal",
    "figure-5": "Generalisation across animals",
}
"""Names of the figures, as in the paper, and what they show."""


def figures(results: Results, score: str) -> dict[str, Figure]:
    """The figures that there are rows for, by file name without ending.

    Args:
        results: of one benchmark.
        score: column of results.
    """
    drawn = {}
    for name, series in figure_series(results).items():
        scans = sorted({s.scan for s in series})
        for place, scan in enumerate(scans):
            shown = [s for s in series if s.scan == scan]
            suffix = f"-{place + 1}" if len(scans) > 1 else ""
            drawn[name + suffix] = _figure(name, results, shown, score)
    return drawn


def figure_series(results: Results) -> dict[str, list[Series]]:
    """The curves of every figure that there are any for."""
    within = results.where(lambda s: s.scope == WITHIN)
    direct = [s for s in within if s.direct] or results.where(lambda s: s.direct)
    # With and without cortical positions is what Figure 5 compares.
    readouts = {(s.readout.removesuffix("-cortex"), s.sharing) for s in direct}
    transferred = {(s.readout, s.sharing) for s in within if not s.direct}
    across = results.where(lambda s: s.scope == ACROSS)
    found = {
        "figure-3": direct if len(readouts) > 1 else [],
        "figure-4": [s for s in within if (s.readout, s.sharing) in transferred],
        "figure-5": across if any(s.transferred for s in across) else [],
    }
    return {name: series for name, series in found.items() if series}


def _figure(name: str, results: Results, series: list[Series], score: str) -> Figure:
    panels = {"figure-3": _figure_3, "figure-4": _figure_4, "figure-5": _figure_5}[name]
    kind = "simulated responses" if results.simulated else "recorded responses"
    bars = "bars: 95% intervals (Student's t)" if len(results.partitions) > 1 else "no intervals"
    return draw(
        panels(results, series, score),
        title=f"{TITLES[name]} ({kind})",
        subtitle=f"{results.name}: {series[0].scan}; {results.protocol(series)}; {bars}",
    )


def _families(series: Iterable[Series]) -> list[str]:
    present = {s.family for s in series}
    return [family for family in (RECIPE, CONVEX) if family in present]


def _curve(
    results: Results, series: Series, units: int, score: str, label: str, style: palette.Style
) -> Curve:
    points = {n: results.interval(series, n, units, score) for n in results.images([series], units)}
    return Curve(label, style, {n: point for n, point in points.items() if point.count})


def _neurons(units: int) -> str:
    return f"{units:,} neurons"


def _figure_3(results: Results, series: list[Series], score: str) -> list[list[Panel]]:
    """Columns: numbers of neurons. Rows: how readouts were fitted."""
    both = {s.readout for s in series if s.sharing} & {s.readout for s in series if not s.sharing}
    families = _families(series)
    order = list(palette.READOUTS)
    rows = []
    for family in families:
        own = sorted(
            (s for s in series if s.family == family), key=lambda s: (order.index(s.readout), not s.sharing)
        )
        row = []
        for units in results.units(series):
            panel = Panel(_title(_neurons(units), family, families), SCORES[score])
            for s in own:
                style, label = palette.READOUTS[s.readout], READOUT_NAMES[s.readout]
                if s.readout in both:
                    label += "; sharing" if s.sharing else "; no sharing"
                if s.readout in both and not s.sharing:
                    style = palette.without_sharing(style)
                curve = _curve(results, s, units, score, label, style)
                if curve.points:
                    panel.curves.append(curve)
            row.append(panel)
        rows.append(row)
    return rows


def _figure_4(results: Results, series: list[Series], score: str) -> list[list[Panel]]:
    """Columns: numbers of neurons. Rows: readout and how it was fitted."""
    families = _families(s for s in series if not s.direct)
    variants = sorted({(s.readout, s.sharing) for s in series if not s.direct})
    cores = {s.core for s in series if not s.direct}
    rows = []
    for family in families:
        for readout, sharing in variants:
            own = [s for s in _with_direct(series, family) if (s.readout, s.sharing) == (readout, sharing)]
            own.sort(key=lambda s: list(palette.CONDITIONS).index(s.condition))
            what = READOUT_NAMES[readout] + (", sharing" if sharing else "")
            row = []
            for units in results.units(s for s in series if not s.direct):
                panel = Panel(f"{_title(what, family, families)}\n{_neurons(units)}", SCORES[score])
                for s in own:
                    label = s.condition if s.direct or len(cores) == 1 else f"{s.condition}, {s.core}"
                    curve = _curve(results, s, units, score, label, palette.CONDITIONS[s.condition])
                    if curve.points:
                        panel.curves.append(curve)
                row.append(panel)
            rows.append(row)
    return rows


def _figure_5(results: Results, series: list[Series], score: str) -> list[list[Panel]]:
    """Columns: with and without cortical positions, and what they add. Rows: how readouts were fitted."""
    transferred = [s for s in series if s.transferred]
    families = _families(transferred)
    units = max(results.units(transferred))
    order = {name: place for place, name in enumerate(palette.CORES)}

    def place(s: Series) -> tuple[int, int, str]:
        kind = palette.kind_of_core(s.core, s.core_set)
        return (0 if s.direct else 1), order.get(kind or "", len(order)), s.core

    ordered = sorted(series, key=place)
    styles = palette.core_styles((s.core, s.core_set) for s in ordered if not s.direct)
    styles[DIRECT] = palette.CONDITIONS[DIRECT]
    readouts = [name for name in READOUT_NAMES if any(s.readout == name for s in transferred)]
    rows = []
    for family in families:
        own = _with_direct(ordered, family)
        row = []
        for readout in readouts:
            title = f"{_title(READOUT_NAMES[readout], family, families)}\n{_neurons(units)}"
            panel = Panel(title, SCORES[score])
            for s in own:
                curve = _curve(results, s, units, score, s.core, styles[s.core])
                if s.readout == readout and curve.points:
                    panel.curves.append(curve)
            row.append(panel)
        gains = _gains(results, own, units, score, styles)
        if gains.curves:
            row.append(gains)
        rows.append(row)
    return rows


def _gains(
    results: Results, series: Sequence[Series], units: int, score: str, styles: dict[str, palette.Style]
) -> Panel:
    """What cortical positions add, paired by partition."""
    panel = Panel(
        f"what cortical positions add\n{_neurons(units)}", f"difference in {SCORES[score]}", zero=True
    )
    for core in dict.fromkeys(s.core for s in series):
        pairs = {s.readout: s for s in series if s.core == core}
        if not {GAUSSIAN, GAUSSIAN_CORTEX} <= set(pairs):
            continue
        points = {}
        for images in results.images([pairs[GAUSSIAN_CORTEX]], units):
            with_cortex, without = (
                results.values(pairs[readout], images, units, score)
                for readout in (GAUSSIAN_CORTEX, GAUSSIAN)
            )
            common = with_cortex.keys() & without.keys()
            if common:
                points[images] = mean_interval(with_cortex[p] - without[p] for p in common)
        if points:
            panel.curves.append(Curve(core, styles[core], points))
    return panel


def _with_direct(series: Sequence[Series], family: str) -> list[Series]:
    """The curves of a family; direct training of the other one where this has none."""
    own = [s for s in series if s.family == family]
    if any(s.direct for s in own):
        return own
    return [s for s in series if s.family == family or s.direct]


def _title(what: str, family: str, families: Sequence[str]) -> str:
    return f"{what}; {family}" if len(families) > 1 else what
