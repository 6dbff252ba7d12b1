"""What textbook stimuli are made of: parameters, carriers, apertures, and the checks of what can be shown.

Equations and conventions are those of ``mousev1.insilico.stimuli``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from mousev1.insilico.contrast import largest_michelson, modulated
from mousev1.insilico.frame import Float, Frame, Images32

Number: TypeAlias = "ArrayLike"
Parameters: TypeAlias = "dict[str, Float]"

IMAGES_AT_A_TIME = 512


def check_frequency(frame: Frame, frequency_cpd: Number, *, name: str = "frequency_cpd") -> None:
    """Raise ``ValueError`` unless spatial frequencies are positive and at most the frame's Nyquist limit."""
    values = np.asarray(frequency_cpd, dtype=np.float64).ravel()
    bad = ~((values > 0) & (values <= frame.nyquist_cpd * (1 + 1e-9)))
    if bad.any():
        raise ValueError(
            f"{name}: expected cycles per degree above 0 and at most {frame.nyquist_cpd:.4g}, half of the "
            f"frame's {frame.pixels_per_degree:g} pixels per degree (finer stripes would alias), got "
            f"{values[bad][0]:.4g}"
        )


def broadcast(**parameters: Number) -> Parameters:
    """Every parameter as (N,) float64."""
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
    try:
        full = np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items() if array.ndim)
        raise ValueError(
            f"stimulus parameters: expected numbers, or arrays that broadcast against each other, got {shapes}"
        ) from None
    for name, array in zip(arrays, full, strict=True):
        if np.isnan(array).any():
            raise ValueError(f"{name}: expected numbers, got NaN")
    return {name: array.ravel().copy() for name, array in zip(arrays, full, strict=True)}


def rendered(frame: Frame, p: Parameters, wave: Callable[[Parameters], Float]) -> Images32:
    """Gray values (N, H, W) of N waves at ``p["contrast"]``.

    ``wave`` is given the parameters and the ``number`` of some stimuli as (n, 1, 1), few enough that float64
    intermediates stay small.
    """
    count = len(p["contrast"])
    numbered = {**p, "number": np.arange(count, dtype=np.float64)}
    out = np.empty((count, frame.height, frame.width), dtype=np.float32)
    for start in range(0, count, IMAGES_AT_A_TIME):
        rows = slice(start, start + IMAGES_AT_A_TIME)
        some = {name: values[rows, None, None] for name, values in numbered.items()}
        out[rows] = modulated(wave(some), frame, p["contrast"][rows])
    return out


def from_centre(frame: Frame, p: Parameters) -> tuple[Float, Float]:
    """Degrees from each stimulus' centre: x (n, 1, W) and y (n, H, 1), up."""
    x, y = frame.grid_deg()
    return x - p["x_deg"], y - p["y_deg"]


def carrier(frame: Frame, p: Parameters) -> Float:
    """(n, H, W) from -1 to 1."""
    x, y = from_centre(frame, p)
    angle = np.deg2rad(p["orientation_deg"])
    cycles = p["frequency_cpd"] * (x * np.sin(angle) - y * np.cos(angle))
    return np.asarray(np.cos(2 * np.pi * cycles - np.deg2rad(p["phase_deg"])))


def aperture(frame: Frame, p: Parameters) -> Float:
    """(n, H, W) from 0 to 1; refused where nothing of it is on the frame."""
    x, y = from_centre(frame, p)
    radius = np.hypot(x, y)
    ppd = frame.pixels_per_degree
    outer, inner = p["diameter_deg"] / 2, p["inner_diameter_deg"] / 2
    out = np.clip((outer - radius) * ppd + 0.5, 0.0, 1.0)
    # without a hole there is no inner edge to soften
    out *= np.where(inner > 0, np.clip((radius - inner) * ppd + 0.5, 0.0, 1.0), 1.0)
    empty = ~(out > 0).any(axis=(1, 2))
    if empty.any():
        bad = {name: values[empty].flat[0] for name, values in p.items()}
        raise ValueError(
            f"inner_diameter_deg: expected an annulus of which something is on the frame, got diameters "
            f"{bad['inner_diameter_deg']:.4g} to {bad['diameter_deg']:.4g} degrees around "
            f"({bad['x_deg']:.4g}, {bad['y_deg']:.4g}) for image {bad['number']:.0f}; make the hole smaller"
        )
    return np.asarray(out)


def check_aperture(frame: Frame, p: Parameters) -> None:
    """Raise ``ValueError`` unless centres are on the frame and diameters make disks or annuli."""
    frame.check_inside(p["x_deg"], p["y_deg"])
    check_positive("diameter_deg", p["diameter_deg"])
    inner, outer = p["inner_diameter_deg"], p["diameter_deg"]
    bad = ~((inner >= 0) & (inner < outer))
    if bad.any():
        raise ValueError(
            f"inner_diameter_deg: expected 0 or more and less than diameter_deg, got {inner[bad][0]:.4g} and "
            f"{outer[bad][0]:.4g}"
        )


def check_positive(name: str, values: Float) -> None:
    """Raise ``ValueError`` unless all sizes are positive."""
    if not (values > 0).all():
        raise ValueError(f"{name}: expected positive degrees, got {values[~(values > 0)][0]:.4g}")


def check_contrast(frame: Frame, contrast: Float, *, name: str = "contrast") -> None:
    """Michelson contrasts that the range allows, whichever pixels the sine happens to fall on."""
    largest = largest_michelson(frame)
    bad = ~((contrast >= 0) & (contrast <= largest * (1 + 1e-9)))
    if bad.any():
        raise ValueError(
            f"{name}: expected a contrast from 0 to {largest:.4g}, the largest possible around a background of "
            f"{frame.background:g} in the range {frame.value_range[0]:g} to {frame.value_range[1]:g}, got "
            f"{contrast[bad][0]:.4g}; lower it or take a background nearer to the middle"
        )
