"""Claims about the runner of benchmarks; the oracles are an undisturbed run and processes really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from benchmarking import DIRECT, marked_environment, marked_processes, results, wait_for, write_benchmark

from training.simulation import CORE_SETS, SimulationConfig, simulate_study
from training.transfer_benchmark import __main__ as benchmark
from training.transfer_benchmark.__main__ import main
from training.transfer_benchmark.conditions_grid import expand
from training.transfer_benchmark.identity import Identities
from training.transfer_benchmark.plan import make_plan
from training.transfer_benchmark.results_table import CHOICES, read_rows


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A config, and the folder of a run of it in this process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    config = write_benchmark(folder, more=DIRECT, epochs=30)
    assert main([str(config), "--out", str(folder / "out")]) == 0
    return config, folder / "out"


def start(config: Path, out: Path, mark: str, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "training.transfer_benchmark", str(config), "--out", str(out), *words]
    return subprocess.Popen(command, env=marked_environment(mark), stderr=subprocess.PIPE, text=True)


def test_every_run_is_one_file_and_all_are_merged(undisturbed):
    _, out = undisturbed
    rows = read_rows(out / "results.parquet")
    assert len(rows) == 10
    assert {file.stem for file in (out / "rows").iterdir()} == {row["key"] for row in rows}
    assert [row for file in sorted((out / "rows").iterdir()) for row in read_rows(file)] == sorted(
        rows, key=lambda row: row["key"]
    )
    assert len({(r["condition"], r["readout"], r["seed"]) for r in rows}) == 10


def test_rows_say_how_to_get_them_again_and_that_gives_the_same(undisturbed, tmp_path):
    _, out = undisturbed
    row = next(row for row in read_rows(out / "results.parquet") if row["condition"] == "direct")
    words = row["command"].split()
    assert words[:3] == ["python", "-m", "training.transfer_benchmark"]
    assert main([words[3], "--out", str(tmp_path / "again"), *words[6:]]) == 0
    assert results(tmp_path / "again") == {row["key"]: results(out)[row["key"]]}
    asked = json.loads(row["config"])["cell"]
    assert (asked["images"], asked["units"], asked["readout"]) == (12, 4, "gaussian")
    assert row["simulated"] is True
    assert row["epochs"] == 2


def test_run_again_nothing_is_computed(undisturbed, monkeypatch, capsys):
    config, out = undisturbed
    before = {file: file.stat().st_mtime_ns for file in (out / "rows").iterdir()}
    monkeypatch.setattr(benchmark, "compute", lambda *_: pytest.fail("computed again"))
    assert main([str(config), "--out", str(out)]) == 0
    assert {file: file.stat().st_mtime_ns for file in (out / "rows").iterdir()} == before
    assert "0 of 10 to compute" in capsys.readouterr().out


def test_several_processes_give_the_same_and_lose_only_the_run_whose_process_was_killed(
    undisturbed, tmp_path
):
    config, out = undisturbed
    mark = uuid.uuid4().hex
    process = start(config, tmp_path / "out", mark, "--jobs", "2")
    wait_for(lambda: (tmp_path / "out" / "rows").is_dir())
    # With spawn, a worker's command line tells that it is one.
    victim = wait_for(lambda: marked_processes(mark, "spawn_main"))[0]
    os.kill(victim, signal.SIGKILL)
    _, complaints = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "the worker process died" in complaints
    failed = [json.loads(file.read_text()) for file in (tmp_path / "out" / "failed").iterdir()]
    assert 1 <= len(failed) <= 2
    kept = results(tmp_path / "out")
    assert len(kept) == 10 - len(failed)
    assert kept == {key: row for key, row in results(out).items() if key in kept}

    assert main([str(config), "--out", str(tmp_path / "out")]) == 0
    assert results(tmp_path / "out") == results(out)
    assert not list((tmp_path / "out" / "failed").iterdir())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_killed_worker_of_a_ray_cluster_loses_nothing(undisturbed, tmp_path):
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    config, out = undisturbed
    mark = uuid.uuid4().hex
    process = start(config, tmp_path / "out", mark, "--ray", "local", "--jobs", "2")
    wait_for(lambda: (tmp_path / "out" / "rows").is_dir())
    # Ray calls a process by the function that it is running.
    victim = wait_for(lambda: marked_processes(mark, "ray::attempt"))[0]
    os.kill(victim, signal.SIGKILL)
    _, complaints = process.communicate(timeout=200)
    assert process.returncode == 0, complaints
    assert results(tmp_path / "out") == results(out)
    assert not (tmp_path / "out" / "failed").exists()


def test_a_failed_run_is_reported_does_not_stop_the_rest_and_is_tried_again(tmp_path, capsys):
    config = write_benchmark(tmp_path)
    config.write_text(
        config.read_text().replace("[[cores]]", '[[cores]]\nlabel = "lost"\nsource = "no-such-core"\n[[cores]]', 1)
        .replace('cores = ["random"]', 'cores = ["lost", "random"]')
        .replace('"gaussian", "gaussian-cortex", "factorized", "fully-connected"', '"gaussian"')
        .replace("seeds = [0, 1]", "seeds = [0]")
    )  # fmt: skip
    out = tmp_path / "out"
    assert main([str(config), "--out", str(out)]) == 1
    complaints = capsys.readouterr().err
    assert "failed: best-core/diff-readout, lost, gaussian (sgd)" in complaints
    assert "no-such-core" in complaints
    assert [row["core"] for row in read_rows(out / "results.parquet")] == ["random"]
    (failure,) = (out / "failed").iterdir()
    assert "Traceback" in json.loads(failure.read_text())["traceback"]

    assert main([str(config), "--out", str(out)]) == 1
    assert "1 of 2 to compute" in capsys.readouterr().out


def test_a_training_that_fails_fails_its_runs_and_no_others(tmp_path, capsys):
    config = write_benchmark(tmp_path, more=DIRECT)
    # The scan has no match ids that several scans could share, so that direct training must fail.
    config.write_text(
        config.read_text().replace("[direct.optimisation]", "[direct.optimisation]\nlearning_rate = 1e30")
    )
    assert main([str(config), "--out", str(tmp_path / "out"), "--only", "readout=gaussian", "seed=0"]) == 1
    assert "its training failed: FloatingPointError" in capsys.readouterr().err
    assert [row["condition"] for row in read_rows(tmp_path / "out")] == ["best-core/diff-readout"]


def test_only_chooses_runs_by_their_columns(undisturbed, tmp_path, capsys):
    config, _ = undisturbed
    words = ["--only", "readout=factorized", "readout=fully-connected", "seed=1"]
    assert main([str(config), "--out", str(tmp_path), *words]) == 0
    rows = read_rows(tmp_path / "results.parquet")
    assert {(r["readout"], r["seed"]) for r in rows} == {("factorized", 1), ("fully-connected", 1)}
    for word, message in (("core=11-S", "no run agrees"), ("colour=red", "a name of 'condition'")):
        assert main([str(config), "--out", str(tmp_path), "--only", word]) == 1
        assert message in capsys.readouterr().err


def test_a_run_is_computed_again_if_the_scan_or_its_recipe_changes_and_only_then(undisturbed, tmp_path):
    config, out = undisturbed
    keys = set(results(out))
    text = config.read_text()
    (tmp_path / "scan.h5").write_bytes((config.parent / "scan.h5").read_bytes())
    same, other = tmp_path / "same.toml", tmp_path / "other.toml"
    same.write_text(text.replace('title = "Simulated', 'title = "Still simulated'))
    other.write_text(text.replace("batch_size = 4", "batch_size = 5"))

    def keys_of(path):
        plan = make_plan(path, tmp_path / "out")
        return {Identities(plan).key(run) for run in expand(plan)}

    assert keys_of(same) == keys
    assert len(keys_of(other) & keys) == 2  # the direct ones do not depend on that recipe
    write_benchmark(tmp_path, seed=5)
    assert not keys_of(same) & keys


def test_the_tiny_benchmark_covers_every_condition_readout_and_method(tmp_path):
    # oracle: the vocabulary of the results table
    configs = Path(benchmark.__file__).parent.parent / "configs"
    study = tmp_path / "data" / "simulated-benchmark-tiny"
    simulate_study(
        SimulationConfig.read(configs / "simulated-benchmark-tiny.toml"), study, report=lambda _: None
    )
    config = tmp_path / "benchmark-tiny.toml"
    text = (configs / "benchmark-tiny.toml").read_text()
    config.write_text(text.replace('study = "data', f'study = "{tmp_path}/data'))
    assert main([str(config), "--out", str(tmp_path / "out")]) == 0
    rows = read_rows(tmp_path / "out")
    for column, choices in CHOICES.items():
        assert {row[column] for row in rows} == set(choices)
    assert {row["core_set"] for row in rows} == {"", *CORE_SETS}
    assert {
        (row["readout"], row["method"], row["sharing"]) for row in rows if row["condition"] == "direct"
    } >= {
        ("gaussian", "end-to-end", True),
        ("gaussian", "end-to-end", False),
        ("factorized", "end-to-end", True),
        ("factorized", "end-to-end", False),
    }
    assert all(row["true_rate_correlation"] is not None for row in rows)
    assert {row["scan"] for row in rows} == {"sim-g1", "sim-a1+sim-a2+sim-a3+sim-a4"}
