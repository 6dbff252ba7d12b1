"""From tuning curves to numbers: pure functions of arrays.

Curves are **evoked** responses, the response less that to an empty screen, along the last axis; leading axes
(neurons, posterior draws) are arbitrary. Where a curve has no positive peak, everything is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mousev1.insilico.frame import Float

FINE = 180
"""Angles at which a curve over orientation is interpolated: one degree."""

CURVES_AT_A_TIME = 4096

EXPONENTS = np.linspace(0.6, 5.0, 23)
SEMI_SATURATIONS = np.geomspace(0.01, 4.0, 73)


def peak_offset(curve: Float, peak: NDArray[np.intp], *, circular: bool) -> Float:
    """Top of the parabola through the peaks (...) of curves (..., K) and their neighbours, -0.5 to 0.5 samples away.

    In a circular curve the last sample is a neighbour of the first; at an end of any other the offset is 0.
    """
    last = curve.shape[-1] - 1
    before = (peak - 1) % (last + 1) if circular else np.maximum(peak - 1, 0)
    after = (peak + 1) % (last + 1) if circular else np.minimum(peak + 1, last)
    left, top, right = (_pick(curve, index) for index in (before, peak, after))
    bend = left - 2 * top + right
    inside = (bend < 0) & (circular | ((peak > 0) & (peak < last)))
    offset = 0.5 * (left - right) / np.where(inside, bend, -1.0)
    return np.where(inside, np.clip(offset, -0.5, 0.5), 0.0)


def best_grating(surface: Float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices (...) of the largest entry of surfaces (..., K, F)."""
    flat = surface.reshape(*surface.shape[:-2], -1).argmax(axis=-1)
    row, column = np.unravel_index(flat, surface.shape[-2:])
    return row, column


def cross_sections(surface: Float, row: NDArray[np.intp], column: NDArray[np.intp]) -> tuple[Float, Float]:
    """Curves (..., K) through a column and (..., F) through a row of surfaces (..., K, F)."""
    down = np.take_along_axis(surface, column[..., None, None], axis=-1)[..., 0]
    across = np.take_along_axis(surface, row[..., None, None], axis=-2)[..., 0, :]
    return down, across


def preferred_orientation(curve: Float) -> Float:
    """Degrees, 0 to 180, of the mean vector sum r exp(2 i o) of curves over K orientations from 0.

    The angle that belongs to ``orientation_selectivity`` (Mazurek et al. 2014, Front. Neural Circuits 8:92). All
    samples have a say, so that it is known better than the peak; for a symmetric curve the two are the same.
    """
    return _where_driven(curve, np.rad2deg(np.angle(_vector_sum(curve))) / 2 % 180.0)


def peak_orientation(curve: Float) -> Float:
    """Degrees, 0 to 180, of the interpolated peak of curves over K orientations from 0."""
    fine = _fine(curve)
    peak = fine.argmax(axis=-1)
    angle = (peak + peak_offset(fine, peak, circular=True)) * 180.0 / FINE
    return _where_driven(curve, angle % 180.0)


def preferred_on_log_axis(curve: Float, values: ArrayLike) -> Float:
    """The peak of curves over values in geometric steps, by a parabola in the logarithm."""
    log = np.log(np.asarray(values, dtype=np.float64))
    peak = curve.argmax(axis=-1)
    step = log[1] - log[0] if len(log) > 1 else 0.0
    return _where_driven(curve, np.exp(log[peak] + step * peak_offset(curve, peak, circular=False)))


def orientation_selectivity(curve: Float) -> Float:
    """1 - circular variance: |sum r exp(2 i o)| / sum r, 0 to 1, of curves over orientation.

    Ringach et al. 2002 (J. Neurosci. 22:5639). Responses below those to the empty screen count as none.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.abs(_vector_sum(curve)) / np.maximum(curve, 0.0).sum(axis=-1)
    return _where_driven(curve, out)


def orientation_index(curve: Float) -> Float:
    """(R_pref - R_orth) / (R_pref + R_orth), 0 to 1, of curves over orientation.

    Niell & Stryker 2008 (J. Neurosci. 28:7520). Both are read off the interpolated curve; R_orth below the
    response to the empty screen counts as 0.
    """
    fine = np.maximum(_fine(curve), 0.0)
    peak = fine.argmax(axis=-1)
    best, orthogonal = _pick(fine, peak), _pick(fine, (peak + FINE // 2) % FINE)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = (best - orthogonal) / (best + orthogonal)
    return _where_driven(curve, out)


def half_width(curve: Float) -> Float:
    """Half width at half height in degrees of curves over orientation.

    Half of the angle between the two sides where the interpolated evoked response falls to half of its peak;
    NaN where it never falls so low.
    """
    fine = _fine(curve)
    peak = fine.argmax(axis=-1)
    order = (peak[..., None] + np.arange(FINE)) % FINE
    centred = np.take_along_axis(fine, order, axis=-1)
    height = centred[..., :1] / 2
    right = _first_below(centred, height)
    left = _first_below(np.concatenate([centred[..., :1], centred[..., :0:-1]], axis=-1), height)
    return _where_driven(curve, (left + right) / 2 * 180.0 / FINE)


def half_height_range(curve: Float, values: ArrayLike) -> tuple[Float, Float]:
    """Where curves over values in geometric steps fall to half of their peak, on both sides.

    Linear between samples in the logarithm; NaN on a side where the curve does not fall so low.
    """
    log = np.log(np.asarray(values, dtype=np.float64))
    step = log[1] - log[0] if len(log) > 1 else 0.0
    peak = curve.argmax(axis=-1)
    height = _pick(curve, peak)[..., None] / 2
    ends = []
    for sign in (-1, 1):
        index = peak[..., None] + sign * np.arange(curve.shape[-1])
        inside = (index >= 0) & (index < curve.shape[-1])
        side = np.take_along_axis(curve, np.clip(index, 0, curve.shape[-1] - 1), axis=-1)
        # beyond the last sample nothing is known
        distance = _first_below(np.where(inside, side, np.inf), height)
        ends.append(_where_driven(curve, np.exp(log[peak] + sign * step * distance)))
    return ends[0], ends[1]


def modulation(cycle: Float) -> tuple[Float, Float]:
    """F1 / F0 and preferred phase in degrees of curves over P equal steps of phase.

    F0 is the mean of the evoked response and F1 the amplitude of its first harmonic; above 1 is a simple cell
    and below a complex one (Skottun et al. 1991, Vision Res. 31:1079). Phase is -180 to 180, the phase of
    the stimulus at which the first harmonic peaks.
    """
    steps = np.exp(2j * np.pi * np.arange(cycle.shape[-1]) / cycle.shape[-1])
    first, mean = 2 * (cycle * steps).mean(axis=-1), cycle.mean(axis=-1)
    driven = mean > 0
    ratio = np.where(driven, np.abs(first) / np.where(driven, mean, 1.0), np.nan)
    return ratio, np.where(driven, np.rad2deg(np.angle(first)), np.nan)


def suppression(curve: Float) -> Float:
    """Surround suppression index of curves over size: 1 - R(largest) / R(preferred), both evoked."""
    best = curve.max(axis=-1)
    driven = best > 0
    return np.where(driven, 1.0 - curve[..., -1] / np.where(driven, best, 1.0), np.nan)


def naka_rushton(curve: Float, contrasts: ArrayLike) -> tuple[Float, Float, Float, Float]:
    """Least-squares fits of R_max c^n / (c^n + c50^n) to curves over contrast.

    Naka & Rushton 1966 (J. Physiol. 185:536); Albrecht & Hamilton 1982 (J. Neurophysiol. 48:217). The best
    of a grid of n (0.6 to 5) and c50 (0.01 to 4), R_max being linear; c50 is refined by a parabola. A c50
    above the largest contrast means that the curve does not saturate. Returns c50, n, R_max and R^2 about the
    mean of the curve, (...) each.
    """
    c = np.asarray(contrasts, dtype=np.float64)
    n, c50 = (grid.ravel() for grid in np.meshgrid(EXPONENTS, SEMI_SATURATIONS, indexing="ij"))
    shapes = c ** n[:, None] / (c ** n[:, None] + c50[:, None] ** n[:, None])
    norms = np.sqrt(np.square(shapes).sum(axis=1))
    shapes /= norms[:, None]
    flat = curve.reshape(-1, len(c))
    out = np.full((4, len(flat)), np.nan)
    log = np.log(SEMI_SATURATIONS)
    for start in range(0, len(flat), CURVES_AT_A_TIME):
        part = flat[start : start + CURVES_AT_A_TIME]
        along = part @ shapes.T
        best = along.argmax(axis=1)
        by_c50 = along.reshape(len(part), len(EXPONENTS), -1)[np.arange(len(part)), best // len(log)]
        peak = best % len(log)
        refined = np.exp(log[peak] + (log[1] - log[0]) * peak_offset(by_c50, peak, circular=False))
        top = _pick(along, best)
        total = np.square(part - part.mean(axis=1, keepdims=True)).sum(axis=1)
        residual = np.square(part).sum(axis=1) - np.square(top)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.stack([refined, n[best], top / norms[best], 1.0 - residual / total])
        found[:, ~((part.max(axis=1) > 0) & (total > 0))] = np.nan
        out[:, start : start + len(part)] = found
    c50, n, top, r2 = out.reshape(4, *curve.shape[:-1])
    return c50, n, top, r2


def _vector_sum(curve: Float) -> NDArray[np.complex128]:
    """Sum over orientations o of positive responses times exp(2 i o), (...)."""
    angle = 2 * np.pi * np.arange(curve.shape[-1]) / curve.shape[-1]
    return np.asarray((np.maximum(curve, 0.0) * np.exp(1j * angle)).sum(axis=-1))


def _fine(curve: Float) -> Float:
    """Curves over orientation at one-degree steps, by trigonometric interpolation."""
    spectrum = np.fft.rfft(curve, axis=-1)
    if curve.shape[-1] % 2 == 0:
        # the highest frequency of an even number of samples is shared by both signs
        spectrum[..., -1] *= 0.5
    return np.asarray(np.fft.irfft(spectrum, n=FINE, axis=-1) * (FINE / curve.shape[-1]))


def _first_below(curve: Float, height: Float) -> Float:
    """Distance in samples, from the first, at which curves (..., K) first fall below (..., 1) heights."""
    below = curve < height
    index = below.argmax(axis=-1)
    before, after = _pick(curve, np.maximum(index - 1, 0)), _pick(curve, index)
    found = (index > 0) & np.isfinite(before)
    fall = np.where(found, before - after, 1.0)
    part = np.where(found, before - height[..., 0], 0.0) / fall
    return np.where(found, index - 1 + part, np.nan)


def _pick(values: Float, index: NDArray[np.intp]) -> Float:
    return np.take_along_axis(values, index[..., None], axis=-1)[..., 0]


def _where_driven(curve: Float, values: Float) -> Float:
    return np.where(curve.max(axis=-1) > 0, values, np.nan)
