"""From score maps and cortical positions to where every neuron looks.

Each neuron's score map says how likely its responses are for every location p it might look at,
L_u(p) = exp(score). Before its responses are seen, a neuron at cortical position c is expected at

    p_u ~ N(map(c_u), tau^2 I),    map(c) = B' phi(c),

with a map that all neurons share and a scatter tau of single neurons around it. B and tau are
fitted by expectation maximisation: given them, each neuron's posterior over locations follows
(E-step); given the posteriors, the map is a weighted regression of locations on phi(c) (M-step). A
neuron enters the regression with the precision that its responses alone contribute. Starting from
a wide scatter and a constant map and narrowing it step by step needs no lucky start: at first only
the clearest neurons move the map, and the map then shows where to look for the others.

What phi is and whether neurons scatter is decided by scores on images that no part of the fit has
seen: ``affine`` (Lurz et al. 2021, section 2.2), ``smooth`` (affine plus Gaussian bumps on cortex
with a ridge penalty), each with the neurons on the map or scattered around it; without cortical
positions phi is constant and the population's centre is what neurons share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from mousev1.fit.score_maps import Grid, ScoreMaps
from mousev1.numerics.arithmetic import LOG2_E
from mousev1.numerics.workers import workers

BUMPS_PER_AXIS = 5
BUMP_WIDTH = 0.5  # of cortical positions scaled to -1..1
BUMP_SD = (2.0, 8.0)  # prior standard deviation of a bump's height, pixels
FINE_SPACING = 0.5  # pixels
ANNEALING_STEPS = 25
EM_STEPS = 10  # after these, at most
# Steps end with one that moves the map by fewer pixels and changes the scatter by a smaller part.
SETTLED = 0.005
LEAST_GAIN, STANDARD_ERRORS = 0.01, 2.0  # that a map must be better by than the simplest one
LEAST_EXPONENT = -86.0  # of 2, in a location's weight relative to the best one's
MARGIN = 2.0  # pixels around a map that neurons do not leave
LEAST_VARIANCE = 1e-6  # square pixels, of a location that is the only one
LEAST_SCATTER = 0.3  # pixels; below it a location does not differ from its neighbour
CHUNK = 256  # neurons whose maps a worker takes at once


@dataclass(frozen=True)
class Design:
    """Functions of cortical position that a map is linear in.

    Attributes:
        kind: "constant", "affine" or "smooth".
        bump_sd: prior standard deviation of the bumps' heights in pixels, for "smooth".
    """

    kind: str
    bump_sd: float = 0.0

    def functions(self, cortex: Tensor | None, units: int) -> Tensor:
        """Phi, (U, K) float64."""
        one = torch.ones(units, 1, dtype=torch.float64)
        if self.kind == "constant" or cortex is None:
            return one
        plane = cortex[:, :2].double()
        if self.kind == "affine":
            return torch.cat([one, plane], dim=1)
        axis = torch.linspace(-1.0, 1.0, BUMPS_PER_AXIS, dtype=torch.float64)
        centres = torch.cartesian_prod(axis, axis)
        bumps = torch.exp(-(plane[:, None] - centres).square().sum(dim=2) / (2 * BUMP_WIDTH**2))
        return torch.cat([one, plane, bumps], dim=1)

    def penalty(self) -> Tensor:
        """Prior precision of the coefficients' diagonal, (K,), per square pixel."""
        if self.kind == "constant":
            return torch.full((1,), 1e-6, dtype=torch.float64)
        weak = torch.full((3,), 1e-6, dtype=torch.float64)
        if self.kind == "affine":
            return weak
        return torch.cat([weak, torch.full((BUMPS_PER_AXIS**2,), self.bump_sd**-2, dtype=torch.float64)])


@dataclass(frozen=True)
class PositionMap:
    """A fitted map with its scatter.

    Attributes:
        design: what the map is linear in.
        scattered: whether single neurons depart from the map.
        coefficients: (K, 2), pixels of the feature map.
        scatter: tau in pixels; how far neurons scatter around the map.
        covariance: (K, K) of the coefficients of either axis, square pixels.
    """

    design: Design
    scattered: bool
    coefficients: Tensor
    scatter: float
    covariance: Tensor

    @property
    def name(self) -> str:
        """Short name for reports, as in "affine" or "smooth(8)+offsets"."""
        bumps = f"({self.design.bump_sd:g})" if self.design.kind == "smooth" else ""
        return self.design.kind + bumps + ("+offsets" if self.scattered else "")

    def expected(self, cortex: Tensor | None, units: int) -> Tensor:
        """Pixels (x, y) that cortical positions map to, (U, 2)."""
        return self.design.functions(cortex, units) @ self.coefficients

    def reach(self, cortex: Tensor | None, units: int, *, deviations: float) -> tuple[Tensor, Tensor]:
        """Lowest and highest pixel (x, y) at which neurons may look, (2,) each.

        So many standard deviations around where they are expected: of the map, and of the scatter or, where
        there is none, ``MARGIN`` for what is not known of the map's form.
        """
        functions = self.design.functions(cortex, units)
        expected = functions @ self.coefficients
        deviation = ((functions @ self.covariance) * functions).sum(dim=1, keepdim=True).sqrt()
        if self.scattered:
            away = deviations * (deviation.square() + self.scatter**2).sqrt()
        else:
            away = deviations * deviation + MARGIN
        return (expected - away).amin(dim=0), (expected + away).amax(dim=0)


@dataclass(frozen=True)
class Locations:
    """Where each neuron looks, as its responses and the map say.

    Attributes:
        mean: (U, 2) pixels (x, y).
        covariance: (U, 2, 2) square pixels.
    """

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Retinotopy:
    """The chosen map and how its alternatives fared.

    Attributes:
        map: the map, fitted to all images.
        held_out: mean held-out score per neuron (nats) of every alternative, by name.
    """

    map: PositionMap
    held_out: dict[str, float]


def fit_retinotopy(
    maps: ScoreMaps, cortex: Tensor | None, *, start: PositionMap | None = None, smooth: bool = True
) -> Retinotopy:
    """Choose and fit the map from cortex to feature map.

    Args:
        maps: score maps of a sample of neurons.
        cortex: (U, 2) normalised cortical positions of the same neurons, or ``None``.
        start: a map near the one to be found, from images that are not held out.
        smooth: let smooth maps compete.

    An alternative to the simplest map is taken only if its held-out score is higher by more than
    two standard errors of the difference over neurons, and by more than 1%.
    """
    units = len(maps.inner)
    designs = [Design("constant")]
    if cortex is not None:
        designs = [Design("affine"), *(Design("smooth", sd) for sd in BUMP_SD if smooth)]
    inner = _Interpolated(maps.grid, maps.inner, 1.0, keep=True)
    outer = _Interpolated(maps.grid, maps.held_out, 1.0, keep=False)
    scores: dict[str, Tensor] = {}
    found: dict[str, PositionMap] = {}
    for design in designs:
        # Maps start from ``start`` or from the one before, whose scatter says how far it may be off.
        fitted = start = _fit(design, inner, cortex, start)
        for scattered in (False, True):
            candidate = replace(fitted, scattered=scattered)
            locations = _locate(candidate, inner, cortex, units)
            found[candidate.name] = candidate
            scores[candidate.name] = outer.at(locations.mean)
    simplest = next(iter(scores)) if cortex is not None else "constant+offsets"
    chosen = simplest
    for name in sorted(scores, key=lambda name: -float(scores[name].mean())):
        gain = scores[name] - scores[simplest]
        least = LEAST_GAIN * abs(float(scores[simplest].mean()))
        error = float(gain.std() / units**0.5) if units > 1 else math.inf
        if float(gain.mean()) > max(STANDARD_ERRORS * error, least):
            chosen = name
            break
    design, scattered = found[chosen].design, found[chosen].scattered
    total = _Interpolated(maps.grid, maps.total, 1.0, keep=True)
    final = _fit(design, total, cortex, found[chosen])
    return Retinotopy(
        map=replace(final, scattered=scattered),
        held_out={name: float(score.mean()) for name, score in scores.items()},
    )


def locate(position_map: PositionMap, maps: ScoreMaps, cortex: Tensor | None) -> Locations:
    """Posterior mean and covariance of neurons' locations, given their score maps."""
    fine = _Interpolated(maps.grid, maps.total, FINE_SPACING, keep=False)
    return _locate(position_map, fine, cortex, len(maps.inner))


class _Interpolated:
    """Score maps on a fine grid of pixels.

    Args:
        grid: locations of the scores.
        scores: (U, locations).
        spacing: of the fine grid, in pixels.
        keep: hold the scores on the fine grid, for many posteriors.
    """

    def __init__(self, grid: Grid, scores: Tensor, spacing: float, *, keep: bool) -> None:
        self.grid, self.scores = grid, scores
        self.x, self.y = (_axis(knots, spacing) for knots in (grid.columns, grid.rows))
        self.to_x = _interpolation(grid.columns, self.x)
        self.to_y = _interpolation(grid.rows, self.y)
        yy, xx = torch.meshgrid(self.y, self.x, indexing="ij")
        self.centre = torch.stack([self.x.mean(), self.y.mean()])
        x, y = xx.flatten() - self.centre[0], yy.flatten() - self.centre[1]
        self.moments = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y]).float()  # (6, F)
        # Exponents of a Gaussian, to base 2, are linear in these.
        self.exponents = LOG2_E * torch.stack([x, y, x * x + y * y]).float()  # (3, F)
        # A location is known no better than half of the spacing of those that were scored, interpolated.
        gaps = [
            float(knots.diff().double().mean()) if len(knots) > 1 else 0.0
            for knots in (grid.columns, grid.rows)
        ]
        self.resolution = torch.diag((torch.tensor(gaps, dtype=torch.float64) / 2).square() / 12)
        self._kept: list[Tensor] | None = None
        self._kept = [self._fine(rows) for rows in self._rows()] if keep else None

    def _rows(self) -> Sequence[slice]:
        """A few neurons at a time."""
        return [slice(start, start + CHUNK) for start in range(0, len(self.scores), CHUNK)]

    def _fine(self, rows: slice) -> Tensor:
        """Scores of some neurons on the fine grid as logarithms to base 2, (neurons, F)."""
        if self._kept is not None:
            return self._kept[int(rows.start) // CHUNK]
        coarse = self.scores[rows].view(-1, len(self.grid.rows), len(self.grid.columns))
        fine: Tensor = (self.to_y @ coarse @ (LOG2_E * self.to_x.T)).flatten(1)
        return fine

    def at(self, pixels: Tensor) -> Tensor:
        """(U,) scores, each neuron's at its own location (x, y)."""
        to_x = _interpolation(self.grid.columns, pixels[:, 0])
        to_y = _interpolation(self.grid.rows, pixels[:, 1])
        coarse = self.scores.view(-1, len(self.grid.rows), len(self.grid.columns))
        return torch.einsum("uy,uyx,ux->u", to_y, coarse, to_x)

    def posterior(self, expected: Tensor, scatter: float) -> Locations:
        """Posterior over locations under a Gaussian prior around ``expected`` (U, 2)."""
        around = expected - self.centre
        precision = torch.full((len(around), 1), scatter**-2, dtype=torch.float64)
        weights = torch.cat([around * precision, -0.5 * precision], dim=1).float()

        def moments(rows: slice) -> Tensor:
            exponent = torch.addmm(self._fine(rows), weights[rows], self.exponents)
            exponent -= exponent.amax(dim=1, keepdim=True)
            # Without a floor there would be denormal numbers, whose products take a hundred times as long.
            sums: Tensor = (self.moments @ exponent.clamp_min_(LEAST_EXPONENT).exp2_().T).double()
            return sums

        with workers() as threads:
            total, *sums = torch.cat(list(threads.map(moments, self._rows())), dim=1)
        x, y, xx, xy, yy = torch.stack(sums) / total
        mean = torch.stack([x, y], dim=1)
        second = torch.stack([xx, xy, xy, yy], dim=1).view(-1, 2, 2)
        covariance = second - mean[:, :, None] * mean[:, None] + self.resolution
        return Locations(mean + self.centre, covariance)


def _axis(knots: Tensor, spacing: float) -> Tensor:
    first, last = float(knots[0]), float(knots[-1])
    return torch.arange(first, last + spacing / 2, spacing, dtype=torch.float64)


def _interpolation(knots: Tensor, at: Tensor) -> Tensor:
    """Weights of the knots' values in a natural cubic spline through them, at pixels ``at``, (len(at), knots).

    Between the locations that were scored a straight line would lie below a peak, so that neurons would seem to
    prefer these locations.
    """
    knots, at = knots.double(), at.clamp(float(knots[0]), float(knots[-1]))
    count = len(knots)
    if count == 1:
        return torch.ones(len(at), 1)
    spline = CubicSpline(knots.numpy(), np.eye(count), bc_type="natural")
    return torch.from_numpy(spline(at.numpy())).float()


def _fit(
    design: Design, maps: _Interpolated, cortex: Tensor | None, start: PositionMap | None
) -> PositionMap:
    """Expectation maximisation with a scatter that narrows: from the size of the map, or from ``start``."""
    units = len(maps.scores)
    functions, penalty = design.functions(cortex, units), torch.diag(design.penalty())
    if start is None:
        expected, annealing = maps.centre.expand(units, 2), ANNEALING_STEPS
        scatter = float(torch.stack([maps.x[-1] - maps.x[0], maps.y[-1] - maps.y[0]]).max()) / 4
    else:
        expected, annealing = start.expected(cortex, units), 0
        scatter = start.scatter
    scatter = max(scatter, LEAST_SCATTER)
    for step in range(annealing + EM_STEPS):
        locations = maps.posterior(expected, scatter)
        variance = (locations.covariance.diagonal(dim1=1, dim2=2).sum(dim=1) / 2).clamp(
            LEAST_VARIANCE, scatter**2 * 0.999
        )
        # What the responses add: precision 1/v - 1/tau^2, at the location that moves prior to posterior.
        precision = 1.0 / variance - scatter**-2
        moved = locations.mean / variance[:, None] - expected / scatter**2
        # Around the map, that observation varies with its own variance plus the scatter.
        damp = 1.0 / (1.0 + precision * scatter**2)
        weighted = functions * (precision * damp)[:, None]
        right = functions.T @ (moved * damp[:, None])
        covariance = torch.linalg.inv(functions.T @ weighted + penalty)
        coefficients = covariance @ right
        before, expected = expected, functions @ coefficients
        spread = ((locations.mean - expected).square().sum(dim=1) / 2 + variance).mean().sqrt()
        target = max(float(spread), LEAST_SCATTER)
        settled = (
            float((expected - before).abs().max()) < SETTLED and abs(target - scatter) < SETTLED * scatter
        )
        scatter = max(target, scatter * 0.85) if step < annealing else target
        if settled:
            break
    return PositionMap(design, True, coefficients, scatter, covariance)


def _locate(fitted: PositionMap, maps: _Interpolated, cortex: Tensor | None, units: int) -> Locations:
    expected = fitted.expected(cortex, units)
    locations = maps.posterior(expected, fitted.scatter)
    if fitted.scattered:
        return locations
    lowest, highest = (torch.stack([maps.x[end], maps.y[end]]) for end in (0, -1))
    return Locations(expected.clamp(lowest, highest), locations.covariance)
