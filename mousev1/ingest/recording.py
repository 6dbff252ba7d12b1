"""What every reader returns: traces of planes on one clock, and whatever else its file held.

Axes: U neurons, F frames. Times are seconds on the recording's clock, 0 at the start of its first frame
unless the file says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating[Any]]
Table = Mapping[str, NDArray[Any]]
"""Named columns of equal length, of numbers or texts."""

SIGNALS = ("spikes", "fluorescence")


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """The neurons of one imaging plane.

    Attributes:
        traces: (U, F) deconvolved activity or fluorescence.
        times: (F,) start of every frame in seconds, or None where only ``rate`` is known.
        rate: frames of this plane per second, or None where unknown.
        delay: seconds from the start of a volume to this plane, or None where unknown.
        roi: (U,) number of each neuron in its file.
        centroids: (U, 2) x and y in pixels, or None.
        um_per_pixel: micrometres per pixel along x and y where the file says so.
        depth_um: depth of the plane where the file says so.
        good_frames: (F,) false for frames that the file marks as bad, or None.
        probability: (U,) of being a neuron, where the file says so.
        decay: time constant of the indicator in seconds, where the file says so.
        n_rois: of the plane in its file, selected or not, so that numbers of ROIs count on from plane to plane;
            0 where ``roi`` counts on already.
    """

    traces: Float
    roi: NDArray[np.int64]
    times: Float | None = None
    rate: float | None = None
    delay: float | None = None
    centroids: Float | None = None
    um_per_pixel: tuple[float, float] | None = None
    depth_um: float | None = None
    good_frames: NDArray[np.bool_] | None = None
    probability: Float | None = None
    decay: float | None = None
    n_rois: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """Planes, and what else was in the file.

    Attributes:
        name: what to call the scan.
        planes: in the order they are scanned.
        log: columns of the presentations, where the file has them.
        pictures: name to (H, W) or (H, W, 3) picture, where the file has them.
        behavior: tables with a column ``time`` in seconds and columns of signals.
        index_base: number of the first picture where the log has numbers: 1 in MATLAB.
    """

    name: str
    planes: tuple[Plane, ...]
    log: Table | None = None
    pictures: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    behavior: tuple[Table, ...] = ()
    index_base: int | None = None
