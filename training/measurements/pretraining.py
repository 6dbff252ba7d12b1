"""Pretraining throughput: the published code's loop against ours, on the same scans, in alternation.

``python -m training.measurements.pretraining [--scans 11 --neurons 1000 --rounds 5] [--out FILE.json]``

Both train the 11-S core and one Gaussian readout with cortex per scan, with the same losses, batches of
64 images of every scan per optimizer step, float32. The published loop is put together from
neuralpredictors 0.3.0 (core, readout, loss, regulariser) as github.com/sinzlab/nnsysident does. Images
and responses are random numbers, since time does not depend on them. Each side has a process of its own, so
that its peak memory is its own and neither inherits the other's allocator; the sides take turns step by
step, because other work on the machine comes and goes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from mousev1.numerics.process_settings import GIBI, tune_process
from training.measurements.peer import build_core, import_peer, peer_core_state
from training.pretraining.config import OptimisationConfig, PretrainConfig
from training.pretraining.data import PretrainScan, Tier, generator_for
from training.pretraining.fast_convolutions import speed_up_training
from training.pretraining.loop import scan_loss
from training.pretraining.model import build_model
from training.provenance import circumstances, peak_megabytes, write_json

RESULTS = Path(__file__).resolve().parent.parent / "results" / "benchmarks"
SIDES = ("published", "ours")


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is timed: scans per optimizer step, neurons and images of each, and torch's threads."""

    scans: int = 11
    neurons: int = 1000
    batch_size: int = 64
    threads: int = 2


def serve(side: str, work: Workload) -> None:
    """One step for every line on standard input; writes what it took as a line of JSON."""
    torch.set_num_threads(work.threads)
    torch.manual_seed(0)
    scans = [random_scan(number, work) for number in range(work.scans)]
    step = {"published": _published_step, "ours": our_step}[side](scans, work)
    images = work.scans * work.batch_size
    for _ in sys.stdin:
        started, busy = time.perf_counter(), time.process_time()
        step()
        measured = {
            "images_per_second": images / (time.perf_counter() - started),
            # of all threads; hardly depends on who else uses the machine
            "processor_seconds_per_1000_images": 1000 * (time.process_time() - busy) / images,
            "peak_memory_mb": peak_megabytes(),
        }
        print(json.dumps(measured), flush=True)


def take_turns(work: Workload, flags: list[str], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Steps of each side in turn, after one of each that does not count."""
    measured: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with ExitStack() as stack:
        servers = {}
        for side in SIDES:
            command = [sys.executable, "-m", "training.measurements.pretraining", *flags, "--side", side]
            server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            servers[side] = stack.enter_context(server)
        for turn in range(rounds + 1):
            for side, server in servers.items():
                assert server.stdin is not None
                assert server.stdout is not None
                server.stdin.write("step\n")
                server.stdin.flush()
                answer = server.stdout.readline()
                if not answer:
                    raise RuntimeError(f"the process of side '{side}' ended early; its message is above")
                if turn > 0:
                    measured[side].append(json.loads(answer))
                    print(f"round {turn}, {side}: {_row(measured[side][-1])}", flush=True)
    return measured


def random_scan(number: int, work: Workload) -> PretrainScan:
    """A scan of random images and responses; time does not depend on them."""
    generator = torch.Generator().manual_seed(number)
    trials = work.batch_size
    images = torch.randint(0, 256, (trials, 1, 36, 64), generator=generator, dtype=torch.uint8)
    responses = torch.rand(trials, work.neurons, generator=generator)
    tier = Tier(images, torch.arange(trials), responses)
    return PretrainScan(
        name=str(number),
        train=tier,
        validation=tier,
        response_scale=torch.ones(work.neurons),
        mean_response=responses.mean(dim=0),
        cortex=torch.rand(work.neurons, 2, generator=generator),
        neurons=tuple((str(number), unit) for unit in range(work.neurons)),
    )


def our_step(
    scans: list[PretrainScan], work: Workload, device: torch.device | str = "cpu"
) -> Callable[[], None]:
    """One optimizer step of pretraining in mousev1."""
    tune_process(largest=GIBI, kept=2 * GIBI - 1)
    config = PretrainConfig(
        name="benchmark",
        scans=("random",),
        optimisation=OptimisationConfig(batch_size=work.batch_size),
    )
    model = build_model(config, scans).to(device)
    speed_up_training(model.core)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optimisation.learning_rate)
    trials = torch.arange(work.batch_size)
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        for scan in range(len(scans)):
            generator = generator_for((scan,), device)
            loss, _ = scan_loss(model, scans, scan, trials, config=config, generator=generator)
            loss.backward()
        optimizer.step()
        for readout in model.readouts:
            readout.project_()  # type: ignore[operator]

    return step


def _published_step(scans: list[PretrainScan], work: Workload) -> Callable[[], None]:
    peer = import_peer()
    config = PretrainConfig(name="benchmark", scans=("random",))
    recipe = config.optimisation
    ours = build_model(config, scans).core
    core = build_core(config.core, peer_core_state(ours)).requires_grad_(True)
    smoothness = peer.laplace_l2_norm(padding=1)
    readouts = torch.nn.ModuleList(
        peer.readout(
            in_shape=config.core.feature_shape(36, 64),
            outdims=scan.units,
            bias=True,
            init_mu_range=0.3,
            init_sigma=0.1,
            gauss_type="full",
            grid_mean_predictor={"hidden_layers": 0, "hidden_features": 0, "final_tanh": False},
            source_grid=cast(Tensor, scan.cortex).double().numpy(),
            mean_activity=scan.mean_response.clone(),
            feature_reg_weight=recipe.feature_l1,
        )
        for scan in scans
    )
    encoders = [peer.encoder(core=core, readout=readout) for readout in readouts]
    parameters = [*core.parameters(), *readouts.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=recipe.learning_rate)
    poisson = peer.loss(avg=False)
    core.train()
    readouts.train()

    def step() -> None:
        optimizer.zero_grad()
        for scan, encoder in zip(scans, encoders, strict=True):
            images, responses = scan.train.batch(torch.arange(work.batch_size), torch.device("cpu"))
            likelihood = poisson(output=encoder(images), target=responses)
            penalty = recipe.smoothness * smoothness(core.features[0].conv.weight, avg=False)
            penalty = penalty + encoder.readout.regularizer()
            loss = math.sqrt(len(scan.train) / len(images)) * likelihood + penalty
            loss.backward()
        optimizer.step()

    return step


def main(arguments: list[str] | None = None) -> int:
    """Run the sides in turn, print a table, write the numbers as JSON."""
    parser = argparse.ArgumentParser(prog="python -m training.measurements.pretraining", description=__doc__)
    for field in dataclasses.fields(Workload):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    parser.add_argument("--rounds", type=int, default=5, help="steps of each side that are timed")
    parser.add_argument("--out", type=Path, default=RESULTS / "pretraining.json", help="where the numbers go")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    work = Workload(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Workload)})
    if options.side:
        serve(options.side, work)
        return 0
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in dataclasses.asdict(work).items()]
    measured = take_turns(work, flags, options.rounds)
    medians = {
        side: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for side, runs in measured.items()
    }
    ratios = {key: medians["ours"][key] / medians["published"][key] for key in medians["ours"]}
    for side in SIDES:
        print(f"median, {side}: {_row(medians[side])}")
    print(
        f"ours over published: {ratios['images_per_second']:.2f} times the images per second, "
        f"{ratios['processor_seconds_per_1000_images']:.2f} of the processor time, "
        f"{ratios['peak_memory_mb']:.2f} of the memory"
    )
    write_json(
        options.out,
        {
            "what": "pretraining throughput, forward and backward and optimizer step",
            **circumstances(),
            "workload": dataclasses.asdict(work),
            "rounds": measured,
            "median": medians,
            "ratio": ratios,
        },
    )
    return 0


def _row(values: dict[str, float]) -> str:
    return (
        f"{values['images_per_second']:.1f} images/s, "
        f"{values['processor_seconds_per_1000_images']:.2f} processor seconds per 1,000 images, "
        f"peak memory {values['peak_memory_mb']:.0f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
