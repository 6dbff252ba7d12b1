"""The published recipe against the simulated truth, and the frozen core against itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mousev1
from mousev1.fit.settings import SGDSettings
from mousev1.metrics.unit_scores import correlation
from mousev1.readout.gaussian import PositionNetworkConfig
from small import simulate

QUICK = SGDSettings(max_epochs=3)


@pytest.fixture(scope="module")
def simulated():
    return simulate()


def fit(simulated, **options):
    options = {"method": "sgd", "progress": False, "settings": QUICK} | options
    return mousev1.fit_scan(simulated.scan, core=simulated.core, **options)


@pytest.mark.parametrize(("cortex", "enough"), [(True, np.mean), (False, np.median)])
def test_the_recipe_finds_the_true_rates(cortex, enough):
    # Without cortex a neuron can stay stuck where it started, hence the median.
    simulated = simulate(train=600)
    settings = SGDSettings(
        feature_l1=0.1,
        learning_rate=0.02,
        max_epochs=100,
        patience=10,
        init_sigma=0.1 if cortex else 0.6,
        position_network=PositionNetworkConfig(init_scale=0.5),
    )
    train = simulated.scan.trials("train")
    model = mousev1.fit_readout(
        train.images,
        train.responses,
        simulated.scan.positions if cortex else None,
        core=simulated.core,
        method="sgd",
        settings=settings,
        progress=False,
    )
    test = simulated.scan.images[-30:]
    with_truth = correlation(model.predict(test), simulated.rates[-30:])
    assert enough(with_truth) > 0.9, with_truth
    # in the units that went in
    ratio = model.predict(test).mean(axis=0) / simulated.rates[-30:].mean(axis=0)
    assert np.abs(np.log(ratio)).max() < 0.5, ratio


def test_the_core_stays_frozen_bit_for_bit(simulated):
    before = simulated.core.content_hash()
    model = fit(simulated)
    assert model.core.content_hash() == simulated.core.content_hash() == before


def test_batch_statistics_move_only_a_copy_and_only_the_statistics(simulated):
    before = simulated.core.content_hash()
    model = fit(simulated, settings=SGDSettings(max_epochs=2, batchnorm="batch"))
    assert simulated.core.content_hash() == before
    old, new = simulated.core.state_dict(), model.core.state_dict()
    moved = {key for key in old if not torch.equal(old[key], new[key])}
    assert moved
    assert all("running_" in key or "num_batches" in key for key in moved), moved
    assert model.core.source is None
    assert "batch norm of the fit" in model.core.name


def test_a_seed_decides_everything(simulated):
    a, b, c = (fit(simulated, seed=seed).predict(simulated.scan.images[:5]) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_scale_of_a_neurons_responses_only_scales_its_predictions(simulated):
    train = simulated.scan.trials("train")
    factor = np.array([1, 10, 0.01, 3, 1, 1, 1000, 1], dtype=np.float32)

    def predictions(responses):
        model = mousev1.fit_readout(
            train.images, responses, core=simulated.core, method="sgd", settings=QUICK, progress=False
        )
        return model.predict(train.images[:6])

    np.testing.assert_allclose(
        predictions(train.responses * factor), predictions(train.responses) * factor, rtol=1e-3
    )


def test_early_stopping_returns_the_best_epoch(simulated):
    model = fit(simulated, settings=SGDSettings(max_epochs=12, learning_rate=0.05, patience=1))
    held = simulated.scan.trials("validation")
    score = np.nanmean(model.score(held.images, held.responses)["single_trial_correlation"])
    assert score == pytest.approx(model.record.scores["validation_correlation"], abs=1e-4)


def test_diverging_is_said_and_not_returned(simulated):
    with pytest.raises(FloatingPointError, match="smaller learning_rate"):
        fit(simulated, settings=SGDSettings(max_epochs=3, learning_rate=1e30))
