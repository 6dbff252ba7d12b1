"""Contrast, defined once.

With black the low end b of the value range, an image of mean m has

- **Michelson contrast** (max - min) / (max + min - 2 b): for gratings, whose extremes repeat;
- **RMS contrast** sd / (m - b), the standard deviation of its pixels over their mean luminance (divisor N):
  for everything else. A full-field grating of Michelson contrast c has RMS contrast c / sqrt(2).

For the usual range of 0 to 255, b = 0. Standard deviations in gray values, as other authors use, are RMS
contrasts times (m - b).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mousev1.insilico.frame import Float, Frame, Images32

ROUNDING = 1e-6
"""How far beyond the value range, as a fraction of it, counts as rounding."""

CLIP_STEPS = 200


def michelson_contrast(images: ArrayLike, frame: Frame) -> Float:
    """Michelson contrast of images (N, H, W), (N,), from the extremes of their pixels."""
    pixels = _pixels(images, None)
    most, least = pixels.max(axis=1) - frame.black, pixels.min(axis=1) - frame.black
    return np.asarray((most - least) / (most + least))


def rms_contrast(images: ArrayLike, frame: Frame, *, mask: ArrayLike | None = None) -> Float:
    """RMS contrast of images (N, H, W), (N,): sd / (mean - black) of the pixels.

    Args:
        images: gray values.
        frame: whose black counts.
        mask: (H, W) booleans, the pixels that count; all by default.
    """
    pixels = _pixels(images, mask)
    return np.asarray(pixels.std(axis=1) / (pixels.mean(axis=1) - frame.black))


def set_contrast(
    images: ArrayLike,
    frame: Frame,
    *,
    rms: ArrayLike,
    mean: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    clip: bool = False,
) -> Images32:
    """The same images with exactly this mean and RMS contrast.

    Every image becomes gain * image + offset. Mean and contrast are exact up to float32 rounding.

    Args:
        images: (N, H, W) of any real type and range.
        frame: value range and background.
        rms: wanted RMS contrast, a number or (N,), 0 or more.
        mean: wanted mean gray value, a number or (N,); the frame's background by default.
        mask: (H, W) booleans: only these pixels count for mean and contrast, and only they change;
            the others become the frame's background.
        clip: where gray values would leave the range, cut them off and choose gain and offset so that
            mean and contrast hold after that; otherwise such a request is refused.

    Returns:
        (N, H, W) float32 within the value range.

    Raises:
        ValueError: an image without any contrast, or a contrast beyond what the value range allows; the
            message names the largest possible one.
    """
    array = np.asarray(images, dtype=np.float64)
    inside = _mask(array, mask)
    pixels = _pixels(array, mask)
    low, high = frame.value_range
    target = _per_image("mean", frame.background if mean is None else mean, len(array))
    wanted = _per_image("rms", rms, len(array))
    if not ((target > low) & (target < high)).all():
        raise ValueError(f"mean: expected gray values between {low:g} and {high:g}, got {_span(target)}")
    if not (wanted >= 0).all():
        raise ValueError(f"rms: expected contrasts of 0 or more, got {_span(wanted)}")
    z = pixels - pixels.mean(axis=1, keepdims=True)
    sd = z.std(axis=1)
    flat = (sd <= 1e-12 * np.abs(pixels).max(axis=1)) & (wanted > 0)
    if flat.any():
        raise ValueError(
            f"images: image {int(np.flatnonzero(flat)[0])} is uniform, so that no gain gives it contrast; "
            "leave it out or ask for rms=0"
        )
    z /= np.where(sd > 0, sd, 1.0)[:, None]
    spread = wanted * (target - frame.black)
    values = target[:, None] + spread[:, None] * z
    slack = ROUNDING * (high - low)
    beyond = (values.max(axis=1) > high + slack) | (values.min(axis=1) < low - slack)
    if beyond.any():
        if not clip:
            _refuse(beyond, wanted, _largest(z, target, frame), name="rms")
        values[beyond] = _clipped(z[beyond], target[beyond], spread[beyond], frame)
    out = frame.blank(len(array)).astype(np.float64)
    out[:, inside] = np.clip(values, low, high)
    return out.astype(np.float32)


def largest_michelson(frame: Frame) -> float:
    """The largest Michelson contrast around the frame's background that its range allows."""
    low, high = frame.value_range
    return min(1.0, (high - frame.background) / (frame.background - low))


def modulated(wave: Float, frame: Frame, contrast: Float) -> Images32:
    """Gray values background + contrast * (background - black) * wave of waves (N, H, W) and contrasts (N,).

    Values beyond the frame's range are refused.
    """
    low, high = frame.value_range
    unit = frame.background - frame.black
    values = frame.background + (contrast * unit)[:, None, None] * wave
    slack = ROUNDING * (high - low)
    flat = wave.reshape(len(wave), -1)
    beyond = (values.max(axis=(1, 2)) > high + slack) | (values.min(axis=(1, 2)) < low - slack)
    if beyond.any():
        sign = np.where(contrast < 0, -1.0, 1.0)
        up, down = (sign[:, None] * flat).max(axis=1), -(sign[:, None] * flat).min(axis=1)
        with np.errstate(divide="ignore"):
            largest = np.minimum(
                (high - frame.background) / unit / np.maximum(up, 0.0), 1.0 / np.maximum(down, 0.0)
            )
        _refuse(beyond, np.abs(contrast), largest, name="contrast")
    return np.clip(values, low, high).astype(np.float32)


def _largest(z: Float, target: Float, frame: Frame) -> Float:
    """(N,) the largest RMS contrast of standardised pixels (N, P) within the range."""
    low, high = frame.value_range
    room = np.minimum((high - target) / z.max(axis=1), (target - low) / -z.min(axis=1))
    return np.asarray(room / (target - frame.black))


def _refuse(beyond: NDArray[np.bool_], wanted: Float, largest: Float, *, name: str) -> None:
    worst = int(np.flatnonzero(beyond)[0])
    hint = ", pass clip=True to cut off the extremes," if name == "rms" else ""
    raise ValueError(
        f"{name}: expected contrasts that the value range can show, got {wanted[worst]:.4g} for image {worst} "
        f"({int(beyond.sum())} of {len(beyond)} are beyond), whose largest possible contrast is "
        f"{largest[worst]:.4g}; lower it{hint} or take a mean nearer to the middle of the range"
    )


def _clipped(z: Float, target: Float, spread: Float, frame: Frame) -> Float:
    """Clipped gain * z + offset whose mean and standard deviation are as wanted."""
    low, high = frame.value_range
    gain, offset = spread.copy(), target.copy()
    for _ in range(CLIP_STEPS):
        values = np.clip(gain[:, None] * z + offset[:, None], low, high)
        mean, sd = values.mean(axis=1), values.std(axis=1)
        error = np.maximum(np.abs(mean - target), np.abs(sd - spread))
        if (error <= 1e-7 * (high - low)).all():
            return np.asarray(values)
        gain *= spread / np.maximum(sd, 1e-12)
        offset += target - mean
    worst = int(np.argmax(error))
    raise ValueError(
        f"rms: no clipped version of the image has the wanted mean {target[worst]:.4g} and contrast "
        f"{spread[worst] / (target[worst] - frame.black):.4g}; lower the contrast"
    )


def _pixels(images: ArrayLike, mask: ArrayLike | None) -> Float:
    """(N, P) the pixels that count."""
    array = np.asarray(images, dtype=np.float64)
    inside = _mask(array, mask)
    return np.asarray(array[:, inside])


def _mask(array: Float, mask: ArrayLike | None) -> NDArray[np.bool_]:
    if array.ndim != 3:
        raise ValueError(f"images: expected (N, H, W), got {array.shape}")
    if mask is None:
        return np.ones(array.shape[1:], dtype=bool)
    inside = np.asarray(mask)
    if inside.shape != array.shape[1:] or inside.dtype != bool or not inside.any():
        raise ValueError(
            f"mask: expected booleans {array.shape[1:]}, some of them True, got {inside.dtype} {inside.shape}"
        )
    return inside


def _per_image(name: str, value: ArrayLike, images: int) -> Float:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim and array.shape != (images,):
        raise ValueError(f"{name}: expected a number or ({images},), one per image, got {array.shape}")
    return np.broadcast_to(array, (images,)).copy()


def _span(values: Float) -> str:
    return f"{values.min():.4g} to {values.max():.4g}"
