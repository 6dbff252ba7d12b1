"""The benchmarks' own arithmetic, by hand; that nothing held out is seen; that a stopped run continues."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mousev1.core.network import Core, CoreConfig, InputContract
from training import provenance
from training.measurements import curve, recordings, scaling, speed_features, turns, whole_fit
from training.measurements.task import Task
from training.paper_figures.data_efficiency import images_needed


def test_multiply_adds_of_a_tiny_core_equal_a_count_by_hand():
    core = Core.random(CoreConfig(hidden_channels=2, layers=3, input_kernel=3, hidden_kernel=5), seed=0)
    # 6 x 7 image: 4 x 5 locations; per location 3*3*2 first, then twice 2*2 + 5*5*2 + 2*2
    assert speed_features.multiply_adds(core, 6, 7) == 20 * (18 + 2 * (4 + 50 + 4))


def test_turns_alternate_and_the_first_does_not_count():
    calls = []

    def side(name):
        def run():
            calls.append(name)
            return float(len(calls))

        return run

    measured = turns.take_turns({"a": side("a"), "b": side("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert measured.values == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_epochs_of_another_size_do_not_count(tmp_path):
    fit = {"epochs": [{}] * 7, "test": {"single_trial_correlation": 0.3}, "seconds": 1.0}
    path = tmp_path / "peer.json"
    path.write_text(json.dumps({"units": 1000, "images": 4472, "seed": 0, "fits": {"peer": fit}}))
    assert whole_fit.recorded_epochs([path], 1000, 4472)["epochs"] == 7
    with pytest.raises(SystemExit, match="transfer with 5335 neurons, 4472 images"):
        whole_fit.recorded_epochs([path], 5335, 4472)


def test_of_records_with_several_seeds_the_median_counts_and_the_score_is_of_the_seed_asked_for(tmp_path):
    paths = []
    for seed, epochs in enumerate((30, 50, 44)):
        fit = {"epochs": [{}] * epochs, "test": {"single_trial_correlation": seed / 10}, "seconds": 1.0}
        paths.append(tmp_path / f"{seed}.json")
        record = {"units": 10, "images": 40, "seed": seed, "fits": {"peer": fit}}
        paths[-1].write_text(json.dumps(record))
    found = whole_fit.recorded_epochs(paths, 10, 40, seed=1)
    assert (found["epochs"], found["test"]["single_trial_correlation"]) == (44, 0.1)
    assert found["epochs_by_seed"] == {"0": 30, "1": 50, "2": 44}
    assert whole_fit.recorded_epochs(paths[:2], 10, 40)["epochs"] == 30


def test_a_whole_fit_of_the_authors_library_is_its_epochs_and_what_comes_before_them():
    part = {
        "seconds": {"mousev1": [2.0, 4.0, 3.0], "peer_per_epoch": [10.0, 12.0, 11.0], "peer_setup": [1.0]},
        "seconds_by_process": [
            {"mousev1": [2.0], "peer_per_epoch": [10.0, 12.0], "peer_setup": [2.0]},
            {"mousev1": [4.0, 3.0, 5.0], "peer_per_epoch": [11.0], "peer_setup": [0.0, 4.0]},
        ],
        "processor_seconds": {"mousev1": [5.0], "peer_per_epoch": [20.0], "peer_setup": [2.0]},
        "mousev1_test": {"single_trial_correlation": 0.31},
    }
    found = whole_fit.whole_fit(part, {"epochs": 40, "test": {"single_trial_correlation": 0.3}})
    assert found["median"] == {"neuralpredictors": 441.0, "mousev1": 3.0}
    assert found["ratio"] == pytest.approx(147.0)
    assert found["processor_ratio"] == pytest.approx(160.4)
    assert found["ratio_by_process"] == [442.0 / 2.0, 442.0 / 4.0]
    assert found["reaches_recorded_score"] is True


@pytest.mark.parametrize(
    ("target", "expected"),
    [(0.1, 10.0), (0.3, 10.0**1.5), (0.4, 100.0), (0.5, 10.0**2.5), (0.7, math.inf)],
)
def test_images_to_reach_a_score_on_a_curve_drawn_by_hand(target, expected):
    found = images_needed({10: 0.2, 100: 0.4, 1000: 0.6}, target)
    assert found == pytest.approx(expected)


def test_a_curve_that_was_stopped_continues_and_repeats_nothing(tmp_path, monkeypatch):
    done = []
    core = Core.random(CoreConfig(hidden_channels=1, layers=1), seed=0)

    def run_point(options, method, images):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append((method, images))
        return {"seconds": 1.0, "test": dict.fromkeys(curve.DRAWN, images / 1000), "fit": None}

    monkeypatch.setattr(curve, "run_point", run_point)
    monkeypatch.setattr(curve, "read_core", lambda path: core)
    scan, out = tmp_path / "scan", tmp_path / "curve.json"
    scan.write_bytes(b"recordings")
    arguments = [str(scan), "--core", "core", "--images", "10", "20", "--out", str(out)]
    with pytest.raises(KeyboardInterrupt):
        curve.main(arguments)
    assert list(json.loads(out.read_text())["runs"]) == ["convex/10", "sgd/10", "convex/20"]
    del done[:]
    curve.main(arguments)
    assert done == [("sgd", 20)]
    curve.main([*arguments, "--rerun", "convex"])
    assert done == [("sgd", 20), ("convex", 10), ("convex", 20)]
    with pytest.raises(SystemExit, match="seed is 0, now 1"):
        curve.main([*arguments, "--seed", "1"])


def test_results_of_another_data_set_are_refused(tmp_path):
    path = tmp_path / "results.json"
    provenance.write_json(path, {"data_sha256": "a", "points": {"x": 1}})
    assert provenance.resume(path, {"data_sha256": "a"}, {"points": {}})["points"] == {"x": 1}
    with pytest.raises(SystemExit, match="data_sha256 is 'a', now 'b'"):
        provenance.resume(path, {"data_sha256": "b"}, {"points": {}})


def test_an_exponent_is_the_power_that_made_the_points():
    assert scaling.exponent([1, 10, 100], [3 * size**0.7 for size in (1, 10, 100)]) == pytest.approx(0.7)


def population(seed, units=12, pictures=50):
    """Features at 64 locations, and responses that are linear in those of location 20 for pictures not too noisy."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(pictures, 64, 6, generator=generator, dtype=torch.float64)
    weights = torch.randn(6, units, generator=generator, dtype=torch.float64)
    noise = torch.randn(pictures, units, generator=generator, dtype=torch.float64)
    return features, features[:, 20] @ weights + noise


def test_ridge_predictions_and_their_leave_one_out_errors_equal_fits_done_one_by_one():
    features, responses = population(0, pictures=14)
    rows = np.arange(12)
    locations, _ = recordings.split(features, rows, np.array([12, 13]))
    predicted = recordings._predictions(locations, responses[:12])
    errors = recordings._leave_one_out(locations, responses[:12])
    known = features[:12]
    scale = (known - known.mean(dim=(0, 1))).square().mean(dim=(0, 1)).sqrt()
    location, strength = 20, 4
    centred = (known - known.mean(dim=0)) / scale
    size = centred.square().sum(dim=2).mean()
    x = (features / scale)[:, location] / size.sqrt()

    def ridge(train, test):
        mean_x, mean_y = x[train].mean(dim=0), responses[train].mean(dim=0)
        a = x[train] - mean_x
        penalty = torch.eye(6, dtype=torch.float64) / recordings.SIGNAL[strength]
        return (x[test] - mean_x) @ torch.linalg.solve(
            a.T @ a + penalty, a.T @ (responses[train] - mean_y)
        ) + mean_y

    torch.testing.assert_close(predicted[location, strength], ridge(list(range(12)), [12, 13]))
    left_out = [ridge([j for j in range(12) if j != i], [i])[0] - responses[i] for i in range(12)]
    expected = torch.stack(left_out).square().mean(dim=0) / responses[:12].var(dim=0)
    torch.testing.assert_close(errors[location, strength], expected)


@pytest.mark.parametrize("name", recordings.ESTIMATORS)
def test_every_estimator_predicts_a_population_that_looks_at_one_location(name):
    features, responses = population(1)
    rows = np.arange(40)
    data = recordings.split(features, rows, np.arange(40, 50))
    predicted = recordings.ESTIMATORS[name](*data, responses[:40])
    assert predicted.shape == (10, 12)
    # all locations together bury the one that matters under 63 others
    least = 0.05 if name == "ridge, all locations" else 0.7
    assert recordings._mean_correlation(predicted, responses[40:]) > least


def test_nested_predictions_never_depend_on_the_responses_or_features_that_they_are_for(monkeypatch):
    monkeypatch.setattr(recordings, "FOLDS", 5)
    features, responses = population(2, units=3, pictures=20)
    stacks = {1.0: features, 2.0: features.flip(2) + 1}
    held = recordings.folds(20, 5, seed=0)[0]
    before = recordings.nested(stacks, responses, seed=0)
    changed = responses.clone()
    changed[held] = 1000.0 * torch.rand(len(held), 3, dtype=torch.float64)
    after = recordings.nested(stacks, changed, seed=0)
    for label in before:
        torch.testing.assert_close(after[label].predictions[held], before[label].predictions[held])
        assert after[label].chosen[0] == before[label].chosen[0]
    others = np.setdiff1d(np.arange(20), held)
    label = recordings.CHOSEN
    assert not torch.allclose(after[label].predictions[others], before[label].predictions[others])
    one, rest = held[:1], held[1:]
    moved = {factor: stack.clone() for factor, stack in stacks.items()}
    for stack in moved.values():
        stack[one] += 100.0
    shifted = recordings.nested(moved, responses, seed=0)
    for label in before:
        torch.testing.assert_close(shifted[label].predictions[rest], before[label].predictions[rest])


def test_folds_hold_out_every_picture_once():
    groups = recordings.folds(50, 10, seed=3)
    assert [len(group) for group in groups] == [5] * 10
    assert sorted(np.concatenate(groups).tolist()) == list(range(50))


def test_a_surrounded_picture_is_in_the_middle_of_gray_and_its_features_are_taken_inside():
    pictures = np.full((2, 31, 31), 200, dtype=np.uint8)
    framed = recordings.surround(pictures, 2.0, kernel=15)
    assert framed.shape == (2, 1, 90, 90)
    assert (framed[:, :, 14:76, 14:76] == 200).all()
    outside = F.pad(torch.zeros(1, 1, 62, 62), [14] * 4, value=1.0).bool()
    assert (framed[:1][outside] == recordings.GRAY).all()
    # a core of one 1x1-like filter: the feature is the gray value in the middle of the first kernel
    core = Core(CoreConfig(hidden_channels=1, layers=1, input=InputContract())).freeze()
    with torch.no_grad():
        core.layers[0].conv.weight.zero_()[0, 0, 7, 7] = 1.0
    features = recordings.features_at_locations(core, framed)
    assert features.shape == (2, recordings.LOCATIONS_PER_AXIS**2, 1)
    torch.testing.assert_close(features, torch.full_like(features, 200.0), rtol=1e-4, atol=0.0)


def test_an_interval_of_one_core_covers_the_mean_of_normal_neurons_as_the_textbook_says():
    values = np.random.default_rng(0).normal(0.3, 0.1, size=(1, 400))
    found = recordings.interval(values)
    half = 1.96 * values.std() / 20
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-4)
    assert found["low"] == pytest.approx(values.mean() - half, abs=1.5e-3)
    assert found["high"] == pytest.approx(values.mean() + half, abs=1.5e-3)


def test_the_same_neurons_with_another_core_are_compared_in_pairs():
    values = np.random.default_rng(0).normal(size=(1, 200))
    found = recordings.interval(values + 0.1, values)
    assert (found["low"], found["mean"], found["high"]) == pytest.approx((0.1, 0.1, 0.1), abs=1e-4)


def test_the_ceiling_of_noisy_averages_is_the_correlation_that_the_true_rate_reaches():
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(500, 40))
    trials = truth + 2.0 * generator.normal(size=(8, 500, 40))
    reached = np.mean([np.corrcoef(truth[:, u], trials.mean(axis=0)[:, u])[0, 1] for u in range(40)])
    assert recordings.ceiling(trials) == pytest.approx(reached, abs=0.01)


def test_reaching_a_score_takes_the_fewest_images_that_do(monkeypatch):
    """A fit whose score is its share of 100 images reaches .62 with 65 of them, and 1.01 never."""
    task = Task(None, None, np.arange(100), None, seed=0, core_mode="eval", max_epochs=1)
    monkeypatch.setattr(
        whole_fit, "fit_ours", lambda some, **_: argparse.Namespace(predict=len(some.train_rows))
    )
    monkeypatch.setattr(
        whole_fit, "score", lambda _, images, tier: {"single_trial_correlation": images / 100}
    )
    found = whole_fit.time_to_reach(task, {"single_trial_correlation": 0.62})
    assert found["images"] == 65
    assert whole_fit.time_to_reach(task, {"single_trial_correlation": 1.01}) is None
