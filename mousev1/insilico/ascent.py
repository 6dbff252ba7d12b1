"""Gradient ascent in pixel space, for many neurons' images at once.

For a neuron with drive z (the response before its output nonlinearity, which only grows with it) the image
background + d takes steps (Erhan et al. 2009; Walker et al. 2019, Nature Neuroscience)

    d <- P(d + s_t |P| G_t * grad z(d) / |G_t * grad z(d)|),

where G_t is a Gaussian blur (the published regulariser: it keeps the image from filling with frequencies that
the neuron hardly sees; its width falls during the ascent), s_t a step that falls from ``step`` to ``last_step``,
and P puts d back to what may be shown: mean zero, the norm |P| that the contrast allows, no gray value
beyond the range.

Mean and contrast (RMS) are those of the whole frame, so that the images may be compared with any other stimulus
of the same contrast. Only the part that the neuron sees is optimised and computed, see
``mousev1.insilico.unit_patches``; the rest of the screen stays uniform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mousev1.insilico.frame import Frame

ROUNDS, LAST_ROUNDS = 3, 100
"""Corrections of gain and offset for what the range cuts off: during the ascent, and at its end."""


class View(Protocol):
    """Drives of neurons at patches of their images, with gradients: ``mousev1.insilico.unit_patches.LocalView``."""

    @property
    def patch_height(self) -> int:
        """Rows of a patch."""

    @property
    def patch_width(self) -> int:
        """Columns of a patch."""

    def drive(self, patches: Tensor, units: Tensor) -> Tensor:
        """(B,) drives of neurons (B,) at patches (B, 1, h, w)."""


@dataclass(frozen=True, kw_only=True)
class AscentSettings:
    """How images are optimised.

    Attributes:
        contrast: RMS contrast of the whole frame, see ``mousev1.insilico.contrast``. A tenth lets most
            images stay inside the range of gray values.
        steps: gradient steps.
        seeds: random starts; the best of them is kept, and how well they agree is reported.
        blur_px: standard deviation of the gradient's blur at the first step, in pixels.
        last_blur_px: the same at the last step.
        step: length of the first step, as a fraction of the norm that the contrast allows.
        last_step: the same of the last one.
    """

    contrast: float = 0.1
    steps: int = 100
    seeds: int = 2
    blur_px: float = 2.0
    last_blur_px: float = 0.75
    step: float = 1.0
    last_step: float = 0.02

    def __post_init__(self) -> None:
        for name in ("steps", "seeds"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < (name == "steps"):
                raise ValueError(f"{name}: expected a whole number, at least one step, got {value!r}")
        for name, low in (("contrast", 0.0), ("step", 0.0), ("last_step", 0.0)):
            if not getattr(self, name) > low:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        for name in ("blur_px", "last_blur_px"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected pixels, 0 for no blur, got {getattr(self, name)}")


@dataclass(frozen=True)
class State:
    """Images as deviations from the background: patches (B, 1, h, w), and (B, 1, 1, 1) all around them."""

    patch: Tensor
    around: Tensor

    def where(self, better: Tensor, other: State) -> State:
        """Rows of the other state where it is better."""
        rows = better[:, None, None, None]
        return State(torch.where(rows, other.patch, self.patch), torch.where(rows, other.around, self.around))


class Ascent:
    """Steps, blurs and constraints of one run, for any batch of patches."""

    def __init__(self, view: View, frame: Frame, settings: AscentSettings, *, sign: float) -> None:
        self.view, self.sign = view, sign
        self.background = frame.background
        low, high = frame.value_range
        self.low, self.high = low - frame.background, high - frame.background
        self.pixels = frame.height * frame.width
        self.beyond = self.pixels - view.patch_height * view.patch_width
        self.norm = settings.contrast * (frame.background - frame.black) * self.pixels**0.5
        steps = settings.steps
        self.lengths = np.geomspace(settings.step, settings.last_step, steps) * self.norm
        self.blurs = np.linspace(settings.blur_px, settings.last_blur_px, steps)

    def run(self, begin: Tensor, units: Tensor) -> tuple[State, Tensor]:
        """The best images on the way from patches (B, h, w), and drives (B, T + 1)."""
        # the start of a patch is a deviation from the mean of its frame, so that the rest has minus its sum
        rest = -begin.sum(dim=(1, 2)) / max(self.beyond, 1)
        now = best = self.project(State(begin[:, None], rest[:, None, None, None]))
        best_drive = torch.full((len(begin),), -torch.inf, device=begin.device)
        path = []
        for step in range(len(self.lengths) + 1):
            climbing = step < len(self.lengths)
            x = (now.patch + self.background).requires_grad_(climbing)
            drive = self.view.drive(x, units) * self.sign
            path.append(drive.detach())
            best = best.where(path[-1] > best_drive, now)
            best_drive = torch.maximum(path[-1], best_drive)
            if climbing:
                (gradient,) = torch.autograd.grad(drive.sum(), x)
                smooth = blurred(gradient, float(self.blurs[step]))
                now = self._stepped(now, smooth, float(self.lengths[step]))
        return self.project(best, rounds=LAST_ROUNDS), torch.stack(path, dim=1) * self.sign

    def project(self, state: State, *, rounds: int = ROUNDS) -> State:
        """Mean zero, the wanted norm and inside the range: clip(gain * state + offset)."""
        state = self._centred(state.patch, state.around)
        gain = self.norm / self._norm(state).clamp_min(1e-30)
        offset = torch.zeros_like(gain)
        for _ in range(rounds):
            patch, around = state.patch * gain + offset, state.around * gain + offset
            shown = State(patch.clamp(self.low, self.high), around.clamp(self.low, self.high))
            if torch.equal(shown.patch, patch):
                break
            centred = self._centred(shown.patch, shown.around)
            gain = gain * (self.norm / self._norm(centred).clamp_min(1e-30))
            offset = offset + centred.around - shown.around
        return shown

    def _stepped(self, state: State, gradient: Tensor, length: float) -> State:
        # what lies around has no gradient of its own
        uphill = self._centred(gradient)
        gain = length / self._norm(uphill).clamp_min(1e-30)
        return self.project(State(state.patch + gain * uphill.patch, state.around + gain * uphill.around))

    def _centred(self, patch: Tensor, around: Tensor | None = None) -> State:
        around = patch.new_zeros(len(patch), 1, 1, 1) if around is None else around
        mean = (patch.sum(dim=(1, 2, 3), keepdim=True) + self.beyond * around) / self.pixels
        return State(patch - mean, around - mean)

    def _norm(self, state: State) -> Tensor:
        """(B, 1, 1, 1) norm of the whole image."""
        inside = state.patch.square().sum(dim=(1, 2, 3), keepdim=True)
        out: Tensor = (inside + self.beyond * state.around.square()).sqrt()
        return out


def noise(size: tuple[int, int], *, seed: tuple[int, int, int]) -> Tensor:
    """White noise (h, w), blurred by a pixel."""
    white = np.random.default_rng(seed).standard_normal(size)
    return blurred(torch.from_numpy(white).float()[None, None], 1.0)[0, 0]


def blurred(x: Tensor, sigma: float) -> Tensor:
    """(B, 1, h, w) under a Gaussian cut at three standard deviations, zero beyond the border."""
    if sigma == 0:
        return x
    reach = int(np.ceil(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype) / sigma
    kernel = torch.exp(-0.5 * offsets.square())
    kernel = kernel / kernel.sum()
    x = F.conv2d(x, kernel.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(x, kernel.view(1, 1, 1, -1), padding=(0, reach))


def check_contrast(contrast: float, frame: Frame, seen: int) -> None:
    """Pixels at either end of the range, where a neuron sees any, are all the contrast there is."""
    low, high = frame.value_range
    span = ((high - frame.background) * (frame.background - low)) ** 0.5
    largest = span / (frame.background - frame.black) * (seen / (frame.height * frame.width)) ** 0.5
    if contrast > largest:
        raise ValueError(
            f"contrast: expected an RMS contrast of at most {largest:.4g}, all that black and white in the "
            f"{seen} pixels that a unit sees give a frame of {frame.height} x {frame.width} with background "
            f"{frame.background:g}, got {contrast:g}; lower it"
        )
