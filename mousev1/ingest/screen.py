"""From a picture on the screen to what the core sees: the frame it was trained on, in visual angle.

The screen is a map that is uniform in visual angle: its width of ``2 atan(width / 2 distance)`` degrees is
divided evenly, as in the images that the published cores were trained on (Lurz et al. 2021). A pixel of the
frame is the mean of what falls into it (antialiased, without overshoot), and gray where the picture ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.core.network import InputContract
from mousev1.ingest.recording import Float
from mousev1.ingest.report import Report
from mousev1.ingest.rig import Rig, screen_missing

MIDDLE_GRAY = 127.0


@dataclass(frozen=True)
class Placement:
    """Where pictures stand in the visual field.

    Attributes:
        width_deg, height_deg: their size; None for pictures that are the core's frame already.
        center_deg: x (right) and y (up) from the centre of the frame.
        background: gray value around them.
        gamma: of the screen; 1 if it is linear.
    """

    width_deg: float | None
    height_deg: float | None
    center_deg: tuple[float, float]
    background: float
    gamma: float


def placement(rig: Rig, shape: tuple[int, int], contract: InputContract, report: Report) -> Placement:
    """Where the rig shows its pictures, which have ``shape`` (H, W) pixels.

    Raises:
        ValueError: screen or distance are missing, and the pictures are not of the core's frame.
    """
    background = rig.background_gray
    if background is None:
        background = MIDDLE_GRAY
        report.assumed.append(
            f"the screen around the pictures has the gray value {MIDDLE_GRAY:g} (background_gray)"
        )
    width, height = rig.picture_width_deg, rig.picture_height_deg
    center, gamma = rig.picture_center_deg or (0.0, 0.0), rig.gamma or 1.0
    if rig.gamma is None:
        report.assumed.append("the screen's luminance is proportional to the gray value (gamma)")
    if missing := screen_missing(rig):
        if shape == (contract.height, contract.width):
            report.assumed.append(
                f"the pictures of {shape[0]} x {shape[1]} pixels are the core's frame already (no screen given)"
            )
            return Placement(None, None, center, background, gamma)
        raise ValueError(
            f"rig: {missing} missing, so the degrees that pictures of {shape[0]} x {shape[1]} pixels span are unknown; "
            "give them in the rig file or as options (--screen-width-cm ...), or --picture-width-deg and "
            "--picture-height-deg"
        )
    if rig.picture_pixels_per_degree is not None:
        height, width = (side / rig.picture_pixels_per_degree for side in shape)
    if width is None or height is None:
        width, height = _on_screen(rig, shape, report)
    report.notes.append(
        f"pictures: {shape[1]} x {shape[0]} pixels span {width:.1f} x {height:.1f} degrees; the core's frame spans "
        f"{contract.width / contract.pixels_per_degree:.1f} x {contract.height / contract.pixels_per_degree:.1f}"
    )
    return Placement(width, height, center, background, gamma)


def _on_screen(rig: Rig, shape: tuple[int, int], report: Report) -> tuple[float, float]:
    """Width and height in degrees of the picture on the screen."""
    sizes, how = [], []
    for side in ("width", "height"):
        screen: float = getattr(rig, f"screen_{side}_cm")
        total = 2 * math.degrees(math.atan(screen / 2 / (rig.screen_distance_cm or math.nan)))
        in_cm, in_px = getattr(rig, f"picture_{side}_cm"), getattr(rig, f"picture_{side}_px")
        screen_px = getattr(rig, f"screen_{side}_px")
        if in_cm is not None:
            share = in_cm / screen
        elif in_px is not None and screen_px is not None:
            share = in_px / screen_px
        else:
            share = 1.0
            how.append(side)
        sizes.append(share * total)
    if how:
        stretched = abs(sizes[0] / sizes[1] / (shape[1] / shape[0]) - 1) > 0.05
        report.assumed.append(
            f"pictures fill the full {' and '.join(how)} of the screen"
            + (", stretched to its proportions" if stretched else "")
        )
    return sizes[0], sizes[1]


def in_frame(picture: NDArray[Any], where: Placement, contract: InputContract) -> NDArray[np.uint8]:
    """(height, width) gray values of the core's frame, for one (H, W) picture of gray values 0 to 255."""
    shown: Float = picture.astype(np.float64)
    background = where.background
    if where.gamma != 1.0:
        shown, background = 255 * (shown / 255) ** where.gamma, 255 * (background / 255) ** where.gamma
    if where.width_deg is None or where.height_deg is None:
        return np.asarray(shown.round(), np.uint8)
    scale = contract.pixels_per_degree
    right, up = (scale * center for center in where.center_deg)
    shown, down = _averaged(shown, contract.height, where.height_deg * scale, -up)
    turned, across = _averaged(shown.T, contract.width, where.width_deg * scale, right)
    frame = turned.T + (1 - np.outer(down, across)) * background
    return np.asarray(frame.round().clip(0, 255), np.uint8)


def _averaged(rows: Float, n_frame: int, size: float, offset: float) -> tuple[Float, Float]:
    """Integral of a picture's rows over each row of the frame, and the part of that row it covers.

    The picture is ``size`` rows of the frame high, its centre ``offset`` rows below that of the frame.
    """
    step = size / len(rows)
    edges = np.clip((np.arange(n_frame + 1) - n_frame / 2 - offset + size / 2) / step, 0, len(rows))
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    row = np.minimum(edges.astype(int), len(rows) - 1)
    part = (edges - row)[:, None]
    return np.diff(total[row] * (1 - part) + total[row + 1] * part, axis=0) * step, np.diff(edges) * step
