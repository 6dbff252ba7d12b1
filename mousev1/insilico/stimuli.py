"""Textbook stimuli in degrees of visual angle: gratings, Gabors, plaids, disks and annuli.

Coordinates, orientation and the sign of y are those of ``mousev1.insilico.frame``: degrees from the frame's
centre, x right, y up; orientation of the stripes, 0 horizontal, counter-clockwise.

Every function takes numbers or arrays per parameter, broadcasts them against each other to N stimuli (in C
order if they have several axes) and returns (N, H, W) float32 gray values within the frame's range. A pixel
is the value of the equation at its centre. The **carrier** of all of them is

    w(x, y) = cos(2 pi f ((x - x0) sin(o) - (y - y0) cos(o)) - phase),

with spatial frequency f, orientation o and centre (x0, y0): at phase 0 a bright stripe runs through the
centre, and increasing phase moves the stripes along (sin o, -cos o), which is to the right for vertical
stripes and downwards for horizontal ones. Gray values are

    background + contrast * (background - black) * w,

so that the mean luminance of the underlying sine is the background and ``contrast`` its Michelson contrast.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from mousev1.insilico.contrast import modulated
from mousev1.insilico.frame import Float, Frame, Images32

Number: TypeAlias = "ArrayLike"

IMAGES_AT_A_TIME = 512


def gratings(
    frame: Frame,
    *,
    orientation_deg: Number,
    frequency_cpd: Number,
    phase_deg: Number = 0.0,
    contrast: Number = 1.0,
    x_deg: Number = 0.0,
    y_deg: Number = 0.0,
    diameter_deg: Number = np.inf,
    inner_diameter_deg: Number = 0.0,
) -> Images32:
    """Sine gratings, full-field or in an aperture; static frames of a drifting one if phases are given.

    Args:
        frame: the screen.
        orientation_deg: of the stripes, see the top of the file; o and o + 180 differ in the direction in
            which phase moves them.
        frequency_cpd: cycles per degree, above 0 and at most the frame's ``nyquist_cpd``.
        phase_deg: degrees of a cycle, at the centre.
        contrast: Michelson contrast, from 0 to what the range allows around the background.
        x_deg: centre of aperture and phase.
        y_deg: the same, up.
        diameter_deg: of a disk outside of which the screen is background; infinite for full field.
        inner_diameter_deg: of a hole in the middle: with it, the grating fills an annulus.

    Edges of apertures are anti-aliased: a linear ramp one pixel wide, centred on the edge.

    Raises:
        ValueError: a contrast or frequency that cannot be shown, or an aperture that is not on the frame.

    Example:
        >>> from mousev1.core import InputContract
        >>> frame = Frame.of(InputContract())
        >>> gratings(frame, orientation_deg=[0, 45, 90], frequency_cpd=0.04).shape
        (3, 36, 64)
    """
    p = _broadcast(
        orientation_deg=orientation_deg,
        frequency_cpd=frequency_cpd,
        phase_deg=phase_deg,
        contrast=contrast,
        x_deg=x_deg,
        y_deg=y_deg,
        diameter_deg=diameter_deg,
        inner_diameter_deg=inner_diameter_deg,
    )
    check_frequency(frame, p["frequency_cpd"])
    _check_contrast("contrast", p["contrast"], lowest=0.0)
    _check_aperture(frame, p)
    out = np.empty((len(p["contrast"]), frame.height, frame.width), dtype=np.float32)
    for rows in _chunks(len(out)):
        q = {name: values[rows] for name, values in p.items()}
        wave = _carrier(frame, q)
        if np.isfinite(q["diameter_deg"]).any() or (q["inner_diameter_deg"] > 0).any():
            wave *= _aperture(frame, q, first=rows.start)
        out[rows] = modulated(wave, frame, q["contrast"])
    return out


def gabors(
    frame: Frame,
    *,
    orientation_deg: Number,
    frequency_cpd: Number,
    phase_deg: Number = 0.0,
    contrast: Number = 1.0,
    x_deg: Number = 0.0,
    y_deg: Number = 0.0,
    length_deg: Number,
    breadth_deg: Number,
    balanced: bool = False,
) -> Images32:
    """Gabor patches: a grating under a Gaussian envelope.

    With u along and v across the stripes, in degrees from the centre, the wave is

        exp(-u^2 / (2 length^2) - v^2 / (2 breadth^2)) (w - d).

    Args:
        frame: the screen.
        orientation_deg: of the stripes.
        frequency_cpd: cycles per degree, above 0 and at most the frame's ``nyquist_cpd``.
        phase_deg: degrees of a cycle, at the centre.
        contrast: Michelson contrast of the carrier under the envelope's top.
        x_deg: centre.
        y_deg: the same, up.
        length_deg: standard deviation of the envelope along the stripes.
        breadth_deg: the same across the stripes.
        balanced: choose d so that the mean of the image is exactly the background, otherwise d = 0
            and an even Gabor of few cycles is brighter than it.

    Raises:
        ValueError: a contrast or frequency that cannot be shown, or a centre outside of the frame.
    """
    p = _broadcast(
        orientation_deg=orientation_deg,
        frequency_cpd=frequency_cpd,
        phase_deg=phase_deg,
        contrast=contrast,
        x_deg=x_deg,
        y_deg=y_deg,
        length_deg=length_deg,
        breadth_deg=breadth_deg,
    )
    check_frequency(frame, p["frequency_cpd"])
    _check_contrast("contrast", p["contrast"], lowest=0.0)
    for name in ("length_deg", "breadth_deg"):
        _check_positive(name, p[name])
    frame.check_inside(p["x_deg"], p["y_deg"])
    out = np.empty((len(p["contrast"]), frame.height, frame.width), dtype=np.float32)
    for rows in _chunks(len(out)):
        q = {name: values[rows] for name, values in p.items()}
        x, y = _from_centre(frame, q)
        angle = np.deg2rad(q["orientation_deg"])[:, None, None]
        along = (x * np.cos(angle) + y * np.sin(angle)) / q["length_deg"][:, None, None]
        across = (x * np.sin(angle) - y * np.cos(angle)) / q["breadth_deg"][:, None, None]
        envelope = np.exp(-0.5 * (along**2 + across**2))
        wave = envelope * _carrier(frame, q)
        if balanced:
            wave -= envelope * (wave.sum(axis=(1, 2)) / envelope.sum(axis=(1, 2)))[:, None, None]
        out[rows] = modulated(wave, frame, q["contrast"])
    return out


def plaids(
    frame: Frame,
    *,
    orientation_deg: Number,
    angle_deg: Number = 90.0,
    frequency_cpd: Number,
    second_frequency_cpd: Number | None = None,
    phase_deg: Number = 0.0,
    second_phase_deg: Number = 0.0,
    contrast: Number = 0.5,
    second_contrast: Number | None = None,
    x_deg: Number = 0.0,
    y_deg: Number = 0.0,
    diameter_deg: Number = np.inf,
) -> Images32:
    """Plaids: the sum of two gratings, contrast c1 w1 + c2 w2.

    Args:
        frame: the screen.
        orientation_deg: of the first grating's stripes.
        angle_deg: from the first to the second, counter-clockwise.
        frequency_cpd: of the first grating.
        second_frequency_cpd: of the second; the first's by default.
        phase_deg: of the first grating, at the centre.
        second_phase_deg: of the second.
        contrast: Michelson contrast of the first grating alone.
        second_contrast: of the second; the first's by default. Together at most what the range allows.
        x_deg: centre of aperture and phases.
        y_deg: the same, up.
        diameter_deg: of the aperture; infinite for full field.

    Raises:
        ValueError: contrasts or frequencies that cannot be shown, or an aperture that is not on the frame.
    """
    p = _broadcast(
        orientation_deg=orientation_deg,
        angle_deg=angle_deg,
        frequency_cpd=frequency_cpd,
        second_frequency_cpd=frequency_cpd if second_frequency_cpd is None else second_frequency_cpd,
        phase_deg=phase_deg,
        second_phase_deg=second_phase_deg,
        contrast=contrast,
        second_contrast=contrast if second_contrast is None else second_contrast,
        x_deg=x_deg,
        y_deg=y_deg,
        diameter_deg=diameter_deg,
    )
    p["inner_diameter_deg"] = np.zeros_like(p["x_deg"])
    for prefix in ("", "second_"):
        check_frequency(frame, p[f"{prefix}frequency_cpd"], name=f"{prefix}frequency_cpd")
        _check_contrast(f"{prefix}contrast", p[f"{prefix}contrast"], lowest=0.0)
    _check_aperture(frame, p)
    out = np.empty((len(p["contrast"]), frame.height, frame.width), dtype=np.float32)
    for rows in _chunks(len(out)):
        q = {name: values[rows] for name, values in p.items()}
        second = {
            **q,
            "orientation_deg": q["orientation_deg"] + q["angle_deg"],
            "frequency_cpd": q["second_frequency_cpd"],
            "phase_deg": q["second_phase_deg"],
        }
        total = np.maximum(q["contrast"] + q["second_contrast"], 1e-300)
        wave = (
            q["contrast"][:, None, None] * _carrier(frame, q)
            + q["second_contrast"][:, None, None] * _carrier(frame, second)
        ) / total[:, None, None]
        if np.isfinite(q["diameter_deg"]).any():
            wave *= _aperture(frame, q, first=rows.start)
        out[rows] = modulated(wave, frame, total, name="contrast + second_contrast")
    return out


def disks(
    frame: Frame,
    *,
    diameter_deg: Number,
    inner_diameter_deg: Number = 0.0,
    contrast: Number = 1.0,
    x_deg: Number = 0.0,
    y_deg: Number = 0.0,
) -> Images32:
    """Uniform disks, or annuli, on the background.

    Args:
        frame: the screen.
        diameter_deg: outer diameter, infinite for a uniform screen; edges as in ``gratings``.
        inner_diameter_deg: diameter of the hole, 0 for a disk.
        contrast: Weber contrast (disk - background) / (background - black): -1 is black, negative
            darker than the background.
        x_deg: centre.
        y_deg: the same, up.

    Raises:
        ValueError: a contrast that cannot be shown, or a disk that is not on the frame.
    """
    p = _broadcast(
        diameter_deg=diameter_deg,
        inner_diameter_deg=inner_diameter_deg,
        contrast=contrast,
        x_deg=x_deg,
        y_deg=y_deg,
    )
    _check_contrast("contrast", p["contrast"], lowest=-1.0)
    _check_aperture(frame, p)
    out = np.empty((len(p["contrast"]), frame.height, frame.width), dtype=np.float32)
    for rows in _chunks(len(out)):
        q = {name: values[rows] for name, values in p.items()}
        out[rows] = modulated(_aperture(frame, q, first=rows.start), frame, q["contrast"])
    return out


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


def _broadcast(**parameters: Number) -> dict[str, Float]:
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


def _chunks(images: int) -> list[slice]:
    return [slice(i, min(i + IMAGES_AT_A_TIME, images)) for i in range(0, images, IMAGES_AT_A_TIME)]


def _from_centre(frame: Frame, p: dict[str, Float]) -> tuple[Float, Float]:
    """Degrees from each stimulus' centre: x (N, 1, W) and y (N, H, 1), up."""
    x, y = frame.grid_deg()
    return x - p["x_deg"][:, None, None], y - p["y_deg"][:, None, None]


def _carrier(frame: Frame, p: dict[str, Float]) -> Float:
    """(N, H, W) from -1 to 1."""
    x, y = _from_centre(frame, p)
    angle = np.deg2rad(p["orientation_deg"])[:, None, None]
    cycles = p["frequency_cpd"][:, None, None] * (x * np.sin(angle) - y * np.cos(angle))
    return np.asarray(np.cos(2 * np.pi * cycles - np.deg2rad(p["phase_deg"])[:, None, None]))


def _aperture(frame: Frame, p: dict[str, Float], *, first: int) -> Float:
    """(N, H, W) from 0 to 1; refused where nothing of it is on the frame."""
    x, y = _from_centre(frame, p)
    radius = np.hypot(x, y)
    ppd = frame.pixels_per_degree
    outer, inner = (p[name][:, None, None] / 2 for name in ("diameter_deg", "inner_diameter_deg"))
    out = np.clip((outer - radius) * ppd + 0.5, 0.0, 1.0)
    # without a hole there is no inner edge to soften
    out *= np.where(inner > 0, np.clip((radius - inner) * ppd + 0.5, 0.0, 1.0), 1.0)
    empty = ~(out > 0).any(axis=(1, 2))
    if empty.any():
        bad = int(np.flatnonzero(empty)[0])
        raise ValueError(
            f"inner_diameter_deg: expected an annulus of which something is on the frame, got diameters "
            f"{p['inner_diameter_deg'][bad]:.4g} to {p['diameter_deg'][bad]:.4g} degrees around "
            f"({p['x_deg'][bad]:.4g}, {p['y_deg'][bad]:.4g}) for image {first + bad}; make the hole smaller"
        )
    return np.asarray(out)


def _check_aperture(frame: Frame, p: dict[str, Float]) -> None:
    frame.check_inside(p["x_deg"], p["y_deg"])
    _check_positive("diameter_deg", p["diameter_deg"])
    inner, outer = p["inner_diameter_deg"], p["diameter_deg"]
    bad = ~((inner >= 0) & (inner < outer))
    if bad.any():
        raise ValueError(
            f"inner_diameter_deg: expected 0 or more and less than diameter_deg, got {inner[bad][0]:.4g} and "
            f"{outer[bad][0]:.4g}"
        )


def _check_positive(name: str, values: Float) -> None:
    if not (values > 0).all():
        raise ValueError(f"{name}: expected positive degrees, got {values[~(values > 0)][0]:.4g}")


def _check_contrast(name: str, values: Float, *, lowest: float) -> None:
    if not (values >= lowest).all():
        raise ValueError(f"{name}: expected {lowest:g} or more, got {values[~(values >= lowest)][0]:.4g}")
