"""The recipe against numbers worked out by hand, and what a config may say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pretraining import REPOSITORY, small_scan, write_study

from mousev1.fit.early_stopping import EarlyStopping, Verdict
from training.pretraining.config import OptimisationConfig, PretrainConfig, find_scans
from training.pretraining.data import generator_for, load_scan, steps_per_epoch, trial_batches
from training.pretraining.loop import scan_loss
from training.pretraining.model import build_model
from training.pretraining.readout_prior import readout_prior

CONFIGS = REPOSITORY / "training" / "configs"


@pytest.fixture
def study(tmp_path):
    path = write_study(tmp_path)
    config = PretrainConfig.read(path)
    return config, [load_scan(file, config.core) for file in find_scans(config.scans, tmp_path)]


# ---------------------------------------------------------------- configs


@pytest.mark.parametrize("name", ["11-s", "sim-11s", "tiny"])
def test_every_pretraining_config_of_the_repository_is_valid(name):
    config = PretrainConfig.read(CONFIGS / f"{name}.toml")
    assert PretrainConfig.from_dict(config.to_dict()) == config


def test_the_config_of_the_real_thing_departs_from_no_default_but_name_and_scans():
    config = PretrainConfig.read(CONFIGS / "11-s.toml")
    assert config == PretrainConfig(name=config.name, scans=config.scans)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "[optimisation]\nlearning_rat = 1.0",
            "table .optimisation.: unknown key 'learning_rat'; valid keys are",
        ),
        ("speed = 3", "unknown key 'speed'; valid keys are 'compute', 'core'"),
        ("[core.input]\nbrightness = 1", r"table \[core\.input\]: unknown key 'brightness'"),
        ("[readout.position_network]\ndepth = 1", "unknown key 'depth'"),
        ("[optimisation]\nbatch_size = 6.5", "optimisation.batch_size: expected a whole number, got 6.5"),
        ("[readout]\ncortex = 1", "readout.cortex: expected true or false, got 1"),
        ("[optimisation]\ndecay = 1.5", "decay: expected a factor above 0, at most 1, got 1.5"),
        ("[compute]\ndevice = 'tpu'", "device: expected one of 'auto', 'cpu'"),
        ("readout = 1", "readout: expected a table, got 1"),
        ("scans = 'a.h5'", "scans: expected a list, got 'a.h5'"),
        ("seed = -1", "seed: expected at least 0, got -1"),
    ],
)
def test_a_mistake_in_a_config_is_named_with_the_remedy(tmp_path, line, message):
    path = tmp_path / "c.toml"
    scans = "" if line.startswith("scans") else 'scans = ["a"]'
    path.write_text(f'name = "x"\n{scans}\n{line}\n')
    with pytest.raises(ValueError, match=message):
        PretrainConfig.read(path)


def test_scans_are_found_beside_the_config_and_missing_ones_are_named(tmp_path):
    path = write_study(tmp_path)
    assert [file.name for file in find_scans(("*.h5",), path.parent)] == ["a.h5", "b.h5", "c.h5"]
    with pytest.raises(FileNotFoundError, match=r"nothing matches 'd\*.h5'"):
        find_scans(("d*.h5",), path.parent)
    with pytest.raises(ValueError, match="more than once"):
        find_scans(("*.h5", "a.h5"), path.parent)


def test_scans_that_do_not_fit_the_core_are_refused_at_the_door(tmp_path, study):
    config, _ = study
    small_scan("wide", width=20).write(tmp_path / "wide.h5")
    with pytest.raises(ValueError, match=r"images of \(1, 12, 20\).*expects \(1, 12, 16\)"):
        load_scan(tmp_path / "wide.h5", config.core)


# ---------------------------------------------------------------- data and batches


def test_responses_are_divided_by_their_deviation_over_training_trials_only(tmp_path, study):
    _, scans = study
    raw = small_scan("a", units=5, seed=1).trials("train").responses
    assert np.allclose(scans[0].response_scale, raw.std(axis=0), rtol=1e-5)
    assert np.allclose(scans[0].train.responses, raw / raw.std(axis=0), rtol=1e-5)


def test_an_epoch_shows_the_longest_scan_once_and_cycles_the_shorter_ones(study):
    _, scans = study
    steps = steps_per_epoch(scans, 8)
    assert steps == 3  # 24 trials in batches of 8
    longest = torch.cat(list(trial_batches(24, 8, steps, (0,))))
    assert sorted(longest.tolist()) == list(range(24))
    short = [batch.tolist() for batch in trial_batches(9, 8, steps, (0,))]
    assert [len(batch) for batch in short] == [8, 1, 8]
    assert sorted(short[0] + short[1]) == list(range(9))


def test_the_order_depends_on_seed_epoch_and_scan_and_on_nothing_else():
    def order(*key):
        torch.rand(7)  # a global draw in between
        return torch.cat(list(trial_batches(30, 8, 4, key))).tolist()

    assert order(1, 1, 5, 0) == order(1, 1, 5, 0)
    assert len({tuple(order(*key)) for key in [(1, 1, 5, 0), (2, 1, 5, 0), (1, 1, 6, 0), (1, 1, 5, 1)]}) == 4


# ---------------------------------------------------------------- objective


def test_the_objective_is_the_published_one_term_by_term(study):
    config, scans = study
    model = build_model(config, scans).train()
    trials = torch.arange(6)
    loss, poisson = scan_loss(model, scans, 1, trials, config=config, generator=generator_for((9,)))
    tier, readout = scans[1].train, model.readout(1)
    with torch.no_grad():
        features = model.core(tier.images[tier.shown[trials]].float())
        rates = readout(features, generator=generator_for((9,))).double().numpy()
    y = tier.responses[trials].double().numpy()
    by_hand = (rates - y * np.log(rates + 1e-12)).sum()
    weights = readout.weights().detach().numpy()
    expected = math.sqrt(9 / 6) * by_hand + 2.439 * np.abs(weights).sum() + model.core.smoothness().item()
    assert poisson == pytest.approx(by_hand, rel=1e-5)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_matched_neurons_share_their_features_up_to_a_scale(study):
    config, scans = study
    shared = PretrainConfig.from_dict({**config.to_dict(), "readout": {"share_features": True}})
    model = build_model(shared, scans)
    with torch.no_grad():
        model.readout(0).weights.bank.weight.normal_()
        model.readout(1).weights.scale.fill_(2.0)
    first, second = model.readout(0).weights(), model.readout(1).weights()
    # scans a (5 neurons) and b (3 neurons) are of one animal, with match ids 0, 1, ...
    assert torch.equal(second, 2.0 * first[:3])
    separate = build_model(config, scans)
    assert separate.readout(0).weights() is not separate.readout(1).weights()


def test_without_cortex_positions_are_free_and_a_kind_of_readout_must_be_known(study):
    config, scans = study
    free = PretrainConfig.from_dict({**config.to_dict(), "readout": {"cortex": False}})
    assert build_model(free, scans).readout(0).positions.mu.shape == (5, 2)
    unknown = PretrainConfig.from_dict({**config.to_dict(), "readout": {"kind": "spline"}})
    with pytest.raises(ValueError, match=r"readout\.kind: expected one of 'gaussian'"):
        build_model(unknown, scans)


# ---------------------------------------------------------------- early stopping


def test_early_stopping_follows_the_published_rule_worked_out_by_hand():
    config = OptimisationConfig(patience=2, rounds=3, max_epochs=50)
    stopping = EarlyStopping()
    # score, verdict, rate of the next epoch
    course = [
        (0.10, Verdict.BETTER, 5e-3),
        (0.20, Verdict.BETTER, 5e-3),
        (0.20 + 5e-7, Verdict.STALE, 5e-3),  # within the tolerance
        (0.19, Verdict.ROUND_OVER, 1.5e-3),
        (0.18, Verdict.STALE, 1.5e-3),
        (0.30, Verdict.BETTER, 1.5e-3),
        (0.30, Verdict.STALE, 1.5e-3),
        (0.30, Verdict.ROUND_OVER, 4.5e-4),
        (0.30, Verdict.STALE, 4.5e-4),
        (0.30, Verdict.FINISHED, 4.5e-4),
    ]
    for score, verdict, rate in course:
        assert stopping.judge(score, config) is verdict
        assert stopping.learning_rate(config) == pytest.approx(rate)
    assert (stopping.best, stopping.best_epoch, stopping.finished) == (0.30, 6, True)


def test_the_learning_rate_has_a_floor_and_the_epochs_a_limit():
    config = OptimisationConfig(patience=1, rounds=9, max_epochs=4)
    stopping = EarlyStopping()
    assert [stopping.judge(0.0, config) for _ in range(4)][-1] is Verdict.FINISHED
    stopping.round = 8
    assert stopping.learning_rate(config) == 1e-4


# ---------------------------------------------------------------- prior


def test_the_prior_is_mean_and_covariance_of_weights_on_standardised_features(study):
    config, scans = study
    model = build_model(config, scans).eval()
    readouts = [model.readout(i) for i in range(3)]
    with torch.no_grad():
        for readout in readouts:
            readout.weights.weight.normal_()
    prior = readout_prior(model.core, readouts, scans)
    features = (
        torch.cat([model.core(scan.train.images[scan.train.shown].float()).detach() for scan in scans])
        .transpose(0, 1)
        .flatten(1)
    )
    assert torch.allclose(prior["feature_mean"], features.mean(dim=1), atol=1e-4)
    assert torch.allclose(prior["feature_std"], features.std(dim=1), rtol=1e-3)
    weights = torch.cat([readout.weights().detach() for readout in readouts]) * features.std(dim=1)
    assert torch.allclose(prior["weight_mean"], weights.mean(dim=0), rtol=1e-2, atol=1e-3)
    assert np.allclose(prior["weight_covariance"], np.cov(weights.numpy().T), rtol=1e-2, atol=1e-3)
    assert prior["units"].tolist() == [12.0]
