"""Readouts of any kind trained on a frozen core by the recipe of pretraining, on features computed once."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from mousev1.core.inference import fuse
from mousev1.core.network import Core, CoreConfig
from mousev1.core.representation import FrozenCore
from mousev1.metrics.unit_scores import correlation
from training.pretraining.config import PretrainConfig
from training.pretraining.data import PretrainScan, Tier, generator_for, steps_per_epoch, trial_batches
from training.pretraining.early_stopping import EarlyStopping, Verdict
from training.pretraining.loop import EVALUATION_BATCH, scan_loss
from training.pretraining.model import INIT_STREAM, ORDER_STREAM, POSITION_STREAM, PretrainModel
from training.pretraining.readouts import TrainableReadout, build_readouts


@dataclass(frozen=True)
class FrozenFit:
    """What training arrived at.

    Attributes:
        readouts: one per scan, with the weights of the best epoch, in evaluation mode.
        validation_correlation: of that epoch, mean over neurons.
        epochs: how many were run.
    """

    readouts: list[TrainableReadout]
    validation_correlation: float
    epochs: int


class GivenFeatures(nn.Module):
    """Stands where a core stands in training, and passes on the features that come in place of images."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return features

    def smoothness(self) -> Tensor:
        """Nothing of the core is trained, so that nothing of it is penalised."""
        return torch.zeros(())


def train_readouts(core: FrozenCore, scans: Sequence[PretrainScan], config: PretrainConfig) -> FrozenFit:
    """Train one readout per scan, all together, until validation stops it.

    Args:
        core: frozen; its features of all training and validation images are held in memory.
        scans: with responses and images as pretraining sees them.
        config: kind of readout, recipe and seed; its core and scans are not looked at.

    Raises:
        FloatingPointError: training diverged.
    """
    recipe, device = config.optimisation, core.device
    seen = [with_features(core, scan) for scan in scans]
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator_for((config.seed, INIT_STREAM)).get_state())
        readouts = build_readouts(seen, cast(CoreConfig, core.config), config.readout)
    model = PretrainModel(cast(Core, GivenFeatures()), readouts).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    stopping, steps = EarlyStopping(), steps_per_epoch(seen, recipe.batch_size)
    best = copy.deepcopy(model.state_dict())
    while not stopping.finished:
        epoch = stopping.epoch + 1
        for group in optimizer.param_groups:
            group["lr"] = stopping.learning_rate(recipe)
        batches = [
            trial_batches(
                len(scan.train), recipe.batch_size, steps, (config.seed, ORDER_STREAM, epoch, number)
            )
            for number, scan in enumerate(seen)
        ]
        model.train()
        for step in range(steps):
            optimizer.zero_grad()
            for number in range(len(seen)):
                key = (config.seed, POSITION_STREAM, epoch, number, step)
                loss, _ = scan_loss(
                    model,
                    seen,
                    number,
                    next(batches[number]),
                    config=config,
                    generator=generator_for(key, device),
                )
                loss.backward()
            optimizer.step()
            for number in range(len(seen)):
                model.readout(number).project_()
        score = _validation_correlation(model, seen)
        if not math.isfinite(score):
            raise FloatingPointError(
                f"epoch {epoch}: the validation correlation is undefined for every neuron: training has "
                "diverged; try a smaller optimisation.learning_rate"
            )
        verdict = stopping.judge(score, recipe)
        if stopping.best_epoch == epoch:
            best = copy.deepcopy(model.state_dict())
        if verdict in (Verdict.ROUND_OVER, Verdict.FINISHED):
            model.load_state_dict(best)
    model.eval().requires_grad_(False)
    return FrozenFit([model.readout(number) for number in range(len(seen))], stopping.best, stopping.epoch)


@torch.no_grad()
def with_features(core: FrozenCore, scan: PretrainScan) -> PretrainScan:
    """The scan with the core's features (I, C, H, W) in place of the images of both tiers."""
    run, device = fuse(core), core.device

    def convert(tier: Tier) -> Tier:
        images, shown = torch.unique(tier.shown, return_inverse=True)
        features = [
            run(tier.images[rows].to(device, torch.float32)) for rows in images.split(EVALUATION_BATCH)
        ]
        return Tier(torch.cat(features), shown, tier.responses)

    return replace(scan, train=convert(scan.train), validation=convert(scan.validation))


@torch.no_grad()
def _validation_correlation(model: PretrainModel, scans: Sequence[PretrainScan]) -> float:
    """Mean over all neurons of the correlation with single trials; NaN if it is undefined for all."""
    model.eval()
    scores = []
    for scan, readout in zip(scans, model.readouts, strict=True):
        tier = scan.validation
        rates = torch.cat([readout(chunk) for chunk in tier.images.split(EVALUATION_BATCH)])
        scores.append(correlation(rates[tier.shown].cpu(), tier.responses))
    everyone = np.concatenate(scores)
    return float(np.nanmean(everyone)) if np.isfinite(everyone).any() else math.nan
