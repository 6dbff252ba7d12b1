"""Feature weights of many neurons at once: a penalised Poisson regression with the ELU + 1 output.

With the location of a neuron known, its drive (linear predictor, pre-activation) z = w . x + b is linear in
theta = (w, b), the rate is r(z) = exp(z) for z < 0 and z + 1 above, and the Poisson loss

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
Steps themselves are products with the features (``regressors``), which take as long as reading these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from mousev1.fit.prior import WeightPrior, joint_basis
from mousev1.fit.regressors import Regressors
from mousev1.numerics.arithmetic import LOG2_E, gram

# Conjugate gradient steps with the population's matrix: from no selectivity, and from an earlier fit.
COMMON_STEPS, WARM_STEPS = 4, 2
# With so many images, half suffice for the first of these steps, if one on all of them follows.
HALF_FROM, HALF_STEPS, STEPS_AFTER_HALF = 1000, 2, 1
MOST_HALVINGS = 12
DAMPED_FROM = 1e-2  # decrement from which steps are damped
FEW_EVENTS = 20.0  # from so many on, the residuals tell the dispersion
DISPERSION_RANGE = (0.02, 50.0)
ROUNDING = 1e-6  # part by which the diagonal of a Hessian is enlarged where rounding made it indefinite


@dataclass(frozen=True)
class GlmData:
    """Some neurons' regressors and responses.

    Attributes:
        features: of B neurons for N images, for each neuron those at its location.
        responses: (B, N) float32.
    """

    features: Regressors
    responses: Tensor

    def only(self, keep: Tensor) -> GlmData:
        """The same for some of the neurons, given by a mask or by increasing numbers."""
        return GlmData(self.features.only(keep), self.responses[keep])

    def first(self, images: int) -> GlmData:
        """The same for the first images only."""
        return GlmData(self.features.first(images), self.responses[:, :images])


@dataclass(frozen=True)
class Common:
    """What the neurons of a population have in common.

    Attributes:
        prior: N(m, S) of their weights and biases.
        information: (C + 1, C + 1) float64, average of X'hX / sum(h), as far as it is known.
    """

    prior: WeightPrior
    information: Tensor

    @cached_property
    def basis(self) -> tuple[Tensor, Tensor]:
        """V (C + 1, C + 1) with V' S^-1 V = I and V' A V = diag(a) for the average information A, and a (C + 1,)."""
        return joint_basis(self.prior.covariance, self.information)

    @cached_property
    def inverse_basis(self) -> Tensor:
        """V^-1, (C + 1, C + 1) float32."""
        inverse: Tensor = torch.linalg.inv(self.basis[0]).float()
        return inverse


@dataclass(frozen=True)
class Output:
    """The output nonlinearity at some drives, all (B, N) float32, of which loss, slope and curvature are made.

    Attributes:
        drive: z = X w + b.
        below: exp(min(z, 0)).
        above: max(z, 0) + 1.
    """

    drive: Tensor
    below: Tensor
    above: Tensor

    @classmethod
    def at(cls, drive: Tensor) -> Output:
        """From drives."""
        below = drive.clamp_max(0.0).mul_(LOG2_E).exp2_()
        return cls(drive, below, drive.clamp_min(0.0).add_(1.0))

    def only(self, keep: Tensor) -> Output:
        """The same for some of the neurons."""
        return Output(self.drive[keep], self.below[keep], self.above[keep])

    def rate(self) -> Tensor:
        """r(z)."""
        return torch.add(self.below, self.above).sub_(1.0)

    def loss(self, y: Tensor) -> Tensor:
        """The Poisson loss l(z) for responses y, summed over images, (B,) float64."""
        # exp(z) - y z below and z + 1 - y log(z + 1) above, without branches.
        gain = self.above.log().add_(self.drive.clamp_max(0.0)).mul_(y)
        return self.rate().sub_(gain).sum(dim=1, dtype=torch.float64)

    def slope(self, y: Tensor) -> Tensor:
        """l'(z)."""
        return self.rate().sub_(y).div_(self.above)

    def curvature(self, y: Tensor) -> Tensor:
        """h(z)."""
        # A choice by 0 and 1, in a fifth of the time of ``torch.where``.
        above = self.drive.sign().clamp_min_(0.0)
        return torch.lerp(self.below, (y / self.above).div_(self.above), above)


@dataclass(frozen=True)
class Step:
    """A direction to go from an estimate.

    Attributes:
        direction: (B, C + 1) float64, change of theta.
        drive: (B, N) float32, change of the drive that it makes.
        slope: (B,) float64, decrease of the objective along it; for Newton's step its decrement.
    """

    direction: Tensor
    drive: Tensor
    slope: Tensor

    def only(self, keep: Tensor) -> Step:
        """The same for some of the neurons."""
        return Step(self.direction[keep], self.drive[keep], self.slope[keep])


@dataclass(frozen=True)
class Estimate:
    """Where neurons are on the way to their optimum.

    Attributes:
        theta: (B, C + 1) float64, weights and then the bias.
        output: at the drives of theta.
        dispersion: (B,) float64, phi.
    """

    theta: Tensor
    output: Output
    dispersion: Tensor

    def only(self, keep: Tensor) -> Estimate:
        """The same for some of the neurons."""
        return Estimate(self.theta[keep], self.output.only(keep), self.dispersion[keep])

    def moved(self, step: Step, size: Tensor) -> Estimate:
        """After ``size`` (B,) of a step."""
        drive = torch.addcmul(self.output.drive, size.float()[:, None], step.drive)
        return Estimate(self.theta + size[:, None] * step.direction, Output.at(drive), self.dispersion)


class GlmProblem:
    """Some neurons, the sums over images that their fit needs, and the way to their optimum's neighbourhood."""

    def __init__(self, data: GlmData, common: Common) -> None:
        self.data, self.common = data, common
        self.x, self.y = data.features, data.responses

    def drive(self, theta: Tensor) -> Tensor:
        """X w + b, (B, N) float32."""
        if not bool(theta[:, :-1].any()):  # before the first step
            return theta[:, -1:].float().repeat(1, self.y.shape[1])
        return self.x.drive(theta)

    def gradient(self, at: Estimate) -> Tensor:
        """(B, C + 1) float64."""
        slope, prior = at.output.slope(self.y), self.common.prior
        data = torch.empty_like(at.theta)
        data[:, :-1] = self.x.weighted_sum(slope)
        data[:, -1] = slope.sum(dim=1, dtype=torch.float64)
        return data / at.dispersion[:, None] + (at.theta - prior.mean) @ prior.precision

    def approach(self, start: Tensor, phi: Tensor, steps: int = COMMON_STEPS) -> Estimate:
        """Conjugate gradients, preconditioned with the population's matrix, and the dispersion after them."""
        at = Estimate(start, Output.at(self.drive(start)), phi)
        basis, values = self.common.basis
        scaled = 1.0 / (1.0 + (self.curvature(at.output) / phi)[:, None] * values)
        direction, last_gradient = torch.zeros_like(start), torch.zeros_like(start)
        last_decrement = torch.full((len(start),), torch.inf, dtype=torch.float64)
        value = self.objective(at, self.y)
        for _ in range(steps):
            gradient = self.gradient(at)
            newton = -((gradient @ basis) * scaled) @ basis.T
            # Polak and Ribiere's rule, which forgets the past where it does not help.
            change = ((last_gradient - gradient) * newton).sum(dim=1)
            keep = (change / last_decrement).clamp_min(0.0)
            direction = keep[:, None] * direction + newton
            uphill = (gradient * direction).sum(dim=1) >= 0.0
            direction = torch.where(uphill[:, None], newton, direction)
            step = Step(direction, self.drive(direction), -(gradient * direction).sum(dim=1))
            size = step.slope / self.curvature_along(at, step)
            _, value, at = self.backtrack(at, step, size, value, self.y)
            last_gradient, last_decrement = gradient, -(gradient * newton).sum(dim=1)
        return replace(at, dispersion=self.dispersion(at))

    def approach_on_half_first(self, start: Tensor, phi: Tensor, fitted: Tensor) -> Estimate:
        """As ``approach``, in less time if images, which must be in random order, are many.

        A step from where some steps on half of the images lead; for neurons ``fitted`` (B,) before, from ``start``.
        """
        images = self.y.shape[1]
        if images < HALF_FROM:
            return self.approach(start, phi)
        half = GlmProblem(self.data.first(images // 2), self.common).approach(start, phi, HALF_STEPS)
        theta = torch.where(fitted[:, None], start, half.theta)
        return self.approach(theta, torch.where(fitted, phi, half.dispersion), STEPS_AFTER_HALF)

    def newton(self, at: Estimate, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's step (B, C + 1) for a factor of the Hessian, and its decrement (B,)."""
        gradient = self.gradient(at)
        direction = -torch.cholesky_solve(gradient.float()[:, :, None], factor)[:, :, 0].double()
        return direction, -(gradient * direction).sum(dim=1)

    def curvature(self, output: Output) -> Tensor:
        """Sum over images of h, (B,) float64."""
        return output.curvature(self.y).sum(dim=1, dtype=torch.float64)

    def curvature_along(self, at: Estimate, step: Step) -> Tensor:
        """Second derivative of the objective along a step, (B,) float64."""
        weighted = at.output.curvature(self.y).mul_(step.drive).mul_(step.drive)
        prior = ((step.direction @ self.common.prior.precision) * step.direction).sum(dim=1)
        return weighted.sum(dim=1, dtype=torch.float64) / at.dispersion + prior

    def factor(self, information: Tensor, phi: Tensor) -> Tensor:
        """Cholesky factor of X'hX / phi + S^-1, (b, C + 1, C + 1) float32."""
        precision = self.common.prior.precision
        # Single precision is enough where the prior bounds the condition: it is below 200 on the 11-S core.
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(
            information / phi.float()[:, None, None] + precision.float()
        )
        if bool(failed.any()):
            hessian = information.double() / phi[:, None, None] + precision
            hessian.diagonal(dim1=1, dim2=2).mul_(1.0 + ROUNDING)
            factor = torch.linalg.cholesky(hessian).float()
        return factor

    def variances(self, factor: Tensor, grown: Tensor) -> Tensor:
        """Posterior variances of coordinates in the basis, (b, C + 1) float32.

        They follow from the Hessian's factor, but for what its information has grown by since, a factor ``grown``
        (b,). In the basis the prior's precision is I and the information nearly diag(a), so that a variance is about
        c = 1 / (a + 1), which becomes 1 / (grown a + 1) = c / (grown + (1 - grown) c).
        """
        # the diagonal of W C W' for the inverse W of the basis, from C^-1 = L L'
        inverse = self.common.inverse_basis.T.expand_as(factor)
        then = torch.linalg.solve_triangular(factor, inverse, upper=False).square_().sum(dim=1)
        now: Tensor = then / (grown[:, None] + (1.0 - grown)[:, None] * then)
        return now

    def information(self, output: Output, index: Tensor | None = None) -> Tensor:
        """X'hX of the neurons ``index``, or of all, (b, C + 1, C + 1) float32."""
        x, y = self.x, self.y
        if index is not None:
            x, y, output = x.only(index), y[index], output.only(index)
        units, _, channels = x.shape
        out = torch.empty(units, channels + 1, channels + 1)
        curvature = output.curvature(y)
        out[:, -1, -1] = curvature.sum(dim=1, dtype=torch.float64)
        roots = curvature.sqrt_()
        for rows, scaled in x.scaled(roots):
            out[rows, -1, :-1] = torch.bmm(roots[rows, None], scaled)[:, 0]
            out[rows, :-1, :-1] = gram(scaled)
        out[:, :-1, -1] = out[:, -1, :-1]
        return out

    def objective(self, at: Estimate, y: Tensor) -> Tensor:
        """What is minimised, for responses y (B, N), (B,) float64."""
        away = at.theta - self.common.prior.mean
        penalty = ((away @ self.common.prior.precision) * away).sum(dim=1)
        return at.output.loss(y) / at.dispersion + 0.5 * penalty

    def backtrack(
        self, at: Estimate, step: Step, size: Tensor, before: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, Estimate]:
        """Largest of 1, 1/2, 1/4, ... times ``size`` (B,) that lowers the objective as it should.

        Args:
            at: where the step starts.
            step: the step.
            size: of the step to try first.
            before: (B,) objective where it starts.
            y: (B, N) responses.

        Returns:
            The size, and the objective and the estimate after it.
        """
        for halvings in range(MOST_HALVINGS + 1):
            there = at.moved(step, size)
            after = self.objective(there, y)
            worse = after > before - 1e-4 * size * step.slope + 1e-7 * before.abs()
            # Near the optimum a full step is right, and its gain is lost in rounding.
            worse &= step.slope > DAMPED_FROM
            if halvings == MOST_HALVINGS or not bool(worse.any()):
                break
            size = torch.where(worse, size / 2, size)
        return size, after, there

    def damped(self, at: Estimate, step: Step) -> Tensor:
        """How much of a Newton step to take, (B,)."""
        size = torch.ones_like(step.slope)
        tried = (step.slope > DAMPED_FROM).nonzero()[:, 0]
        if len(tried):
            at, step, y = at.only(tried), step.only(tried), self.y[tried]
            size[tried], *_ = self.backtrack(at, step, size[tried], self.objective(at, y), y)
        return size

    def dispersion(self, at: Estimate) -> Tensor:
        """Residual variance over mean rate, corrected for the parameters spent on the fit, (B,).

        Those are the trace of A (A + S^-1)^-1 for an information A, for which the population's average,
        scaled to the neuron's curvature, is good enough. With a handful of events that correction does not hold:
        weights that explain every one of them are always found. There the dispersion stays near what it is
        without any weights, the more so the fewer events (``events``).
        """
        rate, n = at.output.rate(), self.y.shape[1]
        total = rate.sum(dim=1, dtype=torch.float64)
        residual = rate.sub_(self.y).square_().sum(dim=1, dtype=torch.float64)
        known = (self.curvature(at.output) / at.dispersion)[:, None] * self.common.basis[1]
        left = 1.0 - (known / (1.0 + known)).sum(dim=1) / n
        found = residual / total / left.clamp_min(0.1)
        amount, power = (
            self.y.sum(dim=1, dtype=torch.float64),
            self.y.square().sum(dim=1, dtype=torch.float64),
        )
        few = (1.0 - events(amount, power) / FEW_EVENTS).clamp_min(0.0)
        unexplained = (power - amount.square() / n) / amount.clamp_min(1e-12)
        clamped: Tensor = torch.maximum(found, few * unexplained).clamp(*DISPERSION_RANGE)
        return clamped


def events(amount: Tensor, power: Tensor) -> Tensor:
    """How many equal responses, and nothing else, would have this sum and this sum of squares."""
    return amount.square() / power.clamp_min(1e-30)
