"""The protocol of Lurz et al. 2021: which scans make a core, and which neurons and images a readout gets.

A *partition* is one random draw of neurons and of training images. Its number is the seed: the same
partition with fewer neurons or images is a part of that with more, and validation and test images are
never drawn from. Model seeds are tried within each partition; the best by validation correlation counts
(``best_per_partition``), and intervals are over partitions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mousev1.compare.draws import training_images, training_subset
from mousev1.data.scan import TIERS, Scan
from mousev1.errors import listing
from training.transfer_benchmark.results_table import SAME_RUN

Index = npt.NDArray[np.int64]

# What a random number is for is part of its seed: no two purposes share a stream.
NEURON_STREAM, IMAGE_STREAM = 0, 1


def draw_images(
    scans: Sequence[Scan], images: int, partition: int, *, image_seed: int | None = None
) -> list[Scan]:
    """One or several scans with so many training images in all of them together, drawn as evenly as they allow.

    With an ``image_seed`` the draw is the same in all partitions.

    Raises:
        ValueError: more than there are, or fewer than two per scan.
    """
    available = [training_images(scan) for scan in scans]
    if not 2 * len(scans) <= images <= sum(available):
        raise ValueError(
            f"images: expected {2 * len(scans)} to {sum(available)}, for {len(scans)} scans with "
            f"{listing(available)} training images, got {images}"
        )
    seed = (partition, IMAGE_STREAM) if image_seed is None else (image_seed,)
    return [
        training_subset(scan, count, (*seed, turn))
        for turn, (scan, count) in enumerate(zip(scans, share_out(images, available), strict=True))
    ]


def share_out(count: int, available: Sequence[int]) -> list[int]:
    """How many come from each of several stores, evenly; a store that runs out leaves the rest to the others.

    Example:
        >>> share_out(10, [100, 2, 100])
        [4, 2, 4]
    """
    shares = [0] * len(available)
    while count:
        open_ = [i for i, most in enumerate(available) if shares[i] < most]
        each = min([count // len(open_), *(available[i] - shares[i] for i in open_)])
        for i in open_[: None if each else count]:
            shares[i] += max(each, 1)
            count -= max(each, 1)
    return shares


@dataclass(frozen=True, eq=False)
class Neurons:
    """Per scan of the same neurons, (U,) indices of those for readouts, and of those kept for cores, if any."""

    transfer: list[Index]
    core: list[Index] | None


def draw_neurons(
    scans: Sequence[Scan], partition: int, *, units: int, core_units: int | None = None
) -> Neurons:
    """Neurons of a partition: the same ones in all scans (equal ``match_ids``), and none of them in both groups.

    Readouts are fitted to ``units``, 0 for all; ``core_units`` others are kept for cores, if any.

    Raises:
        ValueError: more than there are.
    """
    rows = common_neurons(scans)
    total, kept = len(rows[0]), core_units or 0
    units = units or total - kept
    if units + kept > total:
        raise ValueError(
            f"units: expected at most {total - kept}, because {scans[0].name} has {total} neurons"
            + (f" and {kept} are kept for cores" if kept else "")
            + f", got {units}"
        )
    order = np.random.default_rng((partition, NEURON_STREAM)).permutation(total)
    transfer, core = np.sort(order[:units]), np.sort(order[total - kept :])
    return Neurons(
        transfer=[index[transfer] for index in rows],
        core=None if core_units is None else [index[core] for index in rows],
    )


def common_neurons(scans: Sequence[Scan]) -> list[Index]:
    """Index of every neuron that all scans show, per scan, in one order.

    Raises:
        ValueError: several scans without ``match_ids``, or without a common neuron.
    """
    if len(scans) == 1:
        return [np.arange(scans[0].n_units)]
    if missing := [scan.name for scan in scans if scan.match_ids is None]:
        raise ValueError(
            f"scans: no match_ids in {listing(missing)}, so nothing says which neurons are the same"
        )
    numbers = [
        dict(zip(np.asarray(scan.match_ids).tolist(), range(scan.n_units), strict=True)) for scan in scans
    ]
    common = sorted(set.intersection(*(set(number) for number in numbers)) - {-1})
    if not common:
        raise ValueError(f"scans: {listing(scan.name for scan in scans)} have no neuron in common")
    return [np.array([number[match] for match in common]) for number in numbers]


def check_images_apart(scans: Iterable[Scan]) -> None:
    """Raise ``ValueError`` if an image is in different tiers of different scans.

    Images are compared by what they show, not by their ids, which recordings number as they like. Within a
    scan ``Scan`` itself sees to it.
    """
    tier_of: dict[bytes, tuple[str, str]] = {}
    for scan in scans:
        digests = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in scan.images]
        for tier in TIERS:
            for shown in np.unique(scan.trial_image[scan.tiers == tier]).tolist():
                other, name = tier_of.setdefault(digests[shown], (tier, scan.name))
                if other != tier:
                    raise ValueError(
                        f"scans: image {scan.image_ids[shown]} of {scan.name} (tier {tier}) is also in {name} "
                        f"(tier {other}); training, validation and test images must not mix: move or drop "
                        "its trials"
                    )


def best_per_partition(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of the rows that differ only in their model seed, the one with the best validation correlation.

    In the order of their first seeds. Undefined validation correlations lose against defined ones; of equals, the
    first counts.
    """
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        kind = tuple(row[name] for name in SAME_RUN)
        if kind not in best or _validation(row) > _validation(best[kind]):
            best[kind] = dict(row)
    return list(best.values())


def _validation(row: Mapping[str, Any]) -> float:
    value = row["validation_correlation"]
    return -math.inf if value is None or math.isnan(value) else float(value)
