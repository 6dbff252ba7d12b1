"""Results of a comparison of cores as Markdown tables and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORES = {
    "single_trial_correlation": "correlation with single trials",
    "true_rate_correlation": "correlation with the true rate, over neurons that respond to images",
    "correlation_to_average": "correlation with the average over repeats",
    "fraction_oracle": "fraction oracle",
}

# Okabe and Ito: told apart by readers with any colour vision.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#56B4E9", "#CC79A7")
DIRECT_STYLES = (("black", "-", "s"), ("0.45", "--", "D"))


def markdown(results: dict[str, Any], groups: Sequence[str]) -> str:
    """What was compared, one table per score, and which cores they were.

    Args:
        results: content of the result file.
        groups: labels of the config's cores, in its order; other rows come after them.
    """
    scan, rows = results["scan"], results["rows"]
    labels = _labels(rows, groups)
    counts = sorted({row["cell"]["images"] for row in rows})
    lines = [
        f"# {results['title']}\n",
        f"Scan {scan['name']}: {scan['units']:,} neurons, {scan['test_images']:,} test images in "
        f"{scan['test_trials']:,} trials, mean oracle correlation {_number(scan['oracle_correlation'])}. "
        "Scores on the test tier, averaged over neurons; a dash is a cell that was not computed.",
    ]
    if any(row["cell"]["group"].startswith("direct") for row in rows):
        lines.append(
            "'Direct' cores were trained end to end on these training images alone, stopping on the validation "
            "tier; all others were frozen, and their readouts never saw that tier."
        )
    for score, title in SCORES.items():
        if all(score not in row["scores"] for row in rows):
            continue
        lines += [
            f"\n## {title[0].upper()}{title[1:]}\n",
            "| core | " + " | ".join(f"{count:,} images" for count in counts) + " |",
            "|---|" + "---:|" * len(counts),
        ]
        for label in labels:
            values = [_value(rows, label, count, score) for count in counts]
            lines.append(f"| {label} | " + " | ".join(_number(value) for value in values) + " |")
    lines += [
        "\n## Cores\n",
        "| core | content hash | prior over readout weights | undefined neurons | seconds at most images |",
        "|---|---|---|---|---|",
    ]
    for label in labels:
        own = [row for row in rows if row["cell"]["label"] == label]
        last = max(own, key=lambda row: int(row["cell"]["images"]))
        hashes = sorted({f"`{row['content_hash'][:12]}`" for row in own})
        undefined = [row["scores"]["undefined_units"] for row in own]
        span = str(min(undefined)) + (f" to {max(undefined)}" if max(undefined) > min(undefined) else "")
        lines.append(f"| {label} | {', '.join(hashes)} | {_prior(own[0])} | {span} | {last['seconds']:.0f} |")
    busiest = max(row["machine"]["load_1_minute"] or 0.0 for row in rows)
    lines.append(
        f"\nSeconds were taken while other work shared the machine (load up to {busiest:.0f} on "
        f"{rows[0]['machine']['cpus']} processors), so they are upper bounds."
    )
    commands = sorted({row["command"] for row in rows})
    lines.append("\nMade by " + ", ".join(f"`{command}`" for command in commands) + ".")
    return "\n".join(lines) + "\n"


def figure(results: dict[str, Any], groups: Sequence[str]) -> Figure:
    """Scores over the number of training images, one colour per core; seeds as points, their mean as line.

    Args:
        results: content of the result file.
        groups: labels of the config's cores, in its order, which decides their colours.
    """
    from matplotlib.figure import Figure

    rows = results["rows"]
    shown = [
        score
        for score in ("single_trial_correlation", "true_rate_correlation")
        if any(row["scores"].get(score) is not None for row in rows)
    ]
    drawn = Figure(figsize=(4.4 * len(shown) + 0.6, 4.6), layout="constrained")
    axes = drawn.subplots(1, len(shown), squeeze=False)[0]
    for axis, score in zip(axes, shown, strict=True):
        _draw(axis, rows, groups, score)
        axis.set_xscale("log")
        counts = sorted({row["cell"]["images"] for row in rows})
        axis.set_xticks(counts, [f"{count:,}" for count in counts])
        axis.minorticks_off()
        axis.set_xlabel("training images")
        axis.set_ylabel(SCORES[score].partition(",")[0])
        axis.spines[["top", "right"]].set_visible(False)
        oracle = results["scan"]["oracle_correlation"]
        if score == "single_trial_correlation" and oracle is not None:
            axis.axhline(oracle, color="0.6", lw=0.9, ls=":", label="oracle (other repeats)", zorder=0)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 3), frameon=False, fontsize=8
    )
    drawn.suptitle(f"{results['title']}\n{results['scan']['units']:,} neurons, test images", fontsize=10)
    return drawn


def _draw(axis: Axes, rows: list[dict[str, Any]], groups: Sequence[str], score: str) -> None:
    present = list(dict.fromkeys(row["cell"]["group"] for row in rows))
    direct = [group for group in present if group.startswith("direct")]
    styles = {group: (COLOURS[i % len(COLOURS)], "-", "o") for i, group in enumerate(groups)}
    styles |= {group: DIRECT_STYLES[i % len(DIRECT_STYLES)] for i, group in enumerate(direct)}
    for group, (colour, line, marker) in styles.items():
        points = [
            (row["cell"]["images"], row["scores"][score])
            for row in rows
            if row["cell"]["group"] == group and row["scores"].get(score) is not None
        ]
        if not points:
            continue
        counts = sorted({count for count, _ in points})
        means = [fmean(value for count, value in points if count == at) for at in counts]
        axis.plot(counts, means, color=colour, ls=line, lw=1.6, label=group)
        axis.plot(*zip(*points, strict=True), color=colour, marker=marker, ls="", ms=4)


def _labels(rows: list[dict[str, Any]], groups: Sequence[str]) -> list[str]:
    order = {group: place for place, group in enumerate(groups)}
    found = {row["cell"]["label"]: row["cell"]["group"] for row in rows}
    return sorted(found, key=lambda label: (order.get(found[label], len(order)), label))


def _prior(row: dict[str, Any]) -> str:
    identity = row["cell"]["identity"]
    if row["cell"]["group"] == "direct":
        return "none, trained with the core"
    return "learned, starting from the core's" if identity.get("prior_sha256") else "learned"


def _value(rows: list[dict[str, Any]], label: str, images: int, score: str) -> float | None:
    """Mean over seeds."""
    values = [
        row["scores"].get(score)
        for row in rows
        if row["cell"]["label"] == label and row["cell"]["images"] == images
    ]
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
