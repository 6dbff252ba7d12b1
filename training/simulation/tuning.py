"""What each neuron prefers, asked of the whole generating model with gratings.

A Gabor's own orientation and frequency are not quite what the neuron prefers: filters are blind to
uniform light, cut off by the frame, and divided by a pool with a taste of its own. So truth is measured
as an experimenter would, without noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousev1.insilico.tuning_indices import peak_offset
from training.simulation.response import Responder, gratings

Array = NDArray[np.float64]

CONTRAST = 0.5
"""Michelson contrast of all gratings here; its RMS is near that of the natural images."""

ORIENTATIONS = 12
FREQUENCIES_CPD = np.geomspace(0.01, 0.24, 17)
PHASES = 8
DISK_SIDE = 57
DISK_RADII_DEG = np.geomspace(3.0, 50.0, 9)
DISK_ORIENTATIONS = 8
DISK_PHASES = 4


@dataclass(frozen=True)
class Tuning:
    """Preferences of U neurons, (U,) each, NaN for silent ones."""

    orientation_deg: Array  # of the stripes, 0 to 180, 0 horizontal, counter-clockwise on screen
    frequency_cpd: Array  # cycles per degree
    f1_f0: Array  # phase modulation at the preferred grating, first harmonic over mean; simple above 1
    size_deg: Array  # diameter of the preferred disk of the preferred grating
    suppression: Array  # 1 - response to the largest disk over that to the preferred one
    orientation_selectivity: Array  # 1 - circular variance at the preferred frequency


def measure_tuning(responder: Responder) -> Tuning:
    """Tuning of the noise-free neurons of a frame.

    Orientation and frequency: full-field gratings on the frame, response averaged over phases less the
    response to gray, at the peak of a grid (refined by a parabola through the peak and its neighbours).
    Size and suppression: disks centred on the neuron, on a screen larger than the frame.
    """
    shape = (ORIENTATIONS, len(FREQUENCIES_CPD), PHASES)
    orientation, frequency, phase = (
        grid.ravel()
        for grid in np.meshgrid(
            np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS,
            FREQUENCIES_CPD,
            2 * np.pi * np.arange(PHASES) / PHASES,
            indexing="ij",
        )
    )
    population, height, width = responder.population, responder.height, responder.width
    images = gratings(orientation, frequency, phase, contrast=CONTRAST, height=height, width=width)
    evoked = responder.rates(images).reshape(*shape, -1) - population.baseline
    units = np.arange(len(population))
    mean = evoked.mean(axis=2)
    best = mean.reshape(-1, len(population)).argmax(axis=0)
    best_orientation, best_frequency = np.unravel_index(best, shape[:2])
    around = mean[:, best_frequency, units]
    along = mean[best_orientation, :, units].T
    step = np.pi / ORIENTATIONS
    angle = step * (best_orientation + peak_offset(around.T, best_orientation, circular=True))
    log_frequency = np.log(FREQUENCIES_CPD)
    octave = log_frequency[1] - log_frequency[0]
    preferred = np.exp(
        log_frequency[best_frequency] + octave * peak_offset(along.T, best_frequency, circular=False)
    )
    cycle = evoked[best_orientation, best_frequency, :, units].T
    wave = np.exp(2j * np.pi * np.arange(PHASES) / PHASES)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        f1_f0 = 2 * np.abs((cycle * wave).mean(axis=0)) / cycle.mean(axis=0)
        vector = (around * np.exp(2j * step * np.arange(ORIENTATIONS))[:, None]).sum(axis=0)
        selectivity = np.abs(vector) / around.sum(axis=0)
    size, suppression = _measure_size(responder, angle, preferred)
    silent = population.silent
    return Tuning(
        *(
            np.where(silent, np.nan, values)
            for values in (np.rad2deg(angle) % 180.0, preferred, f1_f0, size, suppression, selectivity)
        )
    )


def _measure_size(responder: Responder, orientation: Array, frequency: Array) -> tuple[Array, Array]:
    """(U,) preferred diameter in degrees and suppression index, each neuron with the nearest grating."""
    middle = (DISK_SIDE - 1) / 2
    population = responder.population
    centred = population.moved_to(middle, middle)
    turns = np.rint(orientation / np.pi * DISK_ORIENTATIONS).astype(int) % DISK_ORIENTATIONS
    scales = FREQUENCIES_CPD[::3]
    nearest = np.abs(np.log(frequency)[:, None] - np.log(scales)).argmin(axis=1)
    curve = np.empty((len(DISK_RADII_DEG), len(population)))
    phases = 2 * np.pi * np.arange(DISK_PHASES) / DISK_PHASES
    radius, phase = (grid.ravel() for grid in np.meshgrid(DISK_RADII_DEG, phases, indexing="ij"))
    for turn in range(DISK_ORIENTATIONS):
        for scale, cycles in enumerate(scales):
            mine = np.flatnonzero((turns == turn) & (nearest == scale))
            if not len(mine):
                continue
            chosen = Responder(
                centred.select(mine),
                height=DISK_SIDE,
                width=DISK_SIDE,
                surround_ratio=responder.surround_ratio,
            )
            images = gratings(
                np.full(len(radius), np.pi * turn / DISK_ORIENTATIONS),
                np.full(len(radius), cycles),
                phase,
                contrast=CONTRAST,
                radius_deg=radius,
                height=DISK_SIDE,
                width=DISK_SIDE,
            )
            rates = chosen.rates(images).reshape(len(DISK_RADII_DEG), DISK_PHASES, -1)
            curve[:, mine] = rates.mean(axis=1) - population.baseline[mine]
    best = curve.argmax(axis=0)
    step = np.log(DISK_RADII_DEG[1] / DISK_RADII_DEG[0])
    preferred = 2 * DISK_RADII_DEG[best] * np.exp(step * peak_offset(curve.T, best, circular=False))
    with np.errstate(divide="ignore", invalid="ignore"):
        suppression = 1.0 - curve[-1] / curve.max(axis=0)
    return preferred, suppression
