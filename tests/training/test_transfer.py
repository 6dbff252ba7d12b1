"""The comparison of cores on one scan, on a scan whose core, readout and rates are known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pretraining import environment

import mousev1
from mousev1.core.network import Core
from mousev1.metrics.unit_scores import correlation
from mousev1.storage.core_files import save_core
from small import CONFIG, simulate
from training import transfer
from training.transfer import make_task
from training.transfer_benchmark.protocol import training_subset
from training.transfer_config import TransferConfig, read_transfer_config

SHAPE = {
    "hidden_channels": CONFIG.hidden_channels,
    "layers": CONFIG.layers,
    "input_kernel": CONFIG.input_kernel,
    "hidden_kernel": CONFIG.hidden_kernel,
    "input": {"height": 16, "width": 24},
}

TOML = """
name = "small"
title = "Simulated: a random core's own neurons"
scan = "scan.h5"
truth = "truth.npz"
images = {images}

[[cores]]
label = "its own"
source = "{core}"

[[cores]]
label = "random"
random_seeds = [11]

[core]
hidden_channels = 6
layers = 3
input_kernel = 5
hidden_kernel = 3
"""


@pytest.fixture
def study(tmp_path):
    """A config beside a scan, its true test rates, and the core that made it."""
    made = simulate()
    made.scan.write(tmp_path / "scan.h5")
    save_core(made.core, tmp_path / "core")
    test = np.unique(made.scan.trial_image[made.scan.tiers == "test"])
    np.savez(
        tmp_path / "truth.npz",
        rate=made.rates[test],
        rate_image_id=made.scan.image_ids[test],
        silent=np.array([True] + [False] * (made.scan.n_units - 1)),
    )
    path = tmp_path / "config.toml"
    path.write_text(TOML.format(images=[40, 200], core=tmp_path / "core"))
    return path


def run(path: Path, *words: str) -> int:
    return transfer.main(
        [str(path), "--out", str(path.parent / "out"), "--work", str(path.parent / "work"), *words]
    )


def results(path: Path) -> dict:
    return json.loads((path.parent / "out" / "small.json").read_text())


def rows_by_cell(path: Path) -> dict:
    return {(row["cell"]["label"], row["cell"]["images"]): row for row in results(path)["rows"]}


def test_more_images_of_a_seed_include_the_fewer_and_never_a_test_or_validation_image():
    # oracle: sets of image ids
    scan = simulate(units=2).scan
    ids = {n: set(training_subset(scan, n, 0).trials("train").image_ids.tolist()) for n in (10, 50, 300)}
    assert [len(ids[n]) for n in ids] == [10, 50, 300]
    assert ids[10] < ids[50] < ids[300] == set(scan.trials("train").image_ids.tolist())
    for tier in ("validation", "test"):
        assert not ids[300] & set(scan.trials(tier).image_ids.tolist())
        small = training_subset(scan, 10, 0).trials(tier)
        assert np.array_equal(small.images, scan.trials(tier).images)
        assert np.array_equal(small.responses, scan.trials(tier).responses)
    assert ids[50] != set(training_subset(scan, 50, 1).trials("train").image_ids.tolist())


def test_a_drawn_image_brings_all_its_trials_with_their_own_responses():
    # oracle: looking every trial up by its image in the whole scan, whose images are partly repeated
    scan = simulate(units=3, train=20).scan
    again = np.flatnonzero(scan.tiers == "train")[:12]
    scan = replace(
        scan,
        trial_image=np.append(scan.trial_image, scan.trial_image[again]),
        tiers=np.append(scan.tiers, scan.tiers[again]),
        responses=np.append(scan.responses, scan.responses[again] + 1, axis=0),
    )
    part, whole = training_subset(scan, 8, 0).trials("train"), scan.trials("train")
    assert len(set(part.image_ids.tolist())) == 8
    expected = np.isin(whole.image_ids, part.image_ids)
    assert expected.sum() > 8
    for name in ("image_ids", "images", "responses"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[expected])


def test_all_cores_get_the_same_images_and_scores_are_those_of_the_model(study):
    # oracle: fit_readout and ResponseModel.score called by hand on the same subset, and the true rates
    assert run(study) == 0
    config = read_transfer_config(study)
    task = make_task(config, study.parent, study.parent)
    train, test = training_subset(task.scan, 40, 0).trials("train"), task.scan.trials("test")
    rates = dict(zip(task.truth.image_ids.tolist(), task.truth.rates, strict=True))
    for label, core in (
        ("its own", mousev1.load_core(study.parent / "core")),
        ("random-11", Core.random(config.core, seed=11)),
    ):
        model = mousev1.fit_readout(
            train.images,
            train.responses,
            task.scan.positions,
            core=core,
            constant_units="mean",
            progress=False,
        )
        table = model.score(test.images, test.responses, test.image_ids)
        row = rows_by_cell(study)[label, 40]
        assert row["content_hash"] == core.content_hash()
        scores = row["scores"]
        assert scores["single_trial_correlation"] == pytest.approx(np.nanmean(table.single_trial_correlation))
        assert scores["correlation_to_average"] == pytest.approx(np.nanmean(table.correlation_to_average))
        assert scores["fraction_oracle"] == pytest.approx(table.fraction_oracle)
        # every test image is repeated equally often, so that trials stand for images
        true = np.stack([rates[image] for image in test.image_ids.tolist()])
        found = correlation(model.predict(test.images), true)[1:]  # the first neuron counts as silent
        assert scores["true_rate_correlation"] == pytest.approx(found.mean(), abs=1e-6)


def test_the_core_that_made_the_data_beats_a_random_one_and_more_images_help(study):
    # oracle: simulated truth
    assert run(study) == 0
    score = {cell: row["scores"]["true_rate_correlation"] for cell, row in rows_by_cell(study).items()}
    assert score["its own", 200] > 0.9
    for images in (40, 200):
        assert score["its own", images] > score["random-11", images] + 0.02
    assert score["its own", 200] > score["its own", 40]


def test_a_rerun_computes_nothing_and_a_new_core_only_its_own_cells(study, monkeypatch):
    # oracle: calls of the solver counted
    calls = []
    fit = mousev1.fit_readout
    monkeypatch.setattr(mousev1, "fit_readout", lambda *a, **k: calls.append(k["core"]) or fit(*a, **k))
    assert run(study) == 0
    assert len(calls) == 4
    before = rows_by_cell(study)
    assert run(study) == 0
    assert len(calls) == 4
    save_core(Core.random(CONFIG, seed=5), study.parent / "core", overwrite=True)
    assert run(study) == 0
    assert len(calls) == 6
    after = rows_by_cell(study)
    assert len(results(study)["rows"]) == 4
    for images in (40, 200):
        assert after["random-11", images] == before["random-11", images]
        assert after["its own", images]["content_hash"] != before["its own", images]["content_hash"]


def test_a_core_that_cannot_be_had_is_reported_and_the_rest_is_computed(study, capsys):
    study.write_text(study.read_text().replace(str(study.parent / "core"), "nowhere"))
    assert run(study) == 1
    assert "core 'its own': core: expected a known name" in capsys.readouterr().err
    assert sorted(rows_by_cell(study)) == [("random-11", 40), ("random-11", 200)]
    table = (study.parent / "out" / "small.md").read_text()
    assert f"{rows_by_cell(study)['random-11', 40]['scores']['fraction_oracle']:.3f}" in table
    assert (study.parent / "out" / "small.png").read_bytes().startswith(b"\x89PNG")


def test_a_killed_run_keeps_every_finished_cell(study):
    # oracle: a process killed without warning once the first row is there
    study.write_text(study.read_text().replace("images = [40, 200]", "images = [40, 60, 80, 100, 120, 200]"))
    words = [str(study), "--out", str(study.parent / "out"), "--threads", "1"]
    command = [sys.executable, "-W", "error", "-m", "training.transfer", *words]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
    file = study.parent / "out" / "small.json"
    deadline = time.monotonic() + 120
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    kept = results(study)["rows"]
    assert 1 <= len(kept) < 12
    assert run(study) == 0
    rows = results(study)["rows"]
    assert len(rows) == 12
    assert rows[: len(kept)] == kept


def test_results_of_another_scan_are_not_mixed_in(study, capsys):
    assert run(study, "--only", "random") == 0
    kept = (study.parent / "out" / "small.json").read_bytes()
    simulate(seed=1).scan.write(study.parent / "scan.h5", overwrite=True)
    assert run(study) == 1
    assert "choose another folder with --out" in capsys.readouterr().err
    assert (study.parent / "out" / "small.json").read_bytes() == kept


def test_direct_training_is_scored_with_its_own_readout_and_with_a_new_one(study):
    # oracle: the run's own folder, whose core both rows have to belong to
    direct = "[direct.optimisation]\nmax_epochs = 3\nbatch_size = 8\n"
    text = study.read_text() + "\n[core.input]\nmean = 120.0\nstd = 50.0\nheight = 16\nwidth = 24\n" + direct
    study.write_text(text.replace("\nimages =", "\ndirect_images = [40]\nimages ="))
    assert run(study, "--only", "direct") == 0
    (folder,) = (study.parent / "work").iterdir()
    core = mousev1.load_core(folder / "run" / "core")
    description = json.loads((folder / "run" / "run.json").read_text())
    assert description["scans"][0]["train_trials"] == 40
    assert description["config"]["optimisation"]["feature_l1"] == 2.439
    rows = rows_by_cell(study)
    assert sorted(rows) == [("direct", 40), ("direct, readout fitted anew", 40)]
    for row in rows.values():
        assert row["content_hash"] == core.content_hash()
        assert row["epochs"] == 3
    scores = [row["scores"]["single_trial_correlation"] for row in rows.values()]
    assert scores[0] != scores[1]


def test_a_direct_model_predicts_what_training_measured(study):
    # oracle: the validation correlation that training wrote down for its best epoch
    config = TransferConfig.from_dict(
        {
            "name": "x",
            "title": "x",
            "scan": "scan.h5",
            "cores": [{"label": "r", "random_seeds": [0]}],
            "images": [40],
            "core": {**SHAPE, "input": {"mean": 120.0, "std": 50.0, "height": 16, "width": 24}},
            "direct": {"optimisation": {"max_epochs": 2, "batch_size": 8}},
        }
    )
    task = make_task(config, study.parent, study.parent / "work")
    fitted = transfer.fit_direct(task, 60, 0, refit=False)
    held = task.scan.trials("validation")
    found = fitted.model.score(held.images, held.responses, held.image_ids).single_trial_correlation
    assert np.nanmean(found) == pytest.approx(fitted.details["validation_correlation"], abs=1e-5)
    again = transfer.fit_direct(task, 60, 0, refit=False)
    assert again.seconds == fitted.seconds
    assert again.model.core.content_hash() == fitted.model.core.content_hash()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [0]}, "images: expected whole numbers from 1"),
        ({"image": [5]}, "unknown key 'image'"),
        ({"cores": [{"label": "a"}]}, "either source or random_seeds for 'a'"),
        ({"cores": [{"label": "a", "source": "b", "seed": 1}]}, "unknown key 'seed'"),
        ({"cores": [{"label": "direct", "source": "b"}]}, "does not start with 'direct'"),
        ({"direct": {"optimizer": {}}}, "direct: unknown table 'optimizer'"),
        ({"direct": {"optimisation": {"learning": 1.0}}}, "unknown key 'learning'"),
    ],
)
def test_a_config_with_a_mistake_says_which(change, message):
    values = {
        "name": "x",
        "title": "x",
        "scan": "x.h5",
        "cores": [{"label": "a", "source": "b"}],
        "images": [5],
    }
    TransferConfig.from_dict(values)
    with pytest.raises(ValueError, match=message):
        TransferConfig.from_dict({**values, **change})


def test_more_than_the_scan_has_is_refused(study):
    config = read_transfer_config(study)
    with pytest.raises(ValueError, match="images: expected at most 300"):
        make_task(replace(config, images=(301,)), study.parent, study.parent)
    with pytest.raises(ValueError, match="units: expected at most 8"):
        make_task(replace(config, units=9), study.parent, study.parent)


@pytest.mark.parametrize("name", ["transfer-simulated", "transfer-twin"])
def test_the_configs_that_come_along_can_be_read(name):
    config = read_transfer_config(Path(transfer.__file__).parent / "configs" / f"{name}.toml")
    assert config.name == name
    assert "imulated" in config.title
    assert config.recipe(0).optimisation.feature_l1 == 2.439
