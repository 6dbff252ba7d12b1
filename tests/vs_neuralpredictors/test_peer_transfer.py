"""The side-by-side benchmark runs both libraries on the same data and never repeats a finished fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mousev1
from mousev1.storage.core_files import save_core
from training.measurements import task as tasks
from training.measurements import transfer

UNITS, TRAIN, VALIDATION, TEST, REPEATS = 8, 40, 12, 10, 3


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A simulated scan, a random core and the scan's true test rates."""
    generator = np.random.default_rng(0)
    count = TRAIN + VALIDATION + TEST
    rates = generator.gamma(2.0, 1.0, (count, UNITS))
    shown = np.r_[0 : TRAIN + VALIDATION, np.repeat(np.arange(TRAIN + VALIDATION, count), REPEATS)]
    tiers = ["train"] * TRAIN + ["validation"] * VALIDATION + ["test"] * TEST * REPEATS
    scan = mousev1.Scan(
        name="simulated",
        images=generator.integers(0, 256, (count, 1, 20, 24), dtype=np.uint8),
        image_ids=1000 + np.arange(count),
        trial_image=shown,
        tiers=np.array(tiers),
        responses=generator.gamma(rates[shown]).astype(np.float32),
        unit_ids=np.arange(UNITS),
        positions=generator.uniform(0, 500, (UNITS, 3)),
    )
    config = mousev1.CoreConfig(hidden_channels=8, layers=2, hidden_kernel=3)
    save_core(mousev1.Core.random(config, seed=0), tmp_path / "core")
    last = slice(TRAIN + VALIDATION, None)
    np.savez(
        tmp_path / "truth.npz",
        test_image_id=scan.image_ids[last],
        rate_test=rates[last],
        dead=np.arange(UNITS) == 0,
    )
    return scan.write(tmp_path / "scan.h5"), tmp_path / "core", tmp_path / "truth.npz"


def run(files: tuple[Path, Path, Path], out: Path, *more: str) -> dict:
    scan, core, truth = (str(path) for path in files)
    common = [scan, "--core", core, "--truth", truth, "--max-epochs", "2", "--units", "6", "--images", "30"]
    transfer.main([*common, "--out", str(out), *more])
    return json.loads(out.read_text())


def test_both_methods_are_scored_on_the_same_trials_and_recorded(peer, files, tmp_path, capsys):
    results = run(files, tmp_path / "results.json")
    assert list(results["fits"]) == ["peer", "sgd"]
    for fit in results["fits"].values():
        assert fit["seconds"] > 0
        for name in ("single_trial_correlation", "correlation_to_average", "fraction_oracle"):
            assert np.isfinite(fit["test"][name]), name
        assert np.isfinite(fit["test"]["true_rate_correlation"])
        assert fit["validation"]["fraction_oracle"] is None
        assert fit["versions"]["torch"]
        assert fit["machine"]["cpu"]
        assert fit["date"]
    assert len(results["fits"]["peer"]["epochs"]) == 2
    printed = capsys.readouterr().out
    assert "6 units, 30 training images" in printed
    assert f"{results['fits']['peer']['test']['single_trial_correlation']:.4f}" in printed


def test_a_finished_fit_is_kept_and_a_missing_one_added(files, tmp_path, monkeypatch):
    out = tmp_path / "results.json"
    first = run(files, out, "--methods", "sgd")
    calls = []

    def again(task: tasks.Task) -> transfer.MethodFit:
        calls.append(task)
        return transfer.MethodFit(lambda images: np.ones((len(images), 6)), {})

    monkeypatch.setitem(transfer.METHODS, "sgd", again)
    monkeypatch.setitem(transfer.METHODS, "convex", again)
    second = run(files, out, "--methods", "sgd", "convex")
    assert second["fits"]["sgd"] == first["fits"]["sgd"]
    assert len(calls) == 1
    third = run(files, out, "--methods", "sgd", "--rerun")
    assert third["fits"]["sgd"] != first["fits"]["sgd"]
    # a constant prediction has no correlation: undefined, and counted
    assert third["fits"]["sgd"]["test"]["single_trial_correlation"] is None
    assert third["fits"]["sgd"]["test"]["undefined_units"] == 6


def test_what_was_finished_survives_a_crash_of_the_next_fit(files, tmp_path, monkeypatch):
    out = tmp_path / "results.json"

    def crash(task: tasks.Task) -> transfer.MethodFit:
        raise KeyboardInterrupt

    monkeypatch.setitem(transfer.METHODS, "convex", crash)
    with pytest.raises(KeyboardInterrupt):
        run(files, out, "--methods", "sgd", "convex")
    assert list(json.loads(out.read_text())["fits"]) == ["sgd"]


def test_results_of_another_task_are_refused(files, tmp_path):
    out = tmp_path / "results.json"
    before = run(files, out, "--methods", "sgd")
    with pytest.raises(SystemExit, match="seed is 0, now 1"):
        run(files, out, "--methods", "sgd", "--seed", "1")
    assert json.loads(out.read_text()) == before


def test_true_rate_correlation_is_of_live_units_and_aligned_by_image(files, tmp_path):
    scan, core, truth = files
    options = transfer._parser().parse_args(
        [str(scan), "--core", str(core), "--truth", str(truth), "--out", str(tmp_path / "x.json")]
    )
    task = tasks.make_task(options, None, None)
    with np.load(truth) as arrays:
        true, dead = arrays["rate_test"], arrays["dead"]

    def oracle(images: np.ndarray) -> np.ndarray:
        """The true rates of the live units, found by the picture; nonsense for the dead one."""
        pictures = task.scan.images[TRAIN + VALIDATION :]
        rows = [int(np.flatnonzero((pictures == image).all(axis=(1, 2, 3)))[0]) for image in images]
        return np.where(dead, -1.0, 1.0) * true[rows]

    assert tasks.score(task, oracle, "test")["true_rate_correlation"] == pytest.approx(1.0)


def test_fewer_images_of_a_seed_are_among_the_more():
    few, more = (set(tasks.choose(100, n, "images", 3).tolist()) for n in (20, 50))
    assert few < more
    with pytest.raises(SystemExit, match="--images: expected 1 to 100"):
        tasks.choose(100, 101, "images", 3)
