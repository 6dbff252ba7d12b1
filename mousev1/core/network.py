"""The core: the convolutional network whose features every neuron of V1 is read out from.

Lurz et al. 2021, "Generalization in data-driven models of primary visual cortex", ICLR, section 2.1.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousev1.core.identity import Identified
from mousev1.errors import reject_unknown_keys

MAX_LAYERS = 64
MAX_CHANNELS = 4096
MAX_KERNEL = 255


@dataclass(frozen=True)
class InputContract:
    """What the images of a core mean: the only definition of the stimulus constants.

    Attributes:
        value_range: smallest and largest gray value of an image; 0 to 255 for 8-bit pictures.
        mean: subtracted from the gray values before the first convolution.
        std: divides the gray values after that.
        pixels_per_degree: resolution of the image on the retina, in pixels per degree of visual angle.
        height: rows of the frame that the core was trained on.
        width: columns of that frame.
    """

    value_range: tuple[float, float] = (0.0, 255.0)
    mean: float = 0.0
    std: float = 1.0
    pixels_per_degree: float = 0.53
    height: int = 36
    width: int = 64

    def __post_init__(self) -> None:
        # JSON has no tuples
        low, high = (float(value) for value in self.value_range)
        object.__setattr__(self, "value_range", (low, high))
        if not low < high:
            raise ValueError(f"value_range: expected low < high, got ({low}, {high})")
        for name in ("std", "pixels_per_degree", "height", "width"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")


@dataclass(frozen=True)
class CoreConfig:
    """The size of a core and the images it expects.

    The defaults are the published 11-S core. Its first layer is a plain convolution without
    padding; every further layer is depth-separable and keeps the size of the map.

    Attributes:
        input_channels: channels of an image, C_in; 1 for gray.
        hidden_channels: channels C of every layer.
        layers: number of convolutional layers, the first included.
        input_kernel: side of the first layer's kernel, in pixels, odd.
        hidden_kernel: side of the depthwise kernels, in pixels, odd.
        batch_norm_momentum: weight of the newest batch in the running statistics, as in torch.
        input: the input contract.
    """

    input_channels: int = 1
    hidden_channels: int = 64
    layers: int = 4
    input_kernel: int = 15
    hidden_kernel: int = 13
    batch_norm_momentum: float = 0.9
    input: InputContract = field(default_factory=InputContract)

    def __post_init__(self) -> None:
        # The upper bounds keep a hostile or broken config from asking for all memory.
        bounds = {
            "input_channels": (1, MAX_CHANNELS),
            "hidden_channels": (1, MAX_CHANNELS),
            "layers": (1, MAX_LAYERS),
            "input_kernel": (1, MAX_KERNEL),
            "hidden_kernel": (1, MAX_KERNEL),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")
        for name in ("input_kernel", "hidden_kernel"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name}: expected an odd number, got {getattr(self, name)}")
        if not 0.0 <= self.batch_norm_momentum <= 1.0:
            raise ValueError(f"batch_norm_momentum: expected 0 to 1, got {self.batch_norm_momentum}")

    def to_dict(self) -> dict[str, Any]:
        """The config as plain values, ready for JSON."""
        values = asdict(self)
        values["input"]["value_range"] = list(self.input.value_range)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CoreConfig:
        """The config from plain values; every key is optional, unknown ones raise ``ValueError``."""
        reject_unknown_keys("core config", values, cls)
        values = dict(values)
        if "input" in values:
            contract = values["input"]
            if not isinstance(contract, dict):
                raise ValueError(f"input: expected an object with the input contract, got {contract!r}")
            reject_unknown_keys("input contract", contract, InputContract)
            values["input"] = InputContract(**contract)
        return cls(**values)

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H', W') of the features of an (H, W) image; ``ValueError`` if the image is too small."""
        margin = self.input_kernel - 1
        if height <= margin or width <= margin:
            raise ValueError(
                f"images: expected at least {self.input_kernel} x {self.input_kernel} pixels "
                f"(the first kernel), got {height} x {width}; enlarge or pad the images"
            )
        return self.hidden_channels, height - margin, width - margin

    @property
    def receptive_field(self) -> int:
        """Side of the square of pixels that one feature can see (51 for 11-S)."""
        return self.input_kernel + (self.layers - 1) * (self.hidden_kernel - 1)


class InputLayer(nn.Module):
    """Convolution without padding, batch norm, ELU."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(config.input_channels, config.hidden_channels, config.input_kernel, bias=False)
        self.norm = nn.BatchNorm2d(config.hidden_channels, momentum=config.batch_norm_momentum)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C, H - k + 1, W - k + 1)."""
        return F.elu(self.norm(self.conv(x)))


class SeparableLayer(nn.Module):
    """1x1 convolution, depthwise convolution of the same size, 1x1 convolution, batch norm, ELU."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        channels, kernel = config.hidden_channels, config.hidden_kernel
        self.pointwise_in = nn.Conv2d(channels, channels, 1, bias=False)
        self.depthwise = nn.Conv2d(
            channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False
        )
        self.pointwise_out = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, momentum=config.batch_norm_momentum)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return F.elu(self.norm(self.pointwise_out(self.depthwise(self.pointwise_in(x)))))


class Core(Identified):
    """Maps images to the feature map that readouts sample.

    Args:
        config: sizes and input contract.
        name: what the core is called in messages and in the models fitted on it.

    Attributes:
        source: where the core can be had again: a registered name, a Hub repository or a folder; None
            if it was made in memory.
        revision: the Hub commit it was loaded from, if any.
        probe: a few images and their features, with which the core checks itself; see ``mousev1.core.self_test``.
        readout_prior: what is known of readouts on this core before a fit, by name; None if nothing is.

    A new core has random (Xavier normal) weights from torch's generator; ``Core.random`` takes a
    seed. A frozen core stays in evaluation mode whatever ``train()`` is called on, so that neither
    its weights nor its batch-norm statistics can move.

    Example:
        >>> core = Core.random(seed=0)
        >>> core(torch.zeros(2, 1, 36, 64)).shape
        torch.Size([2, 64, 22, 50])
    """

    def __init__(self, config: CoreConfig | None = None, *, name: str = "unnamed") -> None:
        super().__init__()
        self.config = config or CoreConfig()
        self.name = name
        self.source: str | None = None
        self.revision: str | None = None
        self.probe: dict[str, Tensor] | None = None
        self.readout_prior: dict[str, Tensor] | None = None
        self.frozen = False
        hidden = (SeparableLayer(self.config) for _ in range(self.config.layers - 1))
        self.layers = nn.ModuleList([InputLayer(self.config), *hidden])
        for module in self.modules():
            # without memory there is nothing to fill, and torch would import its compiler to do it: 1.5 s
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.xavier_normal_(module.weight)

    @classmethod
    def random(cls, config: CoreConfig | None = None, *, seed: int) -> Core:
        """A frozen core with random weights: the baseline that any trained core must beat."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed accelerators, too
            return cls(config, name=f"random-{seed}").freeze()

    @property
    def device(self) -> torch.device:
        """Where the core computes; move it with ``to``."""
        return next(self.parameters()).device

    def freeze(self) -> Core:
        """Fix every weight and statistic for good; returns the core itself."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def thawed_copy(self) -> Core:
        """A trainable copy; the core itself stays as it is."""
        twin = copy.deepcopy(self)
        twin.frozen, twin.source, twin.revision = False, None, None
        # both describe the features, which training changes
        twin.probe, twin.readout_prior = None, None
        return twin.requires_grad_(True)

    def train(self, mode: bool = True) -> Core:
        """As in torch, but a frozen core stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: (N, C_in, H, W), gray values in the contract's ``value_range`` (0 to 255 for
                11-S), not normalised; H and W at least the first kernel's side (15 for 11-S).

        Returns:
            (N, C, H - 14, W - 14) for the 15x15 first kernel of 11-S.
        """
        channels = self.config.input_channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(
                f"images: expected (N, {channels}, H, W), got {tuple(images.shape)}; "
                "mousev1.data.images.prepare_images turns other pictures into this form"
            )
        self.config.feature_shape(images.shape[2], images.shape[3])
        contract = self.config.input
        x = images if (contract.mean, contract.std) == (0.0, 1.0) else (images - contract.mean) / contract.std
        for layer in self.layers:
            x = layer(x)
        return x

    def smoothness(self) -> Tensor:
        """Laplacian-L2-norm penalty of the first layer's filters, a scalar without unit.

        The summed squared Laplacian of all filters over their summed squares, zero-padded at the
        filters' borders: the regulariser of Lurz et al. 2021 and of neuralpredictors' LaplaceL2norm.
        """
        weight = cast(InputLayer, self.layers[0]).conv.weight
        laplacian = weight.new_tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])
        flat = weight.reshape(-1, 1, *weight.shape[2:])
        return F.conv2d(flat, laplacian[None, None], padding=1).square().sum() / flat.square().sum()

    def description(self) -> dict[str, Any]:
        """The config as plain values."""
        return self.config.to_dict()

    def extra_repr(self) -> str:
        """Name and state, for ``print(core)``."""
        return f"name={self.name!r}, {'frozen' if self.frozen else 'trainable'}"
