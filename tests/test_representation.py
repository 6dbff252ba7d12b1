"""Any module in place of a core. Oracles: a core inside the adapter, and numbers worked out by hand."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import mousev1
from mousev1.core.inference import fuse
from mousev1.core.network import InputContract
from mousev1.core.representation import CPU_IMAGES_AT_A_TIME, Representation
from mousev1.data.images import prepare_images
from small import simulate

FRAME = InputContract(height=12, width=16)


class Same(nn.Module):
    """Gives back what it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Flat(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


class BatchMean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(dim=0)


def pictures(n: int, channels: int = 1, height: int = 12, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (n, channels, height, width), generator=generator, dtype=torch.uint8)


def convolution(channels: int = 1) -> nn.Conv2d:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Conv2d(channels, 6, 3, stride=2)


@pytest.fixture(scope="module")
def made():
    return simulate(units=4, train=80, validation=20, test=10, repeats=2)


@pytest.mark.parametrize("method", ["convex", "sgd"])
def test_a_core_in_the_adapter_is_fitted_and_scored_like_the_core_itself(made, method):
    train, test = made.scan.trials("train"), made.scan.trials("test")
    settings = mousev1.SGDSettings(max_epochs=2) if method == "sgd" else None
    rates, scores = [], []
    for core in (made.core, Representation(made.core, name="wrapped", input=made.core.config.input)):
        model = mousev1.fit_readout(
            train.images,
            train.responses,
            made.scan.positions,
            core=core,
            method=method,
            settings=settings,
            progress=False,
        )
        rates.append(model.predict(test.images))
        scores.append(model.score(test.images, test.responses, test.image_ids))
    # The adapter computes the core layer by layer, fuse folds it: they differ by rounding.
    assert np.allclose(rates[0], rates[1], rtol=1e-2, atol=1e-2 * rates[0].std())
    assert scores[1].fraction_oracle == pytest.approx(scores[0].fraction_oracle, rel=1e-2)


def test_gray_becomes_the_channels_and_units_that_the_module_was_trained_on():
    representation = Representation(
        Same(),
        name="same",
        input=InputContract(std=255.0, height=12, width=16),
        channels=3,
        channel_mean=(0.485, 0.456, 0.406),
        channel_std=(0.229, 0.224, 0.225),
    )
    images = prepare_images(
        np.full((1, 12, 16), 51, np.uint8),
        representation.config.input,
        channels=representation.config.input_channels,
    )
    # torchvision: ToTensor divides by 255, Normalize subtracts and divides per channel; 51 / 255 = 0.2
    by_hand = torch.tensor([(0.2 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0.2 - 0.406) / 0.225])
    assert torch.allclose(representation(images), by_hand[None, :, None, None].expand(1, 3, 12, 16))


def test_colours_stay_colours():
    colour = np.zeros((1, 3, 12, 16), np.uint8)
    colour[:, 1] = 200
    representation = Representation(Same(), name="same", input=FRAME, channels=3)
    images = prepare_images(colour, FRAME, channels=representation.config.input_channels)
    assert representation(images).mean(dim=(0, 2, 3)).tolist() == [0.0, 200.0, 0.0]


def test_upsampling_keeps_ramps_and_the_range():
    representation = Representation(Same(), name="same", input=FRAME, upsampling=2)
    assert representation.config.feature_shape(12, 16) == (1, 24, 32)
    ramp = (10.0 * torch.arange(16.0)).expand(1, 1, 12, 16)
    # Bicubic interpolation is exact on a ramp, away from the border; new pixel i lies at (i + 1/2) / 2 - 1/2.
    by_hand = 10.0 * ((torch.arange(32.0) + 0.5) / 2 - 0.5)
    assert torch.allclose(representation(ramp)[0, 0, 5, 4:-4], by_hand[4:-4], atol=1e-3)
    edge = torch.zeros(1, 1, 12, 16, dtype=torch.uint8)
    edge[..., 8:] = 255
    found = representation(edge)
    assert (float(found.min()), float(found.max())) == (0.0, 255.0)


@pytest.mark.parametrize("n", [1, CPU_IMAGES_AT_A_TIME, CPU_IMAGES_AT_A_TIME + 3])
def test_features_do_not_depend_on_the_batch(n):
    module = nn.Sequential(convolution(), nn.BatchNorm2d(6))
    representation = Representation(module, name="r", input=FRAME)
    images = pictures(n)
    one_by_one = torch.cat([module.eval()(image[None].float()) for image in images])
    assert torch.allclose(representation(images), one_by_one, atol=1e-4)
    assert fuse(representation) is representation


def test_the_module_is_copied_and_stays_as_it_was():
    module = nn.Sequential(convolution(), nn.BatchNorm2d(6), nn.Dropout(0.5))
    representation = Representation(module, name="r", input=FRAME)
    before, identity = representation(pictures(5)), representation.content_hash()
    with torch.no_grad():
        module[0].weight.mul_(2.0)
    representation.train()
    assert not representation.training
    assert not any(parameter.requires_grad for parameter in representation.parameters())
    assert torch.equal(representation(pictures(5)), before)
    assert representation.content_hash() == identity
    assert module.training  # nor does the adapter touch what it was given
    assert module[0].weight.requires_grad


def test_gradients_reach_the_images():
    images = pictures(10).float().requires_grad_()
    Representation(convolution(), name="r", input=FRAME, upsampling=2)(images).sum().backward()
    assert all(bool(gradient.abs().sum() > 0) for gradient in images.grad)


def test_identity_is_weights_layers_and_normalisation():
    def identity(module: nn.Module, **options: object) -> str:
        return Representation(module, name="r", input=FRAME, **options).content_hash()

    base, other = convolution(), convolution()
    with torch.no_grad():
        other.weight[0, 0, 0, 0] += 1e-3
    strided = convolution()
    strided.stride = (1, 1)
    found = [
        identity(base),
        identity(other),
        identity(strided),
        identity(base, channel_mean=[1.0]),
        identity(base, upsampling=2),
    ]
    assert len(set(found)) == 5
    assert identity(convolution()) == found[0]


def test_copies_and_pickles_are_whole():
    representation = Representation(convolution(), name="r", input=FRAME, upsampling=2)
    for twin in (copy.deepcopy(representation), pickle.loads(pickle.dumps(representation))):
        assert twin.content_hash() == representation.content_hash()
        assert torch.equal(twin(pictures(3)), representation(pictures(3)))
        assert twin.config.feature_shape(20, 30) == representation.config.feature_shape(20, 30)
        with torch.no_grad():
            twin.module.weight.zero_()
        assert representation.module.weight.abs().sum() > 0


@pytest.fixture(scope="module")
def on_stripes(made) -> mousev1.ResponseModel:
    train = made.scan.trials("train")
    return mousev1.fit_readout(train.images, train.responses, core=stripes(), progress=False)


def stripes(upsampling: int = 1) -> Representation:
    contract = InputContract(height=16, width=24)
    return Representation(convolution(), name="stripes", input=contract, upsampling=upsampling)


def test_a_model_on_a_representation_comes_back_with_the_representation_built_again(
    made, on_stripes, tmp_path
):
    folder = on_stripes.save(tmp_path / "model")
    assert "core.safetensors" not in {path.name for path in folder.iterdir()}
    back = mousev1.load_model(folder, core=stripes())
    images = made.scan.trials("test").images
    for found, expected in zip(
        back.predict(images, return_std=True), on_stripes.predict(images, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert back.record == on_stripes.record
    assert (
        mousev1.load_model(back.save(tmp_path / "again"), core=back.core).core.content_hash()
        == stripes().content_hash()
    )


def test_a_model_on_a_representation_is_loaded_with_the_right_one_only(made, on_stripes, tmp_path):
    folder = on_stripes.save(tmp_path / "model")
    with pytest.raises(
        ValueError, match=r"representation 'stripes'.*load_model\(folder, core=representation\)"
    ):
        mousev1.load_model(folder)
    for other in (stripes(upsampling=2), made.core):
        with pytest.raises(ValueError, match="a readout means nothing on another core"):
            mousev1.load_model(folder, core=other)
    with pytest.raises(ValueError, match="fitted on the representation 'stripes'"):
        mousev1.load_core(folder)


def test_the_code_of_a_representation_is_not_put_into_a_folder(on_stripes, tmp_path):
    with pytest.raises(ValueError, match=r"include_core: expected a mousev1 Core, got the representation"):
        on_stripes.save(tmp_path / "model", include_core=True)
    assert not (tmp_path / "model").exists()


def test_batch_norm_that_follows_the_fit_needs_a_core(made):
    train = made.scan.trials("train")
    core = Representation(convolution(), name="stripes", input=InputContract(height=16, width=24))
    with pytest.raises(TypeError, match="batchnorm='batch': expected a mousev1 Core"):
        mousev1.fit_readout(
            train.images, train.responses, core=core, method="sgd",
            settings=mousev1.SGDSettings(batchnorm="batch"), progress=False,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Flat(), {}, r"module: expected feature maps \(1, C, H, W\) for one image, got \(1, 192\)"),
        (BatchMean(), {}, "depend on the other images of the batch"),
        (convolution(3), {}, r"module of 'r' failed on \(1, 1, 12, 16\) \(N, C, H, W\)"),
        (nn.Conv2d(1, 2, 13), {}, "give larger images"),
        (Same(), {"channels": 3, "channel_mean": [0.5]}, "channel_mean: expected 3 numbers"),
        (Same(), {"channel_std": [0.0]}, "channel_std: expected positive numbers"),
        (Same(), {"upsampling": 0}, "upsampling: expected a whole number from 1"),
        (Same(), {"upsampling": 1.5}, "upsampling: expected a whole number from 1"),
    ],
)
def test_what_cannot_stand_for_a_core_is_refused(module, options, message):
    with pytest.raises(ValueError, match=message):
        Representation(module, name="r", input=FRAME, **options)


def test_a_function_is_no_module():
    with pytest.raises(TypeError, match=r"module: expected a torch\.nn\.Module, got function"):
        Representation(lambda x: x, name="r")


def test_images_of_another_kind_are_refused():
    representation = Representation(nn.Conv2d(1, 2, 5), name="r", input=FRAME)
    with pytest.raises(ValueError, match=r"images: expected \(N, 1, H, W\), got \(2, 3, 12, 16\)"):
        representation(pictures(2, 3))
    with pytest.raises(ValueError, match="give larger images"):
        representation(pictures(2, 1, 4, 16))
