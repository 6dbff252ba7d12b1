"""Responses as the solver takes them: without what rounding made, huge baselines and tails that hide the mean.

Most neurons pass unchanged, bit for bit. Three kinds do not.

*Changed by rounding alone.* A constant but for its last bits has a standard deviation that is no signal; divided by
it, the constant becomes thousands or millions. Such a neuron is taken as constant.

*On a huge baseline.* A neuron whose mean is more than ``MOST_BASELINE`` standard deviations is fitted without what is
above that and gets it back in its bias: its drive stays where the output nonlinearity is linear.

*Heavy-tailed.* Where a few responses make up most of a neuron's variance, a mean response is mostly noise, whatever
it is compared with. The statistic is the standard deviation of the positive responses over their mean absolute
deviation, which has no units and does not see how many responses are zero: 1.25 for a normal distribution, 1.36 for
an exponential, about 4 for a log-normal one with sd 2.5. Above ``HEAVY`` responses are compressed,

    f(y) = c log(1 + y / c),

with the largest c among some quantiles of the positive responses that brings the statistic down to ``COMPRESSED``,
or where it is below ``VERY_HEAVY`` only a part of the way: a selective neuron without noise is there, too.
f keeps the order of responses, and that of a neuron's rates: what is predicted is E f(y), scaled to the mean of y.
If noise multiplies the rate, E f(y) changes by only e = E[y f'(y)] / E f(y) percent where the rate changes by
one; if it is a matter of more or fewer events of the same size, by one. Which of them is not known, so that
modulations are known up to a factor between 1 and 1 / e; and the level only as well as the mean of y. Both enter
the uncertainty of predictions (``Uncertainty``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mousev1.errors import listing
from mousev1.fit.inputs import response_scale
from mousev1.numerics.workers import workers

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

ROUNDING_STEPS = 8  # of single precision at the largest response: less is no change
MOST_BASELINE = 10.0  # standard deviations
# The statistic from which on responses are compressed, from which on fully, and what it is then brought down to.
HEAVY, VERY_HEAVY, COMPRESSED = 2.2, 3.0, 1.3
LEAST_POSITIVE = 10  # responses that have a tail
QUANTILES = (0.99, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.1)
# The variance of a heavy-tailed mean over what the responses seen make of it: its largest contributions are rare. So
# much holds the truth of log-normal and of gamma noise in nine of ten intervals and more (``training.measurements``,
# ``regimes``).
TAIL_UNSEEN = 6.0
MOST_UNCERTAIN = 6.0  # variance of a drive, and in variances of the prediction
NEURONS_AT_A_TIME = 128


@dataclass(frozen=True)
class Uncertainty:
    """What preparation leaves unknown of the drives of scaled rates.

    Attributes:
        level: (U,) variance of all drives of a neuron.
        modulation: (U,) the same in variances of the neuron's prediction over images.
    """

    level: Tensor
    modulation: Tensor


@dataclass(frozen=True)
class PreparedResponses:
    """What the solver takes, and how its rates become those of the user's responses.

    Attributes:
        responses: (N, U) float32; those given where nothing had to change.
        scale: (U,) that they are divided by, their standard deviation; 1 for constant ones.
        constant: numbers of the neurons that never change, but for rounding.
        rounded: numbers of those of them that change by rounding.
        baseline: (U,) to be added to the rates of scaled responses.
        output_scale: (U,) a rate of 1 in the user's units.
        uncertainty: None where every neuron passed unchanged.
        notes: what a user should know.
    """

    responses: Tensor
    scale: Tensor
    constant: Numbers
    rounded: Numbers
    baseline: Tensor
    output_scale: Tensor
    uncertainty: Uncertainty | None = None
    notes: tuple[str, ...] = ()


def prepare_responses(responses: Tensor, unit_ids: Numbers, *, change: bool) -> PreparedResponses:
    """Find neurons that need it and prepare them.

    Args:
        responses: (N, U) float32, finite, non-negative.
        unit_ids: (U,) names of the neurons, for notes.
        change: take baselines off and compress tails; otherwise only find constants.
    """
    rounded = _rounded(responses)
    if len(rounded):
        responses = responses.clone()
        responses[:, rounded] = responses[:, rounded].double().mean(dim=0).float()
    scale, constant = response_scale(responses)
    notes = []
    if len(rounded):
        notes.append(
            f"{_named(rounded, unit_ids)} change by no more than single precision rounds at their size: their "
            "mean is predicted, and they take no part in the fit"
        )
    same = PreparedResponses(
        responses, scale, constant, rounded, torch.zeros_like(scale), scale, None, tuple(notes)
    )
    return _changed(same, unit_ids) if change else same


def _changed(given: PreparedResponses, unit_ids: Numbers) -> PreparedResponses:
    statistics = _statistics(given.responses)
    baseline = statistics.mean - MOST_BASELINE * given.scale.double().numpy()
    changing = np.ones(len(baseline), dtype=bool)
    changing[given.constant] = False
    lifted, heavy = (np.flatnonzero(changing & what) for what in (baseline > 0, statistics.tail > HEAVY))
    if not len(lifted) and not len(heavy):
        return given
    y = given.responses.clone()
    y[:, lifted] = (y[:, lifted].double() - torch.from_numpy(baseline[lifted])).clamp_min(0.0).float()
    factor, uncertainty = np.ones(len(baseline)), np.zeros((2, len(baseline)))
    for neuron in heavy:
        compressed = compress(y[:, neuron].double().numpy())
        y[:, neuron] = torch.from_numpy(compressed.responses).float()
        factor[neuron] = compressed.factor
        uncertainty[:, neuron] = compressed.level, compressed.modulation
    scale, _ = response_scale(y)
    off = torch.zeros_like(scale)
    output_scale = scale * torch.from_numpy(factor).float()
    off[lifted] = torch.from_numpy(baseline[lifted]).float() / output_scale[lifted]
    notes = list(given.notes)
    if len(lifted):
        notes.append(
            f"{_named(lifted, unit_ids)} have a mean above {MOST_BASELINE:g} standard deviations: most of their "
            "rate is a baseline"
        )
    if len(heavy):
        notes.append(
            f"{_named(heavy, unit_ids)} have heavy tails: their large responses were compressed for the fit, and "
            "how strongly their rates are modulated is less certain"
        )
    return PreparedResponses(
        y,
        scale,
        given.constant,
        given.rounded,
        off,
        output_scale,
        Uncertainty(*torch.from_numpy(uncertainty).float()),
        tuple(notes),
    )


@dataclass(frozen=True)
class Compressed:
    """One neuron's compressed responses.

    Attributes:
        responses: (N,) f(y).
        factor: mean of y over that of f(y).
        level: squared relative standard error of the mean of y.
        modulation: what is not known of the rates' modulation, in its squared size.
    """

    responses: Array
    factor: float
    level: float
    modulation: float


def compress(y: Array) -> Compressed:
    """Compress (N,) responses as far as their tail is heavy, or the quantiles go."""
    positive = y[y > 0]
    tail = _tail(positive)
    fully = min(max((tail - HEAVY) / (VERY_HEAVY - HEAVY), 0.0), 1.0)
    aim = tail + fully * (COMPRESSED - tail)
    for quantile in QUANTILES:
        knee = float(np.quantile(positive, quantile))
        if _tail(knee * np.log1p(positive / knee)) <= aim:
            break
    compressed = knee * np.log1p(y / knee)
    mean, factor = y.mean(), y.mean() / compressed.mean()
    elasticity = (y / (1.0 + y / knee)).mean() / compressed.mean()
    return Compressed(
        responses=compressed,
        factor=float(factor),
        level=min(float(TAIL_UNSEEN * y.var() / (len(y) * mean**2)), MOST_UNCERTAIN),
        # half of the square of the most that the factor 1 may be off by
        modulation=min(float((1.0 / elasticity - 1.0) ** 2 / 2.0), MOST_UNCERTAIN),
    )


@dataclass(frozen=True)
class _Statistics:
    mean: Array
    tail: Array


def _statistics(responses: Tensor) -> _Statistics:
    """Mean of all responses, and standard over mean absolute deviation of the positive ones, 0 if these are few."""

    def of(block: Tensor) -> tuple[Tensor, Tensor]:
        # A few neurons at a time in double precision: a copy of all would not fit where they just do.
        y = block.double()
        positive = y > 0
        count = positive.sum(dim=0)
        away = (y - y.sum(dim=0) / count.clamp_min(1)) * positive
        deviation = (away.square().sum(dim=0) / count.clamp_min(1)).sqrt()
        absolute = away.abs().sum(dim=0) / count.clamp_min(1)
        known = (count >= LEAST_POSITIVE) & (absolute > 0)
        return y.mean(dim=0), torch.where(known, deviation / absolute, 0.0)

    with workers() as threads:
        means, tails = zip(*threads.map(of, responses.split(NEURONS_AT_A_TIME, dim=1)), strict=True)
    return _Statistics(torch.cat(means).numpy(), torch.cat(tails).numpy())


def _tail(positive: Array) -> float:
    away = positive - positive.mean()
    return float(np.sqrt((away**2).mean()) / max(np.abs(away).mean(), 1e-300))


def _rounded(responses: Tensor) -> Numbers:
    """Neurons that change, but by rounding alone."""
    step = ROUNDING_STEPS * torch.finfo(torch.float32).eps
    least, most = responses.aminmax(dim=0)
    extent = most.double() - least.double()
    return ((extent > 0) & (extent <= step * most.double())).nonzero()[:, 0].numpy()


def _named(neurons: Numbers, unit_ids: Numbers) -> str:
    return f"{len(neurons)} neurons (unit ids {listing(unit_ids[neurons], 5)})"
