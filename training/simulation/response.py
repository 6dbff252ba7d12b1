"""From images to rates: Gabor subunits, divided by the contrast around them.

For contrast s = (image - gray) / gray and a Gabor pair g_e, g_o in quadrature, a neuron's drive is
(1 - c) max(0, g_e.s)^2 + c ((g_e.s)^2 + (g_o.s)^2): half-squaring for simple cells (Heeger 1992, Vis.
Neurosci. 9:427), energy for complex ones (Adelson & Bergen 1985, J. Opt. Soc. Am. A 2:284). Its rate is

    baseline + peak * drive / (semi_saturation^2 + centre + surround_weight * surround)

in events per trial. Centre and surround are contrast energies of a small filter bank, weighted by a
Gaussian as large as the receptive field and by a wider one; the surround may prefer the neuron's own
orientation. Filters are blind to uniform light, and scaled so that the grating they like best, at
contrast 1, gives 1. All heavy steps are matrix products in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.simulation.neurons import Population, carrier_per_pixel
from training.simulation.retinotopy import PIXELS_PER_DEGREE

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

GRAY = 118.0
"""Gray level of zero contrast, the mean of the stimuli."""

POOL_ORIENTATIONS = 4
POOL_STRIDE = 2


POOL_PROBES = np.geomspace(0.5, 2.5, 30)
"""Multiples of a filter's frequency at which its best response is sought."""


@dataclass(frozen=True)
class PoolScale:
    """One spatial frequency of the normalisation pool, in cycles per degree; ``cycles`` is the envelope's SD times it.

    Filters have an odd side ``kernel`` on the image averaged over blocks of side ``shrink``, which makes low
    frequencies cheap.
    """

    frequency_cpd: float
    cycles: float
    kernel: int
    shrink: int


# Three octave-wide channels: the pool must see every frequency that neurons prefer, or those it
# misses would escape division.
POOL_SCALES = (
    PoolScale(0.018, 0.2, 13, 2),
    PoolScale(0.048, 0.25, 13, 1),
    PoolScale(0.12, 0.3, 9, 1),
)


def gratings(
    orientation: NDArray[np.floating],
    frequency_cpd: NDArray[np.floating],
    phase: NDArray[np.floating],
    *,
    contrast: float,
    height: int,
    width: int,
    radius_deg: NDArray[np.floating] | None = None,
) -> Array32:
    """(N, H, W) gray levels of sine gratings around the frame's centre, from (N,) parameters of each.

    Orientation of the stripes in radians, 0 horizontal, counter-clockwise on screen; at phase 0 a bright stripe is at
    the centre; Michelson contrast, 0 to 1. Beyond ``radius_deg``, if any, the screen is gray.
    """
    y, x = np.mgrid[:height, :width].astype(np.float64)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    cycles = np.asarray(frequency_cpd)[:, None, None] / PIXELS_PER_DEGREE
    theta = np.asarray(orientation)[:, None, None]
    wave = np.cos(
        2 * np.pi * cycles * (np.sin(theta) * x + np.cos(theta) * y) - np.asarray(phase)[:, None, None]
    )
    if radius_deg is not None:
        # A soft edge one pixel wide, as anti-aliasing would give.
        edge = np.asarray(radius_deg)[:, None, None] * PIXELS_PER_DEGREE - np.hypot(x, y)
        wave = wave * np.clip(edge + 0.5, 0.0, 1.0)
    return np.asarray(GRAY * (1.0 + contrast * wave), dtype=np.float32)


def gabors(population: Population, *, height: int, width: int) -> tuple[Array32, Array32]:
    """Filters of a population on a frame, two (H * W, U): at the neuron's phase, and a quarter cycle further."""
    kx, ky = carrier_per_pixel(population)
    length, breadth = (sd * PIXELS_PER_DEGREE for sd in (population.length, population.breadth))
    theta = population.orientation
    even = np.empty((height * width, len(population)), dtype=np.float32)
    odd = np.empty_like(even)
    y, x = (axis.reshape(-1, 1).astype(np.float32) for axis in np.mgrid[:height, :width])
    for start in range(0, len(population), 512):
        part = slice(start, start + 512)
        dx, dy = x - population.x[part].astype(np.float32), y - population.y[part].astype(np.float32)
        # Stripes run along (cos, -sin), the carrier along (sin, cos), y being down.
        cos, sin = np.cos(theta[part]).astype(np.float32), np.sin(theta[part]).astype(np.float32)
        along = (dx * cos - dy * sin) / length[part].astype(np.float32)
        across = (dx * sin + dy * cos) / breadth[part].astype(np.float32)
        envelope = np.exp(-0.5 * (along**2 + across**2))
        carrier = (2 * np.pi * (dx * kx[part] + dy * ky[part])).astype(np.float32)
        mass = envelope.sum(axis=0)
        for out, quarter in ((even, 0.0), (odd, np.pi / 2)):
            phase = (population.phase[part] + quarter).astype(np.float32)
            wave = np.cos(carrier - phase)
            wave -= (envelope * wave).sum(axis=0) / mass
            out[:, part] = envelope * wave / _best_amplitude(population, part, quarter).astype(np.float32)
    return even, odd


def _best_amplitude(population: Population, part: slice, quarter: float) -> Array:
    """(U,) response of an unscaled, uncropped filter to the unit grating it likes best.

    The Fourier transform of a Gaussian times a cosine, less the Gaussian that makes its sum zero,
    along the carrier's axis.
    """
    length = population.length[part] * PIXELS_PER_DEGREE
    breadth = population.breadth[part] * PIXELS_PER_DEGREE
    cycles = population.frequency[part] / PIXELS_PER_DEGREE
    phase = population.phase[part] + quarter
    k = cycles * np.geomspace(0.3, 4.0, 80)[:, None]

    def bump(centre: Array) -> Array:
        return np.asarray(np.exp(-2 * (np.pi * breadth * (k - centre)) ** 2))

    offset = np.cos(phase) * np.exp(-2 * (np.pi * breadth * cycles) ** 2)
    transform = 0.5 * (
        bump(cycles) * np.exp(-1j * phase) + bump(-cycles) * np.exp(1j * phase)
    ) - offset * bump(np.zeros_like(cycles))
    amplitude = 2 * np.pi * length * breadth * np.abs(transform).max(axis=0)
    return np.asarray(amplitude)


@cache
def _pool_bank() -> tuple[Tensor, ...]:
    """Per scale, (2 * K, 1, k, k) quadrature pairs at K orientations, even ones first."""
    return tuple(_pool_filters(scale) for scale in POOL_SCALES)


def _pool_filters(scale: PoolScale) -> Tensor:
    radius = scale.kernel // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    cycles = scale.frequency_cpd / PIXELS_PER_DEGREE * scale.shrink
    envelope = np.exp(-0.5 * (x**2 + y**2) / (scale.cycles / cycles) ** 2)
    pairs: list[list[Array]] = [[], []]
    for i in range(POOL_ORIENTATIONS):
        theta = math.pi * i / POOL_ORIENTATIONS
        across = 2 * np.pi * (np.sin(theta) * x + np.cos(theta) * y)
        for out, wave in zip(pairs, (np.cos(cycles * across), np.sin(cycles * across)), strict=True):
            kernel = envelope * (wave - (envelope * wave).sum() / envelope.sum())
            best = max(np.abs((kernel * np.exp(1j * r * across)).sum()) for r in cycles * POOL_PROBES)
            out.append(kernel / best)
    return torch.from_numpy(np.stack(pairs[0] + pairs[1])[:, None]).float()


def _oriented_energy(contrast: Tensor) -> Tensor:
    """(N, H, W) contrast to (N, K, h, w): contrast energy at K orientations, every second pixel."""
    total: Tensor | None = None
    for scale, bank in zip(POOL_SCALES, _pool_bank(), strict=True):
        image = contrast[:, None]
        if scale.shrink > 1:
            image = F.avg_pool2d(image, scale.shrink, ceil_mode=True)
        # Replicated borders: beyond them the screen is neither darker nor of other texture.
        image = F.pad(image, (scale.kernel // 2,) * 4, mode="replicate")
        answers = F.conv2d(image, bank, stride=POOL_STRIDE // scale.shrink).square_()
        energy = answers[:, :POOL_ORIENTATIONS].add_(answers[:, POOL_ORIENTATIONS:])
        total = energy if total is None else total.add_(energy)
    assert total is not None
    return total


@cache
def _energy_unit() -> float:
    """Mean energy of gratings of contrast 1, over the frequencies that neurons prefer."""
    frequency = np.repeat(np.geomspace(0.015, 0.12, 7), POOL_ORIENTATIONS)
    orientation = np.tile(np.pi * np.arange(POOL_ORIENTATIONS) / POOL_ORIENTATIONS, 7)
    image = gratings(orientation, frequency, np.zeros(len(frequency)), contrast=1.0, height=72, width=72)
    return float(_oriented_energy(torch.from_numpy((image - GRAY) / GRAY)).mean())


def energy_maps(contrast: Tensor) -> Tensor:
    """(N, H, W) contrast to (N, 3 * h * w): mean energy, and its cosine and sine over orientation.

    The three maps suffice for a pool with any preferred orientation: energy near orientation t is
    mean + cos(2 t) cosine + sin(2 t) sine. A grating of contrast c gives a mean of about c^2.
    """
    angle = 2 * math.pi / POOL_ORIENTATIONS * torch.arange(POOL_ORIENTATIONS, dtype=torch.float32)
    mixing = torch.stack([torch.ones_like(angle), angle.cos(), angle.sin()])
    mixing /= POOL_ORIENTATIONS * _energy_unit()
    return torch.einsum("ko,nohw->nkhw", mixing, _oriented_energy(contrast)).flatten(1)


class Responder:
    """A population of U neurons made ready to answer images of one size; see ``NeuronConfig.surround_ratio``."""

    def __init__(self, population: Population, *, height: int, width: int, surround_ratio: float) -> None:
        self.population = population
        self.height, self.width, self.surround_ratio = height, width, surround_ratio
        even, odd = gabors(population, height=height, width=width)
        self._complex = np.flatnonzero(~population.simple)
        self._even = torch.from_numpy(even)
        self._odd = torch.from_numpy(np.ascontiguousarray(odd[:, self._complex]))
        self._pool = torch.from_numpy(self._pool_weights())
        self._complexity = torch.from_numpy(population.complexity.astype(np.float32))
        self._floor = torch.from_numpy(np.square(population.semi_saturation).astype(np.float32))
        self._peak = torch.from_numpy(population.peak.astype(np.float32))
        self._baseline = torch.from_numpy(population.baseline.astype(np.float32))

    def rates(self, images: NDArray[np.generic], *, chunk: int = 512) -> Array32:
        """(N, H, W) gray levels to (N, U) events per trial, ``chunk`` images at a time."""
        if images.ndim != 3 or images.shape[1:] != (self.height, self.width):
            raise ValueError(f"images: expected (N, {self.height}, {self.width}), got {images.shape}")
        out = np.empty((len(images), len(self.population)), dtype=np.float32)
        for start in range(0, len(images), chunk):
            part = torch.from_numpy(np.asarray(images[start : start + chunk], dtype=np.float32))
            out[start : start + chunk] = self._rates((part - GRAY) / GRAY).numpy()
        return out

    def _rates(self, contrast: Tensor) -> Tensor:
        """(N, H, W) contrast to (N, U) events per trial."""
        flat = contrast.reshape(len(contrast), -1)
        even = flat @ self._even
        drive = even.clamp_min(0.0).square_()
        odd = flat @ self._odd
        energy = even[:, self._complex].square_() + odd.square_()
        weight = self._complexity[self._complex]
        drive[:, self._complex] = (1.0 - weight) * drive[:, self._complex] + weight * energy
        pool = energy_maps(contrast) @ self._pool
        return drive.div_(pool.add_(self._floor)).mul_(self._peak).add_(self._baseline)

    def _pool_weights(self) -> Array32:
        """(3 * h * w, U) weights of centre and surround on the energy maps."""
        p = self.population
        y, x = np.mgrid[: self.height : POOL_STRIDE, : self.width : POOL_STRIDE]
        square = (x.reshape(-1, 1) - p.x) ** 2 + (y.reshape(-1, 1) - p.y) ** 2
        centre_sd = np.sqrt(p.length * p.breadth) * PIXELS_PER_DEGREE
        centre = np.exp(-0.5 * square / centre_sd**2)
        surround = np.exp(-0.5 * square / (self.surround_ratio * centre_sd) ** 2)
        # What the centre sees does not count as surround.
        surround = np.clip(surround - centre, 0.0, None)
        centre /= centre.sum(axis=0)
        surround *= p.surround / surround.sum(axis=0)
        return np.concatenate(
            [
                centre + surround,
                surround * p.surround_tuning * np.cos(2 * p.orientation),
                surround * p.surround_tuning * np.sin(2 * p.orientation),
            ]
        ).astype(np.float32)
