"""The core for inference: batch norm folded into the convolutions, layout chosen for the processor.

In evaluation mode a batch norm is a fixed affine map per channel,

    norm(v) = s v + t,   s = gamma / sqrt(var + eps),   t = beta - s mean,

and so is the input contract's (v - mean) / std. Both disappear into the convolution beside them:
the first layer has no padding, so that a shift of its input is a shift of its output, and the
other norms follow a 1x1 convolution. What is left is convolutions with a bias, and ELU.

Speed on a processor comes from two further choices. Images go through all layers a few at a time,
so that what one layer writes is still in the cache when the next one reads it; and where torch has
oneDNN, each run of convolutions between two ELUs stays in oneDNN's blocked layout, because its
13x13 depthwise kernel works in that layout and would otherwise convert to and fro.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousev1.allocator import keep_freed_memory
from mousev1.core import Core, InputLayer, SeparableLayer
from mousev1.elementwise import exp_

if TYPE_CHECKING:
    from mousev1.representation import FeatureExtractor, FrozenCore

# Measured on 2 cores of a Zen 4 server with the 11-S core, images/s at 12, 16, 24, 32, 64 images at a
# time: 945, 1008, 982, 980, 816.
CPU_IMAGES_AT_A_TIME = 16


class FusedCore(nn.Module):
    """A frozen copy of a core that only computes features, faster.

    Built by ``fuse``. Same contract as ``Core.forward``: raw gray values in, features out. It has
    no gradients and does not follow later changes of the core it was made from.

    Attributes:
        config: the core's config.
        name: the core's name.
    """

    def __init__(self, core: Core, dtype: torch.dtype) -> None:
        super().__init__()
        self.config = core.config
        self.name = core.name
        self.dtype = dtype
        contract = core.config.input
        first = cast(InputLayer, core.layers[0])
        weight, bias = _fold(first.conv, first.norm)
        bias = bias - weight.sum(dim=(1, 2, 3)) * (contract.mean / contract.std)
        stages = [(weight / contract.std, bias)]
        for layer in list(core.layers)[1:]:
            separable = cast(SeparableLayer, layer)
            # Only the last convolution of a layer has a norm, hence a bias.
            stages.append((separable.pointwise_in.weight.double(), torch.empty(0)))
            stages.append((separable.depthwise.weight.double(), torch.empty(0)))
            stages.append(_fold(separable.pointwise_out, separable.norm))
        for i, (stage_weight, stage_bias) in enumerate(stages):
            self.register_buffer(f"weight_{i}", stage_weight.detach().to(dtype).contiguous())
            self.register_buffer(f"bias_{i}", stage_bias.detach().to(dtype))
        self.n_stages = len(stages)
        self._blocked: list[tuple[Tensor, Tensor | None]] | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FusedCore:
        # Weights in oneDNN's layout cannot move with the buffers; they are made anew when needed.
        self._blocked = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, object]:
        # Copies and pickles, too, leave oneDNN's tensors behind.
        return {**self.__dict__, "_blocked": None}

    def _stages(self) -> list[tuple[Tensor, Tensor | None]]:
        """(weight, bias or None) per convolution, in the layout that ``forward`` works in."""
        if self._blocked is not None:
            return self._blocked
        stages: list[tuple[Tensor, Tensor | None]] = []
        for i in range(self.n_stages):
            weight, bias = self.get_buffer(f"weight_{i}"), self.get_buffer(f"bias_{i}")
            stages.append((weight, bias if bias.numel() else None))
        if self.uses_onednn:
            stages = [(w.to_mkldnn(), None if b is None else b.to_mkldnn()) for w, b in stages]
            self._blocked = stages
        return stages

    @property
    def uses_onednn(self) -> bool:
        """Whether convolutions run in oneDNN's own layout: on a processor, in float32."""
        on_cpu = self.get_buffer("weight_0").device.type == "cpu"
        available: bool = torch.backends.mkldnn.is_available()
        return on_cpu and self.dtype == torch.float32 and available

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features of raw images, (N, C_in, H, W) of any real type to (N, C, H', W').

        See ``Core.forward`` for what images must be.
        """
        channels = self.config.input_channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(f"images: expected (N, {channels}, H, W), got {tuple(images.shape)}")
        shape = self.config.feature_shape(images.shape[2], images.shape[3])
        out = images.new_empty((len(images), *shape), dtype=self.dtype)
        at_a_time = CPU_IMAGES_AT_A_TIME if images.device.type == "cpu" else max(len(images), 1)
        for start in range(0, len(images), at_a_time):
            part = slice(start, start + at_a_time)
            self._run(images[part], out[part])
        return out

    def _run(self, images: Tensor, out: Tensor) -> None:
        """Features of a few images, into ``out``."""
        blocked = self.uses_onednn
        x = images.to(self.dtype)
        x = x.contiguous() if blocked else x
        for i, (weight, bias) in enumerate(self._stages()):
            x = x.to_mkldnn() if blocked and not x.is_mkldnn else x
            depthwise = i % 3 == 2
            padding = weight.shape[-1] // 2 if depthwise else 0
            x = F.conv2d(x, weight, bias, padding=padding, groups=weight.shape[0] if depthwise else 1)
            if i % 3 == 0:
                x = x.to_dense() if x.is_mkldnn else x
                x = _elu(x, out if i == self.n_stages - 1 else x)

    def extra_repr(self) -> str:
        """Name, type and layout, for ``print``."""
        return f"name={self.name!r}, dtype={self.dtype}, onednn={self.uses_onednn}"


@overload
def fuse(core: Core, *, dtype: torch.dtype = torch.float32) -> FusedCore: ...


@overload
def fuse(core: FrozenCore, *, dtype: torch.dtype = torch.float32) -> FeatureExtractor: ...


def fuse(core: FrozenCore, *, dtype: torch.dtype = torch.float32) -> FeatureExtractor:
    """A copy of ``core`` for inference, with everything affine folded into its convolutions.

    Args:
        core: in evaluation mode (a frozen core always is). What is no ``Core`` has nothing to fold that
            is known here, and is handed back as it is.
        dtype: arithmetic of the copy. In float32 its features agree with the core's to 1e-5.
            bfloat16 is meant for accelerators: on the 11-S core its features are off by 1.3% of
            their standard deviation, and a processor gains only a few percent of speed.
    """
    if core.training:
        raise ValueError("core: expected evaluation mode, whose batch norm is fixed; call core.eval() first")
    if not isinstance(core, Core):
        return core
    keep_freed_memory()  # a batch's feature maps are tens of megabytes
    fused = FusedCore(core, dtype)
    return fused.eval().requires_grad_(False)


def _elu(x: Tensor, out: Tensor) -> Tensor:
    """The ELU of x into ``out``, which may be x.

    Twice as fast on a processor as the function itself, whose exponential takes the longest.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return out.copy_(F.elu(x))
    return torch.maximum(x, exp_(x.clamp_max(0.0)).sub_(1.0), out=out)


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a convolution that does what ``norm(conv(x))`` does."""
    mean, var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight.double() / (var.double() + norm.eps).sqrt()
    weight = conv.weight.double() * scale[:, None, None, None]
    return weight, norm.bias.double() - scale * mean.double()
