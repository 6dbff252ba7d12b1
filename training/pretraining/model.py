"""What is pretrained: a core and one readout per scan."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from mousev1.core.network import Core
from mousev1.fit.readout_training import TrainableReadout
from training.pretraining.config import PretrainConfig
from training.pretraining.data import INIT_STREAM, PretrainScan, generator_for
from training.pretraining.readouts import build_readouts


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
