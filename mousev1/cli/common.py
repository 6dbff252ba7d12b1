"""What several commands need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mousev1.data.io import read_scan
from mousev1.data.scan import Scan
from mousev1.model.response_model import ResponseModel


def read(path: Path, skip_tiers: Sequence[str], *, progress: bool) -> Scan:
    """A scan without the trials of some of its file's tiers."""
    return read_scan(path, tiers=dict.fromkeys(skip_tiers) or None, progress=progress)


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse to write over something before any work is done."""
    taken = any(out.iterdir()) if out.is_dir() else out.exists()
    if taken and not overwrite:
        raise FileExistsError(f"{out} is there already; choose another name or pass --overwrite")


def same_units(scan: Scan, model: ResponseModel) -> Scan:
    """The scan's neurons in the model's order."""
    wanted = model.unit_ids.cpu().numpy()
    place = {int(unit): i for i, unit in enumerate(scan.unit_ids)}
    if missing := [int(unit) for unit in wanted if int(unit) not in place]:
        raise ValueError(
            f"scan: {len(missing)} of the model's {len(wanted)} neurons are not in {scan.name} (first: unit id "
            f"{missing[0]}); score the model on the scan it was fitted to"
        )
    return scan.select_units(np.array([place[int(unit)] for unit in wanted]))
