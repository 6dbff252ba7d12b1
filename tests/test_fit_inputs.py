"""What a user can get wrong in fit_readout, and that the message says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import mousev1
from mousev1.core.network import Core
from mousev1.fit import memory
from mousev1.fit.inputs import response_scale, split_by_identity
from mousev1.fit.settings import SGDSettings
from small import CONFIG

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(40, 16, 24), dtype=np.uint8)
RESPONSES = RNG.gamma(1.0, size=(40, 3))
POSITIONS = RNG.normal(size=(3, 2))


def with_value(array, index, value):
    array = array.astype(np.float64).copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": IMAGES[:30]}, r"responses: expected \(30, U\).*got \(40, 3\)"),
        ({"responses": RESPONSES.T}, r"responses: .* it looks transposed"),
        ({"responses": RESPONSES[:, 0]}, r"responses: expected \(40, U\)"),
        ({"responses": with_value(RESPONSES, (3, 1), np.nan)}, r"responses: .*NaN.*trial 3, neuron 1"),
        ({"responses": with_value(RESPONSES, (5, 2), -1.0)}, r"responses: .*negative.*trial 5, neuron 2"),
        (
            {"responses": with_value(RESPONSES, (slice(None), 1), 2.0)},
            r"responses: 1 neurons never change.*'1'.*constant_units",
        ),
        ({"positions": POSITIONS[:2]}, r"positions: expected 3 rows.*got 2"),
        (
            {"positions": RNG.normal(size=(3, 4))},
            r"positions: expected \(3, 2\) or \(3, 3\), got \(3, 4\); x and y",
        ),
        ({"positions": np.ones((3, 2))}, "all neurons have the same position"),
        ({"images": IMAGES / 255.0}, "0..1|multiply by 255"),
        ({"images": IMAGES[:, :4, :10]}, "at least 5 x 5"),
        ({"images": IMAGES[:4], "responses": RESPONSES[:4]}, "at least 10"),
        ({"image_ids": np.arange(3)}, r"image_ids: expected \(40,\)"),
        ({"unit_ids": np.array([1, 1, 2])}, "different number for every neuron"),
        ({"unit_ids": np.array([0.5, 1, 2])}, "whole numbers"),
        (
            {"validation": (IMAGES[:10], RESPONSES[:10])},
            "validation: 10 of its images are also among the training",
        ),
        ({"method": "magic"}, "method: expected one of .*'sgd'.*got 'magic'"),
        (
            {"settings": SGDSettings()},
            "settings: expected ConvexSettings for method 'convex', got SGDSettings",
        ),
        ({"memory": 1}, "memory: expected at least"),
        ({"memory": 10**12, "method": "sgd"}, "memory: only method 'convex' keeps to a limit"),
        ({"constant_units": "drop"}, "constant_units: expected one of"),
        ({"core": Core(CONFIG)}, r"expected a frozen core.*core.freeze\(\)"),
    ],
)
def test_bad_input_is_refused_with_its_name_and_a_remedy(changes, says):
    arguments = {
        "images": IMAGES,
        "responses": RESPONSES,
        "positions": POSITIONS,
        "core": Core.random(CONFIG, seed=0),
    }
    with pytest.raises((ValueError, TypeError), match=f"(?s){says}"):
        mousev1.fit_readout(**(arguments | {"progress": False} | changes))


def test_reversed_views_are_fitted_like_copies():
    core = Core.random(CONFIG, seed=0)
    fits = [
        mousev1.fit_readout(
            copied(IMAGES[::-1]),
            copied(RESPONSES[::-1]),
            copied(POSITIONS[:, ::-1]),
            core=core,
            progress=False,
        )
        for copied in (np.asarray, np.ascontiguousarray)
    ]
    np.testing.assert_array_equal(*(fit.predict(IMAGES) for fit in fits))


@pytest.mark.parametrize(("method", "settings"), [("sgd", SGDSettings(max_epochs=1)), ("convex", None)])
def test_constant_neurons_predict_their_constant_when_asked(method, settings):
    responses = with_value(RESPONSES, (slice(None), 1), 2.0)
    responses[:, 2] = 0.0
    model = mousev1.fit_readout(
        IMAGES,
        responses,
        core=Core.random(CONFIG, seed=0),
        method=method,
        settings=settings,
        constant_units="mean",
        progress=False,
    )
    rates = model.predict(IMAGES)
    np.testing.assert_allclose(rates[:, 1], 2.0, rtol=1e-6)
    np.testing.assert_allclose(rates[:, 2], 0.0, atol=1e-6)
    assert "2 neurons never change" in model.record.notes[0]


def test_the_scale_is_the_standard_deviation_over_trials():
    # by hand: deviations -1, 0, 1 over 3 trials, n - 1 = 2: 1; and a constant neuron
    scale, constant = response_scale(torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
    assert scale.tolist() == [1.0, 1.0]
    assert constant.tolist() == [1]


def test_a_split_never_puts_one_image_on_both_sides():
    identities = np.repeat(np.arange(50), 4)
    train, held = split_by_identity(identities, 0.1, seed=3)
    assert set(identities[train]).isdisjoint(identities[held])
    assert len(set(identities[held])) == 5
    assert sorted([*train, *held]) == list(range(200))


def test_a_core_may_be_named_where_it_is_needed(tmp_path):
    from mousev1.storage.core_files import save_core

    core = Core.random(CONFIG, seed=0)
    save_core(core, tmp_path / "core")
    named = mousev1.fit_readout(IMAGES, RESPONSES, core=tmp_path / "core", progress=False)
    assert named.core.content_hash() == core.content_hash()
    with pytest.raises(FileNotFoundError, match="sim-11S"):
        mousev1.fit_readout(IMAGES, RESPONSES, core="11S", progress=False)


def test_images_of_another_size_than_the_cores_are_noted_and_those_of_another_than_the_fits_refused(capsys):
    core = Core.random(CONFIG, seed=0)
    frame = core.config.input
    large = np.repeat(np.repeat(IMAGES, 2, axis=1), 2, axis=2)
    model = mousev1.fit_readout(large, RESPONSES, core=core)
    size = f"images are 32x48 pixels, the core's own frame is {frame.height}x{frame.width}"
    assert size in capsys.readouterr().err
    assert any(size in note for note in model.record.notes)
    assert model.record.image_size == (32, 48)
    with pytest.raises(ValueError, match=r"images: expected 32x48 pixels.*got 16x24.*pixels_per_degree="):
        model.predict(IMAGES)
    doubled = 2 * frame.pixels_per_degree
    model = mousev1.fit_readout(large, RESPONSES, core=core, pixels_per_degree=doubled, progress=False)
    assert model.record.image_size == (16, 24)
    assert not any("own frame" in note for note in model.record.notes)
    # the model knows the resolution that it was fitted at; oracle: the resolution given
    np.testing.assert_array_equal(model.predict(large), model.predict(large, pixels_per_degree=doubled))
    assert model.predict(large).shape == (40, 3)


def test_a_limit_of_memory_in_gigabytes_is_no_number_of_bytes():
    with pytest.raises(
        ValueError, match=r"memory: expected at least [\d,]+ MB.*got 8 bytes \(not MB or GB\)"
    ):
        mousev1.fit_readout(IMAGES, RESPONSES, core=Core.random(CONFIG, seed=0), memory=8, progress=False)


# ---------------------------------------------------------------- what recordings have, and each remedy followed


def fit(images=IMAGES, responses=RESPONSES, positions=POSITIONS, **options):
    core = Core.random(CONFIG, seed=0)
    return mousev1.fit_readout(images, responses, positions, core=core, **({"progress": False} | options))


def test_rounding_below_zero_is_fitted_as_zero_with_a_note():
    # oracle: the fit of zeros
    zeros = with_value(RESPONSES, (slice(0, 3), 1), 0.0)
    rounded = with_value(RESPONSES, (slice(0, 3), 1), -6e-8)
    model = fit(responses=rounded)
    np.testing.assert_array_equal(model.predict(IMAGES), fit(responses=zeros).predict(IMAGES))
    (note,) = [note for note in model.record.notes if "negative" in note]
    assert note.startswith("3 of 120 responses were negative (down to -6e-08) and are 0 now: rounding")


def test_negative_responses_are_fitted_once_they_are_clipped():
    noisy = RESPONSES - 0.3
    with pytest.raises(ValueError, match=r"negative values.*pass negatives='clip'"):
        fit(responses=noisy)
    model = fit(responses=noisy, negatives="clip")
    np.testing.assert_array_equal(
        model.predict(IMAGES), fit(responses=np.clip(noisy, 0, None)).predict(IMAGES)
    )
    assert any("are 0 now: as asked" in note for note in model.record.notes)


@pytest.mark.parametrize("drop", ["neurons", "trials"])
def test_missing_responses_are_fitted_without_their_neurons_or_trials(drop):
    holes = with_value(with_value(RESPONSES, (3, 1), np.nan), (8, 1), np.inf)
    with pytest.raises(ValueError, match="pass drop='trials' or drop='neurons'"):
        fit(responses=holes)
    model = fit(responses=holes, unit_ids=[7, 8, 9], drop=drop)
    if drop == "neurons":
        expected = fit(responses=RESPONSES[:, [0, 2]], positions=POSITIONS[[0, 2]])
        assert model.unit_ids.tolist() == [7, 9]
        assert "left out 1 of 3 neurons, whose values are not all finite" in model.record.notes
    else:
        rows = np.delete(np.arange(40), [3, 8])
        expected = fit(images=IMAGES[rows], responses=RESPONSES[rows])
        assert model.unit_ids.tolist() == [7, 8, 9]
        assert "left out 2 of 40 trials, whose values are not all finite" in model.record.notes
    np.testing.assert_array_equal(model.predict(IMAGES), expected.predict(IMAGES))


def test_a_neuron_missing_in_the_validation_or_without_a_position_is_dropped_everywhere():
    held = np.random.default_rng(5).integers(0, 256, size=(12, 16, 24), dtype=np.uint8)
    held_responses = with_value(RESPONSES[:12], (4, 2), np.nan)
    positions = with_value(POSITIONS, (0, 1), np.nan)
    with pytest.raises(ValueError, match=r"positions: .*drop='neurons'"):
        fit(positions=positions)
    model = fit(positions=positions, validation=(held, held_responses), drop="neurons")
    assert model.unit_ids.tolist() == [1]


def test_a_mask_is_refused_and_its_remedy_gives_the_fit_without_those_trials():
    # oracle: the fit without the trial; a masked 9999 must not become a scale
    masked = np.ma.masked_greater(with_value(RESPONSES, (5, 2), 9999.0), 9000)
    with pytest.raises(
        ValueError,
        match=r"responses: .*1 of 120 values masked; pass responses\.astype\(float\)\.filled\(np\.nan\)",
    ):
        fit(responses=masked)
    model = fit(responses=masked.astype(float).filled(np.nan), drop="trials")
    rows = np.delete(np.arange(40), 5)
    expected = fit(images=IMAGES[rows], responses=RESPONSES[rows])
    np.testing.assert_allclose(model.response_scale, expected.response_scale)
    with pytest.raises(ValueError, match=r"positions: .*masked array"):
        fit(positions=np.ma.masked_array(POSITIONS, mask=POSITIONS > 0.5))


def test_stacks_with_their_axes_in_another_order_are_named_and_mended():
    # oracle: the fit of the images as they were
    expected = fit().predict(IMAGES)
    last = np.moveaxis(IMAGES, 0, -1)
    with pytest.raises(
        ValueError, match=r"with N = 40, .* looks like \(H, W, N\); pass np.moveaxis\(images, -1, 0\)"
    ):
        fit(images=last)
    np.testing.assert_array_equal(fit(images=np.moveaxis(last, -1, 0)).predict(IMAGES), expected)
    flat = IMAGES.reshape(40, -1)
    with pytest.raises(ValueError, match=r"one row of pixels each; pass images.reshape"):
        fit(images=flat)
    np.testing.assert_array_equal(fit(images=flat.reshape(len(flat), 16, 24)).predict(IMAGES), expected)
    with pytest.raises(ValueError, match=r"it looks transposed: pass responses.T"):
        fit(responses=RESPONSES.T)


def test_an_id_of_two_different_pictures_is_found_by_content():
    ids = np.arange(40)
    ids[11] = 4
    with pytest.raises(
        ValueError, match=r"image_ids: .*4.* two different pictures, in rows 4 and 11 \(1 rows"
    ):
        fit(image_ids=ids)
    repeated = IMAGES.copy()
    repeated[11] = repeated[4]
    assert fit(images=repeated, image_ids=ids).record.n_images == 39
    assert fit(image_ids=None).record.n_images == 40


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": with_value(IMAGES, slice(3, 5), 0.0)}, "2 of 40 images are uniform, the first in row 3"),
        (
            {"images": np.concatenate([IMAGES[:20], IMAGES[:20]]), "image_ids": np.arange(40)},
            "20 images equal another one under an id of their own",
        ),
        (
            {"responses": with_value(RESPONSES, 6, 1000 * RESPONSES[6] + 2000)},
            r"responses in row 6 are [\d,]+ times those of the median trial",
        ),
        (
            {"responses": RESPONSES[:, [0, 1, 0]]},
            "1 neurons are copies of others, as one in column 0",
        ),
    ],
)
def test_senseless_input_is_fitted_with_a_note(changes, says, capsys):
    model = fit(**(changes | {"progress": True}))
    assert any(re.match(says, note) for note in model.record.notes)
    assert re.search(f"note: {says}", capsys.readouterr().err)
    assert not any(re.match(says, note) for note in fit().record.notes)


def test_a_single_picture_throughout_is_refused():
    with pytest.raises(ValueError, match="all 40 are the same picture"):
        fit(images=np.repeat(IMAGES[:1], 40, axis=0))


def test_a_plan_beyond_the_free_memory_stops_with_a_remedy_that_works(monkeypatch):
    # oracle: the fit without a limit
    expected = fit().predict(IMAGES)
    free = 700_000_000
    monkeypatch.setattr(memory, "free_memory", lambda: free)
    monkeypatch.setattr(memory, "store_bytes", lambda *_: 10 * free)
    with pytest.raises(ValueError, match=r"memory: .* of 700 MB that are free; pass memory=(\d+)") as caught:
        fit()
    limit = int(re.search(r"pass memory=(\d+)", str(caught.value))[1])
    np.testing.assert_allclose(fit(memory=limit).predict(IMAGES), expected, rtol=1e-3)
    large = np.repeat(np.repeat(IMAGES, 8, axis=1), 8, axis=2)
    with pytest.raises(ValueError, match=r"128x192 pixels.*pass pixels_per_degree= to resample"):
        fit(images=large)
    monkeypatch.setattr(memory, "free_memory", lambda: 1_000_000)
    with pytest.raises(ValueError, match="fit fewer neurons or images at a time"):
        fit()


def test_free_memory_is_what_the_system_says():
    # oracle: /proc/meminfo, read again
    lines = Path("/proc/meminfo").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("MemAvailable"))
    assert memory.free_memory() == pytest.approx(int(line.split()[1]) * 1024, rel=0.2)
