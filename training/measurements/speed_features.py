"""Images per second through a core, also as a share of what the processor multiplies, in the same turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from mousev1.core.inference import fuse
from mousev1.core.network import Core
from training.measurements.peer import build_core, peer_core_state, standardise
from training.measurements.task import read_core
from training.measurements.turns import OURS, PEER, Turns, compared_rates, seconds_of, take_turns

IMAGES, BATCH = 512, 64
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


def multiply_adds(core: Core, height: int, width: int) -> int:
    """Multiplications (each with an addition) that one image takes; those with the zero padding count."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        core(torch.zeros(1, core.config.input_channels, height, width))
    return counter.get_total_flops() // 2


def time_features(path: Path, rounds: int) -> dict[str, Any]:
    """Images per second through the core of a file, and multiplications per second, of this and at most."""
    found = compared_rates("images per second", partial(features_in_turns, path, rounds))
    rates, core = found["rounds"], read_core(path)
    needed = multiply_adds(core, core.config.input.height, core.config.input.width)
    # the peak is the best turn: a slower one was disturbed
    fastest = max(MACHINE, key=lambda name: max(rates[name]))
    peak = max(rates[fastest])
    shares = [ours * needed / most for ours, most in zip(rates[OURS], rates[fastest], strict=True)]
    return {
        **found,
        "multiply_adds_per_image": needed,
        "peak_multiply_adds_per_second": peak,
        "peak_of": fastest,
        "share_of_peak": {side: found["median"][side] * needed / peak for side in (PEER, OURS)},
        "best_share_of_peak": max(rates[OURS]) * needed / peak,
        "median_share_within_a_turn": statistics.median(shares),
    }


@torch.no_grad()
def features_in_turns(path: Path, rounds: int) -> tuple[Turns, float]:
    """Images and multiplications per second, and the largest difference of the features."""
    core = read_core(path)
    images = random_images(core)
    standardised = standardise(images, core.config.input)
    theirs, ours = build_core(core.config, peer_core_state(core)), fuse(core)
    a, b = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)
    maps, kernels = torch.rand(1, CHANNELS, PIXELS, PIXELS), torch.rand(CHANNELS, CHANNELS, KERNEL, KERNEL)
    if torch.backends.mkldnn.is_available():
        maps, kernels = maps.to_mkldnn(), kernels.to_mkldnn()
    work: dict[str, tuple[float, Callable[[Any], object], Iterable[Any]]] = {
        PRODUCT: (MACHINE[PRODUCT], lambda _: a @ b, range(TIMES[PRODUCT])),
        CONVOLUTION: (
            MACHINE[CONVOLUTION],
            lambda _: conv2d(maps, kernels, padding=KERNEL // 2),
            range(TIMES[CONVOLUTION]),
        ),
        PEER: (IMAGES, theirs, standardised.split(BATCH)),
        OURS: (IMAGES, ours, images.split(BATCH)),
    }
    difference = float((theirs(standardised[:8]) - ours(images[:8])).abs().max())
    return take_turns({side: partial(_rate, *of_side) for side, of_side in work.items()}, rounds), difference


def _rate(amount: float, run: Callable[[Any], object], batches: Iterable[Any]) -> float:
    def run_all() -> None:
        for batch in batches:
            run(batch)

    return amount / seconds_of(run_all)


def random_images(core: Core) -> torch.Tensor:
    """(IMAGES, C, H, W) random gray values."""
    contract = core.config.input
    size = (IMAGES, core.config.input_channels, contract.height, contract.width)
    return torch.randint(0, 256, size, generator=torch.Generator().manual_seed(0)).float()
