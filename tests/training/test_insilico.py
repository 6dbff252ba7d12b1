"""The benchmark of most exciting images: what it compares is the same image found in different ways."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import mousev1
from mousev1.insilico import AscentSettings, Frame, LocalView, optimal_images, rank_gallery
from mousev1.insilico.masks import confine, masks_of
from mousev1.storage.core_files import save_core
from small import FRAME, SMALL, random_model, smooth_noise
from training.measurements import insilico

SETTINGS = AscentSettings(steps=40, seeds=1)
GALLERY = smooth_noise(np.random.default_rng(3), 30, FRAME.height, FRAME.width)


@pytest.fixture(scope="module")
def model():
    return random_model(SMALL, units=5)


def test_whole_images_through_the_whole_model_have_the_drives_of_patches(model):
    images = torch.from_numpy(GALLERY[:5, None]).float()
    units = torch.arange(5)
    view = LocalView(model, height=FRAME.height, width=FRAME.width)
    expected = view.drive(view.cut(images, units), units)
    for lean in (True, False):
        whole = insilico.WholeImage(model, FRAME.height, FRAME.width, lean)
        torch.testing.assert_close(whole.drive(images, units), expected, rtol=1e-4, atol=1e-4)


def test_loops_and_batches_find_the_same_images(model):
    frame = Frame.of(FRAME)
    found = insilico.time_in_turns(model, frame, SETTINGS, rounds=1, loop_units=2)
    assert min(found["lowest_correlation_of_images"].values()) > 0.95
    assert {len(values) for values in found["seconds_per_unit"].values()} == {1}
    median = found["median_seconds_per_unit"]
    assert found["ratio"]["loop"] == pytest.approx(median["loop"] / median["batched"])


def test_masked_comparison_takes_the_best_of_the_candidates(model):
    frame = Frame.of(FRAME)
    found = optimal_images(model, settings=SETTINGS)
    ranks = rank_gallery(model, GALLERY, contrast=0.1, top=4)
    view = LocalView(model, height=FRAME.height, width=FRAME.width)
    best = insilico.best_masked(model, view, found, GALLERY, ranks)
    masks = masks_of(found.images)
    for unit in range(5):
        shown = confine(GALLERY[ranks.best[unit]], masks[[unit] * 4], frame, 0.1)
        assert best[unit] == pytest.approx(model.predict(shown)[:, unit].max(), rel=1e-4)


def test_benchmark_runs_from_a_scan_to_its_report(model, tmp_path):
    images = smooth_noise(np.random.default_rng(1), 100, FRAME.height, FRAME.width)
    shown = np.concatenate([np.arange(80), np.repeat(np.arange(80, 100), 3)])
    rates = model.predict(images)
    mousev1.Scan(
        name="small",
        images=images[:, None],
        image_ids=np.arange(100),
        trial_image=shown,
        tiers=["train"] * 80 + ["test"] * 60,
        responses=np.random.default_rng(2).gamma(4 * rates[shown], 0.25),
        unit_ids=model.unit_ids.numpy(),
    ).write(tmp_path / "scan.h5")
    np.savez(
        tmp_path / "truth.npz", test_image_id=np.arange(80, 100), rate_test=rates[80:], dead=np.zeros(5, bool)
    )
    np.savez(tmp_path / "gallery.npz", GALLERY)
    save_core(model.core, tmp_path / "core")
    arguments = [str(tmp_path / "scan.h5"), "--core", str(tmp_path / "core")]
    arguments += ["--truth", str(tmp_path / "truth.npz"), "--gallery", str(tmp_path / "gallery.npz")]
    arguments += ["--steps", "20", "--rounds", "1", "--loop-units", "1", "--models", str(tmp_path / "models")]
    out = tmp_path / "results" / "mei.json"
    out.parent.mkdir()
    insilico.main([*arguments, "--out", str(out)])
    results = json.loads(out.read_text())
    assert results["responses"].startswith("simulated")
    assert results["well_predicted"]["units"] > 0
    assert results["beats_natural"]["share"] == 1.0
    assert "simulated" in out.with_suffix(".md").read_text()
    assert {path.name for path in out.parent.iterdir()} >= {"mei.png", "tuning.png", "convergence.png"}
