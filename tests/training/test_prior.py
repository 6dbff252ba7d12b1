"""The prior over readout weights that a core takes along."""

from __future__ import annotations

import numpy as np
import torch
from pretraining import small_scan

from mousev1.core.network import Core, CoreConfig, InputContract
from mousev1.fit.prior import WeightPrior
from mousev1.readout.gaussian import FeatureWeights, FreePositions, GaussianReadout
from training.pretraining.data import prepare_scan
from training.pretraining.readout_prior import readout_prior

CORE = CoreConfig(
    hidden_channels=4, layers=2, input_kernel=5, hidden_kernel=3, input=InputContract(height=12, width=16)
)


def test_a_prior_from_fewer_neurons_than_features_can_be_inverted_in_single_precision():
    # oracle: torch's Cholesky decomposition, which fails for the covariance of two neurons' four weights
    core, scan = Core.random(CORE, seed=0), prepare_scan(small_scan("a", units=2), CORE)
    readout = GaussianReadout(FreePositions(2), FeatureWeights(2, 4)).requires_grad_(False)
    readout.weights.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 5.0]]))
    prior = readout_prior(core, [readout], [scan])
    assert torch.isfinite(WeightPrior.from_tensors(prior).precision).all()

    weights = (readout.weights.weight * prior["feature_std"]).double().numpy()
    expected = np.cov(weights.T)
    assert torch.linalg.cholesky_ex(torch.from_numpy(expected))[1] > 0
    assert np.allclose(prior["weight_covariance"], expected, atol=2e-5 * np.trace(expected))
