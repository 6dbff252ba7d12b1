"""Export, recording and scores of stimuli made with a model; the oracle is a simulated recording of known truth."""

from __future__ import annotations

import copy
import csv

import numpy as np
import pytest
import torch
from PIL import Image

import mousev1
from mousev1.core.feature_statistics import training_statistics
from mousev1.insilico.ascent import AscentSettings
from mousev1.insilico.class_scores import score_classes
from mousev1.insilico.contrast import rms_contrast
from mousev1.insilico.experiment import Display, export_experiment, read_shown
from mousev1.insilico.frame import Frame
from mousev1.insilico.manifest import Manifest, match_trials, read_manifest
from mousev1.insilico.masks import confine, masks_of, scrambled
from mousev1.metrics.unit_scores import correlation
from mousev1.model.response_model import ResponseModel
from small import FRAME, SMALL, random_model, smooth_noise

UNITS = [1, 2, 3, 5, 6]
QUICK = AscentSettings(steps=30, seeds=1)
GALLERY = smooth_noise(np.random.default_rng(3), 60, FRAME.height, FRAME.width)


@pytest.fixture(scope="module")
def model() -> ResponseModel:
    model = random_model(SMALL)
    model.training_statistics = training_statistics(model.core, torch.from_numpy(GALLERY)[:, None])
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "tomorrow"
    manifest = export_experiment(
        model,
        folder,
        units=UNITS,
        gallery=GALLERY,
        random_images=20,
        settings=QUICK,
        display=Display(gamma=2.2, magnify=3),
    )
    return folder, manifest


def test_every_image_is_a_file_with_its_class_and_unit(exported):
    folder, manifest = exported
    assert manifest.class_names == ["mei", "inhibiting", "natural", "noise", "natural-random", "blank"]
    assert [len(manifest.rows_of(name)) for name in manifest.class_names] == [5, 5, 5, 5, 20, 1]
    assert manifest.made_for[:5].tolist() == [11, 12, 13, 15, 16]
    assert manifest.made_for[-21:].tolist() == [-1] * 21
    assert {path.name for path in folder.iterdir()} == {*manifest.files, "manifest.csv"}
    with Image.open(folder / manifest.files[0]) as picture:
        assert (picture.mode, picture.size) == ("L", (FRAME.width * 3, FRAME.height * 3))
    assert manifest.files[0] == "00-mei-unit11.png"


def test_what_the_monitor_shows_has_the_mean_and_contrast_and_the_predicted_responses(model, exported):
    folder, manifest = exported
    frame = Frame.of(FRAME)
    # by hand: the file's pixel values to the power of the monitor's gamma
    with Image.open(folder / manifest.files[7]) as picture:
        by_hand = 255 * (np.array(picture)[::3, ::3] / 255) ** 2.2
    shown = read_shown(folder, manifest, frame)
    np.testing.assert_allclose(shown[7], by_hand, rtol=1e-5)
    np.testing.assert_allclose(shown.mean(axis=(1, 2)), 127.5, atol=0.6)
    np.testing.assert_allclose(rms_contrast(shown[:-1], frame), 0.1, atol=0.002)
    np.testing.assert_allclose(manifest.predictions, model.predict(shown)[:, UNITS], rtol=1e-5)


def test_the_best_images_are_the_best_for_their_own_units(exported):
    _, manifest = exported
    own = np.eye(5, dtype=bool)
    by_class = {name: manifest.predictions[manifest.rows_of(name)] for name in manifest.class_names}
    assert (by_class["mei"][own] > by_class["natural"][own]).all()
    assert (by_class["natural"][own] > by_class["noise"][own]).all()
    assert (by_class["mei"][own] == by_class["mei"].max(axis=0)).all()
    assert (by_class["inhibiting"][own] < by_class["blank"][0]).all()


def test_a_manifest_is_read_back_as_it_was_written(exported):
    folder, manifest = exported
    loaded = read_manifest(folder)
    assert (loaded.files, loaded.classes, loaded.gamma) == (manifest.files, manifest.classes, 2.2)
    for name in ("image_ids", "made_for", "unit_ids"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(manifest, name))
    np.testing.assert_allclose(loaded.predictions, manifest.predictions, rtol=1e-6)
    np.testing.assert_allclose(loaded.extrapolation, manifest.extrapolation, rtol=1e-5)
    assert np.isfinite(loaded.extrapolation).all()


def record(manifest: Manifest, rates: np.ndarray, *, repeats: int, by_name: bool) -> mousev1.Scan:
    """A recording of a manifest's images, among others, with gamma noise; units in another order."""
    rng = np.random.default_rng(0)
    images = len(manifest)
    order = rng.permutation(rates.shape[1])
    shown = rng.permutation(np.repeat(np.arange(images + 2), repeats))
    every = np.concatenate([rates, np.ones((2, rates.shape[1]))])[:, order]
    ids = [f"stimuli/{name}" for name in manifest.files] if by_name else manifest.image_ids.tolist()
    return mousev1.Scan(
        name="tomorrow",
        images=np.zeros((images + 2, 1, FRAME.height, FRAME.width), np.uint8),
        image_ids=[*ids, "other-1.png", "other-2.png"] if by_name else [*ids, 5, 6],
        trial_image=shown,
        tiers=["test"] * len(shown),
        responses=rng.gamma(20 * every[shown], 0.05),
        unit_ids=manifest.unit_ids[order],
    )


@pytest.mark.parametrize("by_name", [False, True])
def test_scores_of_a_simulated_recording_are_those_of_the_truth(by_name, model, exported, tmp_path):
    folder, manifest = exported
    truth = copy.deepcopy(model)
    blank = torch.full((1, 1, FRAME.height, FRAME.width), 127.5)
    with torch.no_grad():
        weight = truth.readout.weights.weight
        weight.mul_(1 + 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(9)))
        # other weights, the same response to an empty screen
        features = model.core(blank)
        truth.readout.bias.add_(model.readout.drive(features)[0] - truth.readout.drive(features)[0])
    rates = truth.predict(read_shown(folder, manifest, Frame.of(FRAME)))[:, UNITS].astype(float)
    record(manifest, rates, repeats=200, by_name=by_name).write(tmp_path / "tomorrow.h5")
    scan = mousev1.read_scan(tmp_path / "tomorrow.h5")
    scores = score_classes(read_manifest(folder / "manifest.csv"), scan)

    assert scores.classes == (*manifest.class_names, "all")
    assert scores.n_trials.tolist() == [1000, 1000, 1000, 1000, 4000, 200, 41 * 200]
    relative = rates / rates.mean(axis=0)
    own = np.eye(5, dtype=bool)
    for row, name in enumerate(scores.classes[:5]):
        inside = manifest.rows_of(name)
        true = correlation(manifest.predictions[inside], rates[inside])
        # units whose rates hardly differ between these images have a correlation ruled by noise
        clear = rates[inside].var(axis=0) > 30 * 0.05 * rates[inside].mean(axis=0) / 200
        assert clear.sum() >= 2
        np.testing.assert_allclose(scores.unit_correlation[row][clear], true[clear], atol=0.1)
        if name != "natural-random":
            expected = relative[inside][own].mean()
            assert scores.own_recorded[row] == pytest.approx(expected, rel=0.1)
            assert scores.others_recorded[row] == pytest.approx(relative[inside][~own].mean(), rel=0.1)
    assert scores.correlation[0] < 0.999  # the truth is not the model
    assert scores.own_rank[0] > 0.95
    assert scores.own_rank[1] < 0.2
    blank = scores.classes.index("blank")
    assert np.isnan(scores.correlation[blank])
    assert np.isnan(scores.own_recorded[blank])
    assert "natural-random" in str(scores)
    scores.to_csv(tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", newline="") as file:
        assert next(csv.DictReader(file))["class"] == "mei"


def test_masked_images_are_uniform_where_their_unit_is_not_driven(model, tmp_path):
    manifest = export_experiment(model, tmp_path / "a", units=[2], gallery=GALLERY, settings=QUICK, mask=True)
    shown = read_shown(tmp_path / "a", manifest, Frame.of(FRAME))
    for row in range(4):
        values, counts = np.unique(shown[row], return_counts=True)
        assert counts.max() > 0.3 * shown[row].size
        assert abs(values[counts.argmax()] - 127.5) < 1
    np.testing.assert_allclose(manifest.contrast[:4], 0.1, atol=0.003)


def test_a_mask_opens_where_an_image_departs_from_its_background():
    frame = Frame.of(FRAME)
    image = frame.blank()
    image[0, 5:10, 8:13] = 200
    mask = masks_of(image)[0]
    assert mask[7, 10] == 1
    assert mask[15, 25] == 0
    noise = smooth_noise(np.random.default_rng(0), 1, 18, 30).astype(float)
    shown = confine(noise, mask[None], frame, 0.05)
    assert shown.mean() == pytest.approx(127.5, abs=1e-3)
    assert rms_contrast(shown, frame)[0] == pytest.approx(0.05, rel=1e-3)
    assert (shown[0][mask == 0] == 127.5).all()
    # a mask of 25 open pixels cannot hold the contrast of a whole frame
    strong = confine(noise, mask[None], frame, 0.5)
    assert rms_contrast(strong, frame)[0] < 0.5
    assert strong.min() >= 0
    assert strong.max() <= 255


def test_matched_noise_has_the_spectrum_of_its_image():
    frame = Frame.of(FRAME)
    image = smooth_noise(np.random.default_rng(0), 2, 18, 30).astype(float)
    noise = scrambled(image, frame, seed=1)
    spectra = [np.abs(np.fft.rfft2(x - 127.5)) for x in (image, noise)]
    # frequencies of their own conjugates keep only the real part of a random phase
    np.testing.assert_allclose(spectra[1][:, 1:8, 1:-1], spectra[0][:, 1:8, 1:-1], rtol=1e-3, atol=0.1)
    assert abs(np.corrcoef(image[0].ravel(), noise[0].ravel())[0, 1]) < 0.5


def test_an_export_replaces_an_older_one_whole_and_nothing_else(model, exported, tmp_path):
    small = {"units": [0], "settings": AscentSettings(steps=1, seeds=1)}
    export_experiment(model, tmp_path / "a", gallery=GALLERY, random_images=3, **small)
    with pytest.raises(FileExistsError, match="not empty"):
        export_experiment(model, tmp_path / "a", **small)
    manifest = export_experiment(model, tmp_path / "a", overwrite=True, **small)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {*manifest.files, "manifest.csv"}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something other than an export"):
        export_experiment(model, tmp_path / "b", overwrite=True, **small)


def test_bad_asks_are_named(model, exported, tmp_path):
    manifest = exported[1]
    with pytest.raises(ValueError, match="random_images: expected a gallery to take 3 images from"):
        export_experiment(model, tmp_path / "x", random_images=3)
    with pytest.raises(ValueError, match="gamma: expected the exponent of a monitor"):
        Display(gamma=0)
    with pytest.raises(ValueError, match="magnify: expected a whole number"):
        Display(magnify=0)
    rates = np.ones(manifest.predictions.shape)
    scan = record(manifest, rates, repeats=1, by_name=False)
    with pytest.raises(ValueError, match=r"4 of the manifest's 5 neurons are not in 'tomorrow'"):
        score_classes(manifest, scan.select_units([0]))
    foreign = Manifest(**{**vars(manifest), "image_ids": manifest.image_ids + 500})
    with pytest.raises(ValueError, match="none of the 43 images of 'tomorrow'"):
        match_trials(foreign, scan)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("class", "klass", 1), "not a manifest: expected columns"),
        (
            lambda text: text.replace("mei,11,0.", "mei,11,x.", 1),
            "line 2, contrast: expected a number, got 'x.",
        ),
        (lambda text: text.replace("1000001,", "1000000,", 1), "image_id: expected every one once"),
        (lambda text: text[: text.rindex(",")], "line 42 has not 12 columns"),
        (lambda text: text.splitlines()[0], "expected at least one image"),
        (lambda text: text.replace("unit_12", "unit_x", 1), "expected columns unit_<whole number>"),
        (lambda text: text.replace(",2.2,", ",2,", 1), "gamma: expected one display for all images"),
    ],
)
def test_a_damaged_manifest_is_refused(change, message, exported, tmp_path):
    text = (exported[0] / "manifest.csv").read_text()
    (tmp_path / "manifest.csv").write_text(change(text))
    with pytest.raises(ValueError, match=message):
        read_manifest(tmp_path)
