"""The benchmark of regimes. Oracles: averages of many draws, the clean recording, and the authors' library's rates."""

from __future__ import annotations

import numpy as np
import pytest

from tests.small import SMALL, random_model
from training.measurements import regimes
from training.measurements.regime_conditions import CLEAN, REGIMES
from training.measurements.twins import PLUS_SESSION, Twin, read_plus

BY_NAME = {regime.name: regime for regime in REGIMES}
WILD = {"log-normal, sd 2.5": 1.0, "log-normal, sd 1.5": 0.2, "Fano 30": 0.2, "population gain, sd 1": 0.2}


def test_there_are_at_least_forty_with_names_of_their_own():
    assert len(BY_NAME) == len(REGIMES) >= 40


@pytest.mark.parametrize("name", [regime.name for regime in REGIMES if regime.exact and regime.spoil is None])
def test_the_truth_is_the_mean_of_many_recordings(name):
    rates = np.tile(np.array([[0.2, 0.7, 1.5]]), (60_000, 1))
    found = BY_NAME[name].record(rates, np.random.default_rng(0)).mean(axis=0)
    tolerance = WILD.get(name, 0.05 if BY_NAME[name].group != "sparse" else 0.2)
    np.testing.assert_allclose(found, BY_NAME[name].expect(rates[0]), rtol=tolerance)


@pytest.mark.parametrize("name", [regime.name for regime in REGIMES if regime.spoil is not None])
def test_beside_what_is_spoilt_a_recording_is_the_clean_one(name, twin, photographs):
    clean = regimes.simulate(CLEAN, twin, photographs, seed=3)
    spoilt = regimes.simulate(BY_NAME[name], twin, photographs, seed=3)
    same = clean.responses == spoilt.responses
    trials = ~same[:, ~spoilt.bad].all(axis=1)
    assert spoilt.bad.sum() + trials.sum() > 0
    assert trials.sum() <= 40
    assert same[~trials][:, ~spoilt.bad].all()
    assert not same[:, spoilt.bad].all(axis=0).any()


def test_the_second_animal_s_rates_are_the_authors(shared):
    with np.load(shared("golden/zoo_models.npz")) as golden:
        images, expected = golden["images"], golden[f"sensorium_p_sota_model/rates/{PLUS_SESSION}"]
        behaviour, pupil = golden["behavior"][0], golden["pupil_center"][0]
    twin = read_plus(shared("weights/sensorium_p_sota_model.pth"), behaviour, pupil)
    np.testing.assert_allclose(twin.rates(images, np.arange(60)), expected, rtol=2e-4, atol=2e-5)


def test_findings_name_a_lead_of_the_recipe_a_harm_and_intervals_that_do_not_hold():
    rows = {
        "a/gamma/convex": {"healthy": 0.6, "coverage": 0.95},
        "a/gamma/sgd": {"healthy": 0.604},
        "a/Fano 30/convex": {"healthy": 0.2, "coverage": 0.6},
        "a/Fano 30/sgd": {"healthy": 0.25},
        "a/ten silent/convex": {"healthy": 0.58, "coverage": 0.95},
        "a/one single event/convex": {"error": "RuntimeError: no"},
    }
    assert regimes.findings(rows, ["a"]) == [
        "Fano 30 (a): the recipe leads by 0.050",
        "Fano 30 (a): 95% intervals hold 0.60",
        "one single event (a): the convex fit fails: RuntimeError: no",
        "ten silent (a): 0.020 below the clean recording",
    ]


@pytest.fixture(scope="module")
def photographs():
    return np.random.default_rng(0).integers(0, 256, size=(720, 18, 30), dtype=np.uint8)


@pytest.fixture(scope="module")
def twin():
    model = random_model(SMALL, units=250)
    return Twin("small", model, np.random.default_rng(1).normal(size=(250, 2)))
