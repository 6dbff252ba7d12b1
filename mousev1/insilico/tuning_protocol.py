"""Which stimuli tell the tuning of units, and the numbers that their responses give.

Nothing here knows about models: a ``Subject`` answers images, be it a fitted model with draws from its
posterior or a simulation whose truth is asked for in exactly the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mousev1.insilico import tuning_indices
from mousev1.insilico.frame import Float, Frame, Images32
from mousev1.insilico.posterior_samples import Estimate, estimate
from mousev1.insilico.stimuli import gratings

IMAGES_AT_A_TIME = 64


@dataclass(frozen=True)
class TuningSettings:
    """What is shown.

    Attributes:
        orientations: number of orientations, equally spaced from 0 over 180 degrees; at least 4.
        frequencies_cpd: spatial frequencies in geometric steps.
        phases: number of phases of the gratings, at least 3.
        contrast: Michelson contrast of gratings and disks.
        diameters_deg: of the disks, in geometric steps, growing.
        disk_phases: number of phases of the disks, at least 3.
        contrasts: Michelson contrasts of the best disk.
        draws: from the posterior, for intervals; 0 for none.
        level: probability of the intervals.
    """

    orientations: int = 12
    frequencies_cpd: tuple[float, ...] = tuple(np.geomspace(0.01, 0.24, 17).round(5).tolist())
    phases: int = 8
    contrast: float = 0.5
    diameters_deg: tuple[float, ...] = tuple(np.geomspace(6.0, 100.0, 10).round(2).tolist())
    disk_phases: int = 4
    contrasts: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    draws: int = 100
    level: float = 0.95

    def __post_init__(self) -> None:
        for name, least in (("orientations", 4), ("phases", 3), ("disk_phases", 3), ("draws", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        for name in ("frequencies_cpd", "diameters_deg", "contrasts"):
            values = tuple(float(value) for value in getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) < 3 or min(values) <= 0 or not (np.diff(values) > 0).all():
                raise ValueError(f"{name}: expected at least 3 positive numbers, growing, got {values}")
        for name in ("frequencies_cpd", "diameters_deg"):
            ratios = np.diff(np.log(getattr(self, name)))
            if np.abs(ratios / ratios.mean() - 1).max() > 0.05:
                raise ValueError(
                    f"{name}: expected geometric steps (np.geomspace), got {getattr(self, name)}"
                )
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level: expected a probability between 0 and 1, got {self.level}")


class Subject(Protocol):
    """Units that can be shown stimuli: those of a model, or of a simulation whose truth is asked for."""

    def to_all(self, images: Images32) -> Float:
        """Responses (S + 1, U, N) to images (N, H, W) shown to all units: as fitted, then S draws."""

    def to_each(self, row: int, images: Images32) -> Float:
        """Responses (S + 1, N) of the unit of that row alone to images (N, H, W)."""


@dataclass(frozen=True)
class Examined:
    """Evoked responses of some units: as fitted, then S draws.

    Attributes:
        x_deg: (U,) centre of the disks.
        y_deg: (U,).
        blank: (S + 1, U) response to the empty screen, which all others have lost.
        surface: (S + 1, U, K, F), averaged over phases.
        cycle: (S + 1, U, P) at the fitted model's best cell, over the phase at the disks' centre.
        size: (S + 1, U, D), averaged over phases.
        contrast: (S + 1, U, Q), averaged over phases.
    """

    x_deg: Float
    y_deg: Float
    blank: Float
    surface: Float
    cycle: Float
    size: Float
    contrast: Float


def examine(
    subject: Subject,
    frame: Frame,
    settings: TuningSettings,
    x_deg: Float,
    y_deg: Float,
    *,
    done: Callable[[int], Any] = lambda _: None,
) -> Examined:
    """Show everything to some units.

    Args:
        subject: U units.
        frame: the screen.
        settings: what to show.
        x_deg: (U,) centre of the disks.
        y_deg: (U,) the same, up.
        done: told the number of units that are finished.
    """
    blank = subject.to_all(frame.blank())[..., 0]
    units, shape = blank.shape[1], (settings.orientations, len(settings.frequencies_cpd))
    angles = 180.0 / settings.orientations * np.arange(settings.orientations)
    cells = np.stack(np.meshgrid(angles, settings.frequencies_cpd, indexing="ij"), axis=-1).reshape(-1, 2)
    phases = 360.0 / settings.phases * np.arange(settings.phases)

    def cycles(which: NDArray[np.intp]) -> Float:
        """(S + 1, U, cells, P) evoked."""
        images = gratings(
            frame,
            orientation_deg=cells[which, :1],
            frequency_cpd=cells[which, 1:],
            phase_deg=phases,
            contrast=settings.contrast,
        )
        return subject.to_all(images).reshape(*blank.shape, len(which), -1) - blank[..., None, None]

    surface = np.empty((*blank.shape, len(cells)))
    for some in _in_parts(np.arange(len(cells)), max(1, IMAGES_AT_A_TIME // settings.phases)):
        surface[..., some] = cycles(some).mean(axis=-1)
    best = surface[0].argmax(axis=-1)
    cycle = np.empty((*blank.shape, settings.phases))
    for some in _in_parts(np.unique(best), max(1, IMAGES_AT_A_TIME // settings.phases)):
        mine = np.flatnonzero(np.isin(best, some))
        cycle[:, mine] = cycles(some)[:, mine, np.searchsorted(some, best[mine])]
    surface = surface.reshape(*blank.shape, *shape)

    # where the grating's phase is at the disk's centre instead of the frame's
    row, column = tuning_indices.best_cell(surface[0])
    across, along = tuning_indices.cross_sections(surface[0], row, column)
    orientation = tuning_indices.preferred_orientation(across)
    frequency = tuning_indices.preferred_on_log_axis(along, settings.frequencies_cpd)
    size = np.full((*blank.shape, len(settings.diameters_deg)), np.nan)
    contrast = np.full((*blank.shape, len(settings.contrasts)), np.nan)
    for unit in range(units):
        if np.isfinite(orientation[unit]):
            grating = {
                "orientation_deg": orientation[unit],
                "frequency_cpd": frequency[unit],
                "phase_deg": 360.0 / settings.disk_phases * np.arange(settings.disk_phases),
                "x_deg": x_deg[unit],
                "y_deg": y_deg[unit],
            }
            diameters = np.asarray(settings.diameters_deg)
            disks = gratings(frame, diameter_deg=diameters[:, None], contrast=settings.contrast, **grating)
            size[:, unit] = _mean_over_phases(subject, unit, disks, settings) - blank[:, unit, None]
            best_size = tuning_indices.preferred_on_log_axis(size[0, unit], diameters)
            if np.isfinite(best_size):
                disks = gratings(
                    frame,
                    diameter_deg=best_size,
                    contrast=np.asarray(settings.contrasts)[:, None],
                    **grating,
                )
                contrast[:, unit] = _mean_over_phases(subject, unit, disks, settings) - blank[:, unit, None]
        done(1)
    angle, wave = np.deg2rad(cells[best, 0]), cells[best, 1]
    shift = 360.0 * wave * (x_deg * np.sin(angle) - y_deg * np.cos(angle))
    return Examined(x_deg, y_deg, blank, surface, _rephased(cycle, shift), size, contrast)


def indices_of(part: Examined, settings: TuningSettings) -> dict[str, Estimate]:
    """Every index with its interval, each draw of the posterior treated as the fitted model is."""
    around, along = tuning_indices.cross_sections(part.surface, *tuning_indices.best_cell(part.surface))
    low, high = tuning_indices.half_height_range(along, settings.frequencies_cpd)
    f1_f0, phase = tuning_indices.modulation(part.cycle)
    c50, exponent, _, _ = tuning_indices.naka_rushton(part.contrast, settings.contrasts)
    values: dict[str, tuple[Float, float | None]] = {
        "orientation_deg": (tuning_indices.preferred_orientation(around), 180.0),
        "orientation_selectivity": (tuning_indices.orientation_selectivity(around), None),
        "orientation_index": (tuning_indices.orientation_index(around), None),
        "half_width_deg": (tuning_indices.half_width(around), None),
        "frequency_cpd": (tuning_indices.preferred_on_log_axis(along, settings.frequencies_cpd), None),
        "frequency_low_cpd": (low, None),
        "frequency_high_cpd": (high, None),
        "f1_f0": (f1_f0, None),
        "phase_deg": (phase, 360.0),
        "size_deg": (tuning_indices.preferred_on_log_axis(part.size, settings.diameters_deg), None),
        "suppression": (tuning_indices.suppression(part.size), None),
        "semi_saturation": (c50, None),
        "exponent": (exponent, None),
    }
    return {
        name: estimate(value, level=settings.level, period=period) for name, (value, period) in values.items()
    }


def _mean_over_phases(subject: Subject, unit: int, images: Images32, settings: TuningSettings) -> Float:
    """(S + 1, K) from images (K * phases, H, W)."""
    answers = subject.to_each(unit, images)
    return np.asarray(answers.reshape(len(answers), -1, settings.disk_phases).mean(axis=-1))


def _rephased(cycle: Float, shift_deg: Float) -> Float:
    """Curves (S + 1, U, P) over phase, moved by (U,) degrees towards lower phases, by Fourier interpolation."""
    spectrum = np.fft.rfft(cycle, axis=-1)
    harmonics = np.arange(spectrum.shape[-1])
    spectrum *= np.exp(1j * np.deg2rad(shift_deg)[:, None] * harmonics)
    return np.asarray(np.fft.irfft(spectrum, n=cycle.shape[-1], axis=-1))


def _in_parts(values: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
