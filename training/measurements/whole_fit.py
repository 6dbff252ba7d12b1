"""What a whole fit with the authors' library takes: a few of its epochs, times the number that ``transfer`` recorded.

Such a fit takes up to an hour.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
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
    """How many epochs early stopping took at this size, by the result files of ``transfer``.

    Of several seeds the median counts (the lower of two in the middle); score and seconds are those of ``seed`` if
    it is there.
    """
    records: dict[int, tuple[str, dict[str, Any]]] = {}
    for path in paths:
        values = json.loads(path.read_text(encoding="utf-8"))
        if (values["units"], values["images"]) == (units, images) and "peer" in values["fits"]:
            records.setdefault(values["seed"], (path.name, values["fits"]["peer"]))
    if not records:
        raise SystemExit(
            f"--records: expected a result file of transfer with {units} neurons, {images} images and the method "
            f"peer, found none in {[path.name for path in paths]}; run transfer first"
        )
    first = seed if seed in records else next(iter(records))
    records = {first: records[first], **records}
    epochs = {str(of): len(fit["epochs"]) for of, (_, fit) in records.items()}
    fit = records[first][1]
    return {
        "epochs": statistics.median_low(epochs.values()),
        "epochs_by_seed": epochs,
        "seed": first,
        "recorded_units": units,
        "recorded_images": images,
        "recorded_by": PEER,
        "recorded_seconds": fit["seconds"],
        "test": fit["test"],
        "record": ", ".join(name for name, _ in records.values()),
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
        "reaches_recorded_score": reaches(part["mousev1_test"], recorded["test"]),
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


def reaches(test: Mapping[str, Any], peer_test: Mapping[str, Any]) -> bool:
    """Whether a score of ours is at least theirs."""
    name = "true_rate_correlation" if "true_rate_correlation" in test else "single_trial_correlation"
    return bool(test[name] >= peer_test[name])
