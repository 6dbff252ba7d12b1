"""Masks around what drives a neuron, and stimuli confined to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mousev1.insilico.ascent import blurred
from mousev1.insilico.frame import Float, Frame, Images32

BLUR_PX = 2.0
OPAQUE, OPEN = 0.1, 0.3
"""Shares of the largest blurred deviation at which a mask begins to open, and at which it is open."""

ROUNDS = 100


def masks_of(images: NDArray[np.floating[Any]]) -> Images32:
    """Soft masks (N, H, W), 0 to 1, around where images (N, H, W) depart from their background.

    The absolute deviation from the image's median is blurred by two pixels; the mask rises smoothly from 0 where
    it is a tenth of its largest value to 1 where it is three tenths.
    """
    array = np.asarray(images, dtype=np.float32)
    deviation = np.abs(array - np.median(array, axis=(1, 2), keepdims=True))
    smooth = blurred(torch.from_numpy(deviation)[:, None], BLUR_PX)[:, 0].numpy()
    fraction = smooth / np.maximum(smooth.max(axis=(1, 2), keepdims=True), 1e-12)
    t = np.clip((fraction - OPAQUE) / (OPEN - OPAQUE), 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def confine(
    images: NDArray[np.floating[Any]], masks: NDArray[np.floating], frame: Frame, contrast: float
) -> Images32:
    """Images seen through masks, with the frame's background as their mean and this RMS contrast.

    Images (N, H, W) of any range become background + mask * clip(gain * image + offset); mean and contrast are those
    of the whole frame. Less contrast is reached where the range of gray values and the mask leave no room for it.
    """
    low, high = (end - frame.background for end in frame.value_range)
    norm = contrast * (frame.background - frame.black) * (frame.height * frame.width) ** 0.5
    mask = np.asarray(masks, dtype=np.float64)
    weight = np.maximum(mask.sum(axis=(1, 2), keepdims=True), 1e-12)
    z = np.asarray(images, dtype=np.float64)
    z = z - (mask * z).sum(axis=(1, 2), keepdims=True) / weight
    gain = norm / _norm(mask * z)
    most = 1e3 * gain
    offset = np.zeros_like(gain)
    for _ in range(ROUNDS):
        shown = mask * np.clip(gain * z + offset, low, high)
        gain = np.minimum(gain * norm / _norm(shown), most)
        offset = offset - shown.sum(axis=(1, 2), keepdims=True) / weight
    return np.asarray(frame.background + shown, dtype=np.float32)


def scrambled(images: NDArray[np.floating[Any]], frame: Frame, *, seed: int) -> Images32:
    """Noise with the amplitude spectrum of each image (N, H, W): its phases replaced by those of white noise.

    Gray values are not held to any range; ``mousev1.insilico.set_contrast`` does that.
    """
    rng = np.random.default_rng(seed)
    deviation = np.asarray(images, dtype=np.float64) - frame.background
    noise = np.fft.rfft2(rng.standard_normal(deviation.shape))
    amplitude = np.abs(np.fft.rfft2(deviation))
    mixed = np.fft.irfft2(amplitude * noise / np.maximum(np.abs(noise), 1e-12), s=deviation.shape[1:])
    return np.asarray(frame.background + mixed, dtype=np.float32)


def _norm(values: Float) -> Float:
    return np.asarray(np.maximum(np.sqrt(np.square(values).sum(axis=(1, 2), keepdims=True)), 1e-12))
