"""A matrix's product with itself, by numpy in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mousev1.products import gram


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
