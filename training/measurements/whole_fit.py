"""What a whole fit with the authors' library takes: a few of its epochs, times the number that a record tells.

Such a fit takes up to an hour. How many epochs it took is in the result files of ``transfer``, or of the same
recipe in mousev1, in those of ``curve``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from training import provenance
from training.measurements.task import Task, fit_ours, score
from training.measurements.turns import OURS, PEER, medians

REACH_SHARES = (0.5, 0.6, 0.65, 0.7, 0.8, 1.0)  # of the images


def recorded_epochs(paths: Sequence[Path], units: int, images: int, *, seed: int = 0) -> dict[str, Any]:
    """How many epochs early stopping took: at this size if recorded, else at the most similar one.

    A record of the authors' library comes before one of the same recipe in mousev1. Of several with different
    seeds the median counts (the lower of two in the middle); score and seconds are those of ``seed`` if it is there.
    """
    runs = [run for path in paths for run in _recorded_runs(path, units, images)]
    if not runs:
        raise SystemExit("--records: expected a result file of transfer or curve with the recipe's epochs")

    def likeness(run: Mapping[str, Any]) -> tuple[bool, bool, bool]:
        return run["recorded_images"] == images, "test" in run, run["recorded_by"] == PEER

    best = max(map(likeness, runs))
    alike = [run for run in runs if likeness(run) == best]
    chosen = next((run for run in alike if run["seed"] == seed), alike[0])
    size = ("recorded_units", "recorded_images")
    by_seed: dict[int, dict[str, Any]] = {chosen["seed"]: chosen}
    for run in alike:
        if all(run[name] == chosen[name] for name in size):
            by_seed.setdefault(run["seed"], run)
    return {
        **chosen,
        "epochs": statistics.median_low(run["epochs"] for run in by_seed.values()),
        "epochs_by_seed": {str(of): run["epochs"] for of, run in by_seed.items()},
        "record": ", ".join(run["record"] for run in by_seed.values()),
    }


def _recorded_runs(path: Path, units: int, images: int) -> Iterator[dict[str, Any]]:
    """The recipe's runs in a result file; with their test scores where they have this size."""
    values = json.loads(path.read_text(encoding="utf-8"))
    runs = []
    if peer := values.get("fits", {}).get("peer"):
        runs.append((values["images"] or images, PEER, len(peer["epochs"]), peer))
    for key, run in values.get("runs", {}).items():
        method, _, count = key.partition("/")
        if method == "sgd" and "epochs" in run["fit"]:
            epochs = int(run["fit"]["epochs"])
            runs.append((int(count), "mousev1 method='sgd', the same recipe", epochs, run))
    for count, library, epochs, run in runs:
        # None is all neurons of the scan
        same = count == images and (values["units"] or units) == units
        yield {
            "epochs": epochs,
            "seed": values.get("seed", 0),
            "recorded_units": values["units"],
            "recorded_images": count,
            "recorded_by": library,
            "recorded_seconds": run["seconds"],
            "record": path.name,
            **({"test": run["test"]} if same else {}),
        }


def whole_fit(part: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What follows for the whole fit from the epochs that a recorded one took."""

    def both(took: Mapping[str, list[float]]) -> dict[str, float]:
        middle = medians(took)
        theirs = middle["peer_per_epoch"] * recorded["epochs"] + middle["peer_setup"]
        return {PEER: theirs, OURS: middle[OURS]}

    seconds, busy = both(part["seconds"]), both(part["processor_seconds"])
    each = [both(took) for took in part["seconds_by_process"]]
    return {
        "peer_epochs": dict(recorded),
        "median": seconds,
        "ratio": seconds[PEER] / seconds[OURS],
        "processor_ratio": busy[PEER] / busy[OURS],
        "ratio_by_process": [took[PEER] / took[OURS] for took in each],
        "reaches_recorded_score": reaches(part["mousev1_test"], recorded.get("test")),
    }


def time_to_reach(task: Task, peer_test: Mapping[str, Any]) -> dict[str, Any] | None:
    """Our fit on as few of the images as give the recorded score of the authors' recipe on all of them.

    The convex fit has one result, at its end: sooner means fewer images. Each number of images is tried once, in this
    process. None if all do not suffice.
    """
    shuffled = np.random.default_rng(task.seed).permutation(task.train_rows)
    for share in REACH_SHARES:
        some = replace(task, train_rows=np.sort(shuffled[: round(share * len(shuffled))]))
        model, cost = provenance.cost_of(partial(fit_ours, some, progress=False))
        test = score(task, model.predict, "test")
        if reaches(test, peer_test):
            return {"images": len(some.train_rows), **cost, "test": test}
    return None


def reaches(test: Mapping[str, Any], peer_test: Mapping[str, Any] | None) -> bool | None:
    """Whether a score of ours is at least theirs; None without a record."""
    if peer_test is None:
        return None
    name = "true_rate_correlation" if "true_rate_correlation" in test else "single_trial_correlation"
    return bool(test[name] >= peer_test[name])
