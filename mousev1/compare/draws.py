"""Random draws of neurons and training images from a scan: one seed, one draw; fewer are among the more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mousev1.data.scan import Scan
from mousev1.metrics.population_scores import Truth


def training_images(scan: Scan) -> int:
    """Number of distinct images in the tier ``"train"``."""
    return len(np.unique(scan.trial_image[scan.tiers == "train"]))


def training_subset(scan: Scan, images: int, seed: int | tuple[int, ...]) -> Scan:
    """The scan with some of its training images, and all of its other trials.

    Fewer images of one seed are always among the more of the same seed.
    """
    train = scan.tiers == "train"
    distinct = np.unique(scan.trial_image[train])
    drawn = np.random.default_rng(seed).permutation(distinct)[:images]
    keep = ~train | np.isin(scan.trial_image, drawn)
    shown, trial_image = np.unique(scan.trial_image[keep], return_inverse=True)
    return replace(
        scan,
        images=scan.images[shown],
        image_ids=scan.image_ids[shown],
        trial_image=trial_image,
        tiers=scan.tiers[keep],
        responses=scan.responses[keep],
        covariates={name: values[keep] for name, values in scan.covariates.items()},
    )


def draw_partition(
    scan: Scan, images: int, *, seed: tuple[int, int], neurons: int | None = None, truth: Truth | None = None
) -> tuple[Scan, Truth | None]:
    """One partition: the scan, and the truth, with so many training images and neurons.

    Args:
        scan: with trials of the tier ``"train"``.
        images: number of training images to draw.
        seed: of the comparison, and the number of the partition.
        neurons: number of neurons to draw; None takes all.
        truth: of the scan's neurons, if they are simulated.
    """
    random = np.random.default_rng(seed)
    image_seed = int(random.integers(2**31))
    if neurons is not None:
        index = np.sort(random.permutation(scan.n_units)[:neurons])
        scan = scan.select_units(index)
        truth = None if truth is None else truth.select_units(index)
    return training_subset(scan, images, image_seed), truth
