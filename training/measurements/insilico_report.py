"""Most exciting images of a population as a table against targets, and as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mousev1 import plot
from mousev1.cli.unit_report import own_distance
from mousev1.insilico import OptimalImages, measure_tuning
from mousev1.model.response_model import ResponseModel

Array = npt.NDArray[Any]

MASKED_CANDIDATES = 20
SHEET, PANELS = 24, 8


def draw(folder: Path, model: ResponseModel, found: OptimalImages, order: Array, title: str) -> None:
    """The sheet of the best predicted units' images, and the tuning of the best of these."""
    best = order[:SHEET]
    far = own_distance(model, found.images, np.arange(len(found)))[best]
    labels = [
        f"{found.unit_ids[u]}: {found.response[u]:.2g}, blank {found.blank_response[u]:.2g}" for u in best
    ]
    note = "\nred: farther from the training images than 99% of these" if (far > 1).any() else ""
    sheet = plot.image_sheet(
        found.images[best],
        found.frame,
        labels,
        outside=far > 1,
        title=f"{title}: most exciting images of the {len(best)} best predicted units, "
        f"RMS contrast {found.settings.contrast:g}{note}",
    )
    plot.save(sheet, folder / "mei.png")
    plot.save(plot.traces(found, title="ascent, all units"), folder / "convergence.png")
    panels = order[:PANELS]
    tuning = measure_tuning(model, units=panels, frame=found.frame)
    figure = plot.tuning_panels(
        tuning,
        title=f"{title}: tuning of the {len(panels)} best predicted units\nevoked responses; bands: "
        "95% intervals; hollow: outside the training images",
    )
    plot.save(figure, folder / "tuning.png")


def markdown(results: dict[str, Any], title: str) -> str:
    """The results as a table against the targets."""
    turns, good = results["turns"], results["well_predicted"]
    cpu, load = results["machine"]["cpu"], results["machine"]["load_1_minute"]
    beats, masked = results["beats_natural"], results["beats_masked_natural"]
    agree, loops = results["agreement"], turns["ratio"]
    rows = [
        (
            f"well predicted units whose image beats the best of {results['gallery_images']:,} natural ones",
            f"{100 * beats['share']:.1f}%",
            "99%",
        ),
        ("... by a factor of (median)", f"{results['gain_over_natural']['median']:.2f}", ""),
        (
            f"... the best {MASKED_CANDIDATES} of them confined to its mask",
            f"{100 * masked['share']:.1f}%",
            "",
        ),
        (
            "correlation of the images from two starts (median; 5% are below)",
            f"{agree['median']:.3f}; {agree['p05']:.3f}",
            "",
        ),
        (
            f"minutes for 1,000 units x {results['steps']} steps",
            f"{results['minutes_per_1000_units']:.1f}",
            "under 10",
        ),
        ("a loop over units takes, times as long", f"{loops['loop']:.1f}", "5"),
        ("... without the readouts of the other units", f"{loops['lean loop']:.1f}", ""),
        (
            "images outside of the training images",
            f"{100 * results['extrapolation']['outside']['share']:.0f}%",
            "",
        ),
    ]
    table = "\n".join(f"| {name} | {value} | {target} |" for name, value, target in rows)
    return (
        f"# {title}\n\n"
        f"Scan `{results['scan']}`, responses {results['responses']}, core {results['core']}; {results['units']:,} "
        f"units, of which {good['units']} are well predicted (correlation with {good['judged_by']} above "
        f"{good['threshold']}). RMS contrast {results['contrast']:g} of the whole frame.\n\n"
        f"| | measured | target |\n|---|---|---|\n{table}\n\n"
        f"Times on {results['machine']['torch_threads']} threads of {cpu} under a load of {load}; ratios are of "
        f"medians of turns in one run; of processor time they are {turns['processor_ratio']['loop']:.1f} and "
        f"{turns['processor_ratio']['lean loop']:.1f}.\n\n"
        f"Command: `{results['command']}`\n"
    )
