"""Procedural images with the statistics of natural ones: opaque leaves that hide one another.

Dead leaves with radii distributed as r^-3 are scale invariant: power falls with about the square of
frequency, edges are sharp, and objects occlude one another (Ruderman 1997, Vision Res. 37:3385; Lee,
Mumford & Huang 2001, Int. J. Comput. Vis. 41:35). Texture with 1/f amplitude lies on every leaf, and a
smooth light over all. Constants are tuned to the gray levels and the spectrum of photographs.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Float = NDArray[np.float32]

CANVAS = 640
"""Side of a square canvas in its own pixels; two of them make one pixel of an image."""

OVERSAMPLING = 2
RADII = (4.0, 400.0)
COVERAGE = 4.0
"""Summed area of the leaves over the canvas; more hide all but e^-4 of what lies below."""

LEAF_SD = 1.0
LIGHT_SD = 0.5
EXPOSURE_SD = 0.5
SLOPE, OFFSET = 0.91, -0.24
"""Gray = 255 * sigmoid(SLOPE * z + OFFSET): mean 118, SD 58, as in 8-bit photographs."""


def dead_leaves(
    rng: np.random.Generator, images: int, *, height: int, width: int, per_canvas: int, texture: float
) -> NDArray[np.uint8]:
    """(N, H, W) images, cut from as many canvases as it takes.

    The ``per_canvas`` images of one canvas may overlap, so a canvas belongs to one tier. ``texture`` is its SD in
    units of the leaves'.
    """
    tall, wide = height * OVERSAMPLING, width * OVERSAMPLING
    side = max(CANVAS, tall, wide)
    out = np.empty((images, height, width), dtype=np.uint8)
    for start in range(0, images, per_canvas):
        canvas = _canvas(rng, side, texture)
        # Always a full canvas's worth, so that asking for more images keeps the first ones.
        rows = rng.integers(0, side - tall + 1, per_canvas)
        columns = rng.integers(0, side - wide + 1, per_canvas)
        for i in range(min(per_canvas, images - start)):
            row, column = rows[i], columns[i]
            crop = canvas[row : row + tall, column : column + wide]
            blocks = crop.reshape(height, OVERSAMPLING, width, OVERSAMPLING)
            out[start + i] = np.rint(blocks.mean(axis=(1, 3)))
    return out


def _canvas(rng: np.random.Generator, side: int, texture: float) -> Float:
    """(side, side) gray levels 0 to 255."""
    labels = _leaf_labels(rng, side)
    leaves = int(labels.max()) + 1
    shade = rng.normal(rng.normal(0.0, EXPOSURE_SD), LEAF_SD, leaves).astype(np.float32)
    roughness = (texture * LEAF_SD * rng.gamma(2.0, 0.5, leaves)).astype(np.float32)
    grain, light = _power_law_noise(rng, side, 1.0), _power_law_noise(rng, side, 2.0)
    # Neighbouring leaves must not share a texture: half of them get it mirrored.
    mirrored = rng.uniform(size=leaves) < 0.5
    z = (
        shade[labels]
        + roughness[labels] * np.where(mirrored[labels], grain[::-1].T, grain)
        + LIGHT_SD * light
    )
    gray = 255.0 / (1.0 + np.exp(-(SLOPE * z + OFFSET)))
    return np.asarray(gray, dtype=np.float32)


def _leaf_labels(rng: np.random.Generator, side: int) -> NDArray[np.int32]:
    """(side, side) number of the topmost leaf at each pixel."""
    low, high = RADII
    mean_area = np.pi * 2 * np.log(high / low) / (low**-2 - high**-2)
    reach = side + 2 * high
    count = round(COVERAGE * reach**2 / mean_area)
    # Inverse of the cumulative distribution of r^-3 between the two radii.
    radius = (low**-2 - rng.uniform(size=count) * (low**-2 - high**-2)) ** -0.5
    centre = rng.uniform(-high, side + high, (count, 2))
    visible = ((centre > -radius[:, None]) & (centre < side + radius[:, None])).all(axis=1)
    radius, centre = radius[visible], centre[visible]
    count = len(radius)
    stretch = np.exp(rng.normal(0.0, 0.45, count))
    angle = rng.uniform(0.0, np.pi, count)
    smooth = np.clip(radius * 1.5, 8, 32).astype(np.int64)
    corners = np.where(rng.uniform(size=count) < 0.5, smooth, rng.integers(3, 7, count))
    twist = rng.uniform(0.0, 2 * np.pi, count)
    # All corners of all leaves in one row: a loop over leaves would take most of the time.
    leaf = np.repeat(np.arange(count), corners)
    last = np.cumsum(corners)
    turn = twist[leaf] + 2 * np.pi * (np.arange(len(leaf)) - (last - corners)[leaf]) / corners[leaf]
    a = (radius * stretch)[leaf] * np.cos(turn)
    b = (radius / stretch)[leaf] * np.sin(turn)
    cos, sin = np.cos(angle)[leaf], np.sin(angle)[leaf]
    points = np.column_stack([centre[leaf, 0] + a * cos - b * sin, centre[leaf, 1] + a * sin + b * cos])
    flat = points.ravel().tolist()
    image = Image.new("I", (side, side), 0)
    draw = ImageDraw.Draw(image)
    for i, (end, number) in enumerate(zip(last.tolist(), corners.tolist(), strict=True)):
        draw.polygon(flat[2 * (end - number) : 2 * end], fill=i + 1)
    return np.asarray(image, dtype=np.int32)


def _power_law_noise(rng: np.random.Generator, side: int, exponent: float) -> Float:
    """(side, side) Gaussian noise of variance 1 whose amplitude falls with frequency^-exponent."""
    white = rng.standard_normal((side, side), dtype=np.float32)
    field = np.fft.irfft2(np.fft.rfft2(white) * _amplitudes(side, exponent), s=(side, side))
    return np.asarray(field / field.std(), dtype=np.float32)


@cache
def _amplitudes(side: int, exponent: float) -> Float:
    """(side, side // 2 + 1) amplitude of each frequency of a real transform, none at zero."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    return np.asarray(frequency**-exponent, dtype=np.float32)
