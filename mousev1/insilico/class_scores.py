"""Predicted against recorded responses to exported stimuli, per class of stimuli."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.data.scan import Scan
from mousev1.errors import listing
from mousev1.insilico.frame import Float
from mousev1.insilico.manifest import NO_UNIT, Manifest, match_trials
from mousev1.metrics.intervals import mean_of_defined
from mousev1.metrics.unit_scores import correlation
from mousev1.storage.table import Table

ALL = "all"


@dataclass(frozen=True, eq=False)
class ClassScores(Table):
    """Scores of K classes of stimuli; the last is ``"all"`` of them together.

    Responses to one image are averaged over its repeats first. Relative responses are those of a neuron over
    its own mean over all images, so that neurons of any scale can be averaged.

    Attributes:
        classes: K names.
        n_images: (K,) images that were shown.
        n_trials: (K,) trials.
        unit_correlation: (K, U) correlation of predicted and recorded responses over the images of a class;
            NaN with fewer than three images or where either side is constant.
        own_predicted: (K,) mean predicted relative response of neurons to the images made for them; NaN for
            classes that are made for no neuron.
        own_recorded: (K,) the same, recorded.
        others_predicted: (K,) mean predicted relative response to the images of a class made for other neurons.
        others_recorded: (K,) the same, recorded.
        own_rank: (K,) fraction of all images that a neuron answered less than the one made for it, mean over
            neurons; 1 is best.
        unit_ids: (U,) the neurons.
    """

    classes: tuple[str, ...]
    n_images: NDArray[np.int64]
    n_trials: NDArray[np.int64]
    unit_correlation: Float
    own_predicted: Float
    own_recorded: Float
    others_predicted: Float
    others_recorded: Float
    own_rank: Float
    unit_ids: NDArray[np.int64]

    @property
    def correlation(self) -> Float:
        """(K,) mean over the neurons where it is defined; NaN if nowhere."""
        return np.array([mean_of_defined(values) for values in self.unit_correlation])

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """One row per class: ``class``, ``images``, ``trials``, ``correlation`` (mean over ``units``, the number
        of those that have one), ``own_predicted``, ``own_recorded``, ``others_predicted``, ``others_recorded``,
        ``own_rank``.
        """
        defined = np.isfinite(self.unit_correlation).sum(axis=1)
        names = ("own_predicted", "own_recorded", "others_predicted", "others_recorded", "own_rank")
        return {
            "class": np.array(self.classes),
            "images": self.n_images,
            "trials": self.n_trials,
            "correlation": self.correlation,
            "units": defined,
            **{name: getattr(self, name) for name in names},
        }

    def __str__(self) -> str:
        heads = {
            "correlation": "correlation",
            "own_predicted": "own pred.",
            "own_recorded": "own rec.",
            "others_recorded": "others rec.",
            "own_rank": "own rank",
        }
        lines = [["class", "images", "trials", *heads.values()]]
        for row in self.to_rows():
            scores = (f"{row[name]:.3f}" if np.isfinite(row[name]) else "-" for name in heads)
            lines.append([row["class"], str(row["images"]), str(row["trials"]), *scores])
        return "\n".join(f"{line[0]:<18}" + "".join(f"{text:>12}" for text in line[1:]) for line in lines)


def score_classes(manifest: Manifest, scan: Scan) -> ClassScores:
    """Compare the predictions of a manifest with a scan that was recorded with its images.

    Args:
        manifest: from ``export_experiment`` or ``read_manifest``.
        scan: with trials of the manifest's images (see ``match_trials``) and all of its neurons, in any order.

    Raises:
        ValueError: no trial of an image of the manifest, or a neuron that the scan has not.
    """
    column_of = {int(unit): column for column, unit in enumerate(scan.unit_ids)}
    if missing := [int(unit) for unit in manifest.unit_ids if int(unit) not in column_of]:
        raise ValueError(
            f"scan: {len(missing)} of the manifest's {len(manifest.unit_ids)} neurons are not in '{scan.name}' "
            f"(unit ids {listing(missing, 5)}); match the neurons of the new scan to the old ones first"
        )
    columns = [column_of[int(unit)] for unit in manifest.unit_ids]
    trials, rows = match_trials(manifest, scan)
    shown, image_of_trial, repeats = np.unique(rows, return_inverse=True, return_counts=True)
    recorded = np.zeros((len(shown), len(columns)))
    np.add.at(recorded, image_of_trial, scan.responses[trials][:, columns].astype(np.float64))
    recorded /= repeats[:, None]
    predicted = manifest.predictions[shown]
    class_of = np.array(manifest.classes)[shown]
    # which image was made for which neuron, (I, U)
    own = manifest.made_for[shown][:, None] == manifest.unit_ids
    someones = manifest.made_for[shown] != NO_UNIT

    relative = {"predicted": _relative(predicted), "recorded": _relative(recorded)}
    order = np.argsort(np.argsort(recorded, axis=0), axis=0) / max(len(shown) - 1, 1)
    names = [name for name in manifest.class_names if (class_of == name).any()]
    members = {**{name: class_of == name for name in names}, ALL: np.ones(len(shown), dtype=bool)}
    picks = {
        "own": {name: own & inside[:, None] for name, inside in members.items()},
        "others": {name: ~own & (inside & someones)[:, None] for name, inside in members.items()},
    }
    means = {
        f"{whose}_{side}": np.array([mean_of_defined(values[pick]) for pick in picks[whose].values()])
        for whose in picks
        for side, values in relative.items()
    }
    return ClassScores(
        classes=tuple(members),
        n_images=np.array([inside.sum() for inside in members.values()]),
        n_trials=np.array([repeats[inside].sum() for inside in members.values()]),
        unit_correlation=np.stack(
            [_correlation(predicted[inside], recorded[inside]) for inside in members.values()]
        ),
        own_rank=np.array([mean_of_defined(order[pick]) for pick in picks["own"].values()]),
        unit_ids=manifest.unit_ids,
        **means,
    )


def _correlation(predicted: Float, recorded: Float) -> Float:
    if len(predicted) < 3:
        return np.full(predicted.shape[1], np.nan)
    return correlation(predicted, recorded)


def _relative(values: Float) -> Float:
    mean = values.mean(axis=0)
    return np.asarray(np.where(mean > 0, values, np.nan) / np.where(mean > 0, mean, 1.0))
