"""Where on cortex a neuron sits and where on the monitor it looks.

Frames: cortex in micrometres (x lateral, y anterior, z depth below the surface), monitor in image
pixels (x to the right, y down, (0, 0) the centre of the first pixel).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousev1.core.network import InputContract
from training.simulation.settings import RetinotopyConfig

Array = NDArray[np.float64]

PIXELS_PER_DEGREE = InputContract().pixels_per_degree
DEPTH_UM = (150.0, 300.0)
"""Layer 2/3, where the recordings of the paper were made."""

MOTOR_ORIGIN_SD_UM = 300.0
"""Real files give stage coordinates, whose origin has nothing to do with the field of view."""


@dataclass(frozen=True)
class AffineMap:
    """Cortex to monitor: pixels (x, y) = matrix (2, 2) @ micrometres + offset (2,)."""

    matrix: Array
    offset: Array

    def __call__(self, positions: NDArray[np.floating]) -> Array:
        """(U, 2) or (U, 3) micrometres to (U, 2) pixels (x, y)."""
        return np.asarray(positions[:, :2] @ self.matrix.T + self.offset, dtype=np.float64)


def draw_positions(rng: np.random.Generator, units: int, field_um: float) -> Array:
    """(U, 3) cortical positions in micrometres, uniform in the imaged field and over layer 2/3."""
    plane = rng.uniform(-field_um / 2, field_um / 2, (units, 2))
    depth = rng.uniform(*DEPTH_UM, (units, 1))
    origin = rng.normal(0.0, MOTOR_ORIGIN_SD_UM, 2)
    return np.hstack([plane + origin, depth])


def draw_map(
    rng: np.random.Generator,
    config: RetinotopyConfig,
    *,
    centre_um: Array,
    height: int,
    width: int,
) -> AffineMap:
    """The map of one animal's field of view.

    Magnification, rotation of the cranial window and the population's position on the monitor are
    drawn per animal. The map has V1's one handedness: moving laterally on cortex moves the
    receptive field towards the nose, moving anterior moves it down, before the rotation.
    """
    spread = np.exp(rng.normal(0.0, config.magnification_spread, 2))
    scale = spread * (config.azimuth_deg_per_mm, config.elevation_deg_per_mm) * PIXELS_PER_DEGREE / 1000.0
    angle = np.deg2rad(rng.normal(0.0, config.rotation_sd_deg))
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.diag([-scale[0], scale[1]]) @ np.array([[cos, -sin], [sin, cos]])
    looks_at = np.array([(width - 1) / 2, (height - 1) / 2])
    looks_at = looks_at + rng.normal(0.0, config.centre_sd_deg * PIXELS_PER_DEGREE, 2)
    return AffineMap(matrix, looks_at - matrix @ centre_um[:2])


def scatter_fields(
    rng: np.random.Generator,
    mapped: Array,
    config: RetinotopyConfig,
    *,
    height: int,
    width: int,
) -> Array:
    """Receptive-field centres (U, 2) in pixels: the map plus scatter, kept inside the frame.

    Scatter that leads out of the frame less its margin is drawn again; a neuron whose mapped centre
    itself lies outside ends up on the border.
    """
    low = np.full(2, config.margin_px)
    high = np.array([width - 1, height - 1]) - config.margin_px
    sd = config.scatter_sd_deg * PIXELS_PER_DEGREE
    fields = mapped + rng.normal(0.0, sd, mapped.shape)
    for _ in range(20):
        outside = ((fields < low) | (fields > high)).any(axis=1)
        if not outside.any():
            break
        fields[outside] = mapped[outside] + rng.normal(0.0, sd, (int(outside.sum()), 2))
    return np.clip(fields, low, high)
