"""Products and variances, by numpy in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mousev1.numerics.matmul import _its_product_is_known, gram, matmul, variance


@pytest.fixture
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of what oneDNN multiplies, one after the other."""
    shapes = []
    multiply = torch.ops.mkldnn._linear_pointwise

    def watched(x: Tensor, *arguments) -> Tensor:
        shapes.append(x.shape)
        return multiply(x, *arguments)

    watched.default = multiply.default
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", watched)
    return shapes


@pytest.mark.parametrize("without", [None, "mkl", "mkldnn"])
@pytest.mark.parametrize("size", [(7, 5, 3), (210, 150, 170)], ids=["small", "large"])
def test_a_product_is_numpys_however_its_matrices_lie_in_memory(
    size: tuple[int, int, int],
    without: str | None,
    by_onednn: list[torch.Size],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    if without is not None:
        monkeypatch.setattr(f"torch.backends.{without}.is_available", lambda: False)
    rows, inner, columns = size
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator) for shape in ((rows, inner), (inner, columns)))
    oracle = a.double().numpy() @ b.double().numpy()
    for left in (a, a.T.contiguous().T, torch.stack([a, a], dim=2)[..., 0]):
        for right in (b, b.T.contiguous().T, torch.stack([b, b], dim=2)[..., 0]):
            found = matmul(left, right)
            assert found.dtype == torch.float32
            np.testing.assert_allclose(found.numpy(), oracle, atol=1e-4)
    assert len(by_onednn) == (9 if there and without is None and size == (210, 150, 170) else 0)


def test_other_products_are_torchs(by_onednn: list[torch.Size], monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.randn(200, 200, generator=torch.Generator().manual_seed(0))
    assert torch.equal(matmul(a.double(), a.double()), a.double() @ a.double())
    parameter = a.clone().requires_grad_()
    matmul(parameter, a).sum().backward()
    assert torch.allclose(parameter.grad, a.sum(dim=1).expand(200, 200), atol=1e-4)
    _its_product_is_known.cache_clear()
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", torch.ops.aten.mm)  # another signature
    assert torch.equal(matmul(a, a), a @ a)
    _its_product_is_known.cache_clear()
    assert by_onednn == []


@pytest.mark.parametrize("shape", [(30, 8), (30, 7), (30, 1), (3, 30, 6), (2, 3, 4, 5)])
def test_grams_are_numpys(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found, values = gram(x), x.double().numpy()
    np.testing.assert_allclose(found.numpy(), values.swapaxes(-1, -2) @ values, rtol=1e-5, atol=1e-5)
    assert torch.equal(found, found.mT)


def test_a_view_is_read_as_it_is_strided() -> None:
    x = torch.randn(5, 30, 12, generator=torch.Generator().manual_seed(0))
    view = x.mT[:, ::2]
    assert torch.allclose(gram(view), gram(view.contiguous()), atol=1e-5)


@pytest.mark.parametrize("dim", [0, 1])
def test_variances_are_numpys_far_from_zero_too(dim: int) -> None:
    x = torch.randn(30, 40, generator=torch.Generator().manual_seed(0)) + 1000.0
    np.testing.assert_allclose(variance(x, dim=dim).numpy(), x.double().numpy().var(axis=dim), rtol=1e-3)
