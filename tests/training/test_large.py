"""The fit under a memory budget, on a scan small enough for a test."""

from __future__ import annotations

import numpy as np
import pytest

import mousev1
from training.measurements import large


def test_a_simulated_scan_is_fitted_and_scored_against_its_truth(tmp_path):
    core = mousev1.Core.random(seed=0)
    large.simulate(core, tmp_path, units=12, images=300, seed=0)
    responses = np.load(tmp_path / "responses.npy")
    assert responses.shape == (300, 12)
    # Poisson around rates whose drives have a known mean
    assert 0.3 < responses.mean() < 2.0
    assert (responses == np.rint(responses)).all()
    found = large.fit(core, tmp_path, memory=8 * 10**9, seed=0)
    assert found["units_scored"] == 12
    assert found["true_rate_correlation"] > 0.5
    assert found["peak_memory_mb"] >= found["memory_before_mb"]


def test_a_folder_with_another_scan_is_refused(tmp_path, monkeypatch):
    np.save(tmp_path / "responses.npy", np.zeros((5, 2), np.float32))
    monkeypatch.setattr(large, "read_core", lambda path: mousev1.Core.random(seed=0))
    with pytest.raises(SystemExit, match=r"--folder: expected responses \(30000, 20000\)"):
        large.main(["--core", "x", "--folder", str(tmp_path), "--out", str(tmp_path / "out.json")])
