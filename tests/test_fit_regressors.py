"""Products with the features of neurons, by numpy in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mousev1.fit import regressors
from mousev1.fit.regressors import OwnFeatures, Regressors, SharedFeatures

N, C = 21, 5
# Cells of 1, 3, 3, 2, 2 and 1 neurons, one table that nobody uses.
CELLS = torch.tensor([0, 1, 1, 1, 2, 2, 2, 4, 4, 5, 5, 6])
B = len(CELLS)


def both() -> tuple[np.ndarray, list[Regressors]]:
    """Features (B, N, C), and both ways to hold them."""
    generator = torch.Generator().manual_seed(0)
    tables = torch.randn(7, N, 4 * C, generator=generator)
    mixing = torch.rand(B, 4, generator=generator)
    at_pixels = tables.double().numpy().reshape(7, N, 4, C)
    values = np.stack(
        [np.einsum("k,nkc->nc", w, at_pixels[cell]) for w, cell in zip(mixing.double(), CELLS, strict=True)]
    )
    return values, [OwnFeatures(torch.from_numpy(values).float()), SharedFeatures(tables, CELLS, mixing)]


@pytest.mark.parametrize("which", [0, 1], ids=["own", "shared"])
@pytest.mark.parametrize("keep", [None, [0, 2, 3, 6, 7, 8, 11], [5]], ids=["all", "some", "one"])
def test_products_are_numpys(which: int, keep: list[int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regressors, "SCRATCH_VALUES", 2 * N * C)  # two neurons at a time
    values, features = both()
    found = features[which]
    if keep is not None:
        found, values = found.only(torch.tensor(keep)), values[keep]
    generator = torch.Generator().manual_seed(1)
    theta = torch.randn(len(values), C + 1, generator=generator).double()
    slope = torch.randn(len(values), N, generator=generator)
    assert found.shape == values.shape
    drive = np.einsum("bnc,bc->bn", values, theta[:, :-1]) + theta[:, -1:].numpy()
    np.testing.assert_allclose(found.drive(theta).numpy(), drive, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        found.weighted_sum(slope).numpy(), np.einsum("bnc,bn->bc", values, slope), rtol=1e-5, atol=1e-4
    )
    seen = []
    for rows, scaled in found.scaled(slope):
        expected = values[rows] * slope[rows].numpy()[:, :, None]
        np.testing.assert_allclose(scaled.numpy(), expected, rtol=1e-5, atol=1e-5)
        assert len(scaled) <= 2
        seen += range(len(values))[rows]
    assert seen == list(range(len(values)))


def test_the_first_images_are_those_of_shorter_tables() -> None:
    values, features = both()
    theta, slope = torch.ones(B, C + 1), torch.ones(B, 9)
    for found in features:
        first = found.first(9)
        assert first.shape == (B, 9, C)
        assert torch.allclose(first.drive(theta), found.drive(theta)[:, :9], atol=1e-5)
        np.testing.assert_allclose(
            first.weighted_sum(slope).numpy(), values[:, :9].sum(axis=1), rtol=1e-5, atol=1e-4
        )


def test_a_mask_chooses_neurons() -> None:
    _, features = both()
    mask = torch.arange(B) % 3 == 1
    for found in features:
        everyone, some = found.drive(torch.ones(B, C + 1)), found.only(mask).drive(torch.ones(4, C + 1))
        torch.testing.assert_close(some, everyone[mask])
