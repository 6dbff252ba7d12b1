"""A normal prior over the weights of a neuron, learned from the population.

Weights and bias theta_u of all neurons are taken as draws from N(m, S). Given every neuron's fit,
its likelihood is close to normal, with information A_u = H_u / phi_u. The most likely m and S then
follow by expectation maximisation on these summaries alone, without another look at the data:

    E:  C_u = (A_u + S^-1)^-1,  t_u = C_u (e_u + S^-1 m),
    M:  m = mean t_u,           S = mean (C_u + (t_u - m)(t_u - m)'),

where e_u = A_u theta_u + S0^-1 (theta_u - m0) - g_u for a theta_u near its optimum under the prior
N(m0, S0), with what is left of the slope there, g_u: at the optimum the slope of the likelihood
balances that of the prior.

Neurons see the same images, so that their information matrices are nearly multiples of each other,
A_u = k_u A. One basis V with V' S^-1 V = I and V' A V = diag(a) then serves all of them, C_u =
V diag(1 / (1 + k_u a)) V', and a step costs two matrix products for the whole population. The
approximation touches only how fast t_u moves and the part of C_u in S; where t_u comes to rest,
once neurons are fitted anew under the new prior, it is exact.

The bias stays apart, with a wide prior of its own: how active a neuron is says little about what
it is selective for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mousev1.errors import listing
from mousev1.readout.standardisation import Standardisation

BIAS_SD = 3.0
# Run to convergence, it would overfit S. It stops early, the later the more neurons there are: after EM_STEPS and
# one more for every UNITS_PER_EM_STEP neurons, but MOST_EM_STEPS at most.
EM_STEPS, UNITS_PER_EM_STEP, MOST_EM_STEPS = 10, 500, 30
ROUND_UNITS = 30
# How often data have to determine every weight, in all neurons together, for a prior to be learned from them at all,
# and fully.
LEAST_DETERMINED, WELL_DETERMINED = 3.0, 7.5
LEAST_DETERMINED_ALONE = 0.15  # the same by every neuron on average, and twice as much fully
PRIOR_UNITS = 200


@dataclass(frozen=True)
class WeightPrior:
    """N(m, S) over the weights and the bias of a neuron, on standardised features.

    Attributes:
        mean: (C + 1,) float64, weights and then the bias; for responses of unit variance.
        covariance: (C + 1, C + 1) float64.
        standardisation: of the features that the weights are for.
        units: neurons that it was learned from; 0 if it was not learned.
    """

    mean: Tensor
    covariance: Tensor
    standardisation: Standardisation
    units: int

    @classmethod
    def broad(cls, standardisation: Standardisation, variance: float) -> WeightPrior:
        """Independent weights around zero: where learning starts."""
        channels = len(standardisation.mean)
        diagonal = torch.full((channels + 1,), variance, dtype=torch.float64)
        diagonal[-1] = BIAS_SD**2
        mean = torch.zeros(channels + 1, dtype=torch.float64)
        return cls(mean, torch.diag(diagonal), standardisation, 0)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> WeightPrior:
        """From what a core carries: ``weight_mean`` (C,), ``weight_covariance`` (C, C), ``feature_mean``
        (C,), ``feature_std`` (C,) and ``units`` (1,).
        """
        names = {"weight_mean", "weight_covariance", "feature_mean", "feature_std", "units"}
        if set(tensors) != names:
            raise ValueError(
                f"readout prior: expected {listing(sorted(names))}, got {listing(sorted(tensors))}"
            )
        standardisation = Standardisation(tensors["feature_mean"].double(), tensors["feature_std"].double())
        prior = cls.broad(standardisation, 1.0)
        mean, covariance = prior.mean.clone(), prior.covariance.clone()
        mean[:-1], covariance[:-1, :-1] = tensors["weight_mean"], tensors["weight_covariance"]
        return cls(mean, covariance, standardisation, int(tensors["units"]))

    @cached_property
    def precision(self) -> Tensor:
        """S^-1."""
        return torch.cholesky_inverse(torch.linalg.cholesky(self.covariance))

    def on(self, standardisation: Standardisation) -> WeightPrior:
        """The same prior for features that were standardised differently (weights keep their meaning).

        The bias is left alone: its prior is wide, and a scan's own mean activity settles it.
        """
        ratio = torch.ones_like(self.mean)
        ratio[:-1] = standardisation.std / self.standardisation.std
        return WeightPrior(
            self.mean * ratio, self.covariance * ratio * ratio[:, None], standardisation, self.units
        )

    def towards(self, other: WeightPrior, share: float) -> WeightPrior:
        """Means and covariances so far on the way to those of another prior; all the way, it is that prior."""
        if share >= 1.0:
            return other
        return WeightPrior(
            torch.lerp(self.mean, other.mean, share),
            torch.lerp(self.covariance, other.covariance, share),
            self.standardisation,
            other.units,
        )

    def determined(self, amount: Tensor, common: Tensor) -> float:
        """How often the data determine every weight, under this prior, in all neurons together.

        Arguments as of ``learn``. A direction of the weights counts by its share k a / (1 + k a) of the posterior
        precision that is data.
        """
        known = amount[:, None] * joint_basis(self.covariance, common)[1]
        return float((known / (1.0 + known)).sum()) / len(common)

    def learn(
        self,
        theta: Tensor,
        gradient: Tensor,
        amount: Tensor,
        common: Tensor,
        *,
        other: WeightPrior | None = None,
    ) -> tuple[WeightPrior, Tensor]:
        """The prior that a population's fits under this prior lead to, and what these become under it.

        Args:
            theta: (U, C + 1) near the optima under this prior.
            gradient: (U, C + 1) of the objective there.
            amount: (U,) information of each neuron in multiples of ``common``, k_u.
            common: (C + 1, C + 1) typical information matrix A.
            other: a prior from elsewhere, worth ``PRIOR_UNITS`` neurons.

        Returns:
            The new prior, and (U, C + 1) near the optima under it.
        """
        evidence = amount[:, None] * (theta @ common) + (theta - self.mean) @ self.precision - gradient
        mean, covariance = self.mean, self.covariance
        units = len(theta)
        extra = 0 if other is None else PRIOR_UNITS

        def expected() -> tuple[Tensor, Tensor]:
            """t_u, and the sum of C_u."""
            basis, values = joint_basis(covariance, common)
            shrink = 1.0 / (1.0 + amount[:, None] * values)  # (U, C + 1)
            guess = ((evidence @ basis + torch.linalg.solve(basis, mean)) * shrink) @ basis.T
            return guess, (basis * shrink.sum(dim=0)) @ basis.T

        for _ in range(min(EM_STEPS + units // UNITS_PER_EM_STEP, MOST_EM_STEPS)):
            guess, spread = expected()
            total = guess.sum(dim=0)
            mean = total / units if other is None else (total + extra * other.mean) / (units + extra)
            away = guess - mean
            scatter = spread + away.T @ away
            if other is not None:
                shift = other.mean - mean
                scatter = scatter + extra * (other.covariance + shift[:, None] * shift)
            # Few neurons, or few images, leave S ill-determined: ROUND_UNITS neurons without preference
            # for any direction are mixed in.
            size = scatter.diagonal()[:-1].mean() / (units + extra)
            scatter.diagonal().add_(ROUND_UNITS * size)
            covariance = scatter / (units + extra + ROUND_UNITS)
            covariance[-1, :-1] = 0.0
            covariance[:-1, -1] = 0.0
            covariance[-1, -1] = BIAS_SD**2
        guess, _ = expected()
        return WeightPrior(mean, covariance, self.standardisation, units), guess


def joint_basis(covariance: Tensor, information: Tensor) -> tuple[Tensor, Tensor]:
    """V (C + 1, C + 1) with V' S^-1 V = I and V' A V = diag(a), and a (C + 1,), for S and A."""
    root = torch.linalg.cholesky(covariance)
    values, vectors = torch.linalg.eigh(root.T @ information @ root)
    return root @ vectors, values.clamp_min(0.0)
