"""Whole runs in processes of their own: killed, repeated, distributed, on published file trees."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from pretraining import CONFIG, REPOSITORY, command, environment, run_command, small_scan, write_study

import mousev1
from mousev1.fit.early_stopping import EarlyStopping
from mousev1.storage.core_files import load_core_folder
from training.pretraining.__main__ import main
from training.pretraining.config import PretrainConfig, find_scans
from training.pretraining.data import load_scan
from training.pretraining.distributed import Processes
from training.pretraining.loop import validation_correlations
from training.pretraining.model import build_model
from training.pretraining.run_folder import list_differences
from training.simulation.__main__ import main as simulate

VOLATILE = {"seconds", "images_per_second"}


def state_of(folder):
    return torch.load(folder / "last.pt", weights_only=True)


def metrics_of(folder):
    with open(folder / "metrics.csv") as file:
        return [{k: v for k, v in row.items() if k not in VOLATILE} for row in csv.DictReader(file)]


def assert_same_bits(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a.keys() - VOLATILE:
            assert_same_bits(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same_bits(x, y)
    else:
        assert a == b


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def finished(study):
    """A run that nothing disturbed."""
    out = study.parent / "finished"
    return out, run_command(study, out)


def test_a_run_leaves_a_folder_that_explains_itself(study, finished):
    out, printed = finished
    run = json.loads((out / "run.json").read_text())
    assert PretrainConfig.from_dict(run["config"]) == PretrainConfig.read(study)
    assert [scan["name"] for scan in run["scans"]] == ["a", "b", "c"]
    assert all(len(scan["sha256"]) == 64 for scan in run["scans"])
    assert run["sessions"][0]["versions"]["torch"] == torch.__version__
    rows = metrics_of(out)
    assert 1 <= len(rows) <= 4
    assert printed.count("epoch") == len(rows)
    assert {file.name for file in (out / "figures").iterdir()} == {
        f"{name}.png" for name in ("loss", "correlation", "filters", "positions")
    }
    assert any(file.name.startswith("events") for file in (out / "tensorboard").iterdir())
    card = (out / "README.md").read_text()
    for word in ("| a | 5 | 24 | 12 |", "seed 3", '"feature_l1": 2.439', "figures/filters.png"):
        assert word in card
    result = json.loads((out / "result.json").read_text())
    best = max(rows, key=lambda row: float(row["validation_correlation"]))
    assert result["best_epoch"] == int(best["epoch"])


def test_the_exported_core_is_that_of_the_best_epoch(finished):
    out, _ = finished
    core = load_core_folder(out / "core")
    best = torch.load(out / "best.pt", weights_only=True)
    for key, value in core.state_dict().items():
        assert torch.equal(value, best[f"core.{key}"]), key
    assert core.name == "small"
    assert core.content_hash() == json.loads((out / "result.json").read_text())["content_hash"]
    assert core.readout_prior["weight_mean"].shape == (4,)
    assert (out / "core" / "filters.png").is_file()


def test_the_best_weights_score_what_the_run_says(study, finished):
    out, _ = finished
    config = PretrainConfig.read(study)
    scans = [load_scan(file, config.core) for file in find_scans(config.scans, study.parent)]
    model = build_model(config, scans)
    model.load_state_dict(torch.load(out / "best.pt", weights_only=True))
    scores = validation_correlations(model, scans, Processes(0, 1, torch.device("cpu")))
    # Oracle: numpy on the rates of the plain core, single trials, in the mean over neurons.
    by_hand = []
    model.eval()
    for number, scan in enumerate(scans):
        tier = scan.validation
        with torch.no_grad():
            rates = model.readout(number)(model.core(tier.images[tier.shown].float()))
        by_hand += [np.corrcoef(r, y)[0, 1] for r, y in zip(rates.T, tier.responses.T, strict=True)]
    assert np.allclose(np.concatenate(scores), by_hand, atol=1e-4)
    assert json.loads((out / "result.json").read_text())["best"] == pytest.approx(np.mean(by_hand), abs=1e-4)


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(study, finished):
    undisturbed, _ = finished
    out = study.parent / "killed"
    # Killed at whatever the process happens to be doing: right after its first epoch, and once more.
    for epochs in (1, 2):
        process = subprocess.Popen(
            command(study, out),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        seen = ""
        for line in process.stdout:
            seen += line
            if line.startswith(f"epoch   {epochs}"):
                os.kill(process.pid, signal.SIGKILL)
                break
        process.stdout.close()
        assert process.wait(timeout=60) == -signal.SIGKILL, seen
        assert not (out / "result.json").exists()
    # What a kill in the middle of writing leaves behind: half a file under a temporary name.
    (out / ".last.pt.abc123").mkdir()
    (out / ".last.pt.abc123" / "new").write_bytes((out / "last.pt").read_bytes()[:100])
    printed = run_command(study, out)
    assert "going on after epoch" in printed
    assert not list(out.glob(".*"))
    assert_same_bits(state_of(out), state_of(undisturbed))
    assert metrics_of(out) == metrics_of(undisturbed)
    assert len(json.loads((out / "run.json").read_text())["sessions"]) == 3
    assert (
        load_core_folder(out / "core").content_hash() == load_core_folder(undisturbed / "core").content_hash()
    )


def test_a_run_killed_between_its_last_epoch_and_its_results_still_writes_them(study, finished):
    undisturbed, _ = finished
    out = study.parent / "unexported"
    shutil.copytree(undisturbed, out)
    (out / "result.json").unlink()
    shutil.rmtree(out / "figures")
    printed = run_command(study, out)
    assert "loss" not in printed  # no further epoch
    assert (out / "result.json").read_text() == (undisturbed / "result.json").read_text()
    assert len(list((out / "figures").iterdir())) == 4


def test_a_finished_run_started_again_says_so_and_changes_nothing(study, finished, capsys):
    out, _ = finished
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()}
    assert main([str(study), "--out", str(out)]) == 0
    assert "finished already; nothing to do" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()} == before


def test_a_changed_config_or_scan_is_refused_with_what_differs(study, finished, tmp_path, capsys):
    out, _ = finished
    path = write_study(tmp_path, CONFIG.replace("batch_size = 8", "batch_size = 6"), train=26)
    assert main([str(path), "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert "config.optimisation.batch_size: 8 there, 6 now" in message
    assert "scans[0].train_trials: 24 there, 26 now" in message
    assert "scans[0].sha256" in message
    assert "scans[1]" not in message


def test_a_folder_of_something_else_is_left_alone(study, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("")
    assert main([str(study), "--out", str(tmp_path)]) == 1
    assert "found other files there" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_differences_are_listed_one_by_one():
    there = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    now = {"a": {"b": 2, "c": [1, 5]}, "e": 4}
    assert list_differences(there, now) == [
        "a.b: 1 there, 2 now",
        "a.c[1]: 2 there, 5 now",
        "d: 3 there, null now",
        "e: null there, 4 now",
    ]


@pytest.mark.parametrize("processes", [2, 4], ids=["fewer than scans", "more than scans"])
def test_several_processes_give_the_result_of_one(study, finished, processes):
    """Oracle: the single-process run, at every weight, statistic and metric of the last epoch."""
    single, _ = finished
    out = study.parent / f"distributed over {processes}"
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={processes}",
    ]
    run_command(study, out, *launcher)
    one, two = state_of(single), state_of(out)
    assert one["stopping"]["epoch"] == two["stopping"]["epoch"]
    for key, expected in one["model"].items():
        scale = max(1.0, float(expected.abs().max()))
        assert float((two["model"][key] - expected).abs().max()) < 1e-5 * scale, key
    for a, b in zip(metrics_of(single), metrics_of(out), strict=True):
        for key in a:
            assert float(a[key]) == pytest.approx(float(b[key]), abs=1e-5), key


def test_the_config_of_the_real_thing_runs_on_file_trees_in_the_published_layout(tmp_path):
    for number in range(2):
        scan = small_scan(f"static{number}", train=4, units=3, seed=number, height=36, width=64)
        scan.write(tmp_path / "data" / f"static{number}-preproc0")
    text = (REPOSITORY / "training" / "configs" / "11-s.toml").read_text()
    filled = text.replace("data/11-s/static*", f"{tmp_path}/data/static*")
    assert filled != text
    # Two epochs instead of 200, for the sake of time.
    config = tmp_path / "11-s.toml"
    config.write_text(f"{filled}\n[optimisation]\nmax_epochs = 2\n[compute]\nthreads = 1\n")
    run_command(config, tmp_path / "run")
    core = mousev1.load_core(str(tmp_path / "run" / "core"))
    assert (core.config.hidden_channels, core.config.input_kernel, core.config.hidden_kernel) == (64, 15, 13)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [scan["units"] for scan in run["scans"]] == [3, 3]


def test_the_tiny_config_runs_on_simulated_scans(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configs = REPOSITORY / "training" / "configs"
    assert simulate([str(configs / "simulated-tiny.toml"), "--out", "data/simulated-tiny"]) == 0
    assert main([str(configs / "tiny.toml")]) == 0
    run = json.loads((tmp_path / "runs" / "tiny" / "run.json").read_text())
    assert len(run["scans"]) == 13


def test_pretraining_learns_what_the_neurons_see(tmp_path):
    """Oracle: the spots that simulated neurons see, noise a tenth of the signal; chance before training."""
    small_scan("a", train=400, units=30, seed=1).write(tmp_path / "a.h5")
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.replace("max_epochs = 4\npatience = 1", "max_epochs = 8"))
    config = PretrainConfig.read(path)
    scans = [load_scan(tmp_path / "a.h5", config.core)]
    untrained = validation_correlations(
        build_model(config, scans), scans, Processes(0, 1, torch.device("cpu"))
    )
    assert abs(np.nanmean(untrained[0])) < 0.5
    assert main([str(path), "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best"] > 0.9


def test_training_that_diverges_stops_with_a_remedy(tmp_path, capsys):
    path = write_study(tmp_path, CONFIG.replace("batch_size = 8", "batch_size = 8\nlearning_rate = 1e30"))
    assert main([str(path), "--out", str(tmp_path / "run")]) == 1
    assert "try a smaller learning_rate" in capsys.readouterr().err


def test_reduced_precision_stays_near_full_precision(tmp_path):
    scores = []
    for value in ("false", "true"):
        config = CONFIG.replace("threads = 1", f"threads = 1\nmixed_precision = {value}")
        path = write_study(tmp_path / value if (tmp_path / value).mkdir() is None else tmp_path, config)
        assert main([str(path), "--out", str(tmp_path / value / "run")]) == 0
        scores.append([float(row["train_loss"]) for row in metrics_of(tmp_path / value / "run")])
    assert scores[0] != scores[1]
    assert scores[0][0] == pytest.approx(scores[1][0], rel=0.02)


def test_early_stopping_is_saved_as_plain_values(finished):
    out, _ = finished
    assert EarlyStopping(**state_of(out)["stopping"]).finished
