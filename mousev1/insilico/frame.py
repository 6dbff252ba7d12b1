"""The screen of an in-silico experiment: pixels, degrees of visual angle, gray values.

Two coordinate systems, both continuous:

- **degrees** (x, y): degrees of visual angle from the centre of the frame, x to the right and y **up**,
  as azimuth and elevation are;
- **pixels** (x, y): (0, 0) is the centre of the top left pixel, x to the right and y **down**, as rows
  are counted.

One pixel is 1 / ``pixels_per_degree`` degrees everywhere: the screen is taken as flat in visual angle.
**Orientation** is that of stripes or long axes, in degrees: 0 is horizontal, and it increases
counter-clockwise as seen on the screen, so that 45 runs from the lower left to the upper right and 90 is
vertical.

Gray values stand for luminance, black being the low end of ``value_range``. Contrasts are relative to
it: see ``mousev1.insilico.contrast``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mousev1.core.network import InputContract
from mousev1.core.representation import FrozenCore

if TYPE_CHECKING:
    from mousev1.model.response_model import ResponseModel

Float = NDArray[np.float64]
Images32 = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """What is shown, and how large it is on the retina.

    Attributes:
        height: rows H.
        width: columns W.
        pixels_per_degree: resolution.
        value_range: gray values of black and white.
        background: gray value of an empty screen, inside ``value_range``.

    Example:
        >>> frame = Frame.of(InputContract())
        >>> x, y = frame.to_degrees(0, 0)  # the top left pixel is to the left and up
        >>> print(f"{x:.1f}, {y:.1f}")
        -59.4, 33.0
    """

    height: int
    width: int
    pixels_per_degree: float
    value_range: tuple[float, float]
    background: float

    def __post_init__(self) -> None:
        low, high = self.value_range
        for name in ("height", "width", "pixels_per_degree"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not low < high:
            raise ValueError(f"value_range: expected low < high, got {self.value_range}")
        if not low < self.background < high:
            raise ValueError(
                f"background: expected a gray value between {low:g} and {high:g}, got {self.background}"
            )

    @classmethod
    def of(
        cls,
        core: FrozenCore | InputContract,
        *,
        background: float | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Frame:
        """The frame that a core was trained on.

        Args:
            core: a core, or the input contract of one.
            background: gray value of an empty screen; the contract's ``mean`` if that lies inside the
                value range, else (as for 11-S, which takes raw gray values) the middle of the range.
            height: rows, if not the contract's.
            width: columns, if not the contract's.
        """
        contract = core if isinstance(core, InputContract) else core.config.input
        low, high = contract.value_range
        if background is None:
            background = contract.mean if low < contract.mean < high else (low + high) / 2
        return cls(
            height=contract.height if height is None else height,
            width=contract.width if width is None else width,
            pixels_per_degree=contract.pixels_per_degree,
            value_range=contract.value_range,
            background=float(background),
        )

    @classmethod
    def of_model(cls, model: ResponseModel) -> Frame:
        """The frame of the images that a model was fitted to, or that of its core if their size is unknown."""
        height, width = model.record.image_size or (None, None)
        return cls.of(model.core, height=height, width=width)

    @property
    def black(self) -> float:
        """The low end of ``value_range``: the gray value of no light."""
        return self.value_range[0]

    @property
    def nyquist_cpd(self) -> float:
        """The highest spatial frequency along a row or column, cycles per degree: half the resolution."""
        return self.pixels_per_degree / 2

    @property
    def size_deg(self) -> tuple[float, float]:
        """Height and width in degrees of visual angle."""
        return self.height / self.pixels_per_degree, self.width / self.pixels_per_degree

    def to_degrees(self, x_px: ArrayLike, y_px: ArrayLike) -> tuple[Float, Float]:
        """Pixels (x, y; y down) to degrees (x, y; y up) from the frame's centre, elementwise."""
        x = (np.asarray(x_px, dtype=np.float64) - (self.width - 1) / 2) / self.pixels_per_degree
        y = ((self.height - 1) / 2 - np.asarray(y_px, dtype=np.float64)) / self.pixels_per_degree
        return x, y

    def to_pixels(self, x_deg: ArrayLike, y_deg: ArrayLike) -> tuple[Float, Float]:
        """Degrees (x, y; y up) from the frame's centre to pixels (x, y; y down), elementwise."""
        x = np.asarray(x_deg, dtype=np.float64) * self.pixels_per_degree + (self.width - 1) / 2
        y = (self.height - 1) / 2 - np.asarray(y_deg, dtype=np.float64) * self.pixels_per_degree
        return x, y

    def grid_deg(self) -> tuple[Float, Float]:
        """Degrees of all pixel centres: x (1, W), increasing, and y (H, 1), decreasing."""
        x, y = self.to_degrees(np.arange(self.width), np.zeros(self.width))[0], np.arange(self.height)
        return x[None, :], self.to_degrees(np.zeros(self.height), y)[1][:, None]

    def blank(self, images: int = 1) -> Images32:
        """(N, H, W) empty screens."""
        return np.full((images, self.height, self.width), self.background, dtype=np.float32)

    def check_inside(self, x_deg: ArrayLike, y_deg: ArrayLike, *, name: str = "x_deg, y_deg") -> None:
        """Raise ``ValueError`` if any of these positions, in degrees, is not on the frame."""
        x, y = np.broadcast_arrays(np.asarray(x_deg, np.float64), np.asarray(y_deg, np.float64))
        height, width = self.size_deg
        # written so that NaN is outside too; the border belongs to the frame, up to rounding
        inside = (np.abs(x) <= width / 2 * (1 + 1e-9)) & (np.abs(y) <= height / 2 * (1 + 1e-9))
        if not inside.all():
            first = int(np.flatnonzero(~inside.ravel())[0])
            raise ValueError(
                f"{name}: expected a position on the frame, which reaches {width / 2:.4g} degrees left and right "
                f"and {height / 2:.4g} up and down from its centre, got ({x.ravel()[first]:.4g}, "
                f"{y.ravel()[first]:.4g}) as number {first} of {x.size}; move it inside"
            )
