"""What the weights of one neuron say about those of the next: a normal prior from the population.

Weights and bias theta_u of all neurons are taken as draws from N(m, S). Given every neuron's fit,
its likelihood is close to normal around its optimum, with the information H_u / phi_u of the GLM.
The most likely m and S then follow by expectation maximisation on these summaries alone, without
another look at the data:

    E:  C_u = (A_u + S^-1)^-1,  t_u = C_u (e_u + S^-1 m),   A_u = H_u / phi_u,
    M:  m = mean t_u,           S = mean (C_u + (t_u - m)(t_u - m)'),

where e_u is A_u times the neuron's own maximum of the likelihood. The bias stays apart, with a wide
prior of its own: how active a neuron is says little about what it is selective for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mousev1.fit.features import Standardisation

BIAS_SD = 3.0
EM_STEPS = 30
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

    @property
    def precision(self) -> Tensor:
        """S^-1."""
        return torch.linalg.inv(self.covariance)

    def on(self, standardisation: Standardisation) -> WeightPrior:
        """The same prior for features that were standardised differently (weights keep their meaning).

        The bias is left alone: its prior is wide, and a scan's own mean activity settles it.
        """
        ratio = torch.ones_like(self.mean)
        ratio[:-1] = standardisation.std / self.standardisation.std
        return WeightPrior(
            self.mean * ratio, self.covariance * ratio * ratio[:, None], standardisation, self.units
        )

    def learn(self, theta: Tensor, information: Tensor, start: WeightPrior | None) -> WeightPrior:
        """The prior that a population's fits under this prior point to.

        Args:
            theta: (U, C + 1) optima, found under this prior.
            information: (U, C + 1, C + 1), H / phi there.
            start: a prior from elsewhere, worth ``PRIOR_UNITS`` neurons, or ``None``.
        """
        precision = self.precision
        # At the optimum the slope of the likelihood balances that of the prior.
        evidence = (information @ theta[:, :, None])[:, :, 0] + (theta - self.mean) @ precision
        mean, covariance = self.mean, self.covariance
        units, identity = len(theta), torch.eye(len(mean), dtype=torch.float64)
        extra = 0 if start is None else PRIOR_UNITS
        for _ in range(EM_STEPS):
            precision = torch.linalg.inv(covariance)
            factor = torch.linalg.cholesky(information + precision)
            posterior = torch.cholesky_inverse(factor)
            guess = (posterior @ (evidence + precision @ mean)[:, :, None])[:, :, 0]
            total = guess.sum(dim=0)
            mean = (total + extra * start.mean) / (units + extra) if start is not None else total / units
            away = guess - mean
            scatter = posterior.sum(dim=0) + away.T @ away
            if start is not None:
                shift = start.mean - mean
                scatter = scatter + extra * (start.covariance + shift[:, None] * shift)
            covariance = scatter / (units + extra)
            covariance[-1, :-1] = 0.0
            covariance[:-1, -1] = 0.0
            covariance[-1, -1] = BIAS_SD**2
            covariance = covariance + 1e-9 * identity
        return WeightPrior(mean, covariance, self.standardisation, units)
