"""Sheets of images that drive neurons, and how the ascent to them went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mousev1.insilico.frame import Frame
from mousev1.insilico.mei import OptimalImages
from mousev1.plot.figure import extent, new_figure, plain, sheet
from mousev1.plot.palette import BLUE, GREY, INK, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def image_sheet(
    images: NDArray[Any],
    frame: Frame,
    labels: Sequence[str],
    *,
    outside: NDArray[np.bool_] | None = None,
    columns: int = 6,
    title: str | None = None,
) -> Figure:
    """Images side by side, all on one gray scale.

    Args:
        images: (N, H, W) gray values.
        frame: the screen; gray runs symmetrically around its background.
        labels: N texts above them.
        outside: (N,) which predictions are extrapolations; these have a red label and frame.
        columns: images in a row.
        title: of the sheet.
    """
    if len(labels) != len(images):
        raise ValueError(f"labels: expected {len(images)}, one per image, got {len(labels)}")
    figure, panels = sheet(len(images), columns, frame, title)
    low, high = frame.value_range
    reach = max(frame.background - low, high - frame.background)
    reach = min(reach, float(np.abs(images - frame.background).max(initial=1e-6)))
    low, high = frame.background - reach, frame.background + reach
    for i, (axes, image) in enumerate(zip(panels, images, strict=True)):
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent(frame), interpolation="nearest")
        far = outside is not None and bool(outside[i])
        axes.set_title(labels[i], fontsize=7, color=VERMILION if far else INK, pad=2)
        if far:
            for side in axes.spines.values():
                side.set(color=VERMILION, linewidth=1.2)
    return figure


def traces(found: OptimalImages, *, title: str | None = None) -> Figure:
    """Responses during the ascent over their last ones: median and quartiles over neurons, all starts."""
    figure = new_figure(4.2, 3.0, title)
    axes = figure.subplots()
    last = found.response[:, None, None]
    relative = (found.trace / np.where(last > 0, last, np.nan)).reshape(-1, found.trace.shape[-1])
    steps = np.arange(relative.shape[1])
    lower, middle, upper = np.nanquantile(relative, [0.25, 0.5, 0.75], axis=0)
    axes.fill_between(steps, lower, upper, color=BLUE, alpha=0.25, linewidth=0)
    axes.plot(steps, middle, color=BLUE)
    axes.axhline(1.0, color=GREY, linewidth=0.7)
    axes.set(xlabel="step", ylabel="response / best response", xlim=(0, steps[-1]), ylim=(0, None))
    plain(axes)
    return figure
