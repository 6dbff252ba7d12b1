"""Two published models that play the animal: true rates of real neurons' models to any pictures, and where they lie.

Neither model's own core is used to fit what they simulate. Both are of Willeke et al. 2022, "The Sensorium
competition on predicting large-scale mouse primary visual cortex activity" (github.com/sinzlab/sensorium,
notebooks/model_tutorial/model_checkpoints/pretrained).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from mousev1.core.network import InputContract
from mousev1.hub.checkpoint_import import import_checkpoint
from mousev1.model.response_model import ResponseModel

Array = npt.NDArray[Any]

GRAY = InputContract(mean=113.0, std=60.0)
PLUS_SESSION = "27204-5-13"
# The state that the second animal is kept in: pupil dilation, its derivative and running in standard deviations;
# centre of the pupil. That of the golden rates that its reader is tested with.
BEHAVIOUR, PUPIL = (0.3, -0.2, 1.1), (0.4, -0.7)


@dataclass(frozen=True)
class Twin:
    """An animal to simulate.

    Attributes:
        name: of the animal.
        model: gives true rates.
        cortex: (U, 2) cortical positions of its neurons as recorded, normalised.
    """

    name: str
    model: ResponseModel
    cortex: Array

    def rates(self, images: Array, neurons: Array) -> Array:
        """(N, len(neurons)) float64 true rates to (N, H, W) gray values."""
        return self.model.predict(images)[:, neurons].astype(np.float64)


def read_twins(weights: Path) -> tuple[Twin, Twin]:
    """Mouse 26872 (``sensorium_sota_model.pth``) and mouse 27204 (``sensorium_p_sota_model.pth``) in a folder."""
    first = weights / "sensorium_sota_model.pth"
    model = import_checkpoint(first)
    assert isinstance(model, ResponseModel)
    (grid,) = (value for key, value in _state(first).items() if key.endswith("source_grid"))
    return Twin("26872", model, grid.numpy()), read_plus(weights / "sensorium_p_sota_model.pth")


def read_plus(path: Path, behaviour: Array | None = None, pupil: Array | None = None) -> Twin:
    """Mouse 27204, whose model also takes behaviour and pupil, with these held still.

    Behaviour enters as three constant channels. Without padding they add a constant to every channel of the first
    layer, which moves the mean that batch norm subtracts; the pupil adds a constant to all positions. What is left
    is a model of gray images.

    Args:
        path: ``sensorium_p_sota_model.pth``.
        behaviour: (3,), ``BEHAVIOUR`` by default.
        pupil: (2,), ``PUPIL`` by default.
    """
    state = _state(path)
    still = torch.tensor(BEHAVIOUR if behaviour is None else behaviour, dtype=torch.float32)
    eye = torch.tensor(PUPIL if pupil is None else pupil, dtype=torch.float32)
    kernels = state.pop("core.features.layer0.conv.weight")
    gray = {key: value for key, value in state.items() if key.startswith("core.")}
    gray["core.features.layer0.conv.weight"] = kernels[:, :1].contiguous()
    mean = "core.features.layer0.norm.running_mean"
    gray[mean] = gray[mean] - kernels[:, 1:].sum(dim=(2, 3)) @ still

    def part(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}

    readout = part(f"readout.{PLUS_SESSION}.")
    shifter, network = part(f"shifter.{PLUS_SESSION}.mlp."), part(f"readout.{PLUS_SESSION}.mu_transform.")
    shift = eye
    for layer in (0, 2, 4):
        shift = torch.tanh(F.linear(shift, shifter[f"{layer}.weight"], shifter[f"{layer}.bias"]))
    cortex = readout["source_grid"]
    hidden = F.elu(F.linear(cortex, network["0.weight"], network["0.bias"]))
    mu = torch.tanh(F.linear(hidden, network["2.weight"], network["2.bias"])) + shift
    kept = {name: readout[name] for name in ("sigma", "_features", "bias")} | {"_mu": mu}
    gray |= {f"readout.{PLUS_SESSION}.{name}": value for name, value in kept.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gray.pth"
        torch.save(gray, file)
        model = import_checkpoint(file, contract=GRAY, name="sensorium+ at rest")
    assert isinstance(model, ResponseModel)
    return Twin("27204", model, cortex.numpy())


def _state(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
