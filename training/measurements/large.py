"""A fit that does not fit into memory: many neurons and images within a budget, features on disk.

    python -m training.measurements.large --core CHECKPOINT --folder DIR --out FILE.json

Neurons, images and responses are simulated: dead-leaves pictures, neurons on an affine retinotopic map whose
feature weights on the core are random, Poisson responses. They are made once, in DIR. The fit has a process of
its own that loads them as a user would, so that its peak memory is what a user's would be, and is scored against
the true rates of images that it was not given.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import mousev1
from mousev1 import metrics
from mousev1.core.inference import fuse
from mousev1.core.network import Core
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.readout.gaussian import FeatureWeights, FreePositions, GaussianReadout
from mousev1.storage.atomic import replacing
from training import provenance
from training.measurements import script
from training.measurements.task import read_core
from training.measurements.turns import in_new_process
from training.simulation.dead_leaves import dead_leaves

UNITS, IMAGES, TEST_IMAGES = 20_000, 30_000, 500
GIGABYTES = 8.0
IMAGES_AT_A_TIME = 500
PER_CANVAS, TEXTURE = 60, 0.5
PILOT_IMAGES = 200
CORTEX = 1000.0  # micrometres along a side
DRIVE_SD, DRIVE_MEAN = 0.8, -0.5
LEAST_SCORED = 0.05  # a neuron whose rate hardly varies has no correlation worth the name


def simulate(core: Core, folder: Path, *, units: int, images: int, seed: int) -> None:
    """Write ``images.npy``, ``responses.npy``, ``positions.npy``, ``test_images.npy`` and ``test_rates.npy``."""
    rng = np.random.default_rng(seed)
    contract = core.config.input
    pictures = dead_leaves(
        rng,
        images + TEST_IMAGES,
        height=contract.height,
        width=contract.width,
        per_canvas=PER_CANVAS,
        texture=TEXTURE,
    )
    # Test images come from canvases of their own, or nearly: the last ones.
    train, test = pictures[:images], pictures[images:]
    positions = rng.uniform(0.0, CORTEX, (units, 2))
    model = true_model(core, train[rng.permutation(images)[:PILOT_IMAGES]], positions, rng)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", train)
    np.save(folder / "positions.npy", positions)
    np.save(folder / "test_images.npy", test)
    np.save(folder / "test_rates.npy", model.predict(test))
    with replacing(folder / "responses.npy") as staging:
        responses = np.lib.format.open_memmap(staging, mode="w+", dtype=np.float32, shape=(images, units))
        for start in range(0, images, IMAGES_AT_A_TIME):
            part = slice(start, start + IMAGES_AT_A_TIME)
            responses[part] = rng.poisson(model.predict(train[part]))
            print(f"simulated {min(start + IMAGES_AT_A_TIME, images):,} of {images:,}", file=sys.stderr)
        responses.flush()


@torch.no_grad()
def true_model(
    core: Core, pilot: npt.NDArray[np.uint8], positions: npt.NDArray[np.float64], rng: np.random.Generator
) -> ResponseModel:
    """Random neurons on an affine map, whose drives have a mean and a spread in common over pilot images."""
    units = len(positions)
    channels = core.config.hidden_channels
    features = fuse(core)(torch.from_numpy(pilot)[:, None].float())
    where, weights = FreePositions(units), FeatureWeights(units, channels)
    turn = np.array([[0.8, 0.3], [-0.25, 0.6]])
    where.mu.copy_(torch.from_numpy((positions / CORTEX - 0.5) @ turn.T))
    spread = features.std(dim=(0, 2, 3)).clamp_min(1e-6)
    weights.weight.copy_(torch.from_numpy(rng.normal(size=(units, channels))).float() / spread)
    readout = GaussianReadout(where, weights).eval().requires_grad_(False)
    readout.bias.zero_()
    drive = readout.drive(features)
    scale = DRIVE_SD / drive.std(dim=0)
    weights.weight.mul_(scale[:, None])
    readout.bias.copy_(DRIVE_MEAN - drive.mean(dim=0) * scale)
    return ResponseModel(
        core,
        readout,
        unit_ids=np.arange(units),
        response_scale=torch.ones(units),
        record=FitRecord("simulated"),
    )


def fit(core: Core, folder: Path, *, memory: int, seed: int) -> dict[str, Any]:
    """Fit and score in this process, whose memory counts; ``plan`` is what memory was predicted."""
    images, responses, positions = (
        np.load(folder / f"{name}.npy") for name in ("images", "responses", "positions")
    )
    options: dict[str, Any] = {"image_ids": np.arange(len(images)), "constant_units": "mean", "seed": seed}
    run = partial(mousev1.fit_readout, images, responses, positions, core=core, **options)
    with contextlib.redirect_stderr(io.StringIO()) as log:
        model, cost = provenance.cost_of(partial(run, memory=memory, progress=True))
    lines = log.getvalue().replace("\r", "\n").splitlines()
    plan = next(line for line in lines if "predicted peak memory" in line)
    true = np.load(folder / "test_rates.npy")
    found = model.predict(np.load(folder / "test_images.npy"))
    varied = true.std(axis=0) > LEAST_SCORED
    return {
        "plan": plan.replace(tempfile.gettempdir(), "the folder for temporary files"),
        **cost,
        "true_rate_correlation": float(np.nanmean(metrics.correlation(found, true)[varied])),
        "units_scored": int(varied.sum()),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate what is not there yet, then fit in a process of its own and write what it took."""
    options = _parser().options(arguments)
    core = read_core(options.core)
    budget = round(options.memory * 1e9)
    if not (options.folder / "responses.npy").exists():
        simulate(core, options.folder, units=options.units, images=options.images, seed=options.seed)
    shape = np.load(options.folder / "responses.npy", mmap_mode="r").shape
    if shape != (options.images, options.units):
        raise SystemExit(
            f"--folder: expected responses ({options.images}, {options.units}) in {options.folder}, found "
            f"{shape}; choose another folder"
        )
    results = {
        "what": "a fit under a memory budget; neurons, images and responses are simulated",
        **provenance.circumstances(),
        "core": core.name,
        "core_hash": core.content_hash(),
        "units": options.units,
        "images": options.images,
        "seed": options.seed,
        "budget_mb": round(budget / 1e6, 1),
        **in_new_process(partial(fit, core, options.folder, memory=budget, seed=options.seed)),
    }
    provenance.write_json(options.out, results)
    print(json.dumps(results, indent=1))


def _parser() -> script.Parser:
    parser = script.parser("large", "A simulated scan fitted under a memory budget.", scan="")
    parser.add_argument("--folder", type=Path, required=True, help="where the simulated scan is, or will be")
    parser.add_argument("--units", type=int, default=UNITS, help=f"neurons (default: {UNITS:,})")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"training images (default: {IMAGES:,})")
    parser.add_argument("--memory", type=float, default=GIGABYTES, help="budget in GB (default: 8)")
    return parser


if __name__ == "__main__":
    main()
