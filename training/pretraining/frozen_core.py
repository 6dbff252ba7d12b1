"""Readouts of any kind trained on a frozen core by the recipe of pretraining, on features computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from mousev1.core.network import CoreConfig
from mousev1.core.representation import FrozenCore
from mousev1.fit import readout_training
from mousev1.fit.readout_training import FeatureTrials, ScanTrials, TrainableReadout, TrainedReadouts
from mousev1.fit.sgd import core_features
from training.pretraining.config import PretrainConfig
from training.pretraining.data import INIT_STREAM, PretrainScan, Tier, epoch_steps, generator_for
from training.pretraining.loop import EVALUATION_BATCH
from training.pretraining.model import build_readouts


def train_readouts(
    core: FrozenCore, scans: Sequence[PretrainScan], config: PretrainConfig
) -> TrainedReadouts[TrainableReadout]:
    """Train one readout per scan on a frozen core, all together, until validation stops it.

    Features of all training and validation images are held in memory. The config's core and scans are not looked at.

    Raises:
        FloatingPointError: training diverged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator_for((config.seed, INIT_STREAM)).get_state())
        readouts = build_readouts(list(scans), cast(CoreConfig, core.config), config.readout)
    return readout_training.train_readouts(
        cast("list[TrainableReadout]", list(readouts.to(core.device))),
        [
            ScanTrials(with_features(core, s.train), with_features(core, s.validation), len(s.train))
            for s in scans
        ],
        config.optimisation,
        lambda epoch: epoch_steps(scans, config, epoch, core.device),
    )


def with_features(core: FrozenCore, tier: Tier) -> FeatureTrials:
    """The tier's trials with the core's features of the images that they show, on the core's device."""
    images, shown = torch.unique(tier.shown, return_inverse=True)
    known = core_features(core, tier.images[images], EVALUATION_BATCH)
    return FeatureTrials(lambda chosen: known[chosen], shown, tier.responses.to(core.device))
