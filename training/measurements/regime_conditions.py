"""What recordings may do to true rates: the regimes that a fit has to survive.

Every regime turns true rates into recorded responses, and says what their mean is given the image, which is the
truth that a fit is held against. Rates come in units of their typical standard deviation over images, so that
"variance = mean" is about what a scan of calcium responses shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Array = npt.NDArray[Any]
Generator = np.random.Generator
Record = Callable[[Array, Generator], Array]
Expect = Callable[[Array], Array]
# Changes responses (N, U) in place, and gives the neurons that it made bad.
Spoil = Callable[[Array, Generator], Array]
Positions = Callable[[Array, Generator], Array | None]

MEAN_RATE = 0.7  # of the twins' neurons, about
NOBODY = np.zeros(0, dtype=np.int64)


def as_it_is(rates: Array) -> Array:
    """Noise that leaves the mean alone."""
    return rates


def as_recorded(cortex: Array, _: Generator) -> Array:
    """Cortical positions as they are."""
    return cortex


def gamma_noise(fano: float) -> Record:
    """Gamma noise of variance ``fano`` times the mean."""
    return lambda rates, rng: rng.gamma(np.maximum(rates, 1e-6) / fano, fano)


def ordinary_noise(rates: Array, rng: Generator) -> Array:
    """Gamma noise of variance equal to the mean, about what calcium responses in units of their sd show."""
    return gamma_noise(1.0)(rates, rng)


@dataclass(frozen=True)
class Regime:
    """One kind of recording.

    Attributes:
        name: unique.
        group: what is varied.
        record: true rates (N, U) to responses.
        expect: true rates to the mean of ``record`` given the image, up to a factor and an offset of its own for each
            neuron.
        spoil: what becomes of single neurons or trials afterwards.
        positions: cortical positions given to the fit.
        neurons: how many.
        images: how many training images.
        copies: how often every neuron is recorded.
        exact: whether ``expect`` gives responses in their own units, so that intervals can be held against it.
    """

    name: str
    group: str
    record: Record = ordinary_noise
    expect: Expect = as_it_is
    spoil: Spoil | None = None
    positions: Positions = as_recorded
    neurons: int = 200
    images: int = 400
    copies: int = 1
    exact: bool = True


def _log_normal(sd: float) -> Record:
    return lambda rates, rng: rates * rng.lognormal(-(sd**2) / 2, sd, size=rates.shape)


def _clipped_normal(sd: float) -> tuple[Record, Expect]:
    def expect(rates: Array) -> Array:
        t = rates / sd
        density = np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
        recorded: Array = rates * ndtr(t) + sd * density
        return recorded

    return lambda rates, rng: np.maximum(rng.normal(rates, sd), 0.0), expect


def _shifted_normal(rates: Array, rng: Generator) -> Array:
    responses = rng.normal(rates, 1.0)
    recorded: Array = responses - responses.min(axis=0)
    return recorded


def _zero_inflated(silent: float) -> Record:
    def record(rates: Array, rng: Generator) -> Array:
        active = rng.random(rates.shape) >= silent
        return np.where(active, ordinary_noise(rates / (1 - silent), rng), 0.0)

    return record


def _population_gain(sd: float) -> Record:
    def record(rates: Array, rng: Generator) -> Array:
        return ordinary_noise(rates * rng.lognormal(-(sd**2) / 2, sd, size=(len(rates), 1)), rng)

    return record


def _private_gain(sd: float) -> Record:
    def record(rates: Array, rng: Generator) -> Array:
        return ordinary_noise(rates * rng.lognormal(-(sd**2) / 2, sd, size=rates.shape), rng)

    return record


def _course(gain: Callable[[Array], Array]) -> Record:
    """Gain as a function of the time in the recording, 0 to 1, with mean 1."""

    def record(rates: Array, rng: Generator) -> Array:
        return ordinary_noise(rates * gain(np.linspace(0.0, 1.0, len(rates)))[:, None], rng)

    return record


def _bursts(rates: Array, rng: Generator) -> Array:
    """In one trial of fifty half of the neurons, others each time, respond tenfold."""
    bursting = (rng.random((len(rates), 1)) < 0.02) & (rng.random(rates.shape) < 0.5)
    return ordinary_noise(rates, rng) * np.where(bursting, 10.0, 1.0)


def _walk(rates: Array, rng: Generator) -> Array:
    """A baseline of each neuron's own wanders by one standard deviation."""
    steps = rng.normal(size=rates.shape) / np.sqrt(len(rates))
    walk = np.cumsum(steps, axis=0)
    recorded: Array = ordinary_noise(rates, rng) + walk - walk.min(axis=0)
    return recorded


def _shared_noise(rates: Array, rng: Generator) -> Array:
    """Five common fluctuations, each neuron with weights of its own, on top of gamma noise."""
    weights = rng.normal(size=(5, rates.shape[1])) * 0.4
    common = rng.normal(size=(len(rates), 5)) @ weights
    recorded: Array = ordinary_noise(rates, rng) * np.exp(common - (weights**2).sum(axis=0) / 2)
    return recorded


def _levels(count: int) -> Record:
    """Rounded to so many levels up to each neuron's 99th percentile."""

    def record(rates: Array, rng: Generator) -> Array:
        responses = ordinary_noise(rates, rng)
        step = np.maximum(np.quantile(responses, 0.99, axis=0), 1e-6) / count
        recorded: Array = np.minimum(np.round(responses / step), count) * step
        return recorded

    return record


def _saturated(share: float) -> Record:
    """Cut at the quantile ``share`` of each neuron's responses."""

    def record(rates: Array, rng: Generator) -> Array:
        responses = ordinary_noise(rates, rng)
        recorded: Array = np.minimum(responses, np.quantile(responses, share, axis=0))
        return recorded

    return record


def _events(per_neuron: float) -> tuple[Record, Expect]:
    """Poisson counts with about so many events in 400 trials, averaged over neurons."""
    share = per_neuron / (400 * MEAN_RATE)
    return (lambda rates, rng: rng.poisson(rates * share).astype(np.float64)), (lambda rates: rates * share)


def _units_of_their_own(rates: Array, rng: Generator) -> Array:
    responses = ordinary_noise(rates, rng)
    recorded: Array = responses * 10.0 ** rng.uniform(-6, 6, size=rates.shape[1])
    return recorded


def _offset(sds: float) -> tuple[Record, Expect]:
    return (lambda rates, rng: ordinary_noise(rates, rng) + sds), (lambda rates: rates + sds)


def _bad_neurons(share: float, make: Callable[[Array, Generator], Array]) -> Spoil:
    """One neuron, or this share of them, replaced by ``make`` of (N, k) responses."""

    def spoil(responses: Array, rng: Generator) -> Array:
        count = max(1, round(share * responses.shape[1]))
        bad = np.sort(rng.choice(responses.shape[1], size=count, replace=False))
        responses[:, bad] = make(responses[:, bad], rng)
        return bad

    return spoil


def _last_bit(responses: Array, rng: Generator) -> Array:
    one = np.float32(1.0)
    return np.where(rng.random(responses.shape) < 0.5, one, np.nextafter(one, np.float32(2.0)))


def _single_event(responses: Array, rng: Generator) -> Array:
    alone = np.zeros_like(responses)
    alone[rng.integers(len(alone), size=alone.shape[1]), np.arange(alone.shape[1])] = 1.0
    return alone


def _bad_trials(count: int, factor: float, share: float = 1.0) -> Spoil:
    """In so many trials, ``share`` of the neurons respond by ``factor`` times the largest response of all."""

    def spoil(responses: Array, rng: Generator) -> Array:
        rows = rng.choice(len(responses), size=count, replace=False)
        largest = responses.max()
        for row in rows:
            hit = np.flatnonzero(rng.random(responses.shape[1]) < share)
            responses[row, hit] = factor * largest * rng.uniform(0.5, 1.5, size=len(hit))
        return NOBODY

    return spoil


def _silent_trials(responses: Array, rng: Generator) -> Array:
    responses[rng.choice(len(responses), size=10, replace=False)] = 0.0
    return NOBODY


def _two_areas(cortex: Array, rng: Generator) -> Array:
    """Half of the neurons lie in a second area: the map is mirrored there, and beside the first."""
    moved = cortex.copy()
    second = rng.random(len(cortex)) < 0.5
    width = np.ptp(cortex[:, 0])
    moved[second, 0] = 2 * cortex[:, 0].max() + 0.1 * width - cortex[second, 0]
    return moved


def _absent(cortex: Array, _: Generator) -> None:
    return None


_CLIPPED, _CLIPPED_MEAN = _clipped_normal(1.0)
_OFFSET, _OFFSET_MEAN = _offset(5.0)
_FAR, _FAR_MEAN = _offset(100.0)
_MANY, _MANY_MEAN = _events(20.0)
_SOME, _SOME_MEAN = _events(5.0)
_RARE, _RARE_MEAN = _events(1.0)

CLEAN = Regime("gamma", "noise")
_HEALTHY = (
    CLEAN,
    Regime("none", "noise", record=lambda rates, _: rates),
    Regime("Poisson", "noise", record=lambda rates, rng: rng.poisson(rates).astype(np.float64)),
    Regime("normal, clipped at zero", "noise", record=_CLIPPED, expect=_CLIPPED_MEAN),
    Regime("normal, shifted up", "noise", record=_shifted_normal, exact=False),
    Regime("exponential", "noise", record=lambda rates, rng: rates * rng.exponential(size=rates.shape)),
    Regime("log-normal, sd 1", "noise", record=_log_normal(1.0)),
    Regime("log-normal, sd 1.5", "noise", record=_log_normal(1.5)),
    Regime("log-normal, sd 2.5", "noise", record=_log_normal(2.5)),
    Regime("Fano 0.2", "noise", record=gamma_noise(0.2)),
    Regime("Fano 3", "noise", record=gamma_noise(3.0)),
    Regime("Fano 10", "noise", record=gamma_noise(10.0)),
    Regime("Fano 30", "noise", record=gamma_noise(30.0)),
    Regime("half zeros", "noise", record=_zero_inflated(0.5)),
    Regime("90% zeros", "noise", record=_zero_inflated(0.9)),
    Regime("shared by neurons", "noise", record=_shared_noise),
    Regime("population gain, sd .5", "gain", record=_population_gain(0.5)),
    Regime("population gain, sd 1", "gain", record=_population_gain(1.0)),
    Regime("gain of each neuron, sd 1", "gain", record=_private_gain(1.0)),
    Regime("fading to a quarter", "gain", record=_course(lambda t: 1.6 - 1.2 * t)),
    Regime("half at a third", "gain", record=_course(lambda t: np.where(t < 0.5, 1.5, 0.5))),
    Regime("wandering baselines", "gain", record=_walk, exact=False),
    Regime("bursts", "gain", record=_bursts, exact=False),
    Regime("cut at the 90th percentile", "response", record=_saturated(0.9), exact=False),
    Regime("cut at the median", "response", record=_saturated(0.5), exact=False),
    Regime("square root of rates", "response", record=lambda r, g: ordinary_noise(r**0.5, g), expect=np.sqrt),
    Regime("square of rates", "response", record=lambda r, g: ordinary_noise(r**2, g), expect=np.square),
    Regime("offset of 5 sd", "response", record=_OFFSET, expect=_OFFSET_MEAN),
    Regime("offset of 100 sd", "response", record=_FAR, expect=_FAR_MEAN),
    Regime("four levels", "response", record=_levels(3), exact=False),
    Regime("two levels", "response", record=_levels(1), exact=False),
    Regime("units from 1e-6 to 1e6", "response", record=_units_of_their_own, exact=False),
    Regime("20 events each", "sparse", record=_MANY, expect=_MANY_MEAN),
    Regime("5 events each", "sparse", record=_SOME, expect=_SOME_MEAN),
    Regime("1 event each", "sparse", record=_RARE, expect=_RARE_MEAN),
    Regime("1 neuron", "few", neurons=1),
    Regime("5 neurons", "few", neurons=5),
    Regime("20 neurons", "few", neurons=20),
    Regime("20 images", "few", images=20),
    Regime("50 images", "few", images=50),
    Regime("100 images", "few", images=100),
    Regime("20 neurons, 50 images", "few", neurons=20, images=50),
    Regime("1 neuron, 1,500 images", "few", neurons=1, images=1500),
    Regime("positions absent", "positions", positions=_absent),
    Regime("absent, 50 images", "positions", positions=_absent, images=50),
    Regime("shuffled", "positions", positions=lambda c, g: g.permutation(c)),
    Regime(
        "jittered by a fifth",
        "positions",
        positions=lambda c, g: c + 0.2 * np.ptp(c) * g.normal(size=c.shape),
    ),
    Regime("two areas", "positions", positions=_two_areas),
    Regime("every neuron five times", "positions", neurons=40, copies=5),
)
_SPOILED = (
    Regime("constant but for the last bit", "bad neuron", spoil=_bad_neurons(0, _last_bit)),
    Regime(
        "constant and noise of 1e-7",
        "bad neuron",
        spoil=_bad_neurons(0, lambda r, g: 1.0 + 1e-7 * g.random(r.shape)),
    ),
    Regime(
        "baseline of 10,000 sd", "bad neuron", spoil=_bad_neurons(0, lambda r, g: r + 1e4 * r.std(axis=0))
    ),
    Regime(
        "baseline of 1,000,000 sd", "bad neuron", spoil=_bad_neurons(0, lambda r, g: r + 1e6 * r.std(axis=0))
    ),
    Regime("numbers of 1e30", "bad neuron", spoil=_bad_neurons(0, lambda r, g: r * 1e30)),
    Regime("one single event", "bad neuron", spoil=_bad_neurons(0, _single_event)),
    Regime(
        "Cauchy tails",
        "bad neuron",
        spoil=_bad_neurons(0, lambda r, g: np.abs(g.standard_cauchy(size=r.shape)) ** 2),
    ),
    Regime("a tenth of a last bit", "bad neuron", spoil=_bad_neurons(0.1, _last_bit)),
    Regime(
        "a tenth at 10,000 sd", "bad neuron", spoil=_bad_neurons(0.1, lambda r, g: r + 1e4 * r.std(axis=0))
    ),
    Regime("a tenth of single events", "bad neuron", spoil=_bad_neurons(0.1, _single_event)),
    Regime("one of all neurons, 10-fold", "bad trial", spoil=_bad_trials(1, 10.0)),
    Regime("one of all neurons, 1,000-fold", "bad trial", spoil=_bad_trials(1, 1000.0)),
    Regime("one of a fifth, 100-fold", "bad trial", spoil=_bad_trials(1, 100.0, share=0.2)),
    Regime("ten of all neurons, 100-fold", "bad trial", spoil=_bad_trials(10, 100.0)),
    Regime("40 of all neurons, 3-fold", "bad trial", spoil=_bad_trials(40, 3.0)),
    Regime("ten silent", "bad trial", spoil=_silent_trials),
)
REGIMES = (*_HEALTHY, *_SPOILED)
