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
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mousev1.metrics.score_names import SCORES
from mousev1.plot.palette import BLUE, ORANGE
from training import provenance
from training.measurements import script
from training.measurements.task import make_task, read_core
from training.measurements.transfer import METHODS, run_method
from training.paper_figures.data_efficiency import images_needed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = (50, 100, 200, 450, 1000, 2500, 4472)
STYLES = {"convex": ("convex fit", BLUE), "sgd": ('published recipe (method="sgd")', ORANGE)}
DRAWN = ("true_rate_correlation", "single_trial_correlation", "fraction_oracle")


def curve(runs: dict[str, Any], method: str, name: str) -> dict[int, float]:
    """A test score (or ``seconds``) of one method by the number of images, in order."""
    points = {}
    for key, run in runs.items():
        of, _, images = key.partition("/")
        value = run["seconds"] if name == "seconds" else run["test"].get(name)
        if of == method and value is not None:
            points[int(images)] = float(value)
    return dict(sorted(points.items()))


def savings(runs: dict[str, Any]) -> list[dict[str, Any]]:
    """How many images the convex fit needs for what the recipe reaches with some."""
    found = []
    for name in DRAWN:
        convex = curve(runs, "convex", name)
        for count, target in curve(runs, "sgd", name).items() if convex else ():
            needed = images_needed(convex, target)
            entry = {"score": name, "recipe_images": count, "recipe_score": target}
            found.append({**entry, "convex_images": round(needed, 1) if math.isfinite(needed) else None})
    return found


def draw(results: dict[str, Any]) -> Figure:
    """Both learning curves, and what they cost."""
    from matplotlib.figure import Figure

    runs = results["runs"]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    best = next((name for name in DRAWN if curve(runs, "convex", name)), "single_trial_correlation")
    for axes, name in ((left, best), (right, "seconds")):
        for method, (label, color) in STYLES.items():
            points = curve(runs, method, name)
            axes.plot(list(points), list(points.values()), color=color, marker="o", markersize=4, label=label)
        axes.set(xlabel="training images", xscale="log")
        ticks = sorted({image for method in STYLES for image in curve(runs, method, name)})
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    for saved in savings(runs):
        if saved["score"] == best and saved["recipe_images"] in (1000, 4472) and saved["convex_images"]:
            level, start = saved["recipe_score"], saved["convex_images"]
            left.plot([start, saved["recipe_images"]], [level] * 2, color="gray", linestyle=":", zorder=0)
            left.annotate(
                f"{start:,.0f}",
                (start, level),
                xytext=(-4, 4),
                textcoords="offset points",
                ha="right",
                color="gray",
            )
    left.set(ylabel=SCORES[best] + ", test")
    right.set(ylabel="seconds of the fit", yscale="log")
    script.decimal_ticks(right.yaxis, 1, 2, 5)
    left.legend(frameon=False, loc="lower right")
    figure.suptitle(
        f"{results['units']:,} neurons with simulated responses, core {results['core']} (seed {results['seed']})"
    )
    return figure


COLUMNS = ("true rate", "single trial", "fraction oracle", "seconds")


def table(results: dict[str, Any]) -> str:
    """The curves as Markdown, the recipe beside the convex fit."""
    runs = results["runs"]
    columns = ["images", *(f"{name}: convex / recipe" for name in COLUMNS), "load of the machine"]
    rows = []
    for images in sorted({int(key.partition("/")[2]) for key in runs}):
        both = [_entries(runs.get(f"{method}/{images}")) for method in STYLES]
        rows.append([f"{images:,}", *map(" / ".join, zip(*both, strict=True))])
    notes = []
    for saved in savings(runs):
        if saved["score"] == "true_rate_correlation":
            needed = saved["convex_images"]
            shown = "more images than were tried" if needed is None else f"{needed:,.0f} images"
            if needed == min(curve(runs, "convex", saved["score"])):
                shown += " or fewer"
            notes.append(
                f"The recipe's true-rate correlation with {saved['recipe_images']:,} images "
                f"({saved['recipe_score']:.4f}) takes the convex fit {shown}."
            )
    return "\n\n".join([script.table(columns, rows), *notes])


def _entries(run: dict[str, Any] | None) -> list[str]:
    if run is None:
        return ["-"] * (len(COLUMNS) + 1)
    scores = (script.digits(run["test"].get(name)) for name in DRAWN)
    return [*scores, f"{run['seconds']:,.1f}", str(run["machine"]["load_1_minute"])]


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that the result file lacks, then write the curves as text and figure."""
    options = _parser().options(arguments)
    what = "learning curves on simulated responses of real neurons' positions"
    header = script.identity(what, options.scan, read_core(options.core), options.seed)
    runs = {
        f"{method}/{images}": partial(run_point, options, method, images)
        for images in options.images
        for method in options.methods
    }
    again = [key for key in runs if key.partition("/")[0] in options.rerun]
    results = script.measured(options, {**header, "units": options.units}, "runs", runs, again)
    results["images_needed"] = savings(results["runs"])
    provenance.write_json(options.out, results)
    script.write_table(options.out, _heading(results), table(results))
    if options.figure is not None:
        draw(results).savefig(options.figure, dpi=150)


def run_point(options: argparse.Namespace, method: str, images: int) -> dict[str, Any]:
    """Fit and score one method on so many training images."""
    task = make_task(options, options.units, images, max_epochs=options.max_epochs)
    return run_method(task, METHODS[method], "test")


def _heading(results: dict[str, Any]) -> str:
    dates = sorted(run["date"] for run in results["runs"].values())
    return (
        f"Learning curves, {results['units']:,} neurons of {results['scan']} (responses simulated), core "
        f"{results['core']}, seed {results['seed']}, measured {dates[0]} to {dates[-1]} with "
        f"`{results['command']}`"
    )


def _parser() -> script.Parser:
    what = "Test scores of the convex fit and of the published recipe against training images."
    parser = script.parser("curve", what, "truth", "max-epochs", "figure")
    parser.add_argument("--units", type=int, default=1000, help="neurons, chosen by the seed (default: 1000)")
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES, help="numbers of training images")
    parser.add_argument(
        "--methods", nargs="+", choices=STYLES, default=list(STYLES), help="default: convex sgd"
    )
    parser.add_argument("--rerun", nargs="+", choices=STYLES, default=[], help="repeat runs of these methods")
    return parser


if __name__ == "__main__":
    main()
