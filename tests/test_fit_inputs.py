"""What a user can get wrong in fit_readout, and that the message says what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mousev1
from mousev1.core.network import Core
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
    with pytest.raises(
        ValueError, match=rf"the fit was given pixels_per_degree={doubled:g}; pass it here, too"
    ):
        model.predict(large)
    assert model.predict(large, pixels_per_degree=doubled).shape == (40, 3)


def test_a_limit_of_memory_in_gigabytes_is_told_from_bytes():
    with pytest.raises(
        ValueError, match=r"memory: expected at least [\d,]+ MB.*got 8 bytes \(not MB or GB\)"
    ):
        mousev1.fit_readout(IMAGES, RESPONSES, core=Core.random(CONFIG, seed=0), memory=8, progress=False)
