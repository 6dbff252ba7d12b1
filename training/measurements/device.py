"""How fast everything is on an accelerator: features, predictions, fits, pretraining, most exciting images.

    python -m training.measurements.device --device cuda --out FILE.json

Needs no files: the core has the sizes of 11-S and random weights, images are dead leaves, and responses are Poisson
around the rates of a random readout, so that fits are scored against the truth. Everything is measured on the
processor and on the device, rates after a turn that does not count; those of the same model must agree. The largest
fit is left out on the processor. Rows that the result file has are not measured again: a run that was stopped goes
on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import mousev1
from mousev1.core.inference import fuse
from mousev1.core.network import Core
from mousev1.insilico.mei import optimal_images
from mousev1.metrics.unit_scores import correlation
from mousev1.model.response_model import ResponseModel
from training import provenance
from training.measurements import script
from training.measurements.large import CORTEX, PER_CANVAS, TEXTURE, true_model
from training.measurements.pretraining import Workload, our_step, random_scan
from training.simulation.dead_leaves import dead_leaves

Array = npt.NDArray[Any]

SIZES = ("1000x1000", "5335x4472", "20000x30000")
LARGEST_ON_PROCESSOR = 5335 * 4472
TEST_IMAGES, RATE_IMAGES = 200, 2048
PILOT_IMAGES = 200
AGREE = 1e-4  # largest difference between devices, relative to the largest rate
IMAGES_AT_A_TIME = 500


@dataclass(frozen=True)
class Simulation:
    """A scan with known truth.

    Attributes:
        model: the truth.
        images: (N, H, W) to fit on, and then to test on.
        responses: (N, U) to those to fit on.
        positions: (U, 2).
    """

    model: ResponseModel
    images: Array
    responses: Array
    positions: Array

    @classmethod
    def of(cls, core: Core, neurons: int, images: int, device: str) -> Simulation:
        """Drawn from one seed; the truth's rates are computed on a device."""
        rng, contract = np.random.default_rng(0), core.config.input
        pictures = dead_leaves(
            rng,
            images + TEST_IMAGES,
            height=contract.height,
            width=contract.width,
            per_canvas=PER_CANVAS,
            texture=TEXTURE,
        )
        positions = rng.uniform(0.0, CORTEX, (neurons, 2))
        model = true_model(core, pictures[:PILOT_IMAGES], positions, rng).to(device)
        responses = np.empty((images, neurons), dtype=np.float32)
        for start in range(0, images, IMAGES_AT_A_TIME):
            part = slice(start, min(start + IMAGES_AT_A_TIME, images))
            responses[part] = rng.poisson(model.predict(pictures[part]))
        return cls(model, pictures, responses, positions)

    def fit(self, device: str) -> ResponseModel:
        """The fit of a user."""
        return mousev1.fit_readout(
            self.images[: len(self.responses)],
            self.responses,
            self.positions,
            core=self.model.core.to("cpu"),
            constant_units="mean",
            device=device,
            progress=False,
        )


def seconds_of(run: Callable[[], object], device: str) -> float:
    """Seconds until the device has done what ``run`` asks of it."""
    started = time.perf_counter()
    run()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def time_rates(core: Core, device: str, neurons: int) -> dict[str, float]:
    """Images per second of features and predictions, and by how much these differ from the processor's."""
    simulation = Simulation.of(core, neurons, PILOT_IMAGES, "cpu")
    images = np.resize(simulation.images, (RATE_IMAGES, *simulation.images.shape[1:]))
    expected, model = simulation.model.predict(simulation.images), simulation.model.to(device)
    found = model.predict(simulation.images)
    fused, gray = fuse(model.core).to(device), torch.from_numpy(images)[:, None]

    def features() -> None:
        for batch in gray.split(256):
            fused(batch.to(device, torch.float32))

    rates: dict[str, float] = {}
    for name, run in (("features", features), ("predict", lambda: model.predict(images, batch_size=256))):
        seconds_of(run, device)
        rates[f"{name}, images per second"] = RATE_IMAGES / seconds_of(run, device)
    core.to("cpu")
    return {**rates, "difference": float(np.abs(found - expected).max() / np.abs(expected).max())}


def time_fit(core: Core, device: str, neurons: int, images: int) -> dict[str, float]:
    """Seconds of a fit, and its correlation with the true rates."""
    simulation = Simulation.of(core, neurons, images, device)
    test = simulation.images[images:]
    true = simulation.model.predict(test)
    fits: list[ResponseModel] = []
    seconds = seconds_of(lambda: fits.append(simulation.fit(device)), device)
    rates = fits[0].predict(test)
    score = float(np.nanmean(correlation(rates, true)))
    core.to("cpu")
    return {"seconds": seconds, "true_rate_correlation": score}


def time_pretraining(device: str, work: Workload, steps: int) -> dict[str, float]:
    """Images per second of pretraining steps."""
    scans = [random_scan(number, work) for number in range(work.scans)]
    step = our_step(scans, work, device)
    seconds_of(step, device)
    seconds = seconds_of(lambda: [step() for _ in range(steps)], device)
    return {"images per second": steps * work.scans * work.batch_size / seconds}


def time_optimal_images(core: Core, device: str, neurons: int) -> dict[str, float]:
    """Neurons per second whose most exciting image is found, and the mean response to it."""
    model = Simulation.of(core, neurons, PILOT_IMAGES, "cpu").model.to(device)
    found: list[Any] = []
    seconds = seconds_of(lambda: found.append(optimal_images(model, progress=False)), device)
    core.to("cpu")
    return {"neurons per second": neurons / seconds, "mean_response": float(found[0].response.mean())}


def measurements(
    core: Core, options: argparse.Namespace
) -> list[tuple[str, str, Callable[[], dict[str, float]]]]:
    """What is measured: name, device, and what measures it."""
    found: list[tuple[str, str, Callable[[], dict[str, float]]]] = []
    for device in dict.fromkeys(("cpu", options.device)):
        for neurons in options.neurons:
            found.append(
                (f"rates of {neurons:,} neurons", device, partial(time_rates, core, device, neurons))
            )
        for size in options.sizes:
            neurons, images = (int(number) for number in size.split("x"))
            if device != "cpu" or neurons * images <= LARGEST_ON_PROCESSOR:
                measure = partial(time_fit, core, device, neurons, images)
                found.append((f"fit {neurons:,} x {images:,}", device, measure))
        work = Workload(scans=options.scans, neurons=options.neurons[0])
        found.append(("pretraining step", device, partial(time_pretraining, device, work, options.steps)))
        excited = partial(time_optimal_images, core, device, options.excited)
        found.append(("most exciting images", device, excited))
    return found


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """All rows as a Markdown table."""
    lines = ["| what | device | measured |", "|---|---|---|"]
    for row in rows.values():
        measured = ", ".join(f"{name} {value:,.5g}" for name, value in row["measured"].items())
        lines.append(f"| {row['what']} | {row['device']} | {measured} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rows that the result file lacks, and print all of it as a table."""
    options = _parser().options(arguments)
    core = Core.random(seed=options.seed)
    header = {"what": "speed on a device", "core_hash": core.content_hash(), "device": options.device}
    results = script.resume(options, header, "rows")
    for what, device, measure in measurements(core, options):
        key = f"{what}, {device}"
        if key in results["rows"]:
            continue
        print(key, file=sys.stderr, flush=True)
        before = provenance.circumstances()
        results["rows"][key] = {**before, "what": what, "device": device, "measured": measure()}
        provenance.write_json(options.out, results)
    worst = max(row["measured"].get("difference", 0.0) for row in results["rows"].values())
    if worst > AGREE:
        raise SystemExit(f"rates differ between devices by {worst:.1e} of the largest, more than {AGREE:g}")
    cuda = torch.device(options.device).type == "cuda"
    name = torch.cuda.get_device_name(options.device) if cuda else options.device
    heading = f"{provenance.now()}, {name}, torch {provenance.versions()['torch']}. `{options.command}`"
    script.write_table(options.out, heading, table(results["rows"]))


def _parser() -> script.Parser:
    parser = script.Parser(
        prog="python -m training.measurements.device",
        description="Time everything on the processor and a device.",
    )
    parser.add_argument("--device", required=True, help="cuda, mps or cpu")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help="neurons x images of the fits")
    parser.add_argument("--neurons", type=int, nargs="+", default=[1000, 20_000], help="of predictions")
    parser.add_argument("--scans", type=int, default=11, help="of a pretraining step (default: 11)")
    parser.add_argument("--steps", type=int, default=5, help="of pretraining (default: 5)")
    parser.add_argument("--excited", type=int, default=64, help="neurons to find images for (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="of the core (default: 0)")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--out", type=Path, required=True, help="result file (.json); a table goes beside it")
    return parser


if __name__ == "__main__":
    main()
