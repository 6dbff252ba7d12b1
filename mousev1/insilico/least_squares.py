"""Gaussians and Gabors fitted to many maps at once, by Levenberg-Marquardt.

Coordinates are degrees, x right and y up; orientation o counter-clockwise from horizontal. With u and v the
distances from the centre along and across it,

    u =  (x - x0) cos(o) + (y - y0) sin(o),      v = (x - x0) sin(o) - (y - y0) cos(o),

    Gaussian:  offset + amplitude exp(-u^2 / (2 long^2) - v^2 / (2 short^2))
    Gabor:     exp(-u^2 / (2 length^2) - v^2 / (2 breadth^2)) (even cos(2 pi f v) + odd sin(2 pi f v)).

Quality of fit is R^2 = 1 - residual / total sum of squares, the total about the mean of the map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 40
UNITS_AT_A_TIME = 128
TOLERANCE = 1e-6
MOST_DAMPING = 1e4

Curve = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Fitted:
    """Parameters (U, K) in the order of the curve, and R^2 (U,)."""

    parameters: Tensor
    r2: Tensor


def gaussian(p: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Values (U, P) and their derivatives (U, P, 7) by x0, y0, o, log long, log short, amplitude, offset."""
    x0, y0, angle, log_long, log_short, amplitude, offset = (p[:, i, None] for i in range(7))
    cos, sin = angle.cos(), angle.sin()
    dx, dy = x - x0, y - y0
    u, v = (dx * cos + dy * sin) / log_long.exp(), (dx * sin - dy * cos) / log_short.exp()
    bell = torch.exp(-0.5 * (u.square() + v.square()))
    top = amplitude * bell
    along, across = top * u / log_long.exp(), top * v / log_short.exp()
    # the angle turns u into -v and v into u, in degrees of visual angle
    turn = across * u * log_long.exp()
    turn = along * v * log_short.exp() - turn
    derivatives = [
        along * cos + across * sin,
        along * sin - across * cos,
        turn,
        top * u.square(),
        top * v.square(),
        bell,
        torch.ones_like(bell),
    ]
    return top + offset, torch.stack(derivatives, dim=2)


def gabor(p: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Values (U, P) and their derivatives (U, P, 8) by x0, y0, o, log length, log breadth, log f, even, odd."""
    x0, y0, angle, log_length, log_breadth, log_f, even, odd = (p[:, i, None] for i in range(8))
    cos, sin = angle.cos(), angle.sin()
    dx, dy = x - x0, y - y0
    u, v = dx * cos + dy * sin, dx * sin - dy * cos
    wave = 2 * torch.pi * log_f.exp()
    c, s = (wave * v).cos(), (wave * v).sin()
    bell = torch.exp(-0.5 * ((u / log_length.exp()).square() + (v / log_breadth.exp()).square()))
    value = bell * (even * c + odd * s)
    slope = bell * wave * (odd * c - even * s)
    by_u = -value * u / (2 * log_length).exp()
    by_v = -value * v / (2 * log_breadth).exp() + slope
    derivatives = [
        -by_u * cos - by_v * sin,
        -by_u * sin + by_v * cos,
        -by_u * v + by_v * u,
        value * (u / log_length.exp()).square(),
        value * (v / log_breadth.exp()).square(),
        slope * v,
        bell * c,
        bell * s,
    ]
    return value, torch.stack(derivatives, dim=2)


def fit(curve: Curve, start: Tensor, low: Tensor, high: Tensor, maps: Tensor, x: Tensor, y: Tensor) -> Fitted:
    """Least squares from a start (U, K) within bounds (K,), each of the maps (U, P) by itself."""
    parts = [
        _fit(curve, some, low, high, some_maps, x, y)
        for some, some_maps in zip(start.split(UNITS_AT_A_TIME), maps.split(UNITS_AT_A_TIME), strict=True)
    ]
    parameters, error = (torch.cat(part) for part in zip(*parts, strict=True))
    total = (maps - maps.mean(dim=1, keepdim=True)).square().sum(dim=1)
    return Fitted(parameters, torch.where(total > 0, 1.0 - error / total, torch.nan))


def _fit(
    curve: Curve, p: Tensor, low: Tensor, high: Tensor, maps: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Parameters and residual sums of squares, (U,)."""
    p = p.clamp(low, high)
    error = (maps - curve(p, x, y)[0]).square().sum(dim=1)
    damping = torch.full_like(error, 1e-2)
    rows = torch.arange(len(p))
    for _ in range(STEPS):
        value, slopes = curve(p[rows], x, y)
        normal = slopes.transpose(1, 2) @ slopes
        gradient = ((maps[rows] - value)[:, None] @ slopes)[:, 0]
        scale = normal.diagonal(dim1=1, dim2=2)
        floor = 1e-9 * scale.amax(dim=1, keepdim=True).clamp_min(1e-30)
        normal = normal + torch.diag_embed(damping[rows, None] * scale + floor)
        trial = (p[rows] + torch.linalg.solve(normal, gradient)).clamp(low, high)
        before, after = error[rows], (maps[rows] - curve(trial, x, y)[0]).square().sum(dim=1)
        better = after < before
        p[rows] = torch.where(better[:, None], trial, p[rows])
        error[rows] = torch.where(better, after, before)
        damping[rows] = torch.where(better, damping[rows] * 0.3, damping[rows] * 4.0).clamp_min(1e-9)
        finished = (better & (before - after < TOLERANCE * before)) | (damping[rows] > MOST_DAMPING)
        rows = rows[~finished]
        if not len(rows):
            break
    return p, error
