"""Tuning of a whole population: orientation, spatial frequency, phase, size and contrast.

As an experimenter would, on the noise-free model:

1. full-field gratings of all orientations, frequencies and phases; the response averaged over phases (F0),
   less that to an empty screen, gives preferred orientation and frequency; phases at the best of these
   gratings tell simple from complex cells;
2. disks of that grating around the neuron's receptive field, of growing size;
3. the best of these disks at growing contrast.

Phases are static frames: the core knows no motion, so there is no direction, and F1 is that of a grating
that is stepped, not one that drifts. Stimuli end where the frame ends: a disk around a neuron near the border
is cut, as it would be on a monitor.

**Intervals** come from the posterior over weights, drawn jointly for all stimuli
(``mousev1.insilico.posterior_samples``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mousev1.core.feature_statistics import TrainingStatistics
from mousev1.core.inference import FusedCore, fuse
from mousev1.core.representation import as_core
from mousev1.insilico import tuning_indices
from mousev1.insilico.extrapolation import LEVEL
from mousev1.insilico.frame import Float, Frame, Images32
from mousev1.insilico.posterior_samples import Estimate, Readouts, draw_readouts
from mousev1.insilico.receptive_field import readout_position
from mousev1.insilico.stimuli import gratings
from mousev1.insilico.tuning_protocol import (
    Examined,
    Shown,
    TuningExtrapolation,
    TuningSettings,
    examine,
    indices_of,
)
from mousev1.insilico.unit_patches import LocalView
from mousev1.insilico.units import check_request
from mousev1.model.response_model import ResponseModel
from mousev1.readout.interpolation import sample_at
from mousev1.storage.table import Table

UNITS_AT_A_TIME = 512
PAIRS_AT_A_TIME = 16


@dataclass(frozen=True, eq=False)
class Tuning(Table):
    """Tuning of U neurons. Curves are evoked responses of the fitted model; indices have intervals.

    Attributes:
        unit_ids: (U,) the scan's names of the neurons.
        settings: what was shown.
        x_deg: (U,) where disks were centred, degrees from the frame's centre, to the right.
        y_deg: (U,) the same, up.
        blank: (U,) response to the empty screen.
        surface: (U, K, F) response to gratings over orientation and frequency, averaged over phases.
        orientation_curve: (U, K) at the preferred frequency.
        frequency_curve: (U, F) at the preferred orientation.
        phase_curve: (U, P) at both, over the phase at the disks' centre.
        size_curve: (U, D) over diameter.
        contrast_curve: (U, Q) over contrast.
        orientation_deg: preferred orientation of the stripes, counter-clockwise from horizontal: the mean
            vector of the curve at the preferred frequency.
        orientation_selectivity: 1 - circular variance; 0 untuned, 1 one orientation.
        orientation_index: (preferred - orthogonal) / (preferred + orthogonal).
        half_width_deg: half width at half height over orientation.
        frequency_cpd: preferred spatial frequency.
        frequency_low_cpd: below it, half height; NaN for a low-pass neuron.
        frequency_high_cpd: above it, half height; NaN if beyond what was shown.
        f1_f0: phase modulation; above 1 simple, below complex.
        phase_deg: preferred phase at the disks' centre; 0 is a bright centre, 180 a dark one.
        size_deg: preferred diameter.
        suppression: 1 - response to the largest disk over that to the preferred.
        semi_saturation: contrast of half the largest response, of the Naka-Rushton function.
        exponent: of that function.
        contrast_r2: (U,) quality of its fit.
        extrapolation: how far the stimuli are from the training images.
    """

    unit_ids: NDArray[np.int64]
    settings: TuningSettings
    x_deg: Float
    y_deg: Float
    blank: Float
    surface: Float
    orientation_curve: Float
    frequency_curve: Float
    phase_curve: Float
    size_curve: Float
    contrast_curve: Float
    orientation_deg: Estimate
    orientation_selectivity: Estimate
    orientation_index: Estimate
    half_width_deg: Estimate
    frequency_cpd: Estimate
    frequency_low_cpd: Estimate
    frequency_high_cpd: Estimate
    f1_f0: Estimate
    phase_deg: Estimate
    size_deg: Estimate
    suppression: Estimate
    semi_saturation: Estimate
    exponent: Estimate
    contrast_r2: Float
    extrapolation: TuningExtrapolation

    @property
    def estimates(self) -> dict[str, Estimate]:
        """All indices with intervals by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Estimate)}

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """All numbers per neuron (not the curves): ``unit_id``, ``x_deg``, ``y_deg``, ``blank``, ``contrast_r2``.

        And ``<estimate>`` for each of ``estimates``, its interval from ``<estimate>_from`` to ``<estimate>_to``.
        Where the model knows its training images, the fraction of each curve's stimuli outside of them:
        ``orientation_outside``, ``frequency_outside``, ``size_outside``, ``contrast_outside``.
        """
        out: dict[str, NDArray[Any]] = {"unit_id": self.unit_ids, "x_deg": self.x_deg, "y_deg": self.y_deg}
        out["blank"] = self.blank
        for name, index in self.estimates.items():
            out |= {name: index.value, f"{name}_from": index.low, f"{name}_to": index.high}
        out["contrast_r2"] = self.contrast_r2
        return out | (self.extrapolation.columns if self.extrapolation.known else {})


def measure_tuning(
    model: ResponseModel,
    *,
    units: object = None,
    settings: TuningSettings | None = None,
    frame: Frame | None = None,
    centres_deg: tuple[Float, Float] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Tuning:
    """Tuning of many neurons at once.

    Args:
        model: a fitted model of gray images.
        units: (U,) indices of neurons; all by default.
        settings: what to show.
        frame: the screen; by default that of the images of the fit, empty at its ``background``.
        centres_deg: x (U,) and y (U,) of the disks, for example ``ReceptiveFields.gaussian``'s; by default
            where the readouts look.
        seed: of the draws.
        progress: show a progress bar, as all long calls do by default.

    Raises:
        ValueError: no such neuron, or a stimulus that the frame cannot show.
    """
    settings = settings or TuningSettings()
    index, frame = check_request(model, units, frame)
    x, y = (values[index] for values in readout_position(model, frame))
    if centres_deg is not None:
        x, y = (np.asarray(values, dtype=np.float64) for values in centres_deg)
        if x.shape != index.shape or y.shape != index.shape:
            raise ValueError(f"centres_deg: expected two arrays ({len(index)},), got {x.shape} and {y.shape}")
    frame.check_inside(x, y, name="centres_deg")
    core = as_core(model.core, "measure_tuning")
    view, fused = LocalView(model, height=frame.height, width=frame.width), fuse(core)
    spread = _feature_std(fused, frame, settings)
    known = model.training_statistics
    statistics = None if known is None else known.to(model.device)
    parts = []
    bar = tqdm(total=len(index), desc="tuning", unit="unit", disable=not progress)
    with torch.no_grad(), bar:
        mu = model.readout.mu()
        for start in range(0, len(index), UNITS_AT_A_TIME):
            rows = slice(start, start + UNITS_AT_A_TIME)
            chosen = torch.from_numpy(index[rows]).to(model.device)
            readouts = draw_readouts(model, chosen, spread, draws=settings.draws, seed=seed)
            subject = _ModelUnits(fused, view, chosen, mu[chosen], readouts, statistics)
            parts.append(examine(subject, frame, settings, x[rows], y[rows], done=bar.update))
    return assemble(model.unit_ids.cpu().numpy()[index], settings, parts)


@dataclass(frozen=True)
class _ModelUnits:
    fused: FusedCore
    view: LocalView
    units: Tensor
    mu: Tensor
    readouts: Readouts
    statistics: TrainingStatistics | None

    def to_all(self, images: Images32) -> Shown:
        features = sample_at(self.fused(self._stack(images)), self.mu)
        return Shown(_float(self.readouts.responses(features)), self._distance(features))

    def to_each(self, row: int, images: Images32) -> Shown:
        sampled = []
        for part in self._stack(images).split(PAIRS_AT_A_TIME):
            units = self.units[row].expand(len(part))
            sampled.append(self.view(self.view.cut(part, units), units))
        features = torch.cat(sampled)[None]
        return Shown(_float(self.readouts.of(row).responses(features)[:, 0]), self._distance(features)[0])

    def _stack(self, images: Images32) -> Tensor:
        return torch.from_numpy(images)[:, None].to(self.mu.device)

    def _distance(self, features: Tensor) -> Float:
        """(U, N) from features (U, N, C); NaN without statistics of the training images."""
        if self.statistics is None:
            return np.full(features.shape[:2], np.nan)
        whitened = self.statistics.whiten(features.transpose(1, 2)[..., None])
        return _float(whitened.norm(dim=1)[..., 0] / self.statistics.limit(LEVEL))


@torch.no_grad()
def _feature_std(fused: FusedCore, frame: Frame, settings: TuningSettings) -> Tensor:
    """(C,) standard deviation of the features over gratings and positions."""
    images = gratings(
        frame,
        orientation_deg=np.array([0.0, 45.0, 90.0, 135.0])[:, None, None],
        frequency_cpd=np.array(settings.frequencies_cpd)[::2, None],
        phase_deg=np.array([0.0, 90.0]),
        contrast=settings.contrast,
    )
    features: Tensor = fused(torch.from_numpy(images)[:, None].to(fused.get_buffer("weight_0").device))
    return features.transpose(0, 1).flatten(1).std(dim=1)


def assemble(unit_ids: NDArray[np.int64], settings: TuningSettings, parts: list[Examined]) -> Tuning:
    """Curves and indices of all neurons, from what chunks of them were found to do."""
    found = [indices_of(part, settings) for part in parts]
    estimates = {
        name: Estimate(
            *(np.concatenate([getattr(one[name], end) for one in found]) for end in ("value", "low", "high"))
        )
        for name in found[0]
    }

    # of the fitted model alone: all draws of a whole population are too many to keep
    fitted = {
        name: np.concatenate([getattr(part, name)[0] for part in parts])
        for name in ("blank", "surface", "cycle", "size", "contrast")
    }
    far = (
        np.concatenate([getattr(part.extrapolation, field.name) for part in parts])
        for field in fields(TuningExtrapolation)
    )
    surface = fitted["surface"]
    around, along = tuning_indices.cross_sections(surface, *tuning_indices.best_grating(surface))
    return Tuning(
        unit_ids=unit_ids,
        settings=settings,
        x_deg=np.concatenate([part.x_deg for part in parts]),
        y_deg=np.concatenate([part.y_deg for part in parts]),
        blank=fitted["blank"],
        surface=surface,
        orientation_curve=around,
        frequency_curve=along,
        phase_curve=fitted["cycle"],
        size_curve=fitted["size"],
        contrast_curve=fitted["contrast"],
        contrast_r2=tuning_indices.naka_rushton(fitted["contrast"], settings.contrasts)[3],
        extrapolation=TuningExtrapolation(*far),
        **estimates,
    )


def _float(values: Tensor) -> Float:
    out: Float = values.double().cpu().numpy()
    return out
