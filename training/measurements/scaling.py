"""How time and memory of the convex fit grow with neurons and with images.

    python -m training.measurements.scaling SCAN --core CHECKPOINT --out FILE.json --figure FILE.png

Every size has a process of its own, which reads nothing but its own neurons and images, so that its peak
memory is that of the fit. Exponents are slopes of straight lines through log time (or memory beyond what
the process held before the fit) against log size. Sizes that the result file has are not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mousev1
from mousev1.plot.palette import BLUE
from training import provenance
from training.measurements import script
from training.measurements.task import make_task, read_core

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = (100, 300, 2500, 5335)
IMAGES = (100, 300, 2000, 4472)
FIXED_UNITS, FIXED_IMAGES = 1000, 1000
LARGEST = (5335, 4472)


def sizes(units: Sequence[int], images: Sequence[int]) -> list[tuple[int, int]]:
    """All (neurons, images) to be measured: along each axis with the other fixed, and the largest."""
    along = [(u, FIXED_IMAGES) for u in units] + [(FIXED_UNITS, i) for i in images]
    return [*along, (FIXED_UNITS, FIXED_IMAGES), LARGEST]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the least-squares line through log values against log sizes."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measure(data: Path, core: Path, seed: int) -> dict[str, Any]:
    """Time and memory of one fit in this process."""
    with np.load(data) as arrays:
        images, responses, positions = (arrays[name] for name in ("images", "responses", "positions"))
    frozen = read_core(core)
    _, cost = provenance.cost_of(
        lambda: mousev1.fit_readout(
            images, responses, positions, core=frozen, constant_units="mean", seed=seed, progress=False
        )
    )
    return cost


def run_point(options: argparse.Namespace, units: int, images: int) -> dict[str, Any]:
    """One size, in a process of its own."""
    task = make_task(options, units, images)
    train_images, responses, _ = task.training
    positions = task.scan.positions
    assert positions is not None, "a scan with cortical positions is needed"
    circumstances = provenance.circumstances()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        np.savez(data, images=train_images, responses=responses, positions=positions)
        flags = ["--core", str(options.core), "--seed", str(options.seed), "--point", str(data)]
        flags += ["--out", str(options.out)]
        if options.threads:
            flags += ["--threads", str(options.threads)]
        command = [sys.executable, "-m", "training.measurements.scaling", str(options.scan), *flags]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**circumstances, "units": units, "images": images, **found}


def axis_points(points: dict[str, Any], axis: str) -> list[dict[str, Any]]:
    """Measurements along ``"units"`` or ``"images"``, the other fixed, in order."""
    other, fixed = ("images", FIXED_IMAGES) if axis == "units" else ("units", FIXED_UNITS)
    return sorted((p for p in points.values() if p[other] == fixed), key=lambda p: int(p[axis]))


def _rounded(value: float) -> float:
    return round(value, 2) + 0.0  # no -0.0


def exponents(points: dict[str, Any]) -> dict[str, Any]:
    """Fitted exponents of time and memory along both axes, over all sizes and over the upper three."""
    found: dict[str, Any] = {}
    for axis in ("units", "images"):
        along = axis_points(points, axis)
        for name, values in (
            ("seconds", [p["seconds"] for p in along]),
            ("processor seconds", [p["processor_seconds"] for p in along]),
            ("memory", [p["peak_memory_mb"] - p["memory_before_mb"] for p in along]),
        ):
            at = [p[axis] for p in along]
            if len(along) >= 3:
                found[f"{name} against {axis}"] = {
                    "all": _rounded(exponent(at, values)),
                    "upper_three": _rounded(exponent(at[-3:], values[-3:])),
                }
    return found


def draw(results: dict[str, Any]) -> Figure:
    """Time and memory against neurons and against images, log-log."""
    from matplotlib.figure import Figure

    points = results["points"]
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    grid = figure.subplots(2, 2)
    labels = {"units": f"neurons ({FIXED_IMAGES:,} images)", "images": f"images ({FIXED_UNITS:,} neurons)"}
    names = {"all": "exponent", "upper_three": "upper three sizes"}
    for column, (axis, label) in enumerate(labels.items()):
        along = axis_points(points, axis)
        at = np.array([p[axis] for p in along], dtype=float)
        rows = {
            "seconds": ("seconds", [p["seconds"] for p in along]),
            "memory": (
                "peak memory beyond data, MB",
                [p["peak_memory_mb"] - p["memory_before_mb"] for p in along],
            ),
        }
        for row, (name, (title, values)) in enumerate(rows.items()):
            axes = grid[row, column]
            axes.loglog(at, values, "o", color=BLUE)
            fitted = results["exponents"].get(f"{name} against {axis}")
            if fitted:
                styles = (("all", "-"), ("upper_three", ":")) if len(along) > 3 else (("all", "-"),)
                for key, style in styles:
                    part = slice(None) if key == "all" else slice(-3, None)
                    slope, offset = np.polyfit(np.log(at[part]), np.log(values[part]), 1)
                    line = np.exp(offset) * at[part] ** slope
                    axes.loglog(at[part], line, style, color="gray", label=f"{names[key]}: {slope:.2f}")
                axes.legend(frameon=False)
            axes.set(xlabel=label, ylabel=title)
            axes.set_xticks(at, [f"{int(size):,}" for size in at])
            axes.minorticks_off()
            low, high = min(values), max(values)
            axes.set_ylim(low / 1.6, high * 1.6)
            ticks = [
                step * 10.0**power
                for power in range(-1, 5)
                for step in (1, 2, 5)
                if low / 1.6 <= step * 10.0**power <= high * 1.6
            ]
            axes.set_yticks(ticks, [f"{tick:,g}" for tick in ticks])
            axes.grid(alpha=0.3)
    figure.suptitle(f"Convex fit, core {results['core']}, simulated responses")
    return figure


def table(results: dict[str, Any]) -> str:
    """Every size as Markdown, and the exponents."""
    lines = [
        "| neurons | images | seconds | processor seconds | peak memory, MB | held before the fit, MB | load |",
        "|" + "---|" * 7,
    ]
    for p in sorted(results["points"].values(), key=lambda p: (p["units"], p["images"])):
        entries = [
            f"{p['units']:,}",
            f"{p['images']:,}",
            f"{p['seconds']:,.1f}",
            f"{p['processor_seconds']:,.1f}",
            f"{p['peak_memory_mb']:,.0f}",
            f"{p['memory_before_mb']:,.0f}",
            f"{p['machine']['load_1_minute']}",
        ]
        lines.append(f"| {' | '.join(entries)} |")
    for name, value in results["exponents"].items():
        lines.append(
            f"\nExponent of {name}: {value['all']:.2f} (upper three sizes {value['upper_three']:.2f})."
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sizes that the result file lacks, then write exponents, table and figure."""
    options = _parser().options(arguments)
    if options.point is not None:
        print(json.dumps(measure(options.point, options.core, options.seed)))
        return
    what = "time and memory of the convex fit, simulated responses"
    header = script.identity(what, options.scan, read_core(options.core), options.seed)
    results = script.resume(options, header, "points")
    for units, images in sizes(options.units, options.images):
        key = f"{units}x{images}"
        if key in results["points"] and not options.rerun:
            continue
        results["points"][key] = run_point(options, units, images)
        provenance.write_json(options.out, results)
        print(f"{key}: {results['points'][key]['seconds']:.1f} s", file=sys.stderr, flush=True)
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
        "a scan with cortical positions and training trials",
    )
    parser.add_argument("--units", type=int, nargs="+", default=list(UNITS), help="numbers of neurons")
    parser.add_argument("--images", type=int, nargs="+", default=list(IMAGES), help="numbers of images")
    parser.set_defaults(truth=None)
    parser.add_argument("--rerun", action="store_true", help="measure again what the result file has")
    parser.add_argument("--point", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--figure", type=Path, help="also draw the results into this file (.png)")
    return parser


if __name__ == "__main__":
    main()
