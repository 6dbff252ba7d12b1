"""Small simulated scans and models whose truth is known: the oracle of the tests that fit and ask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mousev1.core.network import Core, CoreConfig, InputContract
from mousev1.data.scan import Scan
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.readout.gaussian import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
)

CONFIG = CoreConfig(hidden_channels=6, layers=3, input_kernel=5, hidden_kernel=3)
FRAME = InputContract(height=18, width=30)
SMALL = CoreConfig(hidden_channels=6, layers=3, input_kernel=5, hidden_kernel=3, input=FRAME)
LINEAR = CoreConfig(hidden_channels=4, layers=1, input_kernel=7, input=FRAME)


@dataclass(frozen=True)
class Simulated:
    """A scan, the core, readout and response scale (U,) that made it, and its noise-free rates (I, U)."""

    scan: Scan
    core: Core
    readout: GaussianReadout
    scale: np.ndarray
    rates: np.ndarray


def simulate(
    *, units: int = 8, train: int = 300, validation: int = 60, test: int = 30, repeats: int = 5, seed: int = 0
) -> Simulated:
    """Poisson-like responses of a random core's readout, in arbitrary units per neuron."""
    rng = np.random.default_rng(seed)
    core = Core.random(CONFIG, seed=seed)
    images = smooth_noise(rng, train + validation + test, 16, 24)
    cortex = rng.uniform(-400, 400, size=(units, 3)).astype(np.float32)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = PositionNetwork()
        plane = torch.from_numpy(cortex[:, :2])
        plane = (plane - plane.mean(0)) / (plane - plane.mean(0)).abs().max()
        readout = GaussianReadout(CortexPositions(plane, network), FeatureWeights(units, 6))
        network.layers[0].weight.mul_(4.0)
        features = core(torch.from_numpy(images)[:, None].float())
        spread = features.std(dim=(0, 2, 3))
        readout.weights.weight.copy_(torch.randn(units, 6) * 1.2 / spread)
        readout.bias.copy_(-(readout.weights.weight * features.mean(dim=(0, 2, 3))).sum(1))
        readout.eval()
        rates = readout(features).numpy()
    scale = rng.lognormal(0.0, 1.0, size=units).astype(np.float32)
    shown = np.concatenate(
        [np.arange(train + validation), np.repeat(train + validation + np.arange(test), repeats)]
    )
    tiers = np.array(["train"] * train + ["validation"] * validation + ["test"] * (test * repeats))
    responses = rng.gamma(4 * rates[shown], 0.25) * scale
    scan = Scan(
        name="small",
        images=images[:, None],
        image_ids=np.arange(len(images)) + 100,
        trial_image=shown,
        tiers=tiers,
        responses=responses.astype(np.float32),
        positions=cortex,
        unit_ids=np.arange(units) + 1,
    )
    return Simulated(scan, core, readout, scale, rates * scale)


def smooth_noise(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    noise = rng.normal(size=(count, height, width))
    spectrum = np.fft.rfft2(noise) / (
        0.05 + np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij"))
    )
    smooth = np.fft.irfft2(spectrum, s=(height, width))
    smooth = (smooth - smooth.mean()) / smooth.std()
    return np.clip(120 + 50 * smooth, 0, 255).astype(np.uint8)


def random_model(config: CoreConfig, *, units: int = 7, seed: int = 0, lift: float = 0.0) -> ResponseModel:
    """A random model; ``lift`` moves all channels of the last layer up, where ELU is linear."""
    core = Core.random(config, seed=seed)
    with torch.no_grad():
        core.layers[-1].norm.bias.fill_(lift)
    generator = torch.Generator().manual_seed(seed)
    readout = GaussianReadout(FreePositions(units), FeatureWeights(units, config.hidden_channels))
    noise = smooth_noise(np.random.default_rng(seed), 40, config.input.height, config.input.width)
    with torch.no_grad():
        features = core(torch.from_numpy(noise)[:, None].float())
        readout.positions.mu.copy_(torch.rand(units, 2, generator=generator) * 2 - 1)
        weights = torch.randn(units, config.hidden_channels, generator=generator)
        readout.weights.weight.copy_(weights / features.std(dim=(0, 2, 3)))
        readout.bias.copy_(-(readout.weights.weight * features.mean(dim=(0, 2, 3))).sum(dim=1))
    return ResponseModel(
        core,
        readout.requires_grad_(False),
        unit_ids=np.arange(units) + 10,
        response_scale=torch.linspace(0.5, 2.0, units),
        record=FitRecord("random"),
    )
