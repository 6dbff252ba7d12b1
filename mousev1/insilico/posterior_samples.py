"""What a model's posterior says about responses to several stimuli at once.

An index of a tuning curve depends on many responses together, whose errors are not independent. Whole curves
are drawn from the posterior, and an interval is made of the quantiles of the index over draws. Two kinds of
error are drawn:

- **weights and bias**: one vector per draw, the same for all stimuli;
- **model error**: what no weights on these features account for, of which a fit knows the variance s^2 over natural
  images (``mousev1.fit.model_error``). The posterior keeps it as a variance of the bias, which is right for one
  image at a time. Drawn as one bias for all stimuli, it would cancel in every comparison between stimuli;
  drawn anew for every stimulus, it would average out the more of them are shown. It is an unknown function
  of the image, and so is drawn as one: a Gaussian process over features f,

      cov(e(f), e(f')) = s^2 exp(-|f - f'|^2 / (2 l^2)),    l^2 = C / 2,

  with each of the C features in units of its standard deviation over the stimuli. Two stimuli at random, at a
  distance of about sqrt(2 C), then share e^-2 of it, neighbours on a tuning curve most of it.

The intervals hold what a fit can know. A model error that all neurons share, as of a core that prefers too low
frequencies throughout, is systematic and not in them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mousev1.insilico.frame import Float
from mousev1.model.response_model import ResponseModel
from mousev1.readout.gaussian import as_gaussian, rate_from_drive

WAVES = 128
"""Random waves that make up one function (Rahimi & Recht 2007, NIPS)."""


@dataclass(frozen=True)
class ModelErrorDraws:
    """Functions of features, S of them, with unit variance before ``sd``."""

    waves: Tensor  # (C, R) wave vectors
    phases: Tensor  # (R,)
    amplitudes: Tensor  # (R, S)
    sd: Tensor  # (U,) standard deviation of each neuron's model error

    def errors(self, sampled: Tensor) -> Tensor:
        """(U, N, C) features to (S, U, N) errors of the drive."""
        value = torch.cos(sampled @ self.waves + self.phases) @ self.amplitudes
        return (value * self.sd[:, None, None]).permute(2, 0, 1)


@dataclass(frozen=True)
class Readouts:
    """Readouts of some neurons: the fitted one, and draws from the posterior."""

    weights: Tensor  # (U, S + 1, C), the fitted ones first
    bias: Tensor  # (U, S + 1)
    scale: Tensor  # (U,) response scale
    model_error: ModelErrorDraws | None = None  # errors of the drive that come on top in the draws

    def of(self, row: int) -> Readouts:
        """Those of one neuron."""
        one = slice(row, row + 1)
        model_error = self.model_error and replace(self.model_error, sd=self.model_error.sd[one])
        return Readouts(self.weights[one], self.bias[one], self.scale[one], model_error)

    def responses(self, sampled: Tensor) -> Tensor:
        """Responses (S + 1, U, N), the fitted model's first, to features (U, N, C) at each neuron's position."""
        drive = torch.einsum("unc,usc->sun", sampled, self.weights) + self.bias.T[:, :, None]
        if self.model_error is not None:
            drive[1:] += self.model_error.errors(sampled)
        return rate_from_drive(drive) * self.scale[:, None]


@torch.no_grad()
def draw_readouts(
    model: ResponseModel, units: Tensor, feature_std: Tensor, *, draws: int, seed: int
) -> Readouts:
    """Readouts of some neurons from the posterior; only the fitted ones if the model has none.

    A neuron's draws do not depend on which others are asked for. ``feature_std`` (C,) is that of the features over
    the stimuli to come.
    """
    readout = as_gaussian(model.readout, "draws from the posterior")
    weights, bias = readout.weights()[units][:, None], readout.bias[units][:, None]
    scale = model.response_scale[units]
    posterior = model.posterior
    if posterior is None or draws == 0:
        return Readouts(weights, bias, scale)
    posterior = posterior.select(units.to(posterior.variances.device)).to(weights.device)
    variances = posterior.variances.clone()
    # columns along the bias alone hold the model error
    alone = (posterior.basis[:-1] == 0).all(dim=0)
    variance = (variances * posterior.basis[-1].square())[:, alone].sum(dim=1)
    variances[:, alone] = 0.0
    normal = np.stack(
        [
            np.random.default_rng((seed, int(unit))).standard_normal((draws, variances.shape[1]))
            for unit in units.tolist()
        ]
    )
    offset = (torch.from_numpy(normal).to(weights) * variances.sqrt()[:, None]) @ posterior.basis.T
    return Readouts(
        torch.cat([weights, weights + offset[:, :, :-1]], dim=1),
        torch.cat([bias, bias + offset[:, :, -1]], dim=1),
        scale,
        _draw_model_error(variance.sqrt(), feature_std.to(weights), draws, seed) if alone.any() else None,
    )


def _draw_model_error(sd: Tensor, feature_std: Tensor, draws: int, seed: int) -> ModelErrorDraws:
    rng = np.random.default_rng((seed, 0, 1))
    channels = len(feature_std)
    waves = rng.standard_normal((channels, WAVES)) / np.sqrt(channels / 2)
    phases = rng.uniform(0.0, 2 * np.pi, WAVES)
    amplitudes = rng.standard_normal((WAVES, draws)) * np.sqrt(2 / WAVES)
    scale = feature_std.clamp_min(1e-6 * float(feature_std.max()))
    return ModelErrorDraws(
        waves=torch.from_numpy(waves).to(sd) / scale[:, None],
        phases=torch.from_numpy(phases).to(sd),
        amplitudes=torch.from_numpy(amplitudes).to(sd),
        sd=sd,
    )


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number per neuron with its interval from the posterior.

    Attributes:
        value: (U,) of the fitted model, NaN where undefined.
        low: (U,) lower end of the interval; NaN without a posterior, or where most draws are undefined.
        high: (U,) upper end. For angles, ends are next to the value and may lie beyond the usual range.
    """

    value: Float
    low: Float
    high: Float


def estimate(values: Float, *, level: float, period: float | None = None) -> Estimate:
    """The interval of an index that holds with probability ``level``, from values (S + 1, U), the fitted model's first.

    ``period`` is that of an angle: 180 for orientations, 360 for phases.
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
