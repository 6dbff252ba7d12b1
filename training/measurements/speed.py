"""How fast everything is that a user waits for: neuralpredictors 0.3.0 and mousev1 in turns, in the same processes.

    python -m training.measurements.speed SCAN --core CHECKPOINT --truth TRUTH --records RECORD.json ... --out FILE.json

Measured are feature extraction, prediction, loading a core, importing, ``mousev1 --help``, and fits of several
sizes, from arrays to a fitted model. Of fits with the authors' library a few epochs are timed, see ``whole_fit``.
Features, predictions and fits are measured in several processes, in each of which both sides take turns. Peak
memory comes from processes that do nothing but one fit.

Other work on the machine slows both sides; ratios are within one run, of the time on the clock and of the
processor time of all threads, which depends less on that work. Parts that the result file has are not
measured again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mousev1
from mousev1.core.network import Core
from mousev1.fit.settings import SGDSettings
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.readout.gaussian import FeatureWeights, FreePositions, GaussianReadout
from mousev1.storage.core_files import save_core
from training import provenance
from training.measurements import script
from training.measurements.peer import PeerFit, build_core, build_model, import_peer, peer_core_state
from training.measurements.speed_features import IMAGES, random_images, time_features
from training.measurements.speed_report import table
from training.measurements.task import Task, fit_ours, fit_theirs, make_task, read_core, score
from training.measurements.turns import (
    OURS,
    PEER,
    Turns,
    compared,
    compared_rates,
    in_new_process,
    in_new_processes,
    joined,
    medians,
    seconds_of,
    take_turns,
)
from training.measurements.whole_fit import recorded_epochs, time_to_reach, whole_fit

SIZES = ("1000x1000", "1000x4472", "5335x4472")
PARTS = ("features", "predict", "load", "import", "help", "fit", "memory")
IMPORT_OURS = "import mousev1; mousev1.Core, mousev1.fit_readout, mousev1.load_core, mousev1.read_scan"
IMPORT_PEER = "from training.measurements.peer import import_peer; import_peer()"
HELP = "import sys; from mousev1.cli.parser import main; sys.exit(main(['--help']))"


def time_predict(path: Path, units: int, rounds: int) -> dict[str, Any]:
    """Images per second from gray values to rates, the same model on both sides."""
    run = partial(predict_in_turns, path, units, rounds)
    return {**compared_rates("images per second", run), "units": units}


def predict_in_turns(path: Path, units: int, rounds: int) -> tuple[Turns, float]:
    """Images per second, and the largest difference of the rates."""
    core = read_core(path)
    images = random_images(core).numpy().astype(np.uint8)
    theirs, ours = same_model(core, units)
    sides = {
        PEER: lambda: IMAGES / seconds_of(lambda: theirs.predict(images)),
        OURS: lambda: IMAGES / seconds_of(lambda: ours.predict(images)),
    }
    difference = float(np.abs(theirs.predict(images[:8]) - ours.predict(images[:8])).max())
    return take_turns(sides, rounds), difference


def same_model(core: Core, units: int) -> tuple[PeerFit, ResponseModel]:
    """One model with random readout, in the authors' library and in mousev1."""
    contract, scale = core.config.input, torch.ones(units)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = torch.zeros(1, core.config.input_channels, contract.height, contract.width)
        model = build_model(core, images, scale, torch.rand(units, 2).numpy(), settings=SGDSettings()).eval()
        positions, weights = FreePositions(units), FeatureWeights(units, core.config.hidden_channels)
        readout = GaussianReadout(positions, weights)
    with torch.no_grad():
        positions.mu.copy_(model.readout.mu.reshape(units, 2))
        weights.weight.copy_(model.readout.features[0, :, 0].T)
        readout.bias.copy_(model.readout.bias)
    readout = readout.eval().requires_grad_(False)
    ours = ResponseModel(
        core, readout, unit_ids=np.arange(units), response_scale=scale, record=FitRecord("random")
    )
    return PeerFit(model, contract, scale), ours


def time_load(core: Core, rounds: int) -> dict[str, Any]:
    """Milliseconds from files in a local folder to a core."""
    with tempfile.TemporaryDirectory() as folder:
        saved, checkpoint = Path(folder) / "core", Path(folder) / "core.pt"
        save_core(core, saved)
        torch.save(peer_core_state(core), checkpoint)

        def load_theirs() -> None:
            build_core(core.config, torch.load(checkpoint, weights_only=True))

        sides = {
            PEER: lambda: 1e3 * seconds_of(load_theirs),
            OURS: lambda: 1e3 * seconds_of(lambda: mousev1.load_core(saved)),
        }
        return compared("milliseconds", take_turns(sides, rounds))


def time_import(rounds: int) -> dict[str, Any]:
    """Milliseconds of an import in a new process that has imported torch already."""

    def imported(statement: str) -> float:
        program = f"import time, torch; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        return 1e3 * float(_output("-W", "ignore", "-c", program).split()[-1])

    statements = {PEER: IMPORT_PEER, OURS: IMPORT_OURS, "import mousev1 alone": "import mousev1"}
    sides = {side: partial(imported, statement) for side, statement in statements.items()}
    found = compared("milliseconds", take_turns(sides, rounds))
    # the work is done in other processes
    del found["processor_seconds"], found["processor_ratio"]
    return {**found, "statement": IMPORT_OURS}


def time_help(rounds: int) -> dict[str, Any]:
    """Seconds of ``mousev1 --help``, the start of Python included."""
    seconds = take_turns({OURS: lambda: seconds_of(lambda: _output("-c", HELP))}, rounds).values
    return {"unit": "seconds", "rounds": seconds, "median": medians(seconds)}


def time_fit(options: argparse.Namespace, units: int, images: int) -> dict[str, Any]:
    """Seconds of our fit and of an epoch of the authors' recipe, in turns, in several processes."""
    measured = in_new_processes(partial(fits_in_turns, options, units, images))
    by_process = [found["seconds"] for found in measured]
    return {
        **measured[0],
        "seconds": joined(by_process),
        "processor_seconds": joined(found["processor_seconds"] for found in measured),
        "seconds_by_process": by_process,
    }


def fits_in_turns(options: argparse.Namespace, units: int, images: int) -> dict[str, Any]:
    """The same in this process, and scores of our fit. All turns count: users wait for the first fit of a process."""
    import_peer()  # its import time is not part of its fit
    task = _task(options, units, images)
    found: dict[str, Any] = {
        "units": units,
        "images": images,
        "responses": "simulated" if task.truth is not None else "recorded",
    }
    clocks = ("seconds", "processor_seconds")
    for clock in clocks:
        found[clock] = {OURS: [], "peer_per_epoch": [], "peer_setup": []}
    for _ in range(options.fit_rounds):
        model, ours = provenance.cost_of(partial(fit_ours, task, progress=False))
        found["mousev1_test"] = score(task, model.predict, "test")
        fit, theirs = provenance.cost_of(partial(fit_theirs, task))
        for clock in clocks:
            epochs = [getattr(epoch, clock) for epoch in fit.epochs]
            found[clock][OURS].append(ours[clock])
            found[clock]["peer_per_epoch"] += epochs
            found[clock]["peer_setup"].append(theirs[clock] - sum(epochs))
    return found


def measure_memory(options: argparse.Namespace, units: int, images: int) -> dict[str, Any]:
    """Most memory in MB, of a new process for each side, before and after one fit (theirs of one epoch)."""
    return {side: in_new_process(partial(_memory_of, side, options, units, images)) for side in (OURS, PEER)}


def _memory_of(side: str, options: argparse.Namespace, units: int, images: int) -> dict[str, float]:
    task = replace(_task(options, units, images), max_epochs=1)
    run = partial(fit_ours, task, progress=False) if side == OURS else partial(fit_theirs, task)
    _, cost = provenance.cost_of(run)
    return {"before": cost["memory_before_mb"], "peak": cost["peak_memory_mb"]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the result file lacks, and print all of it as a table."""
    options = _parser().options(arguments)
    core, rounds = read_core(options.core), options.rounds
    sizes = [_size(text) for text in options.sizes]
    # before anything is measured, in case that one is missing
    fitted = sizes if "fit" in options.parts else ()
    records = {size: recorded_epochs(options.records, *size, seed=options.seed) for size in fitted}
    parts: dict[str, dict[str, Callable[[], dict[str, Any]]]] = {
        "load": {"load": partial(time_load, core, rounds)},
        "import": {"import on top of torch": partial(time_import, rounds)},
        "help": {"mousev1 --help": partial(time_help, rounds)},
        "features": {"features": partial(time_features, options.core, rounds)},
        "predict": {
            f"predict {units:,} units": partial(time_predict, options.core, units, rounds)
            for units in (1000, 5335)
        },
        "fit": {f"fit {_name(*size)}": partial(time_fit, options, *size) for size in sizes},
        "memory": {f"memory {_name(*size)}": partial(measure_memory, options, *size) for size in sizes},
    }
    what = "speed of neuralpredictors 0.3.0 and mousev1, in turns"
    header = script.identity(what, options.scan, core, options.seed)
    runs = {name: run for part, runs in parts.items() if part in options.parts for name, run in runs.items()}
    results = script.measured(options, header, "parts", runs, again=runs if options.rerun else ())
    for size, recorded in records.items():
        part = results["parts"][f"fit {_name(*size)}"]
        part |= whole_fit(part, recorded)
        if "reach" not in part:
            part["reach"] = time_to_reach(_task(options, *size), recorded["test"])
        provenance.write_json(options.out, results)
    machine = provenance.machine()
    heading = (
        f"{provenance.now()}, {machine['cpu']}, {machine['cpus']} cores, {machine['torch_threads']} threads, "
        f"torch {provenance.versions()['torch']}. Fits: {results['scan']}, whose responses are simulated. "
        f"Loads at the time are in `{options.out.name}`. `{results['command']}`"
    )
    script.write_table(options.out, heading, table(results))


def _size(text: str) -> tuple[int, int]:
    units, _, images = text.partition("x")
    return int(units), int(images)


def _name(units: int, images: int) -> str:
    return f"{units:,} neurons, {images:,} images"


def _task(options: argparse.Namespace, units: int, images: int) -> Task:
    return make_task(options, units, images, max_epochs=options.epochs)


def _output(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def _parser() -> script.Parser:
    parser = script.parser("speed", "Time the authors' library and mousev1 in turns.", "truth", "rerun")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help="neurons x images of the fits")
    parser.add_argument("--records", type=Path, nargs="+", default=[], help="results of transfer, for epochs")
    parser.add_argument("--rounds", type=int, default=7, help="turns that count (default: 7)")
    parser.add_argument(
        "--fit-rounds", type=int, default=2, help="turns of fits in each process (default: 2)"
    )
    parser.add_argument("--epochs", type=int, default=2, help="epochs of the recipe per turn (default: 2)")
    return parser


if __name__ == "__main__":
    main()
