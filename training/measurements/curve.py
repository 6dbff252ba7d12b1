"""How good a readout is against the number of training images: the convex fit and the published recipe.

    python -m training.measurements.curve SCAN --core CHECKPOINT --truth TRUTH --units 1000 --seed 0 --out FILE.json

The recipe is ``method="sgd"``, whose scores equal those of its authors' library (``transfer``), on features
computed once. Both get the same core, neurons and images; fewer images are always among the more. Every
run, one method at one number of images, is written as soon as it is there and not repeated, so that an
interrupted run continues where it stopped. With ``--figure`` both curves are drawn.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mousev1.fit.inputs import check_inputs, response_scale
from mousev1.fit.sgd import fit_sgd
from mousev1.metrics.score_names import SCORES
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.plot.palette import BLUE, ORANGE
from training import provenance
from training.measurements import script
from training.measurements.task import Task, make_task, score
from training.measurements.transfer import MethodFit, recipe, run_convex
from training.paper_figures.data_efficiency import images_needed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = (50, 100, 200, 450, 1000, 2500, 4472)
LABELS = {"convex": "convex fit", "sgd": 'published recipe (method="sgd")'}
STYLES = {"convex": BLUE, "sgd": ORANGE}
DRAWN = ("true_rate_correlation", "single_trial_correlation", "fraction_oracle")


def run_recipe(task: Task) -> MethodFit:
    """``method="sgd"`` in its parts, because a fitted model does not keep the number of epochs."""
    images, responses, image_ids = task.training
    data = check_inputs(
        task.core,
        images,
        responses,
        task.scan.positions,
        image_ids=image_ids,
        validation=task.validation,
        pixels_per_degree=None,
    )
    assert data.validation is not None
    scale, _ = response_scale(data.responses)
    fit = fit_sgd(
        task.core,
        (data.images, data.responses / scale),
        (data.validation[0], data.validation[1] / scale),
        data.cortex,
        settings=recipe(task),
        seed=task.seed,
        device=torch.device("cpu"),
        progress=False,
    )
    model = ResponseModel(
        fit.core,
        fit.readout,
        unit_ids=task.scan.unit_ids,
        response_scale=scale,
        record=FitRecord("sgd"),
    )
    found = {"validation_correlation": fit.validation_correlation, "epochs": fit.epochs}
    return MethodFit(model.predict, {"fit": found})


def run_method(task: Task, method: str) -> dict[str, Any]:
    """Fit and score one method on the training images of the task."""
    started = time.perf_counter()
    fitted = run_convex(task) if method == "convex" else run_recipe(task)
    seconds = time.perf_counter() - started
    return {
        **provenance.circumstances(),
        "seconds": round(seconds, 3),
        "test": score(task, fitted.predict, "test"),
        "fit": fitted.details.get("fit"),
    }


def curve(runs: dict[str, Any], method: str, name: str) -> tuple[list[int], list[float]]:
    """Numbers of images and a test score (or ``seconds``) of one method, in order."""
    points = []
    for key, run in runs.items():
        of, _, images = key.partition("/")
        value = run["seconds"] if name == "seconds" else run["test"].get(name)
        if of == method and value is not None:
            points.append((int(images), float(value)))
    return [images for images, _ in sorted(points)], [value for _, value in sorted(points)]


def savings(runs: dict[str, Any]) -> list[dict[str, Any]]:
    """How many images the convex fit needs for what the recipe reaches with some."""
    found = []
    for name in DRAWN:
        images, scores = curve(runs, "convex", name)
        for count, target in zip(*curve(runs, "sgd", name), strict=True):
            if images:
                needed = images_needed(dict(zip(images, scores, strict=True)), target)
                entry = {"score": name, "recipe_images": count, "recipe_score": target}
                found.append({**entry, "convex_images": round(needed, 1) if math.isfinite(needed) else None})
    return found


def draw(results: dict[str, Any]) -> Figure:
    """Both learning curves, and what they cost."""
    from matplotlib.figure import Figure

    runs = results["runs"]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    best = next((name for name in DRAWN if curve(runs, "convex", name)[0]), "single_trial_correlation")
    for method, label in LABELS.items():
        style = {"color": STYLES[method], "marker": "o", "markersize": 4, "label": label}
        left.plot(*curve(runs, method, best), **style)
        right.plot(*curve(runs, method, "seconds"), **style)
    for saved in savings(runs):
        if saved["score"] == best and saved["recipe_images"] in (1000, 4472) and saved["convex_images"]:
            ends = [saved["convex_images"], saved["recipe_images"]]
            left.plot(ends, [saved["recipe_score"]] * 2, color="gray", linestyle=":", zorder=0)
            left.annotate(
                f"{saved['convex_images']:,.0f}",
                (ends[0], saved["recipe_score"]),
                xytext=(-4, 4),
                textcoords="offset points",
                ha="right",
                color="gray",
            )
    left.set(xlabel="training images", ylabel=SCORES[best] + ", test", xscale="log")
    right.set(xlabel="training images", ylabel="seconds of the fit", xscale="log", yscale="log")
    ticks = sorted({images for method in LABELS for images in curve(runs, method, best)[0]})
    for axes in (left, right):
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    low, high = right.get_ylim()
    seconds = [step * 10.0**power for power in range(-1, 4) for step in (1, 2, 5)]
    seconds = [value for value in seconds if low <= value <= high]
    right.set_yticks(seconds, [f"{value:,g}" for value in seconds])
    left.legend(frameon=False, loc="lower right")
    figure.suptitle(
        f"{results['units']:,} neurons with simulated responses, core {results['core']} (seed {results['seed']})"
    )
    return figure


def table(results: dict[str, Any]) -> str:
    """The curves as Markdown, the recipe beside the convex fit."""
    runs = results["runs"]
    lines = [
        "| images | true rate: convex / recipe | single trial: convex / recipe | fraction oracle: convex / "
        "recipe | seconds: convex / recipe | load of the machine |",
        "|---|---|---|---|---|---|",
    ]
    for images in sorted({int(key.partition("/")[2]) for key in runs}):
        both = [runs.get(f"{method}/{images}") for method in ("convex", "sgd")]
        columns = [
            " / ".join("-" if run is None else _digits(run["test"].get(name)) for run in both)
            for name in DRAWN
        ]
        seconds = " / ".join("-" if run is None else f"{run['seconds']:,.1f}" for run in both)
        loads = " / ".join("-" if run is None else f"{run['machine']['load_1_minute']}" for run in both)
        lines.append(f"| {images:,} | {' | '.join(columns)} | {seconds} | {loads} |")
    for saved in savings(runs):
        if saved["score"] == "true_rate_correlation":
            needed = saved["convex_images"]
            shown = "more images than were tried" if needed is None else f"{needed:,.0f} images"
            if needed == min(curve(runs, "convex", saved["score"])[0]):
                shown += " or fewer"
            lines.append(
                f"\nThe recipe's true-rate correlation with {saved['recipe_images']:,} images "
                f"({saved['recipe_score']:.4f}) takes the convex fit {shown}."
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that the result file lacks, then write the curves as text and figure."""
    options = _parser().options(arguments)
    core = _task(options, options.images[0]).core
    what = "learning curves on simulated responses of real neurons' positions"
    header = script.identity(what, options.scan, core, options.seed) | {"units": options.units}
    results = script.resume(options, header, "runs")
    for images in options.images:
        for method in options.methods:
            key = f"{method}/{images}"
            if key in results["runs"] and method not in options.rerun:
                continue
            run = results["runs"][key] = run_method(_task(options, images), method)
            results["images_needed"] = savings(results["runs"])
            provenance.write_json(options.out, results)
            scores = {name: value for name, value in run["test"].items() if name in DRAWN}
            print(f"{key}: {scores}, {run['seconds']:.1f} s", file=sys.stderr, flush=True)
    script.write_table(options.out, _heading(results), table(results))
    if options.figure is not None:
        draw(results).savefig(options.figure, dpi=150)


def _task(options: argparse.Namespace, images: int) -> Task:
    return make_task(options, options.units, images, max_epochs=options.max_epochs)


def _heading(results: dict[str, Any]) -> str:
    dates = sorted(run["date"] for run in results["runs"].values())
    return (
        f"Learning curves, {results['units']:,} neurons of {results['scan']} (responses simulated), core "
        f"{results['core']}, seed {results['seed']}, measured {dates[0]} to {dates[-1]} with "
        f"`{results['command']}`"
    )


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _parser() -> script.Parser:
    parser = script.parser(
        "curve", "Test scores of the convex fit and of the published recipe against training images."
    )
    parser.add_argument("--truth", type=Path, help="true rates of a simulated scan (.npz)")
    parser.add_argument("--units", type=int, default=1000, help="neurons, chosen by the seed (default: 1000)")
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES, help="numbers of training images")
    parser.add_argument(
        "--methods", nargs="+", choices=LABELS, default=list(LABELS), help="default: convex sgd"
    )
    parser.add_argument("--rerun", nargs="+", choices=LABELS, default=[], help="repeat runs of these methods")
    parser.add_argument("--max-epochs", type=int, default=200, help="limit of the recipe (default: 200)")
    parser.add_argument("--figure", type=Path, help="also draw the curves into this file (.png)")
    return parser


if __name__ == "__main__":
    main()
