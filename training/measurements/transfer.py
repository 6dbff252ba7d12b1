"""Fit readouts to a scan with the authors' library and with mousev1, side by side in one process.

    python -m training.measurements.transfer SCAN --core CHECKPOINT --units 1000 --images 4472 --seed 0 --out FILE.json

Both get the same core, neurons, training images, validation and test trials. Finished fits are kept in
FILE.json as they come and are not repeated, so an interrupted benchmark continues where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy.typing as npt

from training import provenance
from training.measurements import script
from training.measurements.peer import import_peer
from training.measurements.task import Task, fit_ours, fit_theirs, make_task, recipe, score

Array = npt.NDArray[Any]


class MethodFit(NamedTuple):
    """A fitted model behind the one function that scoring needs, (N, C, H, W) gray values to (N, U) rates."""

    predict: Callable[[Array], Array]
    details: dict[str, Any]


def run_peer(task: Task) -> MethodFit:
    """The published recipe with the authors' library."""
    fit = fit_theirs(task)
    epochs = [epoch._asdict() for epoch in fit.epochs]
    return MethodFit(fit.predict, {"settings": asdict(recipe(task)), "epochs": epochs})


def run_ours(task: Task, method: str) -> MethodFit:
    """A method of mousev1; ``"sgd"`` is the recipe, with features computed once while the core is frozen."""
    settings = recipe(task) if method == "sgd" else None
    model = fit_ours(task, validation=task.validation, method=method, settings=settings)
    return MethodFit(model.predict, {"settings": model.record.settings, "fit": model.record.scores})


METHODS: dict[str, Callable[[Task], MethodFit]] = {
    "peer": run_peer,
    "sgd": partial(run_ours, method="sgd"),
    "convex": partial(run_ours, method="convex"),
}


def run_method(task: Task, run: Callable[[Task], MethodFit], *tiers: str) -> dict[str, Any]:
    """Seconds of a fit, its scores on some tiers, and its details."""
    started = time.perf_counter()
    fitted = run(task)
    seconds = round(time.perf_counter() - started, 3)
    return {
        "seconds": seconds,
        **{tier: score(task, fitted.predict, tier) for tier in tiers},
        **fitted.details,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the methods that are not in the result file yet, and print all of it as a table."""
    options = _parser().options(arguments)
    if "peer" in options.methods:
        import_peer()  # its import time is not part of its fit
    task = make_task(
        options, options.units, options.images, core_mode=options.core_mode, max_epochs=options.max_epochs
    )
    header = {
        "scan": options.scan.name,
        "data_sha256": provenance.data_sha256(options.scan),
        "units": options.units,
        "images": options.images,
        "seed": options.seed,
        "core_mode": options.core_mode,
        "max_epochs": options.max_epochs,
        "truth": options.truth is not None,
        "core": task.core.name,
        "core_hash": task.core.content_hash(),
    }
    runs = {
        method: partial(run_method, task, METHODS[method], "validation", "test") for method in options.methods
    }
    results = script.measured(options, header, "fits", runs, again=runs if options.rerun else ())
    print(table(results))
    print(f"wrote {options.out}")


def table(results: dict[str, Any]) -> str:
    """The results as text, with the time of each method against the authors'."""
    columns = {
        "validation": ("validation", "single_trial_correlation"),
        "test": ("test", "single_trial_correlation"),
        "to average": ("test", "correlation_to_average"),
        "fraction oracle": ("test", "fraction_oracle"),
        "true rate": ("test", "true_rate_correlation"),
    }
    fits = results["fits"]
    peer = fits.get("peer", {}).get("seconds")
    units, images = ("all" if results[name] is None else f"{results[name]:,}" for name in ("units", "images"))
    lines = [
        f"{results['scan']}: {units} units, {images} training images, core {results['core']}, "
        f"seed {results['seed']}",
        f"{'':8}" + "".join(f"{name:>17}" for name in columns) + f"{'epochs':>8}{'seconds':>10}{'speed':>9}",
    ]
    for method, fit in fits.items():
        entries = "".join(f"{script.digits(fit[tier].get(name)):>17}" for tier, name in columns.values())
        epochs = len(fit["epochs"]) if "epochs" in fit else "-"
        speed = f"{peer / fit['seconds']:.1f}x" if peer else "-"
        lines.append(f"{method:8}{entries}{epochs:>8}{fit['seconds']:>10.1f}{speed:>9}")
    return "\n".join(lines)


def _parser() -> script.Parser:
    parser = script.parser(
        "transfer",
        "Compare the authors' library with mousev1 on one scan, core, neurons and split.",
        "truth",
        "max-epochs",
        "rerun",
    )
    parser.add_argument("--units", type=int, help="how many neurons, chosen by the seed (default: all)")
    parser.add_argument("--images", type=int, help="how many training images, likewise (default: all)")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=["peer", "sgd"], help="default: peer sgd"
    )
    parser.add_argument(
        "--core-mode",
        choices=("eval", "train"),
        default="eval",
        help="eval freezes the core's batch norm (default); train lets it follow the batch, as published",
    )
    return parser


if __name__ == "__main__":
    main()
