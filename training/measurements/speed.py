"""How fast everything is that a user waits for: neuralpredictors 0.3.0 and mousev1 in turns, in the same processes.

    python -m training.measurements.speed SCAN --core CHECKPOINT --truth TRUTH --records RECORD.json ... --out FILE.json

Measured are feature extraction (also as a share of the processor's own multiply rate, measured in the same turns),
prediction, loading a core, importing, ``mousev1 --help``, and fits of several sizes. A whole fit with the authors'
library takes up to an hour, so that a few of its epochs are timed and multiplied by the number of epochs that a
recorded run took (the median over seeds if there are several): of the authors' library (``transfer``) where a
record is given, otherwise of the same recipe in mousev1 (``curve``). Fits are timed from arrays to a fitted
model, the core's features included. Features, predictions and fits are measured in several processes, in each of
which both sides take turns. Peak memory comes from processes that do nothing but one fit.

Other work on the machine slows both sides; ratios are within one run, of the time on the clock and of the
processor time of all threads, which depends less on that work. Parts that the result file has are not
measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import conv2d

import mousev1
from mousev1.core.inference import fuse
from mousev1.core.network import Core, CoreConfig
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.readout.gaussian import FeatureWeights, FreePositions, GaussianReadout
from mousev1.storage.core_files import save_core
from training import provenance
from training.measurements import script
from training.measurements.peer import (
    PeerFit,
    PeerSettings,
    build_core,
    build_model,
    import_peer,
    peer_core_state,
)
from training.measurements.task import Task, fit_ours, fit_theirs, make_task, peer_settings, read_core, score

Array = npt.NDArray[Any]
Result = TypeVar("Result")

PEER, OURS = "neuralpredictors", "mousev1"
SIZES = ("1000x1000", "1000x4472", "5335x4472")
PARTS = ("features", "predict", "load", "import", "help", "fit", "memory")
PROCESSES = 5  # in which features, predictions and fits are measured
BATCH = 64
IMAGES = 512
MATRIX = 2048
CHANNELS, PIXELS, KERNEL = 256, 32, 3
# What shows how fast the machine multiplies (which is faster depends on the processor), how many of them make a turn,
# and multiply-adds in a turn.
PRODUCT, CONVOLUTION = f"{MATRIX} x {MATRIX} matrix product", f"{KERNEL} x {KERNEL} convolution"
TIMES = {PRODUCT: 4, CONVOLUTION: 32}
MACHINE = {
    PRODUCT: TIMES[PRODUCT] * MATRIX**3,
    CONVOLUTION: TIMES[CONVOLUTION] * (CHANNELS * PIXELS * KERNEL) ** 2,
}
REACH_SHARES = (0.5, 0.6, 0.65, 0.7, 0.8, 1.0)  # of the images
IMPORT_OURS = "import mousev1; mousev1.Core, mousev1.fit_readout, mousev1.load_core, mousev1.read_scan"
IMPORT_PEER = "from training.measurements.peer import import_peer; import_peer()"


def multiply_adds(config: CoreConfig, height: int, width: int) -> int:
    """Multiplications (each with an addition) that the core's convolutions take for one image."""
    channels, rows, columns = config.feature_shape(height, width)
    first = config.input_channels * config.input_kernel**2 * channels
    # 1x1, depthwise, 1x1; taps on the zero padding count, as the multiplications are carried out
    hidden = 2 * channels**2 + config.hidden_kernel**2 * channels
    return rows * columns * (first + (config.layers - 1) * hidden)


class Turns(NamedTuple):
    """What each side measured, turn by turn, and the processor time of all threads that it took."""

    values: dict[str, list[float]]
    processor_seconds: dict[str, list[float]]


def take_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> Turns:
    """What each side returns, turn by turn, after one turn that does not count."""
    turns = Turns({side: [] for side in sides}, {side: [] for side in sides})
    for turn in range(rounds + 1):
        for side, run in sides.items():
            busy = time.process_time()
            value = run()
            if turn > 0:
                turns.values[side].append(value)
                turns.processor_seconds[side].append(time.process_time() - busy)
    return turns


def in_new_processes(run: Callable[[], Result]) -> list[Result]:
    """What ``run``, which can be pickled, returns in ``PROCESSES`` processes one after the other.

    How fast a side is depends on how memory happens to lie in its process: on whether what it frees goes back to
    the system and must be cleared when it is needed again.
    """
    pool = ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(torch.get_num_threads(),),
        max_tasks_per_child=1,
    )
    with pool:
        return [pool.submit(run).result() for _ in range(PROCESSES)]


def joined(parts: Iterable[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """The values of several processes by name, one after the other."""
    found: dict[str, list[float]] = {}
    for part in parts:
        for name, values in part.items():
            found.setdefault(name, []).extend(values)
    return found


def compare_rates(run: Callable[[], tuple[Turns, float]]) -> tuple[Turns, dict[str, Any]]:
    """Turns in new processes, how the medians of both sides compare in each, and by how much results differ at most."""
    measured, differences = zip(*in_new_processes(run), strict=True)
    medians = [{side: statistics.median(turns.values[side]) for side in (PEER, OURS)} for turns in measured]
    turns = Turns(
        joined(turns.values for turns in measured), joined(turns.processor_seconds for turns in measured)
    )
    return turns, {
        "ratio_by_process": [sides[OURS] / sides[PEER] for sides in medians],
        "largest_difference": max(differences),
    }


def time_features(path: Path, rounds: int) -> dict[str, Any]:
    """Images per second through the core of a file, and multiplications per second, of this and at most."""
    turns, found = compare_rates(partial(features_in_turns, path, rounds))
    rates, core = turns.values, read_core(path)
    needed = multiply_adds(core.config, core.config.input.height, core.config.input.width)
    # the peak is the best turn: a slower one was disturbed
    fastest = max(MACHINE, key=lambda name: max(rates[name]))
    peak = max(rates[fastest])
    shares = [
        ours_rate * needed / machine_rate
        for ours_rate, machine_rate in zip(rates[OURS], rates[fastest], strict=True)
    ]
    return {
        **_compare("images per second", turns, higher_is_better=True),
        **found,
        "multiply_adds_per_image": needed,
        "peak_multiply_adds_per_second": peak,
        "peak_of": fastest,
        "share_of_peak": {side: statistics.median(rates[side]) * needed / peak for side in (PEER, OURS)},
        "best_share_of_peak": max(rates[OURS]) * needed / peak,
        "median_share_within_a_turn": statistics.median(shares),
    }


def features_in_turns(path: Path, rounds: int) -> tuple[Turns, float]:
    """Images and multiplications per second, and the largest difference of the features."""
    core = read_core(path)
    contract = core.config.input
    images = _random_images(core, IMAGES)
    standardised = (images - contract.mean) / contract.std
    theirs = build_core(core.config, peer_core_state(core))
    ours = fuse(core)
    a, b = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)
    maps, kernels = torch.rand(1, CHANNELS, PIXELS, PIXELS), torch.rand(CHANNELS, CHANNELS, KERNEL, KERNEL)
    if torch.backends.mkldnn.is_available():
        maps, kernels = maps.to_mkldnn(), kernels.to_mkldnn()

    def rate(run: Callable[[torch.Tensor], torch.Tensor], stack: torch.Tensor) -> float:
        started = time.perf_counter()
        with torch.no_grad():
            for batch in stack.split(BATCH):
                run(batch)
        return len(stack) / (time.perf_counter() - started)

    def their_rate() -> float:
        return rate(theirs, standardised)

    def multiply(name: str, run: Callable[[], object]) -> float:
        started = time.perf_counter()
        with torch.no_grad():
            for _ in range(TIMES[name]):
                run()
        return MACHINE[name] / (time.perf_counter() - started)

    with torch.no_grad():
        difference = float((theirs(standardised[:8]) - ours(images[:8])).abs().max())
    sides = {
        PRODUCT: lambda: multiply(PRODUCT, lambda: a @ b),
        CONVOLUTION: lambda: multiply(CONVOLUTION, lambda: conv2d(maps, kernels, padding=KERNEL // 2)),
        PEER: their_rate,
        OURS: lambda: rate(ours, images),
    }
    return take_turns(sides, rounds), difference


def time_predict(path: Path, units: int, rounds: int) -> dict[str, Any]:
    """Images per second from gray values to rates, the same model on both sides."""
    turns, found = compare_rates(partial(predict_in_turns, path, units, rounds))
    return {**_compare("images per second", turns, higher_is_better=True), **found, "units": units}


def predict_in_turns(path: Path, units: int, rounds: int) -> tuple[Turns, float]:
    """Images per second, and the largest difference of the rates."""
    core = read_core(path)
    images = _random_images(core, IMAGES).numpy().astype(np.uint8)
    theirs, ours = same_model(core, units)

    def their_rate() -> float:
        return _images_per_second(theirs.predict, images)

    sides = {
        PEER: their_rate,
        OURS: lambda: _images_per_second(ours.predict, images),
    }
    with torch.no_grad():
        difference = float(np.abs(theirs.predict(images[:8]) - ours.predict(images[:8])).max())
    return take_turns(sides, rounds), difference


def same_model(core: Core, units: int) -> tuple[PeerFit, ResponseModel]:
    """One model with random readout, in the authors' library and in mousev1."""
    contract = core.config.input
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = torch.zeros(1, core.config.input_channels, contract.height, contract.width)
        cortex = torch.rand(units, 2).numpy()
        model = build_model(core, images, torch.ones(units), cortex, settings=PeerSettings()).eval()
        positions, weights = FreePositions(units), FeatureWeights(units, core.config.hidden_channels)
        readout = GaussianReadout(positions, weights)
    with torch.no_grad():
        positions.mu.copy_(model.readout.mu.reshape(units, 2))
        weights.weight.copy_(model.readout.features[0, :, 0].T)
        readout.bias.copy_(model.readout.bias)
    scale = torch.ones(units)
    theirs = PeerFit(model, contract.mean, contract.std, scale, epochs=(), seconds=0.0)
    ours = ResponseModel(
        core,
        readout.eval().requires_grad_(False),
        unit_ids=np.arange(units),
        response_scale=scale,
        record=FitRecord("random"),
    )
    return theirs, ours


def time_load(core: Core, rounds: int) -> dict[str, Any]:
    """Milliseconds from files in a local folder to a core."""
    state = peer_core_state(core)
    with tempfile.TemporaryDirectory() as folder:
        saved, checkpoint = Path(folder) / "core", Path(folder) / "core.pt"
        save_core(core, saved)
        torch.save(state, checkpoint)
        sides = {
            PEER: lambda: (
                1e3 * _seconds(lambda: build_core(core.config, torch.load(checkpoint, weights_only=True)))
            ),
            OURS: lambda: 1e3 * _seconds(lambda: mousev1.load_core(saved)),
        }
        return _compare("milliseconds", take_turns(sides, rounds))


def time_import(rounds: int) -> dict[str, Any]:
    """Milliseconds of an import in a new process that has imported torch already."""

    def imported(statement: str) -> float:
        program = f"import time, torch; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        return 1e3 * float(_output([sys.executable, "-W", "ignore", "-c", program]).split()[-1])

    sides = {
        PEER: lambda: imported(IMPORT_PEER),
        OURS: lambda: imported(IMPORT_OURS),
        "import mousev1 alone": lambda: imported("import mousev1"),
    }
    found = _compare("milliseconds", take_turns(sides, rounds))
    # the work is done in other processes
    del found["processor_seconds"], found["processor_ratio"]
    return {**found, "statement": IMPORT_OURS}


def time_help(rounds: int) -> dict[str, Any]:
    """Seconds of ``mousev1 --help``, the start of Python included."""
    command = [
        sys.executable,
        "-c",
        "import sys; from mousev1.cli.parser import main; sys.exit(main(['--help']))",
    ]
    measured = take_turns({OURS: lambda: _seconds(lambda: _output(command))}, rounds)
    seconds = measured.values[OURS]
    return {"unit": "seconds", "rounds": measured.values, "median": {OURS: statistics.median(seconds)}}


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
    measured: dict[str, list[float]] = {OURS: [], "peer_per_epoch": [], "peer_setup": []}
    busy: dict[str, list[float]] = {OURS: [], "peer_per_epoch": [], "peer_setup": []}
    test = {}
    for _ in range(options.fit_rounds):
        started, processor = time.perf_counter(), time.process_time()
        model = fit_ours(task, progress=False)
        measured[OURS].append(time.perf_counter() - started)
        busy[OURS].append(time.process_time() - processor)
        test = score(task, model.predict, "test")
        processor = time.process_time()
        fit = fit_theirs(task, peer_settings(task))
        busy_in_all = time.process_time() - processor
        for taken, name, in_all in (
            (measured, "seconds", fit.seconds),
            (busy, "processor_seconds", busy_in_all),
        ):
            epochs_took = [getattr(epoch, name) for epoch in fit.epochs]
            taken["peer_per_epoch"] += epochs_took
            taken["peer_setup"].append(in_all - sum(epochs_took))
    return {
        "units": task.scan.n_units,
        "images": len(task.train_rows),
        "responses": "simulated" if task.truth is not None else "recorded",
        "seconds": measured,
        "processor_seconds": busy,
        "mousev1_test": test,
    }


def whole_fit(part: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What follows for the whole fit from the epochs that a recorded one took."""

    def medians(took: Mapping[str, list[float]]) -> dict[str, float]:
        middle = {name: statistics.median(values) for name, values in took.items()}
        theirs = middle["peer_per_epoch"] * recorded["epochs"] + middle["peer_setup"]
        return {PEER: theirs, OURS: middle[OURS]}

    seconds, busy = medians(part["seconds"]), medians(part["processor_seconds"])
    each = [medians(took) for took in part["seconds_by_process"]]
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
        rows = np.sort(shuffled[: round(share * len(shuffled))])
        some = replace(task, train_rows=rows)
        started, processor = time.perf_counter(), time.process_time()
        model = fit_ours(some, progress=False)
        seconds, busy = time.perf_counter() - started, time.process_time() - processor
        test = score(task, model.predict, "test")
        if reaches(test, peer_test):
            return {"images": len(rows), "seconds": seconds, "processor_seconds": busy, "test": test}
    return None


def reaches(test: Mapping[str, Any], peer_test: Mapping[str, Any] | None) -> bool | None:
    """Whether the convex fit, which has one result at its end, is at least as good; None without a record."""
    if peer_test is None:
        return None
    name = "true_rate_correlation" if "true_rate_correlation" in test else "single_trial_correlation"
    return bool(test[name] >= peer_test[name])


def recorded_epochs(paths: Sequence[Path], units: int, images: int, *, seed: int = 0) -> dict[str, Any]:
    """How many epochs early stopping took: at this size if recorded, else at the most similar one.

    A record of the authors' library comes before one of the same recipe in mousev1. Of several with different
    seeds the median counts (the lower of two in the middle); score and seconds are those of ``seed`` if it is there.
    """
    found: list[tuple[tuple[bool, bool, bool], dict[str, Any]]] = []
    for path in paths:
        values = json.loads(path.read_text(encoding="utf-8"))
        runs = []
        if "peer" in values.get("fits", {}):
            fit = values["fits"]["peer"]
            runs.append((values["images"] or images, True, len(fit["epochs"]), fit["test"], fit["seconds"]))
        for key, run in values.get("runs", {}).items():
            method, _, count = key.partition("/")
            if method == "sgd" and "epochs" in run["fit"]:
                runs.append((int(count), False, int(run["fit"]["epochs"]), run["test"], run["seconds"]))
        for count, peers, epochs, test, seconds in runs:
            same_size = count == images
            # None is all units of the scan
            same = same_size and (values["units"] or units) == units
            entry = {
                "epochs": epochs,
                "seed": values.get("seed", 0),
                "recorded_units": values["units"],
                "recorded_images": count,
                "recorded_by": PEER if peers else "mousev1 method='sgd', the same recipe",
                "recorded_seconds": seconds,
                "record": path.name,
            }
            if same:
                entry["test"] = test
            found.append(((same_size, same, peers), entry))
    if not found:
        raise SystemExit("--records: expected a result file of transfer or curve with the recipe's epochs")
    best = max(key for key, _ in found)
    alike = [entry for key, entry in found if key == best]
    chosen = next((entry for entry in alike if entry["seed"] == seed), alike[0])
    by_seed = {str(chosen["seed"]): chosen["epochs"]}
    names = [chosen["record"]]
    for entry in alike:
        same = all(entry[k] == chosen[k] for k in ("recorded_units", "recorded_images", "recorded_by"))
        if same and str(entry["seed"]) not in by_seed:
            by_seed[str(entry["seed"])] = entry["epochs"]
            names.append(entry["record"])
    epochs = statistics.median_low(by_seed.values())
    return {**chosen, "epochs": epochs, "epochs_by_seed": by_seed, "record": ", ".join(names)}


def measure_memory(task: Task, side: str) -> dict[str, float]:
    """Most memory of this process in MB before and after one fit (of one epoch, for the authors' library)."""
    before = provenance.peak_megabytes()
    if side == OURS:
        fit_ours(task, progress=False)
    else:
        fit_theirs(task, replace(peer_settings(task), max_epochs=1))
    return {"before": before, "peak": provenance.peak_megabytes()}


def table(results: dict[str, Any]) -> str:
    """All ratios as Markdown."""
    parts = results["parts"]
    lines = [
        "| what | neuralpredictors 0.3.0 | mousev1 | ratio | ratio of processor time |",
        "|---|---|---|---|---|",
    ]
    for name, part in parts.items():
        if "median" not in part or name.startswith("fit"):
            continue
        theirs, ours = part["median"].get(PEER), part["median"][OURS]
        unit = part["unit"]
        left = "-" if theirs is None else f"{theirs:,.4g} {unit}"
        ratio = f"{part['ratio']:.1f}x" if "ratio" in part else "-"
        lines.append(f"| {name} | {left} | {ours:,.4g} {unit} | {ratio} | {_processor_ratio(part)} |")
    for name, part in parts.items():
        if name.startswith("fit"):
            memory = parts.get(name.replace("fit", "memory"), {})
            peaks = [f", {memory[side]['peak']:,.0f} MB" if side in memory else "" for side in (PEER, OURS)]
            epoch = statistics.median(part["seconds"]["peer_per_epoch"])
            score_text = f"true rate {part['mousev1_test'].get('true_rate_correlation', float('nan')):.4f}"
            test = part["peer_epochs"].get("test")
            their_score = f", true rate {test['true_rate_correlation']:.4f}" if test else ""
            lines.append(
                f"| {name}, {part['responses']} responses | {part['median'][PEER]:,.0f} s "
                f"({part['peer_epochs']['epochs']} epochs of {epoch:.2f} s){their_score}{peaks[0]} "
                f"| {part['median'][OURS]:,.1f} s, {score_text}{peaks[1]} | {part['ratio']:.0f}x "
                f"| {_processor_ratio(part)} |"
            )
    for name, part in parts.items():
        if "peer_epochs" in part:
            source = part["peer_epochs"]
            lines.append(
                f"\nEpochs for the {name}: {_epochs_of(source)}, of {source['recorded_by']} with "
                f"{source['recorded_units']:,} neurons and {source['recorded_images']:,} images "
                f"(`{source['record']}`); loads {part['machine']['load_1_minute']} to {part['load_at_end']}."
            )
        if part.get("reach"):
            reach = part["reach"]
            lines.append(
                f"\nThe recorded score of that recipe took mousev1 {reach['images']:,} of the images and "
                f"{reach['seconds']:.1f} s (true rate {reach['test'].get('true_rate_correlation', math.nan):.4f}), "
                f"{part['median'][PEER] / reach['seconds']:.0f} times less."
            )
    for name, part in parts.items():
        if "ratio_by_process" in part:
            digits = 0 if name.startswith("fit") else 1
            each = ", ".join(f"{ratio:.{digits}f}" for ratio in sorted(part["ratio_by_process"]))
            lines.append(f"\nRatios within each of the processes, {name}: {each}.")
    if "features" in parts:
        lines.append(f"\n{_shares(parts['features'])}")
    return "\n".join(lines)


def _epochs_of(source: Mapping[str, Any]) -> str:
    """The epochs that count, and those of each seed if there are several."""
    by_seed = source["epochs_by_seed"]
    if len(by_seed) == 1:
        return str(source["epochs"])
    each = ", ".join(f"{epochs} with seed {seed}" for seed, epochs in by_seed.items())
    return f"{source['epochs']}, the median ({each})"


def _shares(features: Mapping[str, Any]) -> str:
    """How close to the processor's multiply rate the cores come, as a sentence."""
    needed, busy = features["multiply_adds_per_image"], features["processor_seconds"]
    share, fastest = features["share_of_peak"], features["peak_of"]
    # by processor time, which other work on the machine hardly touches
    fair = {side: IMAGES * needed / busy[side] * busy[fastest] / MACHINE[fastest] for side in (PEER, OURS)}
    return (
        f"Features take {needed / 1e6:.1f} million multiply-adds per image. Of the "
        f"{features['peak_multiply_adds_per_second'] / 1e9:.0f} billion per second that the best float32 "
        f"{fastest} reached, neuralpredictors gets {share[PEER]:.0%} and mousev1 "
        f"{share[OURS]:.0%} (medians; best turn {features['best_share_of_peak']:.0%}); per second of "
        f"processor time, compared with that of the {fastest}, {fair[PEER]:.0%} and {fair[OURS]:.0%}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the result file lacks, and print all of it as a table."""
    options = _parser().options(arguments)
    if options.memory_side:
        units, images = _size(options.sizes[0])
        print(json.dumps(measure_memory(_task(options, units, images), options.memory_side)))
        return
    core = read_core(options.core)
    what = "speed of neuralpredictors 0.3.0 and mousev1, in turns"
    results = script.resume(options, script.identity(what, options.scan, core, options.seed), "parts")

    def measure(name: str, run: Callable[[], dict[str, Any]]) -> None:
        if name in results["parts"] and not options.rerun:
            return
        print(name, file=sys.stderr, flush=True)
        before = provenance.circumstances()
        results["parts"][name] = {**before, **run(), "load_at_end": provenance.machine()["load_1_minute"]}
        provenance.write_json(options.out, results)

    rounds = options.rounds
    if "load" in options.parts:
        measure("load", lambda: time_load(core, rounds))
    if "import" in options.parts:
        measure("import on top of torch", lambda: time_import(rounds))
    if "help" in options.parts:
        measure("mousev1 --help", lambda: time_help(rounds))
    if "features" in options.parts:
        measure("features", lambda: time_features(options.core, rounds))
    if "predict" in options.parts:
        for units in (1000, 5335):
            measure(f"predict {units:,} units", partial(time_predict, options.core, units, rounds))
    for size in options.sizes:
        units, images = _size(size)
        if "fit" in options.parts:
            name = f"fit {units:,} neurons, {images:,} images"
            measure(name, partial(time_fit, options, units, images))
            # again at every run: a record may have come since
            recorded = recorded_epochs(options.records, units, images, seed=options.seed)
            part = results["parts"][name]
            part |= whole_fit(part, recorded)
            if "test" in recorded and "reach" not in part:
                part["reach"] = time_to_reach(_task(options, units, images), recorded["test"])
            provenance.write_json(options.out, results)
        if "memory" in options.parts:
            measure(
                f"memory {units:,} neurons, {images:,} images",
                partial(_memory_of_both, size, options.given),
            )
    machine = provenance.machine()
    heading = (
        f"{provenance.now()}, {machine['cpu']}, {machine['cpus']} cores, {machine['torch_threads']} threads, "
        f"torch {provenance.versions()['torch']}. Fits: {results['scan']}, whose responses are simulated. "
        f"Loads at the time are in `{options.out.name}`. `{results['command']}`"
    )
    script.write_table(options.out, heading, table(results))


def _memory_of_both(size: str, given: Sequence[str]) -> dict[str, Any]:
    return {side: _memory_of(side, size, given) for side in (OURS, PEER)}


def _memory_of(side: str, size: str, given: Sequence[str]) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "training.measurements.speed", *given]
    output = _output([*command, "--sizes", size, "--memory-side", side])
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def _task(options: argparse.Namespace, units: int, images: int) -> Task:
    return make_task(options, units, images, max_epochs=options.epochs)


def _size(text: str) -> tuple[int, int]:
    units, _, images = text.partition("x")
    return int(units), int(images)


def _compare(unit: str, turns: Turns, *, higher_is_better: bool = False) -> dict[str, Any]:
    medians = {side: statistics.median(values) for side, values in turns.values.items()}
    busy = {side: statistics.median(values) for side, values in turns.processor_seconds.items()}
    ratio = medians[OURS] / medians[PEER] if higher_is_better else medians[PEER] / medians[OURS]
    found = {"unit": unit, "rounds": turns.values, "median": medians, "ratio": ratio}
    return {**found, "processor_seconds": busy, "processor_ratio": busy[PEER] / max(busy[OURS], 1e-9)}


def _processor_ratio(part: Mapping[str, Any]) -> str:
    return f"{part['processor_ratio']:.1f}x" if "processor_ratio" in part else "-"


def _random_images(core: Core, count: int) -> torch.Tensor:
    contract = core.config.input
    size = (count, core.config.input_channels, contract.height, contract.width)
    return torch.randint(0, 256, size, generator=torch.Generator().manual_seed(0)).float()


def _images_per_second(predict: Callable[[Array], Array], images: Array) -> float:
    return len(images) / _seconds(lambda: predict(images))


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _parser() -> script.Parser:
    parser = script.parser("speed", "Time the authors' library and mousev1 in turns.")
    parser.add_argument("--truth", type=Path, help="true rates of a simulated scan (.npz)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help="neurons x images of the fits")
    parser.add_argument(
        "--records", type=Path, nargs="+", default=[], help="results of transfer or curve, for epochs"
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns that count (default: 7)")
    parser.add_argument(
        "--fit-rounds", type=int, default=2, help="turns of fits in each process (default: 2)"
    )
    parser.add_argument("--epochs", type=int, default=2, help="epochs of the recipe per turn (default: 2)")
    parser.add_argument("--memory-side", choices=(OURS, PEER), help=argparse.SUPPRESS)
    parser.add_argument("--rerun", action="store_true", help="measure again what the result file has")
    return parser


if __name__ == "__main__":
    main()
