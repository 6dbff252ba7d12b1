"""A rectangle of a feature map: the region that some neurons read."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Region:
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of a feature map, the ends not included."""

    top: int
    bottom: int
    left: int
    right: int

    def __post_init__(self) -> None:
        if not (0 <= self.top < self.bottom and 0 <= self.left < self.right):
            raise ValueError(f"region: expected 0 <= top < bottom and 0 <= left < right, got {self}")

    @classmethod
    def whole(cls, height: int, width: int) -> Region:
        """All of a feature map."""
        return cls(0, height, 0, width)

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    def __len__(self) -> int:
        return self.height * self.width

    def __contains__(self, location: tuple[int, int]) -> bool:
        """Whether a (row, column) lies within."""
        row, column = location
        return self.top <= row < self.bottom and self.left <= column < self.right

    def of(self, maps: Tensor) -> Tensor:
        """The part of maps (..., H, W), without a copy."""
        return maps[..., self.top : self.bottom, self.left : self.right]
