"""What single neurons and trials may do to a fit. Oracle: the fit without them, and the simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mousev1
from mousev1.fit.outlying_trials import TrialLevels
from mousev1.fit.response_preparation import prepare_responses
from mousev1.readout.posterior import rate_std
from tests.small import simulate

UNITS, IMAGES = 40, 300


@pytest.fixture(scope="module")
def world():
    return simulate(units=UNITS, train=IMAGES, validation=40, test=60, seed=1)


def train(world):
    scan = world.scan.trials("train")
    return scan.images, np.array(scan.responses, dtype=np.float64)


def fit(world, responses, **options):
    images, _ = train(world)
    return mousev1.fit_readout(
        images, responses, world.scan.positions, core=world.core, progress=False, **options
    )


def correlation(world, model, units=None):
    """With the true rates of the images that were not trained on, mean over neurons."""
    units = np.arange(UNITS) if units is None else units
    rates = model.predict(world.scan.images[IMAGES:])[:, units]
    return float(
        np.mean(
            [np.corrcoef(a, b)[0, 1] for a, b in zip(rates.T, world.rates[IMAGES:, units].T, strict=True)]
        )
    )


@pytest.fixture(scope="module")
def clean(world):
    return fit(world, train(world)[1])


BAD_NEURONS = {
    "constant but for the last bit": lambda rng, y: np.where(
        rng.random(len(y)) < 0.5, 1.0, float(np.nextafter(np.float32(1), np.float32(2)))
    ),
    "constant and noise of 1e-7": lambda rng, y: 1.0 + 1e-7 * rng.random(len(y)),
    "baseline of 10,000 sd": lambda rng, y: y + 1e4 * y.std(),
    "baseline of 1,000,000 sd": lambda rng, y: y + 1e6 * y.std(),
    "numbers of 1e30": lambda rng, y: y * 1e30,
    "Cauchy tails": lambda rng, y: rng.standard_cauchy(len(y)) ** 2,
}


@pytest.mark.parametrize("kind", BAD_NEURONS)
def test_a_bad_neuron_does_not_harm_the_others(world, clean, kind):
    _, responses = train(world)
    responses[:, 3] = BAD_NEURONS[kind](np.random.default_rng(0), responses[:, 3])
    others = np.delete(np.arange(UNITS), 3)
    model = fit(world, responses)
    assert correlation(world, model, others) > correlation(world, clean, others) - 0.01
    assert np.isfinite(model.predict(world.scan.images)).all()


@pytest.mark.parametrize("kind", ["constant but for the last bit", "constant and noise of 1e-7"])
@pytest.mark.parametrize("method", ["convex", "sgd"])
def test_a_neuron_changed_by_rounding_is_named_and_predicted_by_its_mean(world, kind, method):
    _, responses = train(world)
    responses[:, 3] = BAD_NEURONS[kind](np.random.default_rng(0), responses[:, 3])
    settings = mousev1.SGDSettings(max_epochs=2) if method == "sgd" else None
    model = fit(world, responses, unit_ids=100 + np.arange(UNITS), method=method, settings=settings)
    assert any("unit ids '103'" in note and "rounds" in note for note in model.record.notes)
    np.testing.assert_allclose(model.predict(world.scan.images[:5])[:, 3], 1.0, rtol=1e-6)


@pytest.mark.parametrize("baseline", [100.0, 1e4])
def test_a_neuron_on_a_baseline_keeps_its_selectivity_and_its_level(world, clean, baseline):
    _, responses = train(world)
    deviation = responses[:, 3].std()
    responses[:, 3] += baseline * deviation
    model = fit(world, responses)
    rates = model.predict(world.scan.images[IMAGES:])[:, 3].astype(np.float64)
    truth = world.rates[IMAGES:, 3] + baseline * deviation
    assert np.corrcoef(rates, truth)[0, 1] > correlation(world, clean, np.array([3])) - 0.05
    assert np.abs(rates - truth).mean() < deviation


@pytest.mark.parametrize("method", ["convex", "sgd"])
def test_outlying_trials_are_named_and_have_no_weight(world, method):
    _, responses = train(world)
    settings = mousev1.SGDSettings(max_epochs=3) if method == "sgd" else None
    rows = [7, 200]
    images = train(world)[0]
    kept = np.setdiff1d(np.arange(IMAGES), rows)
    without = mousev1.fit_readout(
        images[kept],
        responses[kept],
        world.scan.positions,
        core=world.core,
        method=method,
        settings=settings,
        progress=False,
    )
    responses[rows] = 1000.0 * responses.max()
    found = fit(world, responses, method=method, settings=settings)
    assert any("rows '7', '200'" in note for note in found.record.notes)
    np.testing.assert_array_equal(found.predict(images[:20]), without.predict(images[:20]))
    kept_all = fit(world, responses, method=method, settings=settings, outlier_trials="keep")
    assert not any("outlier" in note for note in kept_all.record.notes)
    assert np.abs(kept_all.predict(images[:20]) / found.predict(images[:20]) - 1).max() > 0.5


def test_an_artefact_in_a_fifth_of_the_neurons_is_found():
    rng = np.random.default_rng(0)
    responses = rng.gamma(1.0, size=(400, 200))
    responses[17, rng.random(200) < 0.2] = 500.0
    assert TrialLevels.of(torch.from_numpy(responses)).outlying(torch.from_numpy(responses)).tolist() == [17]


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_shared_gain_makes_no_outliers(spread):
    rng = np.random.default_rng(0)
    gain = rng.lognormal(0.0, spread, size=(2000, 1))
    responses = torch.from_numpy(rng.gamma(0.7, size=(2000, 100)) * gain)
    assert len(TrialLevels.of(responses).outlying(responses)) == 0


def test_a_state_that_lasts_is_no_outlier():
    rng = np.random.default_rng(0)
    responses = torch.from_numpy(rng.gamma(1.0, size=(400, 100)))
    responses[280:] *= 50
    assert len(TrialLevels.of(responses).outlying(responses)) == 0


def test_an_ordinary_recording_passes_unchanged():
    rng = np.random.default_rng(0)
    responses = torch.from_numpy(rng.gamma(1.0, size=(400, 50)).astype(np.float32))
    prepared = prepare_responses(responses, np.arange(50), change=True)
    assert prepared.responses is responses
    assert prepared.output_scale is prepared.scale
    assert prepared.uncertainty is None
    assert prepared.notes == ()


@pytest.mark.parametrize(("sd", "margin"), [(2.0, 0.13), (2.5, 0.05)])
def test_heavy_tails_cost_little(world, sd, margin):
    rng = np.random.default_rng(0)
    shown = world.scan.trial_image[world.scan.tiers == "train"]
    rates = world.rates[shown]
    responses = rates * rng.lognormal(-(sd**2) / 2, sd, size=rates.shape)
    logarithm = np.log(responses)
    model = fit(world, responses)
    assert any("heavy tails" in note for note in model.record.notes)
    # what a fit to the logarithms, the best for this noise, would reach
    best = fit(world, np.exp(0.3 * (logarithm - logarithm.mean())))
    assert correlation(world, model) > correlation(world, best) - margin
    # levels are those of the responses
    ratio = model.predict(world.scan.images[:IMAGES]).mean(axis=0) / responses.mean(axis=0)
    assert 0.8 < np.median(ratio) < 1.25


def test_a_heavy_tail_on_a_baseline_keeps_its_level(world):
    rng = np.random.default_rng(0)
    _, responses = train(world)
    tail = rng.lognormal(0.0, 2.5, size=IMAGES)
    responses[:, 3] = 100.0 * tail.std() + tail
    model = fit(world, responses)
    assert sum("heavy tails" in note or "baseline" in note for note in model.record.notes) == 2
    level = model.predict(world.scan.images[:IMAGES])[:, 3].mean()
    assert abs(level - responses[:, 3].mean()) < tail.std()


def test_events_of_one_size_are_not_compressed():
    rng = np.random.default_rng(0)
    responses = torch.from_numpy((rng.random((400, 20)) < 0.05).astype(np.float32))
    assert prepare_responses(responses, np.arange(20), change=True).responses is responses


def test_neurons_with_no_or_one_event_get_intervals_that_hold(world):
    rng = np.random.default_rng(0)
    rates = np.full(UNITS, 1.0 / IMAGES) * rng.uniform(0.5, 1.5, size=UNITS)
    events = rng.poisson(np.tile(rates, (IMAGES, 1))).astype(np.float64)
    counts = events.sum(axis=0)
    assert set(counts) >= {0, 1}
    rate, sd = fit(world, events, constant_units="mean").predict(world.scan.images[:40], return_std=True)
    away = np.abs(rate - rates) / sd
    for few in (0, 1):
        assert (away[:, counts == few] < 1.96).mean() > 0.88
    # none was seen: the rate is 0 to 3 / N
    np.testing.assert_allclose(1.96 * sd[:, counts == 0], 3.0 / IMAGES, rtol=0.05)


def test_the_variance_of_a_silent_neuron_is_what_the_rate_makes_of_it():
    from mousev1.fit.convex import NO_RATE, _silent_variance

    responses = torch.zeros(100, 3)
    responses[::10, 0] = 4.0
    variance = _silent_variance(responses)
    assert variance[0] == 0
    drive = torch.full((2,), float(np.log(NO_RATE)))
    np.testing.assert_allclose(rate_std(drive, variance[1:]), 3 * 4.0 / 100 / 1.96, rtol=1e-3)
