"""What is pretrained: a core and one readout per scan."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from mousev1.core.network import Core
from training.pretraining.config import PretrainConfig
from training.pretraining.data import (
    PretrainScan,
    generator_for,
)
from training.pretraining.readouts import TrainableReadout, build_readouts

# What a random number is for is part of its seed: no two purposes share a stream.
INIT_STREAM, ORDER_STREAM, POSITION_STREAM = 0, 1, 2


class PretrainModel(nn.Module):
    """A core and one readout per scan."""

    def __init__(self, core: Core, readouts: nn.ModuleList) -> None:
        super().__init__()
        self.core = core
        self.readouts = readouts

    def readout(self, scan: int) -> TrainableReadout:
        """The readout of a scan, by its number."""
        return cast(TrainableReadout, self.readouts[scan])


def build_model(config: PretrainConfig, scans: list[PretrainScan]) -> PretrainModel:
    """An untrained model; the same numbers for the same seed and scans."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator_for((config.seed, INIT_STREAM)).get_state())
        core = Core(config.core, name=config.name)
        return PretrainModel(core, build_readouts(scans, config.core, config.readout))
