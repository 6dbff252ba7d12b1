"""How fast everything is beside other busy processes: neuralpredictors and mousev1 in turns, in one process.

    python -m training.measurements.busy SCAN --core CHECKPOINT --truth TRUTH --records RECORD.json ... --out FILE.json

A busy process computes matrix products with one thread. Beside so many of them, features, predictions and fits are
measured with default settings, in new processes: as they are called from Python, and set up as the command line sets
its process up (``mousev1.tune_process``). mousev1 has a turn with one thread, too: more threads must not be slower.
A fit of the authors' library is an epoch multiplied by the recorded number of them, as in ``speed``, here on one of
several equal parts of the training and validation images, multiplied by the number of parts.

Rows that the result file has are not measured again. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mousev1.core.inference import fuse
from training import provenance
from training.measurements import script
from training.measurements.peer import build_core, fit_peer, import_peer, peer_core_state
from training.measurements.speed import same_model
from training.measurements.speed_features import BATCH
from training.measurements.task import Task, fit_ours, make_task, read_core, recipe
from training.measurements.turns import OURS, PEER, seconds_of, take_turns
from training.measurements.whole_fit import recorded_epochs

ONE_THREAD = "mousev1, one thread"
FEATURES, PREDICT = "features", "predict 1,000 neurons"
FITS = {"fit 1,000 x 1,000": (1000, 1000), "fit 5,335 x 4,472": (5335, 4472)}
PARTS = (FEATURES, PREDICT, *FITS)
NEURONS = 1000
PYTHON, COMMAND_LINE = "Python", "command line"
# The command line sets its process up before torch is imported.
START = {
    PYTHON: "",
    COMMAND_LINE: "from mousev1.numerics.process_settings import tune_process; tune_process(); ",
}
MEASURE = "from training.measurements.busy import main; main()"
MOST_PEER_IMAGES = 500  # an epoch of the authors' recipe is measured on no more

BUSY = """
import os, sys, torch
torch.set_num_threads(1)
a, parent = torch.rand(768, 768), os.getppid()
print("ready", flush=True)
while os.getppid() == parent:
    for _ in range(20):
        a @ a
"""


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that compute matrix products with one thread each; they end with the block."""
    processes = [
        subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("a busy process did not start")
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def with_one_thread(run: Callable[[], float]) -> float:
    """What ``run`` returns while torch has one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run()
    finally:
        torch.set_num_threads(before)


def rates_in_turns(part: str, path: Path, images: int, rounds: int) -> dict[str, list[float]]:
    """Images per second of each side, turn by turn, for the core of a file."""
    core = read_core(path)
    contract, size = core.config.input, (images, core.config.input_channels)
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 256, size=(*size, contract.height, contract.width), dtype=np.uint8)
    if part == FEATURES:
        peer_core, fused = build_core(core.config, peer_core_state(core)), fuse(core)
        gray = torch.from_numpy(stack).float()
        standardised = (gray - contract.mean) / contract.std

        def theirs() -> None:
            with torch.no_grad():
                for batch in standardised.split(BATCH):
                    peer_core(batch)

        def ours() -> None:
            for batch in gray.split(BATCH):
                fused(batch)
    else:
        peer_model, model = same_model(core, NEURONS)

        def theirs() -> None:
            peer_model.predict(stack)

        def ours() -> None:
            model.predict(stack)

    def rate(run: Callable[[], None]) -> float:
        return images / seconds_of(run)

    sides = {
        PEER: lambda: rate(theirs),
        OURS: lambda: rate(ours),
        ONE_THREAD: lambda: with_one_thread(lambda: rate(ours)),
    }
    return take_turns(sides, rounds).values


def fits_in_turns(task: Task, epochs: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of a whole fit of each side, turn by turn; the authors' library's takes ``epochs``."""
    import_peer()  # its import time is not part of its fit
    parts = -(-len(task.train_rows) // MOST_PEER_IMAGES)
    part = replace(task, train_rows=task.train_rows[::parts], max_epochs=1)
    images, responses, _ = part.training
    # An epoch ends with the validation images; they are a part, too.
    held, held_responses = (values[::parts] for values in task.validation)

    def theirs() -> float:
        fit, cost = provenance.cost_of(
            lambda: fit_peer(
                task.core,
                (images, responses),
                (held, held_responses),
                task.scan.positions,
                settings=recipe(part),
                seed=task.seed,
            )
        )
        epoch = sum(epoch.seconds for epoch in fit.epochs)
        return cost["seconds"] - epoch + epoch * parts * epochs

    def ours() -> float:
        return seconds_of(lambda: fit_ours(task, progress=False))

    sides: dict[str, Callable[[], float]] = {
        PEER: theirs,
        OURS: ours,
        ONE_THREAD: lambda: with_one_thread(ours),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            seconds[side].append(run())
    return seconds


def measure(part: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """What each side takes for a part, in this process."""
    if part not in FITS:
        return rates_in_turns(part, options.core, options.images, options.rounds)
    neurons, images = FITS[part]
    recorded = recorded_epochs(options.records, neurons, images, seed=options.seed)
    return fits_in_turns(make_task(options, neurons, images), recorded["epochs"], options.fit_rounds)


def measure_in_new_process(part: str, start: str, given: Sequence[str]) -> dict[str, list[float]]:
    """The same in a new process, set up as ``START`` says; it takes the arguments of this one."""
    command = [sys.executable, "-W", "ignore", "-c", START[start] + MEASURE, *given, "--measure", part]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, list[float]] = json.loads(output.splitlines()[-1])
    return found


def measure_row(part: str, start: str, busy: int, given: Sequence[str]) -> dict[str, Any]:
    """One row of the results, beside so many busy processes."""
    with busy_processes(busy):
        return row(part, start, busy, measure_in_new_process(part, start, given))


def row(part: str, start: str, busy: int, values: Mapping[str, list[float]]) -> dict[str, Any]:
    """One row of the results: medians, and how many times faster mousev1 is than the other library and one thread."""
    median = {side: statistics.median(found) for side, found in values.items()}
    exponent = -1 if part in FITS else 1
    return {
        "part": part,
        "from": start,
        "busy": busy,
        "unit": "seconds" if part in FITS else "images per second",
        "values": dict(values),
        "median": median,
        "ratio": (median[OURS] / median[PEER]) ** exponent,
        "ratio_to_one_thread": (median[OURS] / median[ONE_THREAD]) ** exponent,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """All rows as a Markdown table."""
    columns = ("what", "from", "busy processes", PEER, OURS, "ratio", ONE_THREAD, "ratio to it")
    entries = []
    order = {part: number for number, part in enumerate(PARTS)}
    for found in sorted(
        rows, key=lambda found: (order[found["part"]], found["from"] != PYTHON, found["busy"])
    ):
        unit = "s" if found["unit"] == "seconds" else "images/s"
        theirs, ours, one = (f"{found['median'][side]:,.3g} {unit}" for side in (PEER, OURS, ONE_THREAD))
        ratio, to_one_thread = f"{found['ratio']:.1f}x", f"{found['ratio_to_one_thread']:.2f}x"
        of = (found["part"], found["from"], str(found["busy"]))
        entries.append([*of, theirs, ours, ratio, one, to_one_thread])
    return script.table(columns, entries)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rows that the result file lacks, and print all of it as a table."""
    options = _parser().options(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure, options)))
        return
    what = "speed of neuralpredictors and mousev1 in turns, beside busy processes"
    header = script.identity(what, options.scan, read_core(options.core), options.seed)
    runs = {
        f"{part}, {start}, {busy} busy": partial(measure_row, part, start, busy, options.given)
        for busy in options.busy
        for part in options.parts
        for start in options.start
    }
    results = script.measured(options, header, "rows", runs)
    machine = provenance.machine()
    heading = (
        f"{provenance.now()}, {machine['cpu']}, {machine['cpus']} cores, {os.cpu_count()} processors, torch "
        f"{provenance.versions()['torch']}. Fits: {results['scan']}. A ratio above 1 means that mousev1 is faster. "
        f"`{results['command']}`"
    )
    script.write_table(options.out, heading, table(list(results["rows"].values())))


def _parser() -> script.Parser:
    parser = script.parser(
        "busy", "Time the authors' library and mousev1 in turns, beside busy processes.", "truth"
    )
    parser.add_argument("--records", type=Path, nargs="+", default=[], help="results of transfer, for epochs")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2, 4], help="default: 0 1 2 4")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--start", nargs="+", choices=list(START), default=list(START), help="default: both")
    parser.add_argument("--images", type=int, default=512, help="of features and predictions (default: 512)")
    parser.add_argument("--rounds", type=int, default=5, help="turns that count (default: 5)")
    parser.add_argument("--fit-rounds", type=int, default=2, help="turns of fits (default: 2)")
    parser.add_argument("--measure", choices=PARTS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
