"""Most exciting and most inhibiting images: what drives a neuron most, and least.

For a whole population at once, as inception loops do for V1 (Walker et al. 2019, Nature Neuroscience; Bashivan et
al. 2019, Science), by the gradient ascent of ``mousev1.insilico.ascent``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mousev1.errors import check_choice
from mousev1.insilico.ascent import Ascent, AscentSettings, check_contrast, noise
from mousev1.insilico.frame import Float, Frame, Images32
from mousev1.insilico.unit_patches import LocalView
from mousev1.insilico.units import check_request
from mousev1.model.response_model import ResponseModel
from mousev1.readout.gaussian import rate_from_drive
from mousev1.storage.table import Table

PATCHES_AT_A_TIME = 16
"""Patches that climb together; more fall out of a processor's cache."""


@dataclass(frozen=True, eq=False)
class OptimalImages(Table):
    """The most exciting (or inhibiting) image of each of U neurons, from S starts each.

    Attributes:
        unit_ids: (U,) the scan's names of the neurons.
        frame: the screen.
        kind: ``"exciting"`` or ``"inhibiting"``.
        settings: how they were made.
        images: (U, H, W) gray values of the best start.
        response: (U,) predicted response to it, in the units of the recorded responses.
        blank_response: (U,) predicted response to an empty screen.
        contrast: (U,) RMS contrast that was reached; below the wanted one only where the range of gray
            values leaves no room.
        start_response: (U, S) predicted response to the image of every start.
        agreement: (U,) lowest correlation between the image of the best start and those of the others, over
            the pixels that the neuron sees; NaN with a single start.
        trace: (U, S, T + 1) predicted responses before the first step and after each.
    """

    unit_ids: NDArray[np.int64]
    frame: Frame
    kind: str
    settings: AscentSettings
    images: Images32
    response: Float
    blank_response: Float
    contrast: Float
    start_response: Float
    agreement: Float
    trace: NDArray[np.float32]

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Numbers per neuron (not the images): ``unit_id``, ``response``, ``blank_response``, ``contrast``,
        ``agreement``, and from every start ``response_start_<number>``.
        """
        starts = self.start_response.shape[1]
        return {
            "unit_id": self.unit_ids,
            "response": self.response,
            "blank_response": self.blank_response,
            "contrast": self.contrast,
            "agreement": self.agreement,
            **{f"response_start_{i}": self.start_response[:, i] for i in range(starts)},
        }


def optimal_images(
    model: ResponseModel,
    *,
    units: object = None,
    kind: str = "exciting",
    frame: Frame | None = None,
    settings: AscentSettings | None = None,
    starts: NDArray[Any] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> OptimalImages:
    """Images that excite (or inhibit) each neuron most under a contrast and a range of gray values.

    Args:
        model: a fitted model of a core of gray images.
        units: (U,) indices of neurons; all by default.
        kind: ``"exciting"`` or ``"inhibiting"``.
        frame: the screen; that of the images of the fit by default.
        settings: contrast, steps, blur and number of random starts.
        starts: (U, H, W) images to start from as well, such as the best of a gallery for each neuron
            (``mousev1.insilico.rank_gallery``). The part that the neuron sees takes up all the contrast.
        seed: of the random starts. A neuron's start depends on the seed and its index in the model alone.
        progress: show a progress bar, as all long calls do by default.

    Raises:
        ValueError: no such neuron, a contrast beyond the range, or starts of a wrong shape.

    Example:
        >>> from mousev1 import Core, CoreConfig, fit_readout
        >>> rng = np.random.default_rng(0)
        >>> images = rng.integers(0, 256, size=(40, 36, 64), dtype=np.uint8)
        >>> core = Core.random(CoreConfig(hidden_channels=4, layers=2), seed=0)
        >>> model = fit_readout(images, rng.gamma(1.0, size=(40, 2)), core=core, progress=False)
        >>> found = optimal_images(model, units=[1], settings=AscentSettings(steps=3), progress=False)
        >>> found.images.shape
        (1, 36, 64)
    """
    check_choice("kind", kind, ("exciting", "inhibiting"))
    settings = settings or AscentSettings()
    index, frame = check_request(model, units, frame)
    view = LocalView(model, height=frame.height, width=frame.width)
    check_contrast(settings.contrast, frame, view.patch_height * view.patch_width)
    given = None if starts is None else _check_starts(starts, len(index), frame)
    if settings.seeds == 0 and given is None:
        raise ValueError("settings: expected at least one seed, or starts, got neither")

    ascent = Ascent(view, frame, settings, sign=1.0 if kind == "exciting" else -1.0)
    chosen, rows = torch.from_numpy(index), torch.arange(len(index))
    begin = _starts(view, chosen, settings.seeds, seed, given)
    climbed = _climb(ascent, begin, chosen.to(model.device), desc=f"most {kind} images", progress=progress)
    scale = model.response_scale.cpu()[chosen]
    best = (climbed.drive * ascent.sign).argmax(dim=1)
    around = climbed.around[rows, best][:, None, None, None].expand(-1, 1, frame.height, frame.width)
    deviation = view.put(climbed.patches[rows, best][:, None], chosen, around)[:, 0]
    images = deviation + frame.background
    contrast = (images.double() - frame.background).square().mean(dim=(1, 2)).sqrt()
    with torch.no_grad():
        blank_response = model(torch.from_numpy(frame.blank())[None].to(model.device))[0].cpu()[chosen]
    response = rate_from_drive(climbed.drive) * scale[:, None]
    return OptimalImages(
        unit_ids=model.unit_ids.cpu().numpy()[index],
        frame=frame,
        kind=kind,
        settings=settings,
        images=images.numpy(),
        response=response[rows, best].double().numpy(),
        blank_response=blank_response.double().numpy(),
        contrast=(contrast / (frame.background - frame.black)).numpy(),
        start_response=response.double().numpy(),
        agreement=_agreement(climbed.patches, best),
        trace=(rate_from_drive(climbed.trace) * scale[:, None, None]).numpy(),
    )


class _Climbed(NamedTuple):
    """What U neurons from S starts ended at."""

    patches: Tensor  # (U, S, h, w), without the background
    around: Tensor  # (U, S), what surrounds the patch, without the background
    drive: Tensor  # (U, S)
    trace: Tensor  # (U, S, T + 1), drives on the way


def _starts(view: LocalView, units: Tensor, seeds: int, seed: int, own: Tensor | None) -> Tensor:
    """Patches (U, S, h, w): noise, and the neurons' own images (U, H, W) if these are given."""
    size = (view.patch_height, view.patch_width)
    white = [noise(size, seed=(seed, start, unit)) for unit in units.tolist() for start in range(seeds)]
    drawn = (
        torch.stack(white).unflatten(0, (len(units), seeds)) if white else torch.empty(len(units), 0, *size)
    )
    return drawn if own is None else torch.cat([drawn, view.cut(own[:, None], units)], dim=1)


def _climb(ascent: Ascent, begin: Tensor, units: Tensor, *, desc: str, progress: bool) -> _Climbed:
    """Ascent from patches (U, S, h, w), some at a time."""
    device, (n_units, n_starts) = units.device, begin.shape[:2]
    patches = begin.transpose(0, 1).flatten(0, 1).split(PATCHES_AT_A_TIME)
    jobs = list(zip(patches, units.repeat(n_starts).split(PATCHES_AT_A_TIME), strict=True))
    parts = []
    for some, chosen in tqdm(jobs, desc=desc, unit="batch", disable=not progress):
        found, path = ascent.run(some.to(device), chosen)
        with torch.no_grad():
            drive = ascent.view.drive(found.patch + ascent.background, chosen)
        ends = (found.patch[:, 0], found.around[:, 0, 0, 0], drive, path)
        parts.append([values.cpu() for values in ends])
    joined = (torch.cat(part) for part in zip(*parts, strict=True))
    return _Climbed(*(values.unflatten(0, (n_starts, n_units)).transpose(0, 1) for values in joined))


def _agreement(patches: Tensor, best: Tensor) -> Float:
    """(U,) lowest correlation of the best start's patch with the others', (U, S, h, w); NaN for one start."""
    flat = patches.flatten(2).double()
    flat = flat - flat.mean(dim=2, keepdim=True)
    flat = flat / flat.norm(dim=2, keepdim=True).clamp_min(1e-30)
    chosen = flat[torch.arange(len(flat)), best]
    correlation = torch.einsum("usp,up->us", flat, chosen)
    correlation[torch.arange(len(flat)), best] = torch.inf
    lowest = correlation.amin(dim=1)
    return np.asarray(torch.where(lowest.isfinite(), lowest, torch.nan))


def _check_starts(starts: NDArray[Any], units: int, frame: Frame) -> Tensor:
    array = np.asarray(starts)
    expected = (units, frame.height, frame.width)
    if array.shape != expected or array.dtype.kind not in "uif":
        raise ValueError(
            f"starts: expected one image per neuron, {expected}, got {array.dtype} {array.shape}; "
            "np.repeat a single one"
        )
    tensor = torch.from_numpy(array.astype(np.float32))
    return tensor - tensor.mean(dim=(1, 2), keepdim=True)
