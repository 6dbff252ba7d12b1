"""Simulated stimuli have natural statistics and never leak between tiers or scans."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import fft, signal

from training.simulation.animals import PLANS
from training.simulation.config import SimulationConfig
from training.simulation.dead_leaves import dead_leaves
from training.simulation.settings import StimulusConfig
from training.simulation.stimuli import crop_photographs, images_of_set, split_photographs, stimuli_of

SMALL = SimulationConfig(train_images=30, validation_images=10, test_images=8)


@pytest.fixture(scope="module")
def leaves():
    return dead_leaves(
        np.random.default_rng(0), 1200, height=36, width=64, per_canvas=20, texture=StimulusConfig().texture
    )


def spectrum_slope(images):
    """Slope of log power on log frequency (cycles per pixel, 0.05 to 0.4), over the plane, Hann window."""
    images = images.astype(float) - images.mean(axis=(1, 2), keepdims=True)
    window = np.outer(signal.windows.hann(36), signal.windows.hann(64))
    power = (np.abs(fft.fft2(images * window)) ** 2).mean(axis=0)
    frequency = np.hypot(fft.fftfreq(36)[:, None], fft.fftfreq(64)[None])
    edges = np.geomspace(0.05, 0.4, 9)
    rings = [(frequency >= low) & (frequency < high) for low, high in itertools.pairwise(edges)]
    x, y = ([np.log(values[ring]).mean() for ring in rings] for values in (frequency, power))
    return np.polyfit(x, y, 1)[0]


def test_gray_levels_are_those_of_photographs(leaves):
    """Oracle: 8-bit photographs as used for the real scans, mean 113 to 120, SD 57 to 60."""
    assert leaves.dtype == np.uint8
    assert 110 < leaves.mean() < 126
    assert 54 < leaves.std() < 62
    # Bright and dark scenes, and contrast within each.
    assert 28 < leaves.mean(axis=(1, 2)).std() < 46
    assert 36 < leaves.std(axis=(1, 2)).mean() < 48
    assert 0.001 < np.mean(leaves < 10) < 0.05
    assert 0.001 < np.mean(leaves > 245) < 0.05


def test_power_falls_with_the_square_of_frequency(leaves):
    """Oracle: an independent spectrum estimate; small natural images lie between -1.8 and -2.8."""
    assert -2.8 < spectrum_slope(leaves) < -1.8


def test_spectrum_and_contrast_are_near_those_of_real_photographs(leaves, shared):
    """Oracle: 12,000 patches of photographs through the same estimates."""
    photographs = np.load(shared("stimuli/natural_patches.npz"))["patches"][::10]
    assert spectrum_slope(leaves) == pytest.approx(spectrum_slope(photographs), abs=0.4)
    assert leaves.std() == pytest.approx(photographs.std(), rel=0.08)


def test_edges_make_differences_heavy_tailed(leaves):
    """Oracle: kurtosis 3 of Gaussian noise with the same spectrum; occlusion gives far more."""
    difference = np.diff(leaves.astype(float), axis=2)
    kurtosis = (difference**4).mean() / (difference**2).mean() ** 2
    assert kurtosis > 6


def test_asking_for_more_images_keeps_the_first_ones():
    """Oracle: the shorter set."""
    few, many = (
        dead_leaves(np.random.default_rng(4), n, height=36, width=64, per_canvas=20, texture=0.4)
        for n in (25, 45)
    )
    np.testing.assert_array_equal(few, many[:25])


def rows(images):
    return {image.tobytes() for image in images}


def assert_disjoint(config):
    """No image is shared between tiers or between scans, but for the test images, all the same."""
    test_images, seen = None, set()
    for name in PLANS:
        stimuli = stimuli_of(name, config)
        assert len(set(stimuli.image_ids.tolist())) == len(stimuli.images)
        test = stimuli.tiers == "test"
        if test_images is None:
            test_images = stimuli
            seen |= rows(stimuli.images[test])
        first = test_images.tiers == "test"
        np.testing.assert_array_equal(stimuli.images[test], test_images.images[first])
        np.testing.assert_array_equal(stimuli.image_ids[test], test_images.image_ids[first])
        own = rows(stimuli.images[~test])
        assert len(own) == np.count_nonzero(~test)
        assert not own & seen
        seen |= own


def test_no_image_is_in_two_tiers_or_two_scans():
    """Oracle: the bytes of every image of all 13 scans."""
    assert_disjoint(SMALL)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """60 noise photographs, each with its own pair of gray levels, so that a crop tells its origin."""
    folder = tmp_path_factory.mktemp("album")
    rng = np.random.default_rng(0)
    for i in range(60):
        gray = rng.integers(0, 2, (120, 160), dtype=np.uint8) + 4 * i
        (folder / f"{i % 3}").mkdir(exist_ok=True)
        Image.fromarray(gray).save(folder / f"{i % 3}" / f"{i:02d}.png")
    return folder


def test_photographs_of_a_folder_stay_in_one_tier(album):
    """Oracle: the gray level that marks each photograph."""
    config = replace(SMALL, stimuli=StimulusConfig(source=str(album)))
    owners = {
        tier: set(np.round(images_of_set("sim-a1", tier, config).mean(axis=(1, 2)) / 4).astype(int).tolist())
        for tier in ("train", "validation", "test")
    }
    assert len(owners["train"]) == 30
    assert not owners["train"] & owners["validation"]
    assert not owners["train"] & owners["test"]
    assert not owners["validation"] & owners["test"]
    assert_disjoint(config)


def test_crops_show_the_photograph_upright_and_in_proportion(tmp_path):
    """Oracle: a horizontal and a vertical ramp keep their directions and the ratio of their slopes."""
    y, x = np.mgrid[:300, :500]
    Image.fromarray(np.stack([x // 2, x // 2, x // 2], -1).astype(np.uint8)).save(tmp_path / "x.png")
    Image.fromarray((y // 2).astype(np.uint8)).save(tmp_path / "y.png")
    along, down = (
        crop_photographs(np.random.default_rng(1), [tmp_path / f"{n}.png"], 5, height=36, width=64).astype(
            float
        )
        for n in "xy"
    )
    np.testing.assert_allclose(
        np.diff(along.mean(axis=1)).mean(axis=1), np.diff(down.mean(axis=2)).mean(1), rtol=0.05
    )
    assert (np.diff(along, axis=2) >= 0).all()
    assert np.ptp(along, axis=1).max() <= 1


def test_patches_of_an_archive_are_dealt_without_replacement(tmp_path):
    """Oracle: the bytes of every image, and the photograph that each was cut from."""
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(40), 20) * 7
    patches = rng.integers(0, 256, (800, 36, 64), dtype=np.uint8)
    patches[:, 0, 0] = source // 7
    np.savez(tmp_path / "p.npz", patches=patches, source=source)
    config = replace(
        SMALL, train_images=40, validation_images=8, stimuli=StimulusConfig(source=str(tmp_path / "p.npz"))
    )
    assert_disjoint(config)
    stimuli = stimuli_of("sim-c1", config)
    photographs = [set(stimuli.images[stimuli.tiers == t][:, 0, 0]) for t in ("train", "validation", "test")]
    assert not photographs[0] & photographs[1]
    assert not (photographs[0] | photographs[1]) & photographs[2]
    with pytest.raises(ValueError, match="ask for at most"):
        stimuli_of("sim-c1", replace(config, train_images=60))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: p / "nowhere", FileNotFoundError, "neither 'dead leaves' nor a folder"),
        (lambda p: p, FileNotFoundError, "no picture"),
        (lambda p: np.savez(p / "a.npz", patches=np.zeros(3)) or p / "a.npz", ValueError, "lacks 'source'"),
        (
            lambda p: np.savez(p / "b.npz", patches=np.zeros((2, 9, 9), "u1"), source=[0, 1]) or p / "b.npz",
            ValueError,
            r"expected patches \(N, 36, 64\)",
        ),
    ],
)
def test_a_source_that_is_none_is_explained(tmp_path, make, error, message):
    """Oracle: the message."""
    config = replace(SMALL, stimuli=StimulusConfig(source=str(make(tmp_path))))
    with pytest.raises(error, match=message):
        images_of_set("sim-a1", "train", config)


def test_a_small_photograph_and_too_few_are_refused(tmp_path):
    """Oracle: the message."""
    Image.new("L", (30, 30)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="at least 64 x 36 pixels, got 30 x 30"):
        crop_photographs(np.random.default_rng(0), [tmp_path / "small.png"], 1, height=36, width=64)
    with pytest.raises(ValueError, match="at least 3 photographs"):
        split_photographs(np.random.default_rng(0), 2)
