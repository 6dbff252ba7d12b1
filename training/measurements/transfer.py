"""Fit readouts to a scan with the authors' library and with mousev1, side by side in one process.

    python -m training.measurements.transfer SCAN --core CHECKPOINT --units 1000 --images 4472 --seed 0 --out FILE.json

Both get the same core, neurons, training images, validation and test trials. Finished fits are kept in
FILE.json as they come and are not repeated, so an interrupted benchmark continues where it stopped.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import mousev1
from mousev1 import metrics
from mousev1.core.network import Core
from mousev1.core.representation import as_core
from mousev1.fit.fitting import SGDSettings
from mousev1.metrics.intervals import mean_of_defined
from mousev1.metrics.population_scores import Truth
from training import provenance
from training.measurements import script
from training.measurements.peer import PeerSettings, fit_peer, import_peer

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Task:
    """What every method is given, and the trials that it is judged on.

    Attributes:
        core: the frozen core.
        scan: the chosen units of the scan.
        train_rows: which training trials to learn from.
        truth: of the units of the scan; None for real recordings.
        seed: of everything random.
        core_mode: ``"eval"`` freezes the core's batch norm, ``"train"`` lets it follow the batch.
        max_epochs: limit for the methods that train in epochs.
    """

    core: Core
    scan: mousev1.Scan
    train_rows: Array
    truth: Truth | None
    seed: int
    core_mode: Literal["eval", "train"]
    max_epochs: int

    @property
    def file_trials(self) -> int:
        """All trials of the scan: what the authors' loader scales the loss with, see ``PeerSettings``."""
        return len(self.scan.responses)


@dataclass(frozen=True)
class Fitted:
    """A fitted model behind the one function that scoring needs."""

    predict: Callable[[Array], Array]  # (N, C, H, W) gray values to (N, U) rates
    details: dict[str, Any]


def run_peer(task: Task) -> Fitted:
    """The published recipe with the authors' library."""
    train, validation = task.scan.trials("train"), task.scan.trials("validation")
    settings = PeerSettings(
        core_mode=task.core_mode, max_epochs=task.max_epochs, loss_trials=task.file_trials
    )
    fit = fit_peer(
        task.core,
        (train.images[task.train_rows], train.responses[task.train_rows]),
        (validation.images, validation.responses),
        task.scan.positions,
        settings=settings,
        seed=task.seed,
    )
    epochs = [epoch._asdict() for epoch in fit.epochs]
    return Fitted(fit.predict, {"settings": asdict(settings), "epochs": epochs})


def run_sgd(task: Task) -> Fitted:
    """The published recipe in mousev1: features are computed once while the core is frozen."""
    batchnorm = "batch" if task.core_mode == "train" else "frozen"
    settings = SGDSettings(batchnorm=batchnorm, max_epochs=task.max_epochs, loss_trials=task.file_trials)
    return _run_mousev1(task, "sgd", settings)


def run_convex(task: Task) -> Fitted:
    """The convex solver of mousev1."""
    return _run_mousev1(task, "convex", None)


METHODS: dict[str, Callable[[Task], Fitted]] = {"peer": run_peer, "sgd": run_sgd, "convex": run_convex}


def _run_mousev1(task: Task, method: str, settings: SGDSettings | None) -> Fitted:
    train, validation = task.scan.trials("train"), task.scan.trials("validation")
    model = mousev1.fit_readout(
        train.images[task.train_rows],
        train.responses[task.train_rows],
        task.scan.positions,
        core=task.core,
        method=method,
        settings=settings,
        image_ids=train.image_ids[task.train_rows],
        unit_ids=task.scan.unit_ids,
        validation=(validation.images, validation.responses),
        constant_units="mean",
        seed=task.seed,
        progress=sys.stderr.isatty(),
    )
    return Fitted(model.predict, {"settings": model.record.settings, "fit": model.record.scores})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the methods that are not in the result file yet, and print all of it as a table."""
    options = _parser().options(arguments)
    if "peer" in options.methods:
        import_peer()  # its import time is not part of its fit

    header = {
        "scan": options.scan.name,
        "data_sha256": provenance.data_sha256(options.scan),
        "units": options.units,
        "images": options.images,
        "seed": options.seed,
        "core_mode": options.core_mode,
        "max_epochs": options.max_epochs,
        "truth": options.truth is not None,
    }
    task = make_task(options)
    header |= {"core": task.core.name, "core_hash": task.core.content_hash()}
    results = provenance.resume(options.out, header, {"fits": {}})

    for method in options.methods:
        if method in results["fits"] and not options.rerun:
            print(f"{method}: already in {options.out}", file=sys.stderr)
            continue
        print(f"{method}: fitting", file=sys.stderr)
        started = time.perf_counter()
        fitted = METHODS[method](task)
        seconds = time.perf_counter() - started
        results["fits"][method] = {
            "date": provenance.now(),
            "machine": provenance.machine(),
            "versions": provenance.versions(),
            "seconds": round(seconds, 3),
            "validation": score(task, fitted.predict, "validation"),
            "test": score(task, fitted.predict, "test"),
            **fitted.details,
        }
        provenance.write_json(options.out, results)

    print(table(results))
    print(f"wrote {options.out}")


def make_task(options: argparse.Namespace) -> Task:
    """Read scan and core, and choose units and training images by the seed.

    Fewer units (or images) of one seed are always among the more of the same seed.
    """
    scan = mousev1.read_scan(options.scan)
    units = _choose(scan.n_units, options.units, "units", options.seed)
    rows = _choose(len(scan.trials("train")), options.images, "images", options.seed)
    truth = None
    if options.truth is not None:
        with np.load(options.truth) as arrays:
            truth = Truth(arrays["test_image_id"], arrays["rate_test"], ~arrays["dead"]).select_units(units)
    return Task(
        core=read_core(options.core),
        scan=scan.select_units(units),
        train_rows=rows,
        truth=truth,
        seed=options.seed,
        core_mode=options.core_mode,
        max_epochs=options.max_epochs,
    )


def read_core(path: Path) -> Core:
    """The core of a published checkpoint (file), or one in mousev1's own format (folder)."""
    if path.is_dir():
        return mousev1.load_core(path)
    found = mousev1.import_checkpoint(path)
    return found if isinstance(found, Core) else as_core(found.core, str(path))


def score(task: Task, predict: Callable[[Array], Array], tier: str) -> dict[str, float | int | None]:
    """Mean scores over the units where they are defined; None where there is no such unit."""
    trials = task.scan.trials(tier)
    ids, first, which = np.unique(trials.image_ids, return_index=True, return_inverse=True)
    rates = predict(trials.images[first])
    scores = metrics.score_table(rates[which], trials.responses, trials.image_ids, task.scan.unit_ids)
    single, average = scores.single_trial_correlation, scores.correlation_to_average
    found: dict[str, float | int | None] = {
        "single_trial_correlation": _defined(mean_of_defined(single)),
        "correlation_to_average": _defined(mean_of_defined(average)),
        "fraction_oracle": _defined(scores.fraction_oracle),
        "undefined_units": int(np.isnan(single).sum()),
    }
    if task.truth is not None and tier == "test":
        found["true_rate_correlation"] = _defined(task.truth.correlation(rates, ids))
    return found


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
    images = "all" if results["images"] is None else f"{results['images']:,}"
    units = "all" if results["units"] is None else f"{results['units']:,}"
    lines = [
        f"{results['scan']}: {units} units, {images} training images, core {results['core']}, "
        f"seed {results['seed']}",
        f"{'':8}" + "".join(f"{name:>17}" for name in columns) + f"{'epochs':>8}{'seconds':>10}{'speed':>9}",
    ]
    for method, fit in fits.items():
        values = [fit[tier].get(name) for tier, name in columns.values()]
        entries = "".join(f"{'-' if value is None else f'{value:.4f}':>17}" for value in values)
        epochs = len(fit["epochs"]) if "epochs" in fit else "-"
        speed = f"{peer / fit['seconds']:.1f}x" if peer else "-"
        lines.append(f"{method:8}{entries}{epochs:>8}{fit['seconds']:>10.1f}{speed:>9}")
    return "\n".join(lines)


def _choose(available: int, wanted: int | None, what: str, seed: int) -> Array:
    if wanted is None:
        return np.arange(available)
    if not 1 <= wanted <= available:
        raise SystemExit(f"--{what}: expected 1 to {available}, as the scan has, got {wanted}")
    return np.sort(np.random.default_rng(seed).permutation(available)[:wanted])


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _parser() -> script.Parser:
    parser = script.parser(
        "transfer", "Compare the authors' library with mousev1 on one scan, core, neurons and split."
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
    parser.add_argument("--max-epochs", type=int, default=200, help="limit of peer and sgd (default: 200)")
    parser.add_argument("--truth", type=Path, help="true rates of a simulated scan (.npz)")
    parser.add_argument("--rerun", action="store_true", help="repeat fits that the result file has")
    return parser


if __name__ == "__main__":
    main()
