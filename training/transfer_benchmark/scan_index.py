"""What the scans of a benchmark contain, looked at once, and that no image is in two tiers of them."""

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
from training.provenance import data_sha256, write_json
from training.transfer_benchmark.protocol import check_images_apart

Entry = dict[str, Any]


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
