"""Which images a scan shows: the same test images everywhere, all others its own.

They are dead leaves, crops of a folder of photographs, or patches that someone cut before. Whole photographs are
given to tiers, so that no picture is partly trained on and partly tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mousev1.errors import listing
from training.simulation.animals import PLANS
from training.simulation.config import IMAGE_IDS_PER_SET, SimulationConfig
from training.simulation.dead_leaves import dead_leaves
from training.simulation.settings import DEAD_LEAVES
from training.simulation.streams import stream

Bytes = NDArray[np.uint8]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
TIER_SHARES = {"test": 0.1, "validation": 0.15}
"""Fraction of the photographs that a tier gets; training has the rest."""

SMALLEST_CROP = 0.4
"""Of the largest crop that fits, so that objects appear at several sizes."""


@dataclass(frozen=True)
class Stimuli:
    """The distinct images of a scan, I of them."""

    images: Bytes  # (I, H, W) gray levels: training, validation, then test images
    image_ids: NDArray[np.int64]  # (I,) an id belongs to one image in all scans of a simulation
    tiers: NDArray[np.str_]  # (I,) ``"train"``, ``"validation"`` or ``"test"``


def stimuli_of(scan: str, config: SimulationConfig) -> Stimuli:
    """The images of one of the 13 scans."""
    turn = list(PLANS).index(scan)
    # Test images have the lowest ids; then two sets per scan.
    sets = {"train": 2 * turn + 1, "validation": 2 * turn + 2, "test": 0}
    counts = _counts(config)
    return Stimuli(
        images=np.concatenate([images_of_set(scan, tier, config) for tier in sets]),
        image_ids=np.concatenate(
            [number * IMAGE_IDS_PER_SET + np.arange(counts[tier]) for tier, number in sets.items()]
        ),
        tiers=np.repeat(list(counts), list(counts.values())),
    )


def images_of_set(scan: str, tier: str, config: SimulationConfig) -> Bytes:
    """(N, H, W) the images of one tier of a scan; the tier ``"test"`` is the same for every scan."""
    count = _counts(config)[tier]
    owner = "all scans" if tier == "test" else scan
    rng = stream(config.seed, "images", owner, tier)
    size = {"height": config.height, "width": config.width}
    if config.stimuli.source == DEAD_LEAVES:
        return dead_leaves(
            rng,
            count,
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
        return crop_photographs(rng, [paths[i] for i in chosen], count, **size)
    patches, photograph = read_patches(source, **size)
    chosen = split_photographs(split_rng, int(photograph.max()) + 1)[tier]
    candidates = np.flatnonzero(np.isin(photograph, chosen))
    # One stream for all scans: they are dealt from the same shuffled deck.
    deck = stream(config.seed, "images", "deck", tier).permutation(candidates)
    dealt = deal_patches(deck, count, turn=turn, hands=hands)
    return np.asarray(patches[dealt])


def _counts(config: SimulationConfig) -> dict[str, int]:
    return {"train": config.train_images, "validation": config.validation_images, "test": config.test_images}


def split_photographs(rng: np.random.Generator, photographs: int) -> dict[str, NDArray[np.int64]]:
    """Which photographs each tier gets: tier to sorted numbers below ``photographs``."""
    if photographs < 3:
        raise ValueError(
            f"source: expected at least 3 photographs, one for each of test, validation and training, "
            f"got {photographs}"
        )
    order = rng.permutation(photographs)
    test = max(1, round(TIER_SHARES["test"] * photographs))
    held = test + max(1, round(TIER_SHARES["validation"] * photographs))
    return {
        "test": np.sort(order[:test]),
        "validation": np.sort(order[test:held]),
        "train": np.sort(order[held:]),
    }


def list_photographs(folder: Path) -> list[Path]:
    """Pictures in a folder and below, in the order of their names."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise FileNotFoundError(f"source: no picture ({listing(SUFFIXES)}) in {folder}")
    return found


def crop_photographs(
    rng: np.random.Generator, paths: list[Path], images: int, *, height: int, width: int
) -> Bytes:
    """(N, H, W) random crops of photographs, luminance, as many from each as evenly as possible.

    Raises:
        ValueError: a picture smaller than a frame.
    """
    out = np.empty((images, height, width), dtype=np.uint8)
    owner = np.sort(rng.permutation(np.arange(images) % len(paths)))
    for number in np.unique(owner):
        with Image.open(paths[number]) as picture:
            gray = picture.convert("L")
        largest = min(gray.width / width, gray.height / height)
        if largest < 1.0:
            raise ValueError(
                f"source: expected pictures of at least {width} x {height} pixels, got {gray.width} x "
                f"{gray.height} in {paths[number]}; remove it or give a larger one"
            )
        for i in np.flatnonzero(owner == number):
            zoom = max(1.0, largest * rng.uniform(SMALLEST_CROP, 1.0))
            left = rng.uniform(0.0, gray.width - zoom * width)
            top = rng.uniform(0.0, gray.height - zoom * height)
            crop = (left, top, left + zoom * width, top + zoom * height)
            out[i] = np.asarray(gray.resize((width, height), Image.Resampling.BOX, box=crop))
    return out[rng.permutation(images)]


def read_patches(path: Path, *, height: int, width: int) -> tuple[Bytes, NDArray[np.int64]]:
    """Patches (N, H, W) of an ``.npz`` and the photograph (N,) each was cut from, numbered from 0."""
    with np.load(path, allow_pickle=False) as stored:
        missing = [name for name in ("patches", "source") if name not in stored]
        if missing:
            raise ValueError(f"source: {path} lacks {listing(missing)}; it has {listing(stored)}")
        patches, source = stored["patches"], stored["source"]
    if patches.dtype != np.uint8 or patches.shape != (len(source), height, width):
        raise ValueError(
            f"source: expected patches (N, {height}, {width}) uint8 and source (N,), got {patches.dtype} "
            f"{patches.shape} and {source.shape} in {path}; set height and width to those of the patches"
        )
    return patches, np.unique(source, return_inverse=True)[1].reshape(-1)


def deal_patches(deck: NDArray[np.int64], images: int, *, turn: int, hands: int) -> NDArray[np.int64]:
    """(N,) the ``turn``-th of ``hands`` hands of N images from a shuffled deck of patch numbers."""
    if images * hands > len(deck):
        raise ValueError(
            f"source: expected at least {images * hands} patches of one tier ({hands} scans x {images} "
            f"images of their own), got {len(deck)}; ask for at most {len(deck) // hands}, or use 'dead leaves'"
        )
    return deck[turn * images : (turn + 1) * images]
