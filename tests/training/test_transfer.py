"""Frozen cores and direct training compared on a scan whose core, readout and rates are known."""

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
from mousev1.compare.draws import training_subset
from mousev1.core.network import Core
from mousev1.metrics.unit_scores import correlation
from mousev1.storage.core_files import save_core
from small import CONFIG, simulate
from training.pretraining.config import PretrainConfig
from training.pretraining.end_to_end import train_end_to_end, write_scans
from training.transfer_benchmark import run_condition
from training.transfer_benchmark.__main__ import main
from training.transfer_benchmark.results_table import read_rows

TOML = """
name = "small"
title = "Simulated: a random core's own neurons"
simulated = true
seeds = [0]
partitions = [0]

[[targets]]
name = "scan"
scope = "across-animals"
scans = ["scan.h5"]
truth = ["truth.npz"]
image_seed = 0

[[cores]]
label = "its own"
source = "{core}"

[[cores]]
label = "random"
source = "{random}"

[[grids]]
condition = "best-core/diff-readout"
target = "scan"
cores = ["its own", "random"]
readouts = ["gaussian-cortex"]
images = [40, 200]

[core]
hidden_channels = 6
layers = 3
input_kernel = 5
hidden_kernel = 3
"""

DIRECT = """
[[grids]]
condition = "direct"
target = "scan"
readouts = ["gaussian-cortex"]
methods = ["end-to-end", "convex"]
images = [40]

[direct.optimisation]
max_epochs = 3
batch_size = 8

[core.input]
mean = 120.0
std = 50.0
height = 16
width = 24
"""


@pytest.fixture
def study(tmp_path):
    """A config beside a scan, its true test rates, and the core that made it."""
    made = simulate()
    made.scan.write(tmp_path / "scan.h5")
    save_core(made.core, tmp_path / "core")
    save_core(Core.random(CONFIG, seed=11), tmp_path / "random")
    test = np.unique(made.scan.trial_image[made.scan.tiers == "test"])
    np.savez(
        tmp_path / "truth.npz",
        rate=made.rates[test],
        rate_image_id=made.scan.image_ids[test],
        silent=np.array([True] + [False] * (made.scan.n_units - 1)),
    )
    path = tmp_path / "config.toml"
    path.write_text(TOML.format(core=tmp_path / "core", random=tmp_path / "random"))
    return path


def compare(path: Path, *words: str) -> dict:
    """Rows by core, method and number of images."""
    assert main([str(path), "--out", str(path.parent / "out"), *words]) == 0
    rows = read_rows(path.parent / "out" / "results.parquet")
    return {(row["core"], row["method"], row["images"]): row for row in rows}


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
        covariates={"trial_order": np.arange(scan.n_trials + len(again))},
    )
    part, whole = training_subset(scan, 8, 0).trials("train"), scan.trials("train")
    assert len(set(part.image_ids.tolist())) == 8
    expected = np.isin(whole.image_ids, part.image_ids)
    assert expected.sum() > 8
    for name in ("image_ids", "images", "responses"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[expected])
    order = whole.covariates["trial_order"][expected]
    assert np.array_equal(part.covariates["trial_order"], order)


def test_all_cores_get_the_same_images_and_scores_are_those_of_the_model(study):
    # oracle: fit_readout and ResponseModel.score called by hand on the same subset, and the true rates
    rows = compare(study)
    scan = mousev1.read_scan(study.parent / "scan.h5")
    train, test = training_subset(scan, 40, 0).trials("train"), scan.trials("test")
    with np.load(study.parent / "truth.npz") as truth:
        rates = dict(zip(truth["rate_image_id"].tolist(), truth["rate"], strict=True))
    for label, core in (
        ("its own", mousev1.load_core(study.parent / "core")),
        ("random", Core.random(CONFIG, seed=11)),
    ):
        model = mousev1.fit_readout(
            train.images,
            train.responses,
            scan.positions,
            core=core,
            constant_units="mean",
            progress=False,
        )
        table = model.score(test.images, test.responses, test.image_ids)
        row = rows[label, "convex", 40]
        assert row["core_hash"] == core.content_hash()
        assert row["test_correlation"] == pytest.approx(np.nanmean(table.single_trial_correlation))
        assert row["correlation_to_average"] == pytest.approx(np.nanmean(table.correlation_to_average))
        assert row["fraction_oracle"] == pytest.approx(table.fraction_oracle)
        # every test image is repeated equally often, so that trials stand for images
        true = np.stack([rates[image] for image in test.image_ids.tolist()])
        found = correlation(model.predict(test.images), true)[1:]  # the first neuron counts as silent
        assert row["true_rate_correlation"] == pytest.approx(found.mean(), abs=1e-6)


def test_the_core_that_made_the_data_beats_a_random_one_and_more_images_help(study):
    # oracle: simulated truth
    score = {key: row["true_rate_correlation"] for key, row in compare(study).items()}
    assert score["its own", "convex", 200] > 0.9
    for images in (40, 200):
        assert score["its own", "convex", images] > score["random", "convex", images] + 0.02
    assert score["its own", "convex", 200] > score["its own", "convex", 40]


def test_a_rerun_computes_nothing_and_a_new_core_only_its_own_rows(study, monkeypatch):
    # oracle: calls of the solver counted
    calls = []
    fit = run_condition.fit_scan
    monkeypatch.setattr(run_condition, "fit_scan", lambda *a, **k: calls.append(k["core"]) or fit(*a, **k))
    before = compare(study)
    assert len(calls) == 4
    assert compare(study) == before
    assert len(calls) == 4
    save_core(Core.random(CONFIG, seed=5), study.parent / "core", overwrite=True)
    after = compare(study)
    assert len(calls) == 6
    assert len(after) == 4
    for images in (40, 200):
        assert after["random", "convex", images] == before["random", "convex", images]
        assert (
            after["its own", "convex", images]["core_hash"]
            != before["its own", "convex", images]["core_hash"]
        )


def test_a_killed_run_keeps_every_finished_row(study):
    # oracle: a process killed without warning once the first row is there
    study.write_text(study.read_text().replace("images = [40, 200]", "images = [40, 60, 80, 100, 120, 200]"))
    folder = study.parent / "out" / "rows"
    command = [sys.executable, "-W", "error", "-m", "training.transfer_benchmark", str(study)]
    process = subprocess.Popen(
        [*command, "--out", str(folder.parent)], env=environment(), stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("*.parquet")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    kept = {file: file.read_bytes() for file in folder.glob("*.parquet")}
    assert 1 <= len(kept) < 12
    assert len(compare(study)) == 12
    assert {file: file.read_bytes() for file in kept} == kept


def test_direct_training_is_scored_with_its_own_readout_and_with_a_new_one(study):
    # oracle: the run's own folder, whose core both rows have to belong to
    study.write_text(study.read_text() + DIRECT)
    rows = compare(study, "--only", "condition=direct")
    (folder,) = (study.parent / "out" / "cores").glob("direct-*/run")
    core = mousev1.load_core(folder / "core")
    description = json.loads((folder / "run.json").read_text())
    assert description["scans"][0]["train_trials"] == 40
    assert description["config"]["optimisation"]["feature_l1"] == 2.439
    trained = mousev1.read_scan(folder.parent / "scans" / "scan.h5").trials("train").image_ids
    scan = mousev1.read_scan(study.parent / "scan.h5")
    assert np.array_equal(trained, training_subset(scan, 40, 0).trials("train").image_ids)
    assert sorted(rows) == [("direct", "convex", 40), ("direct", "end-to-end", 40)]
    assert {row["core_hash"] for row in rows.values()} == {core.content_hash()}
    assert rows["direct", "end-to-end", 40]["epochs"] == 3
    assert len({row["test_correlation"] for row in rows.values()}) == 2


def test_a_direct_model_predicts_what_training_measured(study):
    # oracle: the validation correlation that training wrote down for its best epoch
    shape = {
        "hidden_channels": 6,
        "layers": 3,
        "input_kernel": 5,
        "hidden_kernel": 3,
        "input": {"mean": 120.0, "std": 50.0, "height": 16, "width": 24},
    }
    values = {"name": "direct", "scans": ["scan.h5"], "core": shape}
    recipe = PretrainConfig.from_dict({**values, "optimisation": {"max_epochs": 2, "batch_size": 8}})
    scan = training_subset(mousev1.read_scan(study.parent / "scan.h5"), 60, 0)
    work = study.parent / "work"
    fitted = train_end_to_end(write_scans([scan], work), recipe, work)
    held = scan.trials("validation")
    found = fitted.models[0].score(held.images, held.responses, held.image_ids).single_trial_correlation
    assert np.nanmean(found) == pytest.approx(fitted.details["validation_correlation"], abs=1e-5)
    again = train_end_to_end(write_scans([scan], work), recipe, work)
    assert again.seconds == fitted.seconds
    assert again.models[0].core.content_hash() == fitted.models[0].core.content_hash()
