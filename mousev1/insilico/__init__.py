"""In-silico experiments: what an animal could never sit through, asked of its fitted model."""

from __future__ import annotations

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
