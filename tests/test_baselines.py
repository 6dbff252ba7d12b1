"""The linear-nonlinear baseline on neurons whose filter and nonlinearity are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from mousev1.compare import linear_nonlinear as baselines
from mousev1.compare.linear_nonlinear import RIDGES, coarse, fit_linear_nonlinear

HEIGHT, WIDTH = 12, 16


def gabors(count: int) -> np.ndarray:
    """(count, H, W) filters of different positions and orientations."""
    y, x = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
    filters = []
    for i in range(count):
        cy, cx, angle = 4 + i, 5 + 2 * i, 0.8 * i
        phase = 0.9 * ((x - cx) * np.cos(angle) + (y - cy) * np.sin(angle))
        filters.append(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8) * np.cos(phase))
    return np.array(filters)


def neurons(trials: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """White images, filters, noise-free rates (rectified) and responses of three neurons."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, size=(trials, 1, HEIGHT, WIDTH), dtype=np.uint8)
    filters = gabors(3)
    drive = np.einsum("nhw,uhw->nu", images[:, 0] - 127.5, filters) / 100
    rates = np.maximum(drive + 0.5, 0.02) * np.array([1.0, 20.0, 0.05])
    return images, filters, rates, rng.gamma(2.0, rates / 2.0)


def test_it_recovers_the_filter_of_a_linear_nonlinear_neuron():
    # oracle: the filters that made the responses
    images, filters, rates, responses = neurons(3000)
    model = fit_linear_nonlinear(images, responses)
    for found, true in zip(model.filters[:, 0], filters, strict=True):
        assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.9
    test, _, true_rates, _ = neurons(500, seed=1)
    predicted = model.predict(test)
    for unit in range(3):
        assert np.corrcoef(predicted[:, unit], true_rates[:, unit])[0, 1] > 0.93
        # in the neuron's own unit
        assert predicted[:, unit].mean() == pytest.approx(rates[:, unit].mean(), rel=0.1)


def test_filters_are_the_ridge_solution_of_the_ridge_that_was_chosen():
    # oracle: the normal equations
    images, _, _, responses = neurons(400)
    model = fit_linear_nonlinear(images, responses)
    x = images.reshape(400, -1).astype(float)
    spread = x.var(axis=0, ddof=1).mean()
    x -= x.mean(axis=0)
    for unit in range(3):
        assert np.isclose(RIDGES, model.ridge[unit]).any()
        penalty = 400 * model.ridge[unit] * spread * np.eye(x.shape[1])
        y = responses[:, unit] - responses[:, unit].mean()
        expected = np.linalg.solve(x.T @ x + penalty, x.T @ y)
        np.testing.assert_allclose(model.filters[unit].ravel(), expected, rtol=2e-3, atol=1e-6)


def test_a_neuron_that_ignores_images_gets_more_ridge_than_one_that_sees_them():
    images, _, _, responses = neurons(600)
    blind = np.random.default_rng(3).gamma(2.0, 0.5, size=(600, 1))
    ridge = fit_linear_nonlinear(images, np.concatenate([responses, blind], axis=1)).ridge
    assert (ridge[3] > ridge[:3]).all()


def test_the_nonlinearity_is_the_monotone_fit_of_binned_means():
    # oracle: scipy's isotonic regression, and bins counted by hand
    rng = np.random.default_rng(0)
    drive = rng.normal(size=(103, 1)).astype(np.float32)
    responses = rng.gamma(1.0, np.exp(drive)).astype(np.float32)
    knots, values = baselines._nonlinearity(drive, responses)
    order = np.argsort(drive[:, 0])
    bins = np.split(order, np.linspace(0, 103, 11).astype(int)[1:-1])
    means = [responses[rows, 0].mean() for rows in bins]
    expected = isotonic_regression(means, weights=[len(rows) for rows in bins]).x
    np.testing.assert_allclose(values[0], expected, rtol=1e-5)
    np.testing.assert_allclose(knots[0], [drive[rows, 0].mean() for rows in bins], rtol=1e-5)
    assert (np.diff(means) < 0).any()
    assert (np.diff(values[0]) >= 0).all()


def test_rates_stay_positive_and_constant_beyond_the_known_range():
    images, _, _, responses = neurons(200)
    model = fit_linear_nonlinear(images, responses)
    assert (model.values > 0).all()
    extreme = np.array([np.zeros((1, HEIGHT, WIDTH)), np.full((1, HEIGHT, WIDTH), 255)], dtype=np.uint8)
    rates = model.predict(np.concatenate([extreme, images]))
    assert (rates >= model.values[:, 0] * 0.999).all()
    assert (rates <= model.values[:, -1] * 1.001).all()


def test_large_images_are_averaged_over_squares():
    # oracle: means by hand
    images = np.random.default_rng(0).integers(0, 256, size=(2, 1, 36, 64), dtype=np.uint8)
    found = coarse(images).numpy()
    assert found.shape == (2, 1, 18, 32)
    assert found[1, 0, 3, 5] == images[1, 0, 6:8, 10:12].mean()


def test_repeats_of_an_image_are_in_one_fold():
    ids = np.random.default_rng(0).integers(0, 30, size=200)
    folds = baselines._folds(ids, 0)
    assert sorted(set(folds.tolist())) == list(range(5))
    for image in set(ids.tolist()):
        assert len(set(folds[ids == image].tolist())) == 1


def test_neurons_do_not_change_each_other(monkeypatch):
    images, _, _, responses = neurons(120)
    together = fit_linear_nonlinear(images, responses)
    monkeypatch.setattr(baselines, "UNITS_AT_A_TIME", 1)
    alone = fit_linear_nonlinear(images, responses)
    np.testing.assert_allclose(together.predict(images), alone.predict(images), rtol=1e-3)


def test_wrong_input_is_refused():
    images, _, _, responses = neurons(20)
    with pytest.raises(ValueError, match=r"responses: expected \(20, U\)"):
        fit_linear_nonlinear(images, responses[:10])
    with pytest.raises(ValueError, match="images: expected at least 5 distinct images, got 4"):
        fit_linear_nonlinear(images[:4], responses[:4])
    with pytest.raises(ValueError, match=r"images: expected \(N, C, H, W\)"):
        fit_linear_nonlinear(images[:, 0], responses)
    with pytest.raises(ValueError, match=r"image_ids: expected \(20,\)"):
        fit_linear_nonlinear(images, responses, image_ids=np.arange(5))
