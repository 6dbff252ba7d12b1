"""The regression finds the optimum of the objective that it states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from mousev1.fit import glm
from mousev1.fit.glm import CellData, fit_glm

N, C, B = 120, 5, 7


def problem(seed: int = 0, scale: float = 1.0) -> CellData:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(4, N, C, generator=generator)
    mixing = torch.rand(B, 4, generator=generator)
    mixing = mixing / mixing.sum(dim=1, keepdim=True)
    weights = torch.randn(B, C, generator=generator) * scale
    drive = torch.einsum("bk,knc,bc->nb", mixing, features, weights) - 0.3
    rate = F.elu(drive) + 1
    return CellData(features, mixing, torch.poisson(rate * 2, generator=generator) / 2)


def fit(data: CellData, **options) -> glm.GlmFit:
    units = len(data.mixing)
    arguments = {
        "mean": torch.linspace(-0.2, 0.2, C + 1).double(),
        "precision": torch.diag(torch.linspace(1.0, 3.0, C + 1)).double(),
        "common_information": torch.eye(C + 1).double(),
        "start": torch.zeros(units, C + 1).double(),
        "dispersion": torch.full((units,), 0.7).double(),
        "estimate_dispersion": False,
    }
    return fit_glm(data, **(arguments | options))


def objective(theta: np.ndarray, data: CellData, unit: int) -> float:
    """The objective written down again, in float64 and with torch's own ELU."""
    x = torch.einsum("k,knc->nc", data.mixing[unit].double(), data.features.double())
    z = x @ torch.as_tensor(theta[:-1]) + theta[-1]
    rate, y = F.elu(z) + 1, data.responses[:, unit].double()
    away = torch.as_tensor(theta) - torch.linspace(-0.2, 0.2, C + 1).double()
    prior = (away.square() * torch.linspace(1.0, 3.0, C + 1).double()).sum() / 2
    return float((rate - y * rate.log()).sum() / 0.7 + prior)


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
    found = fit(data, estimate_dispersion=False, tolerance=1e-12)

    def loss(theta: Tensor) -> Tensor:
        x = torch.einsum("k,knc->nc", data.mixing[2].double(), data.features.double())
        z = x @ theta[:-1] + theta[-1]
        return (F.elu(z) + 1 - data.responses[:, 2].double() * torch.log(F.elu(z) + 1)).sum()

    oracle = torch.autograd.functional.hessian(loss, found.theta[2])
    # The solver keeps a matrix from shortly before the optimum.
    assert (found.information[2] - oracle).abs().max() < 0.02 * oracle.abs().max()


def test_matrices_known_from_another_prior_lead_to_the_same_optimum() -> None:
    data = problem()
    before = fit(data, mean=torch.full((C + 1,), 1.5).double())
    again = fit(data, start=before.theta, information=before.information)
    plain = fit(data)
    assert (before.theta - plain.theta).abs().max() > 0.05
    assert again.converged.all()
    assert (again.theta - plain.theta).abs().max() < 1e-4
    at_optimum = fit(data, start=plain.theta, information=plain.information).information
    assert (again.information - at_optimum).abs().max() < 0.001 * at_optimum.abs().max()


def test_neurons_do_not_depend_on_their_company() -> None:
    data = problem()
    together = fit(data).theta
    for unit in range(B):
        alone = CellData(data.features, data.mixing[[unit]], data.responses[:, [unit]])
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
    features = torch.randn(4, n, C, generator=generator)
    mixing = torch.full((B, 4), 0.25)
    drive = features.mean(dim=0) @ torch.randn(C, B, generator=generator) * 0.5
    rate = F.elu(drive) + 1
    torch.manual_seed(0)
    responses = torch.distributions.Gamma(rate / phi, torch.tensor(1.0 / phi)).sample()
    found = fit(CellData(features, mixing, responses), estimate_dispersion=True)
    assert (found.dispersion - phi).abs().max() < 0.06
