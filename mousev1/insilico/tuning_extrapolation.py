"""How far the stimuli of tuning curves are from the training images, unit by unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mousev1.insilico import tuning_indices
from mousev1.insilico.extrapolation import LEVEL, measure_extrapolation
from mousev1.insilico.frame import Float, Frame
from mousev1.insilico.stimuli import gratings
from mousev1.insilico.tuning import Tuning
from mousev1.insilico.units import check_units
from mousev1.model.response_model import ResponseModel


@dataclass(frozen=True, eq=False)
class TuningExtrapolation:
    """Distances as multiples of the limit, averaged over phases; above 1 is outside of the training images.

    Attributes:
        orientation: (U, K) of the stimuli of each orientation curve.
        frequency: (U, F) of each frequency curve.
        size: (U, D) of each size curve; NaN for units without one.
        contrast: (U, Q) of each contrast curve; NaN likewise.
    """

    orientation: Float
    frequency: Float
    size: Float
    contrast: Float

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """(U,) share of each curve's stimuli that are outside, by name; NaN for units without the curve."""
        out: dict[str, NDArray[Any]] = {}
        for name in ("orientation", "frequency", "size", "contrast"):
            values = getattr(self, name)
            share = (values > 1).mean(axis=1)
            out[f"{name}_outside"] = np.where(np.isnan(values).all(axis=1), np.nan, share)
        return out


def measure_tuning_extrapolation(
    model: ResponseModel,
    tuning: Tuning,
    *,
    units: object = None,
    frame: Frame | None = None,
    level: float = LEVEL,
    progress: bool = False,
) -> TuningExtrapolation:
    """Distances of the stimuli that a tuning was measured with.

    Args:
        model: the model that was asked.
        tuning: what it answered.
        units: (U,) indices of the units, as for ``measure_tuning``.
        frame: likewise.
        level: percent of the training images' features that count as inside.
        progress: show a progress bar.

    Raises:
        ValueError: a model without statistics of its training images.
    """
    settings = tuning.settings
    frame = frame or Frame.of_model(model)
    index = check_units(units, model.n_units)
    angles = 180.0 / settings.orientations * np.arange(settings.orientations)
    phases = 360.0 / settings.phases * np.arange(settings.phases)
    row, column = tuning_indices.best_cell(tuning.surface)

    surface = np.empty(tuning.surface.shape)
    for k, frequency in enumerate(settings.frequencies_cpd):
        shown = gratings(
            frame,
            orientation_deg=angles[:, None],
            frequency_cpd=frequency,
            phase_deg=phases,
            contrast=settings.contrast,
        )
        distance = measure_extrapolation(model, shown, units=index, level=level).unit_distance
        surface[:, :, k] = distance.reshape(len(angles), len(phases), -1).mean(axis=1).T
    around, along = tuning_indices.cross_sections(surface, row, column)

    size = np.full((len(index), len(settings.diameters_deg)), np.nan)
    contrast = np.full((len(index), len(settings.contrasts)), np.nan)
    disk_phases = 360.0 / settings.disk_phases * np.arange(settings.disk_phases)
    for i, unit in enumerate(tqdm(index, desc="extrapolation", unit="unit", disable=not progress)):
        best = {
            "orientation_deg": tuning.orientation_deg.value[i],
            "frequency_cpd": tuning.frequency_cpd.value[i],
            "x_deg": tuning.x_deg[i],
            "y_deg": tuning.y_deg[i],
            "phase_deg": disk_phases,
        }
        varied: tuple[tuple[Float, dict[str, Any]], ...] = (
            (
                size,
                {
                    "diameter_deg": np.asarray(settings.diameters_deg)[:, None],
                    "contrast": settings.contrast,
                },
            ),
            (
                contrast,
                {
                    "diameter_deg": tuning.size_deg.value[i],
                    "contrast": np.asarray(settings.contrasts)[:, None],
                },
            ),
        )
        for out, options in varied:
            if np.isfinite(tuning.orientation_deg.value[i]) and np.isfinite(options["diameter_deg"]).all():
                shown = gratings(frame, **best, **options)
                distance = measure_extrapolation(model, shown, units=[unit], level=level).unit_distance
                out[i] = distance.reshape(-1, settings.disk_phases).mean(axis=1)
    return TuningExtrapolation(around, along, size, contrast)
