"""The factorized readout against the authors' library, with the same parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mousev1.readout.gaussian import FeatureWeights, SharedFeatureWeights
from training.networks.factorized import FactorizedReadout

UNITS, SHAPE = 6, (8, 5, 7)
# Neurons of the scan to those of the bank, of which there are four.
MATCH = torch.tensor([0, 1, 1, 2, 3, 3])


def make_pair(peer, units: int, match: torch.Tensor | None) -> tuple[FactorizedReadout, nn.Module]:
    """Our readout and theirs with equal random parameters, masks without negative entries."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        own = FeatureWeights(units if match is None else int(match.max()) + 1, SHAPE[0])
        ours = FactorizedReadout(own if match is None else SharedFeatureWeights(own, match), *SHAPE[1:])
        with torch.no_grad():
            for parameter in ours.parameters():
                parameter.normal_()
            ours.project_()
    theirs = peer.factorized(
        in_shape=SHAPE,
        outdims=units,
        bias=True,
        normalize=True,
        constrain_pos=False,
        shared_features=None if match is None else {"match_ids": match.numpy()},
        mean_activity=ours.bias.detach().clone(),
        spatial_and_feature_reg_weight=1.0,
    )
    with torch.no_grad():
        theirs.spatial.copy_(ours.mask)
        theirs._features.copy_(own.weight)
        if match is not None:
            theirs.scales.copy_(ours.weights.scale[:, None])
    return ours, theirs


def features(count: int = 9) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("match", [None, MATCH], ids=["own features", "shared features"])
def test_outputs_are_theirs(peer, match):
    ours, theirs = make_pair(peer, UNITS, match)
    with torch.no_grad():
        assert torch.allclose(ours.drive(features()), theirs(features()), atol=1e-5)


@pytest.mark.parametrize("match", [None, MATCH[:1]], ids=["own features", "shared features"])
def test_the_penalty_of_a_neuron_is_theirs_and_so_are_all_gradients(peer, match):
    ours, theirs = make_pair(peer, 1, match)
    assert ours.feature_l1().item() == pytest.approx(theirs.regularizer().item(), rel=1e-5)
    target = torch.rand(9, 1, generator=torch.Generator().manual_seed(2))
    for drive, penalty in (
        (ours.drive(features()), ours.feature_l1()),
        (theirs(features()), theirs.regularizer()),
    ):
        rates = nn.functional.elu(drive) + 1
        ((rates - target * torch.log(rates + 1e-12)).sum() + 0.3 * penalty).backward()
    own = ours.weights if match is None else ours.weights.bank
    for got, expected in (
        (ours.mask, theirs.spatial),
        (own.weight, theirs._features),
        (ours.bias, theirs.bias),
    ):
        assert torch.allclose(got.grad, expected.grad, atol=1e-4 * float(expected.grad.abs().max()))


@pytest.mark.parametrize("match", [None, MATCH], ids=["own features", "shared features"])
def test_the_penalty_of_several_neurons_is_theirs_but_for_the_pairs_that_theirs_mixes(peer, match):
    ours, theirs = make_pair(peer, UNITS, match)
    masks, weights = ours.l1_norms()
    assert theirs.regularizer().item() == pytest.approx((masks.sum() * weights.sum()).item(), rel=1e-5)
    assert ours.feature_l1().item() == pytest.approx((masks @ weights).item(), rel=1e-5)
