"""Claims about the search of hyperparameters; the oracles are a known optimum, and processes really killed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarking import wait_for
from pretraining import environment, small_scan

import mousev1
from training.hyperparameter_search import __main__ as search
from training.hyperparameter_search.__main__ import ended_trials, main, open_search, open_study, run_study
from training.hyperparameter_search.config import SearchConfig, Span
from training.pretraining.config import find_scans
from training.pretraining.end_to_end import train_end_to_end, write_scans
from training.transfer_benchmark.protocol import draw_images

pytest.importorskip("optuna", reason="needs the extra 'search'")

CONFIG = """
name = "small"
scan = ["scan.h5"]
trials = 5
random_trials = 2
images = 16
fine_tune_images = [8, 20]
fine_tune_trials = 8

[core]
hidden_channels = 4
layers = 2
input_kernel = 5
hidden_kernel = 3

[core.input]
mean = 128.0
std = 64.0
height = 12
width = 16

[recipe.optimisation]
batch_size = 8
max_epochs = 2
"""


@pytest.fixture
def config(tmp_path):
    small_scan("scan", seed=4).write(tmp_path / "scan.h5")
    path = tmp_path / "search.toml"
    path.write_text(CONFIG)
    return path


def start(config: Path, out: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "training.hyperparameter_search",
        str(config),
        "--out",
        str(out),
    ]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)


def trials(out: Path) -> list[tuple[str, dict[str, float], float | None]]:
    """State, values and score of every trial of the study in a folder, read by Optuna itself."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(out / "study.log")))
    study = optuna.load_study(study_name="small", storage=storage)
    return [(trial.state.name, trial.params, trial.value) for trial in study.get_trials()]


def test_two_processes_join_one_study_and_its_best_trial_can_be_trained_again(config, tmp_path):
    out = tmp_path / "out"
    processes = [start(config, out) for _ in range(2)]
    printed = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    done = trials(out)
    assert len(done) in (5, 6)  # the last trials of both may overlap
    assert {state for state, _, _ in done} == {"COMPLETE"}
    assert len({json.dumps(values) for _, values, _ in done}) == len(done)
    assert sum(text.count("trial ") for text in printed) == len(done)

    best = max(done, key=lambda trial: trial[2])
    found = json.loads((out / "best.json").read_text())
    assert (found["values"], found["validation_correlation"]) == (best[1], best[2])
    # oracle: training by hand
    settings = SearchConfig.read(config)
    (scan,) = draw_images([mousev1.read_scan(file) for file in find_scans(settings.scan, tmp_path)], 16, 0)
    recipe = settings.recipe_with(best[1], seed=done.index(best))
    files = write_scans([scan], tmp_path / "again")
    again = train_end_to_end(files, recipe, tmp_path / "again")
    assert again.details["validation_correlation"] == pytest.approx(best[2], abs=1e-6)


def test_a_killed_search_goes_on_with_every_trial_it_finished(config, tmp_path):
    out = tmp_path / "out"
    process = start(config, out)
    wait_for(lambda: (out / "study.log").exists() and '"values":[' in (out / "study.log").read_text())
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept = [trial for trial in trials(out) if trial[0] == "COMPLETE"]
    assert 1 <= len(kept) < 5

    assert main([str(config), "--out", str(out)]) == 0
    done = [trial for trial in trials(out) if trial[0] == "COMPLETE"]
    assert done[: len(kept)] == kept
    assert len(done) == 5


def test_the_gaussian_process_homes_in_on_a_known_optimum(tmp_path):
    # oracle: a smooth function of two values with its maximum at (0.01, 3)
    def score(values, trial=0):
        return -(math.log(values["learning_rate"] / 0.01) ** 2) - math.log(values["feature_l1"] / 3) ** 2

    spans = {"learning_rate": Span(1e-4, 1.0), "feature_l1": Span(1e-2, 1e2)}
    study = open_study("known", tmp_path, seed=0, random_trials=4)
    values, best = run_study(study, spans, score, trials=16)
    assert ended_trials(study) == 16
    assert best == score(values)
    assert values["learning_rate"] == pytest.approx(0.01, rel=0.3)
    assert values["feature_l1"] == pytest.approx(3.0, rel=0.3)


def test_fine_tuning_searches_the_regulariser_per_size_and_nothing_else(
    config, tmp_path, monkeypatch, capsys
):
    seen = []

    def score(opened, recipe, images):
        seen.append((recipe.optimisation.learning_rate, images))
        return -abs(math.log(recipe.optimisation.feature_l1 * images / 40))

    monkeypatch.setattr(search, "objective", score)
    out = tmp_path / "out"
    assert main([str(config), "--out", str(out), "--fine-tune"]) == 1
    assert "run the search without --fine-tune first" in capsys.readouterr().err
    assert main([str(config), "--out", str(out)]) == 0
    rate = json.loads((out / "best.json").read_text())["values"]["learning_rate"]
    seen.clear()
    assert main([str(config), "--out", str(out), "--fine-tune"]) == 0
    assert seen == [(rate, 8)] * 8 + [(rate, 20)] * 8
    weights = json.loads((out / "feature_l1.json").read_text())
    assert weights["8"] == pytest.approx(40 / 8, rel=0.5)
    assert weights["20"] == pytest.approx(40 / 20, rel=0.5)
    assert f"[feature_l1.gaussian-cortex]\n8 = {weights['8']:.4g}" in capsys.readouterr().out


def test_a_diverged_trial_is_kept_as_failed_and_the_search_goes_on(config, tmp_path, monkeypatch, capsys):
    def score(opened, recipe, images):
        if recipe.seed == 0:
            raise FloatingPointError("training has diverged")
        return recipe.seed / 10

    monkeypatch.setattr(search, "objective", score)
    assert main([str(config), "--out", str(tmp_path / "out")]) == 0
    assert [(state, score) for state, _, score in trials(tmp_path / "out")] == [
        ("FAIL", None), ("COMPLETE", 0.1), ("COMPLETE", 0.2), ("COMPLETE", 0.3), ("COMPLETE", 0.4),
    ]  # fmt: skip
    assert "trial 0: training has diverged" in capsys.readouterr().err


def test_a_readout_on_a_frozen_core_is_searched_too(config, tmp_path):
    core = mousev1.Core.random(SearchConfig.read(config).core, seed=0)
    mousev1.storage.core_files.save_core(core, tmp_path / "core")
    text = f'train = "frozen"\ncore_source = "{tmp_path}/core"\nreadout = "factorized"\n'
    config.write_text(text + CONFIG.replace("trials = 5", "trials = 2"))
    assert main([str(config), "--out", str(tmp_path / "out")]) == 0
    assert {frozenset(values) for _, values, _ in trials(tmp_path / "out")} == {
        frozenset({"learning_rate", "feature_l1"})
    }


def test_a_folder_of_another_search_is_not_mixed_with_this_one(config, tmp_path, capsys):
    open_search(config, tmp_path / "out")
    config.write_text(CONFIG.replace("trials = 5", "trials = 9"))
    open_search(config, tmp_path / "out")  # more trials of the same
    config.write_text(CONFIG.replace("max_epochs = 2", "max_epochs = 3"))
    assert main([str(config), "--out", str(tmp_path / "out")]) == 1
    assert "max_epochs: 2 there, 3 now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trial": 3}, "unknown key 'trial'"),
        ({"spans": {"speed": [1.0, 2.0]}}, "spans.speed: expected one of 'learning_rate', .*, got 'speed'"),
        ({"spans": {"learning_rate": [2.0, 1.0]}}, "expected 0 < low < high"),
        ({"train": "frozen"}, "core_source: expected a core"),
        ({"readout": "linear"}, "readout: expected one of"),
        (
            {"recipe": {"optimizer": {}}},
            "recipe.optimizer: expected one of 'readout', 'optimisation', 'compute'",
        ),
    ],
)
def test_a_mistake_in_a_config_is_named(change, message):
    values = {"name": "x", "scan": ["x.h5"]}
    assert SearchConfig.from_dict(values).trials == 100
    with pytest.raises(ValueError, match=message):
        SearchConfig.from_dict({**values, **change})


def test_every_hyperparameter_goes_where_training_reads_it():
    config = SearchConfig.from_dict({"name": "x", "scan": ["x.h5"]})
    values = {
        "learning_rate": 0.1, "feature_l1": 0.2, "smoothness": 0.3, "init_sigma": 0.4, "init_range": 0.5,
        "position_init_scale": 0.6,
    }  # fmt: skip
    recipe = config.recipe_with(values, seed=7)
    optimisation, readout = recipe.optimisation, recipe.readout
    found = (optimisation.learning_rate, optimisation.feature_l1, optimisation.smoothness)
    assert (*found, readout.init_sigma, readout.init_range, readout.position_network.init_scale) == (
        0.1, 0.2, 0.3, 0.4, 0.5, 0.6,
    )  # fmt: skip
    assert recipe.seed == 7
    assert set(config.spans) == {*values} - {"init_range"}  # of no use with cortex
