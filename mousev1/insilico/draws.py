"""What a model's posterior says about responses to several stimuli at once.

An index of a tuning curve depends on many responses together, whose errors are not independent: they come
from the same weights. So weights and bias are drawn from the posterior, whole curves are computed with each
draw, and an interval is made of the quantiles of the index over draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mousev1.insilico.frame import Float
from mousev1.model import ResponseModel
from mousev1.readout import rate_from_drive


@dataclass(frozen=True)
class WeightDraws:
    """Readouts of some units: the fitted one, and draws from the posterior.

    Attributes:
        weights: (U, S + 1, C), the fitted ones first.
        bias: (U, S + 1).
        scale: (U,) response scale.
    """

    weights: Tensor
    bias: Tensor
    scale: Tensor

    def of(self, row: int) -> WeightDraws:
        """Those of one unit."""
        return WeightDraws(*(values[row : row + 1] for values in (self.weights, self.bias, self.scale)))

    def responses(self, sampled: Tensor) -> Tensor:
        """Responses to stimuli.

        Args:
            sampled: (U, N, C) features at each unit's position (``mousev1.readout.sample_at``).

        Returns:
            (S + 1, U, N), those of the fitted model first.
        """
        drive = torch.einsum("unc,usc->sun", sampled, self.weights) + self.bias.T[:, :, None]
        return rate_from_drive(drive) * self.scale[:, None]


@torch.no_grad()
def draw_weights(model: ResponseModel, units: Tensor, *, draws: int, seed: int) -> WeightDraws:
    """Readouts of some units from the posterior; only the fitted ones if the model has none.

    Units get the same draws whichever others are asked for.
    """
    weights, bias = model.readout.weights()[units][:, None], model.readout.bias[units][:, None]
    scale = model.response_scale[units]
    posterior = model.posterior
    if posterior is None or draws == 0:
        return WeightDraws(weights, bias, scale)
    normal = np.stack(
        [
            np.random.default_rng((seed, int(unit))).standard_normal((draws, posterior.variances.shape[1]))
            for unit in units.tolist()
        ]
    )
    posterior = posterior.select(units.cpu()).to(weights.device)
    along = torch.from_numpy(normal).to(weights) * posterior.variances.sqrt()[:, None]
    offset = along @ posterior.basis.T
    return WeightDraws(
        torch.cat([weights, weights + offset[:, :, :-1]], dim=1),
        torch.cat([bias, bias + offset[:, :, -1]], dim=1),
        scale,
    )


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number per unit with its interval from the posterior.

    Attributes:
        value: (U,) of the fitted model, NaN where undefined.
        low: (U,) lower end of the interval; NaN without a posterior, or where most draws are undefined.
        high: (U,) upper end. For angles, ends are next to the value and may lie beyond the usual range.
    """

    value: Float
    low: Float
    high: Float


def estimate(values: Float, *, level: float, period: float | None = None) -> Estimate:
    """The interval of an index from its values over draws.

    Args:
        values: (S + 1, U), the fitted model's first.
        level: probability that the interval holds, such as 0.95.
        period: of an angle: 180 for orientations, 360 for phases.
    """
    value, drawn = values[0], values[1:].copy()
    low, high = np.full_like(value, np.nan), np.full_like(value, np.nan)
    if len(drawn):
        if period is not None:
            drawn = value + (drawn - value + period / 2) % period - period / 2
        defined = np.isfinite(drawn)
        usable = np.isfinite(value) & (defined.mean(axis=0) > 0.5)
        tail = (1.0 - level) / 2
        if usable.any():
            low[usable], high[usable] = np.nanquantile(drawn[:, usable], [tail, 1.0 - tail], axis=0)
    return Estimate(value, low, high)
