"""Feature weights of many neurons at once: a penalised Poisson regression with the ELU + 1 output.

With the place of a neuron known, its drive z = w . x + b is linear in theta = (w, b), the rate is
r(z) = exp(z) for z < 0 and z + 1 above, and the Poisson loss

    l(z) = exp(z) - y z        for z < 0,
           z + 1 - y log(z+1)  for z >= 0

is convex with a continuous slope

    l'(z) = (r - y) / max(r, 1),      l''(z) = h(z) = r for z < 0, y / r^2 above.

Real responses are not Poisson: their variance is about phi times their mean, with a dispersion phi
of each neuron's own. Dividing the loss by phi (quasi-likelihood) sets its weight against the prior
N(m, S) of the population right, so that what is minimised is

    sum_n l(z_n) / phi + (theta - m)' S^-1 (theta - m) / 2.

Newton steps d solve (X'hX / phi + S^-1) d = -gradient. They are damped by backtracking, without
which they diverge here. Along a step the drive is linear too, so that trial steps cost
nothing but the output nonlinearity.

Time goes into the matrices X'hX, one per neuron, so they are used sparingly. The first steps are
conjugate gradients that share the population's average matrix, scaled to the neuron; then the neuron's
own is computed and serves all later steps, because the curvature changes little once steps are small.
Where it is known from a fit under another prior, Newton steps with it take the place of the first steps.
Everything else is shared: neurons between the same few pixels of the feature map have
X_u = sum_k a_uk F_k with the pixels' features F_k, so that drives and gradients of all of them are
products of the F_k, side by side, with matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COMMON_STEPS = 5
RETURN_STEPS = 2
MOST_STEPS = 40
MOST_HALVINGS = 12
TOLERANCE = 1e-7
# A matrix is computed anew when a step shrinks the decrement less than this.
REUSE_BELOW = 0.5
# After the first step with it, a matrix is computed anew if that step was longer: its square, in posterior
# standard deviations.
FAR = 2.0
# Neurons that are done wait, unchanged, until this share of a block is, and leave together.
LEAVE_TOGETHER = 0.3
DISPERSION_RANGE = (0.02, 50.0)
SCRATCH = 3_000_000  # bytes of one neuron batch's scaled features; fits in the cache


@dataclass(frozen=True)
class CellData:
    """Neurons that a few pixels of the feature map lie around.

    Attributes:
        features: (P, N, C) float32, at P pixels.
        mixing: (B, P) float32, weights of the pixels for each neuron, of which four are not zero.
        responses: (N, B) float32.
    """

    features: Tensor
    mixing: Tensor
    responses: Tensor


@dataclass(frozen=True)
class GlmFit:
    """Optimum of each neuron.

    Attributes:
        theta: (B, C + 1) float64, weights and then the bias.
        information: (B, C + 1, C + 1) float64, X'hX near the optimum, without phi and prior.
        dispersion: (B,) float64, phi.
        converged: (B,) whether the tolerance was reached.
    """

    theta: Tensor
    information: Tensor
    dispersion: Tensor
    converged: Tensor

    @classmethod
    def empty(cls, units: int, size: int) -> GlmFit:
        """Zeros to be filled by ``put``."""
        return cls(
            theta=torch.zeros(units, size, dtype=torch.float64),
            information=torch.zeros(units, size, size, dtype=torch.float64),
            dispersion=torch.zeros(units, dtype=torch.float64),
            converged=torch.zeros(units, dtype=torch.bool),
        )

    def put(
        self, index: Tensor, theta: Tensor, information: Tensor, dispersion: Tensor, converged: Tensor
    ) -> None:
        """Fill in some neurons."""
        self.theta[index], self.information[index] = theta, information
        self.dispersion[index], self.converged[index] = dispersion, converged

    @property
    def curvature(self) -> Tensor:
        """(B,) float64, sum over images of h."""
        return self.information[:, -1, -1]


def side_by_side(features: Tensor) -> Tensor:
    """(P, N, C) to (N, P C), so that one product takes in all pixels."""
    return features.transpose(0, 1).flatten(1)


def drives(beside: Tensor, mixing: Tensor, theta: Tensor) -> Tensor:
    """X w + b of neurons, (N, B) float32, from features side by side; theta (B, C + 1)."""
    theta = theta.float()
    weights = (mixing[:, :, None] * theta[:, None, :-1]).flatten(1)
    return torch.addmm(theta[:, -1], beside, weights.T)


def fit_glm(
    data: CellData,
    *,
    mean: Tensor,
    precision: Tensor,
    common_information: Tensor,
    start: Tensor,
    dispersion: Tensor,
    information: Tensor | None = None,
    estimate_dispersion: bool = True,
    tolerance: float = TOLERANCE,
) -> GlmFit:
    """Fit the neurons of a cell.

    Args:
        data: features and responses.
        mean: (C + 1,) float64, prior mean m.
        precision: (C + 1, C + 1) float64, prior precision S^-1.
        common_information: (C + 1, C + 1) float64, the population's average of X'hX / sum(h).
        start: (B, C + 1) float64, where to start.
        dispersion: (B,) float64, phi, or where to start from.
        information: (B, C + 1, C + 1) float64, X'hX at ``start``, if it is known: spares the approach to the
            optimum with the population's.
        estimate_dispersion: set phi from the residuals after the first few steps; later it stays,
            so that there is one function to minimise.
        tolerance: Newton decrement at which a neuron is done: its squared distance to the optimum, in
            posterior standard deviations.
    """
    problem = _Problem(data, mean, precision)
    result = GlmFit.empty(len(start), len(mean))
    index = torch.arange(len(start))  # of the neurons still at work
    phi = dispersion.clone()
    if information is None:
        theta, z = _approach(problem, start, phi, common_information)
    else:
        theta, z = _return(problem, start, phi, information)
    if estimate_dispersion:
        phi = problem.dispersion(z, common_information, phi)
    information = problem.information(z, index)
    factor = problem.factor(information, phi)
    finished = torch.zeros(len(theta), dtype=torch.bool)
    previous = torch.full((len(theta),), torch.inf, dtype=torch.float64)
    for step in range(MOST_STEPS + 1):
        direction, decrement = problem.newton(z, theta, phi, factor)
        done = (decrement < tolerance) & (step > 0)
        done = done | finished
        if float(done.float().mean()) > LEAVE_TOGETHER or step == MOST_STEPS:
            leave = done if step < MOST_STEPS else torch.ones_like(done)
            # Computed a few steps ago, the matrices keep their shape but take the curvature of the optimum.
            curvature = problem.only(leave).curvature(z[:, leave])
            settled = information[leave] * (curvature / information[leave, -1, -1])[:, None, None]
            result.put(index[leave], theta[leave], settled, phi[leave], done[leave])
            stay = ~leave
            index, theta, phi, information, factor = (
                t[stay] for t in (index, theta, phi, information, factor)
            )
            direction, decrement, previous, z = direction[stay], decrement[stay], previous[stay], z[:, stay]
            problem, done = problem.only(stay), done[stay]
        finished = done
        if not len(index):
            break
        z_step = problem.drive(direction)
        size = problem.backtrack(z, z_step, theta, direction, phi, decrement) * ~finished
        theta = theta + size[:, None] * direction
        z = z + size.float() * z_step
        if step == 0 and estimate_dispersion:
            phi = problem.dispersion(z, common_information, phi)
            factor = problem.factor(information, phi)
        slow = (decrement > REUSE_BELOW * previous) & (decrement > 1e-4)
        stale = (decrement > FAR if step == 0 else slow) & ~finished
        previous = decrement
        if bool(stale.any()):
            late = stale.nonzero()[:, 0]
            information[late] = problem.information(z, late)
            factor[late] = problem.factor(information[late], phi[late])
    return result


def _approach(problem: _Problem, start: Tensor, phi: Tensor, common: Tensor) -> tuple[Tensor, Tensor]:
    """Conjugate gradients, preconditioned with the population's matrix: theta, and the drives there."""
    theta, z = start.clone(), problem.drive(start)
    factor = problem.factor(problem.curvature(z)[:, None, None] * common, phi)
    direction, last_gradient = torch.zeros_like(theta), torch.zeros_like(theta)
    last_decrement = torch.full((len(theta),), torch.inf, dtype=torch.float64)
    for _ in range(COMMON_STEPS):
        gradient = problem.gradient(z, theta, phi)
        newton = torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
        decrement = (gradient * newton).sum(dim=1)
        # Polak and Ribiere's rule, which forgets the past where it does not help.
        change = ((gradient - last_gradient) * newton).sum(dim=1)
        keep = (change / last_decrement).clamp_min(0.0)
        direction = keep[:, None] * direction - newton
        uphill = (gradient * direction).sum(dim=1) >= 0.0
        direction = torch.where(uphill[:, None], -newton, direction)
        slope = -(gradient * direction).sum(dim=1)
        z_step = problem.drive(direction)
        size = slope / problem.bend(z, z_step, direction, phi)
        size = problem.backtrack(z, z_step, theta, direction, phi, slope, size)
        theta = theta + size[:, None] * direction
        z = z + size.float() * z_step
        last_gradient, last_decrement = gradient, decrement
    return theta, z


def _return(problem: _Problem, start: Tensor, phi: Tensor, information: Tensor) -> tuple[Tensor, Tensor]:
    """Newton steps with matrices known from before, when the prior was another: theta, and the drives there."""
    theta, z = start.clone(), problem.drive(start)
    factor = problem.factor(information, phi)
    for _ in range(RETURN_STEPS):
        direction, decrement = problem.newton(z, theta, phi, factor)
        z_step = problem.drive(direction)
        size = problem.backtrack(z, z_step, theta, direction, phi, decrement)
        theta = theta + size[:, None] * direction
        z = z + size.float() * z_step
    return theta, z


class _Problem:
    """The neurons of a cell, and the sums over images that their fit needs."""

    def __init__(
        self, data: CellData, mean: Tensor, precision: Tensor, *, beside: Tensor | None = None
    ) -> None:
        self.features, self.mixing, self.y = data.features, data.mixing, data.responses
        self.mean, self.precision = mean, precision
        self.beside = side_by_side(self.features) if beside is None else beside

    def only(self, keep: Tensor) -> _Problem:
        """The same for some of the neurons."""
        data = CellData(self.features, self.mixing[keep], self.y[:, keep])
        return _Problem(data, self.mean, self.precision, beside=self.beside)

    def drive(self, theta: Tensor) -> Tensor:
        """X w + b, (N, B) float32."""
        return drives(self.beside, self.mixing, theta)

    def gradient(self, z: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
        """(B, C + 1) float64."""
        rate = _rate(z)
        slope = (rate - self.y).div_(rate.clamp_min_(1.0))
        data = torch.empty_like(theta)
        by_pixel = (slope.T @ self.beside).view(*self.mixing.shape, -1)
        data[:, :-1] = torch.bmm(self.mixing[:, None], by_pixel)[:, 0]
        data[:, -1] = slope.sum(dim=0, dtype=torch.float64)
        return data / phi[:, None] + (theta - self.mean) @ self.precision

    def newton(self, z: Tensor, theta: Tensor, phi: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's step (B, C + 1) for a factor of the Hessian, and its decrement (B,)."""
        gradient = self.gradient(z, theta, phi)
        direction = -torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
        return direction, -(gradient * direction).sum(dim=1)

    def curvature(self, z: Tensor) -> Tensor:
        """Sum over images of h, (B,) float64."""
        return _curvature(z, self.y).sum(dim=0, dtype=torch.float64)

    def bend(self, z: Tensor, z_step: Tensor, direction: Tensor, phi: Tensor) -> Tensor:
        """Second derivative of the objective along a direction, (B,) float64."""
        data = _curvature(z, self.y).mul_(z_step).mul_(z_step).sum(dim=0, dtype=torch.float64)
        return data / phi + ((direction @ self.precision) * direction).sum(dim=1)

    def factor(self, information: Tensor, phi: Tensor) -> Tensor:
        """Cholesky factor of X'hX / phi + S^-1."""
        factor: Tensor = torch.linalg.cholesky(information / phi[:, None, None] + self.precision)
        return factor

    def information(self, z: Tensor, index: Tensor) -> Tensor:
        """X'hX of the neurons ``index``, (b, C + 1, C + 1) float64."""
        pixels, n, channels = self.features.shape
        out = torch.empty(len(index), channels + 1, channels + 1, dtype=torch.float64)
        curvature = _curvature(z[:, index], self.y[:, index])
        out[:, -1, -1] = curvature.sum(dim=0, dtype=torch.float64)
        roots = curvature.sqrt_().T.contiguous()
        flat, mixing = self.features.view(pixels, n * channels), self.mixing[index]
        batch = min(len(index), max(1, SCRATCH // (4 * n * channels)))
        scratch = torch.empty(
            batch, n * channels
        )  # made once: clearing new memory takes as long as a product
        for start in range(0, len(index), batch):
            rows = slice(start, start + batch)
            mixed = torch.mm(mixing[rows], flat, out=scratch[: len(mixing[rows])])
            scaled = mixed.view(-1, n, channels).mul_(roots[rows, :, None])
            out[rows, -1, :-1] = torch.bmm(roots[rows, None], scaled)[:, 0].double()
            out[rows, :-1, :-1] = torch.bmm(scaled.transpose(1, 2), scaled).double()
        out[:, :-1, -1] = out[:, -1, :-1]
        return out

    def objective(self, z: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
        """What is minimised, (B,) float64."""
        above, below = z.clamp_min(0.0), z.clamp_max(0.0)
        # exp(z) - y z below and z + 1 - y log(z + 1) above, without branches.
        gain = torch.log1p(above).add_(below).mul_(self.y)
        loss = below.exp_().add_(above).sub_(gain).sum(dim=0, dtype=torch.float64)
        away = theta - self.mean
        return loss / phi + 0.5 * ((away @ self.precision) * away).sum(dim=1)

    def backtrack(
        self,
        z: Tensor,
        z_step: Tensor,
        theta: Tensor,
        direction: Tensor,
        phi: Tensor,
        decrement: Tensor,
        size: Tensor | None = None,
    ) -> Tensor:
        """Largest of 1, 1/2, 1/4, ... times ``size`` per neuron that lowers the objective as it should, (B,).

        ``decrement`` is the slope along the step, downwards; ``size`` is 1 by default.
        """
        size = torch.ones_like(decrement) if size is None else size.clone()
        # Near the optimum a full step is right, and its gain is lost in rounding.
        tried = (decrement > 1e-2).nonzero()[:, 0]
        if not len(tried):
            return size
        if 2 * len(tried) > len(size):  # then a copy of those tried costs more than it spares
            tried = torch.arange(len(size))
        else:
            z, z_step = z[:, tried], z_step[:, tried]
        problem = self if len(tried) == len(size) else self.only(tried)
        theta, direction, phi, decrement = (t[tried] for t in (theta, direction, phi, decrement))
        step = size[tried]
        before = problem.objective(z, theta, phi)
        for _ in range(MOST_HALVINGS):
            after = problem.objective(z + step.float() * z_step, theta + step[:, None] * direction, phi)
            worse = after > before - 1e-4 * step * decrement + 1e-7 * before.abs()
            worse &= decrement > 1e-2
            if not bool(worse.any()):
                break
            step = torch.where(worse, step / 2, step)
        size[tried] = step
        return size

    def dispersion(self, z: Tensor, common: Tensor, phi: Tensor) -> Tensor:
        """Residual variance over mean rate, corrected for the parameters spent on the fit, (B,).

        Those are the trace of A (A + S^-1)^-1 for an information A, for which the population's average
        ``common``, scaled to the neuron's curvature, is good enough.
        """
        curvature = self.curvature(z)
        rate, n = _rate(z), len(z)
        residual = (self.y - rate).square_().sum(dim=0, dtype=torch.float64)
        root = torch.linalg.cholesky(self.precision)
        whitened = torch.linalg.solve_triangular(root, common, upper=False)
        whitened = torch.linalg.solve_triangular(root, whitened.T, upper=False)
        known = (curvature / phi)[:, None] * torch.linalg.eigvalsh(whitened).clamp_min(0.0)
        left = 1.0 - (known / (1.0 + known)).sum(dim=1) / n
        ratio = residual / rate.sum(dim=0, dtype=torch.float64) / left.clamp_min(0.1)
        clamped: Tensor = ratio.clamp(*DISPERSION_RANGE)
        return clamped


def _rate(z: Tensor) -> Tensor:
    below: Tensor = z.clamp_max(0.0).exp_()
    return below.add_(z.clamp_min(0.0))


def _curvature(z: Tensor, y: Tensor) -> Tensor:
    rate = _rate(z)
    return torch.where(z < 0.0, rate, y / rate.square())
