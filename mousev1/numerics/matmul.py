"""What torch computes, in less time."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

LOG2_E = math.log2(math.e)  # powers of two take less time than those of e
WORTH_ONEDNN = 4_000_000  # multiplications; with fewer, setting it up takes longer than it saves


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` of matrices (M, K) and (K, N).

    Torch multiplies by MKL, which on an AMD EPYC reaches half of the rate of oneDNN, which torch also comes with.
    Without MKL, for small matrices and those with a gradient it is torch's choice.
    """
    worth = a.shape[0] * a.shape[1] * b.shape[1] >= WORTH_ONEDNN
    plain = a.dtype == b.dtype == torch.float32 and a.device.type == b.device.type == "cpu"
    if worth and plain and not (a.requires_grad or b.requires_grad) and _onednn_is_an_alternative():
        # Rows of numbers take a fraction of the time of what lies in memory otherwise, even if they are copied first.
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            a.contiguous(), b.contiguous().T, None, "none", [], ""
        )
        return product
    return a @ b


def gram(x: Tensor) -> Tensor:
    """X'X, (..., C, C), of matrices (..., N, C): three quarters of it, of which one is copied to the fourth."""
    transposed, half = x.mT, x.shape[-1] // 2
    out = x.new_empty(*x.shape[:-2], x.shape[-1], x.shape[-1])
    out[..., half:, :] = transposed[..., half:, :] @ x
    out[..., :half, :half] = transposed[..., :half, :] @ x[..., :half]
    out[..., :half, half:] = out[..., half:, :half].mT
    return out


def variance(x: Tensor, *, dim: int) -> Tensor:
    """Mean square of what is left without the mean: ``torch.var(correction=0)`` in a fifth of the time or less."""
    return (x - x.mean(dim=dim, keepdim=True)).square_().mean(dim=dim)


def _onednn_is_an_alternative() -> bool:
    return (
        torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available() and _its_product_is_known()
    )


@cache
def _its_product_is_known() -> bool:
    """Whether the operation, which is no public one, takes what it is given here."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    schema = torch.ops.mkldnn._linear_pointwise.default._schema
    return [argument.name for argument in schema.arguments] == ["X", "W", "B", "attr", "scalars", "algorithm"]
