"""A model whose units are Gabor filters of known orientation, frequency, phase and position: an oracle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mousev1.core.network import Core, CoreConfig, InputContract
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.readout.gaussian import FeatureWeights, FreePositions, GaussianReadout
from mousev1.readout.posterior import WeightPosterior

KERNEL = 15
CONFIG = CoreConfig(
    hidden_channels=16,
    layers=1,
    input_kernel=KERNEL,
    input=InputContract(mean=118.0, std=60.0, height=36, width=40),
)


@dataclass(frozen=True)
class GaborCells:
    """The model, and per unit what its filter is like.

    Attributes:
        model: units 0 to 3 are simple cells, unit 4 is a complex cell.
        orientation_deg: (U,) of the stripes.
        frequency_cpd: (U,) of the largest response to a sine, by Fourier transform.
        phase_deg: (U,) of the carrier at the centre.
        xy_px: (U, 2) centres in pixels, y down.
        filters: (U, 15, 15) even filters.
    """

    model: ResponseModel
    orientation_deg: np.ndarray
    frequency_cpd: np.ndarray
    phase_deg: np.ndarray
    xy_px: np.ndarray
    filters: np.ndarray


def gabor_cells(*, variance: float | None = None, model_error: float = 0.0) -> GaborCells:
    """Gabor units; with ``variance`` of the weights of every second channel, the model has a posterior."""
    orientation = np.array([0.0, 37.0, 90.0, 141.0, 60.0])
    cycles = np.array([0.1, 0.14, 0.12, 0.09, 0.11])  # per pixel
    phase = np.array([0.0, 90.0, 180.0, -60.0, 0.0])
    mu = np.array([[0.0, 0.0], [-0.5, 0.3], [0.42, -0.66], [0.1, 0.9], [-0.2, -0.1]])
    filters = np.stack([_gabor(*values) for values in zip(orientation, cycles, phase, strict=True)])
    kernels = np.zeros((16, KERNEL, KERNEL))
    weights = np.zeros((5, 16))
    for unit in range(4):
        kernels[unit] = filters[unit]
        weights[unit, unit] = 1.5
    for k, quarter in enumerate((0.0, 90.0, 180.0, 270.0)):
        kernels[4 + k] = _gabor(orientation[4], cycles[4], quarter)
        weights[4, 4 + k] = 1.0
    core = Core(CONFIG, name="gabors")
    readout = GaussianReadout(FreePositions(5), FeatureWeights(5, 16))
    with torch.no_grad():
        core.layers[0].conv.weight.copy_(torch.from_numpy(kernels)[:, None])
        readout.positions.mu.copy_(torch.from_numpy(mu))
        readout.weights.weight.copy_(torch.from_numpy(weights))
        readout.bias.fill_(-0.5)
    posterior = None
    if variance is not None:
        basis = torch.cat([torch.eye(17), torch.zeros(17, 1)], dim=1)
        basis[-1, -1] = 1.0
        spread = torch.zeros(5, 18)
        spread[:, 1:16:2] = variance
        spread[:, -1] = model_error
        posterior = WeightPosterior(basis, spread)
    model = ResponseModel(
        core.freeze(),
        readout,
        unit_ids=np.arange(5) + 100,
        response_scale=np.array([1.0, 2.0, 0.5, 10.0, 1.0]),
        record=FitRecord("by hand"),
        posterior=posterior,
    )
    spectrum = np.abs(np.fft.fft2(filters, s=(512, 512)))
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512), indexing="ij"))
    peak = [radius.ravel()[one.argmax()] for one in spectrum.reshape(5, -1)]
    xy = np.column_stack([(mu[:, 0] + 1) / 2 * 25 + 7, (mu[:, 1] + 1) / 2 * 21 + 7])
    return GaborCells(model, orientation, np.array(peak) * 0.53, phase, xy, filters)


def _gabor(orientation_deg: float, cycles: float, phase_deg: float) -> np.ndarray:
    """Blind to uniform light, of unit norm; y is down, so that stripes run along (cos, -sin)."""
    y, x = np.mgrid[-7:8, -7:8].astype(float)
    angle = np.deg2rad(orientation_deg)
    across = x * np.sin(angle) + y * np.cos(angle)
    envelope = np.exp(-(x**2 + y**2) / (2 * 2.5**2))
    wave = np.cos(2 * np.pi * cycles * across - np.deg2rad(phase_deg))
    kernel = envelope * (wave - (envelope * wave).sum() / envelope.sum())
    return kernel / np.linalg.norm(kernel)
