"""How well a model predicts recorded responses: correlations, oracle, explainable variance.

All scores are per neuron, computed in float64, and NaN where they are undefined: a neuron whose
responses or predictions never change has no correlation. Undefined neurons are counted, never zeroed.

Repeats are trials with the same entry of ``image_ids``; their number may differ between images.
Definitions follow Lurz et al. 2021, section 3 and the authors' library (neuralpredictors 0.3.0,
``measures.np_functions``), which the tests compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mousev1.data.validation import plain_array

Float = NDArray[np.float64]

# Float64 rounding of an average can make a constant neuron look as if it varied by about 1e-15;
# float32 responses that truly vary do so by more than 1e-11 of their mean.
CONSTANT_BELOW = 1e-13

# A neuron with less explainable variance than this has a FEVE ruled by noise, down to minus thousands;
# the mean leaves it out (the threshold of Cadena et al. 2019, PLoS Comput Biol).
FEVE_NEEDS_FEV = 0.15

# Rounding of the difference of two variances, relative to these.
ROUNDING = 1e-12

# Neurons are worked on in blocks, so that temporary float64 copies stay near 32 MB each.
BLOCK_ELEMENTS = 4_000_000


def correlation(a: ArrayLike, b: ArrayLike, axis: int = 0) -> Float:
    """Pearson correlation along one axis.

    Args:
        a: numbers of any shape.
        b: numbers of the same shape.
        axis: the axis that is correlated and removed, trials in (T, U).

    Returns:
        Correlations from -1 to 1, NaN where either side is constant or not finite.
    """
    first, second = _numbers("a", a), _numbers("b", b)
    if first.shape != second.shape:
        raise ValueError(f"b: expected the shape of a, {first.shape}, got {second.shape}")
    if first.ndim == 0 or not -first.ndim <= axis < first.ndim:
        raise ValueError(f"axis: expected an axis of an array with shape {first.shape}, got {axis}")
    first, second = np.moveaxis(first, axis, 0), np.moveaxis(second, axis, 0)
    rows, *others = first.shape
    columns = math.prod(others)
    flat = _blockwise(_pearson, first.reshape(rows, columns), second.reshape(rows, columns))
    return flat.reshape(others)


def single_trial_correlation(predictions: ArrayLike, responses: ArrayLike) -> Float:
    """Correlation of predicted rates with single trials, (U,).

    Args:
        predictions: (T, U) rates, one row per trial.
        responses: (T, U) recorded responses.
    """
    return _blockwise(_pearson, *paired(predictions, responses))


def correlation_to_average(predictions: ArrayLike, responses: ArrayLike, image_ids: ArrayLike) -> Float:
    """Correlation, over images, of predicted rates with responses averaged over repeats, (U,).

    Every image counts once, however often it was shown; one shown a single time enters with that
    trial. Without any repeated image there is no average, and all neurons are NaN.

    Args:
        predictions: (T, U) rates; those of one image are averaged too.
        responses: (T, U) recorded responses.
        image_ids: (T,) which image each trial showed.
    """
    predicted, recorded = paired(predictions, responses)
    images = _group(image_ids, trials=len(recorded), at_least=1)
    if not images.repeated:
        return _undefined(recorded)
    return _blockwise(lambda p, r: _pearson(images.mean(p), images.mean(r)), predicted, recorded)


def oracle_correlation(responses: ArrayLike, image_ids: ArrayLike) -> Float:
    """Jackknife oracle: single trials against the mean of the image's other repeats, (U,).

    The best that a model of the image alone could be expected to reach on single trials, slightly
    underestimated because the mean of few repeats is itself noisy. Images shown once are left out.

    Args:
        responses: (T, U) recorded responses.
        image_ids: (T,) which image each trial showed.
    """
    recorded = _trials("responses", responses)
    images = _group(image_ids, trials=len(recorded), at_least=2)
    if not images.repeated:
        return _undefined(recorded)
    others = (images.counts - 1)[images.image_of_trial, None]

    def jackknife(block: Float) -> Float:
        trials = block[images.order]
        sums = images.sum(trials)
        return _pearson((sums[images.image_of_trial] - trials) / others, trials)

    return _blockwise(jackknife, recorded)


@dataclass(frozen=True)
class FractionOracle:
    """Fraction oracle with the number of neurons behind it.

    Attributes:
        slope: the fraction oracle; NaN if no neuron has both correlations.
        n_units: neurons that entered the fit.
        n_undefined: neurons left out because either correlation is NaN.
    """

    slope: float
    n_units: int
    n_undefined: int


def fit_fraction_oracle(model_correlation: ArrayLike, oracle: ArrayLike) -> FractionOracle:
    """``fraction_oracle`` together with the number of neurons used and left out."""
    model, best = _numbers("model_correlation", model_correlation), _numbers("oracle", oracle)
    if model.ndim != 1:
        raise ValueError(f"model_correlation: expected (U,), one per neuron, got {model.shape}")
    if best.shape != model.shape:
        raise ValueError(f"oracle: expected {model.shape} as model_correlation, got {best.shape}")
    defined = np.isfinite(model) & np.isfinite(best)
    x, y = best[defined].astype(np.float64), model[defined].astype(np.float64)
    power = float(x @ x)
    slope = float(x @ y) / power if power > 0 else float("nan")
    return FractionOracle(slope, int(defined.sum()), int((~defined).sum()))


def fraction_oracle(model_correlation: ArrayLike, oracle: ArrayLike) -> float:
    """Slope of the line through the origin that predicts model correlation from oracle correlation.

    Least squares over neurons, as in Lurz et al. 2021. It can exceed 1, because the oracle's mean
    over few repeats is noisier than a model. Neurons where either correlation is NaN are left out;
    ``fit_fraction_oracle`` also returns how many.

    Args:
        model_correlation: (U,) single-trial correlations of the model.
        oracle: (U,) oracle correlations of the same trials.
    """
    return fit_fraction_oracle(model_correlation, oracle).slope


def fev(responses: ArrayLike, image_ids: ArrayLike) -> Float:
    """Fraction of the variance that the image explains, (U,): (total - noise) / total.

    Total is the variance over all trials; noise is the variance over an image's repeats, averaged
    over images; both with n - 1 in the denominator. Images shown once are left out. At most 1;
    an estimate for a neuron that ignores the image scatters around 0 and may be negative.

    Args:
        responses: (T, U) recorded responses.
        image_ids: (T,) which image each trial showed.
    """
    recorded = _trials("responses", responses)
    images = _group(image_ids, trials=len(recorded), at_least=2)
    if not images.repeated:
        return _undefined(recorded)

    def explainable_fraction(block: Float) -> Float:
        total, noise = _variances(block[images.order], images)
        return 1.0 - noise / total

    return _blockwise(explainable_fraction, recorded)


def feve(predictions: ArrayLike, responses: ArrayLike, image_ids: ArrayLike) -> Float:
    """Fraction of explainable variance explained, (U,): 1 - (squared error - noise) / (total - noise).

    Total and noise as in ``fev``, the squared error averaged over the same trials. A perfect model
    of the image's effect scatters around 1, one that only knows the mean around 0, and there is no
    lower limit. NaN where the explainable variance (total - noise) is not positive, or within rounding of 0:
    there is nothing to be a fraction of.

    With few repeats it is biased: the estimated noise is in both differences, so that an error in it moves the
    fraction of any but a perfect model, down if the noise comes out too small and up if it comes out too large.
    A mean over neurons whose FEV is above a threshold selects the former: where a sixth of the variance is
    explainable, a model with a FEVE of 0.5 has one of 0.41 with two repeats of 100 images, 0.46 with four and 0.50
    with ten. Without a threshold it is ruled by neurons whose explainable variance comes out near 0. ``ccnorm`` has
    the noise in one place only, and is biased less.

    Args:
        predictions: (T, U) rates, in the units of the responses.
        responses: (T, U) recorded responses.
        image_ids: (T,) which image each trial showed.
    """
    predicted, recorded = paired(predictions, responses)
    images = _group(image_ids, trials=len(recorded), at_least=2)
    if not images.repeated:
        return _undefined(recorded)

    def explained(rates: Float, block: Float) -> Float:
        trials = block[images.order]
        total, noise = _variances(trials, images)
        error = np.square(rates[images.order] - trials).mean(axis=0)
        explainable = total - noise
        explainable[explainable <= ROUNDING * total] = np.nan
        out: Float = 1.0 - (error - noise) / explainable
        return out

    return _blockwise(explained, predicted, recorded)


def ccnorm(predictions: ArrayLike, responses: ArrayLike, image_ids: ArrayLike) -> Float:
    """Normalised correlation: what correlation with the true rates the recorded averages point to, (U,).

    Schoppe et al. 2016, "Measuring the performance of neural models", Front Comput Neurosci: the covariance, over
    images, of predictions and average responses, over the standard deviation of the predictions and that of the
    signal,

        CCnorm = cov(r, mean y) / (sd(r) sqrt(SP)),    SP = var(mean y) - noise / n,

    with the noise as in ``fev`` and n repeats (their SP, for numbers of repeats that may differ between images).
    Around 1 for a perfect model and 0 for none; it may exceed 1 by chance, the more so the fewer repeats. NaN where
    the signal's variance is not positive, or within rounding of 0. Images shown once are left out.

    Args:
        predictions: (T, U) rates; those of one image are averaged.
        responses: (T, U) recorded responses.
        image_ids: (T,) which image each trial showed.
    """
    predicted, recorded = paired(predictions, responses)
    images = _group(image_ids, trials=len(recorded), at_least=2)
    if len(images.counts) < 2:
        return _undefined(recorded)

    def normalised(rates: Float, block: Float) -> Float:
        trials = block[images.order]
        means = images.sum(trials) / images.counts[:, None]
        _, noise = _variances(trials, images)
        power = means.var(axis=0, ddof=1)
        signal = power - noise * (1.0 / images.counts).mean()
        signal[~(signal > ROUNDING * power)] = np.nan
        out: Float = _pearson(images.mean(rates), means) * np.sqrt(power / signal)
        return out

    return _blockwise(normalised, predicted, recorded)


def poisson_loss(rates: ArrayLike, responses: ArrayLike) -> Float:
    """Poisson loss r - y log r averaged over trials, (U,), without the term that depends on y alone.

    Args:
        rates: (T, U) predicted rates r; a negative one makes its neuron NaN, a zero one infinite
            unless the response is zero too.
        responses: (T, U) recorded responses y.
    """
    predicted, recorded = paired(rates, responses, first="rates")

    def loss(r: Float, y: Float) -> Float:
        out: Float = (r - np.where((y == 0) & (r >= 0), 0.0, y * np.log(r))).mean(axis=0)
        return out

    return _blockwise(loss, predicted, recorded)


class _Images(NamedTuple):
    """Trials sorted by image; sums and means over each image's repeats."""

    order: NDArray[np.intp]  # trials sorted by image
    starts: NDArray[np.intp]  # (I,) where each image's trials begin in that order
    counts: NDArray[np.intp]  # (I,) repeats of each image

    @property
    def repeated(self) -> bool:
        return bool((self.counts > 1).any())

    @property
    def image_of_trial(self) -> NDArray[np.intp]:
        """Image of each sorted trial."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def sum(self, sorted_trials: Float) -> Float:
        """(I, U) sums of trials that are already sorted."""
        out: Float = np.add.reduceat(sorted_trials, self.starts, axis=0)
        return out

    def mean(self, trials: Float) -> Float:
        """(I, U) means of trials in their original order."""
        return self.sum(trials[self.order]) / self.counts[:, None]


def _group(image_ids: ArrayLike, *, trials: int, at_least: int) -> _Images:
    """The images shown at least so many times."""
    ids = np.asarray(image_ids)
    if ids.shape != (trials,):
        raise ValueError(f"image_ids: expected ({trials},), one per trial, got {ids.shape}")
    _, image, count = np.unique(ids, return_inverse=True, return_counts=True)
    order = np.argsort(image, kind="stable")
    order = order[count[image[order]] >= at_least]
    counts = count[count >= at_least]
    starts = np.cumsum(counts) - counts
    return _Images(order, starts, counts)


def _variances(sorted_trials: Float, images: _Images) -> tuple[Float, Float]:
    """Total and noise variance, both (U,); total is NaN for constant neurons."""
    total = sorted_trials.var(axis=0, ddof=1)
    total[_is_constant(sorted_trials.mean(axis=0), total)] = np.nan
    centred = sorted_trials - (images.sum(sorted_trials) / images.counts[:, None])[images.image_of_trial]
    within = images.sum(np.square(centred)) / (images.counts - 1)[:, None]
    return total, within.mean(axis=0)


def _pearson(a: Float, b: Float) -> Float:
    """Correlation over the first axis of (T, U) arrays."""
    if len(a) == 0:
        return np.full(a.shape[1], np.nan)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    a, b = a - mean_a, b - mean_b
    var_a = np.einsum("tu,tu->u", a, a) / len(a)
    var_b = np.einsum("tu,tu->u", b, b) / len(a)
    out = np.einsum("tu,tu->u", a, b) / len(a) / (np.sqrt(var_a) * np.sqrt(var_b))
    out[_is_constant(mean_a, var_a) | _is_constant(mean_b, var_b)] = np.nan
    clipped: Float = np.clip(out, -1.0, 1.0)
    return clipped


def _is_constant(mean: Float, variance: Float) -> NDArray[np.bool_]:
    return np.asarray(np.sqrt(variance) <= CONSTANT_BELOW * np.abs(mean))


def _blockwise(function: Callable[..., Float], *arrays: NDArray[Any]) -> Float:
    """Apply a function of (T, block) float64 arrays to all neurons of (T, U) arrays, giving (U,)."""
    trials, units = arrays[0].shape
    out = np.empty(units)
    # undefined scores are meant to be NaN, so their division is no accident
    with np.errstate(divide="ignore", invalid="ignore"):
        for block in _blocks(units, width=max(1, BLOCK_ELEMENTS // max(1, trials))):
            out[block] = function(*(np.asarray(array[:, block], dtype=np.float64) for array in arrays))
    return out


def _blocks(units: int, *, width: int) -> Iterator[slice]:
    for start in range(0, units, width):
        yield slice(start, min(start + width, units))


def _undefined(responses: NDArray[Any]) -> Float:
    return np.full(responses.shape[1], np.nan)


def paired(
    predictions: ArrayLike, responses: ArrayLike, *, first: str = "predictions"
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Predicted and recorded responses (T, U), checked to be numbers of one shape; ``first`` names the former."""
    predicted, recorded = _trials(first, predictions), _trials("responses", responses)
    if predicted.shape != recorded.shape:
        raise ValueError(
            f"{first}: expected (T, U) = {recorded.shape} as responses, got {predicted.shape}; "
            "give one row per trial, repeats included"
        )
    return predicted, recorded


def _trials(name: str, values: ArrayLike) -> NDArray[Any]:
    array = _numbers(name, values)
    if array.ndim != 2:
        raise ValueError(f"{name}: expected (T, U), trials by neurons, got {array.shape}")
    return array


def _numbers(name: str, values: ArrayLike) -> NDArray[Any]:
    array = plain_array(name, values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got an array of {array.dtype}")
    return array
