"""Receptive fields: what a neuron's response changes with, at natural images.

For each neuron u and image i the gradient of the response r_u with respect to the pixels is a linear filter
g_ui, the neuron's receptive field at that image. Over images,

- ``mean`` is its average: the linear receptive field, which vanishes for a neuron that likes both signs
  of contrast alike (a complex cell);
- ``principal`` is its first principal component (without subtraction of the mean): the filter that explains
  most of all gradients, one of a pair in quadrature for a complex cell;
- ``energy`` is its root mean square per pixel: where the neuron looks, whatever it looks for.

A Gaussian is fitted to the squared energy, a Gabor to the principal filter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mousev1.core.representation import as_core
from mousev1.data.images import Images
from mousev1.insilico.field_fits import GaborFit, GaussianFit, fit_gabors, fit_gaussians
from mousev1.insilico.frame import Float, Frame, Images32
from mousev1.insilico.unit_patches import LocalView
from mousev1.insilico.units import check_request
from mousev1.model.response_model import ResponseModel
from mousev1.storage.table import Table

PAIRS_AT_A_TIME = 16
"""Patches that go through the core together: few enough to stay in a processor's cache."""


@dataclass(frozen=True, eq=False)
class ReceptiveFields(Table):
    """Receptive fields of U neurons of a model.

    Attributes:
        unit_ids: (U,) the scan's names of the neurons.
        frame: the screen.
        mean: (U, H, W) mean gradient, response per gray value.
        principal: (U, H, W) first principal component of the gradients, scaled to their root mean square
            along it and with the sign of ``mean``.
        energy: (U, H, W) root mean square of the gradients.
        linearity: (U,) norm of the mean over root mean square norm of the gradients: 1 for a linear
            neuron, near 0 for a complex cell.
        gaussian: fitted to the squared energy.
        gabor: fitted to the principal filter.
        readout_x_deg: (U,) where the readout looks, see ``readout_position``.
        readout_y_deg: (U,) the same, up.
    """

    unit_ids: NDArray[np.int64]
    frame: Frame
    mean: Images32
    principal: Images32
    energy: Images32
    linearity: Float
    gaussian: GaussianFit
    gabor: GaborFit
    readout_x_deg: Float
    readout_y_deg: Float

    @property
    def offset_deg(self) -> Float:
        """(U,) distance between the Gaussian's centre and where the readout looks."""
        x, y = self.gaussian.x_deg - self.readout_x_deg, self.gaussian.y_deg - self.readout_y_deg
        return np.asarray(np.hypot(x, y))

    def centres_on_frame(self) -> tuple[Float, Float]:
        """(U,) degrees x and y of where to show a neuron small stimuli: the Gaussian's centre.

        Where there is none, or it lies beyond the frame, where the readout looks.
        """
        x, y = self.gaussian.x_deg, self.gaussian.y_deg
        height, width = self.frame.size_deg
        usable = (np.abs(x) <= width / 2) & (np.abs(y) <= height / 2)
        return np.where(usable, x, self.readout_x_deg), np.where(usable, y, self.readout_y_deg)

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """All numbers per neuron (not the maps): ``unit_id``, ``linearity``, ``readout_x_deg``, ``readout_y_deg``,
        ``offset_deg``, and the fields of both fits as ``gaussian_<field>`` and ``gabor_<field>``.
        """
        fits: dict[str, GaussianFit | GaborFit] = {"gaussian": self.gaussian, "gabor": self.gabor}
        return {
            "unit_id": self.unit_ids,
            **{f"{name}_{f.name}": getattr(fit, f.name) for name, fit in fits.items() for f in fields(fit)},
            "linearity": self.linearity,
            "readout_x_deg": self.readout_x_deg,
            "readout_y_deg": self.readout_y_deg,
            "offset_deg": self.offset_deg,
        }


def readout_position(model: ResponseModel, frame: Frame) -> tuple[Float, Float]:
    """Where every neuron's readout looks, (U,) degrees x (right) and y (up) from the frame's centre.

    A position mu runs from -1 (centre of the first feature) to 1 (centre of the last). Without padding the
    first layer's k x k kernel centres feature j on pixel j + (k - 1) / 2 and leaves W - k + 1 features of
    W pixels; later layers keep the size. So

        x_px = (mu_x + 1) / 2 (W - k) + (k - 1) / 2,

    and y alike: the frame's centre is mu = 0.
    """
    config = as_core(model.core, "readout_position").config
    config.feature_shape(frame.height, frame.width)
    kernel = config.input_kernel
    with torch.no_grad():
        mu = model.readout.mu().double().cpu().numpy()
    x = (mu[:, 0] + 1) / 2 * (frame.width - kernel) + (kernel - 1) / 2
    y = (mu[:, 1] + 1) / 2 * (frame.height - kernel) + (kernel - 1) / 2
    return frame.to_degrees(x, y)


def receptive_fields(
    model: ResponseModel,
    images: Images,
    *,
    units: object = None,
    frame: Frame | None = None,
    progress: bool = True,
) -> ReceptiveFields:
    """Gradients of neurons at natural images, summarised and fitted.

    Args:
        model: a fitted model.
        images: (N, H, W) natural images or whatever else ``model.predict`` takes, of the frame's size;
            30 to 100 are enough. The work is neurons times images.
        units: (U,) indices of neurons; all by default.
        frame: the screen; by default that of the core with the images' size.
        progress: show a progress bar, as all long calls do by default.

    Raises:
        ValueError: images of another size than the frame's, or no such neuron.
    """
    stack = model.prepare(images)
    height, width = stack.shape[2:]
    index, frame = check_request(model, units, frame or Frame.of(model.core, height=height, width=width))
    if (frame.height, frame.width) != (height, width):
        raise ValueError(
            f"images: expected {frame.height} x {frame.width} as the frame, got {height} x {width}"
        )
    view = LocalView(model, height=height, width=width)
    stack = stack.to(model.device, torch.float32)
    scale = model.response_scale
    maps = np.zeros((3, len(index), height, width), dtype=np.float32)
    linearity = np.full(len(index), np.nan)
    for row, unit in enumerate(tqdm(index, desc="receptive fields", unit="unit", disable=not progress)):
        gradients = _gradients(view, stack, int(unit)) * scale[unit]
        mean, principal, energy, linearity[row] = _summary(gradients.flatten(1))
        top, left = view.origin[unit].tolist()
        patch = (slice(top, top + view.patch_height), slice(left, left + view.patch_width))
        for out, values in zip(maps, (mean, principal, energy), strict=True):
            out[row][patch] = values.view(view.patch_height, view.patch_width).cpu().numpy()
    x, y = readout_position(model, frame)
    gaussian = fit_gaussians(maps[2] ** 2, frame)
    return ReceptiveFields(
        unit_ids=model.unit_ids.cpu().numpy()[index],
        frame=frame,
        mean=maps[0],
        principal=maps[1],
        energy=maps[2],
        linearity=linearity,
        gaussian=gaussian,
        gabor=fit_gabors(maps[1], frame),
        readout_x_deg=x[index],
        readout_y_deg=y[index],
    )


def _gradients(view: LocalView, images: Tensor, unit: int) -> Tensor:
    """(N, h, w) gradients of ELU(drive) + 1 at every image, on the neuron's patch."""
    out = []
    for part in images.split(PAIRS_AT_A_TIME):
        units = torch.full((len(part),), unit, device=part.device)
        patches = view.cut(part, units).requires_grad_()
        drive = view.drive(patches, units)
        (gradient,) = torch.autograd.grad(torch.nn.functional.elu(drive).sum(), patches)
        out.append(gradient[:, 0])
    return torch.cat(out)


def _summary(gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Mean, principal component and root mean square (P,) of gradients (N, P), and linearity."""
    mean = gradients.mean(dim=0)
    energy = gradients.square().mean(dim=0)
    total = float(energy.sum())
    if total <= 0:
        return mean, torch.zeros_like(mean), energy, float("nan")
    values, vectors = torch.linalg.eigh(gradients.double() @ gradients.double().T / len(gradients))
    principal = (vectors[:, -1] @ gradients.double()) / len(gradients) ** 0.5
    # the component has unit length times the root of its eigenvalue
    principal = principal * (values[-1].sqrt() / principal.norm())
    sign = 1.0 if float(principal @ mean.double()) >= 0 else -1.0
    linearity = float(mean.double().norm()) / total**0.5
    return mean, (sign * principal).float(), energy.sqrt(), linearity
