"""Most exciting and most inhibiting images: what a unit would like to see most, and least.

For a whole population at once, as inception loops do for V1 (Walker et al. 2019, Nature Neuroscience; Bashivan et
al. 2019, Science), by the gradient ascent of ``mousev1.insilico.ascent``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mousev1.errors import check_choice
from mousev1.insilico.ascent import Ascent, AscentSettings, check_contrast, noise
from mousev1.insilico.frame import Float, Frame, Images32
from mousev1.insilico.unit_patches import LocalView
from mousev1.insilico.units import check_units
from mousev1.model.response_model import ResponseModel
from mousev1.readout.gaussian import rate_from_drive
from mousev1.storage.table import Table

PATCHES_AT_A_TIME = 16
"""Patches that climb together; more fall out of a processor's cache."""


@dataclass(frozen=True, eq=False)
class OptimalImages(Table):
    """The most exciting (or inhibiting) image of each of U units, from S starts each.

    Attributes:
        unit_ids: (U,) the scan's names of the units.
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
            the pixels that the unit sees; NaN with a single start.
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
        """Numbers per unit (not the images): ``unit_id``, ``response``, ``blank_response``, ``contrast``,
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
    progress: bool = False,
) -> OptimalImages:
    """Images that excite (or inhibit) each unit most under a contrast and a range of gray values.

    Args:
        model: a fitted model of a core of gray images.
        units: (U,) indices of units; all by default.
        kind: ``"exciting"`` or ``"inhibiting"``.
        frame: the screen; that of the images of the fit by default.
        settings: contrast, steps, blur and number of random starts.
        starts: (U, H, W) images to start from as well, such as the best of a gallery for each unit
            (``mousev1.insilico.rank_gallery``). The part that the unit sees takes up all the contrast.
        seed: of the random starts. A unit's start depends on the seed and its place in the model alone.
        progress: show a progress bar.

    Raises:
        ValueError: no such unit, a contrast beyond the range, or starts of a wrong shape.

    Example:
        >>> from mousev1 import Core, CoreConfig, fit_readout
        >>> rng = np.random.default_rng(0)
        >>> images = rng.integers(0, 256, size=(40, 36, 64), dtype=np.uint8)
        >>> core = Core.random(CoreConfig(hidden_channels=4, layers=2), seed=0)
        >>> model = fit_readout(images, rng.gamma(1.0, size=(40, 2)), core=core, progress=False)
        >>> found = optimal_images(model, units=[1], settings=AscentSettings(steps=3))
        >>> found.images.shape
        (1, 36, 64)
    """
    check_choice("kind", kind, ("exciting", "inhibiting"))
    settings = settings or AscentSettings()
    config = model.core.config
    if config.input_channels != 1:
        raise ValueError(
            f"model: expected a core of gray images, got one of {config.input_channels} channels"
        )
    frame = frame or Frame.of_model(model)
    index = check_units(units, model.n_units)
    view = LocalView(model, height=frame.height, width=frame.width)
    check_contrast(settings.contrast, frame, view.patch_height * view.patch_width)
    given = None if starts is None else _check_starts(starts, len(index), frame)
    n_starts = settings.seeds + (given is not None)
    if n_starts == 0:
        raise ValueError("settings: expected at least one seed, or starts, got neither")

    ascent = Ascent(view, frame, settings, sign=1.0 if kind == "exciting" else -1.0)
    size = (view.patch_height, view.patch_width)
    patches = torch.empty(len(index), n_starts, *size)
    around = torch.empty(len(index), n_starts)
    trace = torch.empty(len(index), n_starts, settings.steps + 1)
    jobs = [(row, start) for start in range(n_starts) for row in range(len(index))]
    batches = range(0, len(jobs), PATCHES_AT_A_TIME)
    for first in tqdm(batches, desc=f"most {kind} images", unit="batch", disable=not progress):
        rows, which = zip(*jobs[first : first + PATCHES_AT_A_TIME], strict=True)
        chosen = torch.from_numpy(index[list(rows)]).to(model.device)
        begin = torch.empty(len(rows), *size)
        for i, (row, start) in enumerate(zip(rows, which, strict=True)):
            if start < settings.seeds:
                begin[i] = noise(size, seed=(seed, start, int(index[row])))
            else:
                assert given is not None
                top, left = view.origin[index[row]].tolist()
                begin[i] = given[row, top : top + size[0], left : left + size[1]]
        found, path = ascent.run(begin.to(model.device), chosen)
        patches[list(rows), list(which)] = found.patch[:, 0].cpu()
        around[list(rows), list(which)] = found.around[:, 0, 0, 0].cpu()
        trace[list(rows), list(which)] = path.cpu()
    return _gather(model, view, frame, kind, settings, index, patches, around, trace)


def _gather(
    model: ResponseModel,
    view: LocalView,
    frame: Frame,
    kind: str,
    settings: AscentSettings,
    index: NDArray[np.int64],
    patches: Tensor,
    around: Tensor,
    trace: Tensor,
) -> OptimalImages:
    """The best start of every unit as a whole image, with what is to be told about all of them."""
    units = torch.from_numpy(index)
    scale = model.response_scale.cpu()[units]
    blank = torch.full((1, 1, frame.height, frame.width), frame.background, device=model.device)
    with torch.no_grad():
        blank_response = model(blank)[0].cpu()[units]
        reached = torch.stack(
            [_drives(view, patches[:, start] + frame.background, units) for start in range(patches.shape[1])],
            dim=1,
        )
    best = (reached if kind == "exciting" else -reached).argmax(dim=1)
    rows = torch.arange(len(index))
    whole = (around[rows, best] + frame.background)[:, None, None, None]
    images = view.place(
        (patches[rows, best][:, None] + frame.background).to(model.device),
        units.to(model.device),
        whole.expand(-1, 1, frame.height, frame.width).to(model.device),
    )
    deviation = images[:, 0].cpu().double() - frame.background
    contrast = deviation.square().mean(dim=(1, 2)).sqrt() / (frame.background - frame.black)
    response = rate_from_drive(reached) * scale[:, None]
    return OptimalImages(
        unit_ids=model.unit_ids.cpu().numpy()[index],
        frame=frame,
        kind=kind,
        settings=settings,
        images=images[:, 0].cpu().numpy(),
        response=response[rows, best].double().numpy(),
        blank_response=blank_response.double().numpy(),
        contrast=contrast.numpy(),
        start_response=response.double().numpy(),
        agreement=_agreement(patches, best),
        trace=(rate_from_drive(trace) * scale[:, None, None]).numpy(),
    )


def _drives(view: LocalView, patches: Tensor, units: Tensor) -> Tensor:
    """(U,) drives at patches (U, h, w), a batch at a time."""
    device = view.bias.device
    return torch.cat(
        [
            view.drive(part[:, None].to(device), chosen.to(device)).cpu()
            for part, chosen in zip(
                patches.split(PATCHES_AT_A_TIME), units.split(PATCHES_AT_A_TIME), strict=True
            )
        ]
    )


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
            f"starts: expected one image per unit, {expected}, got {array.dtype} {array.shape}; "
            "np.repeat a single one"
        )
    tensor = torch.from_numpy(array.astype(np.float32))
    return tensor - tensor.mean(dim=(1, 2), keepdim=True)
