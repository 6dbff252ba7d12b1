"""Gram matrices and variances, by numpy in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mousev1.numerics.arithmetic import gram, variance


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
