"""Gaussians and Gabors fitted to maps of receptive fields, in degrees and cycles per degree.

The equations are those of ``mousev1.insilico.least_squares``; here are starting points, bounds and neurons.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mousev1.insilico import least_squares
from mousev1.insilico.frame import Float, Frame

SPECTRUM = 128
"""Side of the padded spectrum in which a Gabor's first orientation and frequency are sought."""


@dataclass(frozen=True, eq=False)
class GaussianFit:
    """Gaussians around receptive fields, (U,) each; NaN for neurons without a field.

    Attributes:
        x_deg: centre, degrees from the frame's centre, to the right.
        y_deg: the same, up.
        long_deg: standard deviation along the longer axis.
        short_deg: the same along the shorter one.
        orientation_deg: of the longer axis, 0 to 180, counter-clockwise from horizontal.
        r2: fraction of the map's variance that the fit explains.
    """

    x_deg: Float
    y_deg: Float
    long_deg: Float
    short_deg: Float
    orientation_deg: Float
    r2: Float


@dataclass(frozen=True, eq=False)
class GaborFit:
    """Gabors fitted to receptive fields, (U,) each; NaN for neurons without a field.

    The equation is that of ``mousev1.insilico.gabors`` without balance.

    Attributes:
        x_deg: centre, degrees from the frame's centre, to the right.
        y_deg: the same, up.
        orientation_deg: of the stripes, 0 to 180, counter-clockwise from horizontal.
        frequency_cpd: of the carrier, cycles per degree.
        phase_deg: of the carrier at the centre, -180 to 180; 0 is a bright centre.
        length_deg: standard deviation of the envelope along the stripes.
        breadth_deg: the same across the stripes.
        amplitude: of the carrier at the centre, response per gray value.
        r2: fraction of the map's variance that the fit explains.
    """

    x_deg: Float
    y_deg: Float
    orientation_deg: Float
    frequency_cpd: Float
    phase_deg: Float
    length_deg: Float
    breadth_deg: Float
    amplitude: Float
    r2: Float


Fit = TypeVar("Fit", GaussianFit, GaborFit)


def fit_gaussians(maps: NDArray[np.floating[Any]], frame: Frame) -> GaussianFit:
    """A Gaussian on an offset for each map (U, H, W) of non-negative numbers."""
    flat, x, y, scale = _standardised(maps, frame)
    pixel = 1.0 / frame.pixels_per_degree
    # Start from the moments of what stands out.
    weight = (flat - 0.2 * flat.amax(dim=1, keepdim=True)).clamp_min(0.0)
    weight = weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-30)
    x0, y0 = weight @ x, weight @ y
    variance = (weight * ((x - x0[:, None]).square() + (y - y0[:, None]).square())).sum(dim=1) / 2
    size = variance.clamp_min(pixel**2).sqrt().log()
    amplitude = flat.amax(dim=1)
    start = torch.stack(
        [x0, y0, torch.full_like(x0, 0.3), size + 0.1, size - 0.1, amplitude, torch.zeros_like(x0)], dim=1
    )
    low, high = _bounds(frame, 7)
    fit = least_squares.fit(least_squares.gaussian, start, low, high, flat, x, y)
    p = fit.parameters.numpy()
    u_sd, v_sd = np.exp(p[:, 3]), np.exp(p[:, 4])
    found = GaussianFit(
        x_deg=p[:, 0],
        y_deg=p[:, 1],
        long_deg=np.maximum(u_sd, v_sd),
        short_deg=np.minimum(u_sd, v_sd),
        orientation_deg=(np.rad2deg(p[:, 2]) + np.where(v_sd > u_sd, 90.0, 0.0)) % 180.0,
        r2=fit.r2.numpy(),
    )
    return _defined(found, scale > 0)


def fit_gabors(maps: NDArray[np.floating[Any]], frame: Frame) -> GaborFit:
    """A Gabor for each map (U, H, W), started at the peak of its spectrum and of its envelope."""
    flat, x, y, scale = _standardised(maps, frame)
    pixel = 1.0 / frame.pixels_per_degree
    angle, frequency = _spectral_peak(flat.view(-1, frame.height, frame.width), frame)
    envelope = fit_gaussians(flat.view(-1, frame.height, frame.width).square().numpy(), frame)
    # the square of a Gaussian is narrower by sqrt(2)
    spread = np.nan_to_num(np.sqrt(2.0 * envelope.long_deg * envelope.short_deg), nan=pixel)
    size = torch.from_numpy(spread).clamp_min(pixel).log()
    x0, y0 = (torch.from_numpy(np.nan_to_num(values)) for values in (envelope.x_deg, envelope.y_deg))
    low, high = _bounds(frame, 8)
    low[5], high[5] = np.log(0.1 / max(frame.size_deg)), np.log(frame.nyquist_cpd * 2**0.5)
    fits = []
    # A field of less than a cycle has a flat spectrum: try lower and higher carriers too.
    for factor in (0.6, 1.0, 1.5):
        log_f = (frequency * factor).clamp(0.1 / max(frame.size_deg), frame.nyquist_cpd).log()
        start = torch.stack([x0, y0, angle, size, size, log_f, *torch.zeros(2, len(x0)).double()], dim=1)
        # even and odd are linear: their best values at the start
        waves = least_squares.gabor(start, x, y)[1][:, :, 6:]
        start[:, 6:] = torch.linalg.lstsq(waves, flat[:, :, None]).solution[:, :, 0]
        fits.append(least_squares.fit(least_squares.gabor, start, low, high, flat, x, y))
    r2, best = torch.stack([fit.r2 for fit in fits]).max(dim=0)
    p = torch.stack([fit.parameters for fit in fits])[best, torch.arange(len(best))].numpy()
    # o and o + 180 degrees are one orientation: v, and with it the odd part, changes its sign
    flipped = np.floor(np.rad2deg(p[:, 2]) / 180.0) % 2 == 1
    odd = np.where(flipped, -p[:, 7], p[:, 7])
    found = GaborFit(
        x_deg=p[:, 0],
        y_deg=p[:, 1],
        orientation_deg=np.rad2deg(p[:, 2]) % 180.0,
        frequency_cpd=np.exp(p[:, 5]),
        phase_deg=np.rad2deg(np.arctan2(odd, p[:, 6])),
        length_deg=np.exp(p[:, 3]),
        breadth_deg=np.exp(p[:, 4]),
        amplitude=np.hypot(p[:, 6], p[:, 7]) * scale,
        r2=r2.numpy(),
    )
    return _defined(found, scale > 0)


def _standardised(
    maps: NDArray[np.floating[Any]], frame: Frame
) -> tuple[Tensor, Tensor, Tensor, NDArray[np.float64]]:
    """Maps (U, P) float64 with a largest absolute value of 1, degrees x and y (P,), and the scales (U,)."""
    if maps.ndim != 3 or maps.shape[1:] != (frame.height, frame.width):
        raise ValueError(f"maps: expected (U, {frame.height}, {frame.width}), got {maps.shape}")
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    scale = np.abs(flat).max(axis=1, initial=0.0)
    x, y = np.broadcast_arrays(*frame.grid_deg())
    flat = flat / np.where(scale > 0, scale, 1.0)[:, None]
    return torch.from_numpy(flat), torch.from_numpy(x.ravel()), torch.from_numpy(y.ravel()), scale


def _defined(fit: Fit, defined: NDArray[np.bool_]) -> Fit:
    """The fit with NaN for neurons without a field."""
    return type(fit)(*(np.where(defined, getattr(fit, field.name), np.nan) for field in fields(fit)))


def _bounds(frame: Frame, parameters: int) -> tuple[Tensor, Tensor]:
    """Centres may leave the frame by a tenth; sizes are from a third of a pixel to the frame's width."""
    height, width = frame.size_deg
    high = torch.full((parameters,), torch.inf, dtype=torch.float64)
    high[:2] = torch.tensor([0.6 * width, 0.6 * height])
    low = -high
    low[3:5], high[3:5] = np.log(0.33 / frame.pixels_per_degree), np.log(width)
    return low, high


def _spectral_peak(maps: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """(U,) orientation of the stripes in radians and frequency in cycles per degree with most power."""
    spectrum = torch.fft.rfft2(maps, s=(SPECTRUM, SPECTRUM)).abs().flatten(1)
    # rows run down, y runs up
    fy = -torch.fft.fftfreq(SPECTRUM, dtype=torch.float64) * frame.pixels_per_degree
    fx = torch.fft.rfftfreq(SPECTRUM, dtype=torch.float64) * frame.pixels_per_degree
    fy, fx = (grid.flatten() for grid in torch.meshgrid(fy, fx, indexing="ij"))
    radius = torch.hypot(fx, fy)
    allowed = (radius > 0.5 / max(frame.size_deg)) & (radius <= frame.nyquist_cpd)
    best = torch.where(allowed, spectrum, torch.zeros_like(spectrum)).argmax(dim=1)
    # the carrier runs along (sin o, -cos o)
    return torch.atan2(fx[best], -fy[best]), radius[best]
