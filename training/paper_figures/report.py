"""Results of a benchmark in words and tables: the paper's findings, its numbers beside ours, every score."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pandas as pd

from training.paper_figures.comparisons import Size
from training.paper_figures.data_efficiency import images_share, share_interval
from training.paper_figures.figures import TITLES, figure_rows
from training.paper_figures.finding import UNKNOWN, Finding, MethodRows
from training.paper_figures.findings import findings
from training.paper_figures.published_values import PAPER, PUBLISHED
from training.paper_figures.results import CONVEX, READOUT_NAMES, RECIPE, SCORE_NAMES, Results, intervals


def report(results: Results, score: str, pictures: Sequence[str]) -> str:
    """Everything about a benchmark, in Markdown: findings on one score, figures by file name, tables of all scores."""
    found = findings(results, score)
    parts = [
        _head(results),
        _findings(results, found, score),
        _beside_the_paper(results, found),
        _efficiency(results, score),
        _figures(results, pictures, score),
        *(_tables(results, name, rows) for name, rows in figure_rows(results).items()),
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
        f"Differences in {SCORE_NAMES[score]}, paired by partition, at equal numbers of neurons and images. A finding "
        "holds if the interval of the mean difference is above zero, does not hold if it is below, and is "
        "undecided otherwise. The last column counts the combinations of neurons, images and readout where the "
        "difference is positive.\n",
        "| finding | readouts fitted by | verdict | mean difference (95% interval) | in favour |",
        "|---|---|---|---|---|",
    ]
    notes = list(dict.fromkeys(finding.note for finding in found if finding.note))
    for finding in found:
        if finding.verdict == UNKNOWN:
            lines.append(f"| {finding.claim} | - | {UNKNOWN} | - | - |")
            continue
        mark = f" [{notes.index(finding.note) + 1}]" if finding.note else ""
        lines.append(
            f"| {finding.claim}{mark} | {finding.fit_method} | **{finding.verdict}** | {_effect(finding)} | "
            f"{finding.in_favour} of {finding.compared} |"
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
    return f"{mean:.0%}" + ("" if math.isnan(low) else f" ({low:.0%} to {high:.0%})")


def _beside_the_paper(results: Results, found: Sequence[Finding]) -> str:
    lines = [
        "## The paper's numbers beside ours\n",
        f"| the paper says | paper, real data | {results.source} | what ours is |",
        "|---|---:|---:|---|",
    ]
    for published in PUBLISHED:
        measured = [f for f in found if f.key == published.finding and f.gain.count]
        shown = "<br>".join(
            f"{_share(f.gain.mean, f.gain.low, f.gain.high)}, {f.fit_method}{_at(f.gain_at)}"
            for f in measured
        )
        lines.append(
            f'| "{published.quote}" (abstract) | {published.value:.0%} | {shown or "not measured"} | '
            f"{published.ours} |"
        )
    lines.append(
        f"\nPaper: {PAPER}. Only these numbers of it could be checked in public text; its figures are pictures, "
        "and no value was read off them."
    )
    return "\n".join(lines)


def _at(size: Size | None) -> str:
    return "" if size is None else f", {size.units:,} neurons, {size.images:,} images"


def _efficiency(results: Results, score: str) -> str:
    lines = [
        "## Images needed for the direct model's full-data score\n",
        f"Share of the direct model's training images with which a readout on a transferred core reaches its "
        f"{SCORE_NAMES[score]} ({results.source}); straight lines between measured numbers of images, over their "
        "logarithm. Smaller is better; a share equal to that of the fewest images measured may be less.\n",
        "| core | readouts fitted by | share of images (95% interval) |",
        "|---|---|---|",
    ]
    head = len(lines)
    for core in results.rows.loc[results.rows["transferred"], "core"].unique():
        for method in (RECIPE, CONVEX):
            shares, size = images_share(MethodRows(results, score, method), core)
            if not shares:
                continue
            effect, _ = share_interval(shares)
            text = _share(effect.mean, effect.low, effect.high)
            reached = sum(math.isfinite(share) for share in shares.values())
            if 0 < reached < len(shares):
                text = f"reached in {reached} of {len(shares)} partitions"
            lines.append(f"| {core} | {method} | {text}{_at(size)} |")
    return "\n".join(lines) if len(lines) > head else ""


def _figures(results: Results, pictures: Sequence[str], score: str) -> str:
    parts = [f"## Figures\n\nThe paper's figures 3 to 5, {results.source}: {SCORE_NAMES[score]}."]
    parts += [f"![{picture}]({picture})" for picture in pictures]
    for name, title in TITLES.items():
        if not any(name in picture for picture in pictures):
            parts.append(f"No rows for {name.replace('-', ' ')} ({title[0].lower()}{title[1:]}).")
    return "\n\n".join(parts)


# ---------------------------------------------------------------- tables


def _tables(results: Results, name: str, rows: pd.DataFrame) -> str:
    parts = [f"## {TITLES[name]}, {results.source}"]
    for (scan, units), own in rows.groupby(["scan", "units"]):
        for score in results.scores():
            if own[score].notna().any():
                title = SCORE_NAMES[score][0].upper() + SCORE_NAMES[score][1:]
                parts.append(f"### {title}: {scan}, {units:,} neurons\n\n{_table(own, score)}")
    if worst := rows["undefined_units"].max():
        parts.append(f"Up to {worst:,} neurons have no correlation and are left out of the means.")
    return "\n\n".join(parts)


def _table(rows: pd.DataFrame, score: str) -> str:
    entries = intervals(rows, score, ["curve", "images"]).map(str).unstack("images", fill_value="-")
    lines = [
        "| condition | core | readout | fitted by | " + " | ".join(f"{n:,} images" for n in entries) + " |",
        "|---|---|---|---|" + "---:|" * len(entries.columns),
    ]
    for _, own in rows[rows[score].notna()].groupby("curve"):
        first = own.iloc[0]
        readout = READOUT_NAMES[first["readout"]] + (", sharing" if first["sharing"] else "")
        core = "-" if first["direct"] else first["core"]
        row = [first["condition"], core, readout, first["fit_method"], *entries.loc[first["curve"]]]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


# ---------------------------------------------------------------- where it comes from


def _provenance(results: Results) -> str:
    rows = results.all_rows
    machines = [json.loads(machine) for machine in rows["machine"].unique()]
    kinds = dict.fromkeys((m.get("cpu"), m.get("cpus"), m.get("system")) for m in machines)
    commits = sorted(rows["commit"].dropna().str[:12].unique())
    # That of a whole benchmark, from the commands of its runs.
    commands = sorted(rows["command"].str.partition(" --only ")[0].unique())
    scans = sorted(set(zip(rows["scan"], rows["data_sha256"].str[:12], strict=True)))
    return "\n".join(
        [
            "## How it was made\n",
            f"- {len(rows):,} runs, {rows['seconds'].sum() / 3600:.1f} hours of computing, "
            f"{rows['date'].min()} to {rows['date'].max()}",
            f"- commands: {_quoted(commands)}; one run alone with the command in its row",
            f"- code: {_quoted(commits) or 'not in a checkout'}",
            "- scans: " + ", ".join(f"{scan} (`{sha256}`)" for scan, sha256 in scans),
            "- machines: " + ", ".join(f"{cpu}, {cpus} CPUs, {system}" for cpu, cpus, system in kinds),
        ]
    )


def _quoted(texts: Sequence[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts)
