"""Readouts of any kind trained by the published recipe on features: Adam, early stopping, decays."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mousev1.fit.early_stopping import EarlyStopping, Verdict
from mousev1.fit.settings import TrainingSettings
from mousev1.metrics.intervals import mean_of_defined
from mousev1.metrics.unit_scores import correlation
from mousev1.readout.gaussian import Readout

LOG_OFFSET = 1e-12


class TrainableReadout(Readout, Protocol):
    """What training asks of a readout; all of them are torch modules."""

    bias: nn.Parameter

    def __call__(self, features: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Rates, (N, U); ``generator`` is the source of whatever is random in training mode."""

    def feature_l1(self) -> Tensor:
        """The penalty that ``TrainingSettings.feature_l1`` weighs, a scalar."""

    def project_(self) -> None:
        """Bring parameters back to where they are allowed, after an optimizer step."""


AnyReadout = TypeVar("AnyReadout", bound=TrainableReadout)


@dataclass(frozen=True)
class FeatureTrials:
    """Trials of one scan, with the features of the images that they show.

    Attributes:
        features: gives the features (N, C, H, W) of some images, by their numbers (N,).
        shown: (T,) which image each trial shows.
        responses: (T, U) float32, divided by the scan's response scale.
    """

    features: Callable[[Tensor], Tensor]
    shown: Tensor
    responses: Tensor

    def batch(self, trials: Tensor) -> tuple[Tensor, Tensor]:
        """Features and responses of some trials, by their numbers."""
        return self.features(self.shown[trials]), self.responses[trials.to(self.responses.device)]

    def correlation(self, readout: TrainableReadout, batch_size: int) -> npt.NDArray[np.float64]:
        """Correlation of predictions with single trials, (U,), NaN where undefined."""
        images, row = torch.unique(self.shown, return_inverse=True)
        rates = torch.cat([readout(self.features(chunk)).cpu() for chunk in images.split(batch_size)])
        return correlation(rates[row], self.responses.cpu())


@dataclass(frozen=True)
class ScanTrials:
    """What a readout is trained on and stopped by.

    Attributes:
        train: training trials.
        validation: validation trials.
        loss_trials: trials n in the factor sqrt(n / batch) on the Poisson loss; the number of training trials,
            unless something published is to be repeated that counts otherwise.
    """

    train: FeatureTrials
    validation: FeatureTrials
    loss_trials: int


Step = Sequence[tuple[Tensor, torch.Generator]]
"""For each readout, which of its training trials a step takes, and the source of what is random."""


@dataclass(frozen=True)
class TrainedReadouts(Generic[AnyReadout]):
    """What training arrived at.

    Attributes:
        readouts: as given, with the weights of the best epoch, in evaluation mode and frozen.
        validation_correlation: of that epoch, mean over the neurons of all scans.
        epochs: how many were run.
    """

    readouts: list[AnyReadout]
    validation_correlation: float
    epochs: int


def train_readouts(
    readouts: Sequence[AnyReadout],
    scans: Sequence[ScanTrials],
    settings: TrainingSettings,
    steps: Callable[[int], Iterable[Step]],
    *,
    followers: Sequence[nn.Module] = (),
    report: Callable[[float, float], None] | None = None,
) -> TrainedReadouts[AnyReadout]:
    """Train readouts together until validation stops them.

    Args:
        readouts: one per scan, with initial parameters, on the device of the features.
        scans: their trials.
        settings: the recipe.
        steps: gives the steps of an epoch, by its number from 1.
        followers: modules whose state changes along, such as a core whose batch norm follows the batches; they
            are in training mode when the readouts are, and end with the state of the best epoch.
        report: called after every epoch with its validation correlation and the best so far.

    Raises:
        FloatingPointError: training diverged.
    """
    own = nn.ModuleList(cast("Sequence[nn.Module]", readouts))
    everything = nn.ModuleList([*own, *followers])
    optimizer = torch.optim.Adam(own.parameters(), lr=settings.learning_rate)
    stopping, best_state = EarlyStopping(), copy.deepcopy(everything.state_dict())
    while not stopping.finished:
        for group in optimizer.param_groups:
            group["lr"] = stopping.learning_rate(settings)
        everything.train()
        for step in steps(stopping.epoch + 1):
            optimizer.zero_grad(set_to_none=True)
            for readout, scan, (trials, generator) in zip(readouts, scans, step, strict=True):
                with torch.no_grad():
                    features, responses = scan.train.batch(trials)
                rates = readout(features, generator=generator)
                _, loss = readout_loss(
                    readout, rates, responses, settings=settings, loss_trials=scan.loss_trials
                )
                loss.backward()
            optimizer.step()
            for readout in readouts:
                readout.project_()
        everything.eval()
        score = _mean_correlation(readouts, scans, settings.batch_size)
        verdict = stopping.judge(score, settings)
        if stopping.best_epoch == stopping.epoch:
            best_state = copy.deepcopy(everything.state_dict())
        if verdict in (Verdict.ROUND_OVER, Verdict.FINISHED):
            everything.load_state_dict(best_state)
        if report is not None:
            report(score, stopping.best)
    own.requires_grad_(False)
    return TrainedReadouts(list(readouts), stopping.best, stopping.epoch)


def readout_loss(
    readout: TrainableReadout,
    rates: Tensor,
    responses: Tensor,
    *,
    settings: TrainingSettings,
    loss_trials: int,
) -> tuple[Tensor, Tensor]:
    """Summed Poisson loss of one batch, and what it adds to the objective with the readout's penalty.

    Args:
        readout: whose penalty is added.
        rates: (N, U) that it predicts.
        responses: (N, U).
        settings: weight of the penalty.
        loss_trials: see ``ScanTrials``.
    """
    poisson = (rates - responses * torch.log(rates + LOG_OFFSET)).sum()
    # The square root makes up for the size of the scan: the more trials there are, the less the penalties
    # weigh against them, and batches of any size weigh the same.
    scale = math.sqrt(loss_trials / len(responses))
    return poisson, scale * poisson + settings.feature_l1 * readout.feature_l1()


@torch.no_grad()
def _mean_correlation(
    readouts: Sequence[TrainableReadout], scans: Sequence[ScanTrials], batch_size: int
) -> float:
    """Validation correlation, mean over all neurons; NaN if it is undefined for all."""
    found = [
        scan.validation.correlation(readout, batch_size)
        for readout, scan in zip(readouts, scans, strict=True)
    ]
    return mean_of_defined(np.concatenate(found))
