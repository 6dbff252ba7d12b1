"""Results of a benchmark in words and tables: the paper's findings, its numbers beside ours, every score."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from training.paper_figures import palette
from training.paper_figures.comparisons import Place
from training.paper_figures.data_efficiency import images_share, share_interval
from training.paper_figures.figures import TITLES, figure_series
from training.paper_figures.finding import UNKNOWN, Finding
from training.paper_figures.findings import findings
from training.paper_figures.published_values import PAPER, PUBLISHED
from training.paper_figures.results import CONVEX, READOUT_NAMES, RECIPE, SCORES, Results, Series


def report(results: Results, score: str, pictures: Sequence[str]) -> str:
    """Everything about a benchmark, in Markdown.

    Args:
        results: of one benchmark.
        score: column of results that findings and figures are about.
        pictures: file names of the figures.
    """
    found = findings(results, score)
    parts = [
        _head(results),
        _findings(results, found, score),
        _beside_the_paper(results, found),
        _efficiency(results, score),
        _figures(results, pictures, score),
        *(_tables(results, name, series) for name, series in figure_series(results).items()),
        _provenance(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(results: Results) -> str:
    kind = (
        "**All responses are simulated.** What is said of the paper's findings is said of simulated data."
        if results.simulated
        else "Responses are recorded ones."
    )
    return (
        f"# {results.name}\n\n{kind} Scores are on test images: means over neurons where they are defined. A "
        "partition is a random draw of neurons and training images. Numbers are "
        f"{results.protocol()}; ± is half of the 95% interval over partitions (Student's t)."
    )


def _findings(results: Results, found: Sequence[Finding], score: str) -> str:
    lines = [
        f"## The paper's findings, on {'simulated' if results.simulated else 'recorded'} responses\n",
        f"Differences in {SCORES[score]}, paired by partition, at equal numbers of neurons and images. A finding "
        "holds if the interval of the mean difference is above zero, does not hold if it is below, and is "
        "undecided otherwise. The last column counts the combinations of neurons, images and readout where the "
        "difference is positive.\n",
        "| finding | readouts fitted by | verdict | mean difference (95% interval) | in favour |",
        "|---|---|---|---|---|",
    ]
    notes: list[str] = []
    for finding in found:
        if finding.verdict == UNKNOWN:
            lines.append(f"| {finding.claim} | - | {UNKNOWN} | - | - |")
            continue
        mark = ""
        if finding.note:
            if finding.note not in notes:
                notes.append(finding.note)
            mark = f" [{notes.index(finding.note) + 1}]"
        lines.append(
            f"| {finding.claim}{mark} | {finding.family} | **{finding.verdict}** | {_effect(finding)} | "
            f"{finding.in_favour} of {finding.places} |"
        )
    numbered = [f"{number}. {note}." for number, note in enumerate(notes, 1)]
    return "\n".join([*lines, *(["", *numbered] if numbered else [])])


def _effect(finding: Finding) -> str:
    effect = finding.effect
    if finding.key == "data-efficiency":
        return _share(effect.mean, effect.low, effect.high) + " of the images"
    interval = "one partition" if math.isnan(effect.low) else f"{effect.low:+.3f} to {effect.high:+.3f}"
    return f"{effect.mean:+.3f} ({interval})"


def _share(mean: float, low: float, high: float) -> str:
    if math.isinf(mean):
        return "more than all"
    return _percent(mean) + ("" if math.isnan(low) else f" ({_percent(low)} to {_percent(high)})")


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"


def _beside_the_paper(results: Results, found: Sequence[Finding]) -> str:
    ours = results.source
    lines = [
        "## The paper's numbers beside ours\n",
        f"| the paper says | paper, real data | {ours} | what ours is |",
        "|---|---:|---:|---|",
    ]
    for published in PUBLISHED:
        measured = [f for f in found if f.key == published.finding and f.gain.count]
        shown = "<br>".join(
            f"{_share(f.gain.mean, f.gain.low, f.gain.high)}, {f.family}{_at(f.gain_at)}" for f in measured
        )
        lines.append(
            f'| "{published.quote}" ({published.place}) | {published.percent} | {shown or "not measured"} | '
            f"{published.ours} |"
        )
    lines.append(
        f"\nPaper: {PAPER}. Only these numbers of it could be checked in public text; its figures are pictures, "
        "and no value was read off them."
    )
    return "\n".join(lines)


def _at(place: Place | None) -> str:
    return "" if place is None else f", {place.units:,} neurons, {place.images:,} images"


def _efficiency(results: Results, score: str) -> str:
    lines = [
        "## Images needed for the direct model's full-data score\n",
        f"Share of the direct model's training images with which a readout on a transferred core reaches its "
        f"{SCORES[score]} ({results.source}); straight lines between measured numbers of images, over their "
        "logarithm. Smaller is better; a share equal to that of the fewest images measured may be less.\n",
        "| core | readouts fitted by | share of images (95% interval) |",
        "|---|---|---|",
    ]
    rows = len(lines)
    transferred = results.where(lambda s: s.transferred)
    for core in dict.fromkeys(s.core for s in transferred):
        for family in (RECIPE, CONVEX):
            shares, place = images_share(results, core, score, family)
            if not shares:
                continue
            effect, _ = share_interval(shares)
            text = _share(effect.mean, effect.low, effect.high)
            reached = sum(math.isfinite(share) for share in shares.values())
            if 0 < reached < len(shares):
                text = f"reached in {reached} of {len(shares)} partitions"
            lines.append(f"| {core} | {family} | {text}{_at(place)} |")
    return "\n".join(lines) if len(lines) > rows else ""


def _figures(results: Results, pictures: Sequence[str], score: str) -> str:
    found = {picture.rpartition(".")[0] for picture in pictures}
    missing = [
        f"No rows for {name.replace('-', ' ')} ({title[0].lower()}{title[1:]})."
        for name, title in TITLES.items()
        if not any(name in picture for picture in found)
    ]
    shown = [f"![{picture}]({picture})" for picture in pictures]
    head = f"## Figures\n\nThe paper's figures 3 to 5, {results.source}: {SCORES[score]}."
    return "\n\n".join([head, *shown, *missing])


# ---------------------------------------------------------------- tables


def _tables(results: Results, name: str, series: Sequence[Series]) -> str:
    parts = [f"## {TITLES[name]}, {results.source}"]
    for scan in sorted({s.scan for s in series}):
        own = sorted((s for s in series if s.scan == scan), key=_order)
        for units in results.units(own):
            for score in results.scores():
                if table := _table(results, own, units, score):
                    parts.append(f"### {_upper(SCORES[score])}: {scan}, {units:,} neurons\n\n{table}")
    if undefined := _undefined(results, series):
        parts.append(undefined)
    return "\n\n".join(parts)


def _table(results: Results, series: Sequence[Series], units: int, score: str) -> str:
    counts = results.images(series, units)
    lines = [
        "| condition | core | readout | fitted by | " + " | ".join(f"{n:,} images" for n in counts) + " |",
        "|---|---|---|---|" + "---:|" * len(counts),
    ]
    for s in series:
        found = [results.interval(s, n, units, score) for n in counts]
        if not any(interval.count for interval in found):
            continue
        readout = READOUT_NAMES[s.readout] + (", sharing" if s.sharing else "")
        cells = " | ".join(str(interval) for interval in found)
        lines.append(f"| {s.condition} | {'-' if s.direct else s.core} | {readout} | {s.family} | {cells} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _order(series: Series) -> tuple[object, ...]:
    cores, kind = list(palette.CORES), palette.kind_of_core(series.core, series.core_set)
    return (
        list(palette.CONDITIONS).index(series.condition),
        cores.index(kind) if kind in cores else len(cores),
        series.core,
        list(READOUT_NAMES).index(series.readout),
        not series.sharing,
        series.method,
    )


def _undefined(results: Results, series: Iterable[Series]) -> str:
    wanted = set(series)
    worst = max(
        (
            row["undefined_units"]
            for row in results.rows
            if Series.of(row) in wanted and row["undefined_units"]
        ),
        default=0,
    )
    return f"Up to {worst:,} neurons have no correlation and are left out of the means." if worst else ""


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


# ---------------------------------------------------------------- where it comes from


def _provenance(results: Results) -> str:
    rows = results.all_rows
    machines = [json.loads(row["machine"]) for row in rows]
    kinds = dict.fromkeys((m.get("cpu"), m.get("cpus"), m.get("system")) for m in machines)
    commits = sorted({str(row["commit"])[:12] for row in rows if row["commit"]})
    scans = sorted({(row["scan"], row["data_sha256"][:12]) for row in rows})
    hours = sum(row["seconds"] for row in rows) / 3600
    return "\n".join(
        [
            "## How it was made\n",
            f"- {len(rows):,} cells, {hours:.1f} hours of computing, {min(row['date'] for row in rows)} to "
            f"{max(row['date'] for row in rows)}",
            "- commands: "
            + ", ".join(f"`{command}`" for command in sorted({_whole(row["command"]) for row in rows}))
            + "; one cell alone with the command in its row",
            "- code: " + (", ".join(f"`{commit}`" for commit in commits) or "not in a checkout"),
            "- scans: " + ", ".join(f"{scan} (`{sha256}`)" for scan, sha256 in scans),
            "- machines: " + ", ".join(f"{cpu}, {cpus} CPUs, {system}" for cpu, cpus, system in kinds),
        ]
    )


def _whole(command: str) -> str:
    """The command of a whole benchmark, from that of one of its cells."""
    return command.partition(" --only ")[0]
