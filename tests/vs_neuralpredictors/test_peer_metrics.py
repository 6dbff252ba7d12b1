"""Every score equals the authors' formula where theirs is defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mousev1.metrics import unit_scores as metrics


def recorded(repeats: list[int], *, units: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, responses and image ids of images with these numbers of repeats, in mixed order."""
    generator = np.random.default_rng(0)
    ids = generator.permutation(np.repeat(np.arange(len(repeats)), repeats))
    rates = generator.gamma(2.0, 1.0, (len(repeats), units))
    responses = generator.poisson(rates[ids]).astype(np.float64)
    return (0.7 * rates + 0.5)[ids], responses, ids


def by_image(values: np.ndarray, ids: np.ndarray) -> list[np.ndarray]:
    """The authors' form: for each image an array (repeats, units)."""
    return [values[ids == image] for image in np.unique(ids)]


EVEN = [10] * 20
RAGGED = [2, 3, 4, 5, 10] * 6


@pytest.mark.parametrize("repeats", [EVEN, RAGGED])
def test_oracle_equals_the_authors_jackknife(peer, repeats):
    _, responses, ids = recorded(repeats)
    expected = peer.measures.oracle_corr_jackknife(by_image(responses, ids))
    # theirs adds 1e-8 to the standard deviations
    np.testing.assert_allclose(metrics.oracle_correlation(responses, ids), expected, atol=1e-6)


@pytest.mark.parametrize("repeats", [EVEN, RAGGED])
def test_fev_and_feve_equal_the_authors(peer, repeats):
    predictions, responses, ids = recorded(repeats)
    fev, feve = peer.measures.fev(by_image(responses, ids), by_image(predictions, ids), return_exp_var=True)
    np.testing.assert_allclose(metrics.fev(responses, ids), fev, atol=1e-12)
    # a fraction of a negative estimate of variance is a number to them, and undefined to us
    expected = np.where(fev > 0, feve, np.nan)
    np.testing.assert_allclose(metrics.feve(predictions, responses, ids), expected, atol=1e-12)


@pytest.mark.parametrize("repeats", [EVEN, RAGGED])
def test_correlations_equal_the_authors(peer, repeats):
    predictions, responses, ids = recorded(repeats)
    single = peer.measures.corr(responses, predictions, axis=0)
    np.testing.assert_allclose(metrics.single_trial_correlation(predictions, responses), single, atol=1e-6)
    averages = np.array([values.mean(axis=0) for values in by_image(responses, ids)])
    predicted = np.array([values[0] for values in by_image(predictions, ids)])
    expected = peer.measures.corr(averages, predicted, axis=0)
    np.testing.assert_allclose(
        metrics.correlation_to_average(predictions, responses, ids), expected, atol=1e-6
    )


def test_an_image_shown_once_breaks_the_authors_formulas_and_not_ours(peer):
    predictions, responses, ids = recorded([1, *EVEN])
    repeated = ids > 0
    lists = by_image(responses[repeated], ids[repeated])
    np.testing.assert_allclose(
        metrics.oracle_correlation(responses, ids), peer.measures.oracle_corr_jackknife(lists), atol=1e-6
    )
    expected = peer.measures.fev(lists, by_image(predictions[repeated], ids[repeated]))
    np.testing.assert_allclose(metrics.feve(predictions, responses, ids), expected, atol=1e-12)


def test_poisson_loss_equals_the_authors_on_average(peer):
    predictions, responses, _ = recorded(EVEN)
    loss = peer.loss(avg=False, per_neuron=True)
    expected = loss(torch.from_numpy(predictions), torch.from_numpy(responses)).numpy() / len(responses)
    np.testing.assert_allclose(metrics.poisson_loss(predictions, responses), expected, atol=1e-9)
