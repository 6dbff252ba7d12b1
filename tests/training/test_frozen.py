"""Claims about readouts trained on frozen cores; the oracles are fit_readout's recipe and simulated truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import mousev1
from mousev1.core.inference import fuse
from mousev1.metrics.unit_scores import correlation
from small import simulate
from training.pretraining.config import PretrainConfig
from training.pretraining.data import prepare_scan
from training.pretraining.frozen_core import train_readouts, with_features

RECIPE = {"batch_size": 32, "learning_rate": 0.02, "patience": 4, "feature_l1": 0.5, "max_epochs": 60}


def config(core, **readout):
    values = {"name": "x", "scans": ["x"], "core": core.config.to_dict(), "optimisation": RECIPE}
    return PretrainConfig.from_dict({**values, "readout": {"cortex": False, **readout}})


def prepared(made, core, scan=None):
    contract = replace(core.config.input, height=16, width=24)
    return prepare_scan(scan or made.scan, replace(core.config, input=contract))


def framed(core):
    """The same core with the frame of the small scan in its contract."""
    twin = mousev1.Core(replace(core.config, input=replace(core.config.input, height=16, width=24)), name="x")
    twin.load_state_dict(core.state_dict())
    return twin.freeze()


@pytest.fixture(scope="module")
def made():
    return simulate(train=400)


def true_rate_correlation(made, core, readout, scale):
    test = np.unique(made.scan.trial_image[made.scan.tiers == "test"])
    with torch.no_grad():
        rates = readout(core(torch.from_numpy(made.scan.images[test]).float())) * scale
    return correlation(rates.numpy(), made.rates[test]).mean()


def test_the_recipe_on_a_frozen_core_finds_what_the_fit_of_the_same_recipe_finds(made):
    core = framed(made.core)
    before = core.content_hash()
    scan = prepared(made, core)
    fitted = train_readouts(core, [scan], config(core, cortex=True))
    found = true_rate_correlation(made, core, fitted.readouts[0], scan.response_scale)

    settings = mousev1.fit.fitting.SGDSettings(**RECIPE)
    model = mousev1.fit.fitting.fit_scan(
        made.scan, core=core, method="sgd", settings=settings, progress=False
    )
    expected = true_rate_correlation(made, core, model.readout, model.response_scale)
    assert expected > 0.8
    assert found == pytest.approx(expected, abs=0.05)
    assert core.content_hash() == before
    assert not any(parameter.requires_grad for parameter in fitted.readouts[0].parameters())


@pytest.mark.parametrize(("kind", "learning_rate"), [("factorized", 0.02), ("fully-connected", 0.001)])
def test_other_readouts_learn_on_a_frozen_core_too(made, kind, learning_rate):
    core = framed(made.core)
    scan = prepared(made, core)
    recipe = config(core, kind=kind)
    recipe = replace(recipe, optimisation=replace(recipe.optimisation, learning_rate=learning_rate))
    untrained = train_readouts(core, [scan], replace_epochs(recipe, 1))
    fitted = train_readouts(core, [scan], recipe)
    scores = [
        true_rate_correlation(made, core, fit.readouts[0], scan.response_scale) for fit in (untrained, fitted)
    ]
    assert scores[1] > max(scores[0] + 0.1, 0.4)


def replace_epochs(recipe, epochs):
    return replace(recipe, optimisation=replace(recipe.optimisation, max_epochs=epochs))


def test_the_validation_correlation_is_that_of_the_readout_handed_out(made):
    core = framed(made.core)
    scan = prepared(made, core)
    fitted = train_readouts(core, [scan], config(core))
    with torch.no_grad():
        rates = fitted.readouts[0](core(scan.validation.images[scan.validation.shown].float()))
    expected = correlation(rates.numpy(), scan.validation.responses.numpy()).mean()
    assert fitted.validation_correlation == pytest.approx(expected, abs=1e-4)
    assert 1 <= fitted.epochs <= RECIPE["max_epochs"]


def test_matched_neurons_share_weights_up_to_a_scale(made):
    core = framed(made.core)
    matched = replace(made.scan, match_ids=np.arange(made.scan.n_units), animal_id="m")
    scans = [prepared(made, core, replace(matched, name=name)) for name in ("first day", "second day")]
    recipe = replace_epochs(config(core, share_features=True), 3)
    one, two = (readout.weights() for readout in train_readouts(core, scans, recipe).readouts)
    ratio = (one / two).detach()
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3)


def test_features_stand_for_exactly_the_images_of_each_tier(made):
    core = framed(made.core)
    scan = prepared(made, core)
    for original in (scan.train, scan.validation):
        tier = with_features(core, original)
        assert torch.equal(torch.unique(tier.shown), torch.arange(len(torch.unique(original.shown))))
        images, responses = original.batch(torch.tensor([0, 5, 9]), torch.device("cpu"))
        features, same = tier.batch(torch.tensor([0, 5, 9]))
        assert torch.allclose(features, fuse(core)(images), atol=1e-5)
        assert torch.equal(responses, same)


def test_a_diverging_training_says_so(made):
    core = framed(made.core)
    recipe = config(core)
    recipe = replace(recipe, optimisation=replace(recipe.optimisation, learning_rate=1e30))
    with pytest.raises(FloatingPointError, match="diverged"):
        train_readouts(core, [prepared(made, core)], recipe)
