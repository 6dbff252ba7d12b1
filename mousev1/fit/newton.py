"""Newton's steps to the optimum of ``glm``, for some neurons at once.

A neuron's matrix is computed once near the optimum and serves all later steps, because the curvature changes
little once steps are small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mousev1.fit.glm import COMMON_STEPS, Estimate, GlmProblem, Step

MOST_STEPS = 40
TOLERANCE = 1e-7
# A neuron's matrix is computed anew when a step leaves more than this share of the decrement,
REUSE_BELOW = 0.1
# and after the first step if that was longer than this: its square, in posterior standard deviations.
REUSE_WITHIN = 1.0
REMOVE_FROM = 0.5  # neurons that are done are taken out, together, once they are more than this share


@dataclass(frozen=True)
class GlmFit:
    """Optimum of each neuron.

    Attributes:
        theta: (U, C + 1) float64, weights and then the bias, on standardised features.
        information: (U, C + 1, C + 1) float32, X'hX near the optimum, without phi and prior, if it was to be kept.
        variances: (U, C + 1) float32, of theta's coordinates in the basis of ``Common``; see
            ``GlmProblem.variances``.
        dispersion: (U,) float64, phi.
        drive: (U, n) float32, X w + b for the first n images.
        converged: (U,) whether the tolerance was reached.
    """

    theta: Tensor
    information: Tensor | None
    variances: Tensor
    dispersion: Tensor
    drive: Tensor
    converged: Tensor

    @classmethod
    def empty(cls, units: int, size: int, images: int, *, keep_information: bool) -> GlmFit:
        """Zeros to be filled by ``put``."""
        return cls(
            theta=torch.zeros(units, size, dtype=torch.float64),
            drive=torch.zeros(units, images),
            information=torch.zeros(units, size, size) if keep_information else None,
            variances=torch.zeros(units, size),
            dispersion=torch.zeros(units, dtype=torch.float64),
            converged=torch.zeros(units, dtype=torch.bool),
        )

    def put(self, index: Tensor, part: GlmFit) -> None:
        """Fill in some neurons."""
        if self.information is not None:
            assert part.information is not None
            self.information[index] = part.information
        self.theta[index], self.variances[index] = part.theta, part.variances
        self.dispersion[index], self.converged[index] = part.dispersion, part.converged
        self.drive[index] = part.drive[:, : self.drive.shape[1]]


def fit_glm(
    problem: GlmProblem,
    *,
    start: Tensor,
    dispersion: Tensor,
    steps: int = COMMON_STEPS,
    estimate_dispersion: bool = True,
    tolerance: float = TOLERANCE,
    keep_information: bool = False,
) -> GlmFit:
    """Fit some neurons.

    Args:
        problem: features and responses, prior and average information.
        start: (B, C + 1) float64, where to start.
        dispersion: (B,) float64, phi, or where to start from.
        steps: first steps, with the population's matrix.
        estimate_dispersion: set phi from the residuals after the first few steps; later it stays,
            so that there is one function to minimise.
        tolerance: Newton decrement at which a neuron is done: its squared distance to the optimum, in
            posterior standard deviations.
        keep_information: give ``GlmFit.information``.
    """
    near = problem.approach(start, dispersion, steps)
    estimate = near if estimate_dispersion else replace(near, dispersion=dispersion)
    newton = _Newton.begin(problem, estimate)
    result = GlmFit.empty(len(start), start.shape[1], problem.y.shape[1], keep_information=keep_information)
    for count in range(MOST_STEPS + 1):
        direction, decrement = newton.problem.newton(newton.estimate, newton.factor)
        newton.done |= (decrement < tolerance) & (count > 0)
        if float(newton.done.float().mean()) > REMOVE_FROM or count == MOST_STEPS:
            leave = newton.done if count < MOST_STEPS else torch.ones_like(newton.done)
            result.put(newton.index[leave], newton.result(leave, keep_information=keep_information))
            if bool(leave.all()):
                break
            stay = ~leave
            newton, direction, decrement = newton.only(stay), direction[stay], decrement[stay]
        newton.take(Step(direction, newton.problem.drive(direction), decrement), count, tolerance)
    return result


@dataclass
class _Newton:
    """Newton steps of the neurons that are still at work.

    Attributes:
        problem: what they solve.
        index: (B,) which of all neurons they are.
        estimate: where they are.
        information: (B, C + 1, C + 1) float32, X'hX there or a few steps ago.
        factor: of the Hessian with that information.
        decrement: (B,) of the last step.
        done: (B,) whether the tolerance was reached; these wait, unchanged.
    """

    problem: GlmProblem
    index: Tensor
    estimate: Estimate
    information: Tensor
    factor: Tensor
    decrement: Tensor
    done: Tensor

    @classmethod
    def begin(cls, problem: GlmProblem, estimate: Estimate) -> _Newton:
        count, information = len(estimate.theta), problem.information(estimate.output)
        return cls(
            problem,
            torch.arange(count),
            estimate,
            information,
            problem.factor(information, estimate.dispersion),
            torch.full((count,), torch.inf, dtype=torch.float64),
            torch.zeros(count, dtype=torch.bool),
        )

    def only(self, keep: Tensor) -> _Newton:
        problem = GlmProblem(self.problem.data.only(keep), self.problem.common)
        rest = (t[keep] for t in (self.information, self.factor, self.decrement, self.done))
        return _Newton(problem, self.index[keep], self.estimate.only(keep), *rest)

    def take(self, step: Step, count: int, tolerance: float) -> None:
        """Go on by a step, and compute anew the matrices that it made useless."""
        size = self.problem.damped(self.estimate, step) * ~self.done
        self.estimate = self.estimate.moved(step, size)
        slow = (step.slope > REUSE_BELOW * self.decrement) & (step.slope > 10 * tolerance)
        late = (step.slope > REUSE_WITHIN if count == 0 else slow) & ~self.done
        self.decrement = step.slope
        if bool(late.any()):
            index = late.nonzero()[:, 0]
            self.information[index] = self.problem.information(self.estimate.output, index)
            self.factor[index] = self.problem.factor(self.information[index], self.estimate.dispersion[index])

    def result(self, keep: Tensor, *, keep_information: bool) -> GlmFit:
        last, information = self.estimate.only(keep), self.information[keep]
        # Computed a few steps ago, the matrices keep their shape but take the curvature of the optimum.
        grown = last.output.curvature(self.problem.y[keep]).sum(dim=1) / information[:, -1, -1]
        return GlmFit(
            last.theta,
            information * grown[:, None, None] if keep_information else None,
            self.problem.variances(self.factor[keep], grown),
            last.dispersion,
            last.output.drive,
            self.done[keep],
        )
