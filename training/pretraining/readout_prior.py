"""What pretraining teaches about readouts in general: the population's mean and covariance of weights."""

from __future__ import annotations

import torch
from torch import Tensor

from mousev1.core.inference import fuse
from mousev1.core.network import Core
from mousev1.readout.gaussian import GaussianReadout
from training.pretraining.data import PretrainScan

IMAGES_PER_SCAN = 256
BATCH = 64
LEAST_VARIANCE = 1e-5
"""Of a weight in the prior, as a fraction of all weights' variance."""


@torch.no_grad()
def readout_prior(
    core: Core, readouts: list[GaussianReadout], scans: list[PretrainScan]
) -> dict[str, Tensor]:
    """Mean and covariance of the feature weights of all neurons, for standardised features.

    With z = (f - feature_mean) / feature_std per channel, a weight on z is one on f times feature_std. Weights are for
    responses of unit variance; feature statistics run over positions and up to 256 training images of each scan.

    Returns:
        ``weight_mean`` (C,), ``weight_covariance`` (C, C), ``feature_mean`` (C,), ``feature_std`` (C,) and
        ``units`` (1,), the number of neurons; float32.
    """
    run = fuse(core)
    device = next(core.parameters()).device
    channels = core.config.hidden_channels
    count, total, squares = 0, torch.zeros(channels).double(), torch.zeros(channels).double()
    for scan in scans:
        for trials in torch.arange(min(len(scan.train), IMAGES_PER_SCAN)).split(BATCH):
            features = run(scan.train.batch(trials, device)[0]).double().cpu()
            count += features.numel() // channels
            total += features.sum(dim=(0, 2, 3))
            squares += features.square().sum(dim=(0, 2, 3))
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    weights = torch.cat([readout.weights().cpu() for readout in readouts]).double() * std
    covariance = torch.cov(weights.T)
    # Few neurons, or a feature that never varies, would leave a covariance that float32 cannot invert.
    covariance.diagonal().add_(LEAST_VARIANCE * covariance.trace())
    return {
        "weight_mean": weights.mean(dim=0).float(),
        "weight_covariance": covariance.float(),
        "feature_mean": mean.float(),
        "feature_std": std.float(),
        "units": torch.tensor([float(len(weights))]),
    }
