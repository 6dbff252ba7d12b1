"""A fitted model: what it predicts does not depend on how it is asked, saved or loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mousev1
from mousev1.core.network import Core
from mousev1.model.response_model import FitRecord, ResponseModel
from mousev1.readout.gaussian import FeatureWeights, FreePositions, GaussianReadout, rate_from_drive
from mousev1.readout.interpolation import sample_at
from mousev1.readout.posterior import WeightPosterior
from small import CONFIG, simulate


@pytest.fixture(scope="module")
def model() -> ResponseModel:
    torch.manual_seed(0)
    readout = GaussianReadout(FreePositions(4), FeatureWeights(4, 6)).eval()
    return ResponseModel(
        Core.random(CONFIG, seed=0),
        readout,
        unit_ids=[3, 5, 8, 2],
        response_scale=np.array([1.0, 2.0, 0.5, 10.0]),
        record=FitRecord("by hand"),
    )


IMAGES = np.random.default_rng(1).integers(0, 256, size=(37, 16, 24), dtype=np.uint8)


@pytest.mark.parametrize("batch_size", [1, 5, 37, 64])
def test_predictions_do_not_depend_on_the_batch_size(model, batch_size):
    expected = model.predict(IMAGES, batch_size=16)
    np.testing.assert_allclose(model.predict(IMAGES, batch_size=batch_size), expected, rtol=1e-6)


def test_predictions_are_the_readout_times_the_response_scale(model):
    images = torch.from_numpy(IMAGES)[:, None].float()
    with torch.no_grad():
        expected = model.readout(model.core(images)) * torch.tensor([1.0, 2.0, 0.5, 10.0])
    rates = model.predict(IMAGES)
    assert rates.dtype == np.float32
    assert rates.shape == (37, 4)
    np.testing.assert_allclose(rates, expected.numpy(), rtol=1e-6, atol=1e-5)


def test_a_model_has_gradients_with_respect_to_the_image(model):
    images = torch.full((1, 1, 16, 24), 100.0, requires_grad=True)
    model(images)[0, 2].backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("read", ["weigh_at", "sample_at"])
def test_the_gradient_of_an_image_is_the_same_alone_and_in_a_batch(model, read):
    # torch 2.13's batch norm misreads the strides of a single image's gradient
    def gradient(images: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(images)[:, None].float().requires_grad_()
        features = model.core(x)
        drive = model.readout.drive(features)
        if read == "sample_at":
            drive = sample_at(features, model.readout.mu()).sum(dim=2).T
        (found,) = torch.autograd.grad(drive[:, 2].sum(), x)
        return found

    both = gradient(IMAGES[:2])
    for i in range(2):
        torch.testing.assert_close(gradient(IMAGES[i : i + 1]), both[i : i + 1])


def test_saving_and_loading_predicts_the_same_bits(model, tmp_path):
    model.save(tmp_path / "m")
    again = mousev1.load_model(tmp_path / "m")
    assert np.array_equal(again.predict(IMAGES), model.predict(IMAGES))
    assert again.unit_ids.tolist() == [3, 5, 8, 2]
    assert again.record == model.record


def test_a_fitted_model_keeps_its_posterior_unless_told_otherwise(tmp_path):
    simulated = simulate(train=80, validation=10, test=5)
    model = mousev1.fit_scan(simulated.scan, core=simulated.core, progress=False)
    images = simulated.scan.images[-5:]
    model.save(tmp_path / "whole")
    again = mousev1.load_model(tmp_path / "whole")
    for a, b in zip(
        model.predict(images, return_std=True), again.predict(images, return_std=True), strict=True
    ):
        assert np.array_equal(a, b)
    model.save(tmp_path / "lean", include_posterior=False)
    lean = mousev1.load_model(tmp_path / "lean")
    assert lean.posterior is None
    assert np.array_equal(lean.predict(images), model.predict(images))


def test_scores_of_the_true_model_approach_the_oracle_from_above():
    simulated = simulate(units=6)
    truth = ResponseModel(
        simulated.core,
        simulated.readout,
        unit_ids=simulated.scan.unit_ids,
        response_scale=simulated.scale,
        record=FitRecord("truth"),
    )
    test = simulated.scan.trials("test")
    table = truth.score(test.images, test.responses, test.image_ids)
    assert len(table) == 6
    # the truth knows the mean that four repeats only estimate
    assert (table["single_trial_correlation"] > table["oracle_correlation"] - 0.02).all()
    assert (np.abs(table["feve"] - 1) < 0.2)[table["fev"] > 0.3].all()
    by_pixels = truth.score(test.images, test.responses)
    np.testing.assert_allclose(by_pixels["oracle_correlation"], table["oracle_correlation"])


@pytest.mark.parametrize(
    ("responses", "image_ids", "says"),
    [
        (np.ones((36, 4)), None, r"responses: expected \(37, 4\)"),
        (np.ones((37, 5)), None, r"responses: expected \(37, 4\)"),
        (np.ones((37, 4)), np.arange(5), r"image_ids: expected \(37,\)"),
    ],
)
def test_scoring_refuses_what_does_not_match(model, responses, image_ids, says):
    with pytest.raises(ValueError, match=says):
        model.score(IMAGES, responses, image_ids)


def test_a_readout_of_other_sizes_is_refused(model):
    readout = GaussianReadout(FreePositions(2), FeatureWeights(2, 9))
    with pytest.raises(ValueError, match="expected 6 channels as the core has, got 9"):
        ResponseModel(model.core, readout, unit_ids=[1, 2], response_scale=np.ones(2), record=FitRecord("x"))
    with pytest.raises(ValueError, match=r"response_scale: expected \(4,\)"):
        ResponseModel(
            model.core, model.readout, unit_ids=[1, 2, 3, 4], response_scale=np.ones(2), record=FitRecord("x")
        )


def test_a_model_without_posterior_says_so(model):
    with pytest.raises(ValueError, match=r"return_std: .*'by hand', has no posterior; .*method='convex'"):
        model.predict(IMAGES, return_std=True)


def test_the_standard_deviation_is_what_draws_from_the_posterior_show(model):
    generator = torch.Generator().manual_seed(5)
    posterior = WeightPosterior(
        torch.randn(7, 7, generator=generator) * 0.02, torch.rand(4, 7, generator=generator)
    )
    known = ResponseModel(
        model.core,
        model.readout,
        unit_ids=[3, 5, 8, 2],
        response_scale=model.response_scale,
        record=FitRecord("by hand"),
        posterior=posterior,
    )
    rates, std = known.predict(IMAGES[:6], return_std=True)
    assert np.array_equal(rates, model.predict(IMAGES[:6]))

    features = model.core(torch.from_numpy(IMAGES[:6])[:, None].float())
    sampled = sample_at(features, model.readout.mu())
    drawn = []
    for unit in range(4):
        root = posterior.basis * posterior.variances[unit].sqrt()
        theta = torch.randn(20_000, 7, generator=generator) @ root.T
        offset = theta[:, :-1] @ sampled[unit].detach().T + theta[:, -1:]
        drawn.append(rate_from_drive(model.readout.drive(features)[:, unit].detach() + offset).std(dim=0))
    expected = torch.stack(drawn, dim=1).numpy() * model.response_scale.numpy()
    np.testing.assert_allclose(std, expected, rtol=0.1)


def test_a_batch_size_below_one_is_refused(model):
    with pytest.raises(ValueError, match="batch_size: expected at least 1"):
        model.predict(IMAGES, batch_size=0)
