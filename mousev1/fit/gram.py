"""Products of a matrix with itself."""

from __future__ import annotations

from torch import Tensor


def gram(x: Tensor) -> Tensor:
    """X'X, (..., C, C), of matrices (..., N, C): three quarters of it, of which one is copied to the fourth."""
    transposed, half = x.mT, x.shape[-1] // 2
    out = x.new_empty(*x.shape[:-2], x.shape[-1], x.shape[-1])
    out[..., half:, :] = transposed[..., half:, :] @ x
    out[..., :half, :half] = transposed[..., :half, :] @ x[..., :half]
    out[..., :half, half:] = out[..., half:, :half].mT
    return out
