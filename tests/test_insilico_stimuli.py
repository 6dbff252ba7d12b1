"""Stimuli against numbers worked out by hand, areas of circles and the simulation's own gratings."""

from __future__ import annotations

import numpy as np
import pytest

from mousev1.core.network import Core, CoreConfig, InputContract
from mousev1.insilico import (
    Frame,
    disks,
    gabors,
    gratings,
    michelson_contrast,
    natural_crops,
    plaids,
    rms_contrast,
    set_contrast,
    sparse_noise,
    white_noise,
)
from training.simulation import response

FRAME = Frame.of(InputContract(), background=118.0)
# 10 pixels per degree, and a pixel in the very middle
FINE = Frame(height=201, width=301, pixels_per_degree=10.0, value_range=(0.0, 255.0), background=100.0)
MIDDLE = (100, 150)


def test_frame_takes_the_core_contract_and_its_mean_as_background():
    config = CoreConfig(input=InputContract(mean=113.0, std=60.0, height=20, width=30))
    frame = Frame.of(Core(config))
    assert (frame.height, frame.width, frame.pixels_per_degree, frame.background) == (20, 30, 0.53, 113.0)
    assert Frame.of(InputContract()).background == 127.5


def test_degrees_run_right_and_up_from_the_middle_and_back_to_pixels():
    # the right edge of the last column is half a pixel beyond its centre
    x, y = FRAME.to_degrees([0, 63.5], [0, 35.5])
    np.testing.assert_allclose(x, [-31.5 / 0.53, 32 / 0.53])
    np.testing.assert_allclose(y, [17.5 / 0.53, -18 / 0.53])
    np.testing.assert_allclose(FRAME.to_pixels(x, y), [[0, 63.5], [0, 35.5]])


def test_gratings_equal_those_of_the_simulation():
    rng = np.random.default_rng(0)
    orientation, frequency = rng.uniform(0, 180, 20), rng.uniform(0.01, 0.2, 20)
    phase, radius = rng.uniform(0, 360, 20), rng.uniform(4, 40, 20)
    theirs = response.gratings(
        np.deg2rad(orientation),
        frequency,
        np.deg2rad(phase),
        contrast=0.5,
        height=36,
        width=64,
        radius_deg=radius,
    )
    ours = gratings(
        FRAME,
        orientation_deg=orientation,
        frequency_cpd=frequency,
        phase_deg=phase,
        contrast=0.5,
        diameter_deg=2 * radius,
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_grating_has_its_values_at_quarter_cycles():
    # one cycle in 40 pixels: 4 degrees
    (image,) = gratings(FINE, orientation_deg=90, frequency_cpd=0.25, contrast=0.5)
    row, column = MIDDLE
    np.testing.assert_allclose(image[row, column + np.array([0, 10, 20, 30])], [150, 100, 50, 100], atol=1e-4)
    assert (image == image[row]).all()


def test_orientation_45_rises_to_the_right_and_phase_moves_vertical_stripes_right():
    (image,) = gratings(FINE, orientation_deg=45, frequency_cpd=0.2)
    row, column = MIDDLE
    steps = np.arange(-60, 60)
    np.testing.assert_allclose(image[row - steps, column + steps], 200.0, atol=1e-3)
    still, moved = gratings(FINE, orientation_deg=90, frequency_cpd=0.25, phase_deg=[0, 90])
    np.testing.assert_allclose(moved[:, 10:], still[:, :-10], atol=1e-3)
    still, moved = gratings(FINE, orientation_deg=0, frequency_cpd=0.25, phase_deg=[0, 90])
    np.testing.assert_allclose(moved[10:], still[:-10], atol=1e-3)


def test_michelson_and_rms_contrast_of_whole_cycles():
    frame = Frame(height=40, width=80, pixels_per_degree=10.0, value_range=(0.0, 255.0), background=100.0)
    images = gratings(
        frame, orientation_deg=90, frequency_cpd=0.25, phase_deg=[0, 45], contrast=[[0.2], [0.7]]
    )
    assert images.shape == (4, 40, 80)
    np.testing.assert_allclose(rms_contrast(images, frame), np.repeat([0.2, 0.7], 2) / np.sqrt(2), rtol=1e-5)
    np.testing.assert_allclose(michelson_contrast(images, frame), np.repeat([0.2, 0.7], 2), rtol=1e-2)
    np.testing.assert_allclose(images.mean(axis=(1, 2)), 100.0, rtol=1e-6)


def test_contrast_is_relative_to_black_where_black_is_not_zero():
    shifted = Frame(height=41, width=81, pixels_per_degree=10.0, value_range=(-2.0, 2.0), background=-1.0)
    (image,) = gratings(shifted, orientation_deg=90, frequency_cpd=0.25, contrast=1.0)
    assert image.min() == pytest.approx(-2.0)
    assert image.max() == pytest.approx(0.0)


def test_disks_and_annuli_have_the_area_of_circles():
    lit = disks(FINE, diameter_deg=[8.0, 8.0], inner_diameter_deg=[0.0, 4.0], contrast=0.5, x_deg=2, y_deg=3)
    area = (lit - 100.0).sum(axis=(1, 2)) / 50.0 / 10.0**2
    np.testing.assert_allclose(area, [np.pi * 16, np.pi * 12], rtol=2e-3)
    # 2 degrees right and 3 up of the middle
    assert lit[0, MIDDLE[0] - 30, MIDDLE[1] + 20] == 150.0
    assert lit[1, MIDDLE[0] - 30, MIDDLE[1] + 20] == 100.0


def test_dark_disks_reach_black():
    assert disks(FINE, diameter_deg=3.0, contrast=-1.0).min() == 0.0


def test_gabor_envelope_has_its_standard_deviations_along_and_across_the_stripes():
    # with a slow carrier the envelope is all there is
    (image,) = gabors(
        FINE, orientation_deg=90, frequency_cpd=1e-3, contrast=0.5, length_deg=2.0, breadth_deg=1.0
    )
    weight = image - 100.0
    x, y = FINE.grid_deg()
    total = weight.sum()
    assert np.sqrt((weight * x**2).sum() / total) == pytest.approx(1.0, rel=1e-2)
    assert np.sqrt((weight * y**2).sum() / total) == pytest.approx(2.0, rel=1e-2)


def test_balanced_gabors_have_exactly_the_background_as_mean():
    options = {
        "orientation_deg": 30,
        "frequency_cpd": 0.2,
        "length_deg": 2.0,
        "breadth_deg": 1.5,
        "contrast": 0.5,
    }
    plain, balanced = (gabors(FINE, balanced=balanced, **options)[0].mean() for balanced in (False, True))
    assert plain > 100.05
    assert balanced == pytest.approx(100.0, abs=1e-4)


def test_a_plaid_is_the_sum_of_its_gratings():
    common = {"frequency_cpd": 0.25, "x_deg": 1.0, "diameter_deg": 12.0}
    first = gratings(FINE, orientation_deg=20, contrast=0.3, **common)
    second = gratings(FINE, orientation_deg=80, contrast=0.3, phase_deg=50, **common)
    plaid = plaids(FINE, orientation_deg=20, angle_deg=60, contrast=0.3, second_phase_deg=50, **common)
    np.testing.assert_allclose(plaid, first + second - 100.0, atol=1e-3)


@pytest.mark.parametrize(
    ("stimulus", "message"),
    [
        (
            lambda f: gratings(f, orientation_deg=0, frequency_cpd=0.1, contrast=1.1),
            "contrast: .* 0 to 1, the largest possible",
        ),
        (
            lambda f: gratings(f, orientation_deg=0, frequency_cpd=0.1, contrast=-0.1),
            "contrast: expected a contrast from 0",
        ),
        (lambda f: gratings(f, orientation_deg=0, frequency_cpd=0.27), "at most 0.265"),
        (lambda f: gratings(f, orientation_deg=0, frequency_cpd=0.0), "frequency_cpd: .* above 0"),
        (
            lambda f: gratings(f, orientation_deg=0, frequency_cpd=0.1, x_deg=[0, 61], diameter_deg=9),
            r"x_deg, y_deg: .* 60.38 degrees left and right .* number 1",
        ),
        (lambda f: disks(f, diameter_deg=10, y_deg=-34.5), "move it inside"),
        (lambda f: disks(f, diameter_deg=200, inner_diameter_deg=180), "something is on the frame"),
        (lambda f: disks(f, diameter_deg=4, inner_diameter_deg=4), "less than diameter_deg"),
        (
            lambda f: disks(f, diameter_deg=4, contrast=1.5),
            "contrast: .* to 1.161 .white., the largest possible",
        ),
        (
            lambda f: plaids(f, orientation_deg=0, frequency_cpd=0.1, contrast=0.6),
            "contrast \\+ second_contrast",
        ),
        (lambda f: gratings(f, orientation_deg=[0, 1], frequency_cpd=[0.1] * 3), "broadcast"),
        (lambda f: gratings(f, orientation_deg=float("nan"), frequency_cpd=0.1), "orientation_deg: .* NaN"),
        (
            lambda f: gabors(f, orientation_deg=0, frequency_cpd=0.1, length_deg=0, breadth_deg=1),
            "length_deg",
        ),
        (lambda f: sparse_noise(f, 2, spot_deg=10, spots=500, seed=0), "spots: expected 1 to 84"),
        (lambda f: white_noise(f, 2, rms=0.9, seed=0), "rms: .* largest possible"),
        (lambda f: white_noise(f, 2, rms=0.1, seed=0, distribution="pink"), "distribution"),
        (lambda f: natural_crops(np.zeros((2, 30, 64), np.uint8), f, 2, seed=0), "at least 36 x 64"),
    ],
)
def test_stimuli_that_cannot_be_shown_are_refused_by_name(stimulus, message):
    with pytest.raises(ValueError, match=message):
        stimulus(FRAME)


def test_bright_backgrounds_limit_contrast_to_what_white_allows():
    bright = Frame.of(InputContract(), background=204.0)
    gratings(bright, orientation_deg=0, frequency_cpd=0.1, contrast=0.25)
    with pytest.raises(ValueError, match=r"0 to 0\.25, the largest possible"):
        gratings(bright, orientation_deg=90, frequency_cpd=0.0625 * 0.53, contrast=0.26)


def test_set_contrast_gives_exactly_the_mean_and_contrast_asked_for():
    images = np.random.default_rng(0).integers(0, 255, (3, 36, 64)).astype(np.uint8)
    out = set_contrast(images, FRAME, rms=[0.1, 0.2, 0.3], mean=[110, 120, 130])
    np.testing.assert_allclose(out.mean(axis=(1, 2)), [110, 120, 130], rtol=1e-6)
    np.testing.assert_allclose(out.std(axis=(1, 2)), [11, 24, 39], rtol=1e-5)
    # only gain and offset change
    assert np.corrcoef(out[0].ravel(), images[0].ravel())[0, 1] == pytest.approx(1.0, abs=1e-6)


def test_clipped_contrast_is_exact_too_and_stays_in_range():
    images = np.random.default_rng(0).normal(size=(4, 36, 64)) ** 3
    with pytest.raises(ValueError, match="clip=True"):
        set_contrast(images, FRAME, rms=0.4)
    out = set_contrast(images, FRAME, rms=0.4, clip=True)
    assert out.min() >= 0
    assert out.max() <= 255
    np.testing.assert_allclose(rms_contrast(out, FRAME), 0.4, rtol=1e-5)
    np.testing.assert_allclose(out.mean(axis=(1, 2)), 118.0, rtol=1e-5)


def test_set_contrast_within_a_mask_leaves_the_background_outside():
    mask = np.zeros((36, 64), dtype=bool)
    mask[10:20, 10:30] = True
    out = set_contrast(np.random.default_rng(0).uniform(size=(2, 36, 64)), FRAME, rms=0.3, mask=mask)
    np.testing.assert_allclose(rms_contrast(out, FRAME, mask=mask), 0.3, rtol=1e-5)
    assert (out[:, ~mask] == 118.0).all()


def test_uniform_images_have_no_contrast_to_set():
    with pytest.raises(ValueError, match="image 1 is uniform"):
        set_contrast(np.stack([np.eye(5), np.ones((5, 5))]), FRAME, rms=0.1)


@pytest.mark.parametrize(("distribution", "rms"), [("gaussian", 0.3), ("binary", 0.8), ("uniform", 0.5)])
def test_white_noise_is_exact_reproducible_and_white(distribution, rms):
    make = {"rms": rms, "distribution": distribution, "square_deg": 4.0}
    images = white_noise(FRAME, 50, seed=3, **make)
    np.testing.assert_allclose(rms_contrast(images, FRAME), rms, rtol=1e-5)
    np.testing.assert_array_equal(images, white_noise(FRAME, 50, seed=3, **make))
    assert (images != white_noise(FRAME, 50, seed=4, **make)).any()
    # squares of 2 pixels: neighbours in one square are equal, those of different squares unrelated
    np.testing.assert_array_equal(images[:, :, 0::2], images[:, :, 1::2])
    left, right = images[:, ::2, 0:-2:2].ravel(), images[:, ::2, 2::2].ravel()
    assert abs(np.corrcoef(left, right)[0, 1]) < 4 / np.sqrt(left.size) + 0.01


def test_sparse_noise_shows_as_many_bright_and_dark_squares_as_asked():
    images = sparse_noise(FRAME, 400, spot_deg=8.0, spots=3, contrast=0.5, seed=0)
    wave = (images - 118.0) / 59.0
    assert set(np.unique(wave.round(5))) == {-1.0, 0.0, 1.0}
    # squares of 4 x 4 pixels
    np.testing.assert_array_equal(np.abs(wave).sum(axis=(1, 2)), 3 * 16)
    assert abs(wave.mean() / np.abs(wave).mean()) < 0.1


def test_natural_crops_are_pieces_of_the_pictures_given_each_used_equally():
    large = np.arange(50 * 80, dtype=np.float32).reshape(50, 80) / 20
    other = large[::-1].copy()
    crops = natural_crops([large, other], FRAME, 4, seed=0)
    for crop in crops:
        step = crop[1, 0] - crop[0, 0]
        picture = large if step > 0 else other
        (row,), (column,) = np.where(picture == crop[0, 0])
        np.testing.assert_array_equal(crop, picture[row : row + 36, column : column + 64])
    assert sum(crop[1, 0] > crop[0, 0] for crop in crops) == 2
    matched = natural_crops([large, other], FRAME, 4, seed=0, rms=0.3)
    np.testing.assert_allclose(rms_contrast(matched, FRAME), 0.3, rtol=1e-5)
