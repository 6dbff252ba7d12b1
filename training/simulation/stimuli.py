"""Which images a scan shows: the same test images everywhere, all others its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.simulation.animals import PLANS
from training.simulation.config import IMAGE_IDS_PER_SET, SimulationConfig
from training.simulation.dead_leaves import dead_leaves
from training.simulation.photographs import (
    crop_photographs,
    deal_patches,
    list_photographs,
    read_patches,
    split_photographs,
)
from training.simulation.settings import DEAD_LEAVES
from training.simulation.streams import stream

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Stimuli:
    """The distinct images of a scan, I of them.

    Attributes:
        images: (I, H, W) gray levels: training, validation, then test images.
        image_ids: (I,) an id belongs to one image in all scans of a simulation.
        tiers: (I,) ``"train"``, ``"validation"`` or ``"test"``.
    """

    images: Bytes
    image_ids: NDArray[np.int64]
    tiers: NDArray[np.str_]


def stimuli_of(scan: str, config: SimulationConfig) -> Stimuli:
    """The images of one of the 13 scans."""
    turn = list(PLANS).index(scan)
    # Test images have the lowest ids; then two sets per scan.
    sets = {"train": 2 * turn + 1, "validation": 2 * turn + 2, "test": 0}
    counts = {
        "train": config.train_images,
        "validation": config.validation_images,
        "test": config.test_images,
    }
    return Stimuli(
        images=np.concatenate([images_of_set(scan, tier, config) for tier in sets]),
        image_ids=np.concatenate(
            [number * IMAGE_IDS_PER_SET + np.arange(counts[tier]) for tier, number in sets.items()]
        ),
        tiers=np.repeat(list(counts), list(counts.values())),
    )


def images_of_set(scan: str, tier: str, config: SimulationConfig) -> Bytes:
    """(N, H, W) the images of one tier of a scan; the tier ``"test"`` is the same for every scan."""
    count = {"train": config.train_images, "validation": config.validation_images, "test": config.test_images}
    owner = "all scans" if tier == "test" else scan
    rng = stream(config.seed, "images", owner, tier)
    size = {"height": config.height, "width": config.width}
    if config.stimuli.source == DEAD_LEAVES:
        return dead_leaves(
            rng,
            count[tier],
            per_canvas=config.stimuli.crops_per_canvas,
            texture=config.stimuli.texture,
            **size,
        )
    source = Path(config.stimuli.source)
    if not source.exists():
        raise FileNotFoundError(
            f"source: neither '{DEAD_LEAVES}' nor a folder of photographs nor an .npz: {source}"
        )
    turn, hands = (0, 1) if tier == "test" else (list(PLANS).index(scan), len(PLANS))
    split_rng = stream(config.seed, "images", "split of photographs")
    if source.is_dir():
        paths = list_photographs(source)
        chosen = split_photographs(split_rng, len(paths))[tier]
        return crop_photographs(rng, [paths[i] for i in chosen], count[tier], **size)
    patches, photograph = read_patches(source, **size)
    chosen = split_photographs(split_rng, int(photograph.max()) + 1)[tier]
    candidates = np.flatnonzero(np.isin(photograph, chosen))
    # One stream for all scans: they are dealt from the same shuffled deck.
    deck = stream(config.seed, "images", "deck", tier).permutation(candidates)
    dealt = deal_patches(deck, count[tier], turn=turn, hands=hands)
    return np.asarray(patches[dealt])
