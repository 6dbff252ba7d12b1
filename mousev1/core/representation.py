"""Any network instead of a frozen core, so that other representations can be compared with it.

What a fit and a prediction ask of a core is written down in ``FrozenCore``. ``mousev1.Core`` answers it;
``Representation`` makes every torch module answer it that maps images to feature maps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousev1.core.identity import Identified
from mousev1.core.network import Core, InputContract

if TYPE_CHECKING:
    from typing_extensions import Self

# Inside of a large network an image takes many times the memory of its features.
CPU_IMAGES_AT_A_TIME, GPU_IMAGES_AT_A_TIME = 16, 64
MAX_UPSAMPLING = 64


class FeatureConfig(Protocol):
    """Sizes of features and of the images they are computed from."""

    @property
    def input(self) -> InputContract:
        """What images mean."""

    @property
    def input_channels(self) -> int:
        """Channels C_in of an image."""

    @property
    def hidden_channels(self) -> int:
        """Channels C of the features."""

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H', W') of the features of an (H, W) image; ``ValueError`` if the image is too small."""


class FeatureExtractor(Protocol):
    """What computes features: called with (N, C_in, H, W), it gives (N, C, H', W')."""

    name: str

    @property
    def config(self) -> FeatureConfig:
        """Sizes."""

    def __call__(self, images: Tensor) -> Tensor:
        """Features of images."""

    def to(self, device: Any) -> Self:
        """As in torch."""


class FrozenCore(FeatureExtractor, Protocol):
    """What readouts can be fitted on: a ``Core`` or a ``Representation``."""

    frozen: bool
    training: bool
    source: str | None
    revision: str | None
    readout_prior: dict[str, Tensor] | None

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def content_hash(self) -> str:
        """SHA-256 over sizes and weights: its identity."""


CoreLike = TypeVar("CoreLike", bound=FrozenCore)


def with_own_modules(core: CoreLike) -> CoreLike:
    """The same core in modules of its own: moved or converted, it leaves the given one as it is.

    The numbers are shared until then, so that it costs no memory.
    """
    module = cast(nn.Module, core)
    shared = {
        id(tensor): nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad)
        if isinstance(tensor, nn.Parameter)
        else tensor.detach()
        for tensor in (*module.parameters(), *module.buffers())
    }
    return copy.deepcopy(core, shared)


def as_core(core: FrozenCore, purpose: str) -> Core:
    """``core`` itself if it is a ``Core``; ``TypeError`` for what only a core can be used for.

    Args:
        core: core or representation.
        purpose: what needs a core, to begin the message with.
    """
    if isinstance(core, Core):
        return core
    raise TypeError(
        f"{purpose}: expected a mousev1 Core, got {type(core).__name__} '{core.name}', whose architecture "
        "mousev1 does not know; predict and score work with it, this needs a Core (training/ trains one)"
    )


@dataclass(frozen=True)
class RepresentationConfig:
    """Sizes of a representation.

    Attributes:
        input: the input contract.
        input_channels: channels of an image, as the module takes them.
        hidden_channels: channels C of the features.
    """

    input: InputContract
    input_channels: int
    hidden_channels: int
    _measure: Callable[[int, int], tuple[int, int, int]] = field(repr=False, compare=False)

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H', W') of the features of an (H, W) image; ``ValueError`` if the module takes none such."""
        return self._measure(height, width)


class Preprocessing(nn.Module):
    """Gray values to what a module was trained on; see ``Representation`` for the arguments."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, contract: InputContract, mean: Sequence[float], std: Sequence[float], upsampling: int
    ) -> None:
        super().__init__()
        self.contract, self.upsampling = contract, upsampling
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """(N, C_in, H, W) of any real type to (N, C_in, u H, u W) float32."""
        x = images.to(self.mean.dtype)
        if self.upsampling > 1:
            # Without antialiasing torch takes another bicubic kernel, which turns ramps into steps.
            x = F.interpolate(x, scale_factor=self.upsampling, mode="bicubic", antialias=True)
            # Bicubic overshoots at edges, which no screen could show.
            x = x.clamp(*self.contract.value_range)
        x = (x - self.contract.mean) / self.contract.std
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """Contract and upsampling, for ``print`` and for a representation's identity."""
        return f"{self.contract}, upsampling={self.upsampling}"


class Representation(Identified):
    """A torch module instead of a frozen core: for ``fit_readout``, ``predict`` and ``score``.

    Args:
        module: maps (N, channels, u H, u W) float32 images, u the upsampling, to (N, C, H', W') features,
            each image by itself. It is copied, fixed and put into evaluation mode.
        name: what it is called in messages, tables and figures.
        input: what images mean. Readouts are given images in its ``value_range``; the module sees
            (image - mean) / std. Its height and width are the frame that feature shapes are first
            measured on. The default leaves gray values from 0 to 255 as they are.
        channels: image channels that the module takes. With 3, gray images are repeated and colours
            stay; with 1, colours become luminance.
        channel_mean: subtracted per channel after the contract's scaling, as torchvision's ``Normalize``
            does: with ``InputContract(std=255.0)`` in units of 0 to 1. One number per channel.
        channel_std: divides per channel after that.
        upsampling: whole factor by which images are enlarged (bicubic) before the module sees them, for
            modules with large strides.

    Attributes:
        config: sizes and contract.
        source: None, as with everything here that only a core loaded from somewhere has.

    Raises:
        TypeError: ``module`` is no torch module.
        ValueError: numbers out of range, or a module that does not do the above on a test image.

    A model fitted on a representation predicts and scores like any other, and is saved without the module's code
    and weights: ``load_model(folder, core=representation)`` needs the representation built again, and accepts it
    if its content hash is the same. The hash is that of the weights and of how the module prints: a change of the
    code of a ``forward`` alone goes unnoticed.

    Example:
        >>> edges = nn.Conv2d(1, 8, 5)
        >>> representation = Representation(edges, name="edges", input=InputContract(mean=113.0, std=60.0))
        >>> representation.config.feature_shape(36, 64)
        (8, 32, 60)
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        input: InputContract | None = None,
        channels: int = 1,
        channel_mean: Sequence[float] | None = None,
        channel_std: Sequence[float] | None = None,
        upsampling: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
        for what, value, most in (("channels", channels, 4096), ("upsampling", upsampling, MAX_UPSAMPLING)):
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{what}: expected a whole number from 1 to {most}, got {value!r}")
        mean = _per_channel("channel_mean", channel_mean, channels, 0.0)
        std = _per_channel("channel_std", channel_std, channels, 1.0)
        if min(std) <= 0:
            raise ValueError(f"channel_std: expected positive numbers, got {std}")
        contract = input or InputContract()
        self.name = name
        self.frozen = True
        self.source: str | None = None
        self.revision: str | None = None
        self.readout_prior: dict[str, Tensor] | None = None
        self.preprocessing = Preprocessing(contract, mean, std, upsampling)
        self.module = copy.deepcopy(module)
        self.requires_grad_(False)
        self.eval()
        self._image_channels = channels
        self._shapes: dict[tuple[int, int], tuple[int, int, int]] = {}
        hidden, _, _ = self._measure(contract.height, contract.width)
        self.config = RepresentationConfig(contract, channels, hidden, self._measure)
        self._check_independence()

    @property
    def device(self) -> torch.device:
        """Where it computes; move it with ``to``."""
        return self.preprocessing.mean.device

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, whatever ``mode`` is."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features of images, with gradients for the images.

        Args:
            images: (N, C_in, H, W) of any real type, values in the contract's ``value_range``.

        Returns:
            (N, C, H', W') float32.
        """
        channels = self.config.input_channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(
                f"images: expected (N, {channels}, H, W), got {tuple(images.shape)}; "
                "mousev1.data.images.prepare_images turns other pictures into this form"
            )
        self.config.feature_shape(images.shape[2], images.shape[3])
        at_a_time = CPU_IMAGES_AT_A_TIME if images.device.type == "cpu" else GPU_IMAGES_AT_A_TIME
        return torch.cat([self._features(part) for part in images.split(at_a_time)])

    def description(self) -> list[str]:
        """The preprocessing and the module as they print."""
        return [repr(self.preprocessing), repr(self.module)]

    def extra_repr(self) -> str:
        """Name and sizes, for ``print``."""
        return f"name={self.name!r}, channels={self.config.hidden_channels}"

    def _features(self, images: Tensor) -> Tensor:
        out: Tensor = self.module(self.preprocessing(images))
        return out

    @torch.no_grad()
    def _measure(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape of the features of one image, found by trying."""
        if (height, width) not in self._shapes:
            middle = sum(self.preprocessing.contract.value_range) / 2
            gray = torch.full((1, self._image_channels, height, width), middle, device=self.device)
            try:
                features = self._features(gray)
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                raise ValueError(
                    f"images: the module of '{self.name}' failed on {tuple(gray.shape)} (N, C, H, W), enlarged "
                    f"{self.preprocessing.upsampling} times: {error}; give larger images, or change the "
                    "representation's channels or upsampling"
                ) from error
            self._shapes[height, width] = self._checked(features)
        return self._shapes[height, width]

    def _checked(self, features: Any) -> tuple[int, int, int]:
        """(C, H', W') of the module's answer to one image, if it is one."""
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        if not isinstance(features, Tensor) or len(got) != 4 or got[0] != 1 or 0 in got:
            raise ValueError(
                f"module: expected feature maps (1, C, H, W) for one image, got {got}; leave out pooling over "
                "positions and fully connected layers"
            )
        if not features.is_floating_point() or not bool(torch.isfinite(features).all()):
            raise ValueError("module: expected finite floating-point features for a gray image")
        return features.shape[1], features.shape[2], features.shape[3]

    @torch.no_grad()
    def _check_independence(self) -> None:
        """Refuse a module whose features of an image depend on what else is in the batch."""
        contract = self.config.input
        low, high = contract.value_range
        shape = (2, self.config.input_channels, contract.height, contract.width)
        noise = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        images = low + (high - low) * noise
        together, alone = self._features(images), torch.cat([self._features(image[None]) for image in images])
        tolerance = 1e-3 * float(alone.abs().max())
        if together.shape != alone.shape or not torch.allclose(together, alone, rtol=0, atol=tolerance):
            raise ValueError(
                f"module: the features that '{self.name}' gives an image depend on the other images of the "
                "batch; fix its normalisation layers, or anything random in it"
            )


def _per_channel(
    name: str, values: Sequence[float] | None, channels: int, default: float
) -> tuple[float, ...]:
    numbers = (default,) * channels if values is None else tuple(float(value) for value in values)
    if len(numbers) != channels:
        raise ValueError(f"{name}: expected {channels} numbers, one per channel, got {numbers}")
    return numbers
