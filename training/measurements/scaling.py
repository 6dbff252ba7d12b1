"""How time and memory of the convex fit grow with neurons and with images.

    python -m training.measurements.scaling SCAN --core CHECKPOINT --out FILE.json --figure FILE.png

Every size has a process of its own, which reads nothing but its own neurons and images, so that its peak
memory is that of the fit. Exponents are slopes of straight lines through log time (or memory beyond what
the process held before the fit) against log size. Sizes that the result file has are not repeated.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import mousev1
from mousev1.plot.palette import BLUE
from training import provenance
from training.measurements import script
from training.measurements.task import make_task, read_core
from training.measurements.turns import in_new_process

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = (100, 300, 2500, 5335)
IMAGES = (100, 300, 2000, 4472)
FIXED_UNITS, FIXED_IMAGES = 1000, 1000
LARGEST = (5335, 4472)
MEASURED = ("seconds", "processor seconds", "memory")
PARTS = {"all": slice(None), "upper_three": slice(-3, None)}
LABELS = {"all": "exponent", "upper_three": "upper three sizes"}
COLUMNS = {
    "neurons": "{units:,}",
    "images": "{images:,}",
    "seconds": "{seconds:,.1f}",
    "processor seconds": "{processor_seconds:,.1f}",
    "peak memory, MB": "{peak_memory_mb:,.0f}",
    "held before the fit, MB": "{memory_before_mb:,.0f}",
    "load": "{machine[load_1_minute]}",
}


def sizes(units: Sequence[int], images: Sequence[int]) -> list[tuple[int, int]]:
    """All (neurons, images) to be measured: along each axis with the other fixed, and the largest."""
    along = [(u, FIXED_IMAGES) for u in units] + [(FIXED_UNITS, i) for i in images]
    return [*along, (FIXED_UNITS, FIXED_IMAGES), LARGEST]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the least-squares line through log values against log sizes."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measure(options: argparse.Namespace, units: int, images: int) -> dict[str, Any]:
    """Time and memory of one fit, in a process of its own."""
    task = make_task(options, units, images)
    train_images, responses, _ = task.training
    assert task.scan.positions is not None, "a scan with cortical positions is needed"
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        np.savez(data, images=train_images, responses=responses, positions=task.scan.positions)
        cost = in_new_process(partial(_fit, data, options.core, options.seed))
    return {"units": units, "images": images, **cost}


def _fit(data: Path, core: Path, seed: int) -> dict[str, float]:
    with np.load(data) as arrays:
        images, responses, positions = (arrays[name] for name in ("images", "responses", "positions"))
    options: dict[str, Any] = {
        "core": read_core(core),
        "constant_units": "mean",
        "seed": seed,
        "progress": False,
    }
    _, cost = provenance.cost_of(partial(mousev1.fit_readout, images, responses, positions, **options))
    return cost


def along(points: dict[str, Any], axis: str) -> pd.DataFrame:
    """What was measured along ``"units"`` or ``"images"``, the other fixed, by size."""
    frame = pd.DataFrame(list(points.values()))
    other, fixed = ("images", FIXED_IMAGES) if axis == "units" else ("units", FIXED_UNITS)
    frame = frame[frame[other] == fixed].set_index(axis).sort_index()
    memory = frame["peak_memory_mb"] - frame["memory_before_mb"]
    return frame.assign(memory=memory).rename(columns={"processor_seconds": "processor seconds"})


def exponents(points: dict[str, Any]) -> dict[str, Any]:
    """Fitted exponents of time and memory along both axes, over all sizes and over the upper three."""
    found: dict[str, Any] = {}
    for axis in ("units", "images"):
        values = along(points, axis)
        for name in MEASURED if len(values) >= 3 else ():
            of_parts = {key: values[name].iloc[part] for key, part in PARTS.items()}
            found[f"{name} against {axis}"] = {
                # no -0.0
                key: round(exponent(list(part.index), list(part)), 2) + 0.0
                for key, part in of_parts.items()
            }
    return found


def draw(results: dict[str, Any]) -> Figure:
    """Time and memory against neurons and against images, log-log."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.4), layout="constrained")
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    labels = {"units": f"neurons ({FIXED_IMAGES:,} images)", "images": f"images ({FIXED_UNITS:,} neurons)"}
    titles = {"seconds": "seconds", "memory": "peak memory beyond data, MB"}
    for column, (axis, label) in enumerate(labels.items()):
        values = along(results["points"], axis)
        for row, (name, title) in enumerate(titles.items()):
            axes = grid[row, column]
            axes.loglog(values.index, values[name], "o", color=BLUE)
            fitted = results["exponents"].get(f"{name} against {axis}", {})
            for (key, power), style in zip(fitted.items(), ("-", ":"), strict=False):
                part = values[name].iloc[PARTS[key]]
                size = np.asarray(part.index, dtype=float)
                line = np.exp(np.mean(np.log(part / size**power))) * size**power
                axes.loglog(size, line, style, color="gray", label=f"{LABELS[key]}: {power:.2f}")
            axes.set(xlabel=label, ylabel=title)
            axes.set_xticks(values.index, [f"{size:,}" for size in values.index])
            axes.minorticks_off()
            script.decimal_ticks(axes.yaxis, 1, 2, 5)
            axes.legend(frameon=False)
            axes.grid(alpha=0.3)
    figure.suptitle(f"Convex fit, core {results['core']}, simulated responses")
    return figure


def table(results: dict[str, Any]) -> str:
    """Every size as Markdown, and the exponents."""
    points = sorted(results["points"].values(), key=lambda p: (p["units"], p["images"]))
    rows = [[form.format(**point) for form in COLUMNS.values()] for point in points]
    notes = [
        f"Exponent of {name}: {value['all']:.2f} (upper three sizes {value['upper_three']:.2f})."
        for name, value in results["exponents"].items()
    ]
    return "\n\n".join([script.table(list(COLUMNS), rows), *notes])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sizes that the result file lacks, then write exponents, table and figure."""
    options = _parser().options(arguments)
    what = "time and memory of the convex fit, simulated responses"
    header = script.identity(what, options.scan, read_core(options.core), options.seed)
    runs = {f"{u}x{i}": partial(measure, options, u, i) for u, i in sizes(options.units, options.images)}
    results = script.measured(options, header, "points", runs, again=runs if options.rerun else ())
    results["exponents"] = exponents(results["points"])
    provenance.write_json(options.out, results)
    machine = provenance.machine()
    heading = (
        f"Time and memory of the convex fit, {results['scan']} (responses simulated), core {results['core']}, "
        f"{provenance.now()}, {machine['cpu']}, {machine['cpus']} cores. `{results['command']}`"
    )
    script.write_table(options.out, heading, table(results))
    if options.figure is not None:
        draw(results).savefig(options.figure, dpi=150)


def _parser() -> script.Parser:
    parser = script.parser(
        "scaling",
        "Time and memory of the convex fit against neurons and images.",
        "rerun",
        "figure",
        scan="a scan with cortical positions and training trials",
    )
    parser.add_argument("--units", type=int, nargs="+", default=list(UNITS), help="numbers of neurons")
    parser.add_argument("--images", type=int, nargs="+", default=list(IMAGES), help="numbers of images")
    parser.set_defaults(truth=None)
    return parser


if __name__ == "__main__":
    main()
