"""What in-silico experiments found beside the truth of a simulation, as Markdown."""

from __future__ import annotations

from typing import Any

TARGETS = {"orientation": 0.9, "frequency": 0.8, "centre_px": 1.0}


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    first = results["results"][0]
    fitted_to = "rates without noise" if results["noise_free_fit"] else "responses"
    lines = [
        f"""\
In-silico experiments on a model of **simulated** {fitted_to} ({results["scan"]}, {results["units"]} units, core \
{results["core"]} {results["core_hash"][:8]}, seed {results["seed"]}), against the truth of the simulation. \
{results["date"]}, {results["machine"]["cpu"]}, `{results["command"]}`

{first["units"]} units count: predicted test rates correlate above {results["rules"]["well_predicted_above"]} with \
the true ones, true orientation selectivity above {results["rules"]["tuned_above"]}.

| | measured | target |
|---|---|---|
| preferred orientation within 10 degrees | {first["orientation_within_10_degrees"]:.1%} | \
{TARGETS["orientation"]:.0%} |
| preferred spatial frequency within half an octave | {first["frequency_within_half_an_octave"]:.1%} | \
{TARGETS["frequency"]:.0%} |
| centre of the receptive field, median error | {first["centre_median_error_px"]["gaussian"]:.2f} px | \
{TARGETS["centre_px"]:.0f} px |

Preferred orientation is that of the mean vector of the tuning curve; of its peak, it is within 10 degrees for \
{first["orientation_peak_within_10_degrees"]:.1%}. The truth is that of the peak.

Stricter choices of units:

| correlation above | units | orientation within 10 deg | frequency within half an octave | centre: Gaussian / Gabor \
/ readout, px |
|---|---|---|---|---|"""
    ]
    for one in results["results"]:
        centre = " / ".join(f"{value:.2f}" for value in one["centre_median_error_px"].values())
        lines.append(
            f"| {one['least_correlation']} | {one['units']} | {one['orientation_within_10_degrees']:.1%} | "
            f"{one['frequency_within_half_an_octave']:.1%} | {centre} |"
        )
    lines.append(
        """
Preferred spatial frequency by what is true:

| true frequency, cycles per degree | units | median error, octaves | within half an octave |
|---|---|---|---|"""
    )
    for band, one in first["frequency_by_true_band"].items():
        octaves, within = one["median_octaves"], one["within_half_an_octave"]
        lines.append(f"| {band} | {one['units']} | {octaves:+.2f} | {within:.0%} |")
    lines.append(
        """
Every index beside that of the noise-free neurons under the same stimuli (intervals are of 95%):

| index | units | true, median | model, median | median error | rank correlation | interval holds it |
|---|---|---|---|---|---|---|"""
    )
    return "\n".join([*lines, *_indices(first["indices"])]) + "\n"


def _indices(indices: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for name, one in indices.items():
        rank, held = (
            "-" if one[key] is None else f"{one[key]:.2f}"
            for key in ("rank_correlation", "interval_holds_truth")
        )
        lines.append(
            f"| {name} | {one['units']} | {one['true_median']} | {one['model_median']} | "
            f"{one['median_absolute_error']} | {rank} | {held} |"
        )
    return lines
