"""Noise and natural stimuli: white noise, sparse noise, crops of pictures.

All are (N, H, W) float32 gray values within the frame's range, drawn from an explicit seed: the same seed
gives the same images. Mean and contrast are exact per image where said so; definitions are those of
``mousev1.insilico.contrast``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.core.network import InputContract
from mousev1.data.images import Images, Picture, prepare_images
from mousev1.data.pictures import picture_files
from mousev1.errors import check_choice
from mousev1.insilico.contrast import modulated, set_contrast
from mousev1.insilico.frame import Float, Frame, Images32

TRUNCATION = 2.5
"""Gaussian noise ends at this many standard deviations, or its tails would forbid any real contrast."""


def white_noise(
    frame: Frame,
    images: int,
    *,
    rms: float,
    seed: int,
    square_deg: float | None = None,
    distribution: str = "gaussian",
) -> Images32:
    """Noise that is independent from square to square; mean and RMS contrast exact per image.

    Args:
        frame: the screen; its background is the mean.
        images: how many, N.
        rms: RMS contrast of the pixels, see ``mousev1.insilico.contrast``.
        seed: of the noise.
        square_deg: side of the squares, rounded to whole pixels, at least one; one pixel by default.
            Squares at the right and lower border may be cut.
        distribution: of the gray values: ``"gaussian"``, ending at 2.5 standard deviations, so that
            contrasts up to about 0.37 are possible around the middle of the range; ``"binary"``, two gray
            values, up to about 1; ``"uniform"``, up to about 0.57.

    Raises:
        ValueError: a contrast beyond what the range allows; the message names the largest.
    """
    check_choice("distribution", distribution, ("gaussian", "binary", "uniform"))
    _check_count("images", images)
    side = _pixels(frame, "square_deg", square_deg)
    rng = np.random.default_rng(seed)
    shape = (images, -(-frame.height // side), -(-frame.width // side))
    if distribution == "gaussian":
        squares = _truncated_normal(rng, shape)
    elif distribution == "uniform":
        squares = rng.uniform(-1.0, 1.0, shape)
    else:
        squares = rng.choice((-1.0, 1.0), shape)
    return set_contrast(_enlarged(squares, side, frame), frame, rms=rms)


def sparse_noise(
    frame: Frame,
    images: int,
    *,
    spot_deg: float,
    spots: int = 1,
    contrast: float = 1.0,
    seed: int,
) -> Images32:
    """A few bright and dark squares per image on the background, for mapping receptive fields.

    The frame is tiled by squares from its top left corner; each image shows ``spots`` of them, drawn without
    replacement, each bright or dark with equal chance. Squares cut by the border are not used.

    Args:
        frame: the screen.
        images: how many, N.
        spot_deg: side of the squares, rounded to whole pixels, at least one.
        spots: squares per image.
        contrast: Weber contrast of a square: background +- contrast * (background - black).
        seed: of positions and signs.

    Raises:
        ValueError: more spots than squares, or a contrast that the range cannot show.
    """
    _check_count("images", images)
    side = _pixels(frame, "spot_deg", spot_deg)
    rows, columns = frame.height // side, frame.width // side
    count = rows * columns
    if not 1 <= spots <= count:
        raise ValueError(
            f"spots: expected 1 to {count}, the squares of {side} x {side} pixels on the frame, got {spots}"
        )
    if not contrast > 0:
        raise ValueError(f"contrast: expected a positive number, got {contrast}")
    rng = np.random.default_rng(seed)
    chosen = np.argsort(rng.random((images, count)), axis=1)[:, :spots]
    squares = np.zeros((images, count))
    np.put_along_axis(squares, chosen, rng.choice((-1.0, 1.0), (images, spots)), axis=1)
    wave = np.zeros((images, frame.height, frame.width))
    tiles = squares.reshape(images, rows, columns).repeat(side, axis=1).repeat(side, axis=2)
    wave[:, : rows * side, : columns * side] = tiles
    return modulated(wave, frame, np.full(images, float(contrast)))


def natural_crops(
    pictures: Images,
    frame: Frame,
    images: int,
    *,
    seed: int,
    rms: float | None = None,
    pixels_per_degree: float | None = None,
) -> Images32:
    """Pieces of pictures at random positions, as large as the frame.

    Args:
        pictures: pictures of any kind that ``mousev1.data.images.prepare_images`` takes; those of a list may
            differ in size. Each is at least as large as the frame. Colour becomes luminance.
        frame: the screen.
        images: how many crops, N; every picture gives as many as any other, up to one.
        seed: of pictures' order and positions.
        rms: give every crop this RMS contrast, and the background as its mean, extremes cut off if need be
            (``set_contrast`` with ``clip``); as they are if not given.
        pixels_per_degree: resolution of the pictures if it is not the frame's; they are resampled.

    Raises:
        ValueError: pictures smaller than the frame or not within its value range.
    """
    _check_count("images", images)
    contract = InputContract(
        value_range=frame.value_range,
        pixels_per_degree=frame.pixels_per_degree,
        height=frame.height,
        width=frame.width,
    )
    singles: Sequence[Picture]
    if isinstance(pictures, str | Path):
        singles = picture_files(pictures)
    else:
        singles = pictures if isinstance(pictures, list | tuple) else [pictures]  # type: ignore[list-item]
    stacks = [prepare_images(picture, contract, pixels_per_degree=pixels_per_degree) for picture in singles]
    every = [(stack, row) for stack in stacks for row in range(len(stack))]
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(every)) for _ in range(-(-images // len(every)))])[:images]
    out = np.empty((images, frame.height, frame.width), dtype=np.float32)
    for i, which in enumerate(order):
        stack, row = every[which]
        height, width = stack.shape[2:]
        if height < frame.height or width < frame.width:
            raise ValueError(
                f"pictures: expected at least {frame.height} x {frame.width} pixels as the frame has, got "
                f"{height} x {width} at {frame.pixels_per_degree:g} pixels per degree; give larger pictures, or "
                "their resolution as pixels_per_degree"
            )
        top = int(rng.integers(height - frame.height + 1))
        left = int(rng.integers(width - frame.width + 1))
        out[i] = stack[row, 0, top : top + frame.height, left : left + frame.width].float().numpy()
    return out if rms is None else set_contrast(out, frame, rms=rms, clip=True)


def _truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Float:
    """Normal numbers, those beyond the truncation drawn again."""
    out = rng.normal(size=shape)
    beyond = np.abs(out) > TRUNCATION
    while beyond.any():
        out[beyond] = rng.normal(size=int(beyond.sum()))
        beyond = np.abs(out) > TRUNCATION
    return out


def _enlarged(squares: NDArray[Any], side: int, frame: Frame) -> NDArray[Any]:
    large = squares.repeat(side, axis=1).repeat(side, axis=2)
    return large[:, : frame.height, : frame.width]


def _pixels(frame: Frame, name: str, degrees: float | None) -> int:
    if degrees is None:
        return 1
    if not degrees > 0:
        raise ValueError(f"{name}: expected positive degrees, got {degrees}")
    side = max(1, round(degrees * frame.pixels_per_degree))
    if side > min(frame.height, frame.width):
        raise ValueError(
            f"{name}: expected at most the frame's {min(frame.size_deg):.4g} degrees, got {degrees:g}"
        )
    return side


def _check_count(name: str, count: int) -> None:
    if count < 1:
        raise ValueError(f"{name}: expected at least 1, got {count}")
