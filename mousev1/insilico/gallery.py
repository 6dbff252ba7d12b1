"""The most and least exciting images of a given gallery, such as natural photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.data.images import Images
from mousev1.insilico.contrast import set_contrast
from mousev1.insilico.frame import Frame, Images32
from mousev1.insilico.units import check_units
from mousev1.model.response_model import ResponseModel
from mousev1.storage.table import Table

IMAGES_AT_A_TIME = 512


@dataclass(frozen=True, eq=False)
class GalleryRanks(Table):
    """Which images of a gallery excite each of U neurons most and least.

    Attributes:
        unit_ids: (U,) the scan's names of the neurons.
        frame: the screen.
        best: (U, K) index of the images with the highest predicted responses, the highest first.
        worst: (U, K) the same of the lowest, the lowest first.
        best_response: (U, K) predicted responses, in the units of the recorded responses.
        worst_response: (U, K) the same.
        left_out: indices of the images that could not be given the wanted contrast.
    """

    unit_ids: NDArray[np.int64]
    frame: Frame
    best: NDArray[np.int64]
    worst: NDArray[np.int64]
    best_response: NDArray[np.float32]
    worst_response: NDArray[np.float32]
    left_out: NDArray[np.int64]

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """``unit_id``, and by rank from 1 ``best_<number>_image``, ``best_<number>_response``,
        ``worst_<number>_image``, ``worst_<number>_response``.
        """
        out: dict[str, NDArray[Any]] = {"unit_id": self.unit_ids}
        for name in ("best", "worst"):
            for rank in range(self.best.shape[1]):
                out[f"{name}_{rank + 1}_image"] = getattr(self, name)[:, rank]
                out[f"{name}_{rank + 1}_response"] = getattr(self, f"{name}_response")[:, rank]
        return out


def rank_gallery(
    model: ResponseModel,
    gallery: Images,
    *,
    units: object = None,
    contrast: float | None = None,
    frame: Frame | None = None,
    top: int = 1,
    progress: bool = True,
) -> GalleryRanks:
    """The images of a gallery that excite each neuron most, and least.

    Args:
        model: a fitted model of a core of gray images.
        gallery: N images of the frame's size, whatever ``model.predict`` takes.
        units: (U,) indices of neurons; all by default.
        contrast: give every image the frame's background as its mean, and this RMS contrast, so that it is
            the pattern that is ranked; extremes that leave the range of gray values are cut off. The images as
            they are by default.
        frame: the screen; that of the images of the fit by default.
        top: how many images K of either end.
        progress: show a progress bar, as all long calls do by default.

    Raises:
        ValueError: no such neuron, images of another size than the frame's, or fewer images than ``top``.
    """
    frame = frame or Frame.of_model(model)
    index = check_units(units, model.n_units)
    stack = model.prepare(gallery)[:, 0].numpy()
    if stack.shape[1:] != (frame.height, frame.width):
        raise ValueError(
            f"gallery: expected images of {frame.height} x {frame.width} pixels as the frame, got "
            f"{stack.shape[1]} x {stack.shape[2]}; mousev1.insilico.natural_crops cuts larger pictures"
        )
    if not 1 <= top <= len(stack):
        raise ValueError(f"top: expected 1 to {len(stack)}, as the gallery has images, got {top}")
    kept = np.arange(len(stack))
    if contrast is not None:
        # a gain makes no pattern of a uniform image
        kept = np.flatnonzero(stack.reshape(len(stack), -1).std(axis=1) > 0)
    responses = np.empty((len(kept), len(index)), dtype=np.float32)
    for start in range(0, len(kept), IMAGES_AT_A_TIME):
        rows = slice(start, start + IMAGES_AT_A_TIME)
        shown = at_contrast(stack[kept[rows]], frame, contrast)
        responses[rows] = model.predict(shown, progress=progress)[:, index]
    if len(kept) < top:
        raise ValueError(f"gallery: only {len(kept)} of {len(stack)} images have any contrast, top is {top}")
    order = np.argsort(responses, axis=0, kind="stable")
    worst, best = order[:top].T, order[::-1][:top].T
    columns = np.arange(len(index))[:, None]
    return GalleryRanks(
        unit_ids=model.unit_ids.cpu().numpy()[index],
        frame=frame,
        best=kept[best],
        worst=kept[worst],
        best_response=responses[best, columns],
        worst_response=responses[worst, columns],
        left_out=np.setdiff1d(np.arange(len(stack)), kept),
    )


def at_contrast(images: NDArray[Any], frame: Frame, contrast: float | None) -> Images32:
    """Images (N, H, W) with the frame's background as their mean and this RMS contrast; None leaves them."""
    if contrast is None:
        return np.asarray(images, dtype=np.float32)
    return set_contrast(images, frame, rms=contrast, clip=True)
