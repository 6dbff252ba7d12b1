"""Which images are fitted to and which are kept aside: by identity, so that no image is in two tiers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousev1.errors import listing
from mousev1.ingest.report import Report

MORE_OFTEN = 1.5


@dataclass(frozen=True, kw_only=True)
class TierSplit:
    """How images without a tier in the log are divided.

    Attributes:
        validation: share of the images that are not test which become validation.
        test: share of all images which become test, where no image is repeated more than the others.
        seed: of the draw.
    """

    validation: float = 0.1
    test: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.validation < 1 and 0 <= self.test < 1):
            raise ValueError(
                f"tiers: expected shares from 0 to below 1, got {self.validation} and {self.test}"
            )


def tiers_of(
    image: NDArray[np.int64],
    given: NDArray[np.str_] | None,
    names: list[str],
    split: TierSplit,
    report: Report,
) -> NDArray[np.str_]:
    """(T,) tier of trials that showed ``image`` (T,): as in the log, or by repeats.

    Raises:
        ValueError: the log has an image in several tiers.
    """
    if given is None:
        return _split(image, split, report)
    report.notes.append("tiers: as in the log")
    ids, counts = np.unique(np.unique(np.stack([image.astype(str), given]), axis=1)[0], return_counts=True)
    if (counts > 1).any():
        shared = [names[int(i)] for i in ids[counts > 1]]
        raise ValueError(
            f"tiers: expected all trials of an image in one tier, got {len(shared)} images in several: "
            f"{listing(shared, 5)}; correct the log, or divide anew with ignore_tiers (--ignore-tiers)"
        )
    return given


def _split(image: NDArray[np.int64], split: TierSplit, report: Report) -> NDArray[np.str_]:
    """Repeated images are test; of the rest a share is validation."""
    ids, index, counts = np.unique(image, return_inverse=True, return_counts=True)
    rng = np.random.default_rng(split.seed)
    tier = np.full(len(ids), "train", dtype="<U10")
    usual = int(np.bincount(counts).argmax())
    # A trial lost or shown again by accident makes no image of a test set.
    base = usual if counts.max() >= MORE_OFTEN * usual else int(counts.min())
    repeated = counts >= MORE_OFTEN * base
    if repeated.any():
        tier[repeated] = "test"
        report.notes.append(f"tiers: {repeated.sum()} images shown more often than {base} times are test")
    else:
        tier[rng.permutation(len(ids))[: round(split.test * len(ids))]] = "test"
        report.assumed.append(
            f"all images were shown about {base} times: {(tier == 'test').sum()} drawn with seed {split.seed} are test"
        )
    rest = rng.permutation(np.flatnonzero(tier == "train"))
    # One image at least, since a fit needs some to choose its penalties by.
    tier[rest[: max(1, round(split.validation * len(rest))) if len(rest) > 1 and split.validation else 0]] = (
        "validation"
    )
    report.notes.append(
        f"tiers: {(tier == 'validation').sum()} images drawn with seed {split.seed} are validation"
    )
    return tier[index]
