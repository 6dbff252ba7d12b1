"""The regression finds the optimum of the objective that it states."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from mousev1.fit import glm
from mousev1.fit.glm import Common, GlmData, GlmProblem, Output
from mousev1.fit.newton import GlmFit, fit_glm
from mousev1.fit.prior import WeightPrior
from mousev1.fit.regressors import OwnFeatures
from mousev1.readout.standardisation import Standardisation

N, C, B = 120, 5, 7


PRIOR = WeightPrior(
    mean=torch.linspace(-0.2, 0.2, C + 1).double(),
    covariance=torch.diag(1.0 / torch.linspace(1.0, 3.0, C + 1)).double(),
    standardisation=Standardisation(torch.zeros(C), torch.ones(C)),
    units=0,
)
COMMON = Common(PRIOR, information=torch.eye(C + 1).double())


def problem(seed: int = 0, scale: float = 1.0) -> GlmData:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(B, N, C, generator=generator) / 2
    weights = torch.randn(B, C, generator=generator) * scale
    drive = torch.einsum("bnc,bc->bn", features, weights) - 0.3
    rate = F.elu(drive) + 1
    return GlmData(OwnFeatures(features), torch.poisson(rate * 2, generator=generator) / 2)


def fit(data: GlmData, **options) -> GlmFit:
    units = len(data.responses)
    arguments = {
        "start": torch.zeros(units, C + 1).double(),
        "dispersion": torch.full((units,), 0.7).double(),
        "estimate_dispersion": False,
    }
    return fit_glm(GlmProblem(data, COMMON), **(arguments | options))


def loss(theta: Tensor, data: GlmData, unit: int) -> Tensor:
    """The loss written down again, in float64 and with torch's own ELU."""
    rate = F.elu(data.features.values[unit].double() @ theta[:-1] + theta[-1]) + 1
    return (rate - data.responses[unit].double() * rate.log()).sum()


def objective(theta: np.ndarray, data: GlmData, unit: int) -> float:
    at = torch.as_tensor(theta)
    away = at - PRIOR.mean
    return float(loss(at, data, unit) / 0.7 + away @ PRIOR.precision @ away / 2)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_optimum_is_scipys(scale: float) -> None:
    data = problem(scale=scale)
    found = fit(data)
    assert found.converged.all()
    for unit in range(B):
        oracle = minimize(
            objective, np.zeros(C + 1), args=(data, unit), method="BFGS", options={"gtol": 1e-6}
        )
        assert np.abs(found.theta[unit].numpy() - oracle.x).max() < 2e-4


def test_information_is_the_second_derivative_of_the_loss() -> None:
    data = problem()
    found = fit(data, estimate_dispersion=False, tolerance=1e-12, keep_information=True)

    oracle = torch.autograd.functional.hessian(lambda theta: loss(theta, data, 2), found.theta[2])
    assert found.information is not None
    # The solver keeps a matrix from shortly before the optimum.
    assert (found.information[2] - oracle).abs().max() < 0.02 * oracle.abs().max()


def test_the_basis_makes_the_prior_round_and_the_information_diagonal() -> None:
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(C + 1, 2 * C, generator=generator).double()
    common = Common(PRIOR, root @ root.T)
    basis, values = common.basis
    round_ = basis.T @ PRIOR.precision @ basis
    diagonal = basis.T @ common.information @ basis
    assert torch.allclose(round_, torch.eye(C + 1).double())
    assert torch.allclose(diagonal, torch.diag(values))


def test_the_approach_comes_near_the_optimum_and_its_gradient_is_the_objectives() -> None:
    data = problem()
    start, phi = torch.zeros(B, C + 1).double(), torch.full((B,), 0.7).double()
    task = GlmProblem(data, COMMON)
    near = task.approach(start, phi)
    optimum = fit(data).theta
    left, way = (near.theta - optimum).norm(dim=1), (start - optimum).norm(dim=1)
    assert (left < 0.2 * way).all()
    assert torch.allclose(near.output.drive, data.features.drive(near.theta), atol=1e-4)
    found = task.gradient(dataclasses.replace(near, dispersion=phi))
    for unit in range(B):
        at = near.theta[unit].clone().requires_grad_()
        away = at - PRIOR.mean
        (loss(at, data, unit) / 0.7 + away @ PRIOR.precision @ away / 2).backward()
        assert (found[unit] - at.grad).abs().max() < 1e-3


def test_half_of_many_images_lead_near_the_optimum_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    data = problem()
    task = GlmProblem(data, COMMON)
    start, phi = torch.zeros(B, C + 1).double(), torch.full((B,), 0.7).double()
    fitted = torch.arange(B) == 3
    few = task.approach_on_half_first(start, phi, fitted)
    assert torch.equal(few.theta, task.approach(start, phi).theta)
    monkeypatch.setattr(glm, "HALF_FROM", N)
    many = task.approach_on_half_first(start, phi, fitted)
    half = GlmProblem(data.first(N // 2), COMMON).approach(start, phi, glm.HALF_STEPS)
    for unit in range(B):
        alone = GlmProblem(data.only(torch.tensor([unit])), COMMON)
        begin = (start, phi) if fitted[unit] else (half.theta, half.dispersion)
        by_hand = alone.approach(*(part[unit : unit + 1] for part in begin), glm.STEPS_AFTER_HALF)
        assert torch.allclose(many.theta[unit], by_hand.theta[0], atol=1e-5)
        assert torch.allclose(many.dispersion[unit], by_hand.dispersion[0], rtol=1e-4)
    optimum = fit(data).theta
    left, way = (many.theta - optimum).norm(dim=1), (start - optimum).norm(dim=1)
    assert (left < 0.4 * way)[~fitted].all()
    # what is handed on belongs to all images
    assert torch.allclose(many.output.drive, data.features.drive(many.theta), atol=1e-4)


def test_variances_are_those_of_the_inverse_hessian() -> None:
    data = problem()
    found, phi = fit(data, keep_information=True), 0.7
    assert found.information is not None
    inverse_basis = torch.linalg.inv(COMMON.basis[0])
    for unit in range(B):
        hessian = torch.autograd.functional.hessian(
            lambda theta, unit=unit: loss(theta, data, unit), found.theta[unit]
        )
        covariance = torch.linalg.inv(hessian / phi + PRIOR.precision)
        oracle = (inverse_basis @ covariance @ inverse_basis.T).diagonal()
        # The solver keeps a matrix from shortly before the optimum.
        assert (found.variances[unit] / oracle - 1.0).abs().max() < 0.08
        # That they take the curvature of the optimum is more exact.
        own = torch.linalg.inv(found.information[unit].double() / phi + PRIOR.precision)
        same = (inverse_basis @ own @ inverse_basis.T).diagonal()
        assert (found.variances[unit] / same - 1.0).abs().max() < 0.01


@pytest.mark.parametrize("grown", [0.5, 2.0])
def test_variances_follow_the_information_exactly_where_it_is_diagonal(grown: float) -> None:
    """The prior, the average information and the neuron's are diagonal here."""
    task = GlmProblem(problem(), COMMON)
    information = torch.diag(torch.linspace(1.0, 50.0, C + 1)).double()

    def factor(times: float) -> Tensor:
        return torch.linalg.cholesky(information * times + PRIOR.precision).float()[None]

    then = task.variances(factor(1.0), torch.tensor([grown]))
    now = task.variances(factor(grown), torch.ones(1))
    assert torch.allclose(then, now, rtol=1e-4)


def test_neurons_do_not_depend_on_their_company() -> None:
    data = problem()
    together = fit(data).theta
    for unit in range(B):
        alone = data.only(torch.tensor([unit]))
        assert (fit(alone).theta[0] - together[unit]).abs().max() < 1e-5


def test_threads_do_not_change_the_fit() -> None:
    data, before = problem(), torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(fit(data).theta)
    finally:
        torch.set_num_threads(before)
    assert (results[0] - results[1]).abs().max() < 1e-5


def test_undamped_steps_would_overshoot_and_damped_ones_do_not() -> None:
    data = problem(scale=4.0)
    start = torch.full((B, C + 1), 3.0).double()
    assert (fit(data, start=start).theta - fit(data).theta).abs().max() < 2e-4


def test_dispersion_is_the_noise_variance_over_the_mean() -> None:
    generator = torch.Generator().manual_seed(5)
    n, phi = 4000, 0.4
    features = torch.randn(B, n, C, generator=generator) / 2
    drive = torch.einsum("bnc,bc->bn", features, torch.randn(B, C, generator=generator) * 0.5)
    rate = F.elu(drive) + 1
    torch.manual_seed(0)
    responses = torch.distributions.Gamma(rate / phi, torch.tensor(1.0 / phi)).sample()
    found = fit(GlmData(OwnFeatures(features), responses), estimate_dispersion=True)
    assert (found.dispersion - phi).abs().max() < 0.06


def test_channels_that_say_the_same_are_no_obstacle() -> None:
    channels = 256
    generator = torch.Generator().manual_seed(0)
    one = 30.0 * torch.randn(1, N, 1, generator=generator)
    data = GlmData(OwnFeatures(one.expand(1, N, channels).contiguous()), torch.ones(1, N))
    wide = Standardisation(torch.zeros(channels), torch.ones(channels))
    common = Common(WeightPrior.broad(wide, 1e4), torch.eye(channels + 1).double())
    task = GlmProblem(data, common)
    information = task.information(Output.at(torch.zeros(1, N)))
    # Single precision is not enough here.
    precision = common.prior.precision.float()
    assert torch.linalg.cholesky_ex(information / 0.02 + precision)[1].any()
    factor = task.factor(information, torch.tensor([0.02]).double()).double()
    hessian = information.double() / 0.02 + common.prior.precision
    assert (factor @ factor.mT - hessian).abs().max() < 1e-5 * hessian.abs().max()
