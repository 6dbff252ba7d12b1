"""Which stimuli show the tuning of neurons, and the numbers that their responses give.

Nothing here knows about models: a ``Subject`` answers images, be it a fitted model with draws from its
posterior or a simulation whose truth is asked for in exactly the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

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


class Shown(NamedTuple):
    """What neurons answer to N images, as fitted and then S draws of the posterior, and how far the images are from
    the training images, as a multiple of the limit (``mousev1.insilico.extrapolation``); NaN where that is unknown.
    """

    responses: Float  # (S + 1, U, N), or (S + 1, N) of one neuron
    distance: Float  # (U, N), or (N,)


class Subject(Protocol):
    """Neurons that can be shown stimuli: those of a model, or of a simulation whose truth is asked for."""

    def to_all(self, images: Images32) -> Shown:
        """Answers of all U neurons to images (N, H, W)."""

    def to_each(self, row: int, images: Images32) -> Shown:
        """Answers of the unit of that row alone to images (N, H, W)."""


@dataclass(frozen=True, eq=False)
class TuningExtrapolation:
    """How far the stimuli of each neuron's tuning curves are from the training images, averaged over phases.

    Distances are multiples of the limit: above 1 is outside of the training images. NaN for neurons without the curve.
    """

    orientation: Float  # (U, K)
    frequency: Float  # (U, F)
    size: Float  # (U, D)
    contrast: Float  # (U, Q)

    @property
    def known(self) -> bool:
        """Whether any distance is: a model without statistics of its training images has none."""
        return bool(np.isfinite(self.orientation).any())

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """(U,) fraction of each curve's stimuli that are outside, by name; NaN for neurons without the curve."""
        out: dict[str, NDArray[Any]] = {}
        for field in fields(self):
            values = getattr(self, field.name)
            fraction = (values > 1).mean(axis=1)
            out[f"{field.name}_outside"] = np.where(np.isnan(values).all(axis=1), np.nan, fraction)
        return out


@dataclass(frozen=True)
class Examined:
    """Evoked responses of some neurons, averaged over phases: as fitted, then S draws."""

    x_deg: Float  # (U,) centre of the disks
    y_deg: Float
    blank: Float  # (S + 1, U) response to the empty screen, which all others have lost
    surface: Float  # (S + 1, U, K, F)
    cycle: Float  # (S + 1, U, P) at the fitted model's best grating, over the phase at the disks' centre
    size: Float  # (S + 1, U, D)
    contrast: Float  # (S + 1, U, Q)
    extrapolation: TuningExtrapolation


def examine(
    subject: Subject,
    frame: Frame,
    settings: TuningSettings,
    x_deg: Float,
    y_deg: Float,
    *,
    done: Callable[[int], Any] = lambda _: None,
) -> Examined:
    """Show everything to U neurons, disks at centres (U,); ``done`` is called with the number of those finished."""
    session = _Session(subject, frame, settings, subject.to_all(frame.blank()).responses[..., 0])
    surface, cycle, distance = session.full_field()
    row, column = tuning_indices.best_grating(surface[0])
    around, along = tuning_indices.cross_sections(surface[0], row, column)
    orientation = tuning_indices.preferred_orientation(around)
    frequency = tuning_indices.preferred_on_log_axis(along, settings.frequencies_cpd)
    size, size_distance = session.nothing(len(settings.diameters_deg))
    contrast, contrast_distance = session.nothing(len(settings.contrasts))
    for unit in np.flatnonzero(np.isfinite(orientation)).tolist():
        grating = {
            "orientation_deg": orientation[unit],
            "frequency_cpd": frequency[unit],
            "x_deg": x_deg[unit],
            "y_deg": y_deg[unit],
        }
        diameters = np.asarray(settings.diameters_deg)
        size[:, unit], size_distance[unit] = session.disks(
            unit, diameter_deg=diameters[:, None], contrast=settings.contrast, **grating
        )
        best_size = tuning_indices.preferred_on_log_axis(size[0, unit], diameters)
        if np.isfinite(best_size):
            contrast[:, unit], contrast_distance[unit] = session.disks(
                unit, diameter_deg=best_size, contrast=np.asarray(settings.contrasts)[:, None], **grating
            )
        done(1)
    done(int((~np.isfinite(orientation)).sum()))
    # where the grating's phase is at the disk's centre instead of the frame's
    angle, wave = np.deg2rad(session.angles[row]), np.asarray(settings.frequencies_cpd)[column]
    shift = 360.0 * wave * (x_deg * np.sin(angle) - y_deg * np.cos(angle))
    far = TuningExtrapolation(
        *tuning_indices.cross_sections(distance, row, column), size_distance, contrast_distance
    )
    return Examined(x_deg, y_deg, session.blank, surface, _rephased(cycle, shift), size, contrast, far)


@dataclass(frozen=True)
class _Session:
    subject: Subject
    frame: Frame
    settings: TuningSettings
    blank: Float  # (S + 1, U)

    @property
    def angles(self) -> Float:
        """(K,) orientations in degrees."""
        return np.asarray(180.0 / self.settings.orientations * np.arange(self.settings.orientations))

    def nothing(self, count: int) -> tuple[Float, Float]:
        """Responses (S + 1, U, count) and distances (U, count), all NaN."""
        return np.full((*self.blank.shape, count), np.nan), np.full((self.blank.shape[1], count), np.nan)

    def full_field(self) -> tuple[Float, Float, Float]:
        """Surface (S + 1, U, K, F), cycle at its peak (S + 1, U, P), and distances (U, K, F)."""
        settings, blank = self.settings, self.blank
        waves = settings.frequencies_cpd
        combined = np.stack(np.meshgrid(self.angles, waves, indexing="ij"), axis=-1).reshape(-1, 2)
        at_a_time = max(1, IMAGES_AT_A_TIME // settings.phases)
        surface, distance = self.nothing(len(combined))
        for some in _in_parts(np.arange(len(combined)), at_a_time):
            responses, far = self._cycles(combined[some])
            surface[..., some], distance[:, some] = responses.mean(axis=-1), far.mean(axis=-1)
        best = surface[0].argmax(axis=-1)
        cycle = np.empty((*blank.shape, settings.phases))
        for some in _in_parts(np.unique(best), at_a_time):
            mine = np.flatnonzero(np.isin(best, some))
            responses, _ = self._cycles(combined[some])
            cycle[:, mine] = responses[:, mine, np.searchsorted(some, best[mine])]
        shape = (settings.orientations, len(waves))
        return surface.reshape(*blank.shape, *shape), cycle, distance.reshape(-1, *shape)

    def _cycles(self, combined: Float) -> Shown:
        """Evoked responses (S + 1, U, n, P) and distances (U, n, P) for n pairs of orientation and frequency."""
        images = gratings(
            self.frame,
            orientation_deg=combined[:, :1],
            frequency_cpd=combined[:, 1:],
            phase_deg=360.0 / self.settings.phases * np.arange(self.settings.phases),
            contrast=self.settings.contrast,
        )
        shown = self.subject.to_all(images)
        responses = shown.responses.reshape(*self.blank.shape, len(combined), -1)
        distance = shown.distance.reshape(self.blank.shape[1], len(combined), -1)
        return Shown(responses - self.blank[..., None, None], distance)

    def disks(self, unit: int, **varied: Any) -> Shown:
        """Evoked responses (S + 1, n) and distances (n,) of one neuron to n disks, averaged over phases."""
        phases = self.settings.disk_phases
        images = gratings(self.frame, phase_deg=360.0 / phases * np.arange(phases), **varied)
        shown = self.subject.to_each(unit, images)
        responses = shown.responses.reshape(len(shown.responses), -1, phases).mean(axis=-1)
        return Shown(responses - self.blank[:, unit, None], shown.distance.reshape(-1, phases).mean(axis=-1))


def indices_of(part: Examined, settings: TuningSettings) -> dict[str, Estimate]:
    """Every index with its interval, each draw of the posterior treated as the fitted model is."""
    around, along = tuning_indices.cross_sections(part.surface, *tuning_indices.best_grating(part.surface))
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


def _rephased(cycle: Float, shift_deg: Float) -> Float:
    """Curves (S + 1, U, P) over phase, moved by (U,) degrees towards lower phases, by Fourier interpolation."""
    spectrum = np.fft.rfft(cycle, axis=-1)
    harmonics = np.arange(spectrum.shape[-1])
    spectrum *= np.exp(1j * np.deg2rad(shift_deg)[:, None] * harmonics)
    return np.asarray(np.fft.irfft(spectrum, n=cycle.shape[-1], axis=-1))


def _in_parts(values: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
