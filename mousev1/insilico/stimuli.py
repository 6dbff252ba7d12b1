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

import numpy as np

from mousev1.insilico.frame import Float, Frame, Images32
from mousev1.insilico.stimulus_parameters import (
    Number,
    Parameters,
    aperture,
    broadcast,
    carrier,
    check_aperture,
    check_contrast,
    check_frequency,
    check_positive,
    from_centre,
    rendered,
)


def gratings(  # noqa: PLR0913
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
        >>> from mousev1.core.network import InputContract
        >>> frame = Frame.of(InputContract())
        >>> gratings(frame, orientation_deg=[0, 45, 90], frequency_cpd=0.04).shape
        (3, 36, 64)
    """
    p = broadcast(
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
    check_contrast(frame, p["contrast"])
    check_aperture(frame, p)
    return rendered(frame, p, lambda q: carrier(frame, q) * aperture(frame, q))


def gabors(  # noqa: PLR0913
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
    p = broadcast(
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
    check_contrast(frame, p["contrast"])
    for name in ("length_deg", "breadth_deg"):
        check_positive(name, p[name])
    frame.check_inside(p["x_deg"], p["y_deg"])

    def patch(q: Parameters) -> Float:
        x, y = from_centre(frame, q)
        angle = np.deg2rad(q["orientation_deg"])
        along = (x * np.cos(angle) + y * np.sin(angle)) / q["length_deg"]
        across = (x * np.sin(angle) - y * np.cos(angle)) / q["breadth_deg"]
        envelope = np.exp(-0.5 * (along**2 + across**2))
        wave = envelope * carrier(frame, q)
        if balanced:
            mean, weight = (values.sum(axis=(1, 2), keepdims=True) for values in (wave, envelope))
            wave -= envelope * (mean / weight)
        return np.asarray(wave)

    return rendered(frame, p, patch)


def plaids(  # noqa: PLR0913
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
    p = broadcast(
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
        check_contrast(frame, p[f"{prefix}contrast"], name=f"{prefix}contrast")
    check_contrast(frame, p["contrast"] + p["second_contrast"], name="contrast + second_contrast")
    check_aperture(frame, p)
    p["first_contrast"] = p["contrast"]
    p["contrast"] = np.maximum(p["first_contrast"] + p["second_contrast"], 1e-300)

    def plaid(q: Parameters) -> Float:
        second = {
            **q,
            "orientation_deg": q["orientation_deg"] + q["angle_deg"],
            "frequency_cpd": q["second_frequency_cpd"],
            "phase_deg": q["second_phase_deg"],
        }
        both = q["first_contrast"] * carrier(frame, q) + q["second_contrast"] * carrier(frame, second)
        return np.asarray(both / q["contrast"] * aperture(frame, q))

    return rendered(frame, p, plaid)


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
    p = broadcast(
        diameter_deg=diameter_deg,
        inner_diameter_deg=inner_diameter_deg,
        contrast=contrast,
        x_deg=x_deg,
        y_deg=y_deg,
    )
    low, high = frame.value_range
    brightest = (high - frame.background) / (frame.background - low)
    bad = ~((p["contrast"] >= -1) & (p["contrast"] <= brightest * (1 + 1e-9)))
    if bad.any():
        raise ValueError(
            f"contrast: expected a Weber contrast from -1 (black) to {brightest:.4g} (white), the largest possible "
            f"on a background of {frame.background:g}, got {p['contrast'][bad][0]:.4g}"
        )
    check_aperture(frame, p)
    return rendered(frame, p, lambda q: aperture(frame, q))
