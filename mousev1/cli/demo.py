"""The main job on a small bundled example: fit, score, save, and one picture of the result."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mousev1.cli.common import save_figure
from mousev1.data.io import read_scan
from mousev1.fit.fitting import fit_scan
from mousev1.hub.cores import load_core
from mousev1.plot import score_summary
from mousev1.storage.atomic import check_replaceable, replacing

Array = npt.NDArray[Any]

SCAN = Path(__file__).parent.parent / "assets" / "demo-scan.h5"
CORE = "sim-11S"
SIMULATED = "simulated recordings, and a core trained on simulated recordings"


def run_demo(out: Path, *, progress: bool = True) -> str:
    """Fit a readout to the bundled simulated scan and write everything into a folder.

    Args:
        out: folder to make; holds ``scan.h5``, ``images/``, ``model/``, ``scores.csv`` and, with matplotlib,
            ``figure.png``.
        progress: show progress bars.

    Returns:
        The final line: what was written.
    """
    if out.exists():
        raise FileExistsError(f"--out: {out} is there already; remove it or name another folder")
    check_replaceable(out)
    scan, core = read_scan(SCAN), load_core(CORE)
    print(f"This demo uses {SIMULATED}.")
    print(scan.summary())
    model = fit_scan(scan, core=core, progress=progress)
    test = scan.trials("test")
    table = model.score(test.images, test.responses, test.image_ids)
    print(table)
    shown, recorded = _repeat_means(test.responses, test.image_ids)
    with replacing(out) as staging:
        staging.mkdir(parents=True)
        shutil.copyfile(SCAN, staging / "scan.h5")
        (staging / "images").mkdir()
        for i, image in enumerate(test.images[shown[:5]]):
            Image.fromarray(image[0]).save(staging / "images" / f"{i}.png")
        model.save(staging / "model")
        table.to_csv(staging / "scores.csv")
        predicted = model.predict(test.images[shown])
        drawn = save_figure(
            staging / "figure.png",
            lambda: score_summary(table, predicted, recorded, title=f"mousev1 demo: {SIMULATED}"),
        )
    return f"wrote {out} ({SIMULATED}): scan.h5, images/, model/, scores.csv{drawn}"


def _repeat_means(responses: Array, image_ids: Array) -> tuple[Array, Array]:
    """The first trial (I,) of every image, and its mean response over repeats (I, U)."""
    ids, first = np.unique(image_ids, return_index=True)
    return first, np.array([responses[image_ids == image].mean(axis=0) for image in ids])
