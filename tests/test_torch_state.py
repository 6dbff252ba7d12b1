"""Whatever torch is set to, results are right or refused, and nobody else's core is touched."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants

import mousev1
from mousev1.core.network import Core
from mousev1.hub.cores import cache_folder
from small import CONFIG, Simulated, simulate

METHODS = {
    "convex": None,
    "sgd": mousev1.SGDSettings(max_epochs=3),
}


@pytest.fixture(scope="module")
def made() -> Simulated:
    return simulate(train=80, validation=20, test=5, repeats=2)


def fit(made: Simulated, **options: object) -> mousev1.ResponseModel:
    return mousev1.fit_scan(made.scan, **({"core": made.core, "progress": False} | options))


@pytest.fixture(scope="module")
def model(made: Simulated) -> mousev1.ResponseModel:
    return fit(made)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)],
    ids=["no_grad", "inference_mode", "autocast"],
)
def test_modes_of_the_caller_change_no_number(made, method, mode):
    # oracle: the same fit without the mode
    results = []
    for context in (nullcontext, mode):
        with context():
            fitted = fit(made, method=method, settings=METHODS[method])
            results.append(fitted.predict(made.scan.images))
    np.testing.assert_array_equal(*results)


@pytest.fixture
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_a_fit_with_another_default_type_is_refused_with_a_remedy_that_works(made, double_by_default):
    with pytest.raises(ValueError, match=r"float64; call torch\.set_default_dtype\(torch\.float32\)"):
        fit(made)
    torch.set_default_dtype(torch.float32)
    assert fit(made).n_units == made.scan.n_units


def test_a_fit_with_another_default_device_is_refused_with_a_remedy_that_works(made):
    torch.set_default_device("meta")
    try:
        with pytest.raises(ValueError, match=r"default device cpu, got meta; call torch\.set_default_device"):
            fit(made)
        torch.set_default_device("cpu")
        assert fit(made).n_units == made.scan.n_units
    finally:
        torch.set_default_device(None)


def test_loading_and_predicting_need_no_default_type(made, model, tmp_path, double_by_default):
    model.save(tmp_path / "model", include_core=True)
    again = mousev1.load_model(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(made.scan.images), model.predict(made.scan.images))


def test_a_sound_cached_core_survives_whatever_cannot_read_it(
    shared, monkeypatch, tmp_path, double_by_default
):
    monkeypatch.setenv("MOUSEV1_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("MOUSEV1_11S_URL", shared("weights/lurz_11s_core.pt").as_uri())
    mousev1.load_core("11-S")
    kept = {path: path.read_bytes() for path in cache_folder().rglob("*") if path.is_file()}
    assert kept
    config = next(path for path in kept if path.name == "config.json")
    newer = config.read_text().replace('"format_version": 1', '"format_version": 99')
    config.write_text(newer)
    assert mousev1.load_core("11-S").name == "11-S"  # from its authors' file
    assert config.read_text() == newer
    assert {path for path in cache_folder().rglob("*") if path.is_file()} == set(kept)


def test_training_mode_changes_no_prediction(made):
    model = fit(made)
    expected = model.predict(made.scan.images)
    model.train()
    np.testing.assert_array_equal(model.predict(made.scan.images), expected)


@pytest.mark.parametrize("convert", ["double", "half"])
def test_a_converted_model_is_refused_and_leaves_the_caller_s_core_alone(made, convert, tmp_path):
    model, other = fit(made), fit(made)
    expected = model.predict(made.scan.images)
    getattr(model, convert)()
    for use in (lambda: model.predict(made.scan.images), lambda: model.save(tmp_path / "model")):
        with pytest.raises(ValueError, match=r"expected torch\.float32 numbers.*call model\.float\(\)"):
            use()
    assert not (tmp_path / "model").exists()
    assert {p.dtype for p in made.core.parameters()} == {torch.float32}
    np.testing.assert_array_equal(other.predict(made.scan.images), expected)
    if convert == "double":
        np.testing.assert_array_equal(model.float().predict(made.scan.images), expected)


def test_moving_a_model_moves_neither_the_given_core_nor_another_model(made):
    model, other = fit(made), fit(made)
    model.to("meta")
    assert made.core.device.type == other.core.device.type == "cpu"
    assert next(other.core.parameters()).data_ptr() == next(made.core.parameters()).data_ptr()


@pytest.mark.parametrize("device", ["cuda:77", "cdua", "xpu"])
def test_a_device_that_is_not_there_is_refused_with_those_there_are(made, device):
    with pytest.raises(ValueError, match=rf"device: expected 'cpu'.*, got '{device}'"):
        fit(made, device=device)
    assert made.core.device.type == "cpu"
    assert fit(made, device="cpu").device.type == "cpu"


def test_a_fit_that_fails_leaves_the_core_where_it_was(made, monkeypatch):
    monkeypatch.setattr("mousev1.fit.fitting.usable_device", torch.device)
    with pytest.raises((RuntimeError, NotImplementedError)):
        fit(made, device="meta")
    assert made.core.device.type == "cpu"
    assert torch.isfinite(made.core(torch.zeros(1, 1, 16, 24))).all()


def test_images_of_the_fit_s_own_resolution_need_no_further_word():
    # oracle: the images resampled by hand
    made = simulate(train=60, validation=10, test=5, repeats=2)
    scale = 2 * CONFIG.input.pixels_per_degree
    train = made.scan.trials("train")
    doubled = train.images.repeat(2, axis=-1).repeat(2, axis=-2)
    model = mousev1.fit_readout(
        doubled, train.responses, core=made.core, pixels_per_degree=scale, progress=False
    )
    expected = model.predict(doubled, pixels_per_degree=scale)
    np.testing.assert_array_equal(model.predict(doubled), expected)
    at_the_core_s = model.prepare(doubled).numpy()
    np.testing.assert_array_equal(model.predict(at_the_core_s), expected)


def test_pictures_of_another_size_are_brought_into_the_frame(made, model):
    # oracle: cut and padded by hand
    picture = np.arange(20 * 20, dtype=np.float32).reshape(1, 20, 20) % 256
    with pytest.raises(ValueError, match=r"model\.to_frame\(images, pixels_per_degree=\.\.\.\)"):
        model.predict(picture)
    framed = model.to_frame(picture, CONFIG.input.pixels_per_degree).numpy()
    by_hand = np.full((1, 1, 16, 24), 127.5, dtype=np.float32)
    by_hand[0, 0, :, 2:22] = picture[0, 2:18]
    np.testing.assert_array_equal(framed, by_hand)
    assert model.predict(framed).shape == (1, model.n_units)


def test_a_core_is_the_same_after_it_was_shared(tmp_path: Path):
    core = Core.random(CONFIG, seed=0)
    before = core.content_hash()
    made = simulate(train=40, validation=10, test=5, repeats=2)
    fit(made, core=core).to("meta")
    assert core.content_hash() == before
