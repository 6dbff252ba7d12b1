"""Products of matrices, by numpy in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mousev1.products import WORTH_ONEDNN, gram, matmul


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("size", [(7, 5, 3), (210, 150, 170)], ids=["small", "large"])
def test_a_product_is_numpys_however_its_matrices_lie_in_memory(
    size: tuple[int, int, int], onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, inner, columns = size
    assert (rows * inner * columns >= WORTH_ONEDNN) == (size == (210, 150, 170))
    if not onednn:
        monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator) for shape in ((rows, inner), (inner, columns)))
    oracle = a.double().numpy() @ b.double().numpy()
    for left in (a, a.T.contiguous().T, torch.stack([a, a], dim=2)[..., 0]):
        for right in (b, b.T.contiguous().T, torch.stack([b, b], dim=2)[..., 0]):
            found = matmul(left, right)
            assert found.dtype == torch.float32
            np.testing.assert_allclose(found.numpy(), oracle, atol=1e-4)
    assert matmul(a.double(), b.double()).dtype == torch.float64


@pytest.mark.parametrize("shape", [(30, 8), (30, 7), (30, 1), (3, 30, 6), (2, 3, 4, 5)])
def test_products_are_numpys(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found, values = gram(x), x.double().numpy()
    np.testing.assert_allclose(found.numpy(), values.swapaxes(-1, -2) @ values, rtol=1e-5, atol=1e-5)
    assert torch.allclose(found, found.mT, rtol=1e-6, atol=1e-6)


def test_a_view_is_read_as_it_is_strided() -> None:
    x = torch.randn(5, 30, 12, generator=torch.Generator().manual_seed(0))
    view = x.mT[:, ::2]
    assert torch.allclose(gram(view), gram(view.contiguous()), atol=1e-5)
