"""The tuning code against the simulation's own measurement of its neurons, and the comparison end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mousev1.core.network import InputContract
from mousev1.insilico import Frame, TuningSettings
from mousev1.insilico.tuning_indices import peak_orientation
from training.measurements import insilico_truth
from training.simulation import SimulationConfig, simulate_scan
from training.simulation.response import GRAY

TINY = SimulationConfig(
    unit_scale=0.006, train_images=200, validation_images=20, test_images=40, test_repeats=2
)


@pytest.fixture(scope="module")
def simulated():
    # quiet neurons, so that few images suffice
    config = replace(TINY, noise=replace(TINY.noise, gain_sd=0.05, fano=0.05, unreliable_fano=0.05))
    return simulate_scan("sim-g1", config)


def test_true_neurons_asked_as_models_are_have_the_tuning_of_the_truth(simulated):
    _, truth = simulated
    arrays = truth.to_arrays()
    units = np.arange(len(arrays["silent"]))
    tuning = insilico_truth.true_tuning(
        arrays, units, Frame.of(InputContract(), background=GRAY), TuningSettings(draws=0)
    )
    seen = ~arrays["silent"]
    # the truth takes the peak, by a parabola through samples 15 degrees apart
    peak = insilico_truth.deviation(peak_orientation(tuning.orientation_curve), arrays)
    assert peak[seen].max() < 1.0
    # curves are nearly symmetric
    assert insilico_truth.deviation(tuning.orientation_deg.value, arrays)[seen].max() < 5.0
    for name in ("frequency_cpd", "f1_f0", "orientation_selectivity"):
        found = tuning.estimates[name].value
        np.testing.assert_allclose(found[seen], arrays[name][seen], rtol=2e-3)
        assert np.isnan(found[~seen]).all()


def test_a_scan_without_noise_has_the_true_rates_on_every_trial(simulated):
    scan, truth = simulated
    clean = insilico_truth.without_noise(scan, truth.to_arrays())
    trials = clean.trials("test")
    row_of = {int(image): row for row, image in enumerate(truth.rate_image_ids)}
    expected = truth.rates[[row_of[int(image)] for image in trials.image_ids]]
    np.testing.assert_allclose(trials.responses, expected, rtol=1e-4)
    # the recorded trials scatter around them
    assert np.abs(scan.trials("test").responses / expected - 1).mean() > 0.05


def test_the_comparison_runs_from_scan_to_report_and_keeps_its_model(simulated, tmp_path, capsys):
    scan, truth = simulated
    scan.write(tmp_path / "sim.h5")
    np.savez(tmp_path / "sim.truth.npz", **truth.to_arrays())
    command = [
        str(tmp_path / "sim.h5"),
        *("--truth", str(tmp_path / "sim.truth.npz"), "--core", "sim-11S"),
        *("--models", str(tmp_path / "models"), "--images", "4", "--draws", "5", "--units", "8"),
        *("--out", str(tmp_path / "out.json")),
    ]
    insilico_truth.main(command)
    results = json.loads((tmp_path / "out.json").read_text())
    first = results["results"][0]
    assert 3 <= first["units"] <= 8
    assert first["orientation_within_10_degrees"] > 0.5
    assert first["centre_median_error_px"]["gaussian"] < 3.0
    assert results["truth_of_file_against_same_stimuli"]["frequency_octaves"] < 0.01
    assert results["seconds"]["fit"] is not None
    assert "**simulated** responses" in (tmp_path / "out.md").read_text()
    insilico_truth.main(command)
    again = json.loads((tmp_path / "out.json").read_text())
    assert again["seconds"]["fit"] is None
    assert again["results"] == results["results"]
