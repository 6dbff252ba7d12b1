"""Tuning of units that are known Gabor filters, and what intervals must be in cases one can think through."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from gabor_cells import gabor_cells
from mousev1.core.feature_statistics import training_statistics
from mousev1.insilico import Frame, TuningSettings, measure_extrapolation, measure_tuning, tuning_indices
from mousev1.insilico.posterior_samples import draw_readouts
from mousev1.insilico.stimuli import gratings

SETTINGS = TuningSettings(
    frequencies_cpd=tuple(np.geomspace(0.02, 0.16, 10)),
    diameters_deg=tuple(np.geomspace(5, 60, 6)),
    contrasts=(0.1, 0.3, 1.0),
    draws=20,
)


@pytest.fixture(scope="module")
def known():
    truth = gabor_cells()
    return truth, measure_tuning(truth.model, settings=SETTINGS)


def test_preferences_are_those_of_the_filters(known):
    truth, tuning = known
    error = (tuning.orientation_deg.value - truth.orientation_deg + 90) % 180 - 90
    assert np.abs(error).max() < 2.0
    np.testing.assert_allclose(tuning.frequency_cpd.value, truth.frequency_cpd, rtol=0.06)


def test_phase_at_the_unit_is_that_of_the_filter_wherever_it_looks(known):
    truth, tuning = known
    error = (tuning.phase_deg.value - truth.phase_deg + 180) % 360 - 180
    assert np.abs(error[:4]).max() < 8.0


def test_simple_cells_are_modulated_and_complex_ones_are_not(known):
    _, tuning = known
    assert tuning.f1_f0.value[:4].min() > 1.0
    assert tuning.f1_f0.value[4] < 0.5


def test_curves_are_the_models_own_responses(known):
    truth, tuning = known
    from mousev1.insilico import Frame, gratings

    frame = Frame.of(truth.model.core)
    blank = truth.model.predict(frame.blank())[0]
    np.testing.assert_allclose(tuning.blank, blank, rtol=1e-5)
    images = gratings(
        frame,
        orientation_deg=30.0,
        frequency_cpd=SETTINGS.frequencies_cpd[4],
        phase_deg=45.0 * np.arange(8),
        contrast=0.5,
    )
    expected = truth.model.predict(images).mean(axis=0) - blank
    np.testing.assert_allclose(tuning.surface[:, 2, 4], expected, rtol=1e-4, atol=1e-5)


def test_size_and_contrast_are_shown_at_the_unit_with_its_own_grating(known):
    truth, tuning = known
    from mousev1.insilico import Frame, gratings

    frame, unit = Frame.of(truth.model.core), 1
    own = {
        "orientation_deg": tuning.orientation_deg.value[unit],
        "frequency_cpd": tuning.frequency_cpd.value[unit],
        "phase_deg": 90.0 * np.arange(4),
        "x_deg": tuning.x_deg[unit],
        "y_deg": tuning.y_deg[unit],
    }
    disks = gratings(frame, diameter_deg=SETTINGS.diameters_deg[2], contrast=0.5, **own)
    expected = truth.model.predict(disks)[:, unit].mean() - tuning.blank[unit]
    assert tuning.size_curve[unit, 2] == pytest.approx(expected, rel=1e-4)
    best = gratings(frame, diameter_deg=tuning.size_deg.value[unit], contrast=0.3, **own)
    expected = truth.model.predict(best)[:, unit].mean() - tuning.blank[unit]
    assert tuning.contrast_curve[unit, 1] == pytest.approx(expected, rel=1e-4)
    # filters end after 15 pixels, 28 degrees: larger disks add nothing and suppress nothing
    assert np.abs(tuning.size_curve[:, -1] / tuning.size_curve[:, -2] - 1).max() < 0.05


def test_without_a_posterior_intervals_are_undefined(known):
    _, tuning = known
    for index in tuning.estimates.values():
        assert np.isnan(index.low).all()
        assert np.isnan(index.high).all()


def test_a_posterior_without_variance_gives_intervals_of_no_width(known):
    _, plain = known
    tuning = measure_tuning(gabor_cells(variance=0.0).model, settings=SETTINGS)
    for name, index in tuning.estimates.items():
        if name == "phase_deg":
            continue  # of a complex cell, it is rounding alone
        np.testing.assert_allclose(index.value, plain.estimates[name].value, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(index.low, index.value, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(index.high, index.value, rtol=1e-4, atol=1e-3)


def test_uncertain_weights_and_model_error_widen_intervals():
    def width(**options):
        found = measure_tuning(gabor_cells(**options).model, settings=SETTINGS)
        return (found.orientation_deg.high - found.orientation_deg.low)[:4]

    some, more, model_error = width(variance=0.01), width(variance=0.1), width(variance=0.01, model_error=0.3)
    assert (some > 0).all()
    assert (more > some).all()
    assert (model_error > some).all()


def test_draws_have_the_posteriors_variance_of_weights_and_of_model_error():
    model = gabor_cells(variance=0.09, model_error=0.25).model
    units = torch.arange(5)
    readouts = draw_readouts(model, units, torch.ones(16), draws=4000, seed=0)
    drawn = readouts.weights[:, 1:] - readouts.weights[:, :1]
    np.testing.assert_allclose(drawn[:, :, 1::2].std(dim=1), 0.3, rtol=0.06)
    assert (drawn[:, :, 0::2] == 0).all()
    assert (readouts.bias == readouts.bias[:, :1]).all()
    # two stimuli with equal features share their model error, remote ones have little in common
    near = torch.randn(1, 1, 16, generator=torch.Generator().manual_seed(0)).expand(5, 2, 16)
    far = torch.cat([near[:, :1], near[:, :1] + 16**0.5 * 2], dim=1)
    for features, expected in ((near, 1.0), (far, 0.0)):
        error = readouts.model_error.errors(features)[:, 0].numpy()
        np.testing.assert_allclose(error.std(axis=0), 0.5, rtol=0.2)
        assert np.corrcoef(error.T)[0, 1] == pytest.approx(expected, abs=0.25)


def test_a_units_result_does_not_depend_on_the_others():
    model = gabor_cells(variance=0.05, model_error=0.1).model
    every, two = (
        measure_tuning(model, settings=SETTINGS),
        measure_tuning(model, units=[3, 1], settings=SETTINGS),
    )
    assert two.unit_ids.tolist() == [103, 101]
    for name, index in two.estimates.items():
        if name == "phase_deg":
            continue
        for end in ("value", "low", "high"):
            expected = getattr(every.estimates[name], end)[[3, 1]]
            np.testing.assert_allclose(getattr(index, end), expected, rtol=1e-3, atol=1e-3)


def test_distances_of_the_stimuli_are_those_of_the_whole_feature_map():
    # oracle: measure_extrapolation of the same gratings and disks
    truth = gabor_cells()
    model, frame = truth.model, Frame.of_model(truth.model)
    shown = torch.rand(40, 1, frame.height, frame.width, generator=torch.Generator().manual_seed(0)) * 255
    model.training_statistics = training_statistics(model.core, shown)
    settings = replace(SETTINGS, draws=0)
    tuning = measure_tuning(model, units=[3, 1], settings=settings)

    def distance(unit: int, **grating) -> float:
        images = gratings(frame, **{"contrast": settings.contrast} | grating)
        return measure_extrapolation(model, images, units=[unit]).unit_distance.mean()

    phases = 360 / settings.phases * np.arange(settings.phases)
    row, column = tuning_indices.best_grating(tuning.surface)
    for i, unit in enumerate((3, 1)):
        wave, angle = settings.frequencies_cpd[column[i]], 180 / settings.orientations * row[i]
        found = tuning.extrapolation
        expected = distance(unit, orientation_deg=0.0, frequency_cpd=wave, phase_deg=phases)
        assert found.orientation[i, 0] == pytest.approx(expected, rel=1e-3)
        wave = settings.frequencies_cpd[2]
        expected = distance(unit, orientation_deg=angle, frequency_cpd=wave, phase_deg=phases)
        assert found.frequency[i, 2] == pytest.approx(expected, rel=1e-3)
        disk = {
            "orientation_deg": tuning.orientation_deg.value[i],
            "frequency_cpd": tuning.frequency_cpd.value[i],
            "x_deg": tuning.x_deg[i],
            "y_deg": tuning.y_deg[i],
            "phase_deg": 360 / settings.disk_phases * np.arange(settings.disk_phases),
        }
        expected = distance(unit, diameter_deg=settings.diameters_deg[1], **disk)
        assert found.size[i, 1] == pytest.approx(expected, rel=1e-3)
        best = {"diameter_deg": tuning.size_deg.value[i], "contrast": settings.contrasts[0]}
        assert found.contrast[i, 0] == pytest.approx(distance(unit, **disk, **best), rel=1e-3)
    assert "size_outside" in tuning.columns


def test_a_model_without_statistics_of_its_training_images_knows_no_distances(known):
    _, tuning = known
    assert not tuning.extrapolation.known
    assert not any(name.endswith("_outside") for name in tuning.columns)


def test_tuning_becomes_rows_and_csv(known, tmp_path):
    _, tuning = known
    tuning.to_csv(tmp_path / "tuning.csv")
    with open(tmp_path / "tuning.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["unit_id"] for row in rows] == ["100", "101", "102", "103", "104"]
    assert float(rows[2]["orientation_deg"]) == tuning.orientation_deg.value[2]
    assert tuning.to_rows()[2]["orientation_deg"] == tuning.orientation_deg.value[2]


def test_a_dead_unit_has_no_tuning_and_harms_nobody():
    truth = gabor_cells(variance=0.01)
    with torch.no_grad():
        truth.model.readout.weights.weight[2] = 0.0
    truth.model.posterior.variances[2] = 0.0
    tuning = measure_tuning(truth.model, settings=SETTINGS)
    assert all(np.isnan(index.value[2]) for index in tuning.estimates.values())
    assert np.isfinite(tuning.orientation_deg.value[[0, 1, 3, 4]]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": [7]}, "as the model has 5 neurons, got 7"),
        ({"units": []}, "units: expected a list"),
        ({"settings": TuningSettings(frequencies_cpd=(0.1, 0.2, 0.4))}, "frequency_cpd: .* at most 0.265"),
        ({"settings": TuningSettings(contrast=1.5)}, "contrast: .* the largest possible"),
        (
            {"units": [0], "centres_deg": (np.array([0.0]), np.array([50.0]))},
            "centres_deg: .* move it inside",
        ),
        ({"units": [0], "centres_deg": (np.zeros(2), np.zeros(2))}, "centres_deg: expected two arrays"),
    ],
)
def test_bad_requests_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        measure_tuning(gabor_cells().model, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"orientations": 3}, "orientations: expected at least 4"),
        ({"frequencies_cpd": (0.1, 0.2, 0.3)}, "frequencies_cpd: expected geometric steps"),
        ({"diameters_deg": (10.0, 5.0, 2.5)}, "diameters_deg: .* growing"),
        ({"contrasts": (0.0, 0.5, 1.0)}, "contrasts: .* positive"),
        ({"level": 1.0}, "level"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TuningSettings(**options)
