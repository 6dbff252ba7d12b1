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
    tuning = measure_tuning(model, units=panels, frame=found.frame, progress=False)
    figure = plot.tuning_panels(
        tuning,
        title=f"{title}: tuning of the {len(panels)} best predicted units\nevoked responses; bands: "
        "95% intervals; hollow: outside the training images",
    )
    plot.save(figure, folder / "tuning.png")


def markdown(results: dict[str, Any], title: str) -> str:
    """The results as a table against the targets."""
    turns, good = results["turns"], results["well_predicted"]
    machine, agree, loops = results["machine"], results["agreement"], turns["ratio"]
    beats, masked, outside = (
        f"{100 * share['share']:.{digits}f}%"
        for share, digits in (
            (results["beats_natural"], 1),
            (results["beats_masked_natural"], 1),
            (results["extrapolation"]["outside"], 0),
        )
    )
    return f"""# {title}

Scan `{results["scan"]}`, responses {results["responses"]}, core {results["core"]}; {results["units"]:,} units, of \
which {good["units"]} are well predicted (correlation with {good["judged_by"]} above {good["threshold"]}). RMS \
contrast {results["contrast"]:g} of the whole frame.

| | measured | target |
|---|---|---|
| well predicted units whose image beats the best of {results["gallery_images"]:,} natural ones | {beats} | 99% |
| ... by a factor of (median) | {results["gain_over_natural"]["median"]:.2f} |  |
| ... the best {MASKED_CANDIDATES} of them confined to its mask | {masked} |  |
| correlation of the images from two starts (median; 5% are below) | {agree["median"]:.3f}; {agree["p05"]:.3f} |  |
| minutes for 1,000 units x {results["steps"]} steps | {results["minutes_per_1000_units"]:.1f} | under 10 |
| a loop over units takes, times as long | {loops["loop"]:.1f} | 5 |
| ... without the readouts of the other units | {loops["lean loop"]:.1f} |  |
| images outside of the training images | {outside} |  |

Times on {machine["torch_threads"]} threads of {machine["cpu"]} under a load of {machine["load_1_minute"]}; ratios \
are of medians of turns in one run; of processor time they are {turns["processor_ratio"]["loop"]:.1f} and \
{turns["processor_ratio"]["lean loop"]:.1f}.

Command: `{results["command"]}`
"""
