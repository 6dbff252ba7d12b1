"""A benchmark's config with the files that it names, looked at once: no image is in two tiers of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mousev1
from mousev1.compare.draws import training_images
from mousev1.data.scan import Scan
from training.pretraining.config import find_scans
from training.provenance import data_sha256, write_json
from training.transfer_benchmark.config import BenchmarkConfig
from training.transfer_benchmark.protocol import check_images_apart

Entry = dict[str, Any]

INDEX_FILE = "scans.json"


@dataclass(frozen=True)
class ScanIndex:
    """Resolved path to SHA-256, training images, neurons and match ids of a scan; of other files only the SHA-256."""

    entries: dict[str, Entry]

    def sha256(self, file: Path) -> str:
        """Of a file or of a folder's content."""
        return str(self.entries[str(file.resolve())]["sha256"])

    def training_images(self, files: Sequence[Path]) -> int:
        """Number of distinct training images of some scans together, which have none in common."""
        return sum(int(self.entries[str(file.resolve())]["training_images"]) for file in files)

    def common_neurons(self, files: Sequence[Path]) -> int:
        """Number of neurons that all scans show."""
        entries = [self.entries[str(file.resolve())] for file in files]
        if len(entries) == 1:
            return int(entries[0]["units"])
        matched = [set(entry["match_ids"] or ()) for entry in entries]
        return len(set.intersection(*matched) - {-1})


@dataclass(frozen=True)
class Files:
    """The files that the grids of a config need: scans and truth by target, pretraining scans by core label.

    Truth files are in the order of the target's scans; none for real recordings.
    """

    scans: dict[str, list[Path]]
    truth: dict[str, list[Path]]
    core_scans: dict[str, list[Path]]


@dataclass(frozen=True)
class Plan:
    """What runs are computed from: a config and its folder, the folder of results, and the files with their content."""

    config: BenchmarkConfig
    config_folder: Path
    out: Path
    files: Files
    index: ScanIndex


def make_plan(config_path: Path, out: Path) -> Plan:
    """Read a config, find its files, and check that no image is in two tiers.

    Raises:
        FileNotFoundError: no such config, scan or truth.
        ValueError: a mistake in the config, or scans that do not fit it.
    """
    config = BenchmarkConfig.read(config_path)
    files = find_files(config, config_path.parent)
    scans = [file for found in (files.scans, files.core_scans) for group in found.values() for file in group]
    truths = [file for group in files.truth.values() for file in group]
    index = index_scans(list(dict.fromkeys(scans)), truths, out / INDEX_FILE)
    return Plan(config, config_path.parent, out, files, index)


def find_files(config: BenchmarkConfig, folder: Path) -> Files:
    """The files of all targets and core sets that grids ask for; ``FileNotFoundError`` without one of them."""
    targets = [config.target(name) for name in dict.fromkeys(grid.target for grid in config.grids)]
    labels = dict.fromkeys(label for grid in config.grids for label in grid.cores)
    core_sets = {label: config.entry(label).core_set for label in labels}
    return Files(
        scans={target.name: find_scans(target.scans, folder) for target in targets},
        truth={target.name: find_scans(target.truth, folder) for target in targets},
        core_scans={
            label: find_scans(config.core_sets[name], folder)
            for label, name in core_sets.items()
            if name is not None
        },
    )


def index_scans(scans: Sequence[Path], others: Sequence[Path], cache: Path) -> ScanIndex:
    """Look at the scans of one benchmark, and at other files of which only the content matters.

    ``cache`` is a JSON file that spares a second reading of scans that did not change.

    Raises:
        ValueError: an image in different tiers of different scans.
    """
    entries: dict[str, Entry] = {
        str(file.resolve()): {"sha256": data_sha256(file)} for file in {*scans, *others}
    }
    wanted = sorted({entries[str(file.resolve())]["sha256"] for file in scans})
    known: dict[str, Entry] = json.loads(cache.read_text(encoding="utf-8")) if cache.is_file() else {}
    if sorted(known) != wanted:
        known = {}

        def read() -> Iterator[Scan]:
            for file in scans:
                scan = mousev1.read_scan(file)
                known[entries[str(file.resolve())]["sha256"]] = _describe(scan)
                yield scan

        check_images_apart(read())
        write_json(cache, known)
    for file in scans:
        entry = entries[str(file.resolve())]
        entry |= known[entry["sha256"]]
    return ScanIndex(entries)


def _describe(scan: Scan) -> Entry:
    return {
        "training_images": training_images(scan),
        "units": scan.n_units,
        "match_ids": None if scan.match_ids is None else np.asarray(scan.match_ids).tolist(),
    }
