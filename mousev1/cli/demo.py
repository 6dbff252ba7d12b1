"""The main job on a small bundled example: fit, score, save, and one picture of the result."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mousev1.data.io import read_scan
from mousev1.data.scan import Scan
from mousev1.fit.fitting import fit_scan
from mousev1.hub.cores import load_core
from mousev1.metrics.unit_scores import ScoreTable
from mousev1.model.response_model import ResponseModel
from mousev1.storage.atomic import replacing

SCAN = Path(__file__).parent.parent / "assets" / "demo-scan.h5"
CORE = "sim-11S"
SIMULATED = "simulated recordings, and a core trained on simulated recordings"

INK, GREY, BLUE, RED = "#222222", "#bbbbbb", "#2b6cb0", "#c05621"
PANEL, MARGIN = 400, 70


def run_demo(out: Path, *, progress: bool = True) -> str:
    """Fit a readout to the bundled simulated scan and write everything into a folder.

    Args:
        out: folder to make; holds ``scan.h5``, ``images/``, ``model/``, ``scores.csv``, ``figure.png``.
        progress: show progress bars.

    Returns:
        The final line: what was written.
    """
    if out.exists():
        raise FileExistsError(f"--out: {out} is there already; remove it or name another folder")
    scan, core = read_scan(SCAN), load_core(CORE)
    print(f"This demo uses {SIMULATED}.")
    print(scan.summary())
    model = fit_scan(scan, core=core, progress=progress)
    test = scan.trials("test")
    table = model.score(test.images, test.responses, test.image_ids)
    print(table)
    with replacing(out) as staging:
        staging.mkdir(parents=True)
        shutil.copyfile(SCAN, staging / "scan.h5")
        (staging / "images").mkdir()
        for i, image in enumerate(_distinct(test.images, test.image_ids)[:5]):
            Image.fromarray(image[0]).save(staging / "images" / f"{i}.png")
        model.save(staging / "model")
        table.to_csv(staging / "scores.csv")
        draw_result(model, scan, table).save(staging / "figure.png")
    return f"wrote {out}: scan.h5, images/, model/, scores.csv and figure.png ({SIMULATED})"


def draw_result(model: ResponseModel, scan: Scan, table: ScoreTable) -> Image.Image:
    """Two panels: every neuron's score against its oracle, and the best neuron's test responses."""
    canvas = Image.new("RGB", (2 * PANEL + 3 * MARGIN, PANEL + 2 * MARGIN + 20), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 12), f"mousev1 demo: {SIMULATED}", INK, ImageFont.load_default(18))

    oracle, score = table["oracle_correlation"], table["single_trial_correlation"]
    defined = np.isfinite(oracle) & np.isfinite(score)
    both = np.concatenate([oracle[defined], score[defined]])
    low, top = (float(bound) for bound in (np.floor(10 * both.min()) / 10, np.ceil(10 * both.max()) / 10))
    left = _Axes(draw, MARGIN, MARGIN, (low, top), (low, top))
    left.frame("oracle correlation (what repeats allow)", "model correlation, single trials", 0.1)
    left.line([low, top], [low, top], GREY)
    slope = table.fraction_oracle
    left.line([0, min(top, top / slope)], [0, min(top, top * slope)], BLUE)
    left.dots(oracle[defined], score[defined], BLUE)
    left.note(f"slope (fraction oracle) {slope:.2f}, {int(defined.sum())} neurons", BLUE)

    best = int(np.nanargmax(score))
    test = scan.trials("test")
    ids, first = np.unique(test.image_ids, return_index=True)
    recorded = np.array([test.responses[test.image_ids == image, best].mean() for image in ids])
    predicted = model.predict(test.images[first])[:, best]
    order = np.argsort(predicted)
    high = 1.1 * float(max(recorded.max(), predicted.max()))
    right = _Axes(draw, PANEL + 2 * MARGIN, MARGIN, (0, len(ids) - 1), (0.0, high))
    right.frame("test images, sorted by prediction", f"response of neuron {table['unit_ids'][best]}", None)
    right.dots(np.arange(len(ids)), recorded[order], RED)
    right.line(np.arange(len(ids)), predicted[order], BLUE)
    right.note("line: predicted; dots: mean of the repeats", INK)
    return canvas


class _Axes:
    """One panel of the figure: data coordinates to pixels, frame and ticks."""

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        left: int,
        top: int,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
    ) -> None:
        self.draw, self.left, self.top = draw, left, top
        self.x_range, self.y_range = x_range, y_range
        self.font = ImageFont.load_default(14)

    def at(self, x: float, y: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        return self.left + PANEL * (x - x0) / (x1 - x0), self.top + PANEL * (1 - (y - y0) / (y1 - y0))

    def frame(self, x_label: str, y_label: str, tick: float | None) -> None:
        self.draw.rectangle((self.left, self.top, self.left + PANEL, self.top + PANEL), outline=INK)
        bottom = self.top + PANEL
        self.draw.text((self.left + PANEL / 2, bottom + 42), x_label, INK, self.font, anchor="mm")
        self.draw.text((self.left, self.top - 14), y_label, INK, self.font, anchor="lm")
        if tick is None:
            return
        for value in np.arange(self.x_range[0], self.x_range[1] + tick / 2, tick):
            x, y = self.at(value, value)
            self.draw.text((x, bottom + 14), f"{value:.1f}", INK, self.font, anchor="mm")
            self.draw.text((self.left - 8, y), f"{value:.1f}", INK, self.font, anchor="rm")

    def line(self, x: np.ndarray | list[float], y: np.ndarray | list[float], colour: str) -> None:
        self.draw.line([self.at(a, b) for a, b in zip(x, y, strict=True)], fill=colour, width=2)

    def dots(self, x: np.ndarray, y: np.ndarray, colour: str) -> None:
        for a, b in zip(x, y, strict=True):
            self.draw.circle(self.at(a, b), 3, fill=colour)

    def note(self, text: str, colour: str) -> None:
        self.draw.text((self.left + 10, self.top + 16), text, colour, self.font, anchor="lm")


def _distinct(images: np.ndarray, ids: np.ndarray) -> np.ndarray:
    _, first = np.unique(ids, return_index=True)
    return images[first]
