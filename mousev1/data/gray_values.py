"""Whether images have the gray values that a core expects, judged image by image and by most of their pixels.

One bright pixel says little about a scale, and one image on another scale hides among many: a check of the
extremes of a whole stack lets both through.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from mousev1.core.network import InputContract

logger = logging.getLogger("mousev1")

FEW = 0.01
"""Fraction of the pixels that may lie beyond a scale, as the overshoot of a resampling does."""
OVERSHOOT = 0.1
"""How far it reaches, at most, relative to the scale's width."""


def check_gray_values(images: Tensor, contract: InputContract) -> None:
    """Refuse images (N, C, H, W) that are not on the contract's scale.

    Raises:
        ValueError: NaN, values outside of the contract's range, or images that look scaled to 0..1; the message
            says which, on which scale they seem to be, and how to bring them to the right one.
    """
    low, high = contract.value_range
    flat = images.detach().flatten(1)
    darkest, brightest = flat.amin(dim=1), flat.amax(dim=1)
    _check_finite(flat, darkest)
    least, most = float(darkest.min()), float(brightest.max())
    expected = f"images: expected gray values from {low:g} to {high:g}, got {least:g} to {most:g}"
    outside = (darkest < low) | (brightest > high)
    if outside.any():
        raise ValueError(f"{expected}{_which(outside)}; {_remedy(flat[outside], low, high, most)}")
    if high < 10:
        return
    scaled = torch.zeros_like(outside)
    if 0 < most <= 1:
        scaled = brightest > 0
    elif images.is_floating_point():
        # fractions between 0 and 1 are no gray values; a dark image of whole ones may be
        for i in ((brightest > 0) & (brightest <= 1 + OVERSHOOT)).nonzero()[:, 0].tolist():
            scaled[i] = float((flat[i] > 1).float().mean()) <= FEW and bool(
                (flat[i] != flat[i].round()).any()
            )
    if scaled.any():
        clip = ", after clipping them there" if float(brightest[scaled].max()) > 1 else ""
        raise ValueError(f"{expected}{_which(scaled)}; they look scaled to 0..1: multiply by {high:g}{clip}")
    if high == 255 and 99 < most <= 100:
        logger.warning("images: the brightest gray value is %g: if they are percent, multiply by 2.55", most)


def _check_finite(flat: Tensor, darkest: Tensor) -> None:
    bad = darkest.isnan().nonzero()[:, 0]
    if len(bad):
        raise ValueError(
            f"images: expected finite gray values, got NaN in {len(bad)} of {len(flat)} images, the first at "
            f"index {int(bad[0])}; drop or repair them"
        )


def _which(bad: Tensor) -> str:
    """Which images a message is about; nothing if it is about all."""
    if bool(bad.all()):
        return ""
    return f" in {int(bad.sum())} of {len(bad)} images, the first at index {int(bad.nonzero()[0, 0])}"


def _remedy(flat: Tensor, low: float, high: float, most: float) -> str:
    """How to bring images (n, P) that reach beyond the range to it, by where most of their pixels are."""

    def mostly(bottom: float, top: float) -> bool:
        reach = OVERSHOOT * (top - bottom)
        within = ((flat >= bottom) & (flat <= top)).float().mean()
        return (
            float(within) >= 1 - FEW
            and float(flat.min()) >= bottom - reach
            and float(flat.max()) <= top + reach
        )

    if mostly(0.0, 1.0) and high > 1:
        return f"they look scaled to 0..1, with an overshoot: clip them there, then multiply by {high:g}"
    if mostly(low, high):
        return f"few pixels are beyond it, as after resampling: np.clip(images, {low:g}, {high:g})"
    if mostly(-1.0, 1.0):
        return f"they look scaled to -1..1: add 1 and multiply by {high / 2:g}"
    if float(flat.min()) < 0 <= low and most <= 20:
        return "they look z-scored: multiply by the standard deviation and add the mean they were made with"
    if most > 255:
        return "they look like more than 8 bits: scale them to this range"
    if high <= 1 and 50 < most <= 100:
        return "they look like percent: divide by 100"
    if high <= 1:
        return "they look like 8-bit pictures: divide by 255"
    return "scale them to this range"
