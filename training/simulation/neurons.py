"""What each neuron is: properties drawn from distributions of the mouse V1 literature.

Numbers are round values read off the papers cited, not fits to their data.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from training.simulation.retinotopy import PIXELS_PER_DEGREE
from training.simulation.settings import NeuronConfig, NoiseConfig

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Parameters of U model neurons; every attribute is (U,)."""

    x: Array  # receptive-field centre, pixels from the centre of the leftmost pixel
    y: Array  # the same, down from the topmost
    orientation: Array  # of the stripes, radians in [0, pi), 0 horizontal, counter-clockwise on screen
    frequency: Array  # spatial frequency of the Gabor's carrier, cycles per degree
    phase: Array  # of the carrier at the centre, radians; 0 is an ON centre, pi an OFF centre
    length: Array  # SD of the envelope along the stripes, degrees
    breadth: Array  # SD of the envelope across the stripes, degrees
    complexity: Array  # 0 a simple cell, 1 a complex cell; weight of the energy against the half-square
    semi_saturation: Array  # Michelson contrast of half the largest response without surround
    surround: Array  # weight of the surround in the normalisation pool, 0 or more
    surround_tuning: Array  # 0 for a surround that suppresses alike at all orientations, 1 for iso-oriented
    peak: Array  # events per trial that a strong optimal stimulus adds; 0 for silent neurons
    baseline: Array  # events per trial at a gray screen
    fano: Array  # variance over mean of a trial's events
    coupling: Array  # exponent that the neuron applies to the shared gain
    unit: Array  # response units per event

    def __post_init__(self) -> None:
        shapes = {f.name: getattr(self, f.name).shape for f in fields(self)}
        if len(set(shapes.values())) != 1 or len(self.x.shape) != 1:
            raise ValueError(f"Population: expected every attribute to be (U,), got {shapes}")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def silent(self) -> NDArray[np.bool_]:
        """(U,) whether the image means nothing to the neuron."""
        return np.equal(self.peak, 0.0)

    @property
    def simple(self) -> NDArray[np.bool_]:
        """(U,) whether the neuron is a simple cell."""
        return np.equal(self.complexity, 0.0)

    def select(self, index: NDArray[np.int64]) -> Population:
        """Some of the neurons."""
        return Population(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def moved_to(self, x: float, y: float) -> Population:
        """The same neurons, all with their receptive field at one position."""
        return replace(self, x=np.full(len(self), x), y=np.full(len(self), y))


def draw_orientations(rng: np.random.Generator, units: int, cardinal_bias: float) -> Array:
    """(U,) radians with density 1 + bias cos(4 theta): slightly more horizontal and vertical.

    Salinas et al. 2017 (J. Neurosci. 37:10125) find cardinal directions over-represented in mouse V1;
    neighbours prefer unrelated ones, as rodents have no columns (Ohki et al. 2005, Nature 433:597, rat).
    """
    out = rng.uniform(0.0, np.pi, units)
    # Rejection: obliques are turned by 45 degrees with the probability that flattens them.
    turn = rng.uniform(size=units) < np.clip(-cardinal_bias * np.cos(4 * out), 0.0, None)
    return np.where(turn, (out + np.pi / 4) % np.pi, out)


def draw_frequencies(rng: np.random.Generator, units: int, config: NeuronConfig) -> Array:
    """(U,) cycles per degree, log-normal within a range.

    Niell & Stryker 2008 (J. Neurosci. 28:7520) and Marshel et al. 2011 (Neuron 72:1040): preferred
    frequencies of 0.01 to 0.3 with a median near 0.04. The whole model prefers frequencies a
    quarter above its carrier's, because filters blind to uniform light lose their low end.
    """
    low, high = np.log2(config.frequency_range_cpd)
    median = np.log2(config.frequency_cpd)
    out = rng.normal(median, config.frequency_spread_octaves, units)
    for _ in range(100):
        outside = (out < low) | (out > high)
        if not outside.any():
            break
        out[outside] = rng.normal(median, config.frequency_spread_octaves, int(outside.sum()))
    return np.asarray(2.0 ** np.clip(out, low, high))


ENVELOPE_EXPONENT = 0.6
"""Envelopes shrink with frequency, but less than in proportion: high frequencies have more cycles."""


def draw_envelopes(rng: np.random.Generator, frequency: Array, config: NeuronConfig) -> tuple[Array, Array]:
    """(U,) length and breadth of the envelope (SD along and across the stripes, degrees).

    Niell & Stryker 2008: linear fields have half-widths of 5 to 15 degrees and one to three subregions.
    Size falls with frequency as in Ringach 2002 (J. Neurophysiol. 88:455). So few cycles give the broad
    tuning of the mouse: half-widths of 20 to 30 degrees.
    """
    units = len(frequency)
    relative = (frequency / config.frequency_cpd) ** -ENVELOPE_EXPONENT
    size = config.envelope_deg * relative * np.exp(rng.normal(0.0, 0.2, units))
    size = np.clip(size, *config.envelope_range_deg)
    aspect = np.sqrt(config.aspect_ratio * np.exp(rng.normal(0.0, 0.2, units)))
    return size * aspect, size / aspect


def draw_complexity(rng: np.random.Generator, units: int, simple_share: float) -> Array:
    """(U,) 0 for simple cells, 0.3 to 1 for complex ones.

    Niell & Stryker 2008 find F1/F0 bimodal, simple cells in the majority in layers 2 to 4. Half-squaring
    alone gives F1/F0 = 1.70; 0.3 of energy takes it below the border of 1.
    """
    simple = rng.uniform(size=units) < simple_share
    return np.where(simple, 0.0, rng.uniform(0.3, 1.0, units))


def draw_population(
    rng: np.random.Generator, fields_px: Array, neurons: NeuronConfig, noise: NoiseConfig
) -> Population:
    """U neurons looking at ``fields_px`` (U, 2), pixels (x, y).

    Semi-saturation: contrast responses of mouse V1 reach half at contrasts of 0.2 to 0.4 (Busse et al.
    2011, J. Neurosci. 31:11351); divisive normalisation after Heeger 1992 (Vis. Neurosci. 9:181) and
    Carandini & Heeger 2012 (Nat. Rev. Neurosci. 13:51). Surround: most cells of layer 2/3 prefer
    gratings of 15 to 30 degrees and are suppressed by larger ones, half of the response on average
    with a wide spread (Van den Bergh et al. 2010, J. Comp. Neurol. 518:2051; Adesnik et al. 2012,
    Nature 490:226), more so by their own orientation (Self et al. 2014, J. Neurosci. 34:9290). Rates are
    log-normal over neurons (Buzsaki & Mizuseki 2014, Nat. Rev. Neurosci. 15:264). Fluorescence is
    in arbitrary units per cell.
    """
    units = len(fields_px)
    frequency = draw_frequencies(rng, units, neurons)
    length, breadth = draw_envelopes(rng, frequency, neurons)
    kind = rng.uniform(size=units)
    silent = kind < neurons.silent_share
    unreliable = (kind >= neurons.silent_share) & (kind < neurons.silent_share + neurons.unreliable_share)
    peak = neurons.peak_events * np.exp(rng.normal(0.0, neurons.events_spread, units))
    baseline = neurons.baseline_events * np.exp(rng.normal(0.0, neurons.events_spread, units))
    return Population(
        x=fields_px[:, 0].copy(),
        y=fields_px[:, 1].copy(),
        orientation=draw_orientations(rng, units, neurons.cardinal_bias),
        frequency=frequency,
        phase=rng.uniform(0.0, 2 * np.pi, units),
        length=length,
        breadth=breadth,
        complexity=draw_complexity(rng, units, neurons.simple_share),
        semi_saturation=np.clip(neurons.semi_saturation * np.exp(rng.normal(0.0, 0.35, units)), 0.05, 1.0),
        surround=neurons.surround_strength * np.exp(rng.normal(0.0, 0.7, units)),
        surround_tuning=rng.uniform(0.2, 1.0, units),
        peak=np.where(silent, 0.0, peak),
        # A blind neuron fires as often as others do on average.
        baseline=np.where(silent, baseline + 0.05 * peak, baseline),
        fano=np.where(unreliable, noise.unreliable_fano, noise.fano),
        coupling=rng.normal(1.0, noise.gain_coupling_sd, units),
        unit=10.0 ** rng.normal(0.0, neurons.unit_spread_decades, units),
    )


def on_another_day(
    rng: np.random.Generator, population: Population, config: NeuronConfig, *, shift_px: Array
) -> Population:
    """The same neurons recorded again: new units and vigour, eye shifted by ``shift_px`` (2,) (x, y)."""
    units = len(population)
    vigour = np.exp(rng.normal(0.0, config.day_spread, units))
    return replace(
        population,
        x=population.x + shift_px[0],
        y=population.y + shift_px[1],
        peak=population.peak * vigour,
        baseline=population.baseline * vigour,
        unit=population.unit * np.exp(rng.normal(0.0, config.day_spread, units)),
    )


def carrier_per_pixel(population: Population) -> tuple[Array, Array]:
    """(U,) wave vector in cycles per pixel, along x and along y (down)."""
    cycles = population.frequency / PIXELS_PER_DEGREE
    return cycles * np.sin(population.orientation), cycles * np.cos(population.orientation)
