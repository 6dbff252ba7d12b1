"""Scans as pretraining sees them, and which images make which batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import mousev1
from mousev1.core.network import CoreConfig
from mousev1.data.scan import Scan
from mousev1.errors import listing
from training.pretraining.config import PretrainConfig

# What a random number is for is part of its seed: no two purposes share a stream.
INIT_STREAM, ORDER_STREAM, POSITION_STREAM = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Tier:
    """Trials of one tier: images are kept once, however often they were shown."""

    images: Tensor  # (I, C, H, W) distinct images of the scan, uint8 or float32
    shown: Tensor  # (T,) index into ``images``
    responses: Tensor  # (T, U) float32, divided by the scan's response scale

    def __len__(self) -> int:
        return len(self.shown)

    def batch(self, trials: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W) and responses (N, U) of some trials, float32, on a device."""
        images = self.images[self.shown[trials]].to(device, torch.float32)
        return images, self.responses[trials].to(device)


@dataclass(frozen=True, eq=False)
class PretrainScan:
    """What pretraining needs of one scan."""

    name: str  # of the scan
    train: Tier  # training trials
    validation: Tier  # validation trials
    response_scale: Tensor  # (U,) standard deviation over training trials that responses were divided by
    mean_response: Tensor  # (U,) mean of the divided training responses
    cortex: Tensor | None  # (U, 2) or (U, 3) cortical positions or None
    neurons: tuple[
        tuple[str, int], ...
    ]  # one key per neuron, equal to one of another scan if it is the same neuron

    @property
    def units(self) -> int:
        """Number of neurons U."""
        return len(self.response_scale)


def load_scan(path: Path, core: CoreConfig) -> PretrainScan:
    """Read a scan and check that it fits the core.

    Raises:
        ValueError: images of another size or gray range than the core's input contract, or no
            training or validation trials.
    """
    return prepare_scan(mousev1.read_scan(path), core, origin=str(path))


def prepare_scan(scan: Scan, core: CoreConfig, *, origin: str | None = None) -> PretrainScan:
    """The same of a scan in memory; messages name its ``origin``, by default its name."""
    path = origin or scan.name
    _check_fits(scan, path, core)
    tiers = {}
    for tier in ("train", "validation"):
        rows = np.flatnonzero(scan.tiers == tier)
        if len(rows) < 2:
            raise ValueError(f"{path}: expected trials of tier '{tier}', got {len(rows)}; see Scan.tiers")
        tiers[tier] = rows
    responses = scan.responses[tiers["train"]]
    scale = responses.std(axis=0, dtype=np.float64)
    # A neuron that never responded in training: any scale does, and its score stays undefined.
    scale = np.where(scale > 0, scale, 1.0)
    images = torch.from_numpy(np.ascontiguousarray(scan.images))

    def make(rows: NDArray[np.int64]) -> Tier:
        divided = (scan.responses[rows] / scale).astype(np.float32)
        return Tier(images, torch.from_numpy(scan.trial_image[rows]), torch.from_numpy(divided))

    train = make(tiers["train"])
    return PretrainScan(
        name=scan.name,
        train=train,
        validation=make(tiers["validation"]),
        response_scale=torch.from_numpy(scale).float(),
        mean_response=train.responses.mean(dim=0),
        cortex=None if scan.positions is None else torch.from_numpy(np.ascontiguousarray(scan.positions)),
        neurons=_neuron_keys(scan),
    )


def steps_per_epoch(scans: Sequence[PretrainScan], batch_size: int) -> int:
    """Optimizer steps until the longest scan has been seen once; shorter ones are cycled."""
    return max(math.ceil(len(scan.train) / batch_size) for scan in scans)


def trial_batches(trials: int, batch_size: int, steps: int, seed: tuple[int, ...]) -> Iterator[Tensor]:
    """For each step of an epoch, which trials a scan contributes, (at most batch_size,).

    A scan that is exhausted starts over in a new order. The order depends on ``seed`` alone.
    """
    per_cycle = math.ceil(trials / batch_size)
    for step in range(steps):
        cycle, position = divmod(step, per_cycle)
        if position == 0:
            order = torch.randperm(trials, generator=generator_for((*seed, cycle))).split(batch_size)
        yield order[position]


def epoch_steps(
    scans: Sequence[PretrainScan],
    config: PretrainConfig,
    epoch: int,
    device: torch.device,
    *,
    own: Sequence[int] | None = None,
) -> Iterator[list[tuple[Tensor, torch.Generator]]]:
    """The steps of an epoch, from 1: for each scan, which training trials, and the source of the sampled positions.

    ``own`` are the scans that are wanted, by default all; all scans decide how many steps there are.
    """
    size, seed = config.optimisation.batch_size, config.seed
    steps = steps_per_epoch(scans, size)
    own = range(len(scans)) if own is None else own
    batches = [
        trial_batches(len(scans[scan].train), size, steps, (seed, ORDER_STREAM, epoch, scan)) for scan in own
    ]
    for step in range(steps):
        yield [
            (next(trials), generator_for((seed, POSITION_STREAM, epoch, scan, step), device))
            for scan, trials in zip(own, batches, strict=True)
        ]


def generator_for(key: tuple[int, ...], device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for every key, so that nothing depends on what was drawn before."""
    mixed = np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(mixed >> np.uint64(1)))


def _neuron_keys(scan: Scan) -> tuple[tuple[str, int], ...]:
    match_ids = np.full(scan.n_units, -1) if scan.match_ids is None else scan.match_ids
    animal = f"animal {scan.animal_id}" if scan.animal_id is not None else f"animal of {scan.name}"
    unmatched = f"unmatched in {scan.name}"
    return tuple(
        (animal, int(match)) if match >= 0 else (unmatched, unit) for unit, match in enumerate(match_ids)
    )


def _check_fits(scan: Scan, path: str, core: CoreConfig) -> None:
    contract = core.input
    expected = (core.input_channels, contract.height, contract.width)
    if scan.images.shape[1:] != expected:
        raise ValueError(
            f"{path}: images of {tuple(scan.images.shape[1:])} (C, H, W), but the config's core expects "
            f"{expected}; set [core.input] height and width, or bring all scans to one size"
        )
    low, high = contract.value_range
    smallest, largest = float(scan.images.min()), float(scan.images.max())
    if smallest < low or largest > high:
        raise ValueError(
            f"{path}: gray values from {smallest:g} to {largest:g}, but the config's core expects them within "
            f"{low:g} to {high:g}; set [core.input] value_range"
        )


def check_names(scans: list[PretrainScan]) -> None:
    """Raise ``ValueError`` if two scans have the same name."""
    names = [scan.name for scan in scans]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"scans: the name {listing(twice)} belongs to several files; rename the scans")
