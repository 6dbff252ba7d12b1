"""Presentations with the picture that each showed, and these pictures as the core will see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.core.network import InputContract
from mousev1.ingest.options import LogFormat
from mousev1.ingest.pictures import LUMINANCE, find_pictures, match, read_gray
from mousev1.ingest.presentations import Presentations
from mousev1.ingest.recording import Float, Recording
from mousev1.ingest.report import Report
from mousev1.ingest.rig import Rig
from mousev1.ingest.screen import in_frame, placement

Pictures = str | Path | Mapping[str, NDArray[Any]] | None


@dataclass(frozen=True, eq=False)
class Shown:
    """T presentations of pictures, in the order of the session.

    Attributes:
        order: (T,) position in the session.
        onset: (T,) seconds on the log's clock.
        index: (T,) which of ``names``.
        tier: (T,) tier in the log, or None where it has none.
        names: of all pictures, in natural order.
        library: name to file or array.
    """

    order: NDArray[np.int64]
    onset: Float
    index: NDArray[np.int64]
    tier: NDArray[np.str_] | None
    names: list[str]
    library: Mapping[str, Any]

    def take(self, kept: NDArray[np.bool_]) -> Shown:
        """Some of the presentations."""
        tier = None if self.tier is None else self.tier[kept]
        return Shown(self.order[kept], self.onset[kept], self.index[kept], tier, self.names, self.library)


def match_pictures(
    presented: Presentations, given: Pictures, recording: Recording, form: LogFormat, report: Report
) -> Shown:
    """Presentations of a picture; those of a blank screen are counted and left out.

    Raises:
        ValueError: no pictures, or presentations of none of them.
    """
    library: Mapping[str, Any] = recording.pictures
    if given is not None:
        library = find_pictures(given) if isinstance(given, str | Path) else given
    if not library:
        raise ValueError(
            "pictures: none in the recording; give a folder of them, pictures='stimuli' (--pictures)"
        )
    names = list(library)
    base = form.index_base
    if base is None and given is None and presented.image.dtype.kind in "iuf":
        base = recording.index_base
    index, blanks, how = match(presented.image, names, index_base=base)
    for text, count in blanks.items():
        report.count(f"presentations of a blank screen ({text!r}), left out", count)
    report.read.append(f"pictures: {len(names):,}, matched to the log {how}")
    shown = Shown(np.arange(len(index)), presented.onset, index, presented.tier, names, library).take(
        index >= 0
    )
    if form.ignore_tiers:
        shown = replace(shown, tier=None)
    if shown.tier is not None and (shown.tier == "").any():
        report.count("presentations without a tier in the log, left out", int((shown.tier == "").sum()))
        shown = shown.take(shown.tier != "")
    if not len(shown.index):
        raise ValueError(
            "log: no presentation shows a picture and has a tier; name the columns (--column image=NAME)"
        )
    report.count("pictures never shown, left out", len(names) - len(np.unique(shown.index)))
    return shown


def pictures_in_frame(
    shown: Shown, rig: Rig, contract: InputContract, report: Report
) -> tuple[NDArray[np.uint8], NDArray[np.str_], NDArray[np.int64]]:
    """Pictures that were shown, in the core's frame, with their names, and which of them each trial showed."""
    used, trial_image = np.unique(shown.index, return_inverse=True)
    names = [shown.names[i] for i in used]
    sizes: dict[tuple[int, int], int] = {}
    frames = []
    where = None
    for name in names:
        picture = read_gray(shown.library[name], name)
        shape = (picture.shape[0], picture.shape[1])
        sizes[shape] = sizes.get(shape, 0) + 1
        where = where or placement(rig, shape, contract, report)
        if where.width_deg is None and len(sizes) > 1:
            raise ValueError(f"pictures: expected one size where no screen is given, got {sizes} with {name}")
        frames.append(in_frame(picture, where, contract))
    if len(sizes) > 1:
        report.assumed.append(f"pictures of several sizes {sizes} are all shown at the size of the first")
    report.notes.append(f"pictures: {LUMINANCE}")
    return np.stack(frames), np.array(names), trial_image.astype(np.int64)
