"""The script that measures devices runs, here on the processor, and goes on where it stopped."""

from __future__ import annotations

import json

import pytest

from training.measurements import device

ARGUMENTS = [
    "--device",
    "cpu",
    "--sizes",
    "12x120",
    "--neurons",
    "20",
    "--scans",
    "1",
    "--steps",
    "1",
    "--excited",
    "2",
]


def test_every_row_is_measured_once_and_fits_find_the_truth(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(device, "RATE_IMAGES", 32)
    out = tmp_path / "device.json"
    device.main([*ARGUMENTS, "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert list(rows) == [
        "rates of 20 neurons, cpu",
        "fit 12 x 120, cpu",
        "pretraining step, cpu",
        "most exciting images, cpu",
    ]
    assert rows["rates of 20 neurons, cpu"]["measured"]["difference"] < 1e-5
    assert rows["fit 12 x 120, cpu"]["measured"]["true_rate_correlation"] > 0.3
    assert rows["most exciting images, cpu"]["measured"]["mean_response"] > 0
    monkeypatch.setattr(device, "time_fit", lambda *_: pytest.fail("measured again"))
    device.main([*ARGUMENTS, "--out", str(out)])
    assert "| fit 12 x 120 | cpu |" in out.with_suffix(".md").read_text()


def test_devices_that_disagree_are_refused(tmp_path, monkeypatch):
    for name in ("time_fit", "time_pretraining", "time_optimal_images"):
        monkeypatch.setattr(device, name, lambda *_: {})
    monkeypatch.setattr(device, "time_rates", lambda *_: {"difference": 2e-3})
    with pytest.raises(SystemExit, match=r"rates differ between devices by 2\.0e-03"):
        device.main([*ARGUMENTS, "--out", str(tmp_path / "device.json")])
