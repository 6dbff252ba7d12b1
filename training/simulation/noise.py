"""From rates to recorded responses: shared gain, noise that grows with the mean, arbitrary units."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from training.simulation.neurons import Population
from training.simulation.settings import NoiseConfig

UNITS_PER_BLOCK = 256
"""Each block of neurons has its own stream, so that the number of threads changes nothing."""


def draw_gains(rng: np.random.Generator, trials: int, config: NoiseConfig) -> NDArray[np.float64]:
    """(T,) log-normal gains with mean 1, one per trial, common to the population."""
    return np.exp(rng.normal(-0.5 * config.gain_sd**2, config.gain_sd, trials))


def draw_responses(
    rng: np.random.Generator,
    rates: NDArray[np.float32],
    gains: NDArray[np.float64],
    population: Population,
) -> NDArray[np.float32]:
    """Recorded responses (T, U) in the neurons' own units, from rates (T, U) in events per trial and gains (T,).

    Given rate and gain, a trial's events are gamma distributed with mean m = rate * gain^coupling and
    variance fano * m: deconvolved fluorescence is continuous and not negative (Wei et al. 2020, Neurons
    Behav. Data Anal. Theory 3, model it as gamma with extra zeros).
    """
    out = np.empty(rates.shape, dtype=np.float32)
    starts = range(0, rates.shape[1], UNITS_PER_BLOCK)
    seeds = rng.integers(2**63, size=len(starts))
    log_gain = np.log(gains)[:, None]

    def fill(start: int, seed: int) -> None:
        part = slice(start, start + UNITS_PER_BLOCK)
        mean = rates[:, part] * np.exp(log_gain * population.coupling[part])
        fano, unit = population.fano[part], population.unit[part]
        events = np.random.default_rng(seed).standard_gamma(mean / fano) * fano
        out[:, part] = events * unit

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, starts, seeds.tolist()))
    return out
