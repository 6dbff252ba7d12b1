"""What several commands need."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mousev1.data.io import read_scan
from mousev1.data.scan import Scan
from mousev1.metrics.score_table import ScoreTable
from mousev1.model.response_model import ResponseModel
from mousev1.plot.figure import check_matplotlib, save
from mousev1.storage.atomic import check_replaceable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger("mousev1")


def read(options: Namespace, path: Path | None = None) -> Scan:
    """The scan of a command (``options.scan``, or at another path), as its options for reading say."""
    tiers: dict[str, str | None] = dict.fromkeys(options.skip_tier)
    for pair in filter(None, options.tiers.split(",")):
        name, equals, meaning = pair.partition("=")
        if not equals:
            raise ValueError(f"--tiers: expected NAME=TIER, such as val=validation, got {pair!r}")
        tiers[name.strip()] = meaning.strip() or None
    return read_scan(
        path or options.scan,
        tiers=tiers or None,
        negatives=options.negatives,
        drop=options.drop,
        progress=not getattr(options, "quiet", True),
    )


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse to write over something, or where nothing can be written, before any work is done."""
    check_replaceable(out)
    taken = any(out.iterdir()) if out.is_dir() else out.exists()
    if taken and not overwrite:
        raise FileExistsError(f"{out} is there already; choose another name or pass --overwrite")


def note_numbered(scan: Scan) -> None:
    """Say so if the neurons of a scan can only be found by their number in its file."""
    if np.array_equal(scan.unit_ids, np.arange(scan.n_units)):
        logger.warning(
            "%s: unit ids are numbers from 0 to %d, as neurons without ids of their own get them: neurons are "
            "matched by their order in the file, so that the scan and what it is joined with must have the same order",
            scan.name,
            scan.n_units - 1,
        )


def same_units(scan: Scan, model: ResponseModel) -> Scan:
    """The scan's neurons in the model's order."""
    note_numbered(scan)
    wanted = model.unit_ids.cpu().numpy()
    column = {int(unit): i for i, unit in enumerate(scan.unit_ids)}
    if missing := [int(unit) for unit in wanted if int(unit) not in column]:
        raise ValueError(
            f"scan: {len(missing)} of the model's {len(wanted)} neurons are not in {scan.name} (first: unit id "
            f"{missing[0]}); score the model on the scan it was fitted to"
        )
    return scan.select_units(np.array([column[int(unit)] for unit in wanted]))


def score_tier(model: ResponseModel, scan: Scan, tier: str, *, progress: bool) -> ScoreTable:
    """Scores of a model on the trials of one tier of a scan with its neurons."""
    trials = scan.trials(tier)
    return model.score(
        trials.images,
        trials.responses,
        trials.image_ids,
        pixels_per_degree=model.record.pixels_per_degree,
        progress=progress,
    )


def save_figure(path: Path, draw: Callable[[], Figure]) -> str:
    """Draw and write a figure; the end of the final line, which says so or why there is none."""
    try:
        check_matplotlib()
    except ModuleNotFoundError:
        return "; no figure, because matplotlib is not installed: pip install matplotlib"
    save(draw(), path)
    return f" and {path.name}"
