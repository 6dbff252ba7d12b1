"""What in-silico experiments found beside the truth of a simulation, as Markdown."""

from __future__ import annotations

from typing import Any

TARGETS = {"orientation": 0.9, "frequency": 0.8, "centre_px": 1.0}


def against_targets(first: dict[str, Any]) -> list[str]:
    """Rows of what was measured beside its target."""
    rows = [
        (
            "preferred orientation within 10 degrees",
            f"{first['orientation_within_10_degrees']:.1%}",
            f"{TARGETS['orientation']:.0%}",
        ),
        (
            "preferred spatial frequency within half an octave",
            f"{first['frequency_within_half_an_octave']:.1%}",
            f"{TARGETS['frequency']:.0%}",
        ),
        (
            "centre of the receptive field, median error",
            f"{first['centre_median_error_px']['gaussian']:.2f} px",
            f"{TARGETS['centre_px']:.0f} px",
        ),
    ]
    return [f"| {name} | {value} | {target} |" for name, value, target in rows]


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    first = results["results"][0]
    fitted_to = "rates without noise" if results["noise_free_fit"] else "responses"
    lines = [
        f"In-silico experiments on a model of **simulated** {fitted_to} ({results['scan']}, {results['units']} "
        f"units, core {results['core']} {results['core_hash'][:8]}, seed {results['seed']}), against the truth "
        f"of the simulation. {results['date']}, {results['machine']['cpu']}, `{results['command']}`",
        "",
        f"{first['units']} units count: predicted test rates correlate above "
        f"{results['rules']['well_predicted_above']} with the true ones, true orientation selectivity above "
        f"{results['rules']['tuned_above']}.",
        "",
        "| | measured | target |",
        "|---|---|---|",
        *against_targets(first),
        "",
        "Preferred orientation is that of the mean vector of the tuning curve; of its peak, it is within 10 degrees "
        f"for {first['orientation_peak_within_10_degrees']:.1%}. The truth is that of the peak.",
        "",
        "Stricter choices of units:",
        "",
        "| correlation above | units | orientation within 10 deg | frequency within half an octave | centre: "
        "Gaussian / Gabor / readout, px |",
        "|---|---|---|---|---|",
    ]
    for one in results["results"]:
        centre = " / ".join(f"{value:.2f}" for value in one["centre_median_error_px"].values())
        lines.append(
            f"| {one['least_correlation']} | {one['units']} | {one['orientation_within_10_degrees']:.1%} | "
            f"{one['frequency_within_half_an_octave']:.1%} | {centre} |"
        )
    lines += [
        "",
        "Preferred spatial frequency by what is true:",
        "",
        "| true frequency, cycles per degree | units | median error, octaves | within half an octave |",
        "|---|---|---|---|",
        *(
            f"| {band} | {one['units']} | {one['median_octaves']:+.2f} | {one['within_half_an_octave']:.0%} |"
            for band, one in first["frequency_by_true_band"].items()
        ),
        "",
        "Every index beside that of the noise-free neurons under the same stimuli (intervals are of 95%):",
        "",
        "| index | units | true, median | model, median | median error | rank correlation | interval holds it |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in first["indices"].items():
        rank, held = (
            "-" if one[key] is None else f"{one[key]:.2f}"
            for key in ("rank_correlation", "interval_holds_truth")
        )
        lines.append(
            f"| {name} | {one['units']} | {one['true_median']} | {one['model_median']} | "
            f"{one['median_absolute_error']} | {rank} | {held} |"
        )
    return "\n".join(lines) + "\n"
