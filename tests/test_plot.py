"""Figures show what they were given; the oracle is what stands in the axes."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from mousev1 import plot
from mousev1.insilico import measure_tuning, receptive_fields
from mousev1.insilico.ascent import AscentSettings
from mousev1.insilico.frame import Frame
from mousev1.insilico.mei import optimal_images
from mousev1.insilico.tuning_protocol import TuningExtrapolation, TuningSettings
from mousev1.metrics.score_table import ScoreTable, score_table
from small import FRAME, SMALL, random_model, smooth_noise

pytest.importorskip("matplotlib")

MODEL = random_model(SMALL, units=4)
SCREEN = Frame.of(FRAME)
TUNING = TuningSettings(
    orientations=6,
    frequencies_cpd=(0.02, 0.04, 0.08, 0.16),
    phases=4,
    diameters_deg=(8.0, 16.0, 32.0),
    contrasts=(0.1, 0.3, 0.9),
    draws=0,
)


def test_a_sheet_shows_every_image_and_marks_what_is_outside(tmp_path):
    images = smooth_noise(np.random.default_rng(0), 5, FRAME.height, FRAME.width)
    outside = np.array([False, True, False, False, False])
    figure = plot.image_sheet(images, SCREEN, list("abcde"), outside=outside, columns=3, title="five")
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == list("abcde")
    for axes, image in zip(shown, images, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        assert axes.images[0].get_extent() == pytest.approx([-30 / 1.06, 30 / 1.06, -18 / 1.06, 18 / 1.06])
    colours = [axes.title.get_color() for axes in shown]
    assert colours[1] != colours[0] == colours[2]
    path = plot.save(figure, tmp_path / "sheet.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="labels: expected 5, one per image, got 2"):
        plot.image_sheet(images, SCREEN, ["a", "b"])


def test_traces_end_at_the_best_response():
    found = optimal_images(MODEL, settings=AscentSettings(steps=20, seeds=1))
    (line,) = [line for line in plot.traces(found).axes[0].lines if len(line.get_xdata()) == 21]
    assert line.get_ydata()[-1] == pytest.approx(1.0, abs=0.01)


def test_tuning_panels_show_the_curves_and_hollow_points_outside():
    tuning = measure_tuning(MODEL, settings=TUNING)
    far = TuningExtrapolation(
        orientation=np.where(np.arange(6) == 2, 1.5, 0.5) * np.ones((4, 1)),
        frequency=np.full((4, 4), 0.5),
        size=np.full((4, 3), np.nan),
        contrast=np.full((4, 3), 2.0),
    )
    tuning = replace(tuning, extrapolation=far)
    figure = plot.tuning_panels(tuning, units=np.array([3, 1]))
    assert len(figure.axes) == 10
    first = figure.axes[0]
    assert first.get_ylabel() == f"neuron {tuning.unit_ids[3]}"
    curve, hollow = (
        next(line for line in first.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 6),
        next(line for line in first.lines if line.get_markerfacecolor() == "white"),
    )
    np.testing.assert_allclose(curve.get_ydata(), tuning.orientation_curve[3])
    np.testing.assert_allclose(hollow.get_xdata(), [60.0])
    assert far.columns["orientation_outside"].tolist() == pytest.approx([1 / 6] * 4)
    assert np.isnan(far.columns["size_outside"]).all()
    assert len(plot.population_tuning(tuning).axes) == 8


def test_receptive_fields_are_drawn_where_they_are():
    images = smooth_noise(np.random.default_rng(1), 6, FRAME.height, FRAME.width)
    fields = receptive_fields(MODEL, images)
    sheet = plot.receptive_field_sheet(fields, units=np.array([2]))
    (axes,) = sheet.axes
    np.testing.assert_array_equal(axes.images[0].get_array(), fields.principal[2])
    assert axes.patches[0].get_center() == (fields.gaussian.x_deg[2], fields.gaussian.y_deg[2])
    monitor = plot.fields_on_monitor(fields).axes[0]
    centres = [patch.get_center() for patch in monitor.patches]
    np.testing.assert_allclose(centres, np.stack([fields.gaussian.x_deg, fields.gaussian.y_deg], axis=1))


def test_retinotopic_map_colours_neurons_by_where_they_look():
    cortex = np.array([[0.0, 0.0, 5.0], [100.0, 50.0, 5.0], [200.0, 0.0, 5.0]])
    x, y = np.array([-5.0, 0.0, 5.0]), np.array([1.0, 2.0, 3.0])
    figure = plot.retinotopic_map(cortex, x, y, SCREEN)
    azimuth, elevation = figure.axes[0].collections[0], figure.axes[1].collections[0]
    np.testing.assert_array_equal(azimuth.get_array(), x)
    np.testing.assert_array_equal(elevation.get_array(), y)
    np.testing.assert_array_equal(azimuth.get_offsets(), cortex[:, :2])
    with pytest.raises(ValueError, match="cortex: expected one position per unit, 3, got 2"):
        plot.retinotopic_map(cortex[:2], x, y, SCREEN)


def test_score_distributions_leave_out_what_is_undefined():
    rng = np.random.default_rng(0)
    responses = rng.gamma(2.0, size=(40, 3))
    responses[:, 1] = 1.0
    table = score_table(
        responses + rng.normal(size=(40, 3)), responses, np.repeat(np.arange(10), 4), [1, 2, 3]
    )
    figure = plot.score_distributions(table)
    mean = np.nanmean(table.single_trial_correlation)
    assert figure.axes[0].get_title() == f"mean {mean:.3f}, 2 neurons"
    assert "fraction oracle" in figure.axes[3].get_title()


def test_without_matplotlib_the_way_to_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        plot.image_sheet(np.zeros((1, 18, 30)), SCREEN, ["a"])


def test_a_summary_of_scores_shows_the_best_neuron_sorted_by_prediction():
    # oracle: sorted by hand
    predicted = np.array([[1.0, 3.0], [2.0, 1.0], [0.0, 2.0]])
    recorded = predicted + np.array([0.5, 0.25])
    table = ScoreTable(np.array([7, 3]), *[np.array([0.1, 0.4])] * 6)
    figure = plot.score_summary(table, predicted, recorded)
    dots, line = figure.axes[1].lines
    np.testing.assert_allclose(line.get_ydata(), [1.0, 2.0, 3.0])
    np.testing.assert_allclose(dots.get_ydata(), [1.25, 2.25, 3.25])
    assert figure.axes[1].get_ylabel() == "response of neuron 3"
