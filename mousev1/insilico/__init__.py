"""In-silico experiments: what an animal could never sit through, asked of its fitted model.

The names below load on first use, as those of ``mousev1`` do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mousev1.insilico.ascent import AscentSettings as AscentSettings
    from mousev1.insilico.class_scores import ClassScores as ClassScores
    from mousev1.insilico.class_scores import score_classes as score_classes
    from mousev1.insilico.contrast import michelson_contrast as michelson_contrast
    from mousev1.insilico.contrast import rms_contrast as rms_contrast
    from mousev1.insilico.contrast import set_contrast as set_contrast
    from mousev1.insilico.experiment import Display as Display
    from mousev1.insilico.experiment import export_experiment as export_experiment
    from mousev1.insilico.extrapolation import Extrapolation as Extrapolation
    from mousev1.insilico.extrapolation import measure_extrapolation as measure_extrapolation
    from mousev1.insilico.field_fits import GaborFit as GaborFit
    from mousev1.insilico.field_fits import GaussianFit as GaussianFit
    from mousev1.insilico.frame import Frame as Frame
    from mousev1.insilico.gallery import GalleryRanks as GalleryRanks
    from mousev1.insilico.gallery import rank_gallery as rank_gallery
    from mousev1.insilico.manifest import Manifest as Manifest
    from mousev1.insilico.manifest import read_manifest as read_manifest
    from mousev1.insilico.mei import OptimalImages as OptimalImages
    from mousev1.insilico.mei import optimal_images as optimal_images
    from mousev1.insilico.noise import natural_crops as natural_crops
    from mousev1.insilico.noise import sparse_noise as sparse_noise
    from mousev1.insilico.noise import white_noise as white_noise
    from mousev1.insilico.posterior_samples import Estimate as Estimate
    from mousev1.insilico.receptive_field import ReceptiveFields as ReceptiveFields
    from mousev1.insilico.receptive_field import readout_position as readout_position
    from mousev1.insilico.receptive_field import receptive_fields as receptive_fields
    from mousev1.insilico.stimuli import disks as disks
    from mousev1.insilico.stimuli import gabors as gabors
    from mousev1.insilico.stimuli import gratings as gratings
    from mousev1.insilico.stimuli import plaids as plaids
    from mousev1.insilico.tuning import Tuning as Tuning
    from mousev1.insilico.tuning import measure_tuning as measure_tuning
    from mousev1.insilico.tuning_protocol import TuningSettings as TuningSettings
    from mousev1.insilico.unit_patches import LocalView as LocalView

_HOME = {
    "AscentSettings": "ascent",
    "ClassScores": "class_scores",
    "Display": "experiment",
    "Estimate": "posterior_samples",
    "Extrapolation": "extrapolation",
    "Frame": "frame",
    "GaborFit": "field_fits",
    "GalleryRanks": "gallery",
    "GaussianFit": "field_fits",
    "LocalView": "unit_patches",
    "Manifest": "manifest",
    "OptimalImages": "mei",
    "ReceptiveFields": "receptive_field",
    "Tuning": "tuning",
    "TuningSettings": "tuning_protocol",
    "disks": "stimuli",
    "export_experiment": "experiment",
    "gabors": "stimuli",
    "gratings": "stimuli",
    "measure_extrapolation": "extrapolation",
    "measure_tuning": "tuning",
    "michelson_contrast": "contrast",
    "natural_crops": "noise",
    "optimal_images": "mei",
    "plaids": "stimuli",
    "rank_gallery": "gallery",
    "read_manifest": "manifest",
    "readout_position": "receptive_field",
    "receptive_fields": "receptive_field",
    "rms_contrast": "contrast",
    "score_classes": "class_scores",
    "set_contrast": "contrast",
    "sparse_noise": "noise",
    "white_noise": "noise",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"mousev1.insilico.{_HOME[name]}"), name)
    raise AttributeError(f"module 'mousev1.insilico' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
