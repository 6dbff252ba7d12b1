"""Optimal images; oracles are a linear unit's filter, the whole model, and the best of many images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mousev1.insilico.ascent import AscentSettings
from mousev1.insilico.contrast import rms_contrast
from mousev1.insilico.frame import Frame
from mousev1.insilico.gallery import at_contrast, rank_gallery
from mousev1.insilico.mei import OptimalImages, optimal_images
from mousev1.insilico.receptive_field import receptive_fields
from mousev1.insilico.tuning import measure_tuning
from mousev1.model.response_model import ResponseModel
from small import FRAME, LINEAR, SMALL, random_model, smooth_noise

UNITS = 7
SHORT = AscentSettings(steps=2, seeds=1)


@pytest.fixture(scope="module")
def model() -> ResponseModel:
    return random_model(SMALL)


@pytest.fixture(scope="module")
def found(model: ResponseModel) -> OptimalImages:
    return optimal_images(model)


@pytest.fixture(scope="module")
def gallery() -> np.ndarray:
    return smooth_noise(np.random.default_rng(5), 500, FRAME.height, FRAME.width)


@pytest.mark.parametrize(("kind", "sign"), [("exciting", 1), ("inhibiting", -1)])
def test_a_linear_unit_wants_its_own_filter(kind, sign):
    model = random_model(LINEAR, lift=1e3)
    blank = torch.full((1, 1, FRAME.height, FRAME.width), 127.5, requires_grad=True)
    settings = AscentSettings(contrast=0.02, steps=60, seeds=1, blur_px=0, last_blur_px=0, last_step=1.0)
    found = optimal_images(model, kind=kind, settings=settings)
    for unit, image in enumerate(found.images):
        drive = model.readout.drive(model.core(blank))[0, unit]
        (filter_,) = torch.autograd.grad(drive, blank)
        wanted = sign * (filter_ - filter_.mean())[0, 0].numpy()
        wanted *= 0.02 * 127.5 / wanted.std()
        np.testing.assert_allclose(image - 127.5, wanted, atol=0.1)
        assert np.corrcoef(image.ravel(), wanted.ravel())[0, 1] > 0.99999


def test_images_have_the_wanted_mean_contrast_and_range(found):
    np.testing.assert_allclose(found.images.mean(axis=(1, 2)), 127.5, atol=0.02)
    np.testing.assert_allclose(rms_contrast(found.images, found.frame), 0.1, rtol=1e-3)
    np.testing.assert_allclose(found.contrast, 0.1, rtol=1e-3)
    assert found.images.min() >= 0
    assert found.images.max() <= 255


def test_a_contrast_that_fills_the_range_keeps_to_it(model):
    found = optimal_images(model, units=[0, 1], settings=AscentSettings(contrast=0.35, steps=20, seeds=1))
    assert found.images.min() >= 0
    assert found.images.max() <= 255
    assert ((found.images == 0) | (found.images == 255)).mean() > 0.05
    np.testing.assert_allclose(found.images.mean(axis=(1, 2)), 127.5, atol=0.1)
    np.testing.assert_allclose(found.contrast, 0.35, rtol=1e-3)


def test_responses_are_those_of_the_whole_model_to_the_whole_image(model, found):
    whole = model.predict(found.images)
    np.testing.assert_allclose(found.response, whole[np.arange(UNITS), np.arange(UNITS)], rtol=1e-5)
    blank = model.predict(found.frame.blank())[0]
    np.testing.assert_allclose(found.blank_response, blank, rtol=1e-5)


def test_no_image_of_a_gallery_at_the_same_contrast_does_better(model, found, gallery):
    ranks = rank_gallery(model, gallery, contrast=0.1)
    assert (found.response > ranks.best_response[:, 0]).all()
    least = optimal_images(model, kind="inhibiting")
    assert (least.response < ranks.worst_response[:, 0]).all()
    assert (least.response < least.blank_response).all()


def test_the_trace_climbs_and_ends_at_the_response(found):
    assert found.trace.shape == (UNITS, 2, 101)
    assert (found.trace[:, :, 50] > found.trace[:, :, 0]).all()
    np.testing.assert_allclose(found.trace.max(axis=2), found.start_response, rtol=1e-3)
    np.testing.assert_allclose(found.start_response.max(axis=1), found.response)


def test_agreement_is_the_correlation_of_the_starts_images(model):
    settings = {"steps": 5, "contrast": 0.1}
    both = optimal_images(model, units=[2], settings=AscentSettings(**settings, seeds=2))
    first = optimal_images(model, units=[2], settings=AscentSettings(**settings, seeds=1))
    assert np.isnan(first.agreement).all()
    assert both.start_response[0, 0] == pytest.approx(first.response[0], rel=1e-5)
    # a start that is another unit's image, and five steps too short to forget it
    other = optimal_images(model, units=[5], settings=AscentSettings(**settings, seeds=1)).images
    short = AscentSettings(contrast=0.1, steps=1, seeds=0, step=1e-6, last_step=1e-6)
    mixed = optimal_images(model, units=[2], settings=AscentSettings(**settings, seeds=1), starts=other)
    alone = optimal_images(model, units=[2], settings=AscentSettings(**settings, seeds=0), starts=other)
    seen = (first.images[0] - first.images[0][0, 0] != 0) & (alone.images[0] - alone.images[0][0, 0] != 0)
    expected = np.corrcoef(first.images[0][seen], alone.images[0][seen])[0, 1]
    assert mixed.agreement[0] == pytest.approx(expected, abs=0.02)
    assert mixed.agreement[0] < 0.999
    kept = optimal_images(model, units=[2], settings=short, starts=first.images)
    np.testing.assert_allclose(kept.images, first.images, atol=0.1)


def test_a_unit_has_the_same_image_alone_and_among_others(model, found):
    alone = optimal_images(model, units=[4])
    np.testing.assert_allclose(alone.images[0], found.images[4], atol=0.05)
    assert alone.unit_ids.tolist() == [14]


def test_a_given_start_is_improved_on(model, gallery):
    ranks = rank_gallery(model, gallery, contrast=0.1, units=[1, 5])
    starts = at_contrast(gallery[ranks.best[:, 0]], ranks.frame, 0.1)
    found = optimal_images(
        model, units=[1, 5], starts=starts, settings=AscentSettings(steps=30, seeds=0, step=0.3)
    )
    assert (found.trace[:, 0, 1] > found.trace[:, 0, 0]).all()
    assert (found.response > ranks.best_response[:, 0]).all()


def test_ranks_are_those_of_the_predictions(model, gallery):
    ranks = rank_gallery(model, gallery[:20], top=3, units=[6, 0])
    rates = model.predict(gallery[:20])[:, [6, 0]]
    order = np.argsort(rates, axis=0)
    np.testing.assert_array_equal(ranks.worst, order[:3].T)
    np.testing.assert_array_equal(ranks.best, order[::-1][:3].T)
    np.testing.assert_allclose(ranks.best_response[1, 0], rates[:, 1].max())
    assert ranks.to_rows()[0]["best_1_image"] == order[-1, 0]
    flat = gallery[:5].copy()
    flat[3] = 100
    assert rank_gallery(model, flat, contrast=0.1).left_out.tolist() == [3]


def test_table_is_written_with_one_row_per_unit(found, tmp_path):
    found.to_csv(tmp_path / "mei.csv")
    lines = (tmp_path / "mei.csv").read_text().splitlines()
    assert lines[0].startswith("unit_id,response,blank_response,contrast,agreement,response_start_0")
    assert len(lines) == UNITS + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": [UNITS]}, "units: expected indices from 0 to 6, as the model has 7 neurons, got 7"),
        ({"kind": "boring"}, "kind: expected one of 'exciting', 'inhibiting', got 'boring'"),
        ({"settings": AscentSettings(contrast=0.5)}, "contrast: expected an RMS contrast of at most 0.43"),
        (
            {"starts": np.zeros((2, FRAME.height, FRAME.width))},
            r"starts: expected one image per neuron, \(7, 18, 30\)",
        ),
        ({"settings": AscentSettings(seeds=0)}, "settings: expected at least one seed, or starts"),
        ({"frame": Frame.of(FRAME, height=3)}, "expected at least 5 x 5 pixels"),
    ],
)
def test_bad_asks_are_named(options, message, model):
    with pytest.raises(ValueError, match=message):
        optimal_images(model, **options)


@pytest.mark.parametrize(
    ("field", "value"),
    [("contrast", 0.0), ("steps", 0), ("seeds", -1), ("blur_px", -1.0), ("step", 0.0), ("steps", 1.5)],
)
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field}: expected"):
        AscentSettings(**{field: value})


def test_gallery_of_another_size_is_refused(model):
    with pytest.raises(
        ValueError, match="gallery: expected images of 18 x 30 pixels as the frame, got 8 x 8"
    ):
        rank_gallery(model, np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="top: expected 1 to 2"):
        rank_gallery(model, np.zeros((2, FRAME.height, FRAME.width), np.uint8), top=3)


def test_a_model_of_images_of_another_size_is_shown_that_size():
    """Positions are parts of the frame: on the core's own frame every unit would look elsewhere."""
    model = random_model(SMALL)
    height, width = FRAME.height + 4, FRAME.width + 6
    model.record = replace(model.record, image_size=(height, width))
    found = optimal_images(model, units=[0], settings=AscentSettings(steps=2, seeds=1))
    assert found.images.shape[1:] == (height, width)
    np.testing.assert_allclose(found.response, model.predict(found.images)[:, 0], rtol=1e-4)


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        (
            lambda model, gallery, **more: optimal_images(model, units=[0], settings=SHORT, **more),
            "most exciting images",
        ),
        (lambda model, gallery, **more: measure_tuning(model, units=[0], **more), "tuning"),
        (
            lambda model, gallery, **more: receptive_fields(model, gallery[:2], units=[0], **more),
            "receptive fields",
        ),
        (lambda model, gallery, **more: rank_gallery(model, gallery[:9], units=[0], **more), "predict"),
    ],
)
def test_long_calls_show_progress_unless_asked_not_to(model, gallery, capsys, measure, says):
    measure(model, gallery, progress=False)
    assert capsys.readouterr().err == ""
    measure(model, gallery)
    assert says in capsys.readouterr().err
