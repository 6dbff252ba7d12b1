"""How far the core's features are from what neurons really compute.

A posterior over weights knows nothing of errors that no weights could mend. One neuron's residuals
cannot tell such model error from noise; a population's can. Noise is each neuron's own, while two
neurons that are predicted alike err alike: they miss the same things. With residuals e and
predictions r over images, the common part of the residuals of a pair (u, v),

    cov(e_u, e_v) = f rho_uv^4 sd(r_u) sd(r_v),     rho_uv = corr(r_u, r_v),

is the model error, which pairs at rho = 1 have in common in full: f times the variance of the prediction. (That it
falls off with the fourth power is an observation, not a law; pairs below ``LEAST_RHO`` are left
out.) Changes of gain from trial to trial that are the whole population's are divided out first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mousev1.numerics.workers import workers

LEAST_RHO = 0.6
LEAST_PAIRS = 20
POWER = 4
MOST = 4.0
USUAL_RATIO = 0.3  # of the 11-S core where it could be measured
UNITS, IMAGES = 1500, 1500  # most neurons and images that it is measured with


def model_error_ratio(rates: Tensor, responses: Tensor) -> float | None:
    """The ratio f, from 0 to ``MOST``, or ``None`` if too few neurons are alike.

    Args:
        rates: (N, U) predicted for the images that the fit saw.
        responses: (N, U), in the same units.
    """
    gain = responses.sum(dim=1, keepdim=True) / rates.sum(dim=1, keepdim=True).clamp_min(1e-12)
    error = responses / gain.clamp_min(1e-3) - rates
    error = error - error.mean(dim=0)
    signal = rates - rates.mean(dim=0)
    with workers() as threads:
        power, common = threads.map(lambda part: part.T @ part / len(rates), (signal, error))
    sd = power.diagonal().sqrt()
    size = sd[:, None] * sd
    rho = power / size.clamp_min(1e-12)
    alike = torch.triu(rho > LEAST_RHO, diagonal=1)
    if int(alike.sum()) < LEAST_PAIRS:
        return None
    fall = rho[alike] ** POWER
    ratio = float((common[alike] * fall).sum() / (size[alike] * fall.square()).sum())
    return min(max(ratio, 0.0), MOST)
