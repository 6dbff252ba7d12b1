"""A benchmark's config with the files that it names, found and looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.pretraining.config import find_scans
from training.transfer_benchmark.config import BenchmarkConfig
from training.transfer_benchmark.scan_index import ScanIndex, index_scans

INDEX_FILE = "scans.json"


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
