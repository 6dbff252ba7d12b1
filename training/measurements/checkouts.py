"""Two checkouts of mousev1 timed in turns, each turn in a process of its own: whether a change costs speed.

    python -m training.measurements.checkouts SCAN OTHER_CHECKOUT --core CHECKPOINT --out FILE.json

A third side is this checkout with the settings of the whole process that the command line makes for itself
(``mousev1.numerics.process_settings``). Only public functions are called, which both checkouts have.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from training import provenance

BEFORE, AFTER, TUNED = "before", "after", "after, process tuned"
MEASURES = {
    "first_fit_seconds": "first fit of a process, {units:,} neurons, {images:,} images",
    "fit_seconds": "the same again",
    "predict_images_per_second": "predictions of {units:,} neurons, images per second",
}

ONE_TURN = """
import json, sys, time
import numpy as np
import mousev1
scan, core, units, images, tuned = json.loads(sys.argv[1])
if tuned:
    from mousev1.numerics.process_settings import tune_process
    tune_process()
core = mousev1.import_checkpoint(core)
scan = mousev1.read_scan(scan).select_units(np.arange(units))
train = scan.trials("train")
def seconds(run):
    started = time.perf_counter()
    result = run()
    return result, time.perf_counter() - started
def fit():
    return mousev1.fit_readout(
        train.images[:images], train.responses[:images], scan.positions, core=core,
        image_ids=train.image_ids[:images], constant_units="mean", progress=False,
    )
model, first = seconds(fit)
again = min(seconds(fit)[1] for _ in range(2))
model.predict(train.images[:64])
_, predicting = seconds(lambda: model.predict(train.images[:1024]))
print(json.dumps({
    "first_fit_seconds": first, "fit_seconds": again, "predict_images_per_second": 1024 / predicting,
}))
"""


def one_turn(checkout: Path, task: list[Any]) -> dict[str, float]:
    """What a new process measures with the package of a checkout."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ONE_TURN, json.dumps(task)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(results: dict[str, Any]) -> str:
    """Medians and their ratios to the checkout of before, as Markdown."""
    lines = [
        f"{results['date']}, {results['machine']['cpu']}, {results['machine']['cpus']} cores; simulated responses. "
        f"Before: {results['other']}; after: {results['commit']}. `{results['command']}`",
        "",
        f"| what | {BEFORE} | {AFTER} | of before | {TUNED} | of before |",
        "|---|---|---|---|---|---|",
    ]
    for measure, name in MEASURES.items():
        middle = {
            side: statistics.median(turn[measure] for turn in turns)
            for side, turns in results["turns"].items()
        }
        old, new, tuned = (middle[side] for side in (BEFORE, AFTER, TUNED))
        label = name.format(units=results["units"], images=results["images"])
        lines.append(
            f"| {label} | {old:.4g} | {new:.4g} | {new / old:.3f} | {tuned:.4g} | {tuned / old:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.measurements.checkouts", description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("other", type=Path, help="folder of another checkout")
    parser.add_argument("--core", type=Path, required=True)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    here = Path(__file__).resolve().parents[2]
    other = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=options.other, check=True, capture_output=True, text=True
    ).stdout.strip()
    sides = {BEFORE: (options.other, False), AFTER: (here, False), TUNED: (here, True)}
    turns: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    task = [str(options.scan.resolve()), str(options.core.resolve()), options.units, options.images]
    for _ in range(options.rounds):
        for side, (checkout, tuned) in sides.items():
            turns[side].append(one_turn(checkout, [*task, tuned]))
    results = {
        **provenance.circumstances(),
        "other": other,
        "units": options.units,
        "images": options.images,
        "turns": turns,
    }
    provenance.write_json(options.out, results)
    options.out.with_suffix(".md").write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
