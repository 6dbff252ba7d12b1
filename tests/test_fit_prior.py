"""The prior that a population's fits point to."""

from __future__ import annotations

import pytest
import torch

from mousev1.fit.prior import BIAS_SD, WeightPrior
from mousev1.readout.standardisation import Standardisation

C, U = 4, 3000


def population(amount: float) -> tuple[WeightPrior, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A starting prior, and neurons whose likelihoods are normal: information, centre and true weights."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([0.5, -0.3, 0.0, 0.2, 0.1], dtype=torch.float64)
    sd = torch.tensor([0.6, 0.2, 0.4, 0.3, 1.0], dtype=torch.float64)
    theta = mean + sd * torch.randn(U, C + 1, generator=generator, dtype=torch.float64)
    root = torch.randn(C + 1, 30, generator=generator, dtype=torch.float64)
    information = root @ root.T / 30
    noise = torch.linalg.cholesky(torch.linalg.inv(information * amount))
    centre = theta + torch.randn(U, C + 1, generator=generator, dtype=torch.float64) @ noise.T
    start = WeightPrior.broad(Standardisation(torch.zeros(C), torch.ones(C)), 1.0)
    return start, information, centre, theta


def test_the_prior_is_the_one_that_weights_were_drawn_from() -> None:
    start, information, centre, theta = population(amount=40.0)
    optimum = optima(start, information * 40.0, centre)
    learned, _ = start.learn(optimum, torch.zeros_like(optimum), torch.full((U,), 40.0).double(), information)
    assert (learned.mean - theta.mean(dim=0)).abs().max() < 0.05
    found, true = learned.covariance.diagonal()[:C].sqrt(), theta[:, :C].std(dim=0)
    assert (found / true - 1).abs().max() < 0.1
    assert float(learned.covariance[C, C]) == BIAS_SD**2


def test_neurons_short_of_their_optimum_tell_as_much_with_their_gradient() -> None:
    start, information, centre, _ = population(amount=40.0)
    amount, precision = torch.full((U,), 40.0).double(), start.precision
    optimum = optima(start, information * 40.0, centre)
    short = 0.6 * optimum
    gradient = (short - centre) @ (information * 40.0) + (short - start.mean) @ precision
    expected, becomes = start.learn(optimum, torch.zeros_like(optimum), amount, information)
    found, _ = start.learn(short, gradient, amount, information)
    assert torch.allclose(found.mean, expected.mean)
    assert torch.allclose(found.covariance, expected.covariance)
    # Oracle: the optima under the new prior, from the likelihoods that the population was made with.
    assert torch.allclose(becomes, optima(expected, information * 40.0, centre), atol=1e-6)
    without, _ = start.learn(short, torch.zeros_like(short), amount, information)
    assert not torch.allclose(without.mean, expected.mean, rtol=0.1)


def optima(prior: WeightPrior, information: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Where likelihood and prior balance."""
    right = centre @ information + prior.mean @ prior.precision
    return torch.linalg.solve(information + prior.precision, right.T).T


def test_a_prior_is_learned_as_far_as_neurons_determine_weights():
    # oracle: by hand. With S = I and A = diag(a), a direction is determined by k a / (1 + k a).
    standardisation = Standardisation(torch.zeros(2).double(), torch.ones(2).double())
    prior = WeightPrior(torch.zeros(3).double(), torch.eye(3).double(), standardisation, 0)
    information = torch.diag(torch.tensor([1.0, 3.0, 0.0]).double())
    amount = torch.tensor([1.0, 3.0]).double()
    by_hand = (1 / 2 + 3 / 4 + 3 / 4 + 9 / 10) / 3
    assert prior.determined(amount, information) == pytest.approx(by_hand)
    learned = WeightPrior(torch.ones(3).double(), 3 * torch.eye(3).double(), standardisation, 7)
    assert prior.towards(learned, 1.5) is learned
    half = prior.towards(learned, 0.5)
    assert half.mean.tolist() == [0.5] * 3
    assert half.covariance.diagonal().tolist() == [2.0] * 3
    assert prior.towards(learned, 0.0).covariance.equal(prior.covariance)
