"""The core for inference: batch norm folded into the convolutions, layout chosen for the processor.

In evaluation mode a batch norm is a fixed affine map per channel,

    norm(v) = s v + t,   s = gamma / sqrt(var + eps),   t = beta - s mean,

and so is the input contract's (v - mean) / std. Both disappear into the convolution beside them:
the first layer has no padding, so that a shift of its input is a shift of its output, and the
other norms follow a 1x1 convolution. What is left is convolutions with a bias, and ELU.

Speed on a processor comes from three further choices. Images go through all layers a few at a time,
so that what one layer writes is still in the cache when the next one reads it. Where torch has oneDNN,
everything stays in oneDNN's blocked layout, in which its 13x13 depthwise kernel works and which would
otherwise be converted to and fro; ELUs, which it has none of, work on a plain copy. And
in float32 the convolutions hand on what makes the ELU cheap: with V = (v + 1) / ln 2 for a value v,

    (ELU(v) + 1) / ln 2 = min(max(V, d), c 2^V),   d = 1 / ln 2,   c = d / 2^d,

because the exponential touches the straight line at v = 0. Both affine maps disappear into the
convolutions on either side.

If only a part of the feature map is asked for, each layer computes what the later ones need for it: 11-S sees
51 x 51 pixels from one location, but 13 x 13 of them in its last layer, 25 x 25 in the one before.

Features come with channels last in memory, as readouts read them: all channels at a location. On a processor
the last 1x1 convolution works in that layout already, on the part that was asked for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousev1.core.crop import Region
from mousev1.core.network import Core, InputLayer, SeparableLayer
from mousev1.numerics.workers import Piece, Result, Workers, workers

if TYPE_CHECKING:
    from mousev1.core.representation import FeatureExtractor, FrozenCore

# Images that a thread takes through all layers at once, and values that it computes ELUs of: what one step writes
# is still in the cache when the next one reads it.
CPU_IMAGES_AT_A_TIME = 16
ELU_VALUES = 140_000
LN2 = math.log(2.0)
KNEE = 1.0 / LN2  # d
FACTOR = KNEE / 2.0**KNEE  # c


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
        self._prepared: list[tuple[Tensor, Tensor | None]] | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FusedCore:
        # Weights in oneDNN's layout cannot move with the buffers; they are made anew when needed.
        self._prepared = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, object]:
        # Copies and pickles, too, leave oneDNN's tensors behind.
        return {**self.__dict__, "_prepared": None}

    def _stages(self) -> list[tuple[Tensor, Tensor | None]]:
        """(weight, bias or None) per convolution, in the layout and units that ``forward`` works in."""
        if self._prepared is not None:
            return self._prepared
        stages: list[tuple[Tensor, Tensor | None]] = []
        for i in range(self.n_stages):
            weight, bias = self.get_buffer(f"weight_{i}"), self.get_buffer(f"bias_{i}")
            stages.append((weight, bias if bias.numel() else None))
        if self.elu_is_cheap:
            stages = _for_cheap_elu(stages)
        if self.uses_onednn:
            convolutions = stages[:-1] if self.ends_channels_last else stages
            blocked = [(w.to_mkldnn(), None if b is None else b.to_mkldnn()) for w, b in convolutions]
            stages = blocked + stages[len(convolutions) :]
        self._prepared = stages
        return stages

    @property
    def ends_channels_last(self) -> bool:
        """Whether the last convolution, a 1x1, reads and writes channels last in memory."""
        return self.elu_is_cheap and self.n_stages > 1

    @property
    def elu_is_cheap(self) -> bool:
        """Whether convolutions hand on V instead of v: on a processor, in float32."""
        return self.get_buffer("weight_0").device.type == "cpu" and self.dtype == torch.float32

    @property
    def uses_onednn(self) -> bool:
        """Whether convolutions run in oneDNN's own layout: on a processor, in float32."""
        available: bool = torch.backends.mkldnn.is_available()
        return self.elu_is_cheap and available

    @torch.no_grad()
    def forward(self, images: Tensor, region: Region | None = None) -> Tensor:
        """Features of raw images, (N, C_in, H, W) of any real type to (N, C, H', W'), channels last in memory.

        Args:
            images: see ``Core.forward`` for what they must be.
            region: the part of the feature map to compute, all of it by default; H' and W' are its size.
        """
        channels = self.config.input_channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(f"images: expected (N, {channels}, H, W), got {tuple(images.shape)}")
        depth, height, width = self.config.feature_shape(images.shape[2], images.shape[3])
        region = region or Region.whole(height, width)
        if region.bottom > height or region.right > width:
            raise ValueError(f"region: expected a part of the {height} x {width} feature map, got {region}")
        kernel, layers = self.config.hidden_kernel, self.config.layers - 1
        rows = _needed(height, region.top, region.bottom, kernel, layers)
        columns = _needed(width, region.left, region.right, kernel, layers)
        out = images.new_empty((len(images), len(region), depth), dtype=self.dtype)
        if images.device.type != "cpu":
            self._run(images, rows, columns, out)
        else:
            self._stages()  # made before several threads ask for them
            with workers() as threads:
                parts = threads.slices(len(images), most=CPU_IMAGES_AT_A_TIME)
                deque(threads.map(lambda part: self._run(images[part], rows, columns, out[part]), parts), 0)
        return out.transpose(1, 2).view(-1, depth, region.height, region.width)

    def _run(self, images: Tensor, rows: _Needed, columns: _Needed, out: Tensor) -> None:
        """Features of a few images, into ``out`` (n, H' W', C)."""
        cheap = self.elu_is_cheap
        margin = self.config.input_kernel - 1
        x = images[..., rows.start : rows.stop + margin, columns.start : columns.stop + margin]
        x = x.to(self.dtype).contiguous()
        x = x.to_mkldnn() if self.uses_onednn else x
        stages = self._stages()
        for i, (weight, bias) in enumerate(stages[:-1] if self.ends_channels_last else stages):
            depthwise = i % 3 == 2
            padding = (rows.paddings[i // 3], columns.paddings[i // 3]) if depthwise else 0
            x = F.conv2d(x, weight, bias, padding=padding, groups=weight.shape[0] if depthwise else 1)
            if i % 3 == 0:
                x = _cheap_elu(x) if cheap else F.elu(x)
        x = x.to_dense() if x.is_mkldnn else x
        x = x[..., rows.wanted, columns.wanted]
        if self.ends_channels_last:
            x = F.conv2d(x.contiguous(memory_format=torch.channels_last), *stages[-1])
        last = x.permute(0, 2, 3, 1)
        out = out.view(last.shape)
        if not cheap:
            out.copy_(last)
            return
        if self.ends_channels_last:
            last = _cheap_elu(last.contiguous())
        torch.add(torch.tensor(-1.0), last, alpha=LN2, out=out)

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
            their standard deviation, and on a processor it takes longer (twice as long on a Xeon).
    """
    if core.training:
        raise ValueError("core: expected evaluation mode, whose batch norm is fixed; call core.eval() first")
    if not isinstance(core, Core):
        return core
    fused = FusedCore(core, dtype)
    return fused.eval().requires_grad_(False)


def features_within(extractor: FeatureExtractor, images: Tensor, region: Region) -> Tensor:
    """The part of the features of images that a region shows, (N, C, H', W'); only a fused core saves time by it."""
    return extractor(images, region) if isinstance(extractor, FusedCore) else region.of(extractor(images))


def map_images(
    threads: Workers,
    extractor: FeatureExtractor,
    function: Callable[[Piece], Result],
    parts: Sequence[Piece],
    *,
    device: torch.device,
) -> Iterator[Result]:
    """``function``, which computes features, of parts of the images: on workers where ``extractor`` allows it.

    A module that is not known here may not be safe to run on several threads; it has all of torch's, one part
    after the other. So have other devices than the processor.
    """
    if isinstance(extractor, FusedCore) and device.type == "cpu":
        yield from threads.map(function, parts)
        return
    with threads.paused():
        yield from map(function, parts)


@dataclass(frozen=True)
class _Needed:
    """What layers must compute along one axis of the feature map, for some part of it at the end.

    Attributes:
        start, stop: the part that the first layer computes.
        paddings: of zeros, on both sides, in each depthwise convolution.
        wanted: the part that was asked for, of what the last layer computes.
    """

    start: int
    stop: int
    paddings: tuple[int, ...]
    wanted: slice


def _needed(size: int, start: int, stop: int, kernel: int, layers: int) -> _Needed:
    """From the end to the beginning: each layer needs half a kernel more on both sides.

    Where that is beyond the border, there are zeros in the full computation. Convolutions pad both sides alike,
    so that the layers up to there compute the whole axis.
    """
    reach = kernel // 2
    first, last, paddings = start, stop, []
    for _ in range(layers):
        padding = max(0, reach - first, last + reach - size)
        first, last = (0, size) if padding else (first - reach, last + reach)
        paddings.append(padding)
    paddings.reverse()
    begin = first + sum(reach - padding for padding in paddings)
    return _Needed(first, last, tuple(paddings), slice(start - begin, stop - begin))


def _for_cheap_elu(stages: list[tuple[Tensor, Tensor | None]]) -> list[tuple[Tensor, Tensor | None]]:
    """The same convolutions, for what ``_cheap_elu`` takes and gives instead of each ELU."""
    out = []
    for i, (weight, bias) in enumerate(stages):
        if i % 3 == 0:  # before an ELU
            assert bias is not None
            weight, bias = weight / LN2, (bias + 1.0) / LN2
        elif i % 3 == 1:  # after one
            bias = -weight.double().sum(dim=(1, 2, 3)).to(weight.dtype)
            weight = weight * LN2
        out.append((weight, bias))
    return out


def _cheap_elu(x: Tensor) -> Tensor:
    """(ELU(v) + 1) / ln 2 for V = (v + 1) / ln 2, float32; in the memory of ``x`` unless that is oneDNN's."""
    if x.is_mkldnn:
        return _cheap_elu(x.to_dense()).to_mkldnn()
    knee = torch.tensor(KNEE)
    for part in x.view(-1).split(ELU_VALUES):
        torch.clamp(part, knee, torch.exp2(part).mul_(FACTOR), out=part)
    return x


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a convolution that does what ``norm(conv(x))`` does."""
    mean, var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight.double() / (var.double() + norm.eps).sqrt()
    weight = conv.weight.double() * scale[:, None, None, None]
    return weight, norm.bias.double() - scale * mean.double()
